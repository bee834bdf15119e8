//! Limits on v1 hierarchies, read back from the kernel, and enforced where that shows.

use super::*;
use crate::spec::{BlockIo, Cpu, HugepageLimit, Memory, Network, Pids, ThrottleDevice};

fn cpu(cpu: Cpu) -> Resources {
    Resources {
        cpu: Some(cpu),
        ..Default::default()
    }
}

fn memory(memory: Memory) -> Resources {
    Resources {
        memory: Some(memory),
        ..Default::default()
    }
}

#[test]
fn cpu_limits_are_written_in_an_order_the_kernel_takes() {
    if !on_v1(&[Controller::Cpu]) {
        return;
    }
    let scratch = Scratch::new();
    let quota = |quota, period| Cpu {
        quota: Some(quota),
        period: Some(period),
        ..Default::default()
    };
    let parent = scratch.create(&cpu(quota(50_000, 100_000)));
    let child = Cgroup::create(
        &format!("{}/child", scratch.0),
        Some(&cpu(quota(10_000, 20_000))),
    )
    .expect("create");
    // 1000/2000 is not above the parent's half, but 10000/2000, which a period alone would make, is.
    let shares = Cpu {
        shares: Some(512),
        burst: Some(500),
        ..quota(1000, 2000)
    };
    child.update(&cpu(shares)).expect("update");
    let read = |file| value(&child, Controller::Cpu, file);
    assert_eq!(
        [
            read("cpu.cfs_quota_us"),
            read("cpu.cfs_period_us"),
            read("cpu.shares")
        ],
        ["1000", "2000", "512"]
    );
    assert_eq!(read("cpu.cfs_burst_us"), "500");
    child
        .update(&cpu(Cpu {
            quota: Some(-1),
            burst: Some(0),
            ..Default::default()
        }))
        .expect("update");
    assert_eq!(read("cpu.cfs_quota_us"), "-1");
    child
        .update(&cpu(Cpu {
            idle: Some(1),
            shares: Some(100),
            ..Default::default()
        }))
        .expect("idle");
    assert_eq!(read("cpu.idle"), "1");
    child
        .update(&cpu(Cpu {
            idle: Some(0),
            shares: Some(100),
            ..Default::default()
        }))
        .expect("busy");
    assert_eq!([read("cpu.idle"), read("cpu.shares")], ["0", "100"]);
    let error = child
        .update(&cpu(quota(90_000, 100_000)))
        .expect_err("above the parent")
        .to_string();
    assert!(
        error.starts_with("set linux.resources.cpu.quota: write \"90000\" to /"),
        "{error}"
    );
    drop(parent);
}

#[test]
fn memory_and_swap_can_grow_and_shrink_in_any_order() {
    if !on_v1(&[Controller::Memory]) {
        return;
    }
    let scratch = Scratch::new();
    let cgroup = scratch.create(&Resources::default());
    let swap = cgroup
        .dir_of(Controller::Memory)
        .expect("memory")
        .has("memory.memsw.limit_in_bytes");
    let mib = |n: i64| n << 20;
    for (limit, both) in [(32, 64), (128, 256), (16, 16), (512, 513), (8, 9)] {
        let swap = swap.then_some(mib(both));
        cgroup
            .update(&memory(Memory {
                limit: Some(mib(limit)),
                swap,
                ..Default::default()
            }))
            .expect("update");
        assert_eq!(
            value(&cgroup, Controller::Memory, "memory.limit_in_bytes"),
            mib(limit).to_string()
        );
        if let Some(swap) = swap {
            assert_eq!(
                value(&cgroup, Controller::Memory, "memory.memsw.limit_in_bytes"),
                swap.to_string()
            );
        }
    }
    cgroup
        .update(&memory(Memory {
            limit: Some(-1),
            ..Default::default()
        }))
        .expect("no limit");
    assert_eq!(
        cgroup.stats().expect("stats").memory.expect("memory").limit,
        None
    );
    assert_eq!(
        cgroup
            .stats()
            .expect("stats")
            .memory
            .expect("memory")
            .swap_limit,
        None
    );
}

#[test]
fn a_memory_limit_below_what_is_used_says_how_much_that_is() {
    if !on_v1(&[Controller::Memory]) {
        return;
    }
    let scratch = Scratch::new();
    let cgroup = scratch.create(&Resources::default());
    let mut process = Process::start(
        &cgroup,
        "x=$(head -c 8M /dev/zero | tr '\\0' x); echo; read line",
    );
    std::io::Read::read_exact(process.0.stdout.as_mut().expect("stdout"), &mut [0]).expect("ready");
    let small = Memory {
        limit: Some(1 << 20),
        check_before_update: Some(true),
        ..Default::default()
    };
    match cgroup.update(&memory(small)) {
        Err(Error::MemoryInUse { usage, peak, .. }) => assert!(usage > 8 << 20 && peak >= usage),
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_has_its_other_v1_settings() {
    if !on_v1(&[Controller::Memory]) {
        return;
    }
    let scratch = Scratch::new();
    let settings = Memory {
        reservation: Some(4 << 20),
        swappiness: Some(7),
        disable_oom_killer: Some(true),
        kernel: Some(1 << 20),
        ..Default::default()
    };
    let cgroup = scratch.create(&memory(settings));
    let read = |file| value(&cgroup, Controller::Memory, file);
    assert_eq!(
        [
            read("memory.soft_limit_in_bytes"),
            read("memory.swappiness")
        ],
        ["4194304", "7"]
    );
    assert!(read("memory.oom_control").starts_with("oom_kill_disable 1"));
    let error = cgroup.update(&memory(Memory {
        swappiness: Some(101),
        ..Default::default()
    }));
    let said = error.expect_err("above 100").to_string();
    assert_eq!(
        said,
        "linux.resources.memory.swappiness is set to 101: the range is 0 to 100"
    );
}

#[test]
fn a_pids_limit_of_zero_is_one_and_a_negative_one_is_none() {
    let scratch = Scratch::new();
    let cgroup = scratch.create(&Resources::default());
    for (limit, want) in [(7, "7"), (0, "1"), (-1, "max")] {
        cgroup
            .update(&Resources {
                pids: Some(Pids { limit: Some(limit) }),
                ..Default::default()
            })
            .expect("update");
        assert_eq!(value(&cgroup, Controller::Pids, "pids.max"), want);
    }
}

#[test]
fn a_missing_controller_is_an_error_only_if_a_limit_needs_it() {
    if Hierarchies::of_host()
        .expect("cgroups")
        .home(Controller::NetCls)
        .is_some()
    {
        eprintln!("SKIP: this host has the net_cls controller");
        return;
    }
    let scratch = Scratch::new();
    let network = |class| Resources {
        network: Some(Network {
            class_id: Some(class),
            priorities: vec![],
        }),
        ..Default::default()
    };
    let error = Cgroup::create(&scratch.0, Some(&network(5)))
        .expect_err("no controller")
        .to_string();
    let want = "linux.resources.network.classID is set to 5, but the net_cls cgroup controller is not available here";
    assert_eq!(error, want);
    assert!(!scratch.left());
    scratch.create(&network(0));
}

#[test]
fn unified_settings_fail_where_v1_is_in_use() {
    if !on_v1(&[Controller::Memory]) {
        return;
    }
    let scratch = Scratch::new();
    let unified = [("memory.max".to_owned(), "1".to_owned())].into();
    let error = Cgroup::create(
        &scratch.0,
        Some(&Resources {
            unified,
            ..Default::default()
        }),
    );
    let said = error.expect_err("v1").to_string();
    assert_eq!(
        said,
        "linux.resources.unified is set to \"memory.max\": \"1\", but this is an invalid configuration for a host that uses cgroup v1"
    );
}

#[test]
fn huge_pages_are_limited_and_their_controller_enabled_on_the_way() {
    let host = Hierarchies::of_host().expect("cgroups");
    if host.home(Controller::Hugetlb).is_none()
        || !std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists()
    {
        eprintln!("SKIP: no hugetlb controller or no pages of 2 MB");
        return;
    }
    let scratch = Scratch::new();
    let limit = |page_size: &str| Resources {
        hugepage_limits: vec![HugepageLimit {
            page_size: page_size.into(),
            limit: 4 << 20,
        }],
        ..Default::default()
    };
    let cgroup = Cgroup::create(&format!("{}/a", scratch.0), Some(&limit("2MB"))).expect("create");
    let v1 = host.all[host.home(Controller::Hugetlb).expect("home")].version == Version::V1;
    let file = if v1 {
        "hugetlb.2MB.limit_in_bytes"
    } else {
        "hugetlb.2MB.max"
    };
    assert_eq!(
        value(&cgroup, Controller::Hugetlb, file),
        (4 << 20).to_string()
    );
    assert_eq!(
        cgroup.stats().expect("stats").hugetlb["2MB"],
        HugetlbStats::default()
    );
    let said = cgroup
        .update(&limit("3MB"))
        .expect_err("no such size")
        .to_string();
    assert!(
        said.ends_with("is set to 4194304 (3MB): this kernel has no pages of that size"),
        "{said}"
    );
    assert!(
        cgroup
            .update(&limit("../x"))
            .is_err_and(|error| matches!(error, Error::InvalidValue { .. }))
    );
}

#[test]
fn a_device_can_be_throttled() {
    if !on_v1(&[Controller::Io]) {
        return;
    }
    let Some(id) = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .find_map(|entry| std::fs::read_to_string(entry.path().join("dev")).ok())
    else {
        eprintln!("SKIP: no block device");
        return;
    };
    let (major, minor) = id.trim().split_once(':').expect("numbers");
    let (major, minor) = (major.parse().expect("major"), minor.parse().expect("minor"));
    let scratch = Scratch::new();
    let throttle_read_bps_device = vec![ThrottleDevice {
        major,
        minor,
        rate: 1 << 20,
    }];
    let block_io = Some(BlockIo {
        throttle_read_bps_device,
        ..Default::default()
    });
    let cgroup = scratch.create(&Resources {
        block_io,
        ..Default::default()
    });
    let want = format!("{major}:{minor} {}", 1 << 20);
    assert_eq!(
        value(&cgroup, Controller::Io, "blkio.throttle.read_bps_device"),
        want
    );
}
