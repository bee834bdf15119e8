//! Images that are here already are held against the policy again when a container is made of them,
//! and namespaces have policies of their own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::trust::Trust;
use crate::common::{World, image_spec, world};
use tonic::{Code, Status};

const EASY: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

async fn create(world: &World, pod: &str, asked: &str) -> Result<String, Status> {
    let mut config = world.config("c", &["true"]);
    let image = config.image.as_mut().unwrap();
    image.image.clone_from(&world.image_id);
    asked.clone_into(&mut image.user_specified_image);
    world.create(pod, config).await
}

fn is_refused(refused: Result<String, Status>, words: &str) {
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    let message = status.message();
    assert!(
        message.starts_with("SignatureValidationFailed: "),
        "{message}"
    );
    assert!(message.contains(words), "{message}");
}

async fn by_digest(world: &World) -> String {
    let request = cri::ImageStatusRequest {
        image: Some(image_spec(&world.image)),
        verbose: false,
    };
    let answer = world.images().image_status(request).await.unwrap();
    answer.into_inner().image.unwrap().repo_digests[0].clone()
}

#[test]
fn a_container_of_an_image_that_came_under_an_easier_policy_is_refused() {
    world(async |world| {
        let trust = Trust::new(world);
        let by_digest = by_digest(world).await;
        trust.sign(&trust.key, &world.image, &by_digest);
        std::fs::write(world.node.path("policy.json"), trust.policy()).unwrap();
        world.node.terminate().unwrap();
        world.serve_again().await;
        let pod = world.pod("a").await;
        // It is signed, but nobody looked when it was pulled.
        is_refused(
            create(world, &pod, &world.image).await,
            "no signature exists",
        );
        is_refused(create(world, &pod, "").await, "no signature exists");
        world.pull(&world.image).await.unwrap();
        let id = create(world, &pod, &world.image).await.unwrap();
        world.remove(&id).await.unwrap();
        // The signature stays with the image, wherever it came from.
        std::fs::remove_dir_all(world.node.path("sigs")).unwrap();
        world.node.terminate().unwrap();
        world.serve_again().await;
        let id = create(world, &pod, &world.image).await.unwrap();
        world.remove(&id).await.unwrap();
        std::fs::write(
            world.node.path("policy.json"),
            r#"{"default":[{"type":"reject"}]}"#,
        )
        .unwrap();
        world.node.terminate().unwrap();
        world.serve_again().await;
        is_refused(create(world, &pod, &world.image).await, "policy.json");
    });
}

#[test]
fn a_namespace_has_a_policy_of_its_own() {
    world(async |world| {
        let trust = Trust::new(world);
        let pod = world.pod("a").await;
        let policies = world.node.path("policies");
        std::fs::write(policies.join("other.json"), trust.policy()).unwrap();
        let id = create(world, &pod, &world.image).await.unwrap();
        world.remove(&id).await.unwrap();
        // Read when it is needed: no restart.
        std::fs::write(policies.join("default.json"), trust.policy()).unwrap();
        is_refused(create(world, &pod, &world.image).await, "default.json");
        is_refused(pull_for(world, "default").await, "no signature exists");
        is_refused(pull_for(world, "other").await, "other.json");
        pull_for(world, "third").await.unwrap();
        std::fs::write(policies.join("default.json"), EASY).unwrap();
        create(world, &pod, &world.image).await.unwrap();
        std::fs::write(policies.join("default.json"), "{").unwrap();
        let broken = pull_for(world, "default").await.unwrap_err();
        assert!(broken.message().contains("default.json"), "{broken:?}");
        let outside = pull_for(world, "../policies/other").await.unwrap_err();
        assert_eq!(outside.code(), Code::InvalidArgument, "{outside:?}");
    });
}

async fn pull_for(world: &World, namespace: &str) -> Result<String, Status> {
    let metadata = cri::PodSandboxMetadata {
        namespace: namespace.into(),
        ..Default::default()
    };
    let request = cri::PullImageRequest {
        image: Some(image_spec(&world.image)),
        sandbox_config: Some(cri::PodSandboxConfig {
            metadata: Some(metadata),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = world.images().pull_image(request).await?;
    Ok(answer.into_inner().image_ref)
}
