//! CRI: images. PullImage, ImageFsInfo and StreamImages, where names, tags and clients are many.

use crate::common::{World, image_spec, layer, world, world_on};
use cri::*;
use serde_json::json;
use testkit::{NodeOptions, Registry};

#[test]
fn a_tag_that_moves_leaves_the_old_image_with_a_digest() {
    world(async |world| {
        let name = world
            .push("test/app:latest", &[layer("old")], json!({}))
            .await;
        let old = world.pull(&name).await.unwrap();
        world
            .push("test/app:latest", &[layer("new")], json!({}))
            .await;
        let new = world.pull(&name).await.unwrap();
        assert_ne!(new, old);
        let old = world
            .image_status(&old)
            .await
            .unwrap()
            .expect("the old image is gone");
        assert_eq!(old.repo_tags.len(), 0);
        assert_eq!(old.repo_digests.len(), 1);
        assert_eq!(
            world
                .image_status(&name)
                .await
                .unwrap()
                .expect("no image")
                .id,
            new
        );
    });
}

#[test]
fn the_space_that_images_take_grows_and_shrinks_with_them() {
    world(async |world| {
        let used = async |world: &World| -> u64 {
            let info = world
                .images()
                .image_fs_info(ImageFsInfoRequest {})
                .await
                .unwrap()
                .into_inner();
            assert!(!info.container_filesystems.is_empty());
            let images = info.image_filesystems.first().expect("no file system");
            assert!(images.timestamp > 0);
            let mountpoint = images.fs_id.clone().unwrap_or_default().mountpoint;
            assert!(std::path::Path::new(&mountpoint).is_dir(), "{mountpoint}");
            images.used_bytes.unwrap_or_default().value
        };
        let before = used(world).await;
        let megabyte: String = (0..1_000_000_u64)
            .map(|n| char::from(b'a' + (n * n % 23) as u8))
            .collect();
        let name = world
            .push("test/big:1", &[layer(&megabyte)], json!({}))
            .await;
        world.pull(&name).await.unwrap();
        let full = used(world).await;
        assert!(full >= before + 1_000_000, "{before} {full}");
        world.remove_image(&name).await.unwrap();
        assert!(used(world).await < full);
    });
}

#[test]
fn a_stream_of_images_has_each_image_of_the_list_once() {
    world(async |world| {
        for number in 0..3 {
            let name = world
                .push(
                    &format!("test/n{number}:1"),
                    &[layer(&number.to_string())],
                    json!({}),
                )
                .await;
            world.pull(&name).await.unwrap();
        }
        let mut stream = world
            .images()
            .stream_images(StreamImagesRequest::default())
            .await
            .unwrap()
            .into_inner();
        let mut streamed = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            assert!(!chunk.images.is_empty());
            streamed.extend(chunk.images);
        }
        let by_id = |mut images: Vec<Image>| {
            images.sort_by(|a, b| a.id.cmp(&b.id));
            images
        };
        assert_eq!(by_id(streamed), by_id(world.image_list().await));
    });
}

#[test]
fn a_registry_on_loopback_can_mirror_another_name() {
    let options = |registry: &Registry| NodeOptions {
        mirrors: vec![("registry.k8s.io".into(), registry.host())],
        ..NodeOptions::default()
    };
    world_on(options, async |world| {
        world.push("e2e/app:1", &[layer("a")], json!({})).await;
        let id = world.pull("registry.k8s.io/e2e/app:1").await.unwrap();
        let image = world
            .image_status("registry.k8s.io/e2e/app:1")
            .await
            .unwrap()
            .expect("no image");
        assert_eq!(
            (image.id, image.repo_tags),
            (id, vec!["registry.k8s.io/e2e/app:1".to_owned()])
        );
    });
}

#[test]
fn many_pulls_of_one_image_at_once_give_one_image() {
    world(async |world| {
        let name = world
            .push("test/app:1", &[layer("a"), layer("b")], json!({}))
            .await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (mut images, image) = (world.images(), Some(image_spec(&name)));
            tasks.spawn(async move {
                images
                    .pull_image(PullImageRequest {
                        image,
                        ..Default::default()
                    })
                    .await
            });
        }
        let mut ids = Vec::new();
        for answer in tasks.join_all().await {
            ids.push(answer.unwrap().into_inner().image_ref);
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(world.image_list().await.len(), 2, "it and the world's own");
    });
}
