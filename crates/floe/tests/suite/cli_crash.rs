//! Pull, tag, rmi and prune are killed before each system call that changes a file. Whatever was half
//! done: the store opens, holds whole images only, the next command clears the rest away, and the
//! command works when it is given again. Of the places of all but tag every second is tried: their order
//! is not the same in each run.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::{Machine, machine};
use store::{Check, Flaw, Store};
use testkit::images::{self, Entry};
use testkit::kill::{End, Stops, kill_at};

impl Machine {
    /// An image of the registry by its digest.
    fn digest_name(&self, image: &str) -> String {
        let place = format!("docker://{image}");
        let digest = self.floe(&["inspect", "--no-tags", "--format", "{{.Digest}}", &place]);
        let (repository, _) = image.rsplit_once(':').expect("a tag");
        format!("{repository}@{}", digest.ok())
    }
}

/// An image of two layers, with all that unpacking has to do.
fn push(floe: &Machine, name: &str) -> String {
    let name = format!("{}/crash/{name}:1", floe.registry.host());
    let lower = images::layer(&[
        Entry::Dir("etc", 0o755),
        Entry::Dir("var", 0o1777),
        Entry::File("etc/one", 0o644, &[b'1'; 20_000]),
        Entry::File("etc/name", 0o644, name.as_bytes()),
        Entry::File("etc/gone", 0o600, b"gone"),
        Entry::Hardlink("etc/two", "etc/one"),
    ]);
    let upper = images::layer(&[
        Entry::Symlink("link", "etc/one"),
        Entry::File("etc/.wh.gone", 0o600, b""),
        Entry::File("etc/three", 0o4755, b"three"),
    ]);
    let layers = [lower.expect("a layer"), upper.expect("a layer")];
    floe.push_layers(&name, &layers, serde_json::json!({}));
    name
}

/// The names in a store in which a command was killed: every image is whole, what is half made is not
/// called damage, and it is gone when the next command has ended.
#[track_caller]
fn names(root: &Path, place: &str) -> Vec<String> {
    let failed = |error| -> ! { panic!("{place}: {error}") };
    let open = || Store::open(root).unwrap_or_else(|error| failed(error));
    let check = |store: &Store| {
        let report = store.check(Check::default());
        report.unwrap_or_else(|error| failed(error)).findings
    };
    let store = open();
    for finding in check(&store) {
        let mended = matches!(finding.flaw, Flaw::HalfRemoved | Flaw::HalfMade);
        assert!(mended, "{place}: {}: {}", finding.subject, finding.flaw);
    }
    // Whatever opens the store next clears it away, before it ends.
    drop(store);
    let store = open();
    let left = check(&store);
    assert!(left.is_empty(), "{place}: {left:?}");
    let images = store.images().unwrap_or_else(|error| failed(error));
    images.into_iter().flat_map(|image| image.names).collect()
}

/// Kills `floe` with these arguments at every `stride`-th stop from `first` on, until it gets through.
/// Each time it finds the store as in `model`, or none; `after` is told the names in it afterwards, and whether the
/// command got through.
fn killed_everywhere(
    floe: &Machine,
    (first, stride): (usize, usize),
    arguments: &[&str],
    model: Option<&str>,
    after: impl Fn(&str, &[String], bool),
) {
    let mut kills = 0;
    for stop in (first..).step_by(stride) {
        let root = floe.node.path(&format!("root-{stop}"));
        let path = root.display().to_string();
        if let Some(model) = model {
            let copied = Command::new("cp").args(["-a", model, &path]).status();
            assert!(copied.expect("run cp").success());
        }
        let mut command = floe.command(&["--root", &path]);
        command.args(arguments).stdout(Stdio::null());
        let end = kill_at(&mut command, Stops::Writes, stop).expect("trace floe");
        let place = format!("{arguments:?} killed at stop {stop}");
        // It may have been killed before it made the store.
        let left = match root.exists() {
            true => names(&root, &place),
            false => Vec::new(),
        };
        after(&path, &left, end != End::Killed);
        names(&root, &format!("{place}, and done again"));
        std::fs::remove_dir_all(&root).expect("remove the store");
        if end != End::Killed {
            break;
        }
        kills += 1;
    }
    assert!(kills > 10, "only {kills} kills: it was hardly traced");
}

fn pull(floe: &Machine, root: &str, image: &str) {
    floe.floe(&["--root", root, "pull", "-q", image]).ok();
}

/// A store with these images.
fn model(floe: &Machine, images: &[&str]) -> String {
    let root = floe.node.path("model").display().to_string();
    images.iter().for_each(|image| pull(floe, &root, image));
    root
}

/// A pull into a new store, killed at every fourth place.
fn pull_killed(first: usize, form: &str) {
    machine(|floe| {
        floe.set_layer_form(form);
        let image = push(floe, "x");
        let arguments = ["pull", "-q", image.as_str()];
        let after = |root: &str, names: &[String], through: bool| {
            assert!(names == [image.as_str()] || names.is_empty() && !through);
            pull(floe, root, &image);
            let listed = floe.floe(&["--root", root, "images", "-q"]).ok();
            assert_eq!(listed.lines().count(), 1, "{listed}");
        };
        killed_everywhere(floe, (first, 4), &arguments, None, after);
    });
}

#[test]
fn a_pull_killed_at_writes_leaves_no_half_image() {
    pull_killed(0, "unpacked");
}

#[test]
fn a_pull_killed_at_other_writes_leaves_no_half_image() {
    pull_killed(2, "unpacked");
}

#[test]
fn a_pull_of_layers_with_an_index_killed_at_writes_leaves_no_half_image() {
    pull_killed(1, "erofs");
}

#[test]
fn a_conversion_that_is_killed_at_a_write_leaves_each_layer_whole() {
    machine(|floe| {
        floe.set_layer_form("erofs");
        let image = push(floe, "x");
        let model = model(floe, &[&image]);
        let arguments = ["system", "convert", "--form", "unpacked"];
        let after = |root: &str, names: &[String], _: bool| {
            assert_eq!(names, [image.as_str()]);
            let again = ["--root", root, "system", "convert", "--form", "unpacked"];
            floe.floe(&again).ok();
            floe.floe(&["--root", root, "system", "check"]).ok();
        };
        killed_everywhere(floe, (0, 2), &arguments, Some(&model), after);
    });
}

#[test]
fn a_tag_killed_at_any_write_is_there_or_not() {
    machine(|floe| {
        let image = push(floe, "x");
        let other = "example.com/other:1";
        let arguments = ["tag", image.as_str(), other];
        let model = model(floe, &[&image]);
        let after = |root: &str, names: &[String], through: bool| {
            assert!(names.contains(&image), "{names:?}");
            assert!(!through || names.iter().any(|name| name == other));
            floe.floe(&["--root", root, "tag", &image, other]).ok();
            let listed = floe.floe(&["--root", root, "images", other]).ok();
            assert!(listed.contains("example.com/other"), "{listed}");
        };
        killed_everywhere(floe, (0, 1), &arguments, Some(&model), after);
    });
}

#[test]
fn an_image_whose_removal_is_killed_at_a_write_is_whole_or_gone() {
    machine(|floe| {
        let image = push(floe, "x");
        let arguments = ["rmi", image.as_str()];
        let model = model(floe, &[&image]);
        let after = |root: &str, names: &[String], through: bool| {
            assert!(names.is_empty() || names == [image.as_str()] && !through);
            if !names.is_empty() {
                floe.floe(&["--root", root, "rmi", &image]).ok();
            }
            pull(floe, root, &image);
        };
        killed_everywhere(floe, (0, 2), &arguments, Some(&model), after);
    });
}

#[test]
fn a_collection_killed_at_a_write_takes_nothing_that_is_needed() {
    machine(|floe| {
        let (kept, image) = (push(floe, "kept"), push(floe, "x"));
        let model = model(floe, &[&kept, &floe.digest_name(&image)]);
        let arguments = ["image", "prune", "-f"];
        let after = |root: &str, names: &[String], through: bool| {
            assert_eq!(names, [kept.as_str()]);
            let listed = || floe.floe(&["--root", root, "images", "-q"]).ok();
            assert!(!through || listed().lines().count() == 1);
            floe.floe(&["--root", root, "image", "prune", "-f"]).ok();
            assert_eq!(listed().lines().count(), 1);
        };
        killed_everywhere(floe, (0, 2), &arguments, Some(&model), after);
    });
}

#[test]
fn what_a_killed_copy_leaves_is_gone_after_the_next_one() {
    machine(|floe| {
        let image = push(floe, "x");
        let from = format!("docker://{image}");
        let dir = floe.node.path("copies");
        let left = || -> Vec<String> {
            let mut left = Vec::new();
            let mut dirs = vec![dir.clone()];
            while let Some(dir) = dirs.pop() {
                for entry in std::fs::read_dir(dir).expect("read").flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    if name.starts_with('.') {
                        left.push(name);
                    } else if entry.path().is_dir() {
                        dirs.push(entry.path());
                    }
                }
            }
            left
        };
        let mut met = 0;
        for transport in ["oci", "oci-archive", "docker-archive"] {
            for stop in (0..).step_by(3) {
                std::fs::create_dir_all(&dir).expect("make");
                let to = format!("{transport}:{}", dir.join("copy").display());
                let copy = || {
                    let mut command = floe.command(&["copy", "-q", &from, &to]);
                    command.env("TMPDIR", &dir);
                    command
                };
                let end = kill_at(copy().stdout(Stdio::null()), Stops::Writes, stop);
                met += left().len();
                let end = end.expect("trace floe");
                if end == End::Killed {
                    // The file may be there already, whole.
                    let _ = std::fs::remove_file(dir.join("copy"));
                    let output = copy().output().expect("run floe");
                    assert!(output.status.success(), "{output:?}");
                }
                assert_eq!(left(), [""; 0], "{transport} at stop {stop}");
                std::fs::remove_dir_all(&dir).expect("remove");
                if end != End::Killed {
                    break;
                }
            }
        }
        assert!(met > 5, "only {met} were left");
    });
}
