//! The store's database is lost or damaged while a container runs: it goes on, what it stands on stays,
//! images are listed again, and one warning says what happened.

use std::path::Path;

use crate::cli::{Machine, machine};

fn remove(root: &Path, names: &[&str]) {
    for name in names {
        let _ = std::fs::remove_file(root.join(name));
    }
}

const FORMS: [&str; 7] = [
    "lost",
    "all lost",
    "empty",
    "cut",
    "garbage",
    "without its log",
    "nothing of floe's records",
];

fn damage(form: &str, root: &Path) {
    let main = root.join("meta.sqlite");
    match form {
        "lost" => remove(root, &["meta.sqlite"]),
        "all lost" => remove(root, &["meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm"]),
        "empty" => std::fs::write(main, b"").expect("write"),
        "cut" => {
            remove(root, &["meta.sqlite-wal"]);
            let bytes = std::fs::read(&main).expect("read");
            std::fs::write(main, &bytes[..bytes.len() / 2]).expect("write");
        }
        "garbage" => {
            for name in ["meta.sqlite", "meta.sqlite-wal"] {
                std::fs::write(root.join(name), [b'?'; 50_000]).expect("write");
            }
        }
        "without its log" => remove(root, &["meta.sqlite-wal"]),
        _ => {
            // As an earlier version left it.
            std::fs::remove_dir_all(root.join("records")).expect("remove");
            for container in std::fs::read_dir(root.join("containers"))
                .expect("read")
                .flatten()
            {
                std::fs::remove_file(container.path().join("layers")).expect("remove");
            }
            remove(root, &["meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm"]);
        }
    }
}

#[track_caller]
fn alive(floe: &Machine, form: &str) {
    let said = floe.floe(&["exec", "user", "cat", "/etc/passwd"]);
    assert!(
        said.code == 0 && said.out.contains("root"),
        "{form}: {}",
        said.err
    );
    // Never opened by the container, and not in the page cache by its doing.
    floe.floe(&["exec", "user", "ls", "-l", "/bin/busybox", "/etc/group"])
        .ok();
    assert_eq!(floe.listed(&[]), ["user"], "{form}");
}

#[test]
fn a_container_and_its_layers_survive_every_damage_of_the_database_with_and_without_an_engine() {
    machine(|floe| {
        for form in FORMS {
            for serving in [false, true] {
                let form_said = format!("{form}, serving: {serving}");
                floe.floe(&["pull", "-q", &floe.image]).ok();
                let images = floe.floe(&["images", "--no-trunc"]).ok();
                floe.background("user", "sleep 1000");
                let root = floe.node.path("root");
                if serving {
                    floe.node.serve().expect("serve");
                }
                damage(form, &root);
                let said = floe.floe(&["images", "--no-trunc"]);
                let warnings = said
                    .err
                    .lines()
                    .filter(|line| line.contains("made again"))
                    .count();
                // What nothing is written down of has to be pulled again.
                if form == FORMS[6] {
                    assert!(
                        said.err.contains("must be pulled again"),
                        "{form_said}: {}",
                        said.err
                    );
                    floe.floe(&["pull", "-q", &floe.image]).ok();
                } else {
                    assert_eq!(said.out.trim(), images, "{form_said}: {}", said.err);
                }
                assert!(
                    warnings <= 1 && (serving || warnings == 1),
                    "{form_said}: {}",
                    said.err
                );
                if serving {
                    floe.node.terminate().expect("end the engine");
                }
                // A start collects what nobody needs.
                floe.node.serve().expect("serve");
                alive(floe, &form_said);
                floe.floe(&["image", "prune", "-f"]).ok();
                alive(floe, &form_said);
                floe.node.terminate().expect("end the engine");
                assert_eq!(
                    floe.floe(&["images", "--no-trunc"]).ok(),
                    images,
                    "{form_said}"
                );
                floe.floe(&["rmi", &floe.image]).failed(2, &["in use"]);
                floe.floe(&["rm", "-f", "-t", "0", "user"]).ok();
                assert_eq!(floe.run(&["--rm"], &[]).ok(), "default", "{form_said}");
                floe.floe(&["rmi", &floe.image]).ok();
                floe.floe(&["system", "check", "--repair"]).ok();
                let left = std::fs::read_dir(root.join("layers"))
                    .expect("read")
                    .count();
                assert_eq!(left, 1, "{form_said}: only the empty layer");
            }
        }
    });
}
