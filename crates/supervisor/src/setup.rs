//! What a pod's supervisor is to set up before it is ready.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runtime::spec::IdMapping;
use serde::{Deserialize, Serialize};

/// A pod as its supervisor needs to know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSetup {
    /// The pod's directory, which exists and is private to root.
    pub dir: PathBuf,
    /// The pod's id; seen in the process list.
    pub id: String,
    /// The pod's host name; needs `new_uts`.
    pub hostname: Option<String>,
    /// A network namespace of its own. Its loopback is the network crate's to bring up.
    pub new_net: bool,
    /// That namespace was made by the starter, and comes along as a descriptor. Ability `set_up.netns`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub netns_given: bool,
    /// An IPC namespace of its own, and with it a private /dev/shm.
    pub new_ipc: bool,
    /// A UTS namespace of its own.
    pub new_uts: bool,
    /// One PID namespace for all containers that join it, with a tiny first process.
    pub shared_pid: bool,
    /// Kernel parameters of the pod's own namespaces, as `net.ipv4.ip_forward` or
    /// `net/ipv4/ip_forward`.
    pub sysctls: BTreeMap<String, String>,
    /// The size of /dev/shm in bytes; it is mounted only with `new_ipc`.
    pub shm_size: u64,
    /// The cgroup of the supervisor and the pod's first process; `None` leaves them in the caller's. A
    /// path that is a scope's in a slice (`a.slice/a-b.slice/x-y.scope`) is made by systemd, and so are
    /// the cgroups of the pod's containers then: config.json names them as `slice:prefix:name`.
    pub cgroup: Option<String>,
    /// The soft limit of open files (RLIMIT_NOFILE) of the supervisor and its containers; `None`
    /// leaves the caller's.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// A user namespace of its own, which then owns the pod's other namespaces; `None`: the caller's. What
    /// must not be passed over: the ability `set_up.users`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<UserIds>,
    /// Remember where the supervisor was started, for [`crate::OnExit`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_home: bool,
}

/// The ids of a user namespace, or of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIds {
    /// Of its users.
    pub uids: Vec<IdMapping>,
    /// Of its groups.
    pub gids: Vec<IdMapping>,
}

impl UserIds {
    /// A user of it as it is outside; `None`: it has none of this number.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<u32> {
        outside(&self.uids, uid)
    }

    /// A group of it as it is outside; `None`: it has none of this number.
    #[must_use]
    pub fn group(&self, gid: u32) -> Option<u32> {
        outside(&self.gids, gid)
    }

    /// Its user 0 and group 0 as they are outside; both are there, or this is no pod's.
    #[must_use]
    pub fn root(&self) -> Option<(u32, u32)> {
        Some((self.user(0)?, self.group(0)?))
    }
}

fn outside(map: &[IdMapping], id: u32) -> Option<u32> {
    map.iter().find_map(|one| {
        let offset = id.checked_sub(one.container_id)?;
        (offset < one.size).then(|| one.host_id.checked_add(offset))?
    })
}

impl PodSetup {
    /// The unit of systemd that the supervisor's cgroup is, if it is one.
    #[must_use]
    pub fn unit(&self) -> Option<runtime::cgroup::Unit> {
        runtime::cgroup::Unit::at(self.cgroup.as_deref()?)
    }
}
