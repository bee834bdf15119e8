//! Keys of a CRI-O node's file and annotations of pods that change what containers get, on a real node.

use std::path::{Path, PathBuf};

use cri::Mount;

use crate::common::{World, refused, world, world_with};

/// A handler for all pods, which allows these annotations.
fn allowing(annotations: &[&str]) -> String {
    format!(
        "[floe.runtime]\ndefault_runtime = 'crun'\n[crio.runtime.runtimes.crun]\nallowed_annotations = {annotations:?}\n"
    )
}

fn annotated(world: &World, name: &str, pairs: &[(&str, &str)]) -> cri::PodSandboxConfig {
    let mut config = world.pod_config(name);
    let own = pairs.iter().map(|(key, value)| (*key, *value));
    config
        .annotations
        .extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    config
}

fn mount(host: &Path, container: &str) -> Mount {
    Mount {
        container_path: container.into(),
        host_path: host.display().to_string(),
        ..Mount::default()
    }
}

const ASKED: [(&str, &str); 3] = [
    ("shm-size.crio.io", "1Mi"),
    ("io.kubernetes.cri-o.umask", "077"),
    ("devices.crio.io", "/dev/fuse:/dev/own:rw"),
];
const SHOW: &str = "df -k /dev/shm | awk 'NR == 2 {print $2}'; umask; ls /dev/own 2> /dev/null";

#[test]
fn pods_get_what_their_annotations_ask_for_where_the_handler_allows_it() {
    if !Path::new("/dev/fuse").exists() {
        eprintln!("SKIP: no /dev/fuse on this node");
        return;
    }
    let names = ASKED.map(|(name, _)| name);
    world_with(allowing(&names), async |world: &mut World| {
        let pod = world.pod_of(annotated(world, "a", &ASKED)).await;
        let (code, said) = world.ran(&pod, world.script("c", SHOW)).await;
        assert_eq!((code, said.as_str()), (0, "1024\n0077\n/dev/own"));
        for (key, value) in [
            ("shm-size.crio.io", "much"),
            ("devices.crio.io", "/dev/sda"),
            ("io.kubernetes.cri-o.umask", "9"),
        ] {
            let config = annotated(world, key, &[(key, value)]);
            let outcome = match world.try_pod(&config).await {
                Ok(pod) => world.create(&pod, world.script("c", "true")).await,
                refused => refused,
            };
            refused(outcome, tonic::Code::InvalidArgument, &[key]);
        }
    });
    world_with(allowing(&[]), async |world: &mut World| {
        let pod = world.pod_of(annotated(world, "a", &ASKED)).await;
        let (_, said) = world.ran(&pod, world.script("c", SHOW)).await;
        assert_eq!(said, "65536\n0022");
    });
}

#[test]
fn what_floe_does_not_act_on_is_named_in_the_log_and_the_pod_runs() {
    let names = ["irq-load-balancing.crio.io", "cpu-quota.crio.io"];
    world_with(allowing(&names), async |world: &mut World| {
        let asked = [("cpu-quota.crio.io/c", "disable")];
        let pod = world.pod_of(annotated(world, "tuned", &asked)).await;
        assert_eq!(world.ran(&pod, world.script("c", "true")).await.0, 0);
        let line = world.logged("has no effect", 1).await;
        assert!(line.contains("cpu-quota.crio.io/c"), "{line}");
        assert!(line.contains("tuned"), "{line}");
    });
}

#[test]
fn a_pod_has_a_user_namespace_of_ids_that_no_other_has_or_is_told_why_not() {
    let name = "io.kubernetes.cri-o.userns-mode";
    world_with(allowing(&[name]), async |world: &mut World| {
        let asked = [(name, "auto:size=4096")];
        let mut firsts = Vec::new();
        for number in 0..2 {
            let config = annotated(world, &format!("pod-{number}"), &asked);
            let pod = match world.try_pod(&config).await {
                Ok(pod) => pod,
                Err(status) => {
                    // A node without such ids, or whose kernel cannot map layers.
                    let said = status.message();
                    assert!(
                        said.contains("/etc/subuid") || said.contains("user namespace"),
                        "{said}"
                    );
                    return;
                }
            };
            let (_, said) = world
                .ran(&pod, world.script("c", "cat /proc/self/uid_map"))
                .await;
            let numbers: Vec<u32> = said
                .split_whitespace()
                .map(|n| n.parse().unwrap())
                .collect();
            assert_eq!((numbers[0], numbers[2]), (0, 4096));
            firsts.push(numbers[1]);
        }
        assert!(firsts[0].abs_diff(firsts[1]) >= 4096, "{firsts:?}");
    });
}

/// The directory of a pod's volumes, where kubelet has it; it goes with the value.
struct Volumes(PathBuf);

impl Volumes {
    fn make(uid: &str) -> Self {
        let pod = PathBuf::from("/var/lib/kubelet/pods").join(uid);
        let all = pod.join("volumes/kubernetes.io~empty-dir");
        std::fs::create_dir_all(&all).unwrap();
        Self(pod)
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.0.join("volumes/kubernetes.io~empty-dir").join(name)
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        for dir in ["/var/lib/kubelet/pods", "/var/lib/kubelet"] {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

#[test]
fn a_pod_sees_its_logs_in_a_volume_and_no_trick_leads_elsewhere() {
    world_with(
        allowing(&["link-logs.crio.io"]),
        async |world: &mut World| {
            let uid = format!("floe-test-{}", std::process::id());
            let volumes = Volumes::make(&uid);
            let of = |world: &World, name: &str, volume: &str| {
                let mut config = annotated(world, name, &[("link-logs.crio.io", volume)]);
                config.metadata.as_mut().unwrap().uid.clone_from(&uid);
                config
            };
            let logs = volumes.volume("logs");
            std::fs::create_dir(&logs).unwrap();
            let pod = world.pod_of(of(world, "a", "logs")).await;
            let said = world.script("says", "echo heard");
            let id = world.run(&pod, said).await;
            world.ended(&id).await;
            let mut reader =
                world.script("reads", &format!("cat /logs/{id}.log; touch /logs/mine"));
            reader.mounts.push(mount(&logs, "/logs"));
            let (_, seen) = world.ran(&pod, reader).await;
            assert!(seen.contains("stdout F heard"), "{seen}");
            assert!(seen.contains("Read-only"), "{seen}");
            world.stop_pod(&pod).await.unwrap();
            assert_eq!(
                std::fs::read_dir(&logs).unwrap().count(),
                0,
                "still mounted"
            );
            world.remove_pod(&pod).await.unwrap();
            let secret = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink(secret.path(), volumes.volume("link")).unwrap();
            for volume in ["link", "..", "../../../x", "missing", ""] {
                let outcome = world.try_pod(&of(world, "b", volume)).await;
                refused(
                    outcome,
                    tonic::Code::InvalidArgument,
                    &["link-logs.crio.io"],
                );
            }
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains(&secret.path().display().to_string()));
            assert!(!mounts.contains(&uid), "left behind");
        },
    );
}

#[test]
fn mounts_of_the_node_come_from_its_file_below_its_prefix_and_never_where_they_must_not_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for made in ["secrets", "root/data"] {
        std::fs::create_dir_all(path(made)).unwrap();
    }
    std::fs::write(path("secrets/key"), "secret").unwrap();
    std::fs::write(path("root/data/file"), "prefixed").unwrap();
    let line = format!("{}:/run/secrets\n", path("secrets").display());
    std::fs::write(path("mounts.conf"), line).unwrap();
    let config = format!(
        "[floe.runtime]\ndefault_mounts_file = '{}'\nbind_mount_prefix = '{}'\n\
         absent_mount_sources_to_reject = ['/etc/hostname-of-nobody']\nadditional_devices = ['/dev/zero:/dev/nothing:r']\n\
         [floe.compat]\nmake_mount_sources = true\n",
        path("mounts.conf").display(),
        path("root").display()
    );
    world_with(config, async |world: &mut World| {
        let pod = world.pod("a").await;
        let script =
            "cat /run/secrets/key /data/file; touch /run/secrets/x; head -c 1 /dev/nothing | wc -c";
        let mut config = world.script("c", script);
        config.mounts.push(mount(Path::new("/data"), "/data"));
        let (_, said) = world.ran(&pod, config).await;
        assert!(
            said.contains("Read-only") && said.ends_with("secretprefixed1"),
            "{said}"
        );
        let mut config = world.script("made", "touch /made/x");
        config.mounts.push(mount(Path::new("/new/made"), "/made"));
        world.ran(&pod, config).await;
        assert!(path("root/new/made/x").exists());
        let mut config = world.script("rejected", "true");
        let absent = "/etc/hostname-of-nobody";
        config.mounts.push(mount(Path::new(absent), "/x"));
        let outcome = world.create(&pod, config).await;
        refused(outcome, tonic::Code::InvalidArgument, &[absent]);
        assert!(!path("root").join(&absent[1..]).exists());
    });
}

#[test]
fn supervisors_are_on_their_processors_and_containers_are_not() {
    let processors = |pid: u64| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list:"));
        line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    let all = processors(u64::from(std::process::id()));
    let first = all.split([',', '-']).next().unwrap().to_owned();
    let config = format!("[floe.runtime]\ninfra_ctr_cpuset = '{first}'\n");
    world_with(config, async |world: &mut World| {
        let pod = world.pod("a").await;
        let file = world
            .node
            .path("run/pods")
            .join(&pod.id)
            .join("supervisor.json");
        let info: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(processors(info["pid"].as_u64().unwrap()), first);
        let id = world.sleeper(&pod, "c").await;
        let info = world.info(&id).await;
        assert_eq!(processors(info["pid"].as_u64().unwrap()), all);
    });
}

#[test]
fn a_bad_value_stops_the_engine_with_its_line() {
    world(async |world: &mut World| {
        for (text, line) in [
            ("[crio.runtime]\nadditional_devices = ['fuse']\n", ":2"),
            ("[crio.runtime]\n\ninfra_ctr_cpuset = 'a'\n", ":3"),
            ("[floe.compat]\ncgroup_prefix = 'a-b'\n", ":2"),
            (
                "[crio.runtime.runtimes.crun]\nexec_cpu_affinity = 'last'\n",
                ":2",
            ),
        ] {
            let file = world.node.path("bad.toml");
            std::fs::write(&file, text).unwrap();
            let mut command = world.node.floe(&["config", "validate"]).unwrap();
            let said = command.arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.contains(&format!("bad.toml{line}")), "{text}: {said}");
        }
    });
}

#[test]
fn a_container_can_see_that_it_is_one() {
    world(async |world: &mut World| {
        let pod = world.pod("a").await;
        let script = "test -f /run/.containerenv && ! echo x > /run/.containerenv";
        let mut config = world.script("c", script);
        crate::common::security(&mut config).readonly_rootfs = true;
        assert_eq!(world.ran(&pod, config).await.0, 0);
        let (code, _) = world
            .ran(&pod, world.script("d", "test -f /run/.containerenv"))
            .await;
        assert_eq!(code, 0);
    });
}

#[test]
fn the_engine_joins_the_mount_namespace_that_is_pinned_for_it() {
    world(async |world: &mut World| {
        world.node.kill().unwrap();
        let mut other = std::process::Command::new("unshare")
            .args(["--mount", "sleep", "1000"])
            .spawn()
            .unwrap();
        let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let own = namespace(std::process::id());
        world
            .until("the other namespace is there", async || {
                (namespace(other.id()) != own).then_some(())
            })
            .await;
        let serve = |path: &str| {
            let mut command = world.node.floe(&["serve"]).unwrap();
            command
                .env("KUBENSMNT", path)
                .stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        };
        let refused = serve("/no/such").wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && said.contains("/no/such"),
            "{said}"
        );
        let mut engine = serve(&format!("/proc/{}/ns/mnt", other.id()));
        let joined = world
            .until("the engine is in it", async || {
                let ended = engine.try_wait().unwrap();
                let there = namespace(engine.id()) == namespace(other.id());
                (there || ended.is_some()).then_some(there)
            })
            .await;
        for child in [&mut engine, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(joined);
        world.serve_again().await;
    });
}
