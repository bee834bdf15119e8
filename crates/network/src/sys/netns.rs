//! Network namespaces: open one by path, and do something inside it on a short-lived helper thread.
//! The caller's thread never changes its namespace. setns(2).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::{Error, Result};

/// Enough for opening a socket and writing a few files.
const HELPER_STACK: usize = 128 << 10;

/// An open network namespace. Holding it keeps the namespace alive.
#[derive(Debug)]
pub(crate) struct Netns {
    fd: OwnedFd,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace at `path`.
    pub(crate) fn open(path: &Path) -> Result<Netns> {
        let file = File::open(path).map_err(|source| Error::Netns {
            path: path.to_owned(),
            operation: "open",
            source,
        })?;
        let netns = Netns {
            fd: file.into(),
            path: path.to_owned(),
        };
        // A plain file is left where a bind mount once was.
        netns
            .check_kind()
            .map_err(|source| netns.error("identify", source))?;
        Ok(netns)
    }

    /// A new one, in which nothing is but a loopback interface that is down. It goes with its last holder.
    pub(crate) fn make() -> io::Result<OwnedFd> {
        let unshare = || -> io::Result<OwnedFd> {
            // SAFETY: a new network namespace changes only which network this thread sees, and it ends here.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        };
        on_a_thread(unshare)?
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside the namespace and returns what it returned.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || {
            move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| self.error("enter", errno.into()))?;
            Ok(work())
        };
        on_a_thread(inside).map_err(|source| self.error("start a thread for", source))?
    }

    fn check_kind(&self) -> io::Result<()> {
        let stat = rustix::fs::fstatfs(&self.fd)?;
        if stat.f_type == NSFS_MAGIC {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "not a namespace"))
        }
    }

    fn error(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Netns {
            path: self.path.clone(),
            operation,
            source,
        }
    }
}

/// Does the work on a thread that ends with it; it may change its namespace.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let helper = thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(HELPER_STACK)
            .spawn_scoped(scope, work)?;
        match helper.join() {
            Ok(result) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// File system type of open namespaces (linux/magic.h).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
