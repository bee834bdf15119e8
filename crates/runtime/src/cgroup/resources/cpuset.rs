//! CPUs and memory nodes that processes may use.

use super::Field;
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Controller;
use crate::spec::Cpu;

const CPUS: Field = Field {
    name: "linux.resources.cpu.cpus",
    controller: Controller::Cpuset,
};
const MEMS: Field = Field {
    name: "linux.resources.cpu.mems",
    controller: Controller::Cpuset,
};

/// Sets what is given; the files are the same in v1 and v2.
pub(super) fn apply(cgroup: &Cgroup, cpu: &Cpu) -> Result<(), Error> {
    for (field, file, list) in [
        (CPUS, "cpuset.cpus", &cpu.cpus),
        (MEMS, "cpuset.mems", &cpu.mems),
    ] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            field.write(&field.dir(cgroup, list)?, file, list)?;
        }
    }
    Ok(())
}
