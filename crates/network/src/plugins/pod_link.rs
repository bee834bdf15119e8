//! The pod's end of a veth pair: made, up, with addresses and routes, in two system calls on a
//! socket inside the pod. What `bridge` and `ptp` have in common.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::cni::plugin::Call;
use crate::cni::result::{CniResult, IpConfig, RouteConfig};
use crate::ipam::Ipam;
use crate::rtnetlink::link;
use crate::rtnetlink::link::{Link, Veth};
use crate::rtnetlink::route::Route;
use crate::{Error, Mac, Result, sysctl};
use netlink::Socket;

/// The host's end, as it is wished.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostEnd<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The bridge it is a port of; without one it stays down.
    pub(super) master: Option<u32>,
    /// Whether the bridge may send frames back through it.
    pub(super) hairpin: bool,
    /// Maximum packet size; 0 for the kernel's default.
    pub(super) mtu: u32,
    /// Hardware address of the pod's end, where one is asked for.
    pub(super) mac: Option<Mac>,
}

/// Takes the pair away, then its addresses: none may be another pod's while this one answers to it.
pub(super) fn remove(
    call: &Call<'_>,
    host_end: &str,
    ipam: &Ipam,
    result: Option<&CniResult>,
) -> Result<()> {
    call.host.retire_link(host_end)?;
    ipam.del(call, result)
}

/// Makes the pair and finds the pod's end. A left-over of the same pod on the host is replaced.
pub(super) fn create(call: &Call<'_>, host: &mut Socket, end: HostEnd<'_>) -> Result<Link> {
    let pod = call.pod()?;
    let (name, master, mtu, peer) = (end.name, end.master, end.mtu, call.attachment.ifname);
    let veth = Veth {
        name,
        master,
        mtu,
        peer,
        netns: pod.netns().as_fd(),
        mac: end.mac,
    };
    match host.send_one(link::new_veth(&veth)) {
        Err(error) if error.errno() == Some(libc::EEXIST) => {
            if !replace_left_over(call, host, name)? {
                return Err(error.into());
            }
            host.send_one(link::new_veth(&veth))?;
        }
        other => other?,
    }
    if master.is_some() {
        without_ipv6(call, name);
        host.send_one(link::start_port(name, end.hairpin))?;
    }
    keep_quiet(call, peer)?;
    link::by_name(&mut *pod.socket()?, peer)?.ok_or_else(|| {
        Error::answer(
            "create veth",
            format!("{peer} in the pod"),
            "it is not there",
        )
    })
}

/// A bridge's port has no addresses, so it needs none of the kernel's own making: with them, and the routes to
/// them, each link of a pod that comes and goes takes longer the more pods there are.
fn without_ipv6(call: &Call<'_>, name: &str) {
    if let Err(error) = sysctl::set_if_there(&["ipv6", "conf", name, "disable_ipv6"], "1") {
        // A read-only /proc/sys: slower, and nothing else.
        tracing::debug!(pod = call.attachment.id, %error, "its port has IPv6 addresses");
    }
}

/// Keeps the kernel from asking, as the pod's link comes up, what floe has told it: for routers, and
/// whether somebody has the link-local address. Each such packet goes to every pod of the bridge. What
/// the pod's own sysctls say stays.
pub(super) fn keep_quiet(call: &Call<'_>, name: &str) -> Result<()> {
    let quiet = || {
        ["accept_ra", "accept_dad"].into_iter().try_for_each(|key| {
            match sysctl::is(&["ipv6", "conf", "default", key], "1") {
                true => sysctl::set_if_there(&["ipv6", "conf", name, key], "0"),
                false => Ok(()),
            }
        })
    };
    if let Err(error) = call.pod()?.netns().run(quiet)? {
        // A read-only /proc/sys: more packets, and nothing else.
        tracing::debug!(pod = call.attachment.id, %error, "its link asks more than it needs to");
    }
    Ok(())
}

/// Deletes what an earlier attempt has left on the host under the same name, and links that await
/// their deletion, one of which may still be in the same pod; false when there is nothing.
fn replace_left_over(call: &Call<'_>, host: &mut Socket, name: &str) -> Result<bool> {
    let retired = call.host.delete_retired(host)?;
    match link::by_name(host, name)? {
        Some(left) => {
            host.send_one(link::delete(left.index, name))?;
            Ok(true)
        }
        None => Ok(retired),
    }
}

/// The loopback link's number, in every network namespace.
pub(super) const LOOPBACK: u32 = 1;

/// The routes of an address manager's result with their gateways filled in: that of the address of
/// the same family, unless the route names one.
pub(super) fn routes(result: &CniResult) -> Vec<Route> {
    let gateway = |family: &IpNet| {
        let same = |ip: &&IpConfig| ip.address.addr().is_ipv4() == family.addr().is_ipv4();
        result.ips.iter().filter(same).find_map(|ip| ip.gateway)
    };
    let route = |config: &RouteConfig| Route {
        to: config.dst,
        via: config.gw.or_else(|| gateway(&config.dst)),
        mtu: config.mtu,
        advmss: config.advmss,
        priority: config.priority,
    };
    result.routes.iter().map(route).collect()
}

/// Adds a default route for each family that has a gateway and no default route yet.
pub(super) fn add_default_routes(result: &mut CniResult) {
    for index in 0..result.ips.len() {
        let Some(gateway) = result.ips[index].gateway else {
            continue;
        };
        let all = everywhere(gateway);
        if result.routes.iter().all(|route| route.dst != all) {
            result.routes.push(RouteConfig::to(all, Some(gateway)));
        }
    }
}

/// The destination of a default route.
pub(super) fn everywhere(family: IpAddr) -> IpNet {
    match family {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    }
}

/// The gateways with their subnets' prefix lengths, as the host carries them.
pub(super) fn gateways(result: &CniResult) -> Vec<IpNet> {
    let with_prefix = |ip: &IpConfig| IpNet::new(ip.gateway?, ip.address.prefix_len()).ok();
    result.ips.iter().filter_map(with_prefix).collect()
}

/// The subnets of the addresses.
pub(super) fn subnets(result: &CniResult) -> Vec<IpNet> {
    result.ips.iter().map(|ip| ip.address.trunc()).collect()
}

/// Fails when there is no link of this name.
pub(super) fn must_exist(socket: &mut Socket, name: &str) -> Result<()> {
    match link::by_name(socket, name)? {
        Some(_) => Ok(()),
        None => Err(Error::answer(
            "look up link",
            name.to_owned(),
            "it is not there",
        )),
    }
}
