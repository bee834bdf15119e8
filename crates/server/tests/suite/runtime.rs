//! The runtime itself: Version, Status, RuntimeConfig, what is not built, the socket and the end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt;

use crate::common::world;
use tokio_stream::StreamExt;
use tonic::Code;

#[test]
fn version_names_floe_and_the_api() {
    world(async |world| {
        let request = cri::VersionRequest {
            version: "0.1.0".into(),
        };
        let version = world.runtime().version(request).await.unwrap().into_inner();
        assert_eq!(version.runtime_name, "floe");
        assert_eq!(version.runtime_api_version, "v1");
        assert_eq!(version.version, "0.1.0");
        assert!(!version.runtime_version.is_empty());
    });
}

#[test]
fn status_has_both_conditions_and_the_default_handler() {
    world(async |world| {
        let request = cri::StatusRequest { verbose: true };
        let answer = world.runtime().status(request).await.unwrap().into_inner();
        let conditions = answer.status.unwrap().conditions;
        for kind in ["RuntimeReady", "NetworkReady"] {
            let condition = conditions
                .iter()
                .find(|condition| condition.r#type == kind)
                .unwrap();
            assert!(condition.status, "{condition:?}");
        }
        let names: Vec<&str> = answer
            .runtime_handlers
            .iter()
            .map(|handler| handler.name.as_str())
            .collect();
        assert!(names.contains(&"") && names.contains(&"floe"), "{names:?}");
        assert!(answer.features.unwrap().supplemental_groups_policy);
        let config: serde_json::Value = serde_json::from_str(&answer.info["config"]).unwrap();
        assert_eq!(
            config["runroot"],
            world.node.path("run").display().to_string()
        );
    });
}

#[test]
fn a_network_that_cannot_be_had_is_named_in_status() {
    world(async |world| {
        std::fs::write(world.node.path("cni/10-broken.conflist"), "{").unwrap();
        let answer = world
            .runtime()
            .status(cri::StatusRequest::default())
            .await
            .unwrap();
        let conditions = answer.into_inner().status.unwrap().conditions;
        let network = conditions
            .iter()
            .find(|condition| condition.r#type == "NetworkReady")
            .unwrap();
        assert!(!network.status, "{network:?}");
        assert_eq!(network.reason, "NetworkPluginNotReady");
        assert!(
            network.message.contains("10-broken.conflist"),
            "{network:?}"
        );
    });
}

#[test]
fn kubelet_learns_the_cgroup_driver_and_may_tell_its_cidr() {
    world(async |world| {
        let answer = world
            .runtime()
            .runtime_config(cri::RuntimeConfigRequest {})
            .await
            .unwrap();
        let linux = answer.into_inner().linux.unwrap();
        assert_eq!(linux.cgroup_driver(), cri::CgroupDriver::Cgroupfs);
        let network_config = Some(cri::NetworkConfig {
            pod_cidr: "10.1.0.0/24".into(),
        });
        let runtime_config = Some(cri::RuntimeConfig { network_config });
        let request = cri::UpdateRuntimeConfigRequest { runtime_config };
        world
            .runtime()
            .update_runtime_config(request)
            .await
            .unwrap();
    });
}

#[test]
fn each_refused_request_has_a_line_in_the_log_with_rpc_object_and_reason() {
    world(async |world| {
        let mut runtime = world.runtime();
        let exec = cri::ExecRequest {
            container_id: "a-container".into(),
            cmd: vec!["sh".into()],
            ..Default::default()
        };
        runtime.exec(exec).await.unwrap_err();
        let forward = cri::PortForwardRequest {
            pod_sandbox_id: "a-pod".into(),
            port: vec![0],
        };
        runtime.port_forward(forward).await.unwrap_err();
        let checkpoint = cri::CheckpointContainerRequest {
            container_id: "b-container".into(),
            ..Default::default()
        };
        runtime.checkpoint_container(checkpoint).await.unwrap_err();
        let mut config = world.pod_config("badly-made");
        config.log_directory = "relative".into();
        world.try_pod(&config).await.unwrap_err();
        let mut config = world.pod_config("badly-meant");
        config.metadata.as_mut().unwrap().uid = String::new();
        world.try_pod(&config).await.unwrap_err();
        world.stop("stopped-badly", -5).await.unwrap_err();
        let log = world.node.log();
        for words in [
            ["CheckpointContainer", "b-container", "location"],
            ["Exec", "a-container", "one of stdin"],
            ["PortForward", "a-pod", "0 is no port"],
            ["RunPodSandbox", "default/badly-made", "log_directory"],
            [
                "RunPodSandbox",
                "default/badly-meant",
                "config.metadata.uid",
            ],
            ["StopContainer", "stopped-badly", "-5 is negative"],
        ] {
            let lines = log.lines().filter(|line| {
                line.contains("WARN") && words.iter().all(|word| line.contains(word))
            });
            assert_eq!(lines.count(), 1, "{words:?} in\n{log}");
        }
    });
}

#[test]
fn a_huge_id_with_control_characters_is_answered_in_short() {
    world(async |world| {
        let id = "\u{1b}[2Jé".repeat(100_000);
        let absent = world.status(&id).await.unwrap_err();
        assert_eq!(absent.code(), Code::NotFound);
        assert!(absent.message().len() < 2000 && !absent.message().contains('\u{1b}'));
        world.remove(&id).await.unwrap();
        world.stop(&id, 0).await.unwrap();
        let mut config = world.pod_config("a");
        config.hostname = id.clone();
        let refused = world.try_pod(&config).await.unwrap_err();
        assert!(refused.message().len() < 2000);
        let absent = world.exec(&id, &["true"], 1).await.unwrap_err();
        assert_eq!(absent.code(), Code::NotFound);
        let refused = world.pull(&id).await.unwrap_err();
        assert!(refused.message().len() < 2000);
        let longest = world.node.log().lines().map(str::len).max();
        assert!(
            longest.is_some_and(|longest| longest < 10_000),
            "{longest:?}"
        );
    });
}

#[test]
fn streams_carry_what_lists_carry() {
    world(async |world| {
        let pod = world.pod("streamed").await;
        let container = world
            .create(&pod, world.config("c", &["true"]))
            .await
            .unwrap();
        let mut runtime = world.runtime();
        let request = cri::StreamPodSandboxesRequest::default();
        let pods = runtime
            .stream_pod_sandboxes(request)
            .await
            .unwrap()
            .into_inner();
        let pods: Vec<_> = pods.collect::<Result<_, _>>().await.unwrap();
        assert_eq!(pods.len(), 1);
        assert_eq!(pods[0].pod_sandboxes[0].id, *pod);
        let request = cri::StreamContainersRequest::default();
        let containers = runtime
            .stream_containers(request)
            .await
            .unwrap()
            .into_inner();
        let containers: Vec<_> = containers.collect::<Result<_, _>>().await.unwrap();
        assert_eq!(containers[0].containers[0].id, container);
        let request = cri::StreamContainerStatsRequest::default();
        let stats = runtime
            .stream_container_stats(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            stats.collect::<Vec<_>>().await.len(),
            1,
            "a created container has a process"
        );
        let request = cri::StreamImagesRequest::default();
        let images = world
            .images()
            .stream_images(request)
            .await
            .unwrap()
            .into_inner();
        let images: Vec<_> = images.collect::<Result<_, _>>().await.unwrap();
        assert_eq!(images[0].images[0].id, world.image_id);
    });
}

#[test]
fn a_second_engine_on_the_same_socket_is_refused_and_the_first_goes_on() {
    world(async |world| {
        let second = world.node.floe(&["serve"]).unwrap().output().unwrap();
        assert!(!second.status.success());
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(said.contains("another process listens there"), "{said}");
        world
            .runtime()
            .version(cri::VersionRequest::default())
            .await
            .unwrap();
    });
}

#[test]
fn sigterm_ends_the_engine_and_its_socket_and_no_pod() {
    world(async |world| {
        let mode = std::fs::metadata(world.node.socket())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        let pod = world.pod("lives-on").await;
        world.node.terminate().unwrap();
        assert!(!world.node.socket().exists());
        world.serve_again().await;
        let status = world.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
    });
}
