//! CRI: images. PullImage, ImageFsInfo and StreamImages, where names, tags and clients are many.

use crate::common::{World, image_spec, layer, listed, run, run_with};
use cri::*;
use serde_json::json;
use testkit::{NodeOptions, Registry};

#[test]
fn a_tag_that_moves_leaves_the_old_image_with_a_digest() {
    run(async |world| {
        let name = world
            .push("test/app:latest", &[layer("old")?], json!({}))
            .await?;
        let old = world.pull(&name).await?;
        world
            .push("test/app:latest", &[layer("new")?], json!({}))
            .await?;
        let new = world.pull(&name).await?;
        assert_ne!(new, old);
        let old = world
            .image_status(&old)
            .await?
            .ok_or("the old image is gone")?;
        assert_eq!(old.repo_tags.len(), 0);
        assert_eq!(old.repo_digests.len(), 1);
        assert_eq!(world.image_status(&name).await?.ok_or("no image")?.id, new);
        Ok(())
    });
}

#[test]
fn the_space_that_images_take_grows_and_shrinks_with_them() {
    run(async |world| {
        let used = async |world: &mut World| -> Result<u64, testkit::Error> {
            let info = world
                .cri
                .images
                .image_fs_info(ImageFsInfoRequest {})
                .await?
                .into_inner();
            assert!(!info.container_filesystems.is_empty());
            let images = info.image_filesystems.first().ok_or("no file system")?;
            assert!(images.timestamp > 0);
            let mountpoint = images.fs_id.clone().unwrap_or_default().mountpoint;
            assert!(std::path::Path::new(&mountpoint).is_dir(), "{mountpoint}");
            Ok(images.used_bytes.unwrap_or_default().value)
        };
        let before = used(world).await?;
        let megabyte: String = (0..1_000_000_u64)
            .map(|n| char::from(b'a' + (n * n % 23) as u8))
            .collect();
        let name = world
            .push("test/big:1", &[layer(&megabyte)?], json!({}))
            .await?;
        world.pull(&name).await?;
        let full = used(world).await?;
        assert!(full >= before + 1_000_000, "{before} {full}");
        world.remove_image(&name).await?;
        assert!(used(world).await? < full);
        Ok(())
    });
}

#[test]
fn a_stream_of_images_has_each_image_of_the_list_once() {
    run(async |world| {
        for number in 0..3 {
            let name = world
                .push(
                    &format!("test/n{number}:1"),
                    &[layer(&number.to_string())?],
                    json!({}),
                )
                .await?;
            world.pull(&name).await?;
        }
        let mut stream = world
            .cri
            .images
            .stream_images(StreamImagesRequest::default())
            .await?
            .into_inner();
        let mut streamed = Vec::new();
        while let Some(chunk) = stream.message().await? {
            assert!(!chunk.images.is_empty());
            streamed.extend(chunk.images);
        }
        let by_id = |mut images: Vec<Image>| {
            images.sort_by(|a, b| a.id.cmp(&b.id));
            images
        };
        assert_eq!(by_id(streamed), by_id(listed(world, "").await?));
        Ok(())
    });
}

#[test]
fn a_registry_on_loopback_can_mirror_another_name() {
    let options = |registry: &Registry| NodeOptions {
        mirrors: vec![("registry.k8s.io".into(), registry.host())],
        ..NodeOptions::default()
    };
    run_with(options, async |world| {
        world.push("e2e/app:1", &[layer("a")?], json!({})).await?;
        let id = world.pull("registry.k8s.io/e2e/app:1").await?;
        let image = world
            .image_status("registry.k8s.io/e2e/app:1")
            .await?
            .ok_or("no image")?;
        assert_eq!(
            (image.id, image.repo_tags),
            (id, vec!["registry.k8s.io/e2e/app:1".to_owned()])
        );
        Ok(())
    });
}

#[test]
fn many_pulls_of_one_image_at_once_give_one_image() {
    run(async |world| {
        let name = world
            .push("test/app:1", &[layer("a")?, layer("b")?], json!({}))
            .await?;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (mut images, image) = (world.cri.images.clone(), Some(image_spec(&name)));
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
            ids.push(answer?.into_inner().image_ref);
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(listed(world, "").await?.len(), 1);
        Ok(())
    });
}
