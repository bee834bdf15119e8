//! `floe mount` and `floe image mount`: root file systems for a person to look into.

use std::path::{Path, PathBuf};

use crate::cli::{Machine, machine, until};

impl Machine {
    fn mounted(&self, words: &[&str]) -> PathBuf {
        PathBuf::from(self.floe(words).ok())
    }
}

/// Mounts of the test's thread: the program mounts for whoever called it.
fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the table of mounts");
    table.contains(&format!(" {} ", path.display()))
}

#[test]
fn an_image_is_mounted_for_reading_and_listed_until_it_is_unmounted() {
    machine(|floe| {
        let id = floe.floe(&["pull", "-q", &floe.image]).ok();
        let image = floe.image.clone();
        let place = floe.mounted(&["image", "mount", &image]);
        assert!(place.join("bin/busybox").exists(), "{}", place.display());
        std::fs::write(place.join("new"), "").expect_err("it is for reading");
        assert_eq!(floe.mounted(&["image", "mount", &id[..12]]), place);
        let shown = place.display();
        assert_eq!(
            floe.floe(&["image", "mount"]).ok(),
            format!("{image} {shown}")
        );
        let json = floe.floe(&["image", "mount", "--format", "json"]).ok();
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json[0]["mountpoint"], shown.to_string());
        assert_eq!(json[0]["id"], id);
        floe.floe(&["image", "mount", "nothing"])
            .failed(125, &["image not known"]);
        let busy = std::env::set_current_dir(&place);
        busy.expect("a directory to stand in");
        floe.floe(&["image", "unmount", &image])
            .failed(125, &["busy"]);
        std::env::set_current_dir("/").expect("away");
        assert_eq!(floe.floe(&["image", "umount", &image]).ok(), id);
        assert!(!is_mounted(&place));
        assert_eq!(floe.floe(&["image", "mount"]).ok(), "");
        floe.floe(&["image", "mount", "--all"]).ok();
        assert_eq!(floe.floe(&["image", "unmount", "--all"]).ok(), id);
    });
}

#[test]
fn a_container_at_rest_is_mounted_for_writing_and_one_that_runs_for_reading() {
    machine(|floe| {
        let id = floe.create(&["--name", "box"], &["cat", "/left"]);
        let place = floe.mounted(&["mount", "box"]);
        std::fs::write(place.join("left"), "by a person\n").expect("it is for writing");
        assert_eq!(
            floe.floe(&["mount"]).ok(),
            format!("{} {}", &id[..12], place.display())
        );
        assert_eq!(floe.floe(&["umount", "box"]).ok(), "box");
        assert!(!is_mounted(&place));
        assert_eq!(floe.floe(&["start", "-a", "box"]).ok(), "by a person");

        floe.background("busy", "echo inside > /file; sleep 1000");
        let seen = floe.node.path("seen");
        until("it has written", || {
            let from = "busy:/file";
            floe.floe(&["cp", from, seen.to_str().expect("text")]).code == 0
        });
        let place = floe.mounted(&["container", "mount", "busy"]);
        let text = std::fs::read_to_string(place.join("file"));
        assert_eq!(text.expect("its file"), "inside\n");
        std::fs::write(place.join("new"), "").expect_err("it is for reading");
        // A container takes its mount along.
        floe.floe(&["rm", "-f", "-t", "0", "busy"]).ok();
        assert!(!is_mounted(&place));
        assert_eq!(floe.floe(&["unmount", "--all"]).ok(), "");
        floe.floe(&["unmount"]).failed(125, &["at least one name"]);
        floe.floe(&["mount", "nothing"])
            .failed(125, &["no such container"]);
    });
}

#[test]
fn an_image_is_untagged_and_its_layers_are_a_tree() {
    machine(|floe| {
        let id = floe.floe(&["pull", "-q", &floe.image]).ok();
        let image = floe.image.clone();
        floe.floe(&["tag", &image, "localhost/second:1"]).ok();
        let first = floe.floe(&["image", "tree", "localhost/second:1"]).ok();
        assert!(
            first.contains(&format!("Image ID: {}", &id[..12])),
            "{first}"
        );
        assert!(first.contains("└── ID: "), "{first}");
        assert!(first.contains("Top Layer of: ["), "{first}");
        floe.floe(&["untag", &image, "localhost/other:1"])
            .failed(125, &["tag not known"]);
        floe.floe(&["untag", &image, "localhost/second:1"]).ok();
        let names = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        assert_eq!(floe.floe(&names).ok(), image);
        floe.floe(&["untag", &id]).ok();
        assert_eq!(floe.floe(&names).ok(), "<none>:<none>");
        assert_eq!(
            floe.floe(&["image", "inspect", "-f", "{{.Id}}", &id]).ok(),
            id
        );

        floe.run(&["--name", "box"], &["touch", "/x"]).ok();
        floe.floe(&["commit", "box", "localhost/child"]).ok();
        let tree = floe.floe(&["image", "tree", "--whatrequires", &id]).ok();
        assert!(
            tree.contains("Top Layer of: [localhost/child:latest]"),
            "{tree}"
        );
    });
}
