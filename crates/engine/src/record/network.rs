//! `networks/NAME.json`: a network that people have made, with what was chosen for it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Form, Record, Text, VERSION};
use crate::error::{Error, Result};
use crate::networks::record::NetworkRecord;
use crate::networks::{self as live, NetworkSpec};

/// The form that this program writes.
const REVISION: u32 = 0;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Network<'a> {
    #[serde(default = "super::first")]
    version: u32,
    #[serde(default)]
    revision: u32,
    id: Text<'a>,
    created_at: i64,
    name: Text<'a>,
    /// `bridge` or `macvlan`.
    driver: Text<'a>,
    interface: Text<'a>,
    subnets: Vec<Subnet>,
    routes: Vec<Route>,
    ipv6: bool,
    internal: bool,
    dns: bool,
    dns_servers: Cow<'a, [IpAddr]>,
    labels: Cow<'a, BTreeMap<String, String>>,
    options: Cow<'a, BTreeMap<String, String>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Subnet {
    subnet: IpNet,
    gateway: Option<IpAddr>,
    range: Option<(IpAddr, IpAddr)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Route {
    destination: IpNet,
    gateway: IpAddr,
    metric: Option<u32>,
}

/// Reads the record at `path`; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<NetworkRecord>> {
    let Some((record, kept)) = super::read::<Network<'_>>(path)? else {
        return Ok(None);
    };
    let drivers = [live::Driver::Bridge, live::Driver::Macvlan];
    let known = drivers
        .into_iter()
        .find(|known| known.word() == record.driver);
    let driver = known.ok_or_else(|| Error::Record {
        path: path.to_owned(),
        reason: format!("its driver {:?} needs a newer floe", record.driver),
    })?;
    Ok(Some(NetworkRecord {
        id: record.id.into_owned(),
        created_at: record.created_at,
        spec: NetworkSpec {
            name: record.name.into_owned(),
            driver,
            interface: record.interface.into_owned(),
            subnets: record.subnets.into_iter().map(Subnet::into_live).collect(),
            routes: record.routes.into_iter().map(Route::into_live).collect(),
            ipv6: record.ipv6,
            internal: record.internal,
            dns: record.dns,
            dns_servers: record.dns_servers.into_owned(),
            labels: record.labels.into_owned(),
            options: record.options.into_owned(),
        },
        kept,
    }))
}

/// Writes it.
pub(crate) fn write(path: &Path, live: &NetworkRecord) -> Result<()> {
    let spec = &live.spec;
    let record = Network {
        version: VERSION,
        revision: REVISION,
        id: (&live.id).into(),
        created_at: live.created_at,
        name: (&spec.name).into(),
        driver: spec.driver.word().into(),
        interface: (&spec.interface).into(),
        subnets: spec.subnets.iter().map(Subnet::of).collect(),
        routes: spec.routes.iter().map(Route::of).collect(),
        ipv6: spec.ipv6,
        internal: spec.internal,
        dns: spec.dns,
        dns_servers: Cow::Borrowed(&spec.dns_servers),
        labels: Cow::Borrowed(&spec.labels),
        options: Cow::Borrowed(&spec.options),
    };
    super::write(path, &record, &live.kept)
}

impl Record for Network<'_> {
    fn form(&self) -> Form {
        Form {
            version: self.version,
            revision: self.revision,
        }
    }
}

impl Subnet {
    fn of(live: &live::Subnet) -> Self {
        Self {
            subnet: live.subnet,
            gateway: live.gateway,
            range: live.range,
        }
    }

    fn into_live(self) -> live::Subnet {
        live::Subnet {
            subnet: self.subnet,
            gateway: self.gateway,
            range: self.range,
        }
    }
}

impl Route {
    fn of(live: &live::Route) -> Self {
        Self {
            destination: live.destination,
            gateway: live.gateway,
            metric: live.metric,
        }
    }

    fn into_live(self) -> live::Route {
        live::Route {
            destination: self.destination,
            gateway: self.gateway,
            metric: self.metric,
        }
    }
}
