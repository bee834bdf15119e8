//! ContainerStats and ListContainerStats: figures that mean something.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::{World, world};
use tonic::Code;

async fn stats(world: &World, id: &str) -> Result<cri::ContainerStats, tonic::Status> {
    let request = cri::ContainerStatsRequest {
        container_id: id.to_owned(),
    };
    Ok(world
        .runtime()
        .container_stats(request)
        .await?
        .into_inner()
        .stats
        .unwrap())
}

fn cpu(stats: &cri::ContainerStats) -> u64 {
    stats
        .cpu
        .as_ref()
        .unwrap()
        .usage_core_nano_seconds
        .unwrap()
        .value
}

#[test]
fn cpu_time_grows_and_has_a_rate_from_the_second_reading() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world
            .run(&pod, world.script("c", "while :; do :; done"))
            .await;
        let first = stats(world, &id).await.unwrap();
        let second = world
            .until("CPU time was used", async || {
                let now = stats(world, &id).await.unwrap();
                (cpu(&now) > cpu(&first)).then_some(now)
            })
            .await;
        assert!(second.cpu.unwrap().usage_nano_cores.unwrap().value > 0);
        let attributes = second.attributes.unwrap();
        assert_eq!(attributes.id, id);
        assert_eq!(attributes.metadata.unwrap().name, "c");
    });
}

#[test]
fn memory_and_the_writable_layer_are_counted() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "head -c 3000000 /dev/zero > /file; sleep 1000";
        let id = world.run(&pod, world.script("c", script)).await;
        let stats = world
            .until("the file is in the layer", async || {
                let now = stats(world, &id).await.unwrap();
                let used = now
                    .writable_layer
                    .as_ref()
                    .unwrap()
                    .used_bytes
                    .unwrap()
                    .value;
                (used >= 3_000_000).then_some(now)
            })
            .await;
        let memory = stats.memory.unwrap();
        assert!(memory.usage_bytes.unwrap().value > 0);
        assert!(memory.working_set_bytes.unwrap().value <= memory.usage_bytes.unwrap().value);
        assert!(memory.available_bytes.is_none(), "there is no limit");
        let layer = stats.writable_layer.unwrap();
        assert!(layer.inodes_used.unwrap().value > 0);
        let mountpoint = layer.fs_id.unwrap().mountpoint;
        assert!(std::path::Path::new(&mountpoint).is_dir(), "{mountpoint}");
    });
}

#[test]
fn a_list_has_what_runs_and_fits() {
    world(async |world| {
        let pods = [world.pod("a").await, world.pod("b").await];
        let running = world
            .run(&pods[0], world.config("c", &["sleep", "1000"]))
            .await;
        let other = world
            .run(&pods[1], world.config("c", &["sleep", "1000"]))
            .await;
        let ended = world.run(&pods[0], world.config("ended", &["true"])).await;
        world.ended(&ended).await;
        let listed = async |filter: cri::ContainerStatsFilter| {
            let request = cri::ListContainerStatsRequest {
                filter: Some(filter),
            };
            let answer = world
                .runtime()
                .list_container_stats(request)
                .await
                .unwrap()
                .into_inner();
            let ids = answer
                .stats
                .into_iter()
                .map(|stats| stats.attributes.unwrap().id);
            let mut ids: Vec<String> = ids.collect();
            ids.sort();
            ids
        };
        let mut both = vec![running.clone(), other];
        both.sort();
        assert_eq!(listed(cri::ContainerStatsFilter::default()).await, both);
        let one = cri::ContainerStatsFilter {
            pod_sandbox_id: pods[0].id.clone(),
            ..Default::default()
        };
        assert_eq!(listed(one).await, [running]);
        let nobody = cri::ContainerStatsFilter {
            id: "0".repeat(64),
            ..Default::default()
        };
        assert!(listed(nobody).await.is_empty());
    });
}

#[test]
fn an_unknown_container_is_not_found() {
    world(async |world| {
        assert_eq!(
            stats(world, &"0".repeat(64)).await.unwrap_err().code(),
            Code::NotFound
        );
    });
}
