//! What is on disk may be anything: a record that cannot be read harms its own pod alone, and that pod
//! can be seen and removed. Nothing that is left keeps a name, a cgroup or a process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use crate::common::{World, world};

/// What may be in the place of a record: its name, and how it comes there.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 8] = [
    ("cut short", |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("empty", |path| std::fs::write(path, "").unwrap()),
    ("of other fields", |path| {
        std::fs::write(path, r#"{"unknown":1}"#).unwrap();
    }),
    ("of an unknown variant", |path| {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.replace("Made", "Flown").replace("running", "flying");
        std::fs::write(path, text.replace("\"pid\":", "\"pid\":\"x\",\"p\":")).unwrap();
    }),
    ("of a version that needs a newer floe", |path| {
        let text = std::fs::read_to_string(path).unwrap();
        let newer = text.replace("\"version\":1", "\"version\":99");
        assert_ne!(newer, text);
        std::fs::write(path, newer).unwrap();
    }),
    ("a directory", |path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir_all(path.join("below")).unwrap();
    }),
    ("huge", |path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(1 << 40).unwrap();
    }),
    ("a FIFO", |path| {
        std::fs::remove_file(path).unwrap();
        let status = std::process::Command::new("mkfifo").arg(path).status();
        assert!(status.unwrap().success());
    }),
];

fn pods_dir(world: &World) -> PathBuf {
    world.node.path("run/pods")
}

async fn pods(world: &World) -> Vec<cri::PodSandbox> {
    let request = cri::ListPodSandboxRequest::default();
    let listed = world.runtime().list_pod_sandbox(request).await;
    listed.unwrap().into_inner().items
}

async fn containers(world: &World) -> Vec<String> {
    let request = cri::ListContainersRequest::default();
    let listed = world.runtime().list_containers(request).await.unwrap();
    let listed = listed.into_inner().containers.into_iter();
    listed.map(|container| container.id).collect()
}

async fn stats(world: &World) -> usize {
    let request = cri::ListContainerStatsRequest::default();
    let listed = world.runtime().list_container_stats(request).await;
    listed.unwrap().into_inner().stats.len()
}

/// The names that are reserved.
fn names(world: &World) -> usize {
    std::fs::read_dir(world.node.path("run/names"))
        .unwrap()
        .count()
}

/// Cgroups below the node's own that mention an id.
fn cgroups_of(id: &str) -> Vec<String> {
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name"])
        .arg(format!("*{id}*"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// A pod of which one record is damaged, in each way: the others go on, and it goes.
async fn one_damaged(world: &World, record: fn(&Path, &str) -> PathBuf) {
    let other = world.pod("other").await;
    let its = world.config("c", &["sleep", "1000"]);
    let its = world.run(&other, its).await;
    for (number, (damage, spoil)) in DAMAGES.iter().enumerate() {
        let pod = world.pod(&format!("p{number}")).await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let pid = world.info(&id).await["pid"].as_i64().unwrap();
        spoil(&record(&pods_dir(world).join(&*pod), &id));
        let listed = pods(world).await;
        let state = |id: &str| listed.iter().find(|pod| pod.id == id).unwrap().state();
        let not_ready = cri::PodSandboxState::SandboxNotready;
        assert_eq!(state(&pod), not_ready, "{damage}");
        assert_eq!(state(&other), cri::PodSandboxState::SandboxReady);
        let listed = containers(world).await;
        assert!(listed.contains(&its) && listed.contains(&id), "{damage}");
        assert!(stats(world).await >= 1, "{damage}");
        assert!(world.pod_status(&pod).await.is_ok(), "{damage}");
        let ps = world
            .node
            .floe(&["ps", "--all", "--pod", "-q", "--no-trunc"]);
        let ps = ps.unwrap().output().unwrap();
        let ps = String::from_utf8_lossy(&ps.stdout).into_owned();
        assert!(ps.contains(&id) && ps.contains(&its), "{damage}: {ps}");
        let before = names(world);
        world.stop_pod(&pod).await.unwrap();
        let alive = Path::new(&format!("/proc/{pid}")).exists();
        assert!(!alive, "{damage}: the container runs on");
        world.remove_pod(&pod).await.unwrap();
        assert!(pods(world).await.iter().all(|listed| listed.id != *pod));
        assert!(!pods_dir(world).join(&*pod).exists(), "{damage}");
        assert_eq!(cgroups_of(&pod), Vec::<String>::new(), "{damage}");
        assert_eq!(cgroups_of(&id), Vec::<String>::new(), "{damage}");
        assert_eq!(names(world), before - 2, "{damage}: names of {} stay", *pod);
    }
    assert!(world.node.log().contains("a record cannot be read"));
    assert_eq!(
        world.exec(&its, &["echo", "1"], 5).await.unwrap().stdout,
        b"1\n"
    );
}

#[test]
fn a_pod_json_that_cannot_be_read_harms_its_own_pod_alone() {
    world(async |world| {
        one_damaged(world, |pod, _| pod.join("pod.json")).await;
    });
}

#[test]
fn a_supervisor_json_that_cannot_be_read_harms_its_own_pod_alone() {
    world(async |world| {
        one_damaged(world, |pod, _| pod.join("supervisor.json")).await;
    });
}

#[test]
fn a_container_json_that_cannot_be_read_harms_its_own_pod_alone() {
    world(async |world| {
        let record = |pod: &Path, id: &str| pod.join("containers").join(id).join("container.json");
        one_damaged(world, record).await;
    });
}

#[test]
fn a_state_json_that_cannot_be_read_harms_its_own_pod_alone() {
    world(async |world| {
        let record = |pod: &Path, id: &str| pod.join("containers").join(id).join("state.json");
        one_damaged(world, record).await;
    });
}

#[test]
fn a_damaged_pod_is_found_below_kubelets_cgroup_and_removed_after_a_restart() {
    world(async |world| {
        let mut config = world.pod_config("a");
        let parent = format!("{}/kubepods/pod1", world.node.cgroup());
        config.linux.get_or_insert_default().cgroup_parent = parent;
        let pod = world.try_pod(&config).await.unwrap();
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let dir = pods_dir(world).join(&*pod);
        for name in ["pod.json", "supervisor.json"] {
            std::fs::write(dir.join(name), "{").unwrap();
        }
        world.node.kill().unwrap();
        world.serve_again().await;
        assert_eq!(pods(world).await.len(), 1);
        world.stop_pod(&pod).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(cgroups_of(&pod), Vec::<String>::new());
        assert_eq!(cgroups_of(&id), Vec::<String>::new());
        assert_eq!(names(world), 0);
        for dir in cgroups_of("kubepods") {
            let _ = std::fs::remove_dir(format!("{dir}/pod1"));
            let _ = std::fs::remove_dir(dir);
        }
    });
}

#[test]
fn strays_among_the_records_do_not_stop_the_start_or_a_list() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let dir = pods_dir(world);
        std::fs::write(dir.join("stray"), "x").unwrap();
        std::fs::write(dir.join("0".repeat(64)), "x").unwrap();
        std::fs::create_dir(dir.join("straydir")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("1".repeat(64))).unwrap();
        std::fs::write(dir.join(&*pod).join("containers/stray"), "x").unwrap();
        std::fs::create_dir(world.node.path("run/names/dir")).unwrap();
        // The rest of a pod whose removal was killed by an engine of before.
        std::fs::create_dir_all(dir.join("2".repeat(64)).join("containers")).unwrap();
        world.node.kill().unwrap();
        world.serve_again().await;
        assert_eq!(pods(world).await.len(), 1);
        assert_eq!(containers(world).await, [id]);
        assert!(!dir.join("2".repeat(64)).exists());
        assert!(dir.join("stray").exists() && dir.join("straydir").exists());
        assert!(Path::new("/etc").exists());
    });
}

#[test]
fn a_create_that_fails_leaves_no_name() {
    world(async |world| {
        let pod = world.pod("a").await;
        let before = names(world);
        let mut config = world.config("c", &["true"]);
        config.image = Some(crate::common::image_spec("example.com/none:1"));
        assert!(world.create(&pod, config).await.is_err());
        let mut config = world.config("d", &["true"]);
        config.mounts.push(cri::Mount {
            container_path: "/x".into(),
            host_path: "/proc/nothing/below".into(),
            ..Default::default()
        });
        assert!(world.create(&pod, config).await.is_err());
        assert_eq!(names(world), before);
        let mut config = world.pod_config("b");
        config.linux.get_or_insert_default().sysctls =
            [("vm.swappiness".into(), "1".into())].into();
        assert!(world.try_pod(&config).await.is_err());
        assert_eq!(names(world), before);
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(names(world), 0);
    });
}

#[test]
fn a_cgroup_parent_that_leads_elsewhere_is_refused_before_anything_is_made() {
    world(async |world| {
        for parent in ["/a/../../b", "..", "a/..", "/", "a\nb", &"x".repeat(300)] {
            let mut config = world.pod_config("a");
            config.linux.get_or_insert_default().cgroup_parent = parent.to_owned();
            let refused = world.try_pod(&config).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
            assert_eq!(names(world), 0);
        }
        world.pod("a").await;
    });
}

/// A CNI network whose plugin does what files beside it say: `add-fails`, `del-fails`.
fn bad_network(world: &World, plugins: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let dir = plugins.display();
    let script = format!(
        "#!/bin/sh\ncat > /dev/null\necho $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS >> {dir}/calls\n\
         fail() {{ echo '{{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"no\"}}'; exit 1; }}\n\
         case $CNI_COMMAND in\n\
         ADD) test -e {dir}/add-fails && fail; echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.9.9.9/24\"}}]}}';;\n\
         DEL) test -e {dir}/del-fails && fail;;\nesac\nexit 0\n"
    );
    let plugin = plugins.join("moody");
    std::fs::write(&plugin, script).unwrap();
    std::fs::set_permissions(&plugin, PermissionsExt::from_mode(0o755)).unwrap();
    let list = r#"{"cniVersion":"1.0.0","name":"moody","plugins":[{"type":"moody"}]}"#;
    std::fs::write(world.node.path("cni/1-moody.conflist"), list).unwrap();
}

fn moody_world(test: impl AsyncFnOnce(&mut World, &Path)) {
    let plugins = tempfile::tempdir().unwrap();
    let config = format!("plugin_dirs = [\"{}\"]", plugins.path().display());
    crate::common::world_with(config, async |world| {
        bad_network(world, plugins.path());
        test(world, plugins.path()).await;
    });
}

#[test]
fn a_pod_whose_network_can_be_neither_made_nor_undone_is_listed_and_its_name_is_free_again() {
    moody_world(async |world, plugins| {
        for file in ["add-fails", "del-fails"] {
            std::fs::write(plugins.join(file), "").unwrap();
        }
        let config = world.pod_config("a");
        assert!(world.try_pod(&config).await.is_err());
        let listed = pods(world).await;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].state(), cri::PodSandboxState::SandboxNotready);
        assert_eq!(listed[0].metadata.as_ref().unwrap().name, "a");
        // Again, with the network as bad as before; then it is mended.
        assert!(world.try_pod(&config).await.is_err());
        let listed = pods(world).await;
        assert_eq!(listed.len(), 1);
        world.stop_pod(&listed[0].id).await.unwrap();
        world.remove_pod(&listed[0].id).await.unwrap();
        assert_eq!(names(world), 0);
        assert!(world.try_pod(&config).await.is_err());
        for file in ["add-fails", "del-fails"] {
            std::fs::remove_file(plugins.join(file)).unwrap();
        }
        let pod = world.try_pod(&config).await.unwrap();
        assert_eq!(pods(world).await.len(), 1);
        assert_eq!(
            world.pod_status(&pod).await.unwrap().network.unwrap().ip,
            "10.9.9.9"
        );
        // What the plugin could not take back is tried again at the next start.
        let calls = || std::fs::read_to_string(plugins.join("calls")).unwrap();
        let before = calls();
        world.node.kill().unwrap();
        world.serve_again().await;
        let after = calls();
        assert!(after[before.len()..].contains("DEL"), "{after}");
        assert!(!after[before.len()..].contains(&pod), "{after}");
    });
}

#[test]
fn a_network_that_cannot_be_taken_down_is_told_and_holds_the_pod_no_longer_than_its_namespace() {
    moody_world(async |world, plugins| {
        let stopped = world.pod("stopped").await;
        let removed = world.pod("removed").await;
        let id = world
            .run(&stopped, world.config("c", &["sleep", "1000"]))
            .await;
        let pid = world.info(&id).await["pid"].as_i64().unwrap();
        std::fs::write(plugins.join("del-fails"), "").unwrap();
        assert!(world.stop_pod(&stopped).await.is_err());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        world.stop_pod(&stopped).await.unwrap();
        world.remove_pod(&stopped).await.unwrap();
        assert!(world.remove_pod(&removed).await.is_err());
        world.remove_pod(&removed).await.unwrap();
        assert!(pods(world).await.is_empty());
        assert_eq!(names(world), 0);
        std::fs::remove_file(plugins.join("del-fails")).unwrap();
        world.node.kill().unwrap();
        world.serve_again().await;
        let calls = std::fs::read_to_string(plugins.join("calls")).unwrap();
        assert!(
            calls.matches(&format!("DEL {removed}")).count() >= 3,
            "{calls}"
        );
    });
}

#[test]
fn a_run_directory_that_is_not_on_a_tmpfs_is_warned_of() {
    world(async |world| {
        let at = rustix::fs::statfs(world.node.path("run")).unwrap().f_type;
        let warned = world.node.log().contains("is not on a tmpfs");
        assert_eq!(warned, at != 0x0102_1994, "{at:x}");
    });
}

#[test]
fn a_run_directory_that_cannot_be_written_stops_no_start_and_what_is_there_is_served() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        world.node.kill().unwrap();
        let run = world.node.path("run");
        // In this process's mount namespace, which the engine inherits.
        let bind = rustix::mount::mount_bind(&run, &run);
        bind.unwrap();
        let flags = rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount_remount(&run, flags, c"").unwrap();
        world.serve_again().await;
        assert_eq!(pods(world).await.len(), 1);
        assert_eq!(containers(world).await, [id.as_str()]);
        assert_eq!(
            world.exec(&id, &["echo", "1"], 5).await.unwrap().stdout,
            b"1\n"
        );
        assert!(world.try_pod(&world.pod_config("b")).await.is_err());
        assert!(world.remove_pod(&pod).await.is_err());
        let detach = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(&run, detach).unwrap();
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn removals_at_the_same_time_all_succeed_and_leave_nothing() {
    world(async |world| {
        for round in 0..10 {
            let pod = world.pod(&format!("p{round}")).await;
            let one = world
                .run(&pod, world.config("one", &["sleep", "1000"]))
                .await;
            let two = world
                .run(&pod, world.config("two", &["sleep", "1000"]))
                .await;
            let outcomes = tokio::join!(
                world.remove(&one),
                world.remove_pod(&pod),
                world.remove(&two),
                world.remove(&one),
                world.remove_pod(&pod),
                world.stop_pod(&pod),
            );
            for outcome in [
                outcomes.0, outcomes.1, outcomes.2, outcomes.3, outcomes.4, outcomes.5,
            ] {
                outcome.unwrap();
            }
            assert!(pods(world).await.is_empty() && containers(world).await.is_empty());
            assert_eq!(names(world), 0, "round {round}");
            assert_eq!(std::fs::read_dir(pods_dir(world)).unwrap().count(), 0);
        }
    });
}

#[test]
fn a_supervisor_whose_socket_is_gone_is_ended_with_its_pod() {
    world(async |world| {
        for (name, containers) in [("none", 0), ("one", 1)] {
            let pod = world.pod(name).await;
            for number in 0..containers {
                let config = world.config(&format!("c{number}"), &["sleep", "1000"]);
                world.run(&pod, config).await;
            }
            let dir = pods_dir(world).join(&*pod);
            std::fs::remove_file(dir.join("supervisor.sock")).unwrap();
            world.stop_pod(&pod).await.unwrap();
            world.remove_pod(&pod).await.unwrap();
            assert_eq!(cgroups_of(&pod), Vec::<String>::new());
            let supervisors = testkit::leftovers::processes(&format!("supervise {pod}"));
            assert_eq!(supervisors, []);
        }
    });
}

/// Changes a record as a newer floe would have written it.
fn change(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut record = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut record);
    let changed = path.with_extension("changed");
    std::fs::write(&changed, record.to_string()).unwrap();
    std::fs::rename(changed, path).unwrap();
}

#[test]
fn after_a_rollback_the_pods_of_the_newer_floe_go_on() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let dir = pods_dir(world).join(&*pod);
        let bundle = dir.join("containers").join(&id);
        let later = serde_json::json!({"of": [1, "2"]});
        for record in [
            dir.join("pod.json"),
            dir.join("supervisor.json"),
            bundle.join("container.json"),
            bundle.join("state.json"),
        ] {
            change(&record, |record| {
                record["later"] = later.clone();
                record["revision"] = 99.into();
            });
        }
        change(&dir.join("pod.json"), |record| {
            record["spec"]["later"] = later.clone()
        });
        world.node.kill().unwrap();
        world.serve_again().await;
        let ready = cri::PodSandboxState::SandboxReady;
        assert_eq!(world.pod_status(&pod).await.unwrap().state(), ready);
        assert_eq!(
            world.exec(&id, &["echo", "1"], 5).await.unwrap().stdout,
            b"1\n"
        );
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(cri::LinuxContainerResources {
                cpu_shares: 512,
                ..Default::default()
            }),
            ..Default::default()
        };
        let updated = world.runtime().update_container_resources(request).await;
        updated.unwrap();
        world.stop_pod(&pod).await.unwrap();
        let read = |path: &Path| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        let written = read(&dir.join("pod.json"));
        assert_eq!(written["stage"], "Stopped");
        assert_eq!(
            (&written["later"], &written["spec"]["later"]),
            (&later, &later)
        );
        assert_eq!(written["revision"], 99);
        let written = read(&bundle.join("container.json"));
        assert_eq!(
            (&written["later"], &written["revision"]),
            (&later, &99.into())
        );
        assert_eq!(written["spec"]["resources"]["cpu_shares"], 512);
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn a_container_in_a_state_that_only_a_newer_floe_knows_can_be_stopped() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let bundle = pods_dir(world).join(&*pod).join("containers").join(&id);
        change(&bundle.join("state.json"), |record| {
            record["status"] = serde_json::json!({"migrating": {"to": "x"}});
        });
        let ready = cri::PodSandboxState::SandboxReady;
        assert_eq!(world.pod_status(&pod).await.unwrap().state(), ready);
        let unknown = cri::ContainerState::ContainerUnknown;
        assert_eq!(world.status(&id).await.unwrap().state(), unknown);
        let refused = world.exec(&id, &["true"], 5).await.unwrap_err();
        assert!(refused.message().contains("newer floe"), "{refused}");
        world.stop(&id, 0).await.unwrap();
        assert_eq!(world.ended(&id).await.exit_code, 137);
        world.remove(&id).await.unwrap();
    });
}

#[test]
fn a_stage_that_only_a_newer_floe_knows_is_a_pod_that_is_not_ready_and_goes() {
    world(async |world| {
        let pod = world.pod("a").await;
        let record = pods_dir(world).join(&*pod).join("pod.json");
        change(&record, |record| record["stage"] = "Frozen".into());
        let status = world.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxNotready);
        // Unlike a damaged one it is known by its name.
        assert_eq!(status.metadata.unwrap().name, "a");
        let taken = world.try_pod(&world.pod_config("a")).await.unwrap_err();
        assert_eq!(taken.code(), tonic::Code::AlreadyExists);
        world.stop_pod(&pod).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
        world.pod("a").await;
    });
}
