//! Pods over CRI: from RunPodSandbox to RemovePodSandbox, and what their containers see of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use crate::common::{World, world};
use tonic::Code;

/// The ids of the pods that a filter gives.
async fn listed(world: &World, filter: cri::PodSandboxFilter) -> Vec<String> {
    let request = cri::ListPodSandboxRequest {
        filter: Some(filter),
    };
    let answer = world.runtime().list_pod_sandbox(request).await.unwrap();
    let mut ids: Vec<String> = answer
        .into_inner()
        .items
        .into_iter()
        .map(|pod| pod.id)
        .collect();
    ids.sort();
    ids
}

#[test]
fn a_pod_is_ready_with_addresses_when_run_returns() {
    world(async |world| {
        let id = world.pod("a").await;
        assert_eq!(id.len(), 64);
        let status = world.pod_status(&id).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
        assert!(status.created_at > 0);
        let network = status.network.unwrap();
        assert!(
            network.ip.parse::<std::net::IpAddr>().is_ok(),
            "{network:?}"
        );
    });
}

#[test]
fn the_same_name_gives_the_same_pod_also_to_two_who_ask_at_once() {
    world(async |world| {
        let config = world.pod_config("a");
        let (one, two) = tokio::join!(world.try_pod(&config), world.try_pod(&config));
        let id = one.unwrap();
        assert_eq!(id, two.unwrap());
        assert_eq!(world.try_pod(&config).await.unwrap(), id);
        assert_eq!(listed(world, cri::PodSandboxFilter::default()).await, [id]);
    });
}

#[test]
fn a_client_that_gave_up_finds_its_pod_when_it_asks_again() {
    world(async |world| {
        let config = world.pod_config("a");
        let mut request = tonic::Request::new(cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        });
        request.set_timeout(std::time::Duration::from_millis(1));
        let gave_up = world.runtime().run_pod_sandbox(request).await;
        let id = world.try_pod(&config).await.unwrap();
        if let Ok(answer) = gave_up {
            assert_eq!(answer.into_inner().pod_sandbox_id, id);
        }
        assert_eq!(listed(world, cri::PodSandboxFilter::default()).await, [id]);
    });
}

#[test]
fn a_stopped_pod_keeps_its_name_until_it_is_removed() {
    world(async |world| {
        let config = world.pod_config("a");
        let id = world.try_pod(&config).await.unwrap();
        world.stop_pod(&id).await.unwrap();
        let status = world.pod_status(&id).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxNotready);
        assert_eq!(
            world.try_pod(&config).await.unwrap_err().code(),
            Code::AlreadyExists
        );
        world.remove_pod(&id).await.unwrap();
        let again = world.try_pod(&config).await.unwrap();
        assert_ne!(again, id);
    });
}

#[test]
fn stop_and_remove_succeed_on_what_is_gone_and_status_does_not() {
    world(async |world| {
        let id = world.pod("a").await;
        for _ in 0..2 {
            world.stop_pod(&id).await.unwrap();
        }
        for _ in 0..2 {
            world.remove_pod(&id).await.unwrap();
        }
        world.stop_pod(&id).await.unwrap();
        assert_eq!(
            world.pod_status(&id).await.unwrap_err().code(),
            Code::NotFound
        );
        assert_eq!(
            world.stop_pod("").await.unwrap_err().code(),
            Code::InvalidArgument
        );
        assert_eq!(
            world.remove_pod("").await.unwrap_err().code(),
            Code::InvalidArgument
        );
    });
}

#[test]
fn removing_a_pod_takes_its_running_containers_along() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(world.status(&id).await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn stopping_a_pod_ends_its_containers() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        world.stop_pod(&pod).await.unwrap();
        let status = world.status(&id).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerExited);
        let late = world
            .create(&pod, world.config("late", &["true"]))
            .await
            .unwrap_err();
        assert_eq!(late.code(), Code::FailedPrecondition, "{late:?}");
    });
}

#[test]
fn conditions_of_a_filter_are_anded() {
    world(async |world| {
        let mut config = world.pod_config("a");
        let label = |value: &str| BTreeMap::from([("app".to_owned(), value.to_owned())]);
        config.labels = label("one");
        let one = world.try_pod(&config).await.unwrap();
        config = world.pod_config("b");
        config.labels = label("two");
        let two = world.try_pod(&config).await.unwrap();
        world.stop_pod(&two).await.unwrap();
        let state = |state: cri::PodSandboxState| {
            Some(cri::PodSandboxStateValue {
                state: state.into(),
            })
        };
        let by_id = cri::PodSandboxFilter {
            id: one[..12].into(),
            ..Default::default()
        };
        assert_eq!(
            listed(world, by_id.clone()).await,
            std::slice::from_ref(&one)
        );
        let by_state = cri::PodSandboxFilter {
            state: state(cri::PodSandboxState::SandboxNotready),
            ..Default::default()
        };
        assert_eq!(listed(world, by_state).await, [two]);
        let by_label = cri::PodSandboxFilter {
            label_selector: label("one"),
            ..Default::default()
        };
        assert_eq!(listed(world, by_label).await, [one]);
        let both = cri::PodSandboxFilter {
            label_selector: label("two"),
            ..by_id
        };
        assert!(listed(world, both).await.is_empty());
        let nobody = cri::PodSandboxFilter {
            id: "0".repeat(64),
            ..Default::default()
        };
        assert!(listed(world, nobody).await.is_empty());
    });
}

#[test]
fn hostname_and_name_servers_are_as_asked_in_every_container() {
    world(async |world| {
        let mut config = world.pod_config("named");
        config.dns_config = Some(cri::DnsConfig {
            servers: vec!["10.9.8.7".into()],
            searches: vec!["svc.example".into()],
            options: vec!["ndots:5".into()],
        });
        let pod = world.try_pod(&config).await.unwrap();
        let script = "hostname; cat /etc/hostname /etc/resolv.conf; echo $HOSTNAME";
        let (output, status) = world.output(&pod, world.script("c", script)).await;
        assert_eq!(status.exit_code, 0, "{output}");
        assert!(output.starts_with("named\nnamed\n"), "{output}");
        assert!(output.ends_with("\nnamed\n"), "{output}");
        for line in [
            "nameserver 10.9.8.7",
            "search svc.example",
            "options ndots:5",
        ] {
            assert!(output.contains(line), "{output}");
        }
    });
}

#[test]
fn a_pod_with_the_nodes_network_sees_it_and_has_no_address() {
    world(async |world| {
        let mut config = world.pod_config("host");
        let options = cri::NamespaceOption {
            network: cri::NamespaceMode::Node.into(),
            ..Default::default()
        };
        let context = cri::LinuxSandboxSecurityContext {
            namespace_options: Some(options),
            ..Default::default()
        };
        config.linux = Some(cri::LinuxPodSandboxConfig {
            security_context: Some(context),
            ..Default::default()
        });
        let pod = world.try_pod(&config).await.unwrap();
        let status = world.pod_status(&pod).await.unwrap();
        assert_eq!(status.network.unwrap_or_default().ip, "");
        let shown = status.linux.unwrap().namespaces.unwrap().options.unwrap();
        assert_eq!(shown.network(), cri::NamespaceMode::Node);
        let container =
            crate::common::secured(world.script("c", "readlink /proc/self/ns/net"), |context| {
                context.namespace_options = Some(options_of_container());
            });
        let (output, _) = world.output(&pod, container).await;
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_eq!(output.trim(), ours.display().to_string());
    });
}

fn options_of_container() -> cri::NamespaceOption {
    cri::NamespaceOption {
        network: cri::NamespaceMode::Node.into(),
        pid: cri::NamespaceMode::Container.into(),
        ..Default::default()
    }
}

#[test]
fn containers_of_a_pod_share_its_network_and_ipc_and_pids_only_if_asked() {
    world(async |world| {
        let pod = world.pod("a").await;
        // They live on, for the kernel uses the number of a namespace that is gone again.
        let script =
            "for name in net ipc uts pid; do readlink /proc/self/ns/$name; done; sleep 1000";
        let namespaces = async |name: &str, mode: cri::NamespaceMode| {
            let config = crate::common::secured(world.script(name, script), |context| {
                let pid = mode.into();
                context.namespace_options = Some(cri::NamespaceOption {
                    pid,
                    ..Default::default()
                });
            });
            let id = world.run(&pod, config).await;
            let log = world.status(&id).await.unwrap().log_path;
            world
                .until("all four are in the log", async || {
                    let lines: Vec<String> = crate::common::log::read(&log)
                        .of("stdout")
                        .lines()
                        .map(str::to_owned)
                        .collect();
                    <[String; 4]>::try_from(lines).ok()
                })
                .await
        };
        let [net, ipc, uts, pid] = namespaces("own", cri::NamespaceMode::Container).await;
        let [other_net, other_ipc, other_uts, other_pid] =
            namespaces("other", cri::NamespaceMode::Container).await;
        assert_eq!([net, ipc, uts], [other_net, other_ipc, other_uts]);
        assert_ne!(pid, other_pid);
        let [_, _, _, shared] = namespaces("shared", cri::NamespaceMode::Pod).await;
        let [_, _, _, again] = namespaces("again", cri::NamespaceMode::Pod).await;
        assert_eq!(shared, again);
        let [_, _, _, node] = namespaces("node", cri::NamespaceMode::Node).await;
        assert_eq!(
            node,
            std::fs::read_link("/proc/self/ns/pid")
                .unwrap()
                .display()
                .to_string()
        );
    });
}

#[test]
fn sysctls_are_set_in_the_pod() {
    world(async |world| {
        let mut config = world.pod_config("a");
        let sysctls = BTreeMap::from([
            (
                "net.ipv4.ip_unprivileged_port_start".to_owned(),
                "81".to_owned(),
            ),
            ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
        ]);
        config.linux = Some(cri::LinuxPodSandboxConfig {
            sysctls,
            ..Default::default()
        });
        let pod = world.try_pod(&config).await.unwrap();
        let script =
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
        let (output, _) = world.output(&pod, world.script("c", script)).await;
        assert_eq!(output, "81\n1\n");
    });
}

#[test]
fn a_pod_that_cannot_be_meant_is_refused_by_field_and_leaves_nothing() {
    world(async |world| {
        let refused = async |config: cri::PodSandboxConfig, field: &str| {
            let status = world.try_pod(&config).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            assert!(status.message().contains(field), "{status:?}");
        };
        let relative = cri::PodSandboxConfig {
            log_directory: "logs".into(),
            ..world.pod_config("a")
        };
        refused(relative, "log_directory").await;
        refused(
            cri::PodSandboxConfig {
                metadata: None,
                ..world.pod_config("a")
            },
            "metadata",
        )
        .await;
        let request = cri::RunPodSandboxRequest {
            config: Some(world.pod_config("a")),
            runtime_handler: "kata".into(),
        };
        let status = world.runtime().run_pod_sandbox(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("kata"), "{status:?}");
        assert!(
            listed(world, cri::PodSandboxFilter::default())
                .await
                .is_empty()
        );
    });
}
