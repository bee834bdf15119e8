//! Where the root file system is mounted, and who sees that.

use std::path::Path;
use std::thread;

use serde_json::json;

use crate::machine::{Program, nothing_is_left, overlay};
use crate::support::{Pod, eventually};

/// On a host whose mounts are shared, as systemd makes them: the test runs itself again in such a mount
/// namespace.
pub(crate) fn volumes_propagate_as_they_ask_and_the_root_does_not(program: &Program) {
    const INSIDE: &str = "FLOE_TEST_SHARED_MOUNTS";
    if std::env::var_os(INSIDE).is_some() {
        return with_shared_mounts(program);
    }
    let name = thread::current().name().unwrap().to_owned();
    let status = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "shared"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &name])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

fn with_shared_mounts(program: &Program) {
    let pod = Pod::new();
    let script = "busybox mount -t tmpfs none /both/up && echo up; \
        while ! test -e /down/sub/file; do sleep 0.01; done; echo down; sleep 1000";
    let mut container = overlay(program, &pod, "c", script);
    let volume = |name: &str, below: &str| {
        let dir = pod.dir().join(name);
        std::fs::create_dir_all(dir.join(below)).unwrap();
        dir
    };
    let (both, down) = (volume("both", "up"), volume("down", "sub"));
    let mount = |source: &Path, place: &str, kind: &str| {
        json!({"destination": place, "type": "bind", "source": source,
            "options": ["rbind", kind, "rw"]})
    };
    let mounts = container.config["mounts"].as_array_mut().unwrap();
    mounts.push(mount(&both, "/both", "rshared"));
    mounts.push(mount(&down, "/down", "rslave"));
    container.config["linux"]["rootfsPropagation"] = json!("rshared");
    let all = json!(["CAP_SYS_ADMIN"]);
    container.config["process"]["capabilities"] =
        json!({"bounding": all, "effective": all, "permitted": all});
    container.create(&pod);
    pod.client().start("c").unwrap();
    eventually("the container's mount", || {
        container.log_lines() == ["stdout F up"]
    });
    let table = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_mounted = |path: &Path| table().contains(&format!(" {} ", path.display()));
    assert!(is_mounted(&both.join("up")), "{}", table());
    assert!(
        !table().contains(&*container.dir.to_string_lossy()),
        "{}",
        table()
    );
    let sub = down.join("sub");
    let done = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&sub)
        .status();
    assert!(done.unwrap().success());
    std::fs::write(sub.join("file"), "").unwrap();
    eventually("the host's mount", || container.log_lines().len() == 2);
    pod.client().delete("c", true).unwrap();
    nothing_is_left(&pod, &container);
    // The namespace of this process ends with it, and these with that.
    for path in [both.join("up"), sub] {
        let done = std::process::Command::new("umount").arg(path).status();
        assert!(done.unwrap().success());
    }
}

pub(crate) fn the_root_is_mounted_where_only_the_program_sees_it(program: &Program) {
    let pod = Pod::new();
    let container = overlay(
        program,
        &pod,
        "c",
        "echo written > /new; cat /old; sleep 1000",
    );
    let (lower, upper) = (pod.dir().join("rootfs"), container.dir.join("upper"));
    std::fs::write(lower.join("old"), "of the image\n").unwrap();
    container.create(&pod);
    pod.client().start("c").unwrap();
    eventually("its output", || {
        container.log_lines() == ["stdout F of the image"]
    });
    assert_eq!(
        std::fs::read_to_string(upper.join("new")).unwrap(),
        "written\n"
    );
    assert!(!lower.join("new").exists());
    for process in ["self".to_owned(), pod.info.pid.to_string()] {
        let mounts = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
        assert!(
            !mounts.contains(&*container.dir.to_string_lossy()),
            "{mounts}"
        );
    }
    pod.client().delete("c", true).unwrap();
    nothing_is_left(&pod, &container);
}
