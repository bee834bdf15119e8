//! Requests that cannot be meant, from a generator with a seed: whatever is in them, they are
//! refused by the name of a field, or done; never as a fault of floe's, never by a hang.
//! `FLOE_FUZZ_ROUNDS=100` makes more of them, `FLOE_FUZZ_SEED=7` others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{World, world};
use tonic::{Code, Status};

/// Rounds of a usual run, times `FLOE_FUZZ_ROUNDS`.
const ROUNDS: u64 = 150;

/// Numbers that look like chance and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn new(salt: u64) -> Self {
        let seed = variable("FLOE_FUZZ_SEED").unwrap_or(1);
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt)
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % most
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn text(&mut self) -> String {
        let nasty = [
            "",
            " ",
            "\0",
            "a\0b",
            "\n",
            "../..",
            "..",
            "/",
            "//",
            "/etc",
            "relative/path",
            "-1",
            "0",
            "max",
            "\u{1b}[2J",
            "é",
            "\u{202e}",
            "a=b",
            "%s%n",
            "0-",
            "2MB",
            "1XB",
            "memory.high",
            "cpu.max",
            "memory",
            "x.y",
            "net.ipv4.ip_forward",
            "kernel.shmmax",
            "net/../../x",
            "/proc",
            "/proc/self/root",
            "/dev/null",
            "/sys",
            "localhost",
            "sha256:00",
            "UPPER",
            "/a/./b/",
            "/tmp/a:b",
            ".",
            "a/b/",
            "root",
            "0:0",
            "nobody",
            "CAP_KILL",
            "ALL",
            "NONSENSE",
            "127.0.0.1",
            "999.1.1.1",
            "::",
        ];
        match self.below(12) {
            0 => "x".repeat(self.of(&[64, 65, 256, 5000, 200_000])),
            1 => format!("/{}", "y/".repeat(self.of(&[10, 3000]))),
            _ => self.of(&nasty).to_owned(),
        }
    }

    fn number(&mut self) -> i64 {
        let numbers = [
            0,
            1,
            -1,
            2,
            7,
            999,
            1000,
            1001,
            65_535,
            65_536,
            1 << 20,
            1 << 31,
            i64::MAX,
            i64::MIN,
            -1000,
            -1001,
            4_294_967_295,
            4_294_967_294,
            4096,
        ];
        self.of(&numbers)
    }

    fn int(&mut self) -> i32 {
        self.number() as i32
    }

    fn texts(&mut self) -> Vec<String> {
        let count = self.of(&[0, 1, 1, 2, 3, 300]);
        (0..count).map(|_| self.text()).collect()
    }

    fn map(&mut self) -> BTreeMap<String, String> {
        match self.below(20) {
            0 => (0..10_000)
                .map(|n| (format!("net.ipv4.x{n}"), "1".into()))
                .collect(),
            _ => (0..self.below(3))
                .map(|_| (self.text(), self.text()))
                .collect(),
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn rounds() -> u64 {
    ROUNDS * variable("FLOE_FUZZ_ROUNDS").unwrap_or(1)
}

/// One to three bad parts in a pod's configuration.
fn spoil_pod(dice: &mut Dice, config: &mut cri::PodSandboxConfig) {
    for _ in 0..=dice.below(2) {
        let linux = config.linux.get_or_insert_default();
        let metadata = config.metadata.get_or_insert_default();
        match dice.below(14) {
            0 => metadata.name = dice.text(),
            1 => metadata.uid = dice.text(),
            2 => metadata.namespace = dice.text(),
            3 => config.hostname = dice.text(),
            4 => config.log_directory = dice.text(),
            5 => {
                config.dns_config = Some(cri::DnsConfig {
                    servers: dice.texts(),
                    searches: dice.texts(),
                    options: dice.texts(),
                });
            }
            6 => {
                let mapping = cri::PortMapping {
                    protocol: dice.int(),
                    container_port: dice.int(),
                    host_port: dice.int(),
                    host_ip: dice.text(),
                };
                config.port_mappings = vec![mapping; dice.below(3)];
            }
            7 => config.labels = dice.map(),
            8 => config.annotations = dice.map(),
            9 => linux.cgroup_parent = dice.text(),
            10 => linux.sysctls = dice.map(),
            11 => config.metadata = None,
            12 => {
                let security = linux.security_context.get_or_insert_default();
                security.namespace_options = Some(namespaces(dice));
            }
            _ => {
                let security = linux.security_context.get_or_insert_default();
                security.run_as_user = Some(cri::Int64Value {
                    value: dice.number(),
                });
                security.run_as_group = Some(cri::Int64Value {
                    value: dice.number(),
                });
            }
        }
    }
}

fn namespaces(dice: &mut Dice) -> cri::NamespaceOption {
    cri::NamespaceOption {
        network: dice.int() & 3,
        pid: dice.int(),
        ipc: dice.int() & 3,
        target_id: dice.text(),
        userns_options: None,
    }
}

fn limits(dice: &mut Dice) -> cri::LinuxContainerResources {
    let mut limits = cri::LinuxContainerResources::default();
    for _ in 0..=dice.below(2) {
        match dice.below(10) {
            0 => limits.cpu_period = dice.number(),
            1 => limits.cpu_quota = dice.number(),
            2 => limits.cpu_shares = dice.number(),
            // Less than a process needs would be a fault of nobody's.
            3 => limits.memory_limit_in_bytes = dice.number().max(-1) << 24 >> 1,
            4 => limits.memory_swap_limit_in_bytes = dice.number(),
            5 => limits.oom_score_adj = dice.number(),
            6 => limits.cpuset_cpus = dice.text(),
            7 => limits.cpuset_mems = dice.text(),
            8 => {
                let hugepages = cri::HugepageLimit {
                    page_size: dice.text(),
                    limit: dice.number() as u64,
                };
                limits.hugepage_limits = vec![hugepages];
            }
            _ => limits.unified = dice.map(),
        }
    }
    limits
}

/// One to three bad parts in a container's configuration.
fn spoil_container(dice: &mut Dice, dir: &str, config: &mut cri::ContainerConfig) {
    for _ in 0..=dice.below(2) {
        let linux = config.linux.get_or_insert_default();
        let security = linux.security_context.get_or_insert_default();
        match dice.below(20) {
            0 => config.metadata.get_or_insert_default().name = dice.text(),
            1 => config.image.get_or_insert_default().image = dice.text(),
            2 => config.command = dice.texts(),
            3 => config.args = dice.texts(),
            4 => config.working_dir = dice.text(),
            5 => {
                let variable = cri::KeyValue {
                    key: dice.text(),
                    value: dice.text().into_bytes(),
                };
                config.envs = vec![variable];
            }
            6 | 7 => {
                let host_path = match dice.below(2) {
                    0 => dir.to_owned(),
                    _ => dice
                        .of(&["", "relative", "\0", "/proc/self/fd/999/x"])
                        .to_owned(),
                };
                let mount = cri::Mount {
                    container_path: dice.text(),
                    host_path,
                    readonly: dice.below(2) == 0,
                    recursive_read_only: dice.below(3) == 0,
                    propagation: dice.int() & 3,
                    image_sub_path: dice.of(&["", "", "", "a"]).to_owned(),
                    mount_options: dice.of(&[vec![], vec![], vec!["noexec".into()]]),
                    ..Default::default()
                };
                config.mounts = vec![mount; 1 + dice.below(2)];
            }
            8 => {
                let device = cri::Device {
                    container_path: dice.text(),
                    host_path: dice.text(),
                    permissions: dice.text(),
                };
                config.devices = vec![device];
            }
            9 => config.labels = dice.map(),
            10 => config.annotations = dice.map(),
            11 => config.log_path = dice.text(),
            12 => linux.resources = Some(limits(dice)),
            13 => {
                security.run_as_user = Some(cri::Int64Value {
                    value: dice.number(),
                })
            }
            14 => security.run_as_username = dice.text(),
            15 => security.supplemental_groups = vec![dice.number(), dice.number()],
            16 => security.masked_paths = dice.texts(),
            17 => security.readonly_paths = dice.texts(),
            18 => {
                security.capabilities = Some(cri::Capability {
                    add_capabilities: dice.texts(),
                    drop_capabilities: dice.texts(),
                    add_ambient_capabilities: dice.texts(),
                });
            }
            _ => config.stop_signal = dice.int(),
        }
    }
}

/// Neither a fault of floe's nor a hang.
fn judge<T>(outcome: &Result<T, Status>, of: &dyn std::fmt::Debug) {
    let Err(status) = outcome else { return };
    let asked = format!("{of:?}");
    let asked: String = asked.chars().take(3000).collect();
    assert!(
        !matches!(
            status.code(),
            Code::Internal | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled
        ),
        "{status:?}\n{asked}"
    );
    assert!(!status.message().is_empty(), "{asked}");
}

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), call)
        .await
        .unwrap()
}

#[test]
fn a_bad_pod_is_refused_or_made_and_never_a_fault() {
    world(async |world: &mut World| {
        let mut dice = Dice::new(1);
        for round in 0..rounds() {
            let mut config = world.pod_config(&format!("p{round}"));
            let parent = format!("{}/fuzz", world.node.cgroup());
            config.linux.get_or_insert_default().cgroup_parent = parent;
            spoil_pod(&mut dice, &mut config);
            // A cgroup anywhere else on the host would be no test's to make.
            let linux = config.linux.get_or_insert_default();
            let parent = &mut linux.cgroup_parent;
            let refused = parent.contains(['\0', '\n', '\u{1b}'])
                || parent.split('/').any(|part| matches!(part, "." | ".."));
            if !refused {
                *parent = format!("{}/{parent}", world.node.cgroup());
            }
            let made = in_time(world.try_pod(&config)).await;
            judge(&made, &config);
            if let Ok(pod) = made {
                world.remove_pod(&pod).await.unwrap();
            }
        }
        remove_parents(world.node.cgroup());
    });
}

/// Removes the parents of cgroups that pods were given: they are kubelet's to remove.
pub(crate) fn remove_parents(cgroup: &str) {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap();
    let places = hierarchies.map(|entry| entry.unwrap().path());
    for place in places.chain(["/sys/fs/cgroup".into()]) {
        let mut all = vec![place.join(cgroup.trim_start_matches('/'))];
        let mut next = 0;
        while let Some(dir) = all.get(next).cloned() {
            next += 1;
            let Ok(below) = std::fs::read_dir(dir) else {
                continue;
            };
            all.extend(
                below
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .filter(|path| path.is_dir()),
            );
        }
        for dir in all.iter().rev() {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

#[test]
fn a_bad_container_is_refused_or_made_and_never_a_fault() {
    world(async |world: &mut World| {
        let mut dice = Dice::new(2);
        let pod = world.pod("a").await;
        let dir = world.node.path("logs").display().to_string();
        for round in 0..rounds() {
            let mut config = world.config(&format!("c{round}"), &["sleep", "1000"]);
            spoil_container(&mut dice, &dir, &mut config);
            let made = in_time(world.create(&pod, config.clone())).await;
            judge(&made, &config);
            if let Ok(id) = made {
                in_time(world.remove(&id)).await.unwrap();
            }
        }
    });
}

#[test]
fn a_bad_command_or_limit_is_refused_or_done_and_never_a_fault() {
    world(async |world: &mut World| {
        let mut dice = Dice::new(3);
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        for _ in 0..rounds() {
            let mut command = dice.texts();
            command.truncate(3);
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let outcome = in_time(world.exec(&id, &words, 20)).await;
            judge(&outcome, &command);
            let change = limits(&mut dice);
            let request = cri::UpdateContainerResourcesRequest {
                container_id: id.clone(),
                linux: Some(change.clone()),
                ..Default::default()
            };
            let mut runtime = world.runtime();
            let outcome = in_time(runtime.update_container_resources(request)).await;
            judge(&outcome, &change);
        }
    });
}

#[test]
fn ten_thousand_sysctls_and_a_cgroup_that_leaves_its_root_are_refused_by_field() {
    world(async |world: &mut World| {
        let mut config = world.pod_config("a");
        let many = (0..10_000).map(|number| (format!("net.x{number}"), "1".to_owned()));
        config.linux.get_or_insert_default().sysctls = many.collect();
        let refused = in_time(world.try_pod(&config)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(
            refused.message().starts_with("config.linux.sysctls: "),
            "{refused:?}"
        );
        for bad in ["/../x", "a/../../b", "/a\0b"] {
            let mut config = world.pod_config("a");
            config.linux.get_or_insert_default().cgroup_parent = bad.to_owned();
            let refused = world.try_pod(&config).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(refused.message().contains("cgroup_parent"), "{refused:?}");
        }
        world.pod("a").await;
    });
}
