//! A directory that tells when something in it has changed (inotify(7)).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// A directory that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    inode: (u64, u64),
    inotify: OwnedFd,
}

impl Watched {
    /// `None`: it is not there, or cannot be watched.
    pub(super) fn on(dir: &Path) -> Option<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        inotify::add_watch(&inotify, dir, CHANGES).ok()?;
        Some(Self {
            path: dir.to_owned(),
            inode: inode(dir)?,
            inotify,
        })
    }

    /// Is it this directory, and still the one that is in that place?
    pub(super) fn is_on(&self, dir: &Path) -> bool {
        self.path == dir && inode(dir) == Some(self.inode)
    }

    /// Waits until something has changed, or for so long.
    pub(super) fn wait(&self, longest: Duration) {
        let longest = Timespec::try_from(longest).ok();
        let mut files = [PollFd::from_borrowed_fd(
            self.inotify.as_fd(),
            PollFlags::IN,
        )];
        // An interruption looks again too early, which is no harm.
        if poll(&mut files, longest.as_ref()).is_ok_and(|ready| ready > 0) {
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(&self.inotify, &mut space);
            while reader.next().is_ok() {}
        }
    }
}

fn inode(dir: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(dir).ok()?;
    Some((found.dev(), found.ino()))
}
