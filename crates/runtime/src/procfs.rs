//! The host's /proc, by descriptor: opened before any mount namespace is joined and before anything of a
//! container is looked at, and checked to be procfs. A container may have a /proc that lies
//! (CVE-2025-52881).

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, openat2};
use rustix::io::Errno;

use crate::error::InitFailure;

/// The root of a procfs.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// The caller's, if it is what it should be.
    pub(crate) fn open() -> Result<Self, InitFailure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let failed = || InitFailure::at("open /proc");
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).map_err(failed())?;
        let kind = fstatfs(&proc).map_err(failed())?.f_type;
        match kind == PROC_SUPER_MAGIC {
            true => Ok(Self(proc)),
            false => Err(InitFailure::because("/proc is not procfs")),
        }
    }

    /// Is there such a file?
    pub(crate) fn has(&self, path: &str) -> bool {
        self.writable(path).is_ok()
    }

    /// Writes to a file below it, which nothing is mounted over. One write: each is a request of its own.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<(), Errno> {
        let file = self.writable(path)?;
        match rustix::io::write(file, text.as_bytes())? == text.len() {
            true => Ok(()),
            false => Err(Errno::IO),
        }
    }

    fn writable(&self, path: &str) -> Result<OwnedFd, Errno> {
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat2(&self.0, path, flags, Mode::empty(), inside)
    }
}
