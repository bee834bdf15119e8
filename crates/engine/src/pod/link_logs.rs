//! `link-logs.crio.io`: a pod sees its own logs in one of its emptyDir volumes. The directory of its logs is
//! mounted there, read-only, from RunPodSandbox to StopPodSandbox, and each container's log has a link `ID.log`.
//!
//! The volume's directory is the pod's to write to: no link in the way to it is followed, neither when it is
//! mounted nor when it is taken back.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2, symlinkat};
use rustix::mount::MountFlags;
use rustix::mount::{
    MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_remount, move_mount, open_tree, unmount,
};

use super::PodSpec;
use crate::annotations::{self, Asked, LINK_LOGS};
use crate::error::{Error, Result};

/// Where kubelet has the volumes of pods, by their uid.
const PODS: &str = "/var/lib/kubelet/pods";
/// Below a pod's directory there.
const EMPTY_DIRS: &str = "volumes/kubernetes.io~empty-dir";

/// Whether what the annotation says can be the name of a volume, and the pod's uid that of a directory.
///
/// # Errors
/// By the annotation's name.
pub(super) fn check(asked: &Asked<'_>, spec: &PodSpec) -> Result<()> {
    let Some((key, volume)) = asked.get(LINK_LOGS) else {
        return Ok(());
    };
    if !is_label(volume) {
        return Err(annotations::wrong(
            key,
            format!("{volume:?} is no name of a volume"),
        ));
    }
    let uid = spec.uid.as_str();
    match uid.is_empty() || uid.contains('/') || uid.starts_with('.') {
        true => Err(annotations::wrong(
            key,
            format!("{uid:?} is no uid of a pod"),
        )),
        false => Ok(()),
    }
}

/// A label of DNS, which the name of a volume is.
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: char| c != '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && text.starts_with(edge)
        && text.ends_with(edge)
}

/// Mounts the pod's logs in the volume that the annotation names, if there is one.
///
/// # Errors
/// A volume that is not there, or one that a link leads to; by the annotation's name.
pub(super) fn mount(asked: &Asked<'_>, spec: &PodSpec) -> Result<()> {
    let (Some((key, volume)), Some(logs)) = (asked.get(LINK_LOGS), &spec.log_directory) else {
        return Ok(());
    };
    let volume = open_volume(&spec.uid, volume)
        .map_err(|error| annotations::wrong(key, format!("volume {volume:?}: {error}")))?;
    bind(logs, &volume).map_err(Error::io("mount in a volume", logs))
}

/// Takes the mount back, if it is there.
pub(super) fn unmount_of(spec: &PodSpec) {
    let names = [LINK_LOGS.0, LINK_LOGS.1];
    let volumes = names.iter().filter_map(|name| spec.annotations.get(*name));
    for volume in volumes.filter(|volume| is_label(volume)) {
        let Some(logs) = &spec.log_directory else {
            return;
        };
        if let Err(error) = take_back(&spec.uid, volume, logs) {
            tracing::warn!(pod = %spec.name, %volume, %error, "the pod's logs stay mounted in its volume");
        }
    }
}

fn take_back(uid: &str, volume: &str, logs: &Path) -> std::io::Result<()> {
    let (Ok(mounted), Ok(logs)) = (open_volume(uid, volume), std::fs::metadata(logs)) else {
        // Without either there is no mount.
        return Ok(());
    };
    let there = fstat(&mounted)?;
    use std::os::unix::fs::MetadataExt;
    // A volume in memory is a mount, too, and not ours.
    if (there.st_dev, there.st_ino) != (logs.dev(), logs.ino()) {
        return Ok(());
    }
    let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
    Ok(unmount(path, UnmountFlags::DETACH)?)
}

/// The directory of a volume, to which no link leads.
fn open_volume(uid: &str, volume: &str) -> std::io::Result<OwnedFd> {
    let (flags, mode) = (
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let pods = rustix::fs::open(PODS, flags, mode)?;
    let place: PathBuf = [uid, EMPTY_DIRS, volume].iter().collect();
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(pods, &place, flags, mode, beneath)?)
}

fn bind(logs: &Path, volume: &OwnedFd) -> std::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, logs, flags)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree.as_fd(), "", volume.as_fd(), "", empty)?;
    // The descriptor of a mount's root leads to it from now on.
    let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    let made = mount_remount(path.as_str(), flags, "");
    if made.is_err() {
        let _ = unmount(path.as_str(), UnmountFlags::DETACH);
    }
    Ok(made?)
}

/// Gives a container's log its link beside those of the pod's.
///
/// # Errors
/// A directory that cannot be written to.
pub(crate) fn link(asked: &Asked<'_>, spec: &PodSpec, id: &str, log: &Path) -> Result<()> {
    let (Some(_), Some(logs)) = (asked.get(LINK_LOGS), &spec.log_directory) else {
        return Ok(());
    };
    let failed = || Error::io("link a log in", logs);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(logs, flags, Mode::empty()).map_err(|e| failed()(e.into()))?;
    match symlinkat(log, dir, format!("{id}.log")) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(failed()(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_label_is_a_name_of_a_volume() {
        for good in ["logs", "a", "a-1"] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "..", "a/b", "-a", "a-", "A", "a.b", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
    }
}
