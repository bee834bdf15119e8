//! Who makes, limits and removes cgroups.
//!
//! A manager is asked once to make a cgroup and once to set its first limits, any number of times
//! to change them, and once to remove it. Everything else (moving, counting, freezing, killing,
//! reading) works the same on the directories whoever made them, and is not a manager's business.
//! [`Fs`] does it all with mkdir, write and rmdir. [`super::systemd::Systemd`] asks systemd for a
//! unit, hands over the limits it can express as properties, and has [`Fs`]'s code write the rest
//! below the path that systemd chose.

use std::fmt::Debug;

use super::Cgroup;
use super::create::{self, Made};
use super::delete;
use super::error::Error;
use super::hierarchy::Hierarchies;
use super::resources;
use crate::spec::Resources;

/// See the module.
pub(super) trait Manager: Debug + Send + Sync {
    /// Makes the directories, empty and thawed. What was made is removed again unless the result
    /// is committed. The limits to come are known, so that their controllers can be enabled.
    /// `first`: the process that it is made around, for a manager that makes none without.
    fn make(
        &self,
        hierarchies: &'static Hierarchies,
        path: &str,
        resources: Option<&Resources>,
        first: Option<i32>,
    ) -> Result<Made, Error>;

    /// Sets the limits that are given, of a cgroup just made.
    fn apply(&self, cgroup: &Cgroup, resources: &Resources) -> Result<(), Error>;

    /// Changes the limits that are given.
    fn update(&self, cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
        self.apply(cgroup, resources)
    }

    /// Moves in a process of a caller who may not do it himself.
    fn attach(&self, cgroup: &Cgroup, pid: i32) -> Result<(), Error>;

    /// Removes the cgroup with all below it; succeeds if it is gone.
    fn remove(&self, cgroup: &Cgroup) -> Result<(), Error>;
}

/// Manages cgroups through the file system.
#[derive(Debug)]
pub(super) struct Fs;

impl Manager for Fs {
    fn make(
        &self,
        hierarchies: &'static Hierarchies,
        path: &str,
        resources: Option<&Resources>,
        first: Option<i32>,
    ) -> Result<Made, Error> {
        create::make(hierarchies, path, resources, first)
    }

    fn apply(&self, cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
        resources::apply(cgroup, resources)
    }

    fn attach(&self, cgroup: &Cgroup, pid: i32) -> Result<(), Error> {
        cgroup.add(pid)
    }

    fn remove(&self, cgroup: &Cgroup) -> Result<(), Error> {
        delete::delete(cgroup)
    }
}
