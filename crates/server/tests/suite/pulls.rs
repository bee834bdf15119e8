//! How pulls stand while they run, and how a pod's start went.

use serde_json::Value;

use crate::common::bad_registry::{BadRegistry, Fault};
use crate::common::{World, image_spec, world_on};
use crate::inspect::json;

/// The words of a pod's timeline.
fn words(timeline: &Value) -> Vec<String> {
    let lines = timeline.as_array().unwrap().iter();
    lines
        .map(|line| line["what"].as_str().unwrap().to_owned())
        .collect()
}

async fn timeline(world: &World, pod: &str) -> Value {
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: pod.to_owned(),
        verbose: true,
    };
    let status = world.runtime().pod_sandbox_status(request).await.unwrap();
    let info: Value = serde_json::from_str(&status.into_inner().info["info"]).unwrap();
    info["timeline"].clone()
}

/// What a command of floe writes.
fn said(world: &World, arguments: &[&str]) -> String {
    let output = world.node.floe(arguments).unwrap().output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_running_pull_says_how_far_it_is_and_which_pods_wait_and_their_timelines_have_it() {
    let held = std::cell::OnceCell::new();
    let options = |_: &testkit::Registry| {
        let registry = BadRegistry::start(Fault::Held).unwrap();
        let host = registry.host.clone();
        assert!(held.set(registry).is_ok());
        testkit::NodeOptions {
            insecure: vec![host],
            ..testkit::NodeOptions::default()
        }
    };
    world_on(options, async |world| {
        let registry = held.get().unwrap();
        let socket = world.node.socket();
        assert_eq!(json(&socket, "/pulls"), Value::Array(Vec::new()));
        let pods = [world.pod("a").await, world.pod("b").await];
        let pull = |pod: &crate::common::Pod| {
            let request = cri::PullImageRequest {
                image: Some(image_spec(&registry.image())),
                sandbox_config: Some(pod.config.clone()),
                ..Default::default()
            };
            let mut images = world.images();
            async move { images.pull_image(request).await.map(drop) }
        };
        let both = [tokio::spawn(pull(&pods[0])), tokio::spawn(pull(&pods[1]))];
        let told = world
            .until("two wait, and half of it is there", async || {
                let told = json(&socket, "/pulls");
                let bytes = told[0]["bytes"].as_u64().unwrap_or_default();
                (told[0]["pods"][1].is_object() && bytes > 20_000).then_some(told)
            })
            .await;
        assert_eq!(told.as_array().unwrap().len(), 1);
        let of = &told[0];
        assert_eq!(of["image"], registry.image());
        assert_eq!((&of["layers"], &of["layers_done"]), (&1.into(), &0.into()));
        assert!(of["total_bytes"].as_u64().unwrap() > 100_000, "{of}");
        let mut names: Vec<&str> = (0..2)
            .map(|at| of["pods"][at]["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
        let told = said(world, &["pulls"]);
        assert!(
            told.contains(&registry.image()) && told.contains("default/a"),
            "{told}"
        );
        registry.release();
        for pull in both {
            pull.await.unwrap().unwrap();
        }
        assert_eq!(json(&socket, "/pulls"), Value::Array(Vec::new()));

        let container = world.sleeper(&pods[0], "c").await;
        let began = timeline(world, &pods[0]).await;
        let steps = words(&began);
        assert_eq!(steps[..2], ["asked", "directory"]);
        for step in ["sandbox", "network", "ready"] {
            assert!(steps[..5].iter().any(|one| one == step), "{steps:?}");
        }
        let pulled = steps
            .iter()
            .position(|one| one.starts_with("pulled "))
            .unwrap();
        let started = steps
            .iter()
            .position(|one| one == "container c started")
            .unwrap();
        assert!(
            pulled < started && steps[pulled].contains(&registry.image()),
            "{steps:?}"
        );
        let after: Vec<f64> = (0..steps.len())
            .map(|at| began[at]["after"].as_f64().unwrap())
            .collect();
        assert!(
            after.is_sorted() && began[pulled]["took"].as_f64().unwrap() > 0.0,
            "{began}"
        );
        let told = said(world, &["status", "pods", "--id", &pods[0]]);
        assert!(
            told.contains(&container) && told.contains("container c started"),
            "{told}"
        );
        // What is written down outlives the engine.
        world.node.kill().unwrap();
        world.serve_again().await;
        let again = words(&timeline(world, &pods[0]).await);
        let kept: Vec<&String> = steps
            .iter()
            .filter(|one| !one.starts_with("pulled "))
            .collect();
        assert_eq!(again.iter().collect::<Vec<_>>(), kept);
        assert_eq!(
            json(&world.node.socket(), &format!("/pods/{}", pods[0].id))["name"],
            "a"
        );
    });
}
