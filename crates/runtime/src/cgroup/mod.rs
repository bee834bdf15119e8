//! Control groups of containers and pods, on cgroup v1, v2 and hosts that have both
//! (cgroups(7); runtime-spec config-linux.md, "cgroups").
//!
//! [`Cgroup`] is one path that exists in every hierarchy of the host. Each operation and each
//! resource is written once, with the version of the hierarchy it acts on as a parameter; who
//! makes and removes cgroups (this process, or systemd) is behind [`manager::Manager`].
//!
//! Nothing here touches a cgroup it did not make or was not given by name, and nothing writes a
//! file for a limit that nobody asked for.

mod create;
mod delete;
mod dir;
mod error;
mod find;
mod freeze;
mod hierarchy;
mod kill;
mod manager;
mod oom;
mod resources;
mod stats;
mod sys;
mod systemd;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

pub use error::Error;
pub use hierarchy::Controller;
pub use oom::{OomWatch, Unread};
pub use resources::devices::default_rules as default_device_rules;
pub use stats::{
    Basics, CpuStats, DetailedStats, HugetlbStats, IoStats, MemoryBasics, MemoryStats, MemoryUse,
    Meter, Of, PidsStats, Pressure, PressureLine, PressureStats, Stats,
};

pub use systemd::{Unit, is_systemd_running, slice_path};

use crate::rootless::is_rootless;
use crate::spec::Resources;
use dir::Dir;
use hierarchy::{Hierarchies, Version};
use manager::Manager;

/// A cgroup: the same path below the root of every hierarchy.
#[derive(Debug, Clone)]
pub struct Cgroup {
    hierarchies: &'static Hierarchies,
    /// Without leading slash.
    path: String,
    /// Which of the hierarchies have it, by index.
    present: Vec<bool>,
    /// Where below `path` it is in a hierarchy, by index; empty for one that is there everywhere.
    below: Vec<String>,
    manager: Arc<dyn Manager>,
}

/// Where a cgroup is in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The cgroup's directory, below `mount`.
    pub path: PathBuf,
    /// Whether this is the v2 hierarchy.
    pub unified: bool,
}

impl Cgroup {
    /// Makes a cgroup with the limits given, in all hierarchies of the host, and the cgroups above
    /// it that are missing. `path` is relative to the hierarchies' roots; a leading slash is
    /// ignored. Device rules are enforced if `resources.devices` is not empty; then the devices
    /// every container needs ([`default_device_rules`]) are allowed as well.
    ///
    /// Fails, leaving nothing behind, if the cgroup holds processes or is frozen, or if a limit
    /// cannot be set. A hierarchy that may not be written to is left out, as long as no limit
    /// needs it; see [`Cgroup::missing`]. Without root of the host that may be all of them: then the
    /// path is empty, and nobody is tracked.
    pub fn create(path: &str, resources: Option<&Resources>) -> Result<Cgroup, Error> {
        Cgroup::create_in(Hierarchies::of_host()?, path, resources)
    }

    /// Has systemd make the cgroup of a unit around a process, with the limits given, as
    /// [`Cgroup::create`] does without systemd. The process is moved into it, but on a host with
    /// v1 it has to call [`Cgroup::join_v1`] itself, and is not to do anything before.
    ///
    /// Fails, leaving nothing behind, if there is a unit of this name already, or if a limit cannot
    /// be set; then the process may have been killed.
    pub fn create_unit(
        unit: &Unit,
        resources: Option<&Resources>,
        first: i32,
    ) -> Result<Cgroup, Error> {
        let manager = Arc::new(systemd::Systemd { unit: unit.clone() });
        let path = unit.cgroup_path();
        Cgroup::create_by(
            manager,
            Hierarchies::of_host()?,
            &path,
            resources,
            Some(first),
        )
    }

    fn create_in(
        hierarchies: &'static Hierarchies,
        path: &str,
        resources: Option<&Resources>,
    ) -> Result<Cgroup, Error> {
        Cgroup::create_by(Arc::new(manager::Fs), hierarchies, path, resources, None)
    }

    fn create_by(
        manager: Arc<dyn Manager>,
        hierarchies: &'static Hierarchies,
        path: &str,
        resources: Option<&Resources>,
        first: Option<i32>,
    ) -> Result<Cgroup, Error> {
        let path = checked(path)?;
        let made = manager.make(hierarchies, &path, resources, first)?;
        let cgroup = Cgroup {
            hierarchies,
            path,
            present: made.present.clone(),
            below: Vec::new(),
            manager,
        };
        if let Some(resources) = resources {
            cgroup.manager.apply(&cgroup, resources)?;
        }
        made.commit();
        match cgroup.present.contains(&true) {
            true => Ok(cgroup),
            false => Ok(Cgroup::none(hierarchies)),
        }
    }

    /// An existing cgroup; an empty path is that of a container without one.
    pub fn open(path: &str) -> Result<Cgroup, Error> {
        Cgroup::open_in(Hierarchies::of_host()?, path)
    }

    /// What a container has that could not be given a cgroup.
    fn none(hierarchies: &'static Hierarchies) -> Cgroup {
        Cgroup {
            hierarchies,
            path: String::new(),
            present: vec![false; hierarchies.all.len()],
            below: Vec::new(),
            manager: Arc::new(manager::Fs),
        }
    }

    /// The existing cgroup of a unit that [`Cgroup::create_unit`] made: systemd is told of new
    /// limits and of its end.
    pub fn open_unit(unit: &Unit) -> Result<Cgroup, Error> {
        let cgroup = Cgroup::open(&unit.cgroup_path())?;
        let manager = Arc::new(systemd::Systemd { unit: unit.clone() });
        Ok(Cgroup { manager, ..cgroup })
    }

    /// An existing cgroup of a pod or a container of one: [`Cgroup::open_unit`] of the unit that its path
    /// names ([`Unit::at`]), else [`Cgroup::open`].
    pub fn open_managed(path: &str) -> Result<Cgroup, Error> {
        match Unit::at(path) {
            Some(unit) => Cgroup::open_unit(&unit),
            None => Cgroup::open(path),
        }
    }

    /// The cgroup of a unit that somebody else is about to start; [`Cgroup::look_again`] once it is there.
    pub(crate) fn awaited(unit: &Unit) -> Result<Cgroup, Error> {
        let manager = Arc::new(systemd::Systemd { unit: unit.clone() });
        let hierarchies = Hierarchies::of_host()?;
        Ok(Cgroup::at(hierarchies, unit.cgroup_path(), manager))
    }

    /// Looks again in which hierarchies it is.
    pub(crate) fn look_again(self) -> Cgroup {
        Cgroup::at(self.hierarchies, self.path, self.manager)
    }

    fn open_in(hierarchies: &'static Hierarchies, path: &str) -> Result<Cgroup, Error> {
        if path.is_empty() {
            return Ok(Cgroup::none(hierarchies));
        }
        let cgroup = Cgroup::at(hierarchies, checked(path)?, Arc::new(manager::Fs));
        match cgroup.present.contains(&true) {
            true => Ok(cgroup),
            false => Err(Error::NotFound { path: cgroup.path }),
        }
    }

    /// A path wherever it exists now.
    fn at(hierarchies: &'static Hierarchies, path: String, manager: Arc<dyn Manager>) -> Cgroup {
        let exists = |hierarchy| {
            let path = path.clone();
            Dir { hierarchy, path }.exists()
        };
        Cgroup {
            present: hierarchies.all.iter().map(exists).collect(),
            hierarchies,
            path,
            below: Vec::new(),
            manager,
        }
    }

    /// The same cgroup, but one below it in the hierarchies of these controllers (`cpu`, `name=x`);
    /// without controllers, in all.
    ///
    /// # Errors
    /// A controller that no hierarchy has, and a cgroup that does not exist there.
    pub fn below(&self, controllers: &[&str], path: &str) -> Result<Cgroup, Error> {
        let mut below = self.below.clone();
        below.resize(self.hierarchies.all.len(), String::new());
        let path = path.trim_matches('/');
        let known = |name: &&str| self.hierarchies.all.iter().any(|one| one.is_named(name));
        if let Some(unknown) = controllers.iter().find(|name| !known(name)) {
            return Err(Error::UnknownController {
                name: (*unknown).to_owned(),
            });
        }
        for (hierarchy, below) in self.hierarchies.all.iter().zip(&mut below) {
            if controllers.is_empty() || controllers.iter().any(|name| hierarchy.is_named(name)) {
                path.clone_into(below);
            }
        }
        let sub = Cgroup {
            below,
            ..self.clone()
        };
        let missing = sub.dirs().find(|dir| !dir.exists());
        match missing {
            Some(missing) => Err(missing.error("exec: adding pid to cgroup", "", Errno::NOENT)),
            None => Ok(sub),
        }
    }

    /// The v2 cgroup that a process is in now: it may have moved itself below its own.
    ///
    /// # Errors
    /// A process that is gone, or is in the root.
    pub fn of_process(pid: i32) -> Result<Cgroup, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = std::fs::read_to_string(&path).map_err(|e| Error::Io {
            operation: "read".into(),
            path: path.clone(),
            errno: Errno::from_io_error(&e).unwrap_or(Errno::IO),
        })?;
        match text.lines().find_map(|line| line.strip_prefix("0::")) {
            Some(unified) => Cgroup::open(unified),
            None => Err(Error::Parse { path, text }),
        }
    }

    /// Is it the same path in all hierarchies, as it was made?
    pub fn is_whole(&self) -> bool {
        self.below.is_empty()
    }

    /// The path below the hierarchies' roots, without leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the cgroup is, in the order of the mounts, v2 last.
    pub fn directories(&self) -> Vec<Directory> {
        let directory = |dir: Dir<'_>| Directory {
            mount: dir.hierarchy.mount.clone(),
            path: dir.display_path(),
            unified: dir.version() == Version::V2,
        };
        self.dirs().map(directory).collect()
    }

    /// Its directory where its processes can be frozen; `None` if no hierarchy can.
    pub fn freezer_directory(&self) -> Option<PathBuf> {
        self.dir_of(Controller::Freezer)
            .map(|dir| dir.display_path())
    }

    /// Hierarchies that the cgroup could not be made in, by mount point: one warning each.
    pub fn missing(&self) -> Vec<PathBuf> {
        let all = self.hierarchies.all.iter().zip(&self.present);
        all.filter(|(_, present)| !**present)
            .map(|(hierarchy, _)| hierarchy.mount.clone())
            .collect()
    }

    /// Moves a process in, with all its threads. The kernel waits for a grace period of the whole
    /// machine for it (often several milliseconds); a child that can do something before it execs
    /// should be cloned into [`Cgroup::v2_directory`] and call [`Cgroup::join_v1`].
    pub fn add(&self, pid: i32) -> Result<(), Error> {
        self.dirs()
            .try_for_each(|dir| dir.put("cgroup.procs", &pid.to_string()))
    }

    /// The same by whoever manages the cgroup, for a caller who may not do it himself: a user may not
    /// take a process out of a cgroup that is not his.
    pub fn attach(&self, pid: i32) -> Result<(), Error> {
        self.manager.attach(self, pid)
    }

    /// Moves the calling thread into the v1 cgroups: for a single-threaded process, all of it. As
    /// nobody else is moved, the kernel waits for nothing: this takes a tenth of a millisecond.
    /// Does nothing on a host with v2 only.
    pub fn join_v1(&self) -> Result<(), Error> {
        self.join_v1_in(|_| true)
    }

    /// As [`Cgroup::join_v1`], but the thread stays where it is in the hierarchy of a controller.
    pub fn join_v1_without(&self, controller: Controller) -> Result<(), Error> {
        self.join_v1_in(|dir| !dir.hierarchy.controllers.contains(&controller))
    }

    fn join_v1_in(&self, wanted: impl Fn(&Dir<'_>) -> bool) -> Result<(), Error> {
        self.dirs()
            .filter(|dir| dir.version() == Version::V1 && wanted(dir))
            .try_for_each(|dir| dir.put("tasks", "0"))
    }

    /// The files of the v1 hierarchies by which a process joins them later ([`join_opened`]), with the
    /// rights of who opened them. They lead to nothing but this cgroup's list of threads.
    pub(crate) fn open_v1(&self) -> Result<Vec<OwnedFd>, Error> {
        let open = |dir: Dir<'_>| {
            dir.open("tasks", OFlags::WRONLY)
                .map_err(|errno| dir.error("open", "tasks", errno))
        };
        self.dirs()
            .filter(|dir| dir.version() == Version::V1)
            .map(open)
            .collect()
    }

    /// The v2 directory, for clone3(2) with CLONE_INTO_CGROUP; `None` on a host with v1 only.
    pub fn v2_directory(&self) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let open = |dir: Dir<'_>| {
            dir.open("", flags)
                .map_err(|errno| dir.error("open", "", errno))
        };
        self.dirs()
            .find(|dir| dir.version() == Version::V2)
            .map(open)
            .transpose()
    }

    /// All processes in the cgroup and below it.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        self.tracking_dir()
            .map_or(Ok(Vec::new()), |dir| dir.processes())
    }

    /// Sends SIGKILL to every process in the cgroup and below it, frozen or forking ones
    /// included. Does not wait for their end.
    pub fn kill_all(&self) -> Result<(), Error> {
        kill::kill_all(self)
    }

    /// As [`Cgroup::kill_all`], without waiting: where the kernel does not do it at one word, a child of the
    /// caller does, whom the caller reaps. Processes that fork without end must be frozen for it, and that
    /// can take them a while.
    pub fn kill_all_aside(&self) -> Result<(), Error> {
        kill::kill_all_aside(self)
    }

    /// Sends a signal to every process in the cgroup and below it. Frozen processes get it when
    /// they are thawed, but SIGKILL thaws.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        kill::signal_all(self, signal)
    }

    /// Stops all processes where they are; returns when they have stopped.
    pub fn freeze(&self) -> Result<(), Error> {
        freeze::freeze(self)
    }

    /// Lets all processes go on.
    pub fn thaw(&self) -> Result<(), Error> {
        freeze::thaw(self)
    }

    /// As [`Cgroup::freeze`], for a caller who must not wait: he asks [`Cgroup::has_stopped`], and tells again
    /// while it has not (v1 can miss a process that forks meanwhile).
    pub fn tell_to_freeze(&self) -> Result<(), Error> {
        freeze::tell(self, true)
    }

    /// As [`Cgroup::thaw`], without waiting.
    pub fn tell_to_thaw(&self) -> Result<(), Error> {
        freeze::tell(self, false)
    }

    /// Have all processes stopped that were told to freeze?
    pub fn has_stopped(&self) -> Result<bool, Error> {
        freeze::has_stopped(self)
    }

    /// Whether [`Cgroup::freeze`] is in force.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        freeze::is_frozen(self)
    }

    /// Changes the limits that are given and leaves the others. A frozen cgroup stays frozen.
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        self.manager.update(self, resources)
    }

    /// Has the kernel take back what it can of the memory in use above `limit` bytes, for at most about
    /// `within`: before a lower limit is set, which cgroup v2 enforces by killing.
    ///
    /// # Errors
    /// [`Error::MemoryInUse`] if more stays in use.
    pub fn make_room(&self, limit: u64, within: Duration) -> Result<(), Error> {
        resources::room::make(self, limit, within)
    }

    /// Does the kernel make room when a lower limit of memory is set, and refuse one for which there is none?
    /// cgroup v1 does; v2 kills instead.
    pub fn limit_makes_room(&self) -> bool {
        let home = self.dir_of(Controller::Memory);
        home.is_some_and(|dir| dir.version() == Version::V1)
    }

    /// What the cgroup uses and may use. Parts whose controller is missing are zero or `None`.
    pub fn stats(&self) -> Result<Stats, Error> {
        stats::read(self)
    }

    /// What [`Cgroup::stats`] leaves out: by CPU, the cpuset, all of memory.stat.
    pub fn detailed_stats(&self) -> Result<DetailedStats, Error> {
        stats::detail::read(self)
    }

    /// Starts watching for processes killed because memory ran out.
    pub fn oom_events(&self) -> Result<OomWatch, Error> {
        OomWatch::new(self)
    }

    /// Removes the cgroup and all cgroups below it. Waits about a second for processes that are
    /// just ending. Removing what is gone succeeds.
    pub fn delete(&self) -> Result<(), Error> {
        self.manager.remove(self)
    }

    /// Its directories, one per hierarchy that has it.
    fn dirs(&self) -> impl Iterator<Item = Dir<'static>> + '_ {
        let all = self.hierarchies.all.iter().zip(&self.present);
        all.filter(|(_, present)| **present)
            .map(|(hierarchy, _)| self.dir_in(hierarchy))
    }

    fn dir_in(&self, hierarchy: &'static hierarchy::Hierarchy) -> Dir<'static> {
        let all = self.hierarchies.all.iter().zip(&self.below);
        let below = all
            .filter(|(one, below)| std::ptr::eq(*one, hierarchy) && !below.is_empty())
            .map(|(_, below)| format!("{}/{below}", self.path))
            .next();
        Dir {
            hierarchy,
            path: below.unwrap_or_else(|| self.path.clone()),
        }
    }

    /// Its directory in the hierarchy of a controller.
    fn dir_of(&self, controller: Controller) -> Option<Dir<'static>> {
        let home = self.hierarchies.home(controller)?;
        self.present[home].then(|| self.dir_in(&self.hierarchies.all[home]))
    }

    /// The directory that knows best who is in the cgroup: v2's, or the one of the controller that
    /// must stop them all.
    fn tracking_dir(&self) -> Option<Dir<'static>> {
        let unified = self.hierarchies.unified().filter(|i| self.present[*i]);
        let unified = unified.map(|i| self.dir_in(&self.hierarchies.all[i]));
        unified
            .or_else(|| self.dir_of(Controller::Freezer))
            .or_else(|| self.dirs().next())
    }
}

/// Moves the calling thread into the hierarchies whose files [`Cgroup::open_v1`] opened: as
/// [`Cgroup::join_v1`], by a process that has given up its rights.
pub(crate) fn join_opened(tasks: &[OwnedFd]) -> Result<(), Errno> {
    tasks
        .iter()
        .try_for_each(|tasks| dir::write_value(tasks, "0"))
}

/// The descriptors by which this process finds cgroups: a child that closes the others can go on.
pub(crate) fn descriptors() -> Vec<RawFd> {
    let hierarchies = Hierarchies::of_host().map(|host| host.all.as_slice());
    let roots = hierarchies.unwrap_or_default().iter();
    roots.map(|one| one.root.as_raw_fd()).collect()
}

/// Closes every descriptor but the standard streams, `keep`, and those by which cgroups are found. Only for a
/// child that was forked without executing a program: a value that owns one of the closed ones must not be used
/// or dropped afterwards.
pub fn close_all_but_cgroups(keep: &[BorrowedFd<'_>]) {
    let mut all = descriptors();
    all.extend(keep.iter().map(AsRawFd::as_raw_fd));
    crate::sys::close_all_but(&all);
}

/// Does the kernel kill a whole cgroup at one word (cgroup.kill, Linux 5.14)? No on a host without v2.
#[must_use]
pub fn kills_at_once() -> bool {
    let Ok(host) = Hierarchies::of_host() else {
        return false;
    };
    let unified = host.unified().and_then(|at| host.all.get(at));
    unified.is_some_and(|hierarchy| {
        let path = String::new();
        let root = Dir { hierarchy, path };
        // The root itself has none; one below it is not to be killed, and only looked at.
        let below = root.children().unwrap_or_default();
        root.has("cgroup.kill") || below.iter().any(|dir| dir.has("cgroup.kill"))
    })
}

/// Does this host have the unified hierarchy alone?
pub fn is_unified() -> bool {
    Hierarchies::of_host().is_ok_and(Hierarchies::only_unified)
}

/// The path of a container that names none: its id. An ordinary user's is beside his own cgroup, which
/// may have been delegated to him.
pub fn default_path(id: &str) -> String {
    let beside = || {
        let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let (above, _) = own.rsplit_once('/')?;
        Some(format!("{above}/{id}"))
    };
    match is_rootless() && is_unified() {
        true => beside().unwrap_or_else(|| format!("/{id}")),
        false => format!("/{id}"),
    }
}

/// A path that stays below a root: its names, joined by single slashes.
fn checked(path: &str) -> Result<String, Error> {
    let wrong = |reason| {
        Err(Error::InvalidPath {
            path: path.to_owned(),
            reason,
        })
    };
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect();
    match names.as_slice() {
        [] => wrong("it names the root"),
        names if names.contains(&"..") => wrong("it contains \"..\""),
        _ if path.contains(['\0', '\n']) => wrong("it contains NUL or a line break"),
        names => Ok(names.join("/")),
    }
}

#[cfg(test)]
mod tests;
