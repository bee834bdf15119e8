//! Owner, mode, times and extended attributes of what was extracted.
//!
//! In the order that keeps them: chown(2) and writing clear set-uid bits and capabilities. Of the
//! extended attributes `security.capability` and `user.*` are an image's to set; overlayfs's own must never
//! be, and all others (labels of the host's security modules, ACLs) are left out as well.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fsetxattr, fstatvfs, futimens, utimensat,
};
use rustix::io::Errno;

use super::EntryFlaw;
use crate::archive::Entry;

const CAPABILITY: &[u8] = b"security.capability";

/// The attributes by which a layer could hide or redirect files at the mount. They are never set.
pub(super) fn forbidden_xattrs(entry: &Entry) -> impl Iterator<Item = EntryFlaw> {
    let forbidden = entry.xattrs.iter().filter(|(name, _)| is_forbidden(name));
    forbidden.map(|(name, _)| EntryFlaw::Xattr(super::name::shown(name)))
}

fn is_forbidden(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// The attributes that are an image's to set.
pub(super) fn kept_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let kept = entry.xattrs.iter().filter(|(name, _)| {
        name == CAPABILITY || name.starts_with(b"user.") && !is_forbidden(name)
    });
    kept.map(|(name, value)| (name.as_slice(), value.as_slice()))
}

/// Why the kernel would not set an attribute on any file system.
pub(super) fn refused(name: &[u8], value: &[u8]) -> Option<Errno> {
    /// struct vfs_cap_data and vfs_ns_cap_data (linux/capability.h): their size, and what they begin with.
    const REVISIONS: [(usize, u32); 2] = [(20, 0x0200_0000), (24, 0x0300_0000)];
    const EFFECTIVE: u32 = 1;
    if name == CAPABILITY {
        let head = value
            .first_chunk()
            .map_or(0, |head| u32::from_le_bytes(*head));
        let good = REVISIONS.contains(&(value.len(), head & !EFFECTIVE));
        return (!good).then_some(Errno::INVAL);
    }
    let malformed = name == b"user." || name.contains(&0);
    malformed.then_some(Errno::INVAL)
}

/// Sets owner, mode and extended attributes of an open file or directory. Returns the attributes that the
/// file system has no place for.
pub(super) fn set(file: BorrowedFd<'_>, entry: &Entry) -> Result<Vec<EntryFlaw>, EntryFlaw> {
    let (uid, gid) = owner(entry);
    fchown(file, uid, gid).map_err(EntryFlaw::sys("chown"))?;
    fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(EntryFlaw::sys("chmod"))?;
    let mut left_out = Vec::new();
    for (name, value) in kept_xattrs(entry) {
        let user = name != CAPABILITY;
        match fsetxattr(file, name, value, XattrFlags::empty()) {
            // File systems without `user.*` attributes lose those.
            Err(Errno::OPNOTSUPP) if user => {}
            // One of ext4 has a block for all of a file, and says that it is full.
            Err(Errno::TOOBIG | Errno::RANGE) if user => {
                left_out.push(EntryFlaw::XattrTooLarge(super::name::shown(name)));
            }
            Err(Errno::NOSPC) if user && has_space(file) => {
                left_out.push(EntryFlaw::XattrTooLarge(super::name::shown(name)));
            }
            result => result.map_err(EntryFlaw::sys("setxattr"))?,
        }
    }
    Ok(left_out)
}

fn has_space(file: BorrowedFd<'_>) -> bool {
    fstatvfs(file).is_ok_and(|stat| stat.f_bavail > 16)
}

/// Sets owner and time of a symbolic link.
pub(super) fn set_link(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
) -> Result<(), EntryFlaw> {
    let (uid, gid) = owner(entry);
    chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(EntryFlaw::sys("chown"))?;
    utimensat(
        parent,
        name,
        &timestamps(entry.mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(EntryFlaw::sys("utimens"))
}

/// Sets owner, mode and time of a node that was just made and is not opened.
pub(super) fn set_node(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
) -> Result<(), EntryFlaw> {
    set_link(parent, name, entry)?;
    // Nobody else changes the layer: the name is still the node, so there is no link to follow.
    chmodat(
        parent,
        name,
        Mode::from_raw_mode(entry.mode),
        AtFlags::empty(),
    )
    .map_err(EntryFlaw::sys("chmod"))
}

/// Sets the modification time of an open file or directory (and the access time with it).
pub(super) fn set_time(file: BorrowedFd<'_>, time: (i64, u32)) -> Result<(), EntryFlaw> {
    futimens(file, &timestamps(time)).map_err(EntryFlaw::sys("utimens"))
}

/// Sets one of overlayfs's own attributes.
pub(super) fn set_xattr(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), EntryFlaw> {
    fsetxattr(file, name, value, XattrFlags::empty()).map_err(EntryFlaw::sys("setxattr"))
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
}

fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
