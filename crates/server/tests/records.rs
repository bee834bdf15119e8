//! What is on disk may be anything: a record that cannot be read harms its own pod alone, and that pod
//! can be seen and removed. Nothing that is left keeps a name, a cgroup or a process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};

use common::{World, world};

/// What may be in the place of a record, each with a name.
const DAMAGES: [(&str, fn(&Path)); 7] = [
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
        spoil(&record(&pods_dir(world).join(&pod), &id));
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
        assert!(pods(world).await.iter().all(|listed| listed.id != pod));
        assert!(!pods_dir(world).join(&pod).exists(), "{damage}");
        assert_eq!(cgroups_of(&pod), Vec::<String>::new(), "{damage}");
        assert_eq!(cgroups_of(&id), Vec::<String>::new(), "{damage}");
        assert_eq!(names(world), before - 2, "{damage}: names of {pod} stay");
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
        let dir = pods_dir(world).join(&pod);
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
        std::fs::write(dir.join(&pod).join("containers/stray"), "x").unwrap();
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
        config.image = Some(common::image_spec("example.com/none:1"));
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
