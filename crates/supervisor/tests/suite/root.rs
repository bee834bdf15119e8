//! A root file system that comes as a mount: only the container sees it, and it is gone with it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use crate::support::{Pod, code};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use supervisor::{Error, RootfsSource};

/// An overlay over the pod's root that nobody sees, and where its writes go.
fn overlay(pod: &Pod) -> (OwnedFd, std::path::PathBuf) {
    let upper = pod.dir().join("upper");
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let set = |key: &str, value: &std::path::Path| {
        fsconfig_set_string(context.as_fd(), key, value).unwrap();
    };
    for (key, name) in [
        ("lowerdir", "rootfs"),
        ("upperdir", "upper"),
        ("workdir", "work"),
    ] {
        let dir = pod.dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        set(key, &dir);
    }
    fsconfig_create(context.as_fd()).unwrap();
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = fsmount(context.as_fd(), flags, MountAttrFlags::empty()).unwrap();
    (mount, upper)
}

fn mounts_of(process: impl std::fmt::Display) -> String {
    fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap()
}

/// The overlays of a pod that a process sees. Others come and go meanwhile.
fn overlays(pod: &Pod, process: impl std::fmt::Display) -> usize {
    let (all, dir) = (mounts_of(process), pod.dir().display().to_string());
    let own = all.lines().filter(|line| line.contains(" - overlay "));
    own.filter(|line| line.contains(&dir)).count()
}

#[test]
fn a_root_that_comes_as_a_mount_is_seen_by_the_container_alone_and_gone_with_it() {
    needs_host!();
    let pod = Pod::new();
    pod.info.can("rootfs.mount").unwrap();
    let mut container = pod.container("c", "echo seen > /written; cat /proc/mounts; exit 5");
    container.request.rootfs = RootfsSource::Mount;
    container.config["mounts"] =
        serde_json::json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    container.write_config();
    let (mount, upper) = overlay(&pod);
    let mut client = pod.client();
    client
        .create_on(&container.request, Some(mount.as_fd()))
        .unwrap();
    drop(mount);
    // Made and not started: neither here nor with the supervisor is anything to be seen, or held.
    assert_eq!(
        (overlays(&pod, "self"), overlays(&pod, pod.info.pid)),
        (0, 0)
    );
    let place = format!("upperdir={}", upper.display());
    let holders = |process: i32| {
        let fds = fs::read_dir(format!("/proc/{process}/fdinfo")).unwrap();
        let ids = fds.filter_map(|fd| fs::read_to_string(fd.ok()?.path()).ok());
        ids.filter_map(|info| {
            let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
            Some(id.trim().to_owned())
        })
        .collect::<Vec<_>>()
    };
    let pid = container.state().pid.unwrap();
    let inside = mounts_of(pid);
    let line = inside.lines().find(|line| line.contains(&place)).unwrap();
    let id = line.split(' ').next().unwrap();
    assert!(
        !holders(pod.info.pid).iter().any(|held| held == id),
        "{line}"
    );
    client.start("c").unwrap();
    assert_eq!(code(&client.wait("c").unwrap()), 5);
    assert_eq!(fs::read_to_string(upper.join("written")).unwrap(), "seen\n");
    let log = container.log_lines();
    assert!(log[0].contains(" / overlay "), "{log:?}");
    assert!(!pod.dir().join("rootfs/written").exists());
    // Nobody has it any more, so another overlay may have the directory.
    client.delete("c", false).unwrap();
    drop(overlay(&pod));
}

#[test]
fn a_root_that_is_no_mount_or_does_not_come_is_refused_and_the_pod_goes_on() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container("c", "exit 0");
    container.write_config();
    let path = container.request.rootfs.clone();
    let mut client = pod.client();
    let file: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let surplus = client.create_on(&container.request, Some(file.as_fd()));
    assert!(
        surplus
            .unwrap_err()
            .to_string()
            .contains("whose root is a path")
    );
    container.request.rootfs = RootfsSource::Mount;
    let missing = client.create(&container.request).unwrap_err();
    assert!(missing.to_string().contains("0 descriptors"), "{missing}");
    let (pipe, _other) = rustix::pipe::pipe().unwrap();
    let attached: OwnedFd = fs::File::open(pod.dir()).unwrap().into();
    for wrong in [file, pipe, attached] {
        let refused = client
            .create_on(&container.request, Some(wrong.as_fd()))
            .unwrap_err();
        assert!(matches!(refused, Error::Runtime { .. }), "{refused:?}");
        assert!(refused.to_string().contains("mount rootfs on"), "{refused}");
    }
    container.request.rootfs = path;
    client.create(&container.request).unwrap();
    client.start("c").unwrap();
    assert_eq!(code(&client.wait("c").unwrap()), 0);
}
