//! mount_setattr(2) and fanotify(7), which rustix lacks, and open_tree(2) of a file descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::process::last;

/// struct mount_attr of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct MountAttr {
    /// MOUNT_ATTR_* to set.
    pub(crate) set: u64,
    /// MOUNT_ATTR_* to clear.
    pub(crate) clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0.
    pub(crate) propagation: u64,
    /// For MOUNT_ATTR_IDMAP.
    pub(crate) userns_fd: u64,
}

/// mount_setattr(2) on the mount that `mount` stands for, with everything below if `recursive`.
pub(crate) fn mount_setattr(
    mount: impl AsFd,
    recursive: bool,
    attr: &MountAttr,
) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let empty: &CStr = c"";
    // SAFETY: the fd is open, the path NUL-terminated, and `attr` has the kernel's layout and size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            empty.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if done < 0 { Err(last()) } else { Ok(()) }
}

/// Asks by fanotify(7) to be told before the content of a file is read (FAN_PRE_ACCESS), and takes that
/// back at once: whoever reads meanwhile goes on.
pub(crate) fn fanotify_pre_content(file: &Path) -> Result<(), Errno> {
    /// FAN_PRE_ACCESS, which libc lacks.
    const PRE_ACCESS: u64 = 0x0010_0000;
    let file = CString::new(file.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let flags = libc::FAN_CLASS_PRE_CONTENT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
    // SAFETY: takes integers.
    let group = unsafe { libc::fanotify_init(flags, libc::O_RDONLY as u32) };
    if group < 0 {
        return Err(last());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    let group = unsafe { OwnedFd::from_raw_fd(group) };
    // SAFETY: the fd is open and the path NUL-terminated.
    let marked = unsafe {
        libc::fanotify_mark(
            group.as_raw_fd(),
            libc::FAN_MARK_ADD,
            PRE_ACCESS,
            libc::AT_FDCWD,
            file.as_ptr(),
        )
    };
    if marked < 0 { Err(last()) } else { Ok(()) }
}

/// open_tree(2): a detached copy of the mount (or of the file) that `fd` stands for.
pub(crate) fn open_tree_fd(fd: impl AsFd, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(fd, c"", flags)
}
