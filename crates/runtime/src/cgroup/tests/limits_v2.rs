//! What is written to v2's files for limits in the words of v1.

use super::fake::Fake;
use super::*;
use crate::spec::{BlockIo, Cpu, HugepageLimit, Memory, Pids, Rdma, ThrottleDevice, WeightDevice};

fn cpu(cpu: Cpu) -> Resources {
    Resources {
        cpu: Some(cpu),
        ..Default::default()
    }
}

#[test]
fn shares_become_weight_and_quota_and_period_one_line() {
    let fake = Fake::v2(&[
        ("cpu.weight", ""),
        ("cpu.max", "max 100000"),
        ("cpu.max.burst", ""),
        ("cpu.idle", ""),
    ]);
    let all = Cpu {
        shares: Some(1024),
        quota: Some(50_000),
        period: Some(200_000),
        burst: Some(7),
        idle: Some(0),
        ..Default::default()
    };
    fake.cgroup.update(&cpu(all)).expect("update");
    assert_eq!(
        ["cpu.weight", "cpu.max", "cpu.max.burst", "cpu.idle"].map(|f| fake.read(f)),
        ["100", "50000 200000", "7", "0"]
    );
    fake.cgroup
        .update(&cpu(Cpu {
            quota: Some(-1),
            ..Default::default()
        }))
        .expect("update");
    assert!(fake.read("cpu.max").starts_with("max 200000"));
    let error = fake.cgroup.update(&cpu(Cpu {
        realtime_runtime: Some(5),
        ..Default::default()
    }));
    let said = error.expect_err("v2").to_string();
    let want =
        "linux.resources.cpu.realtimeRuntime is set to 5, but cgroup v2 has no real-time bandwidth";
    assert_eq!(said, want);
}

fn memory(limit: Option<i64>, swap: Option<i64>) -> Resources {
    Resources {
        memory: Some(Memory {
            limit,
            swap,
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn memory_and_swap_together_become_swap_alone() {
    for (limit, swap, want_max, want_swap) in [
        (Some(100), Some(250), "100", "150"),
        (Some(100), Some(100), "100", "0"),
        (Some(100), Some(-1), "100", "max"),
        (Some(100), None, "100", ""),
        (Some(-1), None, "max", "max"),
        (Some(-1), Some(70), "max", "70"),
        (None, Some(-1), "", "max"),
        (Some(0), Some(0), "", ""),
    ] {
        let fake = Fake::v2(&[("memory.max", ""), ("memory.swap.max", "")]);
        fake.cgroup.update(&memory(limit, swap)).expect("update");
        let got = [fake.read("memory.max"), fake.read("memory.swap.max")];
        assert_eq!(got, [want_max, want_swap], "{limit:?} {swap:?}");
    }
    let fake = Fake::v2(&[("memory.max", ""), ("memory.swap.max", "")]);
    for (limit, swap, want) in [
        (None, Some(5), "needs a limit of memory"),
        (Some(9), Some(5), "must not be below"),
    ] {
        let said = fake
            .cgroup
            .update(&memory(limit, swap))
            .expect_err("invalid")
            .to_string();
        assert!(
            said.starts_with("linux.resources.memory.swap is set to 5: ") && said.contains(want),
            "{said}"
        );
    }
}

#[test]
fn without_swap_only_a_limit_of_it_fails() {
    let fake = Fake::v2(&[("memory.max", ""), ("cgroup.controllers", "memory")]);
    fake.cgroup
        .update(&memory(Some(100), Some(100)))
        .expect("no swap is what there is");
    let said = fake
        .cgroup
        .update(&memory(Some(100), Some(200)))
        .expect_err("swap")
        .to_string();
    assert!(
        said.starts_with("set linux.resources.memory.swap: write \"100\" to /"),
        "{said}"
    );
}

#[test]
fn a_controller_that_was_not_enabled_is_named() {
    let fake = Fake::v2(&[("cgroup.controllers", "cpu io")]);
    let said = fake
        .cgroup
        .update(&memory(Some(100), None))
        .expect_err("off")
        .to_string();
    let want = "linux.resources.memory.limit is set to 100, but the memory cgroup controller is not available here";
    assert_eq!(said, want);
}

#[test]
fn settings_that_v2_does_not_have_fail_by_name() {
    let fake = Fake::v2(&[]);
    for (memory, want) in [
        (
            Memory {
                swappiness: Some(5),
                ..Default::default()
            },
            "swappiness is set to 5",
        ),
        (
            Memory {
                kernel_tcp: Some(5),
                ..Default::default()
            },
            "kernelTCP is set to 5",
        ),
        (
            Memory {
                disable_oom_killer: Some(true),
                ..Default::default()
            },
            "disableOOMKiller is set to 1",
        ),
    ] {
        let error = fake.cgroup.update(&Resources {
            memory: Some(memory),
            ..Default::default()
        });
        let said = error.expect_err(want).to_string();
        assert!(
            said.contains(want) && said.ends_with("cgroup v2 has no such setting"),
            "{said}"
        );
    }
}

#[test]
fn pids_io_hugetlb_and_rdma_have_their_v2_names() {
    let files = [
        "pids.max",
        "io.weight",
        "io.max",
        "hugetlb.2MB.max",
        "hugetlb.2MB.rsvd.max",
        "rdma.max",
        "memory.low",
    ];
    let fake = Fake::v2(&files.map(|file| (file, "")));
    let block_io = BlockIo {
        weight: Some(1000),
        throttle_write_iops_device: vec![ThrottleDevice {
            major: 8,
            minor: 16,
            rate: 30,
        }],
        ..Default::default()
    };
    fake.cgroup
        .update(&Resources {
            pids: Some(Pids { limit: Some(-1) }),
            block_io: Some(block_io),
            hugepage_limits: vec![HugepageLimit {
                page_size: "2MB".into(),
                limit: 2 << 20,
            }],
            rdma: [(
                "mlx5_1".into(),
                Rdma {
                    hca_handles: Some(3),
                    hca_objects: Some(10),
                },
            )]
            .into(),
            memory: Some(Memory {
                reservation: Some(77),
                ..Default::default()
            }),
            ..Default::default()
        })
        .expect("update");
    let want = [
        "max",
        "10000",
        "8:16 wiops=30",
        "2097152",
        "2097152",
        "mlx5_1 hca_handle=3 hca_object=10",
        "77",
    ];
    assert_eq!(files.map(|file| fake.read(file)), want);
    let fake = Fake::v2(&[("io.bfq.weight", "")]);
    let weight_device = vec![WeightDevice {
        major: 8,
        minor: 0,
        weight: Some(300),
        leaf_weight: None,
    }];
    let block_io = Some(BlockIo {
        weight_device,
        ..Default::default()
    });
    fake.cgroup
        .update(&Resources {
            block_io,
            ..Default::default()
        })
        .expect("update");
    assert_eq!(fake.read("io.bfq.weight"), "8:0 300");
}

#[test]
fn unified_writes_files_by_name_after_everything_else() {
    let fake = Fake::v2(&[("memory.max", ""), ("memory.high", "")]);
    let unified = |name: &str, value: &str| Resources {
        unified: [(name.to_owned(), value.to_owned())].into(),
        ..memory(Some(100), None)
    };
    fake.cgroup
        .update(&unified("memory.max", "200"))
        .expect("update");
    assert_eq!(fake.read("memory.max"), "200");
    for (name, want) in [
        ("../x", "name of a control file"),
        ("memory.none", "no such file"),
    ] {
        let said = fake
            .cgroup
            .update(&unified(name, "1"))
            .expect_err(name)
            .to_string();
        assert!(said.contains(want) && said.contains(name), "{said}");
    }
}
