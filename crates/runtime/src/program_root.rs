//! The root file system of a container that another program makes (an OCI runtime that is a program of
//! its own): mounted where that program looks for it, in a mount namespace that is the program's and ends
//! with it. The container keeps its own copy, the host never sees the mount, and there is nothing to
//! unmount, whoever is killed.
//!
//! The namespace's mounts stay peers of the host's, so that volumes propagate as their containers ask.
//! Only the mount that holds the bundle must not hand the new one on: it receives and sends nothing; where
//! a container asks for a shared volume it is made a peer again afterwards (Linux 5.15).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::mountinfo;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, mount_bind_recursive, mount_change, move_mount,
};

use crate::container::Rootfs;
use crate::error::{Error, InitFailure, Result};
use crate::init::{is_shared, mount_overlay};
use crate::labels;
use crate::spec::Spec;
use crate::sys;

/// Moves the calling process, which has one thread and is about to execute the program, into a mount
/// namespace of its own where `rootfs` is mounted on the directory that `spec.root.path` names. It may
/// change the working directory.
///
/// # Errors
/// A step that failed, as [`Error::Init`].
pub fn mount_for_program(bundle: &Path, spec: &Spec, rootfs: &Rootfs) -> Result<()> {
    let place = spec.root_in(bundle);
    if matches!(rootfs, Rootfs::Path(path) if bundle.join(path) == place) {
        return Ok(());
    }
    let holder = Holder::of(&place).map_err(Error::Init)?;
    sys::unshare_mounts().map_err(Error::io("unshare", "mount namespace"))?;
    let shares = spec.mounts.iter().any(is_shared);
    if let Some(holder) = &holder {
        holder.keep_to_itself(shares).map_err(Error::Init)?;
    }
    match rootfs {
        Rootfs::Path(path) => mount_bind_recursive(bundle.join(path), &place)
            .map_err(InitFailure::at(format_args!("mount {}", path.display()))),
        Rootfs::Overlay { lower, upper, work } => {
            let label = spec.linux.as_ref().and_then(labels::mount_label);
            mount_overlay(&place, lower, (upper, work), label).map(drop)
        }
        Rootfs::Mount(tree) => move_mount(
            tree,
            c"",
            CWD,
            &place,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(InitFailure::at("mount the rootfs")),
    }
    .map_err(Error::Init)?;
    match holder {
        Some(holder) if shares => holder.join_again().map_err(Error::Init),
        _ => Ok(()),
    }
}

/// A shared mount of the host, below which something is to be mounted that the host must not see.
struct Holder {
    place: PathBuf,
    /// The host's own.
    host: OwnedFd,
}

impl Holder {
    /// The mount that holds `path`; `None` if it is not shared with anybody.
    fn of(path: &Path) -> Result<Option<Self>, InitFailure> {
        let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
            .map_err(InitFailure::at(format_args!("stat {}", path.display())))?;
        let table = mountinfo::read()
            .map_err(|e| InitFailure::because(format!("read /proc/self/mountinfo: {e}")))?;
        let Some(place) = shared_point(&table, stat.stx_mnt_id) else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let host = rustix::fs::open(&place, flags, Mode::empty())
            .map_err(InitFailure::at(format_args!("open {}", place.display())))?;
        Ok(Some(Self { place, host }))
    }

    /// What is mounted below goes nowhere from here on; what the host mounts still comes, unless it is to
    /// be a peer again.
    fn keep_to_itself(&self, again: bool) -> Result<(), InitFailure> {
        let kind = match again {
            true => MountPropagationFlags::PRIVATE,
            false => MountPropagationFlags::DOWNSTREAM,
        };
        mount_change(&self.place, kind).map_err(InitFailure::at(format_args!(
            "set the propagation of {}",
            self.place.display()
        )))
    }

    fn join_again(&self) -> Result<(), InitFailure> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_SET_GROUP;
        move_mount(&self.host, c"", CWD, &self.place, flags).map_err(InitFailure::at(format_args!(
            "share volumes with propagation below {} (needs Linux 5.15)",
            self.place.display()
        )))
    }
}

/// Where the mount of that number is, if it is shared.
fn shared_point(table: &[u8], id: u64) -> Option<PathBuf> {
    let found = mountinfo::parse(table).find(|mount| mount.id == id)?;
    found.shared.then_some(found.point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_number_and_only_if_it_is_shared() {
        let table = b"28 27 0:25 / /run/a\\040b rw,nosuid shared:7 master:1 - tmpfs tmpfs rw\n\
            2 1 254:0 / / rw - ext4 /dev/vda rw\n";
        assert_eq!(shared_point(table, 28), Some("/run/a b".into()));
        assert_eq!(shared_point(table, 2), None);
        assert_eq!(shared_point(table, 3), None);
    }
}
