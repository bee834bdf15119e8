//! CRI: ContainerStats, ListContainerStats and StreamContainerStats.

use crate::common::{World, labels, refused, sorted, world};
use cri::*;
use tonic::Code;

async fn stats(world: &World, id: &str) -> Result<ContainerStats, tonic::Status> {
    let request = ContainerStatsRequest {
        container_id: id.into(),
    };
    Ok(world
        .runtime()
        .container_stats(request)
        .await?
        .into_inner()
        .stats
        .unwrap_or_default())
}

async fn listed(world: &World, filter: ContainerStatsFilter) -> Vec<String> {
    let request = ListContainerStatsRequest {
        filter: Some(filter),
    };
    let stats = world
        .runtime()
        .list_container_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats;
    let ids = stats
        .into_iter()
        .map(|one| one.attributes.unwrap_or_default().id);
    sorted(ids)
}

#[test]
fn available_memory_is_told_from_the_limit() {
    world(async |world| {
        let pod = world.pod("a").await;
        let free = world.sleeper(&pod, "free").await;
        let mut config = world.container("limited", &["sleep", "1000"]);
        let limit = 64 << 20;
        config.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: limit,
            ..Default::default()
        });
        let limited = world.run(&pod, config.clone()).await;
        let available =
            |stats: ContainerStats| stats.memory.and_then(|memory| memory.available_bytes);
        assert_eq!(available(stats(world, &free).await.unwrap()), None);
        let left = available(stats(world, &limited).await.unwrap())
            .expect("no figure")
            .value;
        assert!(left > 0 && left <= limit as u64, "{left}");
    });
}

#[test]
fn an_unknown_container_is_not_found_and_one_that_does_not_run_is_refused() {
    world(async |world| {
        refused(
            stats(world, "0123456789abcdef").await,
            Code::NotFound,
            &["0123456789abcdef"],
        );
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "sleeper").await;
        world.stop(&id, 0).await.unwrap();
        refused(stats(world, &id).await, Code::FailedPrecondition, &[&id]);
    });
}

#[test]
fn lists_select_by_id_pod_and_labels_and_skip_what_does_not_run() {
    world(async |world| {
        let (one, two) = (world.pod("one").await, world.pod("two").await);
        let a = world.sleeper(&one, "a").await;
        let mut config = world.container("b", &["sleep", "1000"]);
        config.labels = labels(&[("app", "b")]);
        let b = world.run(&two, config.clone()).await;
        let gone = world.sleeper(&two, "gone").await;
        world.stop(&gone, 0).await.unwrap();
        let all = sorted([a.clone(), b.clone()]);
        assert_eq!(listed(world, ContainerStatsFilter::default()).await, all);
        let by_id = ContainerStatsFilter {
            id: a.clone(),
            ..Default::default()
        };
        assert_eq!(listed(world, by_id).await, [a]);
        let by_pod = ContainerStatsFilter {
            pod_sandbox_id: two.id,
            ..Default::default()
        };
        assert_eq!(listed(world, by_pod).await, [b.as_str()]);
        let by_label = ContainerStatsFilter {
            label_selector: labels(&[("app", "b")]),
            ..Default::default()
        };
        assert_eq!(listed(world, by_label).await, [b]);
        let unknown = ContainerStatsFilter {
            id: "0123456789abcdef".into(),
            ..Default::default()
        };
        assert_eq!(listed(world, unknown).await.len(), 0);
        let mut stream = world
            .runtime()
            .stream_container_stats(StreamContainerStatsRequest::default())
            .await
            .unwrap()
            .into_inner();
        let mut streamed = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            assert!(!chunk.container_stats.is_empty());
            streamed.extend(
                chunk
                    .container_stats
                    .into_iter()
                    .map(|one| one.attributes.unwrap_or_default().id),
            );
        }
        assert_eq!(sorted(streamed), all);
    });
}
