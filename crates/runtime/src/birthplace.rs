//! The container's cgroup while the container is being made: who makes it, and what becomes of it
//! should the rest fail.
//!
//! The runtime makes it first and clones init into it. systemd makes a scope only around a process:
//! then init is cloned outside and waits until the runtime says that it was moved. Either way the
//! limits hold before init does anything.

use std::os::fd::OwnedFd;

use crate::cgroup::{Cgroup, Unit};
use crate::error::{Error, InitFailure, Result};
use crate::init;
use crate::message::{Channel, ToInit};
use crate::spec::Resources;

/// Who makes a container's cgroup.
#[derive(Debug, Clone, Copy)]
pub enum CgroupManager<'a> {
    /// The runtime itself, at `linux.cgroupsPath`.
    Fs,
    /// systemd, as this unit.
    Systemd(&'a Unit),
}

/// Where init is born.
pub(crate) enum Birthplace<'a> {
    /// In its cgroup.
    Inside(CgroupGuard),
    /// Where the runtime is.
    Outside(&'a Unit),
}

impl<'a> Birthplace<'a> {
    /// Makes the cgroup, if that can be done before there is a process.
    pub(crate) fn of(
        manager: CgroupManager<'a>,
        path: &str,
        resources: &Resources,
    ) -> Result<Birthplace<'a>> {
        match manager {
            CgroupManager::Fs => {
                let cgroup = Cgroup::create(path, Some(resources))?;
                Ok(Birthplace::Inside(CgroupGuard(Some(cgroup))))
            }
            CgroupManager::Systemd(unit) => Ok(Birthplace::Outside(unit)),
        }
    }

    /// The v2 directory to clone into.
    pub(crate) fn v2_directory(&self) -> Result<Option<OwnedFd>> {
        match self {
            Birthplace::Inside(cgroup) => Ok(cgroup.get().v2_directory()?),
            Birthplace::Outside(_) => Ok(None),
        }
    }

    /// The runtime's side, once init is there: makes what is not made yet.
    pub(crate) fn settle(
        self,
        resources: &Resources,
        pid: i32,
        channel: &Channel,
    ) -> Result<CgroupGuard> {
        let unit = match self {
            Birthplace::Inside(cgroup) => return Ok(cgroup),
            Birthplace::Outside(unit) => unit,
        };
        let cgroup = Cgroup::create_unit(unit, Some(resources), pid)?;
        let cgroup = CgroupGuard(Some(cgroup));
        channel
            .send(&ToInit::Placed, None)
            .map_err(Error::io("write to", "init"))?;
        Ok(cgroup)
    }

    /// Init's side: waits until it is in its cgroup.
    pub(crate) fn wait(self, channel: &Channel) -> Result<Cgroup, InitFailure> {
        match self {
            Birthplace::Inside(cgroup) => Ok(cgroup.commit()),
            Birthplace::Outside(unit) => {
                init::expect(channel, ToInit::Placed)?;
                Cgroup::open_unit(unit).map_err(|error| InitFailure::because(error.to_string()))
            }
        }
    }
}

/// A cgroup that goes unless it is kept.
#[derive(Debug)]
pub(crate) struct CgroupGuard(Option<Cgroup>);

impl CgroupGuard {
    /// One for a process that is there already and is not to be moved by itself, such as criu.
    pub(crate) fn around(
        manager: CgroupManager<'_>,
        path: &str,
        resources: &Resources,
        pid: i32,
    ) -> Result<Self> {
        let cgroup = match manager {
            CgroupManager::Fs => Cgroup::create(path, Some(resources))?,
            CgroupManager::Systemd(unit) => Cgroup::create_unit(unit, Some(resources), pid)?,
        };
        let guard = CgroupGuard(Some(cgroup));
        guard.get().add(pid)?;
        Ok(guard)
    }

    #[expect(
        clippy::expect_used,
        reason = "only commit, which takes self, empties it"
    )]
    pub(crate) fn get(&self) -> &Cgroup {
        self.0.as_ref().expect("held until commit")
    }

    #[expect(
        clippy::expect_used,
        reason = "only this function, which takes self, empties it"
    )]
    pub(crate) fn commit(mut self) -> Cgroup {
        self.0.take().expect("held until commit")
    }
}

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        if let Some(cgroup) = self.0.take() {
            // The failure that led here is what the caller hears of.
            let _ = cgroup.kill_all();
            let _ = cgroup.delete();
        }
    }
}
