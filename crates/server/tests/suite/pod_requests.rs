//! CRI: pods. Run, Stop, Remove, Status, List and Stream of PodSandbox.

use std::path::Path;

use crate::common::{Pod, World, labels, pod_security, refused, sorted, world};
use cri::*;
use testkit::net;
use tonic::Code;

#[test]
fn many_requests_for_one_pod_at_once_make_one_pod() {
    world(async |world| {
        let config = world.pod_config("a");
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (mut runtime, config) = (world.runtime(), Some(config.clone()));
            tasks.spawn(async move {
                let request = RunPodSandboxRequest {
                    config,
                    ..Default::default()
                };
                runtime
                    .run_pod_sandbox(request)
                    .await
                    .map(|answer| answer.into_inner().pod_sandbox_id)
            });
        }
        let ids = tasks
            .join_all()
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(world.pod_ids(PodSandboxFilter::default()).await.len(), 1);
    });
}

#[test]
fn the_beginning_of_an_id_is_enough() {
    world(async |world| {
        let pod = world.pod("a").await;
        assert_eq!(world.pod_status(&pod.id[..13]).await.unwrap().id, pod.id);
        let filter = PodSandboxFilter {
            id: pod.id[..13].into(),
            ..Default::default()
        };
        assert_eq!(world.pod_ids(filter).await, [pod.id]);
    });
}

#[test]
fn a_stream_of_pods_has_each_pod_of_the_list_once() {
    world(async |world| {
        let request = || StreamPodSandboxesRequest::default();
        let mut stream = world
            .runtime()
            .stream_pod_sandboxes(request())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            stream.message().await.unwrap(),
            None,
            "nothing to tell: the stream just ends"
        );
        for name in ["a", "b", "c"] {
            world.pod(name).await;
        }
        let mut stream = world
            .runtime()
            .stream_pod_sandboxes(request())
            .await
            .unwrap()
            .into_inner();
        let mut streamed = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            assert!(!chunk.pod_sandboxes.is_empty());
            streamed.extend(chunk.pod_sandboxes.into_iter().map(|pod| pod.id));
        }
        assert_eq!(
            sorted(streamed),
            world.pod_ids(PodSandboxFilter::default()).await
        );
    });
}

#[test]
fn labels_and_annotations_come_back_byte_for_byte() {
    world(async |world| {
        let mut config = world.pod_config("a");
        config.labels = labels(&[("a.b/c", "d"), ("empty", "")]);
        config.annotations = labels(&[
            ("json", "{\"a\": [1,\n2]}"),
            ("words", "zwölf Boxkämpfer ☃"),
        ]);
        let pod = world.pod_of(config).await;
        let status = world.pod_status(&pod.id).await.unwrap();
        assert_eq!(
            (&status.labels, &status.annotations),
            (&pod.config.labels, &pod.config.annotations)
        );
        let request = ListPodSandboxRequest { filter: None };
        let listed = world
            .runtime()
            .list_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .items;
        assert_eq!(listed[0].labels, pod.config.labels);
        assert_eq!(listed[0].annotations, pod.config.annotations);
    });
}

#[test]
fn a_handler_that_is_not_configured_is_refused_by_name() {
    world(async |world| {
        let config = Some(world.pod_config("a"));
        let request = RunPodSandboxRequest {
            config,
            runtime_handler: "kata".into(),
        };
        refused(
            world.runtime().run_pod_sandbox(request).await,
            Code::InvalidArgument,
            &["kata"],
        );
        let config = Some(world.pod_config("b"));
        let request = RunPodSandboxRequest {
            config,
            runtime_handler: "floe".into(),
        };
        let id = world
            .runtime()
            .run_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .pod_sandbox_id;
        assert_eq!(world.pod_status(&id).await.unwrap().runtime_handler, "floe");
        assert_eq!(world.pod_ids(PodSandboxFilter::default()).await, [id]);
    });
}

#[test]
fn a_request_that_cannot_be_meant_names_its_field_and_leaves_no_pod() {
    world(async |world| {
        let empty = world
            .runtime()
            .run_pod_sandbox(RunPodSandboxRequest::default())
            .await;
        refused(empty, Code::InvalidArgument, &["config"]);
        let usual = world.pod_config("a");
        let changed = |change: &dyn Fn(&mut PodSandboxConfig)| {
            let mut config = usual.clone();
            change(&mut config);
            config
        };
        let group = |config: &mut PodSandboxConfig| {
            pod_security(config).run_as_group = Some(Int64Value { value: 5 });
        };
        let mode = |config: &mut PodSandboxConfig| {
            let options = NamespaceOption {
                network: 77,
                ..Default::default()
            };
            pod_security(config).namespace_options = Some(options);
        };
        let port = |config: &mut PodSandboxConfig| {
            let mapping = PortMapping {
                host_port: 70_000,
                container_port: 1,
                ..Default::default()
            };
            config.port_mappings = vec![mapping];
        };
        let sysctl = |config: &mut PodSandboxConfig| {
            let options = NamespaceOption {
                network: NamespaceMode::Node.into(),
                ..Default::default()
            };
            pod_security(config).namespace_options = Some(options);
            config.linux.get_or_insert_default().sysctls = labels(&[("net.ipv4.ip_forward", "1")]);
        };
        let cases = [
            (changed(&|config| config.metadata = None), "metadata"),
            (
                changed(&|config| config.log_directory = "logs/here".into()),
                "log_directory",
            ),
            (changed(&group), "run_as_group"),
            (changed(&mode), "network"),
            (changed(&port), "host_port"),
            (changed(&sysctl), "net.ipv4.ip_forward"),
        ];
        for (config, field) in cases {
            refused(
                world.try_pod(&config).await,
                Code::InvalidArgument,
                &[field],
            );
        }
        assert_eq!(world.pod_ids(PodSandboxFilter::default()).await.len(), 0);
    });
}

#[test]
fn a_pod_that_fails_half_way_leaves_nothing_and_may_be_tried_again() {
    world(async |world| {
        let mut config = world.pod_config("a");
        config.linux.get_or_insert_default().sysctls = labels(&[("net.no.such.thing", "1")]);
        assert!(world.try_pod(&config).await.is_err());
        assert_eq!(world.pod_ids(PodSandboxFilter::default()).await.len(), 0);
        config.linux = None;
        world.try_pod(&config).await.unwrap();
    });
}

#[test]
fn without_dns_settings_the_nodes_are_used() {
    world(async |world| {
        let node = std::fs::read_to_string("/etc/resolv.conf").unwrap();
        for (name, dns) in [("a", None), ("b", Some(DnsConfig::default()))] {
            let mut config = world.pod_config(name);
            config.dns_config = dns;
            let pod = world.pod_of(config).await;
            let inside = world.sleeper(&pod, "inside").await;
            assert_eq!(
                world.said(&inside, &["cat", "/etc/resolv.conf"]).await,
                node.trim()
            );
        }
    });
}

async fn web_server(world: &World, pod: &Pod) -> String {
    let config = world.container("web", &["httpd", "-f", "-p", "80", "-h", "/www"]);
    world.run(pod, config.clone()).await
}

#[test]
fn a_server_in_a_pod_answers_at_the_pods_addresses() {
    world(async |world| {
        let pod = world.pod("a").await;
        web_server(world, &pod).await;
        let network = world
            .pod_status(&pod.id)
            .await
            .unwrap()
            .network
            .unwrap_or_default();
        assert_eq!(
            net::http_get(network.ip.parse().unwrap(), 80).unwrap(),
            "hello from a pod\n"
        );
        for other in network.additional_ips {
            assert_eq!(
                net::http_get(other.ip.parse().unwrap(), 80).unwrap(),
                "hello from a pod\n"
            );
        }
    });
}

#[test]
fn pods_reach_each_other_and_the_containers_of_one_pod_share_loopback() {
    world(async |world| {
        let server = world.pod("server").await;
        web_server(world, &server).await;
        let ip = world
            .pod_status(&server.id)
            .await
            .unwrap()
            .network
            .unwrap_or_default()
            .ip;
        let neighbour = world.sleeper(&server, "neighbour").await;
        let local = world
            .said(&neighbour, &["wget", "-qO-", "http://127.0.0.1/"])
            .await;
        assert_eq!(local, "hello from a pod");
        let client = world.pod("client").await;
        let client = world.sleeper(&client, "client").await;
        let url = format!("http://{ip}/");
        assert_eq!(
            world.said(&client, &["wget", "-qO-", &url]).await,
            "hello from a pod"
        );
    });
}

#[test]
fn a_port_of_the_node_leads_to_the_pod_until_the_pod_stops() {
    world(async |world| {
        let mut config = world.pod_config("a");
        let mapping = PortMapping {
            host_port: 8080,
            container_port: 80,
            ..Default::default()
        };
        config.port_mappings = vec![mapping];
        let pod = world.pod_of(config).await;
        web_server(world, &pod).await;
        assert_eq!(
            net::http_get("127.0.0.1".parse().unwrap(), 8080).unwrap(),
            "hello from a pod\n"
        );
        world.stop_pod(&pod.id).await.unwrap();
        assert!(std::net::TcpStream::connect("127.0.0.1:8080").is_err());
    });
}

#[test]
fn verbose_status_names_the_network_namespace_and_the_supervisor() {
    world(async |world| {
        let pod = world.pod("a").await;
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: pod.id,
            verbose: true,
        };
        let answer = world
            .runtime()
            .pod_sandbox_status(request)
            .await
            .unwrap()
            .into_inner();
        let info: serde_json::Value =
            serde_json::from_str(answer.info.get("info").expect("no info")).unwrap();
        assert!(info["pid"].as_i64().is_some_and(|pid| pid > 0), "{info}");
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"]
            .as_array()
            .expect("no namespaces");
        let network = namespaces
            .iter()
            .find(|namespace| namespace["type"] == "network")
            .expect("no network");
        let path = network["path"].as_str().expect("no path");
        assert!(Path::new(path).exists(), "{path}");
        assert_ne!(
            std::fs::read_link(path).unwrap(),
            std::fs::read_link("/proc/self/ns/net").unwrap()
        );
    });
}

#[test]
fn a_pod_of_a_person_at_a_terminal_is_not_in_the_list() {
    world(async |world| {
        let image = world.image.clone();
        let arguments = [
            "run",
            "-d",
            "--network",
            "none",
            image.as_str(),
            "sleep",
            "1000",
        ];
        let run = world.node.floe(&arguments).unwrap().output().unwrap();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
        assert_eq!(world.pod_ids(PodSandboxFilter::default()).await.len(), 0);
        assert_eq!(
            world.container_ids(ContainerFilter::default()).await.len(),
            0
        );
    });
}
