//! The host's side, shared by all pods: bridges and the nftables tables. Each is made when the first
//! pod needs it, and looked at again for every pod, since an operator may have removed it; but for what
//! only saves time ([`reports`]).

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use crate::nft::{Table, isolation, reports};
use crate::rtnetlink::link::Link;
use crate::rtnetlink::{Borrowed, Pool, address, link};
use crate::{Error, Mac, NetworkConfig, Result, sys, sysctl};
use netlink::Socket;

/// What this process has made on the host.
#[derive(Debug)]
pub(crate) struct Host {
    table: Table,
    lock: PathBuf,
    bridges: Mutex<Bridges>,
    route: Pool,
    netfilter: Pool,
    retired: Arc<Mutex<Vec<Link>>>,
}

/// Number and gateway addresses of each bridge by name.
type Bridges = HashMap<String, (u32, Vec<IpNet>)>;

/// What a bridge has to be like.
#[derive(Debug)]
pub(crate) struct BridgeWish<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Maximum packet size; 0 for the kernel's default.
    pub(crate) mtu: u32,
    /// Its own addresses: the pods' gateways. None: it only connects.
    pub(crate) gateways: &'a [IpNet],
}

impl Host {
    /// Knows nothing yet.
    pub(crate) fn new(config: &NetworkConfig) -> Self {
        Host {
            table: Table::new(config.table()),
            lock: config.state_dir.join("lock"),
            bridges: Mutex::default(),
            route: Pool::new(Socket::route),
            netfilter: Pool::new(Socket::netfilter),
            retired: Arc::default(),
        }
    }

    /// rtnetlink on the host.
    pub(crate) fn route(&self) -> Result<Borrowed<'_>> {
        self.route.get()
    }

    /// Netfilter on the host.
    pub(crate) fn netfilter(&self) -> Result<Borrowed<'_>> {
        self.netfilter.get()
    }

    fn bridges(&self) -> MutexGuard<'_, Bridges> {
        self.bridges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other processes from making or removing bridge and table, while it is held.
    pub(crate) fn lock(&self) -> Result<File> {
        if let Some(dir) = self.lock.parent() {
            fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        }
        let file = File::create(&self.lock).map_err(Error::file("open", &self.lock))?;
        sys::lock::exclusive(&file, &self.lock)?;
        Ok(file)
    }

    /// The number of a bridge that is as wished; made, if need be.
    pub(crate) fn bridge(&self, socket: &mut Socket, wish: &BridgeWish<'_>) -> Result<u32> {
        let found = link::by_name(socket, wish.name)?;
        if let Some(found) = found
            && self.is_known(found.index, wish)
        {
            return Ok(found.index);
        }
        // The lock before the mutex, everywhere.
        let _lock = self.lock()?;
        let found = match link::by_name(socket, wish.name)? {
            Some(found) => found,
            None => {
                socket.send_one(link::new_bridge(
                    wish.name,
                    mac_of(wish.name),
                    wish.mtu,
                    isolation::APART,
                ))?;
                link::by_name(socket, wish.name)?.ok_or_else(|| not_a_bridge(wish.name))?
            }
        };
        if found.kind != "bridge" {
            return Err(not_a_bridge(wish.name));
        }
        link_settings(wish.name)?;
        forwarding(wish.gateways)?;
        let mut requests = vec![link::up(found.index, wish.name)];
        let address = |one: &IpNet| address::add(found.index, wish.name, *one);
        requests.extend(wish.gateways.iter().map(address));
        socket.send(requests)?;
        self.keep_reports_from_pods(wish.name);
        self.remember(found.index, wish);
        tracing::debug!(bridge = wish.name, "bridge is ready");
        Ok(found.index)
    }

    /// A kernel that cannot costs time for each pod, and nothing else.
    fn keep_reports_from_pods(&self, bridge: &str) {
        let kept = self
            .netfilter()
            .and_then(|mut socket| reports::keep_from_pods(&mut socket, self.table.name()));
        if let Err(error) = kept {
            tracing::info!(bridge, %error, "each pod gets the multicast reports of all others");
        }
    }

    /// Whether this process has seen to it that the bridge of this number is as wished.
    fn is_known(&self, index: u32, wish: &BridgeWish<'_>) -> bool {
        self.bridges()
            .get(wish.name)
            .is_some_and(|(known, gateways)| {
                *known == index && wish.gateways.iter().all(|one| gateways.contains(one))
            })
    }

    fn remember(&self, index: u32, wish: &BridgeWish<'_>) {
        let mut bridges = self.bridges();
        let known = bridges.entry(wish.name.to_owned()).or_default();
        if known.0 != index {
            *known = (index, Vec::new());
        }
        known.1.extend(wish.gateways);
    }

    /// Makes packets from the pods' subnets leave with the host's address.
    pub(crate) fn masquerade(&self, subnets: &[IpNet]) -> Result<()> {
        let mut socket = self.netfilter()?;
        self.ensure_table(&mut socket)?;
        for subnet in subnets {
            if !self.table.masquerades(&mut socket, *subnet)? {
                self.table.masquerade(&mut socket, *subnet)?;
            }
        }
        Ok(())
    }

    /// The table, made if need be, and a socket to change it.
    pub(crate) fn table(&self) -> Result<(&Table, Borrowed<'_>)> {
        let mut socket = self.netfilter()?;
        self.ensure_table(&mut socket)?;
        Ok((&self.table, socket))
    }

    /// The table if it is there.
    pub(crate) fn existing_table(&self) -> Result<(&Table, Borrowed<'_>)> {
        Ok((&self.table, self.netfilter()?))
    }

    fn ensure_table(&self, socket: &mut Socket) -> Result<()> {
        if self.table.is_current(socket)? {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.table.ensure(socket)
    }

    /// Removes a bridge and the table. The caller holds the lock.
    pub(crate) fn destroy(&self, bridge: &str) -> Result<()> {
        self.bridges().clear();
        let mut socket = self.route()?;
        if let Some(found) = link::by_name(&mut socket, bridge)?
            && found.kind == "bridge"
        {
            socket.send_one(link::delete(found.index, bridge))?;
        }
        let mut netfilter = self.netfilter()?;
        reports::forget(&mut netfilter, self.table.name())?;
        self.table.delete(&mut netfilter)
    }

    /// Removes a network's bridge, and what is said of it and of its subnets.
    pub(crate) fn destroy_network(&self, bridge: &str, subnets: &[IpNet]) -> Result<()> {
        let _lock = self.lock()?;
        self.bridges().remove(bridge);
        let mut socket = self.route()?;
        if let Some(found) = link::by_name(&mut socket, bridge)?
            && found.kind == "bridge"
        {
            socket.send_one(link::delete(found.index, bridge))?;
        }
        let mut netfilter = self.netfilter()?;
        isolation::forget(&mut netfilter, self.table.name(), bridge)?;
        subnets
            .iter()
            .try_for_each(|subnet| self.table.forget_masquerade(&mut netfilter, *subnet))
    }

    /// Cuts a pod's host link off at once, and deletes it a little later from a thread of its own:
    /// deleting takes the kernel tens of milliseconds, and as a rule the pod's namespace is about to
    /// go and takes the link with it.
    pub(crate) fn retire_link(&self, name: &str) -> Result<()> {
        let mut socket = self.route()?;
        let Some(found) = link::by_name(&mut socket, name)? else {
            return Ok(());
        };
        socket.send_one(link::cut_off(found.index, name))?;
        lock_retired(&self.retired).push(found);
        let retired = self.retired.clone();
        let delete = move || {
            thread::sleep(RETIRE);
            let deleted = Socket::route()
                .map_err(Into::into)
                .and_then(|mut socket| delete_retired(&retired, &mut socket));
            if let Err(error) = deleted {
                tracing::warn!(%error, "a retired link could not be deleted");
            }
        };
        let spawned = thread::Builder::new()
            .name("retire-link".to_owned())
            .stack_size(RETIRE_STACK)
            .spawn(delete);
        // Without a thread the link still goes with the pod's namespace, and it is cut off already.
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to delete a retired link");
        }
        Ok(())
    }

    /// Deletes all retired links now; true when there was one.
    pub(crate) fn delete_retired(&self, socket: &mut Socket) -> Result<bool> {
        delete_retired(&self.retired, socket)
    }
}

fn lock_retired(retired: &Mutex<Vec<Link>>) -> MutexGuard<'_, Vec<Link>> {
    retired.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each thread takes what there is, so that most find nothing left to do.
fn delete_retired(retired: &Mutex<Vec<Link>>, socket: &mut Socket) -> Result<bool> {
    let links = std::mem::take(&mut *lock_retired(retired));
    socket.send(
        links
            .iter()
            .map(|link| link::delete(link.index, &link.name))
            .collect(),
    )?;
    Ok(!links.is_empty())
}

/// Time for the pod's namespace to go by itself.
const RETIRE: Duration = Duration::from_millis(150);
const RETIRE_STACK: usize = 128 << 10;

fn not_a_bridge(name: &str) -> Error {
    Error::config(
        name,
        "bridge",
        "a link of this name exists and is not a bridge",
    )
}

/// Settings of a host's link towards pods, before it comes up: its addresses are usable at once (the
/// kernel asks for pods' hardware addresses with its link-local one), and it takes no router
/// advertisements from pods.
pub(crate) fn link_settings(name: &str) -> Result<()> {
    sysctl::set_if_there(&["ipv6", "conf", name, "accept_dad"], "0")?;
    sysctl::set_if_there(&["ipv6", "conf", name, "accept_ra"], "0")
}

/// Lets the host forward packets of the gateways' families.
pub(crate) fn forwarding(gateways: &[IpNet]) -> Result<()> {
    if gateways.iter().any(|gateway| gateway.addr().is_ipv4()) {
        sysctl::set(&["ipv4", "ip_forward"], "1")?;
    }
    if gateways.iter().any(|gateway| gateway.addr().is_ipv6()) {
        sysctl::set(&["ipv6", "conf", "all", "forwarding"], "1")?;
    }
    Ok(())
}

/// A bridge keeps its hardware address when it is made again, and so pods keep their neighbour.
fn mac_of(name: &str) -> Mac {
    let [.., a, b, c, d, e] = hash(&[name]).to_be_bytes();
    // Locally administered, unicast.
    Mac([0x0a, a, b, c, d, e])
}

/// The name of a pod's link on the host: the same for the same pod, so that a left-over is found.
pub(crate) fn link_name(network: &str, id: &str, ifname: &str) -> String {
    format!(
        // As `nft::reports` knows them.
        "veth{:011x}",
        hash(&[network, id, ifname]) & 0xfff_ffff_ffff
    )
}

/// FNV-1a over the words.
fn hash(words: &[&str]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_and_differ_by_pod_and_network() {
        let name = link_name("floe0", "pod-a", "eth0");
        assert_eq!(name.len(), 15);
        assert_eq!(name, link_name("floe0", "pod-a", "eth0"));
        assert_ne!(name, link_name("floe0", "pod-b", "eth0"));
        assert_ne!(name, link_name("floe1", "pod-a", "eth0"));
        assert_eq!(mac_of("floe0").0[0] & 3, 2, "locally administered, unicast");
    }
}
