//! The container's cgroup while the container is being made: who makes it, and what becomes of it
//! should the rest fail.
//!
//! The runtime makes it first and clones init into it. systemd makes a scope only around a process:
//! then init is cloned outside and waits until the runtime says that it was moved. Either way the
//! limits hold before init does anything.
//!
//! systemd may take its time (it goes over its units, or is executed anew), and a supervisor has none:
//! a child asks it, and says how that went as init says what it needs ([`Placing`]).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::cgroup::{self, Cgroup, Unit};
use crate::error::{Error, InitFailure, Result};
use crate::guard::ChildGuard;
use crate::init;
use crate::message::{Channel, FromInit, ToInit, Unplaced};
use crate::spec::Resources;
use crate::sys::{self, Forked};

/// Who makes a container's cgroup.
#[derive(Debug, Clone, Copy)]
pub enum CgroupManager<'a> {
    /// The runtime itself, at `linux.cgroupsPath`.
    Fs,
    /// systemd, as this unit.
    Systemd(&'a Unit),
}

/// Where init is born.
pub(crate) enum CgroupPlacement<'a> {
    /// In its cgroup.
    Inside(CgroupGuard),
    /// Where the runtime is.
    Outside(&'a Unit),
}

impl<'a> CgroupPlacement<'a> {
    /// Makes the cgroup, if that can be done before there is a process.
    pub(crate) fn of(
        manager: CgroupManager<'a>,
        path: &str,
        resources: &Resources,
    ) -> Result<CgroupPlacement<'a>> {
        match manager {
            CgroupManager::Fs => {
                let cgroup = Cgroup::create(path, Some(resources))?;
                Ok(CgroupPlacement::Inside(CgroupGuard(Some(cgroup))))
            }
            CgroupManager::Systemd(unit) => Ok(CgroupPlacement::Outside(unit)),
        }
    }

    /// The v2 directory to clone into.
    pub(crate) fn v2_directory(&self) -> Result<Option<OwnedFd>> {
        match self {
            CgroupPlacement::Inside(cgroup) => Ok(cgroup.get().v2_directory()?),
            CgroupPlacement::Outside(_) => Ok(None),
        }
    }

    /// The runtime's side, once init is there: has what is not made yet made. `theirs` is init's end of
    /// the channel, over which a child says how that went.
    pub(crate) fn settle(
        self,
        resources: &Resources,
        pid: i32,
        theirs: &Channel,
    ) -> Result<(CgroupGuard, Option<Placing>)> {
        let unit = match self {
            CgroupPlacement::Inside(cgroup) => return Ok((cgroup, None)),
            CgroupPlacement::Outside(unit) => unit,
        };
        let cgroup = Cgroup::awaited(unit)?;
        let forked = sys::clone_process(0, None).map_err(Error::io("clone", "to ask systemd"))?;
        match forked {
            Forked::Child => {
                let mut keep = cgroup::descriptors();
                keep.push(theirs.as_fd().as_raw_fd());
                sys::close_all_but(&keep);
                let made = Cgroup::create_unit(unit, Some(resources), pid);
                let failure = made.err().map(|error| Unplaced::of(&error));
                // If the runtime is gone, nobody is left to tell.
                let _ = theirs.send(&FromInit::Placed(failure), None);
                sys::exit(0)
            }
            Forked::Parent { pid, pidfd } => {
                let child = ChildGuard::of(pid);
                let placing = Placing {
                    child,
                    pidfd,
                    cgroup,
                };
                Ok((CgroupGuard(None), Some(placing)))
            }
        }
    }

    /// The descriptors that init needs until it is in its cgroup, if it has to wait for that.
    pub(crate) fn waits_with(&self) -> Option<Vec<i32>> {
        match self {
            CgroupPlacement::Inside(_) => None,
            CgroupPlacement::Outside(_) => Some(cgroup::descriptors()),
        }
    }

    /// Init's side: waits until it is in its cgroup.
    pub(crate) fn wait(self, channel: &Channel) -> Result<Cgroup, InitFailure> {
        match self {
            CgroupPlacement::Inside(cgroup) => Ok(cgroup.commit()),
            CgroupPlacement::Outside(unit) => {
                init::expect(channel, ToInit::Placed)?;
                Cgroup::open_unit(unit).map_err(|error| InitFailure::because(error.to_string()))
            }
        }
    }
}

/// A process that has systemd make the cgroup around init. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Placing {
    pub(crate) child: ChildGuard,
    /// A pidfd of it.
    pub(crate) pidfd: OwnedFd,
    /// What it makes, and takes back should that fail: another unit may have the name.
    pub(crate) cgroup: Cgroup,
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

    /// Of a cgroup that somebody else has made.
    pub(crate) fn of_made(awaited: Cgroup) -> Self {
        Self(Some(awaited.look_again()))
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
