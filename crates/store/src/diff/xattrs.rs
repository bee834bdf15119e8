//! Extended attributes of what a container has written: those that belong to a file, and those of overlayfs that
//! say where its content is.

use std::os::fd::BorrowedFd;

use rustix::fs::{fgetxattr, flistxattr};
use rustix::io::Errno;

use super::DiffFlaw;

/// The most that the names, or one value, of a file's attributes may be (as the kernel has it).
const MAX: usize = 64 << 10;
const CAPABILITY: &[u8] = b"security.capability";

/// Names and values, sorted.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The attributes that an archive of a layer has: rights of programs, ACLs, and the user's own. Labels of the
/// host and what overlayfs keeps there are not the file's.
pub(super) fn of(file: BorrowedFd<'_>) -> Result<Attributes, DiffFlaw> {
    let mut names = vec![0; MAX];
    let length = match flistxattr(file, names.as_mut_slice()) {
        Err(Errno::NOTSUP) => 0,
        other => other.map_err(DiffFlaw::sys("listxattr"))?,
    };
    let mut all = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if !belongs(name) {
            continue;
        }
        let mut value = vec![0; MAX];
        match fgetxattr(file, name, value.as_mut_slice()) {
            Err(Errno::NODATA) => continue,
            other => value.truncate(other.map_err(DiffFlaw::sys("getxattr"))?),
        }
        all.push((name.to_vec(), value));
    }
    all.sort();
    Ok(all)
}

fn belongs(name: &[u8]) -> bool {
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    user || name == CAPABILITY
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// Whether overlayfs has only the metadata of a file here, or a directory's content elsewhere.
pub(super) fn is_elsewhere(file: BorrowedFd<'_>) -> Result<bool, DiffFlaw> {
    for name in [
        &b"trusted.overlay.metacopy"[..],
        b"trusted.overlay.redirect",
    ] {
        match fgetxattr(file, name, &mut [0_u8; 0][..]) {
            Ok(_) => return Ok(true),
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(errno) => return Err(DiffFlaw::sys("getxattr")(errno)),
        }
    }
    Ok(false)
}
