//! What the running kernel can do beyond the oldest that floe runs on, found by trying: a version number
//! tells nothing of a distribution's patches and configuration. Each probe is a few system calls, changes
//! nothing that lasts, and says no where the caller may not try.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_string, fsopen,
    open_tree,
};

use crate::sys;

/// As large as the kernel's requests must find room for (FUSE_MIN_READ_BUFFER).
const REQUEST: usize = 8192;
/// Where `flags2` is in the kernel's first request: after its header, in struct fuse_init_in.
const FLAGS2: usize = 40 + 16;
/// FUSE_HAS_RESEND, of the upper half of the flags.
const HAS_RESEND: u32 = 1 << (39 - 32);

/// Overlayfs takes its layers as descriptors, one by one (`lowerdir+`, Linux 6.13): mounts that are
/// nowhere can be layers, and there may be more of them than a page of text names.
#[must_use]
pub fn overlay_layers_by_descriptor() -> bool {
    let Ok(context) = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) else {
        return false;
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open("/", flags, Mode::empty());
    root.is_ok_and(|root| fsconfig_set_fd(&context, "lowerdir+", &root).is_ok())
}

/// EROFS mounts an image that is a plain file on the file system of `file`, without a block device
/// (Linux 6.12). `file` is any file there, which is no image.
#[must_use]
pub fn erofs_from_file(file: &Path) -> bool {
    let tried = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| {
        fsconfig_set_string(&context, "source", file)?;
        fsconfig_create(&context)
    });
    // It has looked at the file, and found that it is none.
    matches!(tried, Err(Errno::INVAL | Errno::UCLEAN))
}

/// Mounts can show files as other users' (mount_setattr(2), Linux 5.12). Which file systems let it be
/// done to them is theirs.
#[must_use]
pub fn idmapped_mounts() -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = open("/", flags, Mode::empty()) else {
        return false;
    };
    let attr = sys::MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        // Looked at once the attribute is known.
        userns_fd: i32::MAX.unsigned_abs().into(),
        ..sys::MountAttr::default()
    };
    sys::mount_setattr(&root, false, &attr) == Err(Errno::BADF)
}

/// Can the owners on the file system of `path` be mapped by this user namespace, in a mount of its own?
///
/// # Errors
/// As open_tree(2) and mount_setattr(2), of what has another reason.
pub fn maps_owners(path: &Path, users: BorrowedFd<'_>) -> std::io::Result<bool> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags)?;
    let attr = sys::MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        userns_fd: users.as_raw_fd().unsigned_abs().into(),
        ..sys::MountAttr::default()
    };
    match sys::mount_setattr(&tree, false, &attr) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// A file server of FUSE that was started anew gets the requests again that its predecessor had not
/// answered (FUSE_NOTIFY_RESEND, Linux 6.9).
#[must_use]
pub fn fuse_resend() -> bool {
    first_request().is_ok_and(|request| {
        let flags2 = request.get(FLAGS2..FLAGS2 + 4);
        flags2
            .and_then(|bytes| bytes.try_into().ok())
            .is_some_and(|bytes| u32::from_ne_bytes(bytes) & HAS_RESEND != 0)
    })
}

/// What the kernel asks a file server first: its own abilities are in it.
fn first_request() -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let device = open("/dev/fuse", flags, Mode::empty())?;
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let number = device.as_raw_fd().to_string();
    for (name, value) in [
        ("source", "floe"),
        ("fd", number.as_str()),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
    ] {
        fsconfig_set_string(&context, name, value)?;
    }
    fsconfig_create(&context)?;
    let mut request = vec![0; REQUEST];
    let length = rustix::io::read(&device, &mut request)?;
    request.truncate(length);
    Ok(request)
}

/// fanotify(7) asks before the content of a file is read, so that it can be fetched first
/// (FAN_PRE_ACCESS, Linux 6.14), on the file system of `file`.
#[must_use]
pub fn fanotify_pre_content(file: &Path) -> bool {
    sys::fanotify_pre_content(file).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The version of this kernel.
    fn version() -> (u32, u32) {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// Can this process have this file system?
    fn has(name: &str) -> bool {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap();
        let listed = known
            .lines()
            .any(|line| line.ends_with(&format!("\t{name}")));
        listed && rustix::process::geteuid().is_root()
    }

    /// A file on the disk that the tests are built on.
    fn file() -> std::path::PathBuf {
        std::env::current_exe().unwrap()
    }

    #[test]
    fn probes_say_what_kernels_without_patches_of_this_version_can() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: nobody else may try");
            return;
        }
        assert_eq!(idmapped_mounts(), version() >= (5, 12));
        let overlay = has("overlay") && version() >= (6, 13);
        assert_eq!(overlay_layers_by_descriptor(), overlay);
        let fuse = has("fuse") && Path::new("/dev/fuse").exists() && version() >= (6, 9);
        assert_eq!(fuse_resend(), fuse);
    }

    #[test]
    fn what_the_kernel_may_be_built_without_it_has_in_no_version_before() {
        assert!(!erofs_from_file(&file()) || version() >= (6, 12));
        assert!(!fanotify_pre_content(&file()) || version() >= (6, 14));
        // Nothing is an image in memory, and the memory's file system asks nobody.
        for place in ["/proc/self/stat", "/no/such/file"] {
            assert!(!erofs_from_file(Path::new(place)), "{place}");
            assert!(!fanotify_pre_content(Path::new(place)), "{place}");
        }
    }

    #[test]
    fn the_kernels_first_request_is_the_one_that_has_its_abilities() {
        let Ok(request) = first_request() else {
            eprintln!("SKIP: no FUSE here");
            return;
        };
        // struct fuse_in_header: length and opcode, FUSE_INIT.
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert_eq!((number(0) as usize, number(4)), (request.len(), 26));
        // Its version, of which the major number is 7.
        assert_eq!(number(40), 7);
    }
}
