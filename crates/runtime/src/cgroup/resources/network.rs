//! Class and priority of network packets. Only v1 has them; v2 matches cgroups in nftables.

use super::{Field, nonzero};
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Controller;
use crate::spec::Network;

const CLASS: Field = Field {
    name: "linux.resources.network.classID",
    controller: Controller::NetCls,
};
const PRIORITIES: Field = Field {
    name: "linux.resources.network.priorities",
    controller: Controller::NetPrio,
};

/// Sets what is given.
pub(super) fn apply(cgroup: &Cgroup, network: &Network) -> Result<(), Error> {
    if let Some(class) = nonzero(network.class_id) {
        CLASS.write(&CLASS.dir(cgroup, class)?, "net_cls.classid", class)?;
    }
    for interface in &network.priorities {
        let line = format!("{} {}", interface.name, interface.priority);
        PRIORITIES.write(&PRIORITIES.dir(cgroup, &line)?, "net_prio.ifpriomap", line)?;
    }
    Ok(())
}
