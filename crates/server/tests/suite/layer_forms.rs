//! Images whose layers lie as archives with an index beside unpacked ones (`layer_form = "erofs"`): what pods read in
//! them, and what they count.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::{World, secured, world_on};
use crate::image_volumes::{volume, with};
use cri::{ImageFsInfoRequest, SupplementalGroupsPolicy};
use testkit::NodeOptions;
use testkit::images::{self, Entry};

/// Runs a test on a node whose layers lie so, but for busybox's; says so where they cannot.
fn with_both_forms(test: impl AsyncFnOnce(&mut World)) {
    let image = "layer_form = \"erofs\"\nunpacked_images = [\"*test/busybox*\"]\n";
    let options = |_: &testkit::Registry| NodeOptions {
        image: image.to_owned(),
        ..NodeOptions::default()
    };
    world_on(options, async |world| {
        let small = images::layer(&[Entry::File("small", 0o644, b"")]).unwrap();
        let name = world
            .push("test/small:1", &[small], serde_json::json!({}))
            .await;
        world.pull(&name).await.unwrap();
        match forms(world) {
            (1, 1) => test(world).await,
            _ => println!("SKIP: layers cannot be mounted as files here"),
        }
    });
}

/// How many layers are unpacked, and how many are archives.
fn forms(world: &World) -> (usize, usize) {
    let layers = std::fs::read_dir(world.node.path("root/layers")).unwrap();
    let names = layers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let (archives, unpacked): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with(".erofs"));
    // The empty layer is always there.
    (unpacked.len() - 1, archives.len())
}

/// Where the engine has layers mounted.
fn mounted(world: &World) -> usize {
    let pid = world.node.engine_pid().unwrap();
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let own = world.node.path("root/mounted").display().to_string();
    table.lines().filter(|line| line.contains(&own)).count()
}

/// An image of busybox's layer, which is unpacked, and one of its own, which is not; its name and id.
async fn both(world: &World) -> (String, String) {
    let own = images::layer(&[
        Entry::File("etc/passwd", 0o644, b"me:x:1234:99::/home:/bin/sh\n"),
        Entry::File("etc/group", 0o644, b"crew:x:4242:me\n"),
        Entry::File("models/a/weights", 0o644, b"of a\n"),
        Entry::Symlink("models/latest", "/models/a"),
        Entry::Symlink("out", "../../../etc/hostname"),
    ]);
    let layers = [images::busybox().unwrap(), own.unwrap()];
    let config = serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
    let name = world.push("test/both:1", &layers, config).await;
    let id = world.pull(&name).await.unwrap();
    assert_eq!(forms(world), (1, 2));
    (name, id)
}

#[test]
fn users_groups_and_volumes_are_read_in_both_forms() {
    with_both_forms(async |world| {
        let image = both(world).await;
        let pod = world.pod("a").await;
        for (name, policy, groups) in [
            ("merge", SupplementalGroupsPolicy::Merge, "99 4242"),
            ("strict", SupplementalGroupsPolicy::Strict, "99"),
        ] {
            let mut config = secured(world.script(name, "id -u; id -G"), |security| {
                security.run_as_username = "me".into();
                security.supplemental_groups_policy = policy.into();
            });
            config.image.as_mut().unwrap().image.clone_from(&image.1);
            let (output, _) = world.output(&pod, config).await;
            assert_eq!(output, format!("1234\n{groups}\n"), "{name}");
        }
        let mounts = vec![
            volume("/all", &image, ""),
            volume("/some", &image, "models/a"),
            volume("/followed", &image, "models/latest/weights"),
        ];
        let id = world.run(&pod, with(world, "volumes", mounts)).await;
        let read = "cat /all/models/a/weights /some/weights /followed; /all/bin/busybox echo runs";
        let said = world.said(&id, &["sh", "-c", read]).await;
        assert_eq!(said, "of a\nof a\nof a\nruns");
        assert_eq!(mounted(world), 1);
        let out = with(world, "out", vec![volume("/bad", &image, "out")]);
        let refused = world.create(&pod, out).await.unwrap_err();
        assert!(
            refused.message().contains("ImageVolumeMountFailed"),
            "{refused:?}"
        );
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(mounted(world), 0);
    });
}

#[test]
fn a_layer_counts_as_what_it_takes_on_disk() {
    with_both_forms(async |world| {
        let names: Vec<String> = (0..300).map(|number| format!("file-{number}")).collect();
        for (image, forms, least, most) in [
            ("test/busybox-of-many:1", (1, 0), 300, 320),
            ("test/many:1", (0, 1), 3, 20),
        ] {
            let mut files: Vec<Entry<'_>> = names
                .iter()
                .map(|name| Entry::File(name, 0o644, b"x"))
                .collect();
            files.push(Entry::File("of", 0o644, image.as_bytes()));
            let layer = images::layer(&files).unwrap();
            let name = world.push(image, &[layer], serde_json::json!({})).await;
            let (before, had) = (used(world).await, self::forms(world));
            world.pull(&name).await.unwrap();
            let (after, has) = (used(world).await, self::forms(world));
            assert_eq!((has.0 - had.0, has.1 - had.1), forms, "{image}");
            let inodes = after.1 - before.1;
            assert!((least..most).contains(&inodes), "{image}: {inodes}");
            assert!(after.0 > before.0, "{image}");
            world.remove_image(&name).await.unwrap();
            assert_eq!(used(world).await, before, "{image}");
        }
    });
}

/// Bytes and inodes of the images.
async fn used(world: &World) -> (u64, u64) {
    let asked = world.images().image_fs_info(ImageFsInfoRequest {}).await;
    let images = asked.unwrap().into_inner().image_filesystems.remove(0);
    let value = |value: Option<cri::UInt64Value>| value.unwrap().value;
    (value(images.used_bytes), value(images.inodes_used))
}
