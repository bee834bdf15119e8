//! Removing a cgroup with everything below it.
//!
//! Kills nothing: whoever wants processes gone calls `kill_all` first. They leave the cgroup only
//! when they have ended, which takes a moment, so EBUSY is waited for within bounds.

use std::time::Duration;

use rustix::io::Errno;

use super::Cgroup;
use super::dir::Dir;
use super::error::Error;

/// First pause before another try; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// Pauses: together 0.8 seconds.
const PAUSES: u32 = 12;

/// Removes the cgroup from all hierarchies; goes on past failures and reports the first.
pub(super) fn delete(cgroup: &Cgroup) -> Result<(), Error> {
    let mut result = Ok(());
    for dir in cgroup.dirs() {
        let removed = remove(&dir);
        result = result.and(removed);
    }
    result
}

fn remove(dir: &Dir<'_>) -> Result<(), Error> {
    let mut pause = FIRST_PAUSE;
    for _ in 0..PAUSES {
        match dir.rmdir() {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(dir.error("rmdir", "", errno)),
        }
        let children = match dir.children() {
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            other => other.map_err(|errno| dir.error("read directory", "", errno))?,
        };
        if children.is_empty() {
            std::thread::sleep(pause);
            pause *= 2;
        }
        children.iter().try_for_each(remove)?;
    }
    match dir.rmdir() {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) => Err(Error::Busy {
            path: dir.display_path(),
            pids: dir.processes()?,
        }),
        Err(errno) => Err(dir.error("rmdir", "", errno)),
    }
}
