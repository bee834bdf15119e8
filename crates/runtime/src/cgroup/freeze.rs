//! Freezing and thawing: v1's freezer controller, v2's cgroup.freeze.
//!
//! Both kernels freeze while we wait; the wait is bounded, and one that ends without success
//! leaves the cgroup thawed.

use std::time::{Duration, Instant};

use super::Cgroup;
use super::dir::Dir;
use super::error::Error;
use super::hierarchy::{Controller, Version};

/// How long processes may take to stop; those in an uninterruptible sleep can take forever.
const PATIENCE: Duration = Duration::from_secs(2);

/// Stops all processes and waits until they have stopped.
pub(super) fn freeze(cgroup: &Cgroup) -> Result<(), Error> {
    let dir = dir(cgroup, "freeze")?;
    let result = change(&dir, true);
    if matches!(result, Err(Error::FreezeTimeout { .. })) {
        request(&dir, false)?;
    }
    result
}

/// Lets all processes go on and waits until they do.
pub(super) fn thaw(cgroup: &Cgroup) -> Result<(), Error> {
    change(&dir(cgroup, "thaw")?, false)
}

/// Tells all processes to stop, or to go on, and waits for nothing.
pub(super) fn tell(cgroup: &Cgroup, frozen: bool) -> Result<(), Error> {
    let verb = if frozen { "freeze" } else { "thaw" };
    request(&dir(cgroup, verb)?, frozen)
}

/// Whether all processes have stopped.
pub(super) fn has_stopped(cgroup: &Cgroup) -> Result<bool, Error> {
    reached(&dir(cgroup, "freeze")?, true)
}

/// Whether the cgroup was told to freeze.
pub(super) fn is_frozen(cgroup: &Cgroup) -> Result<bool, Error> {
    cgroup
        .dir_of(Controller::Freezer)
        .map_or(Ok(false), |dir| frozen_here(&dir))
}

/// The same for a directory of any hierarchy; those that cannot freeze are not frozen.
pub(super) fn frozen_here(dir: &Dir<'_>) -> Result<bool, Error> {
    if !dir.hierarchy.controllers.contains(&Controller::Freezer) {
        return Ok(false);
    }
    match dir.version() {
        Version::V1 => Ok(dir.get("freezer.state")?.trim() != "THAWED"),
        // Missing before Linux 5.2, which cannot freeze v2 cgroups.
        Version::V2 => Ok(dir
            .get_optional("cgroup.freeze")?
            .is_some_and(|text| text.trim() == "1")),
    }
}

fn dir(cgroup: &Cgroup, verb: &str) -> Result<Dir<'static>, Error> {
    cgroup
        .dir_of(Controller::Freezer)
        .ok_or_else(|| Error::MissingController {
            field: "the frozen state",
            value: verb.to_owned(),
            controller: Controller::Freezer,
        })
}

fn request(dir: &Dir<'_>, frozen: bool) -> Result<(), Error> {
    match (dir.version(), frozen) {
        (Version::V1, true) => dir.put("freezer.state", "FROZEN"),
        (Version::V1, false) => dir.put("freezer.state", "THAWED"),
        (Version::V2, true) => dir.put("cgroup.freeze", "1"),
        (Version::V2, false) => dir.put("cgroup.freeze", "0"),
    }
}

fn reached(dir: &Dir<'_>, frozen: bool) -> Result<bool, Error> {
    match dir.version() {
        Version::V1 => {
            let want = if frozen { "FROZEN" } else { "THAWED" };
            Ok(dir.get("freezer.state")?.trim() == want)
        }
        Version::V2 => {
            let want = if frozen { "frozen 1" } else { "frozen 0" };
            Ok(dir.get("cgroup.events")?.lines().any(|line| line == want))
        }
    }
}

fn change(dir: &Dir<'_>, frozen: bool) -> Result<(), Error> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(20);
    loop {
        // v1 can miss a task that forks meanwhile and stay FREEZING until told again.
        request(dir, frozen)?;
        if reached(dir, frozen)? {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::FreezeTimeout {
                path: dir.display_path(),
                state: if frozen { "frozen" } else { "thawed" },
                millis: u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX),
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
