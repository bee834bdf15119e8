//! Where a [`Network`](crate::Network) finds its configuration and keeps its state.
//! Only values; reading the CNI configuration directory is `cni::conflist`'s work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Settings of one [`Network`](crate::Network).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Directory of CNI configuration files (`*.conflist`, `*.conf`, `*.json`). When it is missing
    /// or holds none, the built-in dual-stack bridge network is used.
    pub conf_dir: PathBuf,
    /// Directories searched in order for plugins that are not built in.
    pub plugin_dirs: Vec<PathBuf>,
    /// Where addresses and results are kept; see the crate's page for its layout.
    pub state_dir: PathBuf,
    /// Where CNI's host-local keeps the addresses of networks that name no `dataDir`. Addresses of
    /// networks of `conf_dir` are taken there too, so that neither floe nor another engine with the same
    /// configuration gives out what the other's pods have. `None`: nobody else gives out addresses.
    pub host_local_dir: Option<PathBuf>,
    /// Name of the bridge of the built-in network (at most 15 bytes), which also names the nftables
    /// table (`floe-BRIDGE`) for every network of this engine.
    pub bridge: String,
    /// Subnets of the built-in network, at most one per address family. The first address of each
    /// is the gateway.
    pub subnets: Vec<IpNet>,
    /// Name of the network to use; `None` takes the first valid file in `conf_dir`, in the order of
    /// the file names.
    pub default_network: Option<String>,
}

impl NetworkConfig {
    /// Name of the built-in network, as `default_network` can ask for it.
    pub const BUILT_IN: &'static str = "floe";

    /// Name of the nftables tables (families `inet` and `bridge`) that this engine owns.
    pub fn table(&self) -> String {
        format!("floe-{}", self.bridge)
    }
}

impl Default for NetworkConfig {
    /// The places a node uses: `/etc/cni/net.d`, `/opt/cni/bin` and `/usr/lib/cni`, `/run/floe/network`,
    /// `/var/lib/cni/networks`, bridge `floe0` with `10.87.0.0/16` and `fd00:87::/64`.
    fn default() -> Self {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(10, 87, 0, 0), 16);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x87, 0, 0, 0, 0, 0, 0), 64);
        NetworkConfig {
            conf_dir: PathBuf::from("/etc/cni/net.d"),
            plugin_dirs: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            state_dir: PathBuf::from("/run/floe/network"),
            host_local_dir: Some(PathBuf::from("/var/lib/cni/networks")),
            bridge: "floe0".to_owned(),
            subnets: vec![IpNet::V4(v4), IpNet::V6(v6)],
            default_network: None,
        }
    }
}

/// The first address after the network's own: by convention the gateway.
pub(crate) fn first_address(net: &IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits().wrapping_add(1))),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits().wrapping_add(1))),
    }
}
