//! UpdateContainerResources: limits change while the container runs, and its status says so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::{World, world};
use tonic::Code;

const READ: &str = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null; \
                    cat cpu/cpu.cfs_quota_us cpu.max 2>/dev/null";

async fn update(
    world: &World,
    id: &str,
    linux: cri::LinuxContainerResources,
) -> Result<(), tonic::Status> {
    let request = cri::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(linux),
        ..Default::default()
    };
    let answer = world.runtime().update_container_resources(request).await;
    answer.map(drop)
}

async fn inside(world: &World, id: &str) -> Vec<String> {
    let answer = world.exec(id, &["sh", "-c", READ], 10).await.unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_is_set_changes_at_once_and_the_status_shows_all() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.config("c", &["sleep", "1000"]);
        config.linux.get_or_insert_default().resources = Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 67_108_864,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            ..Default::default()
        });
        let id = world.run(&pod, config).await;
        let change = cri::LinuxContainerResources {
            memory_limit_in_bytes: 134_217_728,
            ..Default::default()
        };
        update(world, &id, change).await.unwrap();
        let seen = inside(world, &id).await;
        assert_eq!(seen[0], "134217728");
        assert!(seen[1].starts_with("50000"), "{seen:?}");
        let status = world.status(&id).await.unwrap();
        let limits = status.resources.unwrap().linux.unwrap();
        assert_eq!(limits.memory_limit_in_bytes, 134_217_728);
        assert_eq!((limits.cpu_quota, limits.cpu_period), (50_000, 100_000));
    });
}

#[test]
fn memory_alone_rises_above_an_old_limit_of_memory_and_swap() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.config("c", &["sleep", "1000"]);
        config.linux.get_or_insert_default().resources = Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            memory_swap_limit_in_bytes: 64 << 20,
            ..Default::default()
        });
        let id = world.run(&pod, config).await;
        let change = cri::LinuxContainerResources {
            memory_limit_in_bytes: 128 << 20,
            ..Default::default()
        };
        update(world, &id, change).await.unwrap();
        assert_eq!(inside(world, &id).await[0], (128 << 20).to_string());
        let status = world.status(&id).await.unwrap();
        let limits = status.resources.unwrap().linux.unwrap();
        assert_eq!(limits.memory_limit_in_bytes, 128 << 20);
        assert_eq!(limits.memory_swap_limit_in_bytes, 128 << 20);
    });
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let negative = cri::LinuxContainerResources {
            memory_limit_in_bytes: -1,
            ..Default::default()
        };
        let error = update(world, &id, negative).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let nowhere = cri::LinuxContainerResources {
            cpuset_cpus: "4000".into(),
            ..Default::default()
        };
        let error = update(world, &id, nowhere).await.unwrap_err();
        assert!(error.message().contains("cpuset"), "{}", error.message());
        let limits = world.status(&id).await.unwrap().resources.unwrap();
        assert_eq!(limits.linux.unwrap().cpuset_cpus, "");
        let some = cri::LinuxContainerResources {
            cpu_shares: 512,
            ..Default::default()
        };
        let error = update(world, "nobody", some.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        world.stop(&id, 0).await.unwrap();
        let error = update(world, &id, some).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
    });
}

#[test]
fn a_lower_limit_takes_back_page_cache_and_what_is_in_use_is_a_precondition() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "dd if=/dev/zero of=/tmp/file bs=1048576 count=48 2>/dev/null; sync; \
                      dd if=/dev/zero of=/dev/shm/x bs=1048576 count=24 2>/dev/null; \
                      touch /tmp/done; sleep 1000";
        let mut config = world.script("c", script);
        let limits = cri::LinuxContainerResources {
            memory_limit_in_bytes: 256 << 20,
            cpu_shares: 512,
            ..Default::default()
        };
        config.linux.get_or_insert_default().resources = Some(limits);
        let id = world.run(&pod, config).await;
        let until = async || {
            let done = world.exec(&id, &["test", "-e", "/tmp/done"], 20).await;
            (done.unwrap().exit_code == 0).then_some(())
        };
        world.until("the memory is in use", until).await;
        let limit = |memory_limit_in_bytes| cri::LinuxContainerResources {
            memory_limit_in_bytes,
            cpu_shares: 256,
            ..Default::default()
        };
        update(world, &id, limit(40 << 20)).await.unwrap();
        assert_eq!(inside(world, &id).await[0], (40 << 20).to_string());
        let mut lower = limit(8 << 20);
        lower.cpu_shares = 128;
        let refused = update(world, &id, lower).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains(&(8 << 20).to_string()));
        assert_eq!(inside(world, &id).await[0], (40 << 20).to_string());
        let shares =
            "cat /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null || cat /sys/fs/cgroup/cpu.weight";
        let shares = world.said(&id, &["sh", "-c", shares]).await;
        // cpu.weight of 256 shares is 10.
        assert!(["256", "10"].contains(&shares.as_str()), "{shares}");
        let status = world.status(&id).await.unwrap();
        let shown = status.resources.unwrap().linux.unwrap();
        assert_eq!(
            (shown.memory_limit_in_bytes, shown.cpu_shares),
            (40 << 20, 256)
        );
    });
}
