//! floe's own plugin for networks that people make of the driver macvlan: an interface of the pod's on a link of the
//! host, beside it on the same wire. What is sent there is the wire's matter: no rules of the host's are asked.
//! ip-link(8), macvlan.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Args, Built, pod_link};
use crate::cni::List;
use crate::cni::plugin::{Call, Plugin};
use crate::cni::result::CniResult;
use crate::ipam::Ipam;
use crate::rtnetlink::link::Macvlan as Wish;
use crate::rtnetlink::{address, link, route};
use crate::{Error, Interface, Result};
use std::os::fd::AsFd;

/// Its type.
pub(crate) const KIND: &str = "floe-macvlan";

#[derive(Debug, Deserialize)]
struct Config {
    parent: String,
    mode: Mode,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    args: Args,
}

/// As in linux/if_link.h.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Private = 1,
    Vepa = 2,
    Bridge = 4,
    Passthru = 8,
}

#[derive(Debug)]
struct Macvlan {
    config: Config,
    ipam: Ipam,
}

/// Checks a configuration of this type.
pub(crate) fn build(config: &Map<String, Value>, list: &List) -> Result<Built> {
    let parsed = Config::deserialize(Value::Object(config.clone()))
        .map_err(|error| Error::config(&list.name, KIND, error.to_string()))?;
    Ok(Built::Yes(Box::new(Macvlan {
        config: parsed,
        ipam: Ipam::parse(config, list)?,
    })))
}

impl Plugin for Macvlan {
    fn kind(&self) -> &str {
        KIND
    }

    fn add(&self, call: &Call<'_>, _previous: Option<CniResult>) -> Result<CniResult> {
        let mut result = self.ipam.add(call)?;
        let pod = call.pod()?;
        let name = call.attachment.ifname;
        let mut host = call.host.route()?;
        let parent = link::by_name(&mut host, &self.config.parent)?.ok_or_else(|| {
            let reason = format!("parent interface {} does not exist", self.config.parent);
            Error::config(KIND, "parent", reason)
        })?;
        host.send_one(link::new_macvlan(&Wish {
            name,
            parent: parent.index,
            mode: self.config.mode as u32,
            mtu: self.config.mtu,
            mac: self.config.args.cni.mac,
            netns: pod.netns().as_fd(),
        }))?;
        pod_link::keep_quiet(call, name)?;
        let mut inside = pod.socket()?;
        let own = link::by_name(&mut inside, name)?
            .ok_or_else(|| Error::answer("create macvlan", name.to_owned(), "it is not there"))?;
        let mut requests = vec![link::up(own.index, name)];
        for ip in &result.ips {
            requests.push(address::add(own.index, name, ip.address));
        }
        for one in pod_link::routes(&result) {
            requests.push(route::add(own.index, name, &one));
        }
        inside.send(requests)?;
        result.interfaces = vec![Interface {
            name: own.name,
            mac: own.mac,
            mtu: None,
            sandbox: Some(pod.path().to_string_lossy().into_owned()),
        }];
        for ip in &mut result.ips {
            ip.interface = Some(0);
        }
        Ok(result)
    }

    fn del(&self, call: &Call<'_>, result: Option<&CniResult>) -> Result<()> {
        let name = call.attachment.ifname;
        if let Some(pod) = call.pod {
            let mut inside = pod.socket()?;
            // Nothing else of that name is this network's to delete.
            if let Some(own) = link::by_name(&mut inside, name)?
                && own.kind == "macvlan"
            {
                inside.send_one(link::delete(own.index, name))?;
            }
        }
        self.ipam.del(call, result)
    }

    fn check(&self, call: &Call<'_>, _result: &CniResult) -> Result<()> {
        pod_link::must_exist(&mut *call.pod()?.socket()?, call.attachment.ifname)
    }
}
