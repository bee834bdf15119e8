//! The node: what floe runs on and as whom, as one value that is found once, when the engine opens, and
//! passed down. Whoever would assume root, a version of cgroups or a kernel asks it instead.
//!
//! Finding it is a handful of reads; what costs more (trying what the kernel can, reading the ranges of
//! ids) is found when it is first asked for, and kept.
//!
//! | file | |
//! | --- | --- |
//! | `privileges.rs` | user, user namespace, capabilities: who may make what |
//! | `cgroups.rs` | version and manager of cgroups, and what cgroups of pods are called |
//! | `kernel.rs` | what the kernel can beyond the oldest that floe runs on |
//! | `ids.rs` | ranges of subordinate ids |
//! | `devices.rs` | device nodes |

pub(crate) mod cgroups;
pub(crate) mod devices;
mod ids;
mod kernel;
mod privileges;

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Value, json};

pub use cgroups::{Cgroups, Manager, Version};
pub use ids::{IdRange, IdRanges};
pub use kernel::Kernel;
pub use privileges::Privileges;

use crate::config::Config;
use crate::error::{Error, Result};

/// See the module.
#[derive(Debug)]
pub struct Node {
    privileges: Privileges,
    cgroups: Cgroups,
    kernel: Kernel,
    network: NetworkBackend,
    ids: OnceLock<IdRanges>,
    root: PathBuf,
    runroot: PathBuf,
}

/// Who makes the networks of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkBackend {
    /// Bridges, virtual Ethernet and nftables of the node, over netlink; plugins beside it.
    Netlink,
    /// Nobody: it takes CAP_NET_ADMIN over the node's network, and a back end in user space is not built.
    None,
}

impl NetworkBackend {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Netlink => "netlink",
            Self::None => "none",
        }
    }
}

impl Node {
    /// Looks at the node, and chooses what the configuration leaves open.
    ///
    /// # Errors
    /// What the configuration asks for and the node does not have.
    pub fn find(config: &Config) -> Result<Self> {
        let privileges = Privileges::of_caller();
        let cgroups = Cgroups::choose(&config.runtime, cgroups::Found::here(&privileges)).map_err(
            |reason| Error::Config {
                origin: "crio.runtime".into(),
                reason,
            },
        )?;
        let network = match privileges.has("NET_ADMIN") && !privileges.in_user_namespace() {
            true => NetworkBackend::Netlink,
            false => NetworkBackend::None,
        };
        Ok(Self {
            cgroups,
            kernel: Kernel::of(&config.root_table.root),
            network,
            ids: OnceLock::new(),
            root: config.root_table.root.clone(),
            runroot: config.root_table.runroot.clone(),
            privileges,
        })
    }

    /// As whom floe runs, and what that may do.
    #[must_use]
    pub fn privileges(&self) -> &Privileges {
        &self.privileges
    }

    /// Its cgroups.
    #[must_use]
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// What its kernel can.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Who makes the networks of pods.
    #[must_use]
    pub fn network(&self) -> NetworkBackend {
        self.network
    }

    /// The subordinate ids of the user that floe runs as.
    #[must_use]
    pub fn ids(&self) -> &IdRanges {
        self.ids
            .get_or_init(|| IdRanges::of_user(self.privileges.uid()))
    }

    /// May an engine be opened here?
    ///
    /// # Errors
    /// What a user without root lacks.
    pub(crate) fn must_be_roots(&self) -> Result<()> {
        match self.privileges.is_root() {
            true => Ok(()),
            false => Err(Error::Unsupported(format!(
                "pods and containers as user {}: floe needs root, rootless ones are not built",
                self.privileges.uid()
            ))),
        }
    }

    /// All of it, for a person to read; tries what was not tried yet.
    #[must_use]
    pub fn report(&self) -> Value {
        json!({
            "root": self.root,
            "runroot": self.runroot,
            "privileges": self.privileges.report(),
            "cgroups": self.cgroups.report(),
            "network": self.network.name(),
            "ids": self.ids().report(),
            "kernel": self.kernel.report(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_is_can_be_read() {
        let node = Node::find(&Config::default()).unwrap();
        let report = node.report();
        assert_eq!(report["root"], "/var/lib/floe");
        assert_eq!(report["privileges"]["uid"], node.privileges().uid());
        let manager = report["cgroups"]["manager"].as_str().unwrap();
        assert_eq!(manager, node.cgroups().manager().name());
        assert!(report["kernel"]["release"].as_str().unwrap().contains('.'));
        assert!(report["kernel"]["idmapped_mounts"].is_boolean());
        assert!(report["ids"]["uids"].is_array());
        assert_eq!(node.must_be_roots().is_ok(), node.privileges().is_root());
    }
}
