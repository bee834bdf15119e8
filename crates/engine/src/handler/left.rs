//! What a handler, or the making of a container, has left mounted in a pod's or container's directory: taken away before the directory is
//! removed, without the handler. It may not be configured any more, its records may be damaged or gone, and
//! the directory may have been renamed for its removal when the engine was killed. What is mounted is
//! detached, and nothing of it is touched.

use std::path::Path;

use base::mountinfo;
use rustix::mount::{UnmountFlags, unmount};

use super::shim;
use crate::container::volumes;
use crate::error::{Error, Result};

/// Of each kind of what leaves mounts where this process sees them: may there be one at or below
/// such a directory? Cheap, as it is asked for every directory that is removed.
const KINDS: [fn(&Path) -> bool; 2] = [shim::may_be_mounted, volumes::may_be_mounted];

/// Detaches what handlers of the kinds that are known have left in the directory of a pod or container
/// that has ended. Nothing there is fine.
///
/// # Errors
/// A mount that cannot be detached: the directory must not be removed then.
pub(crate) fn release(dir: &Path) -> Result<()> {
    match KINDS.iter().any(|may_be_mounted| may_be_mounted(dir)) {
        true => detach_below(dir),
        false => Ok(()),
    }
}

/// As [`release`], where the kind of handler is not known: whatever is mounted there.
///
/// # Errors
/// As [`release`].
pub(crate) fn release_all(dir: &Path) -> Result<()> {
    match std::fs::symlink_metadata(dir) {
        Ok(found) if found.is_dir() => detach_below(dir),
        Err(e) if !base::file::is_absent(&e) => Err(Error::io("look at", dir)(e)),
        _ => Ok(()),
    }
}

/// Takes away the mounts at and below a directory, the last one first.
fn detach_below(dir: &Path) -> Result<()> {
    let table = mountinfo::read().map_err(Error::io("read", "/proc/self/mountinfo"))?;
    let dir = dir.canonicalize().map_err(Error::io("find", dir))?;
    let points = mountinfo::parse(&table).rev().map(|mount| mount.point);
    for point in points.filter(|point| point.starts_with(&dir)) {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        unmount(&point, flags).map_err(|errno| Error::io("unmount", point)(errno.into()))?;
    }
    Ok(())
}
