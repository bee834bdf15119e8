//! RDMA handles and objects, by device.

use std::collections::BTreeMap;

use super::Field;
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Controller;
use crate::spec::Rdma;

const RDMA: Field = Field {
    name: "linux.resources.rdma",
    controller: Controller::Rdma,
};

/// Sets what is given; the file is the same in v1 and v2.
pub(super) fn apply(cgroup: &Cgroup, devices: &BTreeMap<String, Rdma>) -> Result<(), Error> {
    for (device, limits) in devices {
        let mut line = device.clone();
        for (name, limit) in [
            ("hca_handle", limits.hca_handles),
            ("hca_object", limits.hca_objects),
        ] {
            if let Some(limit) = limit {
                line += &format!(" {name}={limit}");
            }
        }
        RDMA.write(&RDMA.dir(cgroup, &line)?, "rdma.max", line)?;
    }
    Ok(())
}
