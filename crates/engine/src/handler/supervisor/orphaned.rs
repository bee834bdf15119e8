//! A container whose supervisor was killed: nobody reads what it says or learns how it ends. It is
//! stopped by its cgroup, and has ended once nobody is in that. Who finds it so first writes that down
//! (`ended.json`), so that all who ask see the same end. Must never touch a container that has a
//! supervisor.

use std::path::Path;
use std::time::{Duration, Instant};

use runtime::cgroup::Cgroup;

use super::super::{Cause, ContainerRef, Status};
use crate::disk;
use crate::error::{Error, Result};
use crate::record;

/// The code of a process that was killed: 128 and SIGKILL.
const KILLED: i32 = 137;
/// How long what is killed may take to end.
const DIES: Duration = Duration::from_secs(10);
/// How often to look.
const STEP: Duration = Duration::from_millis(5);

/// How such a container ended, as far as anybody can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// When it was first seen to have ended: nanoseconds since 1970.
    pub(crate) finished_at: i64,
    /// The kernel killed for want of memory, the supervisor or a process of the container.
    pub(crate) oom_killed: bool,
}

impl Ended {
    /// The end of a container without a supervisor; `None` while a process of it lives, or while
    /// nobody can tell.
    pub(super) fn find(container: ContainerRef<'_>) -> Option<Self> {
        let path = container.dir.join("ended.json");
        if let Ok(Some(ended)) = record::ended::read(&path) {
            return Some(ended);
        }
        is_empty(container.cgroup).ok()?.then(|| {
            let ended = Self::now(container);
            ended.write(container.dir);
            ended
        })
    }

    /// The end of a container whose cgroup is about to be removed: what the kernel has counted goes
    /// with that.
    pub(super) fn now(container: ContainerRef<'_>) -> Self {
        Self {
            finished_at: disk::now_ns(),
            oom_killed: oom_killed(container),
        }
    }

    /// Writes it down, unless somebody has.
    pub(super) fn write(&self, bundle: &Path) {
        let path = bundle.join("ended.json");
        if !path.exists()
            && let Err(error) = record::ended::write(&path, self)
        {
            disk::warn_once(&path, &error);
        }
    }

    /// As its container's state.
    pub(super) fn status(self, started_at: Option<i64>) -> Status {
        let unseen = match self.oom_killed {
            true => "its supervisor or a process of it was killed for want of memory",
            false => "its supervisor was killed: how it ended is not known",
        };
        Status::Exited {
            started_at,
            finished_at: self.finished_at,
            exit_code: KILLED,
            oom_killed: self.oom_killed,
            cause: Cause::Unseen(unseen.to_owned()),
        }
    }
}

/// Ends a container that has no supervisor: its stop signal now, SIGKILL after `grace`.
pub(super) fn stop(id: &str, path: &str, signal: i32, grace: Duration) -> Result<()> {
    let failed = |source| Error::Cgroup {
        id: id.to_owned(),
        source,
    };
    let cgroup = match Cgroup::open(path) {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other.map_err(failed)?,
    };
    if !grace.is_zero() {
        cgroup.signal_all(signal).map_err(failed)?;
        if ends(path, grace).map_err(failed)? {
            return Ok(());
        }
    }
    cgroup.kill_all().map_err(failed)?;
    if ends(path, DIES).map_err(failed)? {
        return Ok(());
    }
    Err(Error::State {
        verb: "stop",
        what: "container",
        id: id.to_owned(),
        state: "without a supervisor, and its processes do not die".into(),
    })
}

/// Waits until nobody is in the cgroup; false if that takes longer.
fn ends(cgroup: &str, limit: Duration) -> Result<bool, runtime::cgroup::Error> {
    let begun = Instant::now();
    while !is_empty(cgroup)? {
        if begun.elapsed() >= limit {
            return Ok(false);
        }
        std::thread::sleep(STEP);
    }
    Ok(true)
}

fn is_empty(cgroup: &str) -> Result<bool, runtime::cgroup::Error> {
    match Cgroup::open(cgroup).and_then(|cgroup| cgroup.processes()) {
        Ok(processes) => Ok(processes.is_empty()),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Did the kernel kill in the container's cgroup or its supervisor's for want of memory?
fn oom_killed(container: ContainerRef<'_>) -> bool {
    let supervisor = super::pod::cgroup(container.pod);
    [container.cgroup, &supervisor].into_iter().any(|path| {
        let watch = Cgroup::open(path).and_then(|cgroup| cgroup.oom_events());
        watch.is_ok_and(|watch| watch.oom_killed())
    })
}
