//! Images over CRI: pulling, finding by every name, removing, and failures that say why.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::trust::Trust;
use crate::common::{World, image_spec, world};
use testkit::images;
use tonic::{Code, Status};

async fn find(world: &World, name: &str) -> Option<cri::Image> {
    let request = cri::ImageStatusRequest {
        image: Some(image_spec(name)),
        verbose: false,
    };
    world
        .images()
        .image_status(request)
        .await
        .unwrap()
        .into_inner()
        .image
}

async fn list(world: &World, name: &str) -> Vec<cri::Image> {
    let filter = Some(cri::ImageFilter {
        image: Some(image_spec(name)),
    });
    let request = cri::ListImagesRequest { filter };
    world
        .images()
        .list_images(request)
        .await
        .unwrap()
        .into_inner()
        .images
}

async fn remove(world: &World, name: &str) -> Result<(), Status> {
    let request = cri::RemoveImageRequest {
        image: Some(image_spec(name)),
    };
    world.images().remove_image(request).await.map(drop)
}

#[test]
fn an_image_is_found_by_id_short_id_tag_and_digest() {
    world(async |world| {
        let image = find(world, &world.image).await.unwrap();
        assert_eq!(image.id, world.image_id);
        assert_eq!(image.repo_tags, std::slice::from_ref(&world.image));
        assert!(image.size > 0);
        let digest = image.repo_digests[0].clone();
        let with_prefix = format!("sha256:{}", image.id);
        for name in [&image.id, &image.id[..12], &digest, &with_prefix] {
            assert_eq!(find(world, name).await.unwrap().id, image.id, "{name}");
        }
        assert_eq!(world.pull(&digest).await.unwrap(), image.id);
    });
}

#[test]
fn an_image_that_is_not_there_is_no_error() {
    world(async |world| {
        assert_eq!(find(world, "127.0.0.1:1/not/there:1").await, None);
        assert_eq!(find(world, &"0".repeat(64)).await, None);
        assert!(list(world, "127.0.0.1:1/not/there:1").await.is_empty());
        remove(world, "127.0.0.1:1/not/there:1").await.unwrap();
        let request = cri::ImageStatusRequest::default();
        let unnamed = world.images().image_status(request).await.unwrap_err();
        assert_eq!(unnamed.code(), Code::InvalidArgument);
    });
}

#[test]
fn verbose_status_has_the_images_configuration() {
    world(async |world| {
        let request = cri::ImageStatusRequest {
            image: Some(image_spec(&world.image)),
            verbose: true,
        };
        let answer = world
            .images()
            .image_status(request)
            .await
            .unwrap()
            .into_inner();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        assert_eq!(info["imageSpec"]["config"]["Cmd"][0], "sh");
    });
}

#[test]
fn the_images_user_is_split_into_number_and_name() {
    world(async |world| {
        let client = images::client(&[&world.registry.host()]).unwrap();
        let layer = [images::layer(&[images::Entry::Dir("tmp", 0o1777)]).unwrap()];
        for (tag, user, uid, username) in
            [("n", "1000:5", Some(1000), ""), ("w", "www:x", None, "www")]
        {
            let name = format!("{}/test/user:{tag}", world.registry.host());
            let config = serde_json::json!({ "User": user });
            images::push(&client, &name, &layer, config).await.unwrap();
            world.pull(&name).await.unwrap();
            let image = find(world, &name).await.unwrap();
            assert_eq!(image.uid.map(|uid| uid.value), uid);
            assert_eq!(image.username, username);
        }
        assert_eq!(list(world, "").await.len(), 3);
    });
}

#[test]
fn removing_by_one_name_removes_the_image_with_all_its_names() {
    world(async |world| {
        let client = images::client(&[&world.registry.host()]).unwrap();
        let config = serde_json::json!({ "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"] });
        let second = format!("{}/test/second:2", world.registry.host());
        images::push(&client, &second, &[images::busybox().unwrap()], config)
            .await
            .unwrap();
        assert_eq!(
            world.pull(&second).await.unwrap(),
            world.image_id,
            "the same content has one id"
        );
        assert_eq!(find(world, &second).await.unwrap().repo_tags.len(), 2);
        for _ in 0..2 {
            remove(world, &second).await.unwrap();
        }
        assert_eq!(find(world, &world.image).await, None);
        assert_eq!(world.pull(&world.image).await.unwrap(), world.image_id);
    });
}

#[test]
fn an_image_that_a_container_uses_stays() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world
            .create(&pod, world.config("c", &["true"]))
            .await
            .unwrap();
        let refused = remove(world, &world.image).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(&id), "{refused:?}");
        world.remove(&id).await.unwrap();
        remove(world, &world.image).await.unwrap();
    });
}

#[test]
fn a_failed_pull_says_why_and_leaves_nothing() {
    world(async |world| {
        let missing = format!("{}/no/such/image:1", world.registry.host());
        let status = world.pull(&missing).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert!(status.message().contains("no/such/image"), "{status:?}");
        let status = world.pull("127.0.0.1:1/down/image:1").await.unwrap_err();
        // kubelet looks for the word only in errors of this code.
        assert_eq!(status.code(), Code::Unknown, "{status:?}");
        assert!(
            status.message().starts_with("RegistryUnavailable: "),
            "{status:?}"
        );
        let status = world.pull("Not A Name").await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(list(world, "").await.len(), 1);
    });
}

#[test]
fn a_policy_that_rejects_is_named_so_that_kubelet_shows_it() {
    world(async |world| {
        let policy = world.node.path("policy.json");
        std::fs::write(policy, r#"{"default":[{"type":"reject"}]}"#).unwrap();
        world.node.terminate().unwrap();
        world.serve_again().await;
        let status = world.pull(&world.image).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown, "{status:?}");
        assert!(
            status.message().starts_with("SignatureValidationFailed: "),
            "{status:?}"
        );
    });
}

#[test]
fn an_image_without_the_signature_that_is_asked_for_is_refused_until_it_has_it() {
    world(async |world| {
        let trust = Trust::new(world);
        let keyring = trust.keyring.display();
        std::fs::write(world.node.path("policy.json"), trust.policy()).unwrap();
        let image = find(world, &world.image).await.unwrap();
        remove(world, &world.image).await.unwrap();
        world.node.terminate().unwrap();
        world.serve_again().await;
        let status = world.pull(&world.image).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown, "{status:?}");
        let words = format!("SignatureValidationFailed: pull {}: ", world.image);
        assert!(status.message().starts_with(&words), "{status:?}");
        let words = format!("asks for signedBy {keyring}: no signature exists");
        assert!(status.message().ends_with(&words), "{status:?}");
        assert!(list(world, "").await.is_empty());

        // By digest, too; and with somebody else's signature it is not better.
        let by_digest = &image.repo_digests[0];
        let status = world.pull(by_digest).await.unwrap_err();
        assert!(
            status.message().contains("no signature exists"),
            "{status:?}"
        );
        let other = trust.gpg.key("other", "ed25519", "never").unwrap();
        trust.sign(&other, &world.image, by_digest);
        let status = world.pull(&world.image).await.unwrap_err();
        assert!(status.message().contains(&other), "{status:?}");
        trust.sign(&trust.key, &world.image, by_digest);
        assert_eq!(world.pull(&world.image).await.unwrap(), image.id);
        assert_eq!(world.pull(by_digest).await.unwrap(), image.id);
    });
}

#[test]
fn the_space_of_images_and_of_containers_is_told_apart() {
    world(async |world| {
        let request = cri::ImageFsInfoRequest {};
        let info = world
            .images()
            .image_fs_info(request)
            .await
            .unwrap()
            .into_inner();
        let images = &info.image_filesystems[0];
        assert!(images.used_bytes.unwrap().value > 0);
        assert!(images.inodes_used.unwrap().value > 0);
        assert!(images.timestamp > 0);
        let mountpoint = &images.fs_id.as_ref().unwrap().mountpoint;
        assert!(std::path::Path::new(mountpoint).is_dir());
        assert_eq!(info.container_filesystems.len(), 1);
    });
}

#[test]
fn what_an_ended_container_has_written_counts_until_it_is_removed() {
    world(async |world| {
        let pod = world.pod("a").await;
        let written = async |world: &crate::common::World| {
            let request = cri::ImageFsInfoRequest {};
            let info = world.images().image_fs_info(request).await.unwrap();
            let info = info.into_inner();
            let used = info.container_filesystems[0].used_bytes;
            used.unwrap().value
        };
        let before = written(world).await;
        let write = world.script("c", "head -c 4000000 /dev/zero > /x");
        let id = world.run(&pod, write).await;
        world.ended(&id).await;
        world
            .until("it counts", async || {
                (written(world).await >= before + 4_000_000).then_some(())
            })
            .await;
        world.remove(&id).await.unwrap();
        assert!(written(world).await < before + 4_000_000);
    });
}
