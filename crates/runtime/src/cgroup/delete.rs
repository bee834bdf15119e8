//! Removing a cgroup with everything below it.
//!
//! Kills nothing: whoever wants processes gone calls `kill_all` first. They leave the cgroup only
//! when they have ended, which takes a moment, so EBUSY is waited for within bounds.

use std::ops::Range;
use std::time::Duration;

use rustix::io::Errno;

use super::Cgroup;
use super::dir::Dir;
use super::error::Error;

/// First pause before another try; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// Pauses for all hierarchies together: 0.8 seconds.
const PAUSES: u32 = 12;

/// Removes the cgroup from all hierarchies; goes on past failures and reports the first.
pub(super) fn delete(cgroup: &Cgroup) -> Result<(), Error> {
    let mut result = Ok(());
    let mut pauses = FIRST_PAUSE..FIRST_PAUSE * 2u32.pow(PAUSES);
    for dir in cgroup.dirs() {
        let removed = remove(&dir, &mut pauses);
        result = result.and(removed);
    }
    result
}

/// Removes a directory and those below it, however deep a container has made them. `pauses` is what the
/// next pause will be, and where they end.
fn remove(dir: &Dir<'_>, pauses: &mut Range<Duration>) -> Result<(), Error> {
    loop {
        if gone(dir)? {
            return Ok(());
        }
        let tree = dir
            .tree()
            .map_err(|errno| dir.error("read directory", "", errno))?;
        for below in tree.iter().skip(1).rev() {
            gone(below)?;
        }
        if gone(dir)? {
            return Ok(());
        }
        if pauses.is_empty() {
            let (path, pids) = (dir.display_path(), dir.processes()?);
            return Err(Error::Busy { path, pids });
        }
        std::thread::sleep(pauses.start);
        pauses.start *= 2;
    }
}

/// Removes one directory; false if something is in it.
fn gone(dir: &Dir<'_>) -> Result<bool, Error> {
    match rustix::io::retry_on_intr(|| dir.rmdir()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(dir.error("rmdir", "", errno)),
    }
}
