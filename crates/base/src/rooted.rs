//! Work in another root directory: a thread of its own for which that directory is `/`, so that no link and no `..`
//! of a tree that somebody else has filled leads out of it. Needs CAP_SYS_CHROOT.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::{chdir, chroot, fchdir};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Does `work` with `root` as the root and the working directory, and waits for it.
///
/// # Errors
/// A thread that cannot be made, or does not come into the directory.
pub fn within<T: Send>(root: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let enter = move || -> io::Result<T> {
            // SAFETY: a root and a working directory of its own break no memory rule, and descriptors stay shared.
            unsafe { unshare_unsafe(UnshareFlags::FS) }?;
            fchdir(root)?;
            chroot(".")?;
            chdir("/")?;
            Ok(work())
        };
        let thread = std::thread::Builder::new().name("rooted".to_owned());
        match thread.spawn_scoped(scope, enter)?.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_leads_out() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("passwd"), "inside").unwrap();
        symlink("/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../passwd", dir.path().join("up")).unwrap();
        let root = File::open(dir.path()).unwrap();
        for name in ["/absolute", "/up", "absolute", "/passwd"] {
            let read = within(root.as_fd(), || std::fs::read_to_string(name));
            assert_eq!(read.unwrap().unwrap(), "inside", "{name}");
        }
        // This thread's own is as it was.
        assert!(dir.path().join("passwd").exists());
    }
}
