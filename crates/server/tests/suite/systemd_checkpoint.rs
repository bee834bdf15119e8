//! Checkpoints by criu, and pods made from them. Needs criu and systemd, as `systemd.rs` says; the pods are on a
//! point-to-point network, for which that machine has what it takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::NodeOptions;
use tonic::{Code, Status};

use crate::checkpoint::{RESTORES, checkpoint, checkpoint_pod, directory, is_tidy, names};
use crate::common::{World, refused, secured, world_on};

const NETWORK: &str = r#"{"cniVersion": "1.0.0", "name": "p2p", "plugins": [
    {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.201.0.0/16"}}]}"#;

fn node(test: impl AsyncFnOnce(&mut World)) {
    testkit::needs_criu!();
    if !Path::new("/run/systemd/system").is_dir() {
        eprintln!("SKIP: systemd is not this host's init");
        return;
    }
    let options = NodeOptions {
        systemd: true,
        config: RESTORES.to_owned(),
        ..NodeOptions::default()
    };
    world_on(
        |_| options,
        async |world| {
            std::fs::write(world.node.path("cni/10-p2p.conflist"), NETWORK).unwrap();
            test(world).await;
        },
    );
}

/// Counts in a file and says each number; it has removed a file of its image and written another.
const COUNTING: &str = "exec </dev/null; rm -f /www/index.html; echo own >/tmp/own; echo shm >/dev/shm/NAME; \
    i=0; while true; do i=$((i+1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; echo number $i; usleep 20000; done";

fn counting(world: &World, name: &str) -> cri::ContainerConfig {
    let script = COUNTING.replace("NAME", name);
    world.container(name, &["sh", "-c", &script])
}

async fn count(world: &World, id: &str) -> u64 {
    let said = world.exec(id, &["cat", "/tmp/count"], 60).await.unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.trim().parse().unwrap_or(0)
}

async fn goes_on(world: &World, id: &str) -> u64 {
    let from = count(world, id).await;
    world
        .until("more numbers", async || {
            (count(world, id).await > from + 2).then_some(())
        })
        .await;
    from
}

/// What it has said it counted, in its log.
fn numbers(world: &World, pod: &str, name: &str) -> Vec<u64> {
    let path = world
        .node
        .path("logs")
        .join(pod)
        .join(format!("{name}.log"));
    let text = std::fs::read_to_string(path).unwrap();
    let numbers = text.lines().filter_map(|line| line.split("number ").nth(1));
    numbers
        .map(|number| number.trim().parse().unwrap())
        .collect()
}

fn tar(archive: &Path, arguments: &[&str]) -> String {
    let mut tar = Command::new("tar");
    let output = tar.arg("-f").arg(archive).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_container_is_written_to_an_archive_as_checkpointctl_reads_it_and_runs_on() {
    node(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, counting(world, "c")).await;
        goes_on(world, &id).await;
        let at = world.node.path("c.tar");
        checkpoint(world, &id, &at).await.unwrap();
        goes_on(world, &id).await;
        let listed = tar(&at, &["-t"]);
        for name in [
            "config.dump",
            "spec.dump",
            "dump.log",
            "stats-dump",
            "rootfs-diff.tar",
            "deleted.files",
            "bind.mounts",
            "checkpoint/inventory.img",
            "checkpoint/descriptors.json",
        ] {
            assert!(
                listed
                    .lines()
                    .any(|line| line == format!("./{name}") || line == name),
                "{name} in {listed}"
            );
        }
        let json = |name: &str| -> serde_json::Value {
            let text = tar(&at, &["-xO", name]);
            serde_json::from_str(&text).unwrap()
        };
        let config = json("config.dump");
        assert_eq!(
            (&config["id"], &config["name"]),
            (&id.clone().into(), &"c".into())
        );
        assert_eq!(config["rootfsImageRef"], world.image_id);
        assert!(json("spec.dump")["process"]["args"].is_array());
        let binds = json("bind.mounts");
        assert!(!binds.as_array().unwrap().is_empty());
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&at).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let difference = world.node.path("rootfs-diff.tar");
        std::fs::write(
            &difference,
            Command::new("tar")
                .arg("-xOf")
                .arg(&at)
                .arg("rootfs-diff.tar")
                .output()
                .unwrap()
                .stdout,
        )
        .unwrap();
        assert!(tar(&difference, &["-t"]).contains("tmp/own"));
        is_tidy(world);
        refused(
            checkpoint(world, &id, &at).await,
            Code::InvalidArgument,
            &["exists already"],
        );
    });
}

async fn restore(
    world: &World,
    from: &Path,
    pod: &str,
    containers: Vec<cri::ContainerConfig>,
) -> Result<(String, BTreeMap<String, String>), Status> {
    let request = cri::RestorePodRequest {
        checkpoint_path: from.display().to_string(),
        config: Some(world.pod_config(pod)),
        container_configs: containers,
        ..Default::default()
    };
    let restored = world.runtime().restore_pod(request).await?.into_inner();
    let made = restored.restored_containers.into_iter();
    let made = made.map(|one| (one.name, one.container_id)).collect();
    Ok((restored.pod_sandbox_id, made))
}

/// All that is in a checkpoint, by name, with its content's digest and time.
fn content(directory: &Path) -> BTreeMap<String, String> {
    let find = "find . -type f -exec sha256sum {} + -exec stat -c '%n %Y %s' {} +";
    let mut shell = Command::new("sh");
    let output = shell
        .arg("-c")
        .arg(find)
        .current_dir(directory)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| (line.to_owned(), String::new()))
        .collect()
}

#[test]
fn a_pod_goes_on_in_another_as_often_as_it_is_restored() {
    node(async |world| {
        let pod = world.pod("a").await;
        let (c, d) = (
            world.run(&pod, counting(world, "c")).await,
            world.run(&pod, counting(world, "d")).await,
        );
        for id in [&c, &d] {
            goes_on(world, id).await;
        }
        let at = directory(world, "checkpoint");
        checkpoint_pod(world, &pod, &[&c, &d], &at).await.unwrap();
        let reached = [goes_on(world, &c).await, goes_on(world, &d).await];
        assert_eq!(names(&at), ["containers", "manifest.json", "shm.tar"]);
        world.stop_pod(&pod).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
        let before = content(&at);
        let again = |world: &World| vec![counting(world, "d"), counting(world, "c")];
        let both = tokio::join!(
            restore(world, &at, "b", again(world)),
            restore(world, &at, "e", again(world)),
        );
        for (name, restored) in [("b", both.0), ("e", both.1)] {
            let (restored, made) = restored.unwrap();
            assert_eq!(made.keys().collect::<Vec<_>>(), ["c", "d"]);
            for (container, reached) in [("c", reached[0]), ("d", reached[1])] {
                let id = &made[container];
                let status = world.status(id).await.unwrap();
                assert_eq!(status.state(), cri::ContainerState::ContainerCreated);
                assert_eq!(numbers(world, name, container), Vec::<u64>::new());
                world.start(id).await.unwrap();
                goes_on(world, id).await;
                let said = numbers(world, name, container);
                assert!(
                    said[0] > 2 && said[0] <= reached + 2,
                    "{said:?} after {reached}"
                );
                assert!(
                    said.windows(2).all(|pair| pair[1] == pair[0] + 1),
                    "{said:?}"
                );
                assert_eq!(world.said(id, &["cat", "/tmp/own"]).await, "own");
                assert_eq!(world.said(id, &["ls", "/dev/shm"]).await, "c\nd");
                let gone = world
                    .exec(id, &["ls", "/www/index.html"], 60)
                    .await
                    .unwrap();
                assert_ne!(gone.exit_code, 0);
                assert_eq!(world.said(id, &["hostname"]).await, name);
            }
            world.stop(&made["c"], 1).await.unwrap();
            assert_eq!(world.ended(&made["c"]).await.exit_code, 137);
            world.stop_pod(&restored).await.unwrap();
            world.remove_pod(&restored).await.unwrap();
        }
        assert_eq!(content(&at), before);
    });
}

#[test]
fn a_restore_that_fails_leaves_no_pod_and_no_mark_on_the_checkpoint() {
    node(async |world| {
        let pod = world.pod("a").await;
        let c = world.run(&pod, counting(world, "c")).await;
        goes_on(world, &c).await;
        let at = directory(world, "checkpoint");
        checkpoint_pod(world, &pod, &[&c], &at).await.unwrap();
        let before = content(&at);
        let refuse = async |configs: Vec<cri::ContainerConfig>, words: &[&str]| {
            let told = restore(world, &at, "b", configs).await;
            refused(told, Code::InvalidArgument, words);
        };
        refuse(Vec::new(), &["container_configs", "there are 0 and 1"]).await;
        refuse(vec![counting(world, "other")], &["no container", "other"]).await;
        let privileged = secured(counting(world, "c"), |security| {
            security.readonly_rootfs = true
        });
        refuse(vec![privileged], &["readonly_rootfs", "checkpoint"]).await;
        let caps = secured(counting(world, "c"), |security| {
            let caps = security.capabilities.get_or_insert_default();
            caps.drop_capabilities = vec!["KILL".into()];
        });
        refuse(vec![caps], &["capabilities"]).await;
        // criu's own word, when its images are no images.
        let image = at.join("containers/0/checkpoint/inventory.img");
        let whole = std::fs::read(&image).unwrap();
        std::fs::write(&image, "x").unwrap();
        let told = restore(world, &at, "b", vec![counting(world, "c")]).await;
        refused(told, Code::Internal, &["restore", "criu"]);
        std::fs::write(&image, whole).unwrap();
        let hostile = at.join("containers/0/rootfs-diff.tar");
        let whole = std::fs::read(&hostile).unwrap();
        let mut tar = Command::new("tar");
        let made = tar
            .args(["-P", "-cf"])
            .arg(&hostile)
            .args(["--transform", "s,^.*$,../../escaped,"]);
        assert!(made.arg("/etc/passwd").status().unwrap().success());
        let told = restore(world, &at, "b", vec![counting(world, "c")]).await;
        refused(told, Code::Internal, &["escaped"]);
        std::fs::write(&hostile, whole).unwrap();
        let pods = world.pod_ids(cri::PodSandboxFilter::default()).await;
        assert_eq!(pods, [pod.to_string()]);
        let digests = |all: BTreeMap<String, String>| -> Vec<String> {
            all.into_keys().filter(|line| line.contains("  ")).collect()
        };
        assert_eq!(digests(content(&at)), digests(before));
        goes_on(world, &c).await;
    });
}

#[test]
fn a_pod_runs_on_when_the_engine_dies_or_the_client_gives_up_over_its_checkpoint() {
    node(async |world| {
        let pod = world.pod("a").await;
        // So much memory that criu is at it for a while.
        let script = "exec </dev/null; x=0123456789abcdef; n=0; while [ $n -lt 22 ]; do x=$x$x; n=$((n+1)); done; \
            i=0; while true; do i=$((i+1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; usleep 20000; done";
        let c = world
            .run(&pod, world.container("c", &["sh", "-c", script]))
            .await;
        let d = world.run(&pod, counting(world, "d")).await;
        goes_on(world, &c).await;
        let at = directory(world, "first");
        let mut request = tonic::Request::new(cri::CheckpointPodRequest {
            pod_sandbox_id: pod.to_string(),
            output_path: at.display().to_string(),
            container_ids: vec![c.clone(), d.clone()],
            options: Default::default(),
        });
        request.set_timeout(Duration::from_millis(700));
        let told = world.runtime().checkpoint_pod(request).await;
        // Whose clock was first.
        let code = told.unwrap_err().code();
        assert!(
            matches!(code, Code::DeadlineExceeded | Code::Cancelled),
            "{code}"
        );
        for id in [&c, &d] {
            goes_on(world, id).await;
        }
        world
            .until("nothing is left in the directory", async || {
                names(&at).is_empty().then_some(())
            })
            .await;
        let at = directory(world, "second");
        let clients = world.runtime();
        let request = cri::CheckpointPodRequest {
            pod_sandbox_id: pod.to_string(),
            output_path: at.display().to_string(),
            container_ids: vec![c.clone(), d.clone()],
            options: Default::default(),
        };
        let asked = tokio::spawn(async move {
            let mut clients = clients;
            clients.checkpoint_pod(request).await
        });
        world
            .until("criu writes", async || {
                let images = at.join("containers/0/checkpoint");
                images.join("pages-1.img").exists().then_some(())
            })
            .await;
        world.node.kill().unwrap();
        assert!(asked.await.unwrap().is_err());
        world.serve_again().await;
        for id in [&c, &d] {
            goes_on(world, id).await;
        }
        assert!(!at.join("manifest.json").exists());
    });
}
