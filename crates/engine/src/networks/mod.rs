//! Networks that people make for their containers: what each is to be, beside the images, so that it outlives a
//! reboot. The host has nothing of one before a pod joins it (`::network::joined`), and what it has then goes with
//! the network.
//!
//! ```text
//! root/networks/NAME.json
//! ```
//! The network that pods get without asking is none of these: it is the configuration's, shown as `podman`.

mod choose;
mod connect;
pub(crate) mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ::network::{Isolation, OwnNetwork, OwnRoute, OwnSubnet};
use ipnet::IpNet;

use self::record::NetworkRecord;
use crate::disk::{self, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::{NamespaceMode, Origin, Pod, PodFilter};

/// The name by which people know the network of the configuration.
pub const DEFAULT_NETWORK: &str = "podman";
/// Options that a network of people's knows.
const MTU: &str = "mtu";
const ISOLATE: &str = "isolate";
const METRIC: &str = "metric";
const MODE: &str = "mode";
const NO_DEFAULT_ROUTE: &str = "no_default_route";

/// A network to be made, or as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`; empty: that of a bridge that there is not.
    pub name: String,
    /// How its containers are connected.
    pub driver: Driver,
    /// The bridge; empty: one that there is not. Of macvlan: the host's link.
    pub interface: String,
    /// Its subnets; none: one that nobody has, and of each family with `ipv6`.
    pub subnets: Vec<Subnet>,
    /// Further routes of its containers.
    pub routes: Vec<Route>,
    /// It has both families.
    pub ipv6: bool,
    /// Nothing leads out of it.
    pub internal: bool,
    /// Containers on it know each other by name.
    pub dns: bool,
    /// Servers that are asked for what is nobody's name, in place of the host's.
    pub dns_servers: Vec<IpAddr>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `mtu`, `isolate`, `metric`, `no_default_route`.
    pub options: BTreeMap<String, String>,
}

/// How the containers of a network are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// By a bridge of the network's own.
    #[default]
    Bridge,
    /// Beside a link of the host, on its wire.
    Macvlan,
}

impl Driver {
    /// podman's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
        }
    }
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The subnet.
    pub subnet: IpNet,
    /// The host's address in it; `None` in what is to be made: the first one, where the network has one.
    pub gateway: Option<IpAddr>,
    /// The first and the last address that is given out, where not all are.
    pub range: Option<(IpAddr, IpAddr)>,
}

/// A route of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The next hop.
    pub gateway: IpAddr,
    /// Its metric.
    pub metric: Option<u32>,
}

/// A network as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// What was asked for, with what was chosen.
    pub spec: NetworkSpec,
}

/// A pod's place on a network, as it is asked for and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joining {
    /// The network's name.
    pub network: String,
    /// The interface inside; empty: `ethN`, by the order of the networks.
    pub interface: String,
    /// Addresses that it is to have.
    pub ips: Vec<IpAddr>,
    /// The hardware address that it is to have.
    pub mac: Option<::network::Mac>,
    /// Names that it has there besides its own.
    pub aliases: Vec<String>,
}

impl Engine {
    fn network_dir(&self) -> PathBuf {
        self.config().root_table.root.join("networks")
    }

    fn network_file(&self, name: &str) -> PathBuf {
        self.network_dir().join(format!("{name}.json"))
    }

    /// Makes a network: its definition.
    ///
    /// # Errors
    /// [`Error::NameTaken`], or what cannot be as it is asked for.
    pub fn create_network(&self, spec: NetworkSpec) -> Result<Network> {
        // What is free is chosen by one at a time.
        let _turn = Reservation::lock(&self.layout().names(), &["networks"])?;
        let mut others = self.networks()?;
        others.extend(self.default_network()?);
        let spec = choose::complete(self.network(), &others, spec)?;
        let record = NetworkRecord {
            id: disk::new_id()?,
            created_at: disk::now_ns(),
            spec,
            kept: Default::default(),
        };
        disk::make_dir(&self.network_dir())?;
        record.write(&self.network_file(&record.spec.name))?;
        Ok(record.view())
    }

    /// A network by its name or the beginning of its id, the configuration's included.
    ///
    /// # Errors
    /// A record that cannot be read, or an id that several begin with.
    pub fn find_network(&self, text: &str) -> Result<Option<Network>> {
        let mut all = self.networks()?;
        all.extend(self.default_network()?);
        if let Some(found) = all.iter().find(|network| network.spec.name == text) {
            return Ok(Some(found.clone()));
        }
        let mut found = all
            .into_iter()
            .filter(|network| network.id.starts_with(text));
        let first = found.next().filter(|_| !text.is_empty());
        match found.next() {
            Some(_) if first.is_some() => Err(Error::invalid(
                "network",
                format!("more than one result for network ID {text}"),
            )),
            _ => Ok(first),
        }
    }

    /// A network that people have made, by its name alone.
    pub(crate) fn own_network(&self, name: &str) -> Result<Option<Network>> {
        if choose::check_name(name).is_err() {
            return Ok(None);
        }
        let record = NetworkRecord::read(&self.network_file(name))?;
        Ok(record.map(NetworkRecord::view))
    }

    /// All networks that people have made, by name. One whose record cannot be read is a warning, and not there.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let mut all = Vec::new();
        for file in disk::entries(&self.network_dir())? {
            let Some(name) = file.strip_suffix(".json") else {
                continue;
            };
            match self.own_network(name) {
                Ok(network) => all.extend(network),
                Err(error) => disk::warn_once(&self.network_file(name), &error),
            }
        }
        all.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        Ok(all)
    }

    /// The network that pods get without asking, as people see it.
    ///
    /// # Errors
    /// None today: a configuration list of CNI's is shown by its bridge and without subnets.
    pub fn default_network(&self) -> Result<Option<Network>> {
        let config = self.network().config();
        let subnets = config.subnets.iter().map(|subnet| Subnet {
            subnet: subnet.trunc(),
            gateway: subnet.hosts().next(),
            range: None,
        });
        Ok(Some(Network {
            id: disk::hex(&sha2_of(&config.bridge)),
            created_at: 0,
            spec: NetworkSpec {
                name: DEFAULT_NETWORK.to_owned(),
                interface: config.bridge.clone(),
                ipv6: config.subnets.iter().any(|subnet| subnet.addr().is_ipv6()),
                subnets: subnets.collect(),
                ..NetworkSpec::default()
            },
        }))
    }

    /// The pods that are to be on a network, those that do not run included.
    ///
    /// # Errors
    /// Records that cannot be listed.
    pub fn users_of_network(&self, name: &str) -> Result<Vec<std::sync::Arc<Pod>>> {
        let mut users = self.pods(&PodFilter::default())?;
        users.retain(|pod| networks_of(pod).iter().any(|one| one == name));
        Ok(users)
    }

    /// What a pod has on each of its networks, by the networks' names.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn attached_networks(&self, pod: &str) -> Result<Vec<::network::Attached>> {
        let failed = |source| crate::pod::network::network_error(pod, source);
        let mut all = self.network().joined(pod).map_err(failed)?;
        if let Some(mut first) = self.network().attached(pod).map_err(failed)? {
            first.network = DEFAULT_NETWORK.to_owned();
            all.insert(0, first);
        }
        Ok(all)
    }

    /// Changes which servers a network's containers have asked for other names.
    ///
    /// # Errors
    /// A network that there is not, or one without names.
    pub fn change_dns_servers(&self, name: &str, add: &[IpAddr], drop: &[IpAddr]) -> Result<()> {
        let _turn = Reservation::lock(&self.layout().names(), &["networks"])?;
        let file = self.network_file(name);
        let known = choose::check_name(name).ok();
        let record = known.map(|()| NetworkRecord::read(&file)).transpose()?;
        let Some(mut record) = record.flatten() else {
            return Err(crate::pod::join::no_network(name));
        };
        let servers = &mut record.spec.dns_servers;
        servers.retain(|server| !drop.contains(server));
        for server in add {
            if !servers.contains(server) {
                servers.push(*server);
            }
        }
        choose::check_servers(&record.spec)?;
        record.write(&file)?;
        for pod in self.users_of_network(name)? {
            self.tell_names_again(&pod.id)?;
        }
        Ok(())
    }

    /// Removes a network that no pod is on, and what the host has of it; false: there is none of that name.
    ///
    /// # Errors
    /// [`Error::NetworkInUse`], or what cannot be removed.
    pub fn remove_network(&self, name: &str) -> Result<bool> {
        if name == DEFAULT_NETWORK {
            return Err(Error::invalid(
                "network",
                format!("default network {DEFAULT_NETWORK} cannot be removed"),
            ));
        }
        choose::check_name(name)?;
        let _turn = Reservation::lock(&self.layout().names(), &["networks"])?;
        let file = self.network_file(name);
        let record = match NetworkRecord::read(&file) {
            Ok(None) => return Ok(false),
            // One whose record is damaged goes as well, and what the host has of it stays.
            Err(_) => None,
            Ok(record) => record,
        };
        if !self.users_of_network(name)?.is_empty() {
            return Err(Error::NetworkInUse {
                name: name.to_owned(),
            });
        }
        if let Some(record) = record {
            let failed = |source| crate::pod::network::network_error(name, source);
            let own = record.view().as_joined();
            self.network().destroy_network(&own).map_err(failed)?;
        }
        std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
        Ok(true)
    }
}

impl Network {
    /// As pods join it.
    pub(crate) fn as_joined(&self) -> OwnNetwork {
        let spec = &self.spec;
        let option = |key: &str| spec.options.get(key).map(String::as_str);
        OwnNetwork {
            name: spec.name.clone(),
            bridge: spec.interface.clone(),
            subnets: spec
                .subnets
                .iter()
                .map(|one| OwnSubnet {
                    subnet: one.subnet,
                    gateway: one.gateway,
                    range: one.range,
                })
                .collect(),
            routes: spec
                .routes
                .iter()
                .map(|route| OwnRoute {
                    to: route.destination,
                    via: route.gateway,
                    metric: route.metric,
                })
                .collect(),
            internal: spec.internal,
            isolation: match option(ISOLATE) {
                Some("false") => Isolation::Open,
                Some("true") => Isolation::Normal,
                _ => Isolation::Strict,
            },
            mtu: option(MTU).and_then(|mtu| mtu.parse().ok()).unwrap_or(0),
            default_route: option(NO_DEFAULT_ROUTE) != Some("true"),
            metric: option(METRIC).and_then(|metric| metric.parse().ok()),
            macvlan: match spec.driver {
                Driver::Bridge => None,
                Driver::Macvlan => Some(option(MODE).unwrap_or("bridge").to_owned()),
            },
        }
    }
}

/// The names of the networks that a pod is to be on.
#[must_use]
pub fn networks_of(pod: &Pod) -> Vec<String> {
    let spec = &pod.spec;
    let none = spec.network_none || spec.namespaces.network == NamespaceMode::Node;
    match spec.networks.as_slice() {
        _ if none => Vec::new(),
        [] if spec.origin == Origin::Cli => vec![DEFAULT_NETWORK.to_owned()],
        [] => Vec::new(),
        joined => joined.iter().map(|one| one.network.clone()).collect(),
    }
}

/// The interface by which a pod is on a network.
#[must_use]
pub fn interface_of(pod: &Pod, network: &str) -> Option<String> {
    let joined = &pod.spec.networks;
    if joined.is_empty() {
        return networks_of(pod)
            .contains(&network.to_owned())
            .then(|| "eth0".to_owned());
    }
    let index = joined.iter().position(|one| one.network == network)?;
    interfaces(joined).ok()?.into_iter().nth(index)
}

/// The names of interfaces: `ethN` where none is asked for.
///
/// # Errors
/// A network twice, or a name that is used twice or is no interface's.
pub(crate) fn interfaces(joined: &[Joining]) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut all = Vec::new();
    for one in joined {
        if !seen.insert(&one.network) {
            let reason = format!("network {} is asked for twice", one.network);
            return Err(Error::invalid("network", reason));
        }
        if !one.interface.is_empty() {
            choose::check_interface(&one.interface)?;
            if one.interface == "lo" || !names.insert(one.interface.clone()) {
                let reason = format!("interface name {:?} is used twice", one.interface);
                return Err(Error::invalid("network", reason));
            }
        }
    }
    for one in joined {
        if !one.interface.is_empty() {
            all.push(one.interface.clone());
            continue;
        }
        let free = (0..=joined.len() * 2)
            .map(|number| format!("eth{number}"))
            .find(|name| !names.contains(name));
        let name = free.unwrap_or_else(|| "eth0".to_owned());
        names.insert(name.clone());
        all.push(name);
    }
    Ok(all)
}

/// An id for what has none of its own, always the same for the same name.
fn sha2_of(name: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(name.as_bytes()).to_vec()
}
