//! The portmap plugin: ports of the host that lead to the pod, as elements of nftables maps that
//! bear the pod's id. CNI plugins: meta/portmap.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{Built, unknown_key};
use crate::cni::List;
use crate::cni::plugin::{Call, Plugin};
use crate::cni::result::CniResult;
use crate::nft::table::explain_taken;
use crate::nft::{Forward, conntrack};
use crate::rtnetlink::{link, route};
use crate::{Error, Result, sysctl};

/// Keys that change nothing here: floe always uses nftables, and always masquerades what needs it.
const KNOWN: [&str; 5] = [
    "snat",
    "masqAll",
    "backend",
    "externalSetMarkChain",
    "markMasqBit",
];

/// Nothing to configure.
#[derive(Debug)]
struct Portmap;

/// Checks a configuration of type portmap.
pub(crate) fn build(config: &Map<String, Value>, list: &List) -> Result<Built> {
    // These would change who is seen as the sender, or which packets are meant.
    if config.get("masqAll").is_some_and(crate::cni::is_true) {
        return Ok(Built::Lacks("\"masqAll\" is not built in".to_owned()));
    }
    if config.get("snat") == Some(&Value::Bool(false)) {
        return Ok(Built::Lacks("\"snat\": false is not built in".to_owned()));
    }
    if let Some(key) = unknown_key(config, &KNOWN) {
        return Ok(Built::Lacks(key));
    }
    let can = config
        .get("capabilities")
        .and_then(|all| all.get("portMappings"));
    match can {
        Some(can) if crate::cni::is_true(can) => Ok(Built::Yes(Box::new(Portmap))),
        _ => Err(Error::config(
            &list.name,
            "portmap",
            "lacks the capability \"portMappings\"",
        )),
    }
}

/// What the pod's mappings mean with the addresses it got: the first of each family.
fn forwards(call: &Call<'_>, result: &CniResult) -> Result<Vec<Forward>> {
    let first = |v4: bool| {
        result
            .pod_ips()
            .map(|ip| ip.address.addr())
            .find(|ip| ip.is_ipv4() == v4)
    };
    let pod: Vec<IpAddr> = [first(true), first(false)].into_iter().flatten().collect();
    let mut all = Vec::new();
    for mapping in call
        .attachment
        .port_mappings
        .iter()
        .filter(|one| one.host_port != 0)
    {
        let before = all.len();
        let forwards = pod.iter().map(|to| Forward {
            mapping: *mapping,
            to: *to,
        });
        all.extend(forwards.filter(Forward::is_possible));
        if all.len() == before {
            return Err(Error::Request {
                id: call.attachment.id.to_owned(),
                reason: "has no address of the family of a host port's address",
            });
        }
    }
    Ok(all)
}

/// Lets packets with a source of 127.0.0.1 leave towards the pod, if a mapping can be used so.
fn allow_from_loopback(call: &Call<'_>, forwards: &[Forward]) -> Result<()> {
    let by_loopback = |forward: &&Forward| {
        forward.to.is_ipv4()
            && forward
                .mapping
                .host_ip
                .is_none_or(|ip| ip.is_unspecified() || ip.is_loopback())
    };
    let Some(forward) = forwards.iter().find(by_loopback) else {
        return Ok(());
    };
    let mut socket = call.host.route()?;
    let index = route::link_to(&mut socket, forward.to)?;
    let link = link::by_index(&mut socket, index)?;
    sysctl::set(&["ipv4", "conf", &link.name, "route_localnet"], "1")
}

impl Plugin for Portmap {
    fn kind(&self) -> &str {
        "portmap"
    }

    fn add(&self, call: &Call<'_>, previous: Option<CniResult>) -> Result<CniResult> {
        let result = previous.unwrap_or_default();
        let forwards = forwards(call, &result)?;
        if forwards.is_empty() {
            return Ok(result);
        }
        let (table, mut socket) = call.host.table()?;
        table
            .forward(&mut socket, call.attachment.id, &forwards)
            .map_err(|error| explain_taken(table, &mut socket, &forwards, error))?;
        // After the table: its guard keeps route_localnet from opening the host's loopback to pods.
        allow_from_loopback(call, &forwards)?;
        conntrack::forget_udp(&mut socket, call.attachment.port_mappings)?;
        Ok(result)
    }

    fn del(&self, call: &Call<'_>, _result: Option<&CniResult>) -> Result<()> {
        if call.attachment.port_mappings.is_empty() {
            return Ok(());
        }
        let (table, mut socket) = call.host.existing_table()?;
        table.release(&mut socket, call.attachment.id)?;
        conntrack::forget_udp(&mut socket, call.attachment.port_mappings)
    }

    fn reload(&self, call: &Call<'_>, result: &CniResult) -> Result<()> {
        let mut forwards = forwards(call, result)?;
        let (table, mut socket) = call.host.table()?;
        let owners = table.owners(&mut socket, &forwards)?;
        let own = Some(call.attachment.id.to_owned());
        let mut owners = owners.into_iter();
        forwards.retain(|_| owners.next().flatten() != own);
        if forwards.is_empty() {
            return Ok(());
        }
        table
            .forward(&mut socket, call.attachment.id, &forwards)
            .map_err(|error| explain_taken(table, &mut socket, &forwards, error))?;
        allow_from_loopback(call, &forwards)
    }

    fn check(&self, call: &Call<'_>, result: &CniResult) -> Result<()> {
        let forwards = forwards(call, result)?;
        let (table, mut socket) = call.host.existing_table()?;
        let owners = table.owners(&mut socket, &forwards)?;
        for (forward, owner) in forwards.iter().zip(owners) {
            if owner.as_deref() != Some(call.attachment.id) {
                return Err(Error::answer(
                    "look up host port",
                    forward.mapping.to_string(),
                    "it does not lead to the pod",
                ));
            }
        }
        Ok(())
    }
}
