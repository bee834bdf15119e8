//! The build's own directory for what commands are shown: in memory, seen by root alone, and gone with the command. What a
//! killed build leaves is found by the name of its process.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use engine::Engine;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};

use crate::error::Failed;

/// Below the directory of the node's state.
const STAGING: &str = "builds";
const OWN: Mode = Mode::from_raw_mode(0o700);

/// A directory for mounts and secrets.
pub(crate) struct Staging {
    dir: PathBuf,
    count: usize,
}

fn parent(engine: &Engine) -> PathBuf {
    engine.config().root_table.runroot.join(STAGING)
}

impl Staging {
    pub(crate) fn new(engine: &Engine) -> std::result::Result<Staging, Failed> {
        let parent = parent(engine);
        let owner = store::Store::owner_text()?;
        let dir = parent.join(owner);
        let make = |path: &Path| match rustix::fs::mkdir(path, OWN) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e),
        };
        let shown = dir.display().to_string();
        let failed = |e: Errno| Failed::io("make", &shown)(e);
        make(&parent).and_then(|()| make(&dir)).map_err(failed)?;
        // From here on it is unmounted and removed again.
        let staging = Staging { dir, count: 0 };
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount(
            "floe",
            &staging.dir,
            "tmpfs",
            flags,
            Some(c"mode=0700,size=64m"),
        )
        .map_err(failed)?;
        mount_change(&staging.dir, MountPropagationFlags::PRIVATE).map_err(failed)?;
        Ok(staging)
    }

    /// A name that nothing has.
    pub(crate) fn next(&mut self) -> PathBuf {
        self.count += 1;
        self.dir.join(self.count.to_string())
    }

    /// Gives a mount that is nowhere a place.
    pub(crate) fn attach(&mut self, tree: BorrowedFd<'_>) -> Result<PathBuf> {
        let place = self.next();
        rustix::fs::mkdir(&place, OWN)?;
        move_mount(
            tree,
            c"",
            CWD,
            &place,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        Ok(place)
    }

    /// Mounts a file or directory by its descriptor, without what is mounted below it.
    pub(crate) fn clone_of(&mut self, file: BorrowedFd<'_>, kind: FileType) -> Result<PathBuf> {
        let place = self.next();
        match kind {
            FileType::Directory => rustix::fs::mkdir(&place, OWN)?,
            _ => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                rustix::fs::open(&place, flags, Mode::from_raw_mode(0o600))?;
            }
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(file, c"", flags)?;
        move_mount(
            &tree,
            c"",
            CWD,
            &place,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        Ok(place)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

fn remove(dir: &Path) {
    // With all that is mounted in it; its memory is given back with its last user.
    while unmount(dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
    // What stays is removed by the next build.
    let _ = std::fs::remove_dir(dir);
}

/// Removes what builds have left whose process was killed.
pub(crate) fn clear(engine: &Engine) {
    let Ok(entries) = std::fs::read_dir(parent(engine)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name
            .to_str()
            .is_some_and(|owner| engine.store().owner_lives(owner))
        {
            remove(&entry.path());
        }
    }
}
