//! mount_setattr(2), setfsuid(2) and the ioctls of fs-verity, which rustix lacks, and what a thread has for itself.
//! Nothing else of this crate is unsafe.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::mount::MountPropagationFlags;

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// struct mount_attr of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

impl MountAttr {
    /// A private mount whose owners are mapped by this user namespace.
    pub(crate) fn private_mapped(ids: BorrowedFd<'_>) -> MountAttr {
        MountAttr {
            set: MOUNT_ATTR_IDMAP,
            ..MountAttr::private_read_only(Some(ids))
        }
    }

    /// A mount that cannot be written, and private; with `ids`, owners are mapped by this user namespace.
    pub(crate) fn private_read_only(ids: Option<BorrowedFd<'_>>) -> MountAttr {
        let users = ids.map(|ids| u64::from(ids.as_raw_fd().unsigned_abs()));
        MountAttr {
            set: MOUNT_ATTR_RDONLY | users.map_or(0, |_| MOUNT_ATTR_IDMAP),
            clear: 0,
            propagation: u64::from(MountPropagationFlags::PRIVATE.bits()),
            userns_fd: users.unwrap_or(0),
        }
    }
}

/// mount_setattr(2) on the mount that `mount` stands for.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, attr: &MountAttr) -> Result<()> {
    // SAFETY: the fd is open, the path NUL-terminated, and `attr` has the kernel's layout and size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    match done {
        0.. => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// struct fsverity_enable_arg (linux/fsverity.h).
#[derive(Debug, Default)]
#[repr(C)]
struct EnableVerity {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved_too: [u64; 11],
}

/// struct fsverity_digest (linux/fsverity.h), with room for the longest.
#[repr(C)]
struct VerityDigest {
    algorithm: u16,
    size: u16,
    digest: [u8; 64],
}

const FS_IOC_ENABLE_VERITY: libc::Ioctl = libc::_IOW::<EnableVerity>(b'f' as u32, 133);
/// Of the struct without its digest, as the kernel's header has it.
const FS_IOC_MEASURE_VERITY: libc::Ioctl = libc::_IOWR::<[u16; 2]>(b'f' as u32, 134);
/// FS_VERITY_HASH_ALG_SHA256
const VERITY_SHA256: u32 = 1;

/// Has the kernel refuse to write a file, and to read what was changed of it (fs-verity): SHA-256, blocks of 4096
/// bytes. Nobody may have it open for writing.
pub(crate) fn enable_verity(file: BorrowedFd<'_>) -> Result<()> {
    let arguments = EnableVerity {
        version: 1,
        hash_algorithm: VERITY_SHA256,
        block_size: 4096,
        ..EnableVerity::default()
    };
    // SAFETY: the fd is open; the kernel reads a struct that has its layout and size, and that names no memory.
    let done = unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            FS_IOC_ENABLE_VERITY,
            std::ptr::from_ref(&arguments),
        )
    };
    result(done)
}

/// The digest that the kernel holds a file to; `NODATA` where it holds it to none.
pub(crate) fn measure_verity(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut found = VerityDigest {
        algorithm: 0,
        size: 64,
        digest: [0; 64],
    };
    // SAFETY: the fd is open; the kernel writes as much behind the two numbers as `size` says there is.
    let done = unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            FS_IOC_MEASURE_VERITY,
            std::ptr::from_mut(&mut found),
        )
    };
    result(done)?;
    Ok(found
        .digest
        .get(..usize::from(found.size))
        .unwrap_or_default()
        .to_vec())
}

fn result(done: libc::c_int) -> Result<()> {
    match done {
        0.. => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Gives the calling thread a working directory that no other thread shares.
pub(crate) fn own_working_directory() -> Result<()> {
    // SAFETY: CLONE_FS takes nothing from other threads but that they share a working directory, a root and
    // a umask with this one.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }
}

/// Gives the calling thread a mount namespace of its own, and a working directory with it.
pub(crate) fn own_mounts() -> Result<()> {
    // SAFETY: as above; a mount namespace is a thread's own too, and no other thread learns of this one.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
}

/// Has the calling thread make files as this user and group (setfsuid(2)), with the rights that it has. Only
/// for a thread that ends soon: nothing takes it back.
pub(crate) fn make_files_as((uid, gid): (u32, u32)) -> Result<()> {
    let rights = rustix::thread::capabilities(None)?;
    // SAFETY: integers only. glibc changes the calling thread alone, as the kernel does.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
    // The change has taken those over files away.
    rustix::thread::set_capabilities(None, rights)
}
