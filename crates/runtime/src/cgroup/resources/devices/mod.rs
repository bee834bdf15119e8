//! Which device nodes processes may open and make: v1's device controller, v2's eBPF program.
//!
//! Rules are taken in order, the last that matches decides; what every container needs is allowed
//! after them. An empty list leaves the devices alone: a pod's cgroup restricts nothing.

mod allowed;
mod program;
mod rules;
mod v1;

use std::os::fd::AsFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Field;
use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};
use crate::cgroup::sys;
use crate::rootless::{in_user_namespace, optional_cgroups};
use crate::spec::DeviceCgroup;
use rules::Policy;

pub(in crate::cgroup) use allowed::{Allowed, allowed};

const DEVICES: Field = Field {
    name: "linux.resources.devices",
    controller: Controller::Devices,
};

/// What every container may do: make any node (opening it is another matter), and use null, zero,
/// full, random, urandom, tty, ptmx and the pseudo terminals.
pub fn default_rules() -> Vec<DeviceCgroup> {
    let any = |kind: &str| (kind.to_owned(), None, None, "m");
    let char = |major, minor| ("c".to_owned(), Some(major), minor, "rwm");
    let used = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
    let used = used.map(|(major, minor)| char(major, Some(minor)));
    let all = [any("c"), any("b")]
        .into_iter()
        .chain(used)
        .chain([char(136, None)]);
    all.map(|(kind, major, minor, access)| DeviceCgroup {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access: Some(access.to_owned()),
    })
    .collect()
}

/// Enforces the rules and the default ones.
pub(super) fn apply(cgroup: &Cgroup, rules: &[DeviceCgroup]) -> Result<(), Error> {
    if rules.is_empty() {
        return Ok(());
    }
    let policy = Policy::of(rules.iter().chain(&default_rules()))?;
    match cgroup.dir_of(DEVICES.controller) {
        None if policy.allows_everything() => Ok(()),
        // Nor can such a container make a device node, or open one that its caller could not.
        None if powerless() => Ok(()),
        None => Err(DEVICES.missing(format!("{} rules", rules.len()))),
        Some(dir) => {
            let applied = match dir.version() {
                Version::V1 => v1::apply(&dir, &policy),
                Version::V2 => v2(&dir, &policy),
            };
            match applied {
                // Who may not set rules, although the cgroup is his, may not make nodes either.
                Err(
                    Error::DeviceProgram {
                        errno: Errno::PERM, ..
                    }
                    | Error::Set {
                        errno: Errno::PERM, ..
                    },
                ) if powerless() => Ok(()),
                other => other,
            }
        }
    }
}

/// Has the caller no rights over the host's devices?
fn powerless() -> bool {
    optional_cgroups() || in_user_namespace()
}

/// Attaches the program of the policy, in the place of the one before, so that there is no moment
/// with neither.
fn v2(dir: &Dir<'_>, policy: &Policy) -> Result<(), Error> {
    let program = program::compile(policy);
    let failed = |operation| {
        let (length, path) = (program.len(), dir.display_path());
        move |errno: Errno| Error::DeviceProgram {
            operation,
            length,
            path,
            errno,
        }
    };
    let cgroup = dir
        .open("", OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(|errno| dir.error("open", "", errno))?;
    let old = sys::device_programs(cgroup.as_fd()).map_err(failed("query"))?;
    let mut superfluous = old.as_slice();
    if !policy.allows_everything() {
        let new = sys::load_device_program(&program).map_err(failed("load"))?;
        let replaced = match old.as_slice() {
            [one] => Some(one.as_fd()),
            _ => None,
        };
        sys::attach_device_program(cgroup.as_fd(), new.as_fd(), replaced)
            .map_err(failed("attach"))?;
        if replaced.is_some() {
            superfluous = &[];
        }
    }
    for program in superfluous {
        sys::detach_device_program(cgroup.as_fd(), program.as_fd()).map_err(failed("detach"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
