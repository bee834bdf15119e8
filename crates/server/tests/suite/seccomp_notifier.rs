//! The seccomp notifier: refused calls are counted, and a container is stopped for them if its pod wants it,
//! whether an engine is there or not.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use cri::{ContainerConfig, SecurityProfile, security_profile::ProfileType};

use crate::common::{Pod, World, security, world_with};

const ANNOTATION: &str = "seccomp-notifier-action.crio.io";
/// A call that RuntimeDefault refuses by name.
const CALL: &str = "swapoff /nothing 2>&1";

/// A handler for all pods that allows the annotation, and metrics on a socket.
fn config(allowed: &str) -> String {
    format!(
        "[floe.runtime]\ndefault_runtime = 'crun'\n[crio.runtime.runtimes.crun]\nallowed_annotations = ['{allowed}']\n"
    )
}

async fn pod(world: &World, action: &str) -> Pod {
    let mut config = world.pod_config("a");
    config.annotations.insert(ANNOTATION.into(), action.into());
    world.pod_of(config).await
}

fn confined(world: &World, name: &str, script: &str) -> ContainerConfig {
    let mut config = world.script(name, script);
    security(&mut config).seccomp = Some(SecurityProfile {
        profile_type: ProfileType::RuntimeDefault.into(),
        localhost_ref: String::new(),
    });
    config
}

/// The sockets on which supervisors listen for refused calls.
fn sockets(world: &World) -> usize {
    let dir = std::fs::read_dir(world.node.path("run/seccomp"));
    dir.map(Iterator::count).unwrap_or(0)
}

#[test]
fn a_container_is_stopped_for_a_refused_call_with_no_engine_there_and_says_which() {
    world_with(config(ANNOTATION), async |world: &mut World| {
        let pod = pod(world, "stop").await;
        let script = format!("{CALL}; {CALL}; sleep 1000");
        let id = world.run(&pod, confined(world, "c", &script)).await;
        let quiet = world
            .run(&pod, confined(world, "quiet", "sleep 1000"))
            .await;
        assert_eq!(sockets(world), 2);
        world.node.kill().unwrap();
        let record = world
            .node
            .path("run/pods")
            .join(&pod.id)
            .join("containers")
            .join(&id);
        world
            .until("the supervisor has stopped it", async || {
                let record = std::fs::read_to_string(record.join("seccomp.json")).ok()?;
                record.contains("\"stopped\":true").then_some(())
            })
            .await;
        world.serve_again().await;
        let status = world.ended(&id).await;
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (137, "seccomp killed")
        );
        assert_eq!(status.message, "Used forbidden syscalls: swapoff (2x)");
        let log = crate::common::log::read(&status.log_path).text();
        assert!(log.contains("Function not implemented"), "{log}");
        let status = world.status(&quiet).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(sockets(world), 0);
    });
}

#[test]
fn calls_are_counted_where_nobody_is_to_be_stopped_and_commands_count_too() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("metrics.sock");
    let metrics = format!(
        "[crio.metrics]\nenable_metrics = true\nmetrics_port = 0\nmetrics_socket = '{}'\n",
        socket.display()
    );
    world_with(config(ANNOTATION) + &metrics, async |world: &mut World| {
        let pod = pod(world, "log").await;
        let id = world
            .run(&pod, confined(world, "c", &format!("{CALL}; sleep 1000")))
            .await;
        let said = world.exec(&id, &["sh", "-c", CALL], 20).await.unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("not implemented"), "{said}");
        let name = format!(
            "k8s_c_a_{}_",
            pod.config.metadata.as_ref().unwrap().namespace
        );
        world
            .until("both calls are counted", async || {
                let mut client = UnixStream::connect(&socket).unwrap();
                client
                    .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                    .unwrap();
                let mut text = String::new();
                client.read_to_string(&mut text).unwrap();
                let mut lines = text.lines();
                lines.find(|line| {
                    line.contains("containers_seccomp_notifier_count_total{")
                        && line.contains(&name)
                        && line.contains("syscall=\"swapoff\"")
                        && line.ends_with(" 2")
                })?;
                Some(())
            })
            .await;
        let status = world.status(&id).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
    });
}

#[test]
fn without_the_annotation_or_where_it_is_not_allowed_a_refused_call_is_refused_as_ever() {
    world_with(config("another"), async |world: &mut World| {
        let pod = pod(world, "stop").await;
        let (_, said) = world.ran(&pod, confined(world, "c", CALL)).await;
        assert!(said.contains("not permitted"), "{said}");
        assert_eq!(sockets(world), 0);
    });
}
