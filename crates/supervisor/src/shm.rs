//! A pod's /dev/shm: a tmpfs on the pod's `shm` directory, mounted by the supervisor, bound into
//! the containers by their specs. Must never be followed through a symbolic link.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount as umount};

use crate::error::{Error, Result};

/// Mounts a tmpfs of `size` bytes with the sticky bit, as /dev/shm is on a host; it belongs to this user and
/// group.
pub(crate) fn mount_at(dir: &Path, size: u64, (uid, gid): (u32, u32)) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("make directory", dir)(error));
        }
        _ => {}
    }
    let options = std::ffi::CString::new(format!("mode=1777,size={size},uid={uid},gid={gid}"))
        .map_err(|_| Error::invalid("shm_size", "has a zero byte"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"shm", dir, c"tmpfs", flags, Some(options.as_c_str()))
        .map_err(Error::io("mount tmpfs on", dir))
}

/// Unmounts it; what is not mounted or not there is fine.
pub(crate) fn unmount(dir: &Path) -> Result<()> {
    debug_assert!(!dir.as_os_str().as_bytes().is_empty());
    match umount(dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::io("unmount", dir)(error)),
    }
}
