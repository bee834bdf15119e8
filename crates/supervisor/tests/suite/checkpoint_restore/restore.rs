//! Containers from what criu has written: they stand as those that were created, and go on where they were.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::hold::{count, counting, goes_on, ids};
use crate::support::{Container, Pod, eventually};
use serde_json::json;
use supervisor::{Dump, Error, RestoreContainer, RootfsSource, Status};
use testkit::host::criu;

const LONG: Duration = Duration::from_secs(600);

/// Writes a container down, which runs on; where.
fn written(pod: &Pod, id: &str) -> PathBuf {
    let work = pod.dir().join(format!("written-{id}"));
    std::fs::create_dir_all(&work).unwrap();
    let request = Dump {
        id: id.into(),
        images: work.join("checkpoint"),
        work: work.clone(),
        criu: criu(),
    };
    let mut client = pod.client();
    client.freeze(&ids(&[id]), LONG).unwrap();
    client.dump(&request, LONG).unwrap();
    client.thaw().unwrap();
    work.join("checkpoint")
}

/// A container with the configuration of another.
fn like(pod: &Pod, other: &Container, id: &str) -> (Container, RestoreContainer) {
    let mut container = pod.container(id, "");
    let cgroup = container.config["linux"]["cgroupsPath"].clone();
    container.config = other.config.clone();
    container.config["linux"]["cgroupsPath"] = cgroup;
    // As the engine has it: what is mounted there only criu sees.
    let RootfsSource::Path(root) = &other.request.rootfs else {
        panic!("no path");
    };
    container.request.rootfs = RootfsSource::Path(root.clone());
    container.write_config();
    let request = RestoreContainer {
        container: container.request.clone(),
        images: PathBuf::new(),
        work: container.dir.join("work"),
        criu: criu(),
        limit: LONG,
    };
    (container, request)
}

fn is_clean(pod: &Pod, container: &Container) {
    let path = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    eventually("its cgroup is gone", || {
        runtime::cgroup::Cgroup::open(path).is_err()
    });
    assert!(!container.dir.join("state.json").exists());
    let error = pod.client().wait(&container.request.id).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn images_that_are_not_there_are_an_error_and_nothing_is_left() {
    needs_host!();
    let pod = Pod::new();
    let made = pod.container("a", "true");
    let (container, mut request) = like(&pod, &made, "b");
    request.images = pod.dir().join("nothing");
    let error = pod.client().restore(&request, None).unwrap_err();
    assert!(matches!(error, Error::Runtime { .. }), "{error:?}");
    assert!(error.to_string().contains("nothing"), "{error}");
    is_clean(&pod, &container);
    request.container.terminal = true;
    let error = pod.client().restore(&request, None).unwrap_err();
    assert!(error.to_string().contains("terminal"), "{error}");
}

#[test]
fn one_that_is_restored_waits_for_its_start_and_goes_on_where_it_was() {
    needs_criu!();
    let pod = Pod::new();
    let script = "exec </dev/null; i=0; while true; do i=$((i+1)); echo $i >/tmp/a.new; \
        mv /tmp/a.new /tmp/a; echo number $i; usleep 20000; done";
    let mut first = pod.container("a", script);
    // As the engine has it on cgroup v2.
    let namespaces = first.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "cgroup"}));
    let mounts = first.config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}),
    );
    let cgroup = "/sys/fs/cgroup";
    mounts.push(
        json!({"destination": cgroup, "type": "cgroup", "source": "cgroup", "options": ["ro"]}),
    );
    first.create(&pod);
    pod.client().start("a").unwrap();
    eventually("its first number", || count(&pod, "a") > 5);
    let images = written(&pod, "a");
    pod.client().delete("a", true).unwrap();
    for id in ["b", "c"] {
        let reached = count(&pod, "a");
        let (container, mut request) = like(&pod, &first, id);
        request.images = images.clone();
        let made = pod.client().restore(&request, None).unwrap();
        let state = container.state();
        assert_eq!((state.status, state.pid), (Status::Created, Some(made.pid)));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(count(&pod, "a"), reached, "it went on before its start");
        pod.client().start(id).unwrap();
        assert!(matches!(container.state().status, Status::Running { .. }));
        eventually("more numbers", || container.log_lines().len() > 3);
        // From the checkpoint on, and not from the beginning.
        let log = container.log_lines();
        let numbers = log.iter().filter_map(|line| line.split("number ").nth(1));
        let numbers: Vec<u64> = numbers
            .map(|number| number.trim().parse().unwrap())
            .collect();
        assert!(numbers[0] > 5, "{numbers:?}");
        let pairs = numbers.windows(2);
        assert!(pairs.into_iter().all(|pair| pair[1] == pair[0] + 1));
        goes_on(&pod, "a");
        let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", made.pid)).unwrap();
        let own = container.config["linux"]["cgroupsPath"].as_str().unwrap();
        let namespace = |pid| std::fs::read_link(format!("/proc/{pid}/ns/cgroup")).unwrap();
        assert_ne!(namespace(made.pid), namespace(pod.info.pid));
        let seen = format!("/proc/{}/root/sys/fs/cgroup/cgroup.procs", made.pid);
        let seen = std::fs::read_to_string(seen).unwrap();
        assert!(
            seen.lines().any(|line| line == made.pid.to_string()),
            "{seen}"
        );
        assert!(cgroup.lines().all(|line| line.ends_with(own)), "{cgroup}");
        pod.client().stop(id, libc::SIGKILL, LONG).unwrap();
        pod.client().delete(id, false).unwrap();
    }
    let (container, mut request) = like(&pod, &first, "d");
    request.images = images;
    pod.client().restore(&request, None).unwrap();
    // Killed before it was started: not a step of it.
    let before = count(&pod, "a");
    pod.client().delete("d", true).unwrap();
    assert_eq!(count(&pod, "a"), before);
    is_clean(&pod, &container);
}

#[test]
fn one_that_may_do_more_than_its_configuration_allows_is_not_restored() {
    needs_criu!();
    let pod = Pod::new();
    let mut first = pod.container("a", "exec </dev/null; while true; do usleep 20000; done");
    let all = json!(["CAP_CHOWN", "CAP_NET_RAW"]);
    first.config["process"]["capabilities"] =
        json!({"bounding": all, "effective": all, "permitted": all});
    first.create(&pod);
    pod.client().start("a").unwrap();
    let images = written(&pod, "a");
    for (change, words) in [
        (
            json!({"capabilities": {"bounding": ["CAP_CHOWN"]}}),
            "capabilities",
        ),
        (json!({"noNewPrivileges": true}), "privileges"),
        (json!({"user": {"uid": 7, "gid": 7}}), "root"),
    ] {
        let (mut container, mut request) = like(&pod, &first, "b");
        for (key, value) in change.as_object().unwrap() {
            container.config["process"][key] = value.clone();
        }
        container.write_config();
        request.images = images.clone();
        let error = pod.client().restore(&request, None).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        is_clean(&pod, &container);
    }
    let (container, mut request) = like(&pod, &first, "b");
    request.images = images;
    let made = pod.client().restore(&request, None).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", made.pid)).unwrap();
    assert!(status.contains("CapBnd:\t0000000000002001"), "{status}");
    drop(container);
}

#[test]
fn damaged_images_are_an_error_and_nothing_is_left() {
    needs_criu!();
    let pod = Pod::new();
    let first = counting(&pod, "a");
    let images = written(&pod, "a");
    for name in [
        "inventory.img",
        "core-1.img",
        "pages-1.img",
        "descriptors.json",
    ] {
        let path = images.join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 3]).unwrap();
        let (container, mut request) = like(&pod, &first, "b");
        request.images = images.clone();
        // Upon pages that end too soon criu reads on for ever.
        request.limit = Duration::from_secs(20);
        let error = pod.client().restore(&request, None).unwrap_err();
        assert!(matches!(error, Error::Runtime { .. }), "{name}: {error:?}");
        is_clean(&pod, &container);
        std::fs::write(&path, &bytes).unwrap();
    }
    goes_on(&pod, "a");
}

#[test]
fn a_restore_that_does_not_end_is_given_up() {
    needs_host!();
    let pod = Pod::new();
    let made = pod.container("a", "true");
    let (container, mut request) = like(&pod, &made, "b");
    let images = pod.dir().join("images");
    std::fs::create_dir(&images).unwrap();
    std::fs::write(images.join("descriptors.json"), "[]").unwrap();
    request.images = images;
    request.criu = super::hold::silent(&pod);
    request.limit = Duration::from_millis(200);
    let error = pod.client().restore(&request, None).unwrap_err();
    assert!(error.to_string().contains("in time"), "{error}");
    is_clean(&pod, &container);
    assert!(Path::new(&container.dir).exists());
}
