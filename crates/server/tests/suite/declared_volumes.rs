//! Volumes that an image declares, and what `image_volumes` makes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use crate::common::{World, image_spec, secured, world, world_with};
use crate::user_namespaces::{FIRST, mapped, of};
use cri::*;
use testkit::images::{Entry, layer};

/// An image that declares volumes: what it has, what is missing, and where a link leads; its id.
async fn image(world: &World) -> String {
    let program = std::fs::read("/bin/busybox").unwrap();
    let tar = layer(&[
        Entry::Dir("bin", 0o755),
        Entry::File("bin/busybox", 0o755, &program),
        Entry::Dir("has", 0o755),
        Entry::File("has/file", 0o644, b"of the image\n"),
        Entry::Symlink("link", "/elsewhere/below"),
    ])
    .unwrap();
    let volumes =
        serde_json::json!({ "Volumes": { "/data/deep": {}, "has": {}, "/link": {}, "/": {} } });
    let name = world.push("test/volumes:1", &[tar], volumes).await;
    world.pull(&name).await.unwrap()
}

fn script(world: &World, image: &str, text: &str) -> ContainerConfig {
    let text = text.replace('!', "/bin/busybox");
    ContainerConfig {
        image: Some(image_spec(image)),
        ..world.container("main", &["/bin/busybox", "sh", "-c", &text])
    }
}

/// The directories of containers' volumes in the store.
fn kept(world: &World) -> Vec<PathBuf> {
    let containers = std::fs::read_dir(world.node.path("root/containers")).unwrap();
    let volumes = containers.map(|one| one.unwrap().path().join("volumes"));
    volumes.filter(|dir| dir.exists()).collect()
}

#[test]
fn a_declared_volume_is_a_directory_of_the_containers_user() {
    world(async |world| {
        let image = image(world).await;
        let pod = world.pod("a").await;
        let text = "! stat -c %u:%a /data /data/deep /has /elsewhere/below; ! cat /has/file; ! touch /data/deep/x /link/y && ! echo ok";
        let config = secured(script(world, &image, text), |security| {
            security.run_as_user = Some(Int64Value { value: 1234 });
        });
        let (code, said) = world.ran(&pod, config).await;
        let expected = "1234:755\n1234:755\n0:755\n1234:755\nof the image\nok";
        assert_eq!((code, said.as_str()), (0, expected));
        assert!(kept(world).is_empty() && !Path::new("/elsewhere").exists());
    });
}

#[test]
fn a_volume_may_be_a_directory_of_its_own_that_goes_with_the_container() {
    let config = "[floe.image]\nimage_volumes = 'bind'\n".to_owned();
    world_with(config, async |world: &mut World| {
        let image = image(world).await;
        let asked = world.node.path("asked");
        std::fs::create_dir(&asked).unwrap();
        let text = "! ls /has; ! touch /data/deep/x /link/y /has/z; ! stat -c %u /data/deep/x; ! grep -c ' /data/deep ' /proc/mounts; ! sleep 1000";
        let mut config = script(world, &image, text);
        config.mounts = vec![Mount {
            container_path: "/data/deep/asked".into(),
            host_path: asked.display().to_string(),
            ..Default::default()
        }];
        let pod = world.pod("a").await;
        let id = world.run(&pod, config.clone()).await;
        let mapped_pod = world.pod_of(mapped(world, "b", FIRST)).await;
        config.mounts.clear();
        let mapped = world.run(&mapped_pod, of(FIRST, config)).await;
        for id in [&id, &mapped] {
            let there = |name: &str| {
                kept(world).iter().any(|dir| {
                    dir.starts_with(world.node.path("root/containers").join(id))
                        && dir.join(name).exists()
                })
            };
            // By their names: /data/deep, /link and has.
            world
                .until("the script has written", async || {
                    (there("0/x") && there("1/y") && there("2/z")).then_some(())
                })
                .await;
        }
        let text = crate::common::log::read(&world.status(&mapped).await.unwrap().log_path).text();
        assert_eq!(text.trim_end(), "0\n1");
        assert_eq!(kept(world).len(), 2);
        for id in [&id, &mapped] {
            world.remove(id).await.unwrap();
        }
        assert!(kept(world).is_empty());
    });
}

#[test]
fn a_volume_may_be_ignored() {
    let config = "[floe.image]\nimage_volumes = 'ignore'\n".to_owned();
    world_with(config, async |world: &mut World| {
        let image = image(world).await;
        let pod = world.pod("a").await;
        let text = "! test -e /data || ! echo none; ! cat /has/file";
        let (_, said) = world.ran(&pod, script(world, &image, text)).await;
        assert_eq!(said, "none\nof the image");
        assert!(kept(world).is_empty());
    });
}
