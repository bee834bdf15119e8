//! Processes and threads.

use super::number;
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
pub(super) fn read(cgroup: &Cgroup) -> Result<Option<PidsStats>, Error> {
    let Some(dir) = cgroup.dir_of(Controller::Pids) else {
        return Ok(None);
    };
    let Some(current) = number(&dir, "pids.current")? else {
        return Ok(None);
    };
    Ok(Some(PidsStats {
        current,
        limit: number(&dir, "pids.max")?,
    }))
}
