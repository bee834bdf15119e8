//! Archives and indexes that the kernel holds to what they were when they were complete (fs-verity, Linux 5.4): nobody
//! writes them any more, and what a disk changes in them is an error of whoever reads it, never other data.
//!
//! Only some file systems can, where they were made for it (ext4 with `-O verity`, f2fs, btrfs): elsewhere files stay
//! as they are. Must never take a file for sealed whose digest is not the one that is written down.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, Result as SysResult};
use serde::{Deserialize, Serialize};

use super::indexed::{INDEX, TAR};
use crate::sys;

/// How often it is tried while somebody has a file open for writing: a child that was just forked has until it
/// executes its program.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// What the files of a layer are held to: the digests of fs-verity, as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    tar: String,
    index: String,
}

/// Whether the file system of a store can, once that was tried.
#[derive(Debug, Default)]
pub(super) struct Ability(OnceLock<bool>);

impl Ability {
    /// Seals the files in `dir`, which nobody writes any more; `None` where the file system cannot.
    pub(super) fn seal(&self, dir: BorrowedFd<'_>) -> SysResult<Option<Seal>> {
        if self.0.get() == Some(&false) {
            return Ok(None);
        }
        match seal(dir) {
            Ok(seal) => {
                self.0.get_or_init(|| true);
                Ok(Some(seal))
            }
            Err(errno) if is_lacking(errno) => {
                self.0.get_or_init(|| false);
                Ok(None)
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Whether a file system, or the kernel, has nothing of this: no feature of it, no such call, or not with blocks of
/// this size.
fn is_lacking(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS | Errno::NOPKG
    )
}

fn seal(dir: BorrowedFd<'_>) -> SysResult<Seal> {
    for name in [TAR, INDEX] {
        let file = open(dir, name)?;
        let mut tries = 0;
        loop {
            match sys::enable_verity(file.as_fd()) {
                Err(Errno::TXTBSY) if tries < TRIES => std::thread::sleep(PAUSE),
                Ok(()) | Err(Errno::EXIST) => break,
                Err(errno) => return Err(errno),
            }
            tries += 1;
        }
    }
    measured(dir)?.ok_or(Errno::NODATA)
}

/// What the files in `dir` are held to now; `None` where one is held to nothing.
pub(super) fn measured(dir: BorrowedFd<'_>) -> SysResult<Option<Seal>> {
    let measure = |name| match sys::measure_verity(open(dir, name)?.as_fd()) {
        Ok(digest) => Ok(Some(hex(&digest))),
        Err(Errno::NODATA) => Ok(None),
        Err(errno) if is_lacking(errno) => Ok(None),
        Err(errno) => Err(errno),
    };
    let seals = measure(TAR)?.zip(measure(INDEX)?);
    Ok(seals.map(|(tar, index)| Seal { tar, index }))
}

fn open(dir: BorrowedFd<'_>, name: &str) -> SysResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
