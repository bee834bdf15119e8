//! What a network is to be, checked and completed: its name, its bridge and its subnets, where nothing was said of
//! them. Nothing is made here. The words of the errors are podman's, as scripts compare them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ::network::Network as Host;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Driver, ISOLATE, METRIC, MODE, MTU, NO_DEFAULT_ROUTE, Network, NetworkSpec, Subnet};
use crate::error::{Error, Result};

/// The longest name of a file, less what is put behind it.
const MAX_NAME: usize = 240;
/// The longest name of a link.
const MAX_LINK: usize = 15;
/// As many subnets, routes and servers as one network has.
const MOST: usize = 64;
/// As many bridges are tried for a free name.
const BRIDGES: usize = 65_536;

/// The network that is asked for, with everything that was left open.
///
/// # Errors
/// What cannot be, and a name, bridge or subnet that is taken.
pub(super) fn complete(
    host: &Host,
    others: &[Network],
    mut spec: NetworkSpec,
) -> Result<NetworkSpec> {
    options(&mut spec)?;
    if spec.driver == Driver::Macvlan {
        beside(host, &mut spec)?;
    }
    name_it(host, others, &mut spec)?;
    if spec.subnets.len() > MOST || spec.routes.len() > MOST || spec.dns_servers.len() > MOST {
        return Err(Error::Refused(format!(
            "more than {MOST} subnets, routes or servers"
        )));
    }
    let mut used: Vec<IpNet> = Vec::new();
    // On the wire are whoever is there: that the host is among them is as it should be.
    if spec.driver == Driver::Bridge {
        used = host.host_addresses().map_err(failed)?;
        for other in others {
            used.extend(other.spec.subnets.iter().map(|one| one.subnet));
        }
    }
    let has = |spec: &NetworkSpec, v6: bool| {
        let mut subnets = spec.subnets.iter();
        subnets.any(|one| one.subnet.addr().is_ipv6() == v6)
    };
    if spec.subnets.is_empty() || (spec.ipv6 && !has(&spec, false)) {
        spec.subnets.push(alone(free_v4(&used)?));
    }
    if spec.ipv6 && !has(&spec, true) {
        spec.subnets.push(alone(free_v6(&used)?));
    }
    subnets(&mut spec, &used)?;
    for route in &spec.routes {
        if route.destination.addr() != route.destination.network() {
            return Err(Error::Refused("route destination invalid".into()));
        }
    }
    check_servers(&spec)?;
    Ok(spec)
}

/// May a network have these servers?
pub(super) fn check_servers(spec: &NetworkSpec) -> Result<()> {
    if !spec.dns && !spec.dns_servers.is_empty() {
        return Err(Error::Refused(
            "cannot set NetworkDNSServers if DNS is not enabled for the network: invalid argument"
                .into(),
        ));
    }
    match spec.dns_servers.len() > MOST {
        true => Err(Error::Refused(format!("more than {MOST} servers"))),
        false => Ok(()),
    }
}

fn failed(source: ::network::Error) -> Error {
    crate::pod::network::network_error("of nobody yet", source)
}

fn alone(subnet: IpNet) -> Subnet {
    Subnet {
        subnet,
        gateway: None,
        range: None,
    }
}

fn name_it(host: &Host, others: &[Network], spec: &mut NetworkSpec) -> Result<()> {
    let has_bridge = |name: &str| others.iter().any(|other| other.spec.interface == name);
    let has_name = |name: &str| others.iter().any(|other| other.spec.name == name);
    if !spec.name.is_empty() {
        check_name(&spec.name)?;
        if has_name(&spec.name) {
            return Err(Error::NameTaken {
                what: "network",
                name: spec.name.clone(),
                holder: "a network".into(),
            });
        }
    }
    if !spec.interface.is_empty() {
        check_interface(&spec.interface).map_err(|error| {
            let reason = format!("network interface name {} invalid: {error}", spec.interface);
            Error::Refused(reason)
        })?;
        if spec.driver == Driver::Bridge && has_bridge(&spec.interface) {
            let reason = format!("bridge name {} already in use", spec.interface);
            return Err(Error::Refused(reason));
        }
        if !is_name(&spec.interface) {
            let reason = format!(
                "bridge name {} invalid: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument",
                spec.interface
            );
            return Err(Error::Refused(reason));
        }
    }
    let stem: &str = host
        .config()
        .bridge
        .trim_end_matches(|c: char| c.is_ascii_digit());
    let stem: String = stem.chars().take(MAX_LINK - 5).collect();
    for number in 1..BRIDGES {
        if !spec.name.is_empty() && !spec.interface.is_empty() {
            return Ok(());
        }
        let free = format!("{stem}{number}");
        if has_bridge(&free) || has_name(&free) || host.has_link(&free).map_err(failed)? {
            continue;
        }
        if spec.name.is_empty() {
            spec.name.clone_from(&free);
        }
        if spec.interface.is_empty() {
            spec.interface = free;
        }
    }
    Err(Error::Refused("no name of a bridge is free".into()))
}

/// A network beside a link of the host.
fn beside(host: &Host, spec: &mut NetworkSpec) -> Result<()> {
    if spec.interface.is_empty() {
        return Err(Error::Refused(
            "macvlan needs the link that it is beside: --opt parent=LINK".into(),
        ));
    }
    check_interface(&spec.interface)?;
    if !host.has_link(&spec.interface).map_err(failed)? {
        let reason = format!("parent interface {} does not exist", spec.interface);
        return Err(Error::Refused(reason));
    }
    if spec.subnets.is_empty() {
        return Err(Error::Refused(
            "macvlan without --subnet is not offered: floe gives addresses of the network's own subnets, and asks no DHCP server".into(),
        ));
    }
    if !spec.dns_servers.is_empty() {
        return Err(Error::Refused(
            "cannot set NetworkDNSServers if DNS is not enabled for the network: invalid argument"
                .into(),
        ));
    }
    // Others on the wire have names that nobody here knows.
    spec.dns = false;
    Ok(())
}

/// Takes podman's options, and docker's names of them.
fn options(spec: &mut NetworkSpec) -> Result<()> {
    for (key, value) in std::mem::take(&mut spec.options) {
        let taken = match (key.as_str(), spec.driver) {
            ("com.docker.network.driver.mtu" | MTU, _) => Some((MTU, mtu(value)?)),
            ("com.docker.network.bridge.name", _) => {
                if spec.interface.is_empty() {
                    spec.interface = value;
                }
                None
            }
            // What floe does in any case, or what has no meaning here.
            (
                "com.docker.network.bridge.enable_icc"
                | "com.docker.network.bridge.enable_ip_masquerade"
                | "com.docker.network.bridge.host_binding_ipv4",
                _,
            ) if value != "false" => None,
            ("parent", Driver::Macvlan) => {
                spec.interface = value;
                None
            }
            (METRIC | NO_DEFAULT_ROUTE, _) | (_, Driver::Bridge) => {
                Some(bridge_option(&key, value)?)
            }
            (_, Driver::Macvlan) => Some(macvlan_option(&key, value)?),
        };
        if let Some((key, value)) = taken {
            spec.options.insert(key.to_owned(), value);
        }
    }
    Ok(())
}

/// An option by the name that is kept, and its value.
type Chosen = (&'static str, String);

/// One of bridges, of which all drivers have some.
fn bridge_option(key: &str, value: String) -> Result<Chosen> {
    Ok(match key {
        ISOLATE if value == "strict" => (ISOLATE, value),
        ISOLATE => {
            let wrong =
                |_| refused("failed to parse isolate option: must be one of true, false or strict");
            (ISOLATE, is_true(&value).map_err(wrong)?.to_string())
        }
        METRIC => {
            let wrong = |_| {
                refused(format!(
                    "strconv.ParseUint: parsing {value:?}: invalid syntax"
                ))
            };
            value.parse::<u32>().map_err(wrong)?;
            (METRIC, value)
        }
        NO_DEFAULT_ROUTE => (NO_DEFAULT_ROUTE, is_true(&value)?.to_string()),
        "vlan" | "vrf" | "mode" | "outbound_addr4" | "outbound_addr6" => {
            return Err(Error::Unsupported(format!(
                "the network option {key}: bridges here are floe's own, without VLANs, VRFs and other owners"
            )));
        }
        other => {
            return Err(refused(format!(
                "unsupported bridge network option {other}"
            )));
        }
    })
}

fn macvlan_option(key: &str, value: String) -> Result<Chosen> {
    if key != MODE {
        return Err(refused(format!("unsupported macvlan network option {key}")));
    }
    match ["bridge", "private", "vepa", "passthru"].contains(&value.as_str()) {
        true => Ok((MODE, value)),
        false => Err(refused(format!("unknown macvlan mode {value:?}"))),
    }
}

fn mtu(value: String) -> Result<String> {
    let mtu = value.parse::<u32>().ok().filter(|mtu| *mtu <= 65_535);
    mtu.ok_or_else(|| refused(format!("mtu {value} is less than zero")))?;
    Ok(value)
}

/// As Go reads it.
fn is_true(value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(refused(format!(
            "strconv.ParseBool: parsing {value:?}: invalid syntax"
        ))),
    }
}

fn refused(words: impl Into<String>) -> Error {
    Error::Refused(words.into())
}

/// Checks the subnets, and gives those a gateway that need one.
fn subnets(spec: &mut NetworkSpec, used: &[IpNet]) -> Result<()> {
    // A network without either has nobody who would be asked.
    let with_gateway = !spec.internal || spec.dns;
    let nets: Vec<IpNet> = spec.subnets.iter().map(|one| one.subnet.trunc()).collect();
    for (index, net) in nets.iter().enumerate() {
        for other in &nets[index + 1..] {
            if net == other {
                return Err(Error::Refused(format!("duplicate subnets detected: {net}")));
            }
            if overlap(net, other) {
                let reason = format!("overlapping subnets detected: {net} and {other}");
                return Err(Error::Refused(reason));
            }
        }
        if used.iter().any(|other| overlap(net, other)) {
            let reason = format!("subnet {net} is already used on the host or by another config");
            return Err(Error::Refused(reason));
        }
        if net.max_prefix_len() - net.prefix_len() < 2 {
            return Err(Error::Refused(format!(
                "subnet {net} is too small for a network: it needs room for a gateway and a container"
            )));
        }
    }
    for (one, net) in spec.subnets.iter_mut().zip(&nets) {
        one.subnet = *net;
        match one.gateway {
            Some(gateway) if !net.contains(&gateway) => {
                let reason = format!("gateway {gateway} not in subnet {net}");
                return Err(Error::Refused(reason));
            }
            None if with_gateway => one.gateway = net.hosts().next().map(|ip| first(net, ip)),
            _ => {}
        }
        if let Some((start, end)) = one.range {
            for (what, ip) in [("start", start), ("end", end)] {
                if !net.contains(&ip) {
                    let reason = format!("lease range {what} ip {ip} not in subnet {net}");
                    return Err(Error::Refused(reason));
                }
            }
            if start > end {
                let reason = format!("lease range start ip {start} is after its end ip {end}");
                return Err(Error::Refused(reason));
            }
        }
        spec.ipv6 |= net.addr().is_ipv6();
    }
    Ok(())
}

/// The first address behind the network's own, whose IPv6 one `hosts` counts.
fn first(net: &IpNet, host: IpAddr) -> IpAddr {
    match net {
        IpNet::V4(_) => host,
        IpNet::V6(net) => Ipv6Addr::from_bits(net.network().to_bits() + 1).into(),
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// A subnet of 256 addresses that nobody has: from 10.89.0.0 on, as podman has it.
fn free_v4(used: &[IpNet]) -> Result<IpNet> {
    let all = (89..=255u8).flat_map(|second| (0..=255u8).map(move |third| (second, third)));
    for (second, third) in all {
        let net = Ipv4Net::new_assert(Ipv4Addr::new(10, second, third, 0), 24);
        let net = IpNet::V4(net);
        if !used.iter().any(|other| overlap(&net, other)) {
            return Ok(net);
        }
    }
    Err(Error::Refused(
        "could not find free subnet from subnet pools".into(),
    ))
}

/// One of unique local addresses at random (RFC 4193).
fn free_v6(used: &[IpNet]) -> Result<IpNet> {
    for _ in 0..64 {
        let id = crate::disk::new_id()?;
        let bits = u64::from_str_radix(&id[..14], 16).unwrap_or(0) & 0x00ff_ffff_ffff_ffff;
        let bits = u128::from((0xfd << 56) | bits) << 64;
        let net = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 64));
        if !used.iter().any(|other| overlap(&net, other)) {
            return Ok(net);
        }
    }
    Err(Error::Refused("no free IPv6 subnet was found".into()))
}

fn is_name(name: &str) -> bool {
    let further = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = name.as_bytes().first();
    first.is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(further)
        && name.len() <= MAX_NAME
}

pub(super) fn check_name(name: &str) -> Result<()> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Error::Refused(format!(
            "network name {name:.300} invalid: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
        ))),
    }
}

/// Can a link have this name?
pub(super) fn check_interface(name: &str) -> Result<()> {
    let reason = if name.len() > MAX_LINK {
        format!("interface name is too long: interface names must be {MAX_LINK} characters or less")
    } else if matches!(name, "" | "." | "..") {
        "interface name is . or ..".to_owned()
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        "interface name contains / or : or whitespace characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Refused(format!("{reason}: invalid argument")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_subnet_is_chosen() {
        let used = ["10.89.0.7/24", "10.89.1.0/25", "10.89.2.0/23"].map(|net| net.parse().unwrap());
        assert_eq!(free_v4(&used).unwrap().to_string(), "10.89.4.0/24");
        let all = ["10.0.0.0/8".parse().unwrap()];
        assert!(free_v4(&all).is_err());
        let v6 = free_v6(&[]).unwrap();
        assert!(
            v6.to_string().starts_with("fd") && v6.prefix_len() == 64,
            "{v6}"
        );
    }

    #[test]
    fn names_are_files_and_links() {
        for bad in ["", "..", "a/b", "-a", "a b", "\u{fc}", &"a".repeat(300)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("a_b.c-1").is_ok());
        for bad in ["", "..", "a/b", "a:b", "a b", "sixteen-letters0"] {
            assert!(check_interface(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subnet_gets_a_gateway_and_keeps_its_range() {
        let mut spec = NetworkSpec {
            subnets: vec![
                alone("10.1.2.3/24".parse().unwrap()),
                alone("fd01::/64".parse().unwrap()),
            ],
            ..NetworkSpec::default()
        };
        subnets(&mut spec, &[]).unwrap();
        let gateways: Vec<String> = spec
            .subnets
            .iter()
            .map(|one| one.gateway.unwrap().to_string())
            .collect();
        assert_eq!(gateways, ["10.1.2.1", "fd01::1"]);
        assert_eq!(spec.subnets[0].subnet.to_string(), "10.1.2.0/24");
        let used = ["10.1.2.200/30".parse().unwrap()];
        let error = subnets(&mut spec, &used).unwrap_err().to_string();
        assert_eq!(
            error,
            "subnet 10.1.2.0/24 is already used on the host or by another config"
        );
    }
}
