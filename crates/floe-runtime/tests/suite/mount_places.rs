//! Places that mounts are made at: what an image may not make of them, how they are listed, and what of the
//! host stays as it is.

use std::os::unix::fs::symlink;

use crate::support::Lab;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;

/// The system's own places are what they are called (CVE-2019-19921, CVE-2023-27561, CVE-2026-41579).
#[test]
fn dev_proc_and_sys_are_no_links_of_the_image_whatever_is_mounted_there() {
    needs_host!();
    for (place, kind) in [
        ("/dev", "tmpfs"),
        ("/proc", "tmpfs"),
        ("/sys", "tmpfs"),
        ("/dev", "bind"),
        ("/sys", "bind"),
    ] {
        let mut lab = Lab::new();
        let source = lab.host_dir("host");
        let target = lab.dir.join("outside");
        std::fs::create_dir(&target).unwrap();
        let link = lab.rootfs(&place[1..]);
        std::fs::remove_dir(&link).unwrap();
        for to in ["/tmp", target.to_str().unwrap(), "/proc/1"] {
            symlink(to, &link).unwrap();
            lab.config["mounts"] = json!([]);
            lab.mount(place, kind, &source, &[]);
            lab.run().fails("must be mounted on ordinary directory");
            std::fs::remove_file(&link).unwrap();
        }
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
        lab.is_clean().unwrap();
    }
}

#[test]
fn without_a_mount_at_dev_no_device_is_made_behind_a_link_of_the_image() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
    std::fs::remove_dir(lab.rootfs("dev")).unwrap();
    symlink("/etc", lab.rootfs("dev")).unwrap();
    lab.run().fails(
        "make devices: /dev must be an ordinary directory, not a symbolic link of the image",
    );
    assert_eq!(std::fs::read_dir(lab.rootfs("etc")).unwrap().count(), 0);
}

#[test]
fn nothing_is_mounted_on_the_root_itself_and_read_only_paths_may_name_it() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    lab.mount("/", "bind", &source, &["bind"]);
    lab.run()
        .fails("mounts[4].destination: \"/\" is the root file system itself");
    symlink("/", lab.rootfs("link")).unwrap();
    for (kind, options) in [("bind", &["bind"][..]), ("tmpfs", &[])] {
        for place in ["/link", "/tmp/.."] {
            lab.config["mounts"].as_array_mut().unwrap().pop();
            lab.mount(place, kind, &source, options);
            lab.run().fails("this is the root file system itself");
        }
    }
    lab.config["mounts"].as_array_mut().unwrap().pop();
    lab.config["linux"]["maskedPaths"] = json!(["/link"]);
    lab.run().fails("mask /link: device or resource busy");
    lab.config["linux"]["maskedPaths"] = json!([]);
    lab.config["linux"]["readonlyPaths"] = json!(["/"]);
    assert_eq!(
        lab.prints("touch /made 2>/dev/null || echo read-only"),
        "read-only\n"
    );
    lab.is_clean().unwrap();
}

/// Programs read the table from its top, and kernels from 6.8 on list mounts in the order of their making.
#[test]
fn mounts_are_listed_below_the_root_in_order() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    std::fs::create_dir(format!("{source}/deep")).unwrap();
    lab.mount("/one", "bind", &source, &["rbind", "rslave"]);
    lab.mount("/one/deep", "tmpfs", "tmpfs", &["size=64k"]);
    lab.mount("/dev/two", "bind", &source, &["bind", "ro"]);
    lab.config["linux"]["maskedPaths"] = json!(["/proc/meminfo"]);
    let out = lab.prints("cat /proc/self/mountinfo");
    let mounts: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split(' ').take(6).collect())
        .collect();
    let places: Vec<&str> = mounts.iter().map(|mount| mount[4]).collect();
    assert_eq!(
        places,
        [
            "/",
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/shm",
            "/dev/two",
            "/one",
            "/one/deep",
            "/proc/meminfo"
        ]
    );
    for (index, mount) in mounts.iter().enumerate().skip(1) {
        assert!(
            mounts[..index].iter().any(|above| above[0] == mount[1]),
            "{out}"
        );
    }
    // What is unbindable is there all the same.
    lab.mount("/three", "bind", &source, &["bind", "unbindable"]);
    assert_eq!(lab.prints("cat /three/file"), "of the host\n");
}

/// What is shared with the host is unmounted here by nobody: a container is born with mounts of its own that
/// go again, and those must not take the host's with them.
#[test]
fn mounts_of_the_host_below_a_shared_one_stay_when_a_container_is_made_and_ends() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    let below = format!("{source}/below");
    mount("tmpfs", &source, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    mount_change(&source, MountPropagationFlags::SHARED).unwrap();
    std::fs::create_dir(&below).unwrap();
    mount("tmpfs", &below, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    std::fs::write(format!("{below}/file"), "of the host\n").unwrap();
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut all = Vec::new();
        for propagation in ["rshared", "rslave", "rprivate"] {
            lab.config["linux"]["rootfsPropagation"] = json!(propagation);
            lab.mount("/one", "bind", &source, &["rbind", propagation]);
            let done = lab.script("cat /one/below/file").run();
            let left = std::fs::read_to_string(format!("{below}/file")).is_ok();
            all.push((propagation, done.out, left));
            lab.config["mounts"].as_array_mut().unwrap().pop();
        }
        all
    }));
    for place in [&below, &source] {
        // The one below is gone if it went wrong.
        let _ = unmount(place.as_str(), UnmountFlags::DETACH);
    }
    for (propagation, out, left) in seen.unwrap() {
        assert_eq!(
            (out.as_str(), left),
            ("of the host\n", true),
            "{propagation}"
        );
    }
}

/// A directory that is copied up holds links to the host, and more than fits into a path.
#[test]
fn copying_up_follows_no_link() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    std::fs::create_dir_all(lab.rootfs("full/a/b")).unwrap();
    std::fs::write(lab.rootfs("full/a/b/file"), "kept").unwrap();
    symlink(format!("{source}/file"), lab.rootfs("full/link")).unwrap();
    symlink(&source, lab.rootfs("full/a/dir")).unwrap();
    lab.mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"]);
    let out = lab.prints(
        "cat /full/a/b/file; readlink /full/link; ls /full/a; cat /full/link || echo unread",
    );
    assert_eq!(out, format!("kept{source}/file\nb\ndir\nunread\n"));
}
