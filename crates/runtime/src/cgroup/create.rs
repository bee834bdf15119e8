//! Making a cgroup in all hierarchies, with what must be true before processes can enter: v1
//! cpusets filled from above, v2 controllers enabled from above.
//!
//! Everything made is undone on failure; nothing that was there before is ever removed.

use rustix::io::Errno;

use super::dir::Dir;
use super::error::Error;
use super::freeze;
use super::hierarchy::{Controller, Hierarchies, Version};
use super::systemd::Started;
use crate::rootless::optional_cgroups;
use crate::spec::Resources;

/// A cgroup just made. Dropped uncommitted, it removes the directories that it made, and what
/// systemd made before them.
#[derive(Debug)]
pub(super) struct Made {
    /// Which hierarchies have the cgroup now, by index.
    pub(super) present: Vec<bool>,
    /// Directories made, parents first.
    dirs: Vec<Dir<'static>>,
    pub(super) unit: Option<Started>,
}

impl Made {
    /// Keeps what was made.
    pub(super) fn commit(mut self) {
        self.dirs.clear();
        if let Some(unit) = self.unit.take() {
            unit.commit();
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for dir in self.dirs.iter().rev() {
            // One that somebody uses by now is theirs.
            let _ = dir.rmdir();
        }
    }
}

/// Makes `path` in every hierarchy. A process that is to be in it from the beginning may be there
/// already, and is moved into v2's before controllers are enabled; v1's it joins itself.
pub(super) fn make(
    hierarchies: &'static Hierarchies,
    path: &str,
    resources: Option<&Resources>,
    first: Option<i32>,
) -> Result<Made, Error> {
    let mut made = Made {
        present: Vec::new(),
        dirs: Vec::new(),
        unit: None,
    };
    let mut refused = None;
    for hierarchy in &hierarchies.all {
        let dir = Dir {
            hierarchy,
            path: path.to_owned(),
        };
        match enter(&mut made, &dir) {
            Ok(fresh) => {
                match first {
                    Some(pid) if dir.version() == Version::V2 => hold(&dir, pid)?,
                    Some(_) => {}
                    None if !fresh => must_be_unused(&dir)?,
                    None => {}
                }
                match dir.version() {
                    Version::V1 if hierarchy.controllers.contains(&Controller::Cpuset) => {
                        fill_cpuset(&dir, fresh)?
                    }
                    Version::V1 => {}
                    Version::V2 => enable(&dir, &wanted(hierarchies, &dir, resources))?,
                }
                made.present.push(true);
            }
            Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => {
                refused.get_or_insert_with(|| dir.error("mkdir", "", errno));
                made.present.push(false);
            }
            Err(errno) => return Err(dir.error("mkdir", "", errno)),
        }
    }
    match refused {
        // Without root of the host a container may do without a cgroup: a limit then fails by name.
        Some(error) if !made.present.contains(&true) && !optional_cgroups() => Err(error),
        _ => Ok(made),
    }
}

/// Makes a directory and those above it; tells whether it is new.
fn enter(made: &mut Made, dir: &Dir<'static>) -> Result<bool, Errno> {
    let mut result = dir.mkdir();
    if result == Err(Errno::NOENT)
        && let Some(parent) = dir.parent()
    {
        enter(made, &parent)?;
        result = dir.mkdir();
    }
    match result {
        Ok(()) => {
            made.dirs.push(dir.clone());
            Ok(true)
        }
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Moves a process in, unless it is: that would make the kernel wait.
fn hold(dir: &Dir<'_>, pid: i32) -> Result<(), Error> {
    if dir.own_processes()?.contains(&pid) {
        return Ok(());
    }
    dir.put("cgroup.procs", &pid.to_string())
}

fn must_be_unused(dir: &Dir<'_>) -> Result<(), Error> {
    let pids = dir.processes()?;
    if !pids.is_empty() {
        return Err(Error::Occupied {
            path: dir.display_path(),
            pids,
        });
    }
    if freeze::frozen_here(dir)? {
        return Err(Error::Frozen {
            path: dir.display_path(),
        });
    }
    Ok(())
}

/// Gives a v1 cpuset the CPUs and memory nodes of the one above it: empty ones take no process.
/// `fresh` saves asking whether it is empty.
fn fill_cpuset(dir: &Dir<'_>, fresh: bool) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fresh || dir.get(file)?.trim().is_empty() {
            dir.put(file, cpuset_of_parent(dir, file)?.trim())?;
        }
    }
    Ok(())
}

/// What the directory above allows, after it was filled as well.
fn cpuset_of_parent(dir: &Dir<'_>, file: &str) -> Result<String, Error> {
    let Some(parent) = dir.parent() else {
        return dir.get(file);
    };
    let value = parent.get(file)?;
    if !value.trim().is_empty() || parent.path.is_empty() {
        return Ok(value);
    }
    let value = cpuset_of_parent(&parent, file)?;
    parent.put(file, value.trim())?;
    Ok(value)
}

/// The v2 controllers the cgroup should have: all that have limits or counters; beside v1
/// hierarchies, only what a limit asks for.
fn wanted(
    hierarchies: &Hierarchies,
    dir: &Dir<'_>,
    resources: Option<&Resources>,
) -> Vec<&'static str> {
    let useful = [
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Io,
        Controller::Memory,
        Controller::Pids,
        Controller::Hugetlb,
        Controller::Rdma,
        Controller::Misc,
    ];
    let asked = |controller: &Controller| match controller {
        Controller::Hugetlb => {
            resources.is_some_and(|resources| !resources.hugepage_limits.is_empty())
        }
        _ => false,
    };
    let here = |controller: &Controller| dir.hierarchy.controllers.contains(controller);
    let useful = useful.into_iter().filter(here);
    useful
        .filter(|controller| hierarchies.only_unified() || asked(controller))
        .map(|controller| controller.name(Version::V2))
        .collect()
}

/// Enables controllers in all cgroups above. One that a parent cannot enable (it holds processes,
/// or was not given the controller itself) stays off; a limit that needs it fails with its name.
fn enable(dir: &Dir<'_>, wanted: &[&str]) -> Result<(), Error> {
    if wanted.is_empty() || missing(&dir.get("cgroup.controllers")?, wanted).is_empty() {
        return Ok(());
    }
    let mut above: Vec<Dir<'_>> = std::iter::successors(dir.parent(), Dir::parent).collect();
    above.reverse();
    for parent in above {
        let missing = missing(&parent.get("cgroup.subtree_control")?, wanted);
        let words: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
        if !words.is_empty()
            && parent
                .write("cgroup.subtree_control", &words.join(" "))
                .is_err()
        {
            for word in &words {
                let _ = parent.write("cgroup.subtree_control", word);
            }
        }
    }
    Ok(())
}

/// The names of `wanted` that `text` does not list.
fn missing<'w>(text: &str, wanted: &[&'w str]) -> Vec<&'w str> {
    let lists = |name: &&str| text.split_ascii_whitespace().any(|listed| listed == *name);
    wanted.iter().copied().filter(|name| !lists(name)).collect()
}
