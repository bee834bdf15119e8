//! CRI: PodSandboxStats, ListPodSandboxStats and StreamPodSandboxStats.

use std::net::{IpAddr, TcpStream};

use crate::common::{Pod, World, labels, pod_security, refused, sorted, world, world_with};
use cri::*;
use tonic::Code;

async fn stats(world: &World, id: &str) -> Result<PodSandboxStats, tonic::Status> {
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: id.into(),
    };
    let answer = world.runtime().pod_sandbox_stats(request).await?;
    Ok(answer.into_inner().stats.unwrap())
}

async fn linux(world: &World, id: &str) -> LinuxPodSandboxStats {
    stats(world, id).await.unwrap().linux.unwrap()
}

async fn listed(world: &World, filter: PodSandboxStatsFilter) -> Vec<String> {
    let request = ListPodSandboxStatsRequest {
        filter: Some(filter),
    };
    let answer = world.runtime().list_pod_sandbox_stats(request).await;
    let all = answer.unwrap().into_inner().stats.into_iter();
    sorted(all.map(|one| one.attributes.unwrap().id))
}

fn number(value: Option<UInt64Value>) -> u64 {
    value.unwrap().value
}

/// The figures of a pod that another handler runs, and of one of its containers.
pub(crate) async fn are_told(world: &World, pod: &str, container: &str) {
    let told = linux(world, pod).await;
    assert!(number(told.memory.unwrap().working_set_bytes) > 0);
    assert!(told.network.unwrap().default_interface.is_some());
    let of = |one: &ContainerStats| one.attributes.as_ref().unwrap().id == container;
    let one = told.containers.into_iter().find(of).unwrap();
    assert!(number(one.memory.unwrap().working_set_bytes) > 0);
}

#[test]
fn a_pods_figures_hold_those_of_its_containers() {
    world(async |world| {
        let pod = world.pod("a").await;
        let ids = [
            world
                .run(&pod, world.script("busy", "while :; do :; done"))
                .await,
            world.sleeper(&pod, "idle").await,
        ];
        let ended = world.sleeper(&pod, "ended").await;
        world.stop(&ended, 0).await.unwrap();
        let first = linux(world, &pod).await;
        let second = world
            .until("CPU time was used", async || {
                // What lists of containers keep is theirs alone: the pod's rate goes on.
                let all = ListContainerStatsRequest::default();
                world.runtime().list_container_stats(all).await.unwrap();
                let now = linux(world, &pod).await;
                let used = |stats: &LinuxPodSandboxStats| {
                    number(stats.cpu.as_ref().unwrap().usage_core_nano_seconds)
                };
                (used(&now) > used(&first)).then_some(now)
            })
            .await;
        assert!(number(second.cpu.unwrap().usage_nano_cores) > 0);
        let memory = second.memory.unwrap();
        let of_containers: u64 = second
            .containers
            .iter()
            .map(|one| number(one.memory.as_ref().unwrap().rss_bytes))
            .sum();
        assert!(number(memory.rss_bytes) >= of_containers && of_containers > 0);
        assert!(number(second.process.unwrap().process_count) >= 2);
        let found = second.containers.into_iter();
        let found = sorted(found.map(|one| one.attributes.unwrap().id));
        assert_eq!(found, sorted(ids));
        let attributes = stats(world, &pod).await.unwrap().attributes.unwrap();
        assert_eq!(attributes.id, pod.id);
        assert_eq!(attributes.metadata, pod.config.metadata);
    });
}

#[test]
fn the_network_of_a_pod_is_counted_by_interface_and_the_nodes_is_not() {
    world(async |world| {
        let pod = world.pod("a").await;
        let before = linux(world, &pod).await.network.unwrap();
        assert_eq!(before.default_interface.unwrap().name, "eth0");
        let names = before.interfaces.iter().map(|one| one.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["eth0"]);
        let sent = |interfaces: Vec<NetworkInterfaceUsage>| number(interfaces[0].tx_bytes);
        let before = sent(before.interfaces);
        let status = world.pod_status(&pod).await.unwrap();
        let ip: IpAddr = status.network.unwrap().ip.parse().unwrap();
        // Nobody listens there, which the pod's own kernel says.
        TcpStream::connect((ip, 9)).unwrap_err();
        let after = sent(linux(world, &pod).await.network.unwrap().interfaces);
        assert!(after > before, "{before} {after}");
        let mut config = world.pod_config("node");
        pod_security(&mut config).namespace_options = Some(NamespaceOption {
            network: NamespaceMode::Node.into(),
            ..Default::default()
        });
        let node = world.pod_of(config).await;
        let figures = linux(world, &node).await;
        assert!(figures.network.is_none() && figures.memory.is_some());
    });
}

#[test]
fn lists_select_by_id_and_labels_and_skip_what_is_not_ready() {
    world(async |world| {
        let one = world.pod("one").await;
        let mut config = world.pod_config("two");
        config.labels = labels(&[("app", "two")]);
        let two = world.pod_of(config).await;
        let stopped = world.pod("stopped").await;
        world.stop_pod(&stopped).await.unwrap();
        let all = sorted([one.id.clone(), two.id.clone()]);
        assert_eq!(listed(world, PodSandboxStatsFilter::default()).await, all);
        let by_id = |id: &str| PodSandboxStatsFilter {
            id: id.to_owned(),
            ..Default::default()
        };
        assert_eq!(listed(world, by_id(&one)).await, [one.id.as_str()]);
        assert!(listed(world, by_id(&stopped)).await.is_empty());
        assert!(listed(world, by_id("0123456789abcdef")).await.is_empty());
        let by_label = PodSandboxStatsFilter {
            label_selector: labels(&[("app", "two")]),
            ..Default::default()
        };
        assert_eq!(listed(world, by_label).await, [two.id.as_str()]);
        let request = StreamPodSandboxStatsRequest::default();
        let stream = world.runtime().stream_pod_sandbox_stats(request).await;
        let mut stream = stream.unwrap().into_inner();
        let mut streamed = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            let some = chunk.pod_sandbox_stats.into_iter();
            streamed.extend(some.map(|one| one.attributes.unwrap().id));
        }
        assert_eq!(sorted(streamed), all);
    });
}

#[test]
fn an_unknown_pod_is_not_found_and_one_that_is_not_ready_is_refused() {
    world(async |world| {
        let unknown = "0123456789abcdef";
        refused(stats(world, unknown).await, Code::NotFound, &[unknown]);
        let empty = stats(world, "").await;
        refused(empty, Code::InvalidArgument, &["pod_sandbox_id"]);
        let pod: Pod = world.pod("a").await;
        world.stop_pod(&pod).await.unwrap();
        let stopped = stats(world, &pod).await;
        refused(stopped, Code::FailedPrecondition, &[&pod.id]);
    });
}

#[test]
fn figures_are_told_again_for_the_collection_period() {
    let config = "[crio.stats]\ncollection_period = 3600\n";
    world_with(config.to_owned(), async |world| {
        let pod = world.pod("a").await;
        let busy = world.script("busy", "while :; do :; done");
        let id = world.run(&pod, busy).await;
        let at = async || {
            let pod = linux(world, &pod).await;
            let container = pod.containers[0].cpu.as_ref().unwrap().timestamp;
            (pod.cpu.unwrap().timestamp, container)
        };
        let first = at().await;
        assert_eq!(at().await, first);
        let request = ContainerStatsRequest { container_id: id };
        let alone = world.runtime().container_stats(request).await.unwrap();
        let alone = alone.into_inner().stats.unwrap();
        assert_eq!(alone.cpu.unwrap().timestamp, first.1);
    });
}
