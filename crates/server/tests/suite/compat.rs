//! Names that a node keeps for the tools of another runtime: what Version says, and those of cgroups.

use std::process::Command;

use crate::common::{Pod, World, world, world_with};

/// The last names of the node's cgroups that end with the id.
fn cgroups(world: &World, id: &str) -> Vec<String> {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-path"])
        .arg(format!("*{}/*-{id}", world.node.cgroup()))
        .args(["-printf", "%f\n"])
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    let mut all: Vec<String> = text.lines().map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all
}

/// Ends the engine and starts one with another beginning of names.
async fn serve_with_prefix(world: &mut World, prefix: &str) {
    let dir = world.node.path("floe.toml.d");
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!("[floe.compat]\ncgroup_prefix = '{prefix}'\n");
    std::fs::write(dir.join("10.toml"), text).unwrap();
    world.node.kill().unwrap();
    world.serve_again().await;
}

#[test]
fn version_says_what_the_node_is_to_be_called_and_cgroups_begin_as_it_says() {
    let config = "[floe.compat]\nruntime_name = 'cri-o'\ncgroup_prefix = 'node'\n";
    world_with(config.to_owned(), async |world: &mut World| {
        let mut runtime = world.runtime();
        let version = runtime.version(cri::VersionRequest::default());
        let version = version.await.unwrap().into_inner();
        assert_eq!(version.runtime_name, "cri-o");
        let pod = world.pod("a").await;
        let container = world.sleeper(&pod, "c").await;
        let names = [
            format!("node-{pod}", pod = pod.id),
            format!("pod-{}", pod.id),
        ];
        assert_eq!(cgroups(world, &pod.id), names);
        assert_eq!(cgroups(world, &container), [format!("node-{container}")]);
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(cgroups(world, &pod.id), Vec::<String>::new());
    });
}

#[test]
fn without_a_word_the_runtime_is_floe_and_cgroups_are_called_as_by_cri_o() {
    world(async |world: &mut World| {
        let mut runtime = world.runtime();
        let version = runtime.version(cri::VersionRequest::default());
        let version = version.await.unwrap().into_inner();
        assert_eq!(version.runtime_name, "floe");
        let pod = world.pod("a").await;
        let container = world.sleeper(&pod, "c").await;
        assert_eq!(cgroups(world, &container), [format!("crio-{container}")]);
    });
}

#[test]
fn pods_of_another_prefix_are_found_driven_and_removed_whole_also_when_their_record_is_damaged() {
    world(async |world: &mut World| {
        let parent = |world: &World, name: &str| format!("{}/{name}", world.node.cgroup());
        let mut pods: Vec<(Pod, String)> = Vec::new();
        for name in ["whole", "damaged"] {
            let mut config = world.pod_config(name);
            config.linux.get_or_insert_default().cgroup_parent = parent(world, name);
            let pod = world.pod_of(config).await;
            let container = world.sleeper(&pod, "c").await;
            pods.push((pod, container));
        }
        serve_with_prefix(world, "other").await;
        let ((whole, before), (damaged, _)) = (&pods[0], &pods[1]);
        assert_eq!(
            world.status(before).await.unwrap().state(),
            cri::ContainerState::ContainerRunning
        );
        // What is made in a pod from before is called as the rest of it.
        let after = world.sleeper(whole, "after").await;
        assert_eq!(cgroups(world, &after), [format!("crio-{after}")]);
        let new = world.pod("new").await;
        assert!(cgroups(world, &new.id).contains(&format!("other-{}", new.id)));
        let record = world
            .node
            .path("run/pods")
            .join(&damaged.id)
            .join("pod.json");
        std::fs::write(record, "{").unwrap();
        serve_with_prefix(world, "third").await;
        for pod in [whole, damaged, &new] {
            world.remove_pod(pod).await.unwrap();
        }
        let (all, _): (Vec<_>, Vec<_>) = pods.iter().map(|(pod, c)| (pod.id.clone(), c)).unzip();
        for id in all.iter().chain([&new.id, &after]) {
            assert_eq!(cgroups(world, id), Vec::<String>::new(), "{id}");
        }
        for name in ["whole", "damaged"] {
            let parent = parent(world, name);
            for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
                let _ = std::fs::remove_dir(hierarchy.path().join(parent.trim_start_matches('/')));
            }
        }
    });
}
