//! Host ports of pods that never came to be: after a failed network, a kill in the middle, or state that
//! was removed under the kernel's tables, nothing of them is left, and the next pod gets the port.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{World, world_with};
use tonic::Code;

/// The built-in bridge and host ports, and then a program.
const LIST: &str = r#"{"cniVersion":"1.0.0","name":"ports","plugins":[
    {"type":"bridge","bridge":"br-ports","isGateway":true,
     "ipam":{"type":"host-local","subnet":"10.91.0.0/24"}},
    {"type":"portmap","capabilities":{"portMappings":true}},
    {"type":"last"}]}"#;

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A world whose pods end their way to the network in a program of this text; `DIR` in it is where it is.
fn with_last_plugin(script: &str, test: impl AsyncFnOnce(&mut World, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let script = script.replace("DIR", &path);
    sh(&format!(
        "cat > {path}/last <<'END'\n#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n{script}\nEND\nchmod +x {path}/last"
    ));
    world_with(format!("plugin_dirs = [\"{path}\"]"), async |world| {
        std::fs::write(world.node.path("cni/10-ports.conflist"), LIST).unwrap();
        test(world, dir.path()).await;
    });
}

/// A pod with this many host ports.
fn pod(world: &World, name: &str, ports: i32) -> cri::PodSandboxConfig {
    let port = |number| cri::PortMapping {
        container_port: 80,
        host_port: 20_000 + number,
        ..Default::default()
    };
    cri::PodSandboxConfig {
        port_mappings: (0..ports).map(port).collect(),
        ..world.pod_config(name)
    }
}

/// What there is of pods' networks: host ports, links and addresses.
fn left(world: &World) -> Vec<String> {
    let mut left = Vec::new();
    let rules = sh("nft list ruleset");
    left.extend(
        rules
            .lines()
            .filter(|line| line.contains(" . 20000 "))
            .map(str::to_owned),
    );
    let links = sh("ip -br link show type veth");
    left.extend(links.lines().map(str::to_owned));
    let mut dirs = vec![world.node.path("run")];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(dir) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            } else if entry
                .file_name()
                .to_string_lossy()
                .parse::<IpAddr>()
                .is_ok()
            {
                left.push(entry.path().display().to_string());
            }
        }
    }
    left
}

async fn nothing_is_left(world: &World) {
    for _ in 0..100 {
        if left(world).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("left: {:#?}", left(world));
}

const PASS_ON: &str = r#"sed 's/.*"prevResult":\({.*}\),"t.*/\1/'"#;

#[test]
fn a_network_that_fails_after_its_ports_leaves_none_of_them() {
    let script = format!("[ -e DIR/fail ] && {{ echo no >&2; exit 3; }}\n{PASS_ON}");
    with_last_plugin(&script, async |world, dir| {
        std::fs::write(dir.join("fail"), "").unwrap();
        let config = pod(world, "a", 3);
        let error = world.try_pod(&config).await.unwrap_err();
        assert!(
            error
                .message()
                .contains("network \"ports\": plugin \"last\" ADD failed (code 3): no"),
            "{error}"
        );
        nothing_is_left(world).await;
        std::fs::remove_file(dir.join("fail")).unwrap();
        let id = world.try_pod(&config).await.unwrap();
        assert!(!left(world).is_empty());
        world.remove_pod(&id).await.unwrap();
        nothing_is_left(world).await;
    });
}

#[test]
fn a_kill_while_a_pod_gets_its_network_leaves_nothing_for_the_next_engine() {
    let script = format!("[ -e DIR/hang ] && {{ touch DIR/reached; exec sleep 1000; }}\n{PASS_ON}");
    with_last_plugin(&script, async |world, dir| {
        std::fs::write(dir.join("hang"), "").unwrap();
        let config = pod(world, "a", 3);
        let reached = async {
            while !dir.join("reached").exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ended = world.try_pod(&config) => panic!("{ended:?}"),
            () = reached => {}
        }
        assert!(
            !left(world).is_empty(),
            "it had its ports when the engine was killed"
        );
        world.node.kill().unwrap();
        world.serve_again().await;
        nothing_is_left(world).await;
        std::fs::remove_file(dir.join("hang")).unwrap();
        let id = world.try_pod(&config).await.unwrap();
        world.remove_pod(&id).await.unwrap();
        nothing_is_left(world).await;
    });
}

#[test]
fn a_kill_at_any_moment_of_a_pods_making_or_removal_leaves_nothing() {
    with_last_plugin(PASS_ON, async |world, _| {
        for round in 0..10_u64 {
            let config = pod(world, &format!("round-{round}"), 3);
            let life = async {
                let id = world.try_pod(&config).await.ok()?;
                world.remove_pod(&id).await.ok()
            };
            // The kill comes a little later in each round.
            let _ = tokio::time::timeout(Duration::from_millis(8 * round), life).await;
            world.node.kill().unwrap();
            world.serve_again().await;
            let request = cri::ListPodSandboxRequest::default();
            let pods = world.runtime().list_pod_sandbox(request).await.unwrap();
            for pod in pods.into_inner().items {
                world.remove_pod(&pod.id).await.unwrap();
            }
            nothing_is_left(world).await;
        }
    });
}

#[test]
fn ports_whose_pod_nobody_knows_go_when_the_engine_starts() {
    with_last_plugin(PASS_ON, async |world, _| {
        let id = world.try_pod(&pod(world, "a", 1)).await.unwrap();
        sh(
            "nft add element inet floe-floe0 host_ports_v4 '{ tcp . 20001 comment \"gone\" : 10.91.0.9 . 80 }'",
        );
        world.node.kill().unwrap();
        world.serve_again().await;
        let rules = sh("nft list ruleset");
        assert!(!rules.contains("gone"), "{rules}");
        assert!(
            rules.contains(&id),
            "a pod that runs keeps its own: {rules}"
        );
    });
}

#[test]
fn a_pod_may_have_1600_host_ports_and_a_second_use_of_one_is_an_invalid_argument() {
    with_last_plugin(PASS_ON, async |world, _| {
        let config = pod(world, "many", 1600);
        let id = world.try_pod(&config).await.unwrap();
        assert_eq!(sh("nft list ruleset").matches(&id).count(), 1600);
        world.remove_pod(&id).await.unwrap();
        nothing_is_left(world).await;
        let mut twice = pod(world, "twice", 1600);
        twice.port_mappings.push(cri::PortMapping {
            container_port: 81,
            host_port: 20_007,
            ..Default::default()
        });
        let error = world.try_pod(&twice).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains("host port 20007/tcp"), "{error}");
        nothing_is_left(world).await;
    });
}
