//! host-local in-process: one address from each range set, remembered in files.
//! CNI plugins: ipam/host-local (ranges, subnet, routes, dataDir, resolvConf).

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::range::{RangeConfig, RangeSet, check_disjoint};
use super::store::{LeaseDir, Locked};
use crate::cni::Places;
use crate::cni::result::{CniResult, IpConfig, RouteConfig};
use crate::{Dns, Error, Result};

/// The `ipam` object of this type.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    ranges: Vec<Vec<RangeConfig>>,
    #[serde(default)]
    routes: Vec<RouteConfig>,
    data_dir: Option<PathBuf>,
    #[serde(default)]
    resolv_conf: Option<PathBuf>,
}

/// A checked host-local configuration.
#[derive(Debug)]
pub(crate) struct HostLocal {
    network: String,
    leases: LeaseDir,
    sets: Vec<RangeSet>,
    routes: Vec<RouteConfig>,
    resolv_conf: Option<PathBuf>,
    /// Addresses that are asked for, instead of chosen ones.
    asked: Vec<IpAddr>,
}

impl HostLocal {
    /// Checks an `ipam` object. Leases are kept below its `dataDir`, or else where `places` says: there the
    /// program host-local is asked too.
    pub(crate) fn parse(ipam: &Map<String, Value>, network: &str, places: &Places) -> Result<Self> {
        let wrong = |error: serde_json::Error| Error::config(network, "ipam", error.to_string());
        let mut config = Config::deserialize(Value::Object(ipam.clone())).map_err(wrong)?;
        // The older spelling: one range in the object itself.
        if ipam.contains_key("subnet") {
            let range = RangeConfig::deserialize(Value::Object(ipam.clone())).map_err(wrong)?;
            config.ranges.insert(0, vec![range]);
        }
        if config.ranges.is_empty() {
            return Err(Error::config(
                network,
                "ipam.ranges",
                "is missing, and so is ipam.subnet",
            ));
        }
        let sets = config
            .ranges
            .iter()
            .enumerate()
            .map(|(index, set)| RangeSet::check(set, network, &format!("ipam.ranges[{index}]")))
            .collect::<Result<Vec<_>>>()?;
        check_disjoint(&sets, network)?;
        Ok(HostLocal {
            network: network.to_owned(),
            leases: lease_dir(config.data_dir.as_deref(), network, places),
            sets,
            routes: config.routes,
            resolv_conf: config
                .resolv_conf
                .filter(|path| !path.as_os_str().is_empty()),
            asked: Vec::new(),
        })
    }

    /// With the addresses that one attachment asks for (CNI conventions, `args.cni.ips`).
    pub(crate) fn asked(mut self, args: Option<&Value>) -> Result<Self> {
        let ips = args.and_then(|args| args.get("cni")?.get("ips")?.as_array());
        for ip in ips.into_iter().flatten() {
            let text = ip.as_str().unwrap_or_default();
            // With a prefix or without.
            let ip = text.split('/').next().unwrap_or_default().parse();
            let wrong =
                |why: &str| Error::config(&self.network, "args.cni.ips", format!("{text:?} {why}"));
            let ip: IpAddr = ip.map_err(|_| wrong("is not an address"))?;
            if !self.sets.iter().any(|set| set.of(ip).is_some()) {
                return Err(Error::NotInNetwork {
                    network: self.network.clone(),
                    ip,
                });
            }
            self.asked.push(ip);
        }
        Ok(self)
    }

    /// The address of a set that is asked for, taken.
    fn take_asked(
        &self,
        locked: &Locked<'_>,
        set: &RangeSet,
        (id, ifname): (&str, &str),
    ) -> Result<Option<IpConfig>> {
        let mut asked = self.asked.iter().filter_map(|ip| Some((*ip, set.of(*ip)?)));
        let Some((ip, range)) = asked.next() else {
            return Ok(None);
        };
        let taken = |owner: String| Error::AddressTaken { ip, owner };
        if ip == range.gateway() {
            return Err(taken("the network's gateway".to_owned()));
        }
        match locked.reserve_only(ip, id, ifname)? {
            true => Ok(Some(IpConfig::new(
                range.with_prefix(ip),
                Some(range.gateway()),
            ))),
            false => Err(taken(self.leases.owner(ip)?.unwrap_or_default())),
        }
    }

    /// One address from each set.
    pub(crate) fn add(&self, id: &str, ifname: &str) -> Result<CniResult> {
        let dns = match &self.resolv_conf {
            Some(path) => read_resolv_conf(path)?,
            None => Dns::default(),
        };
        let mut taken = Taken {
            leases: &self.leases,
            id,
            ips: Vec::new(),
        };
        let mut ips = Vec::with_capacity(self.sets.len());
        let locked = self.leases.lock()?;
        for (index, set) in self.sets.iter().enumerate() {
            let mut free = self.take_asked(&locked, set, (id, ifname))?;
            if let Some(asked) = &free {
                taken.ips.push(asked.address.addr());
                ips.push(asked.clone());
                continue;
            }
            for (ip, range) in set.after(locked.last(index)) {
                if locked.reserve(ip, id, ifname, index)? {
                    taken.ips.push(ip);
                    free = Some(IpConfig::new(range.with_prefix(ip), Some(range.gateway())));
                    break;
                }
            }
            ips.push(free.ok_or_else(|| Error::Exhausted {
                network: self.network.clone(),
                ranges: set.to_string(),
                dir: self.leases.path().to_owned(),
            })?);
        }
        taken.commit();
        Ok(CniResult {
            ips,
            routes: self.routes.clone(),
            dns,
            ..CniResult::default()
        })
    }

    /// Takes the pod's addresses back. Those of its result are found at once; if they are not all
    /// (a later plugin may have changed the result), every address is looked at for the pod's id.
    pub(crate) fn del(&self, id: &str, result: Option<&CniResult>) -> Result<()> {
        let mut released = 0;
        for ip in result.into_iter().flat_map(|result| &result.ips) {
            let ip = ip.address.addr();
            if self.sets.iter().any(|set| set.contains(ip)) && self.leases.release(ip, id)? {
                released += 1;
            }
        }
        if released == self.sets.len() {
            Ok(())
        } else {
            self.leases.release_all(id)
        }
    }
}

fn lease_dir(data_dir: Option<&Path>, network: &str, places: &Places) -> LeaseDir {
    let Some(data_dir) = data_dir else {
        let own = LeaseDir::new(places.leases.join(network));
        let host_local = places.host_local.as_ref().map(|dir| dir.join(network));
        return own.beside(host_local);
    };
    LeaseDir::new(data_dir.join(network))
}

/// Addresses taken so far; given back when dropped before `commit`.
struct Taken<'a> {
    leases: &'a LeaseDir,
    id: &'a str,
    ips: Vec<IpAddr>,
}

impl Taken<'_> {
    fn commit(mut self) {
        self.ips.clear();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for ip in &self.ips {
            if let Err(error) = self.leases.release(*ip, self.id) {
                tracing::warn!(pod = self.id, %error, "an address could not be given back");
            }
        }
    }
}

/// resolv.conf(5), as far as a CNI result can carry it.
fn read_resolv_conf(path: &Path) -> Result<Dns> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    Ok(dns)
}

#[cfg(test)]
#[path = "host_local/tests.rs"]
mod tests;
