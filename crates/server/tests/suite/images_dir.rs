//! `images_dir`: what is laid there is taken in while the engine serves, checked, and pinned.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use testkit::{NodeOptions, Registry, images};

use crate::common::{World, world_on};

/// A world with a directory to lay images in, and one to make them in.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["laid", "made"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn options(&self) -> impl FnOnce(&Registry) -> NodeOptions {
        let config = format!(
            "[floe.image]\nimages_dir = \"{}\"\nsignature_policy = \"{}\"\n",
            self.laid("").display(),
            self.policy().display()
        );
        |_| NodeOptions {
            config,
            ..NodeOptions::default()
        }
    }

    fn policy(&self) -> PathBuf {
        let path = self.dir.path().join("policy.json");
        let rejected = self.laid("rejected.tar");
        let policy = json!({
            "default": [{ "type": "insecureAcceptAnything" }],
            "transports": { "docker-archive": { (rejected.to_str().unwrap()): [{ "type": "reject" }] } },
        });
        std::fs::write(&path, policy.to_string()).unwrap();
        path
    }

    fn laid(&self, name: &str) -> PathBuf {
        self.dir.path().join("laid").join(name)
    }

    fn made(&self, name: &str) -> PathBuf {
        self.dir.path().join("made").join(name)
    }

    /// An image of its own in an archive or layout, and not in the node's store any more; its name.
    async fn make(&self, world: &World, transport: &str, name: &str) -> String {
        let file = [("file", name)];
        let entries = [images::Entry::File(file[0].0, 0o644, file[0].1.as_bytes())];
        let layer = images::layer(&entries).unwrap();
        let config = json!({ "Cmd": ["sh"] });
        let image = world
            .push(&format!("test/{name}:1"), &[layer], config)
            .await;
        world.pull(&image).await.unwrap();
        let (from, to) = (
            format!("floe:{image}"),
            format!("{transport}:{}:{image}", self.made(name).display()),
        );
        let copied = world
            .node
            .floe(&["copy", &from, &to])
            .unwrap()
            .output()
            .unwrap();
        assert!(copied.status.success(), "{copied:?}");
        world.remove_image(&image).await.unwrap();
        image
    }
}

async fn is_taken(world: &World, image: &str) {
    let pinned = async || {
        let found = world.image_status(image).await.unwrap();
        found.is_some_and(|found| found.pinned).then_some(())
    };
    world
        .until(&format!("{image} is there and pinned"), pinned)
        .await;
}

async fn says(world: &World, words: &str) {
    world
        .until(&format!("the log says {words:?}"), async || {
            world.node.log().contains(words).then_some(())
        })
        .await;
}

fn gzipped(from: &Path) -> Vec<u8> {
    let output = std::process::Command::new("gzip")
        .arg("-c")
        .arg(from)
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn archives_and_layouts_are_taken_in_live_and_bad_ones_hold_up_nobody() {
    let place = Place::new();
    world_on(place.options(), async |world| {
        let docker = place.make(world, "docker-archive", "docker").await;
        let zipped = place.make(world, "docker-archive", "zipped").await;
        let archive = place.make(world, "oci-archive", "archive").await;
        let layout = place.make(world, "oci", "layout").await;
        let rejected = place.make(world, "docker-archive", "rejected").await;
        std::fs::write(place.laid("a-bad.tar"), "this is no archive of images").unwrap();
        std::fs::rename(place.made("rejected"), place.laid("rejected.tar")).unwrap();
        // One that somebody is still writing: half of it is no image.
        let bytes = gzipped(&place.made("zipped"));
        let mut slow = std::fs::File::create(place.laid("b-slow.tar.gz")).unwrap();
        slow.write_all(&bytes[..bytes.len() / 2]).unwrap();
        for (name, to) in [
            ("docker", "docker.tar"),
            ("archive", "archive.tar"),
            ("layout", "layout"),
        ] {
            std::fs::rename(place.made(name), place.laid(to)).unwrap();
        }
        for image in [&docker, &archive, &layout] {
            is_taken(world, image).await;
        }
        says(world, "a-bad.tar").await;
        says(world, "rejected.tar").await;
        assert!(world.image_status(&rejected).await.unwrap().is_none());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!world.node.log().contains("b-slow"), "{}", world.node.log());
        slow.write_all(&bytes[bytes.len() / 2..]).unwrap();
        drop(slow);
        is_taken(world, &zipped).await;
        // Named once, however often the directory is looked at.
        assert_eq!(world.node.log().matches("/a-bad.tar error=").count(), 1);
    });
}

#[test]
fn what_was_taken_is_known_after_a_start_and_what_is_gone_is_not_pinned_any_more() {
    let place = Place::new();
    world_on(place.options(), async |world| {
        let kept = place.make(world, "docker-archive", "kept").await;
        let gone = place.make(world, "oci-archive", "gone").await;
        let lost = place.make(world, "oci-archive", "lost").await;
        for name in ["kept", "gone", "lost"] {
            std::fs::rename(place.made(name), place.laid(name)).unwrap();
        }
        for image in [&kept, &gone, &lost] {
            is_taken(world, image).await;
        }
        let taken = |world: &World| world.node.log().matches("are taken").count();
        let times = async |world: &World, count: usize| {
            let what = format!("{count} were taken");
            world
                .until(&what, async || (taken(world) == count).then_some(()))
                .await;
        };
        times(world, 3).await;
        // While nobody looks one goes, and an image of another is removed.
        world.remove_image(&lost).await.unwrap();
        std::fs::remove_file(place.laid("gone")).unwrap();
        world.node.kill().unwrap();
        world.serve_again().await;
        is_taken(world, &lost).await;
        is_taken(world, &kept).await;
        says(world, "it is gone from images_dir").await;
        let there = world.image_status(&gone).await.unwrap().unwrap();
        assert!(!there.pinned);
        // Only the one that was missing was read again.
        times(world, 4).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(taken(world), 4);
        let said = world
            .node
            .floe(&["image", "prune", "-a", "-f"])
            .unwrap()
            .output()
            .unwrap();
        assert!(said.status.success(), "{said:?}");
        assert!(world.image_status(&gone).await.unwrap().is_none());
        assert!(world.image_status(&kept).await.unwrap().is_some());
    });
}

#[test]
fn what_is_more_than_is_looked_at_is_named_and_what_was_taken_stays() {
    let place = Place::new();
    world_on(place.options(), async |world: &mut World| {
        let image = place.make(world, "oci-archive", "z").await;
        std::fs::rename(place.made("z"), place.laid("z")).unwrap();
        is_taken(world, &image).await;
        for number in 0..1001 {
            std::fs::create_dir(place.laid(&format!("d{number:04}"))).unwrap();
        }
        // One place is that of what was taken.
        let told = "count=2 first=\"d0999\"";
        says(world, told).await;
        std::fs::remove_dir(place.laid("d0000")).unwrap();
        says(world, "count=1 first=\"d1000\"").await;
        is_taken(world, &image).await;
    });
}

#[test]
fn without_the_directory_its_images_stay_and_are_not_pinned() {
    let place = Place::new();
    world_on(place.options(), async |world: &mut World| {
        let image = place.make(world, "oci-archive", "a").await;
        std::fs::rename(place.made("a"), place.laid("a")).unwrap();
        is_taken(world, &image).await;
        world.drop_in("90.toml", "[floe.image]\nimages_dir = ''\n");
        let reloaded = world.logged(crate::reload::RELOADED, 1).await;
        assert!(reloaded.contains("images_dir"), "{reloaded}");
        // The directory that is still watched wakes it.
        std::fs::write(place.laid("b"), "").unwrap();
        says(world, "images_dir is not configured any more").await;
        let found = world.image_status(&image).await.unwrap();
        assert!(!found.unwrap().pinned);
    });
}
