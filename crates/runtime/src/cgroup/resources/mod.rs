//! Limits: one file per resource, each for v1 and v2 (runtime-spec config-linux.md,
//! "cgroups-path" and following; kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst).
//!
//! A resource writes nothing for fields that are absent, and fails with the name of the field if
//! the host has no controller for one that is given. Values are converted from the words of v1,
//! in which the specification speaks, to those of v2 as every runtime converts them.

mod blkio;
pub(super) mod cpu;
mod cpuset;
pub(super) mod devices;
mod hugetlb;
pub(super) mod memory;
mod network;
mod pids;
mod rdma;
pub(super) mod room;
mod unified;

use std::fmt::Display;

use rustix::io::Errno;

use super::Cgroup;
use super::dir::Dir;
use super::error::Error;
use super::hierarchy::{Controller, Version};
use crate::spec::Resources;

/// Sets all limits that are given. `unified` has the last word, as it names v2's files exactly.
pub(super) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    if let Some(cpu) = &resources.cpu {
        cpuset::apply(cgroup, cpu)?;
        cpu::apply(cgroup, cpu)?;
    }
    if let Some(memory) = &resources.memory {
        memory::apply(cgroup, memory)?;
    }
    if let Some(pids) = &resources.pids {
        pids::apply(cgroup, pids)?;
    }
    if let Some(block_io) = &resources.block_io {
        blkio::apply(cgroup, block_io)?;
    }
    if let Some(network) = &resources.network {
        network::apply(cgroup, network)?;
    }
    hugetlb::apply(cgroup, &resources.hugepage_limits)?;
    rdma::apply(cgroup, &resources.rdma)?;
    devices::apply(cgroup, &resources.devices)?;
    unified::apply(cgroup, &resources.unified)
}

/// One field of the configuration, bound for a control file.
#[derive(Debug, Clone, Copy)]
struct Field {
    /// Path in config.json.
    name: &'static str,
    controller: Controller,
}

impl Field {
    /// The directory in the controller's hierarchy, or an error that names the field.
    fn dir(self, cgroup: &Cgroup, value: impl Display) -> Result<Dir<'static>, Error> {
        cgroup
            .dir_of(self.controller)
            .ok_or_else(|| self.missing(value))
    }

    fn missing(self, value: impl Display) -> Error {
        let Field {
            name: field,
            controller,
        } = self;
        Error::MissingController {
            field,
            value: value.to_string(),
            controller,
        }
    }

    fn unsupported(self, value: impl Display, reason: &'static str) -> Error {
        Error::Unsupported {
            field: self.name,
            value: value.to_string(),
            reason,
        }
    }

    fn invalid(self, value: impl Display, reason: impl Into<String>) -> Error {
        Error::InvalidValue {
            field: self.name,
            value: value.to_string(),
            reason: reason.into(),
        }
    }

    /// Writes a control file.
    fn write(self, dir: &Dir<'_>, file: &str, value: impl Display) -> Result<(), Error> {
        let value = value.to_string();
        dir.write(file, &value)
            .map_err(|errno| self.refused(dir, file, value, errno))
    }

    /// A write that failed. A v2 control file is missing when the controller was not enabled.
    fn refused(self, dir: &Dir<'_>, file: &str, value: String, errno: Errno) -> Error {
        let disabled = errno == Errno::NOENT
            && dir.version() == Version::V2
            && dir.exists()
            && !enabled(dir, self.controller);
        if disabled {
            return self.missing(value);
        }
        Error::Set {
            field: self.name,
            value,
            path: dir.display_path().join(file),
            errno,
        }
    }
}

/// Whether a v2 cgroup has a controller.
fn enabled(dir: &Dir<'_>, controller: Controller) -> bool {
    let name = controller.name(Version::V2);
    dir.read("cgroup.controllers")
        .is_ok_and(|text| text.split_ascii_whitespace().any(|word| word == name))
}

/// A limit as its file wants it: a negative one is none.
fn limit(version: Version, value: i64) -> String {
    match version {
        _ if value >= 0 => value.to_string(),
        Version::V1 => "-1".to_owned(),
        Version::V2 => "max".to_owned(),
    }
}

/// A number that is given and means something: 0 stands for absent in most fields.
fn nonzero<T: Default + PartialEq + Copy>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}
