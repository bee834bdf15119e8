//! Processes and threads.

use super::files::Files;
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Controller;

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` is no limit.
    pub limit: Option<u64>,
}

/// The files are the same in v1 and v2.
pub(super) fn read(cgroup: &Cgroup, files: &mut Files) -> Result<Option<PidsStats>, Error> {
    let Some(dir) = cgroup.dir_of(Controller::Pids) else {
        return Ok(None);
    };
    let Some(current) = files.number(&dir, CURRENT)? else {
        return Ok(None);
    };
    Ok(Some(PidsStats {
        current,
        limit: files.number(&dir, "pids.max")?,
    }))
}

const CURRENT: &str = "pids.current";

/// How many there are; `None` if nobody counts.
pub(super) fn read_current(cgroup: &Cgroup, files: &mut Files) -> Result<Option<u64>, Error> {
    match cgroup.dir_of(Controller::Pids) {
        None => Ok(None),
        Some(dir) => files.number(&dir, CURRENT),
    }
}
