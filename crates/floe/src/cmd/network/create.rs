//! `floe network create`: from podman's options to what the network is to be.

use std::net::IpAddr;
use std::process::ExitCode;

use engine::Engine;
use engine::crates::ipnet::IpNet;
use engine::networks::{Driver, NetworkSpec, Route, Subnet};

use crate::cmd::run::env::pairs;
use crate::failure::Failure;

/// Options of `floe network create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// bridge or macvlan
    #[arg(long, short, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// A subnet, such as 10.89.5.0/24, also several
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    /// The host's address in the subnet, in the order of the subnets
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    gateway: Vec<String>,
    /// FIRST-LAST or a smaller subnet: addresses that are given out, in the order of the subnets
    #[arg(long, value_name = "RANGE")]
    ip_range: Vec<String>,
    /// DESTINATION,GATEWAY[,METRIC]: a further route of its containers
    #[arg(long, value_name = "ROUTE")]
    route: Vec<String>,
    /// Give it an IPv6 subnet as well
    #[arg(long)]
    ipv6: bool,
    /// Nothing leads out of it
    #[arg(long)]
    internal: bool,
    /// Its containers do not know each other by name
    #[arg(long)]
    disable_dns: bool,
    /// Server that is asked for other names
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    dns: Vec<String>,
    /// KEY=VALUE
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// mtu=BYTES, isolate=strict, true or false, metric=NUMBER, no_default_route=BOOL; of macvlan parent=LINK, mode=MODE
    #[arg(long, short, value_name = "OPTION")]
    opt: Vec<String>,
    /// host-local
    #[arg(long, value_name = "DRIVER")]
    ipam_driver: Option<String>,
    /// Name of the bridge [default: one that there is not]
    #[arg(long, value_name = "NAME")]
    interface_name: Option<String>,
    /// Be content with one that has the name
    #[arg(long)]
    ignore: bool,
    /// Name [default: that of its bridge]
    name: Option<String>,
}

pub(super) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let made = match engine.create_network(args.spec()?) {
        Err(engine::Error::NameTaken { name, .. }) if args.ignore => name,
        Err(engine::Error::NameTaken { name, .. }) => {
            let words = format!("network name {name} already used: network already exists");
            return Err(Failure::new(words));
        }
        made => made?.spec.name,
    };
    println!("{made}");
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn spec(&self) -> Result<NetworkSpec, Failure> {
        self.must_be_offered()?;
        if let Some("") = self.name.as_deref() {
            return Err(Failure::new(
                "network name cannot be empty: invalid argument",
            ));
        }
        let servers = self.dns.iter().map(|text| {
            text.parse().map_err(|_| {
                let words = format!(
                    "unable to parse ip {text} specified in NetworkDNSServers: invalid argument"
                );
                Failure::new(words)
            })
        });
        Ok(NetworkSpec {
            name: self.name.clone().unwrap_or_default(),
            driver: match self.driver.as_str() {
                "macvlan" => Driver::Macvlan,
                _ => Driver::Bridge,
            },
            interface: self.interface_name.clone().unwrap_or_default(),
            subnets: self.subnets()?,
            routes: self
                .route
                .iter()
                .map(|text| route(text))
                .collect::<Result<_, _>>()?,
            ipv6: self.ipv6,
            internal: self.internal,
            dns: !self.disable_dns,
            dns_servers: servers.collect::<Result<_, _>>()?,
            labels: pairs("--label", &self.label, true)?.into_iter().collect(),
            options: pairs("--opt", &self.opt, true)?.into_iter().collect(),
        })
    }

    /// What podman has besides, and is not built.
    fn must_be_offered(&self) -> Result<(), Failure> {
        match self.driver.as_str() {
            "bridge" | "macvlan" => {}
            "ipvlan" => {
                return Err(Failure::new(
                    "--driver ipvlan: not offered: floe has bridges and macvlan",
                ));
            }
            other => {
                let words = format!("failed to find driver or plugin {other:?}");
                return Err(Failure::new(words));
            }
        }
        match self.ipam_driver.as_deref() {
            None | Some("" | "host-local") => Ok(()),
            Some(known @ ("none" | "dhcp")) => Err(Failure::new(format!(
                "--ipam-driver {known}: not offered: floe gives addresses of the network's own subnets"
            ))),
            Some(other) => Err(Failure::new(format!("unsupported ipam driver {other:?}"))),
        }
    }

    fn subnets(&self) -> Result<Vec<Subnet>, Failure> {
        if self.subnet.is_empty() && !(self.ip_range.is_empty() && self.gateway.is_empty()) {
            return Err(Failure::new("cannot set gateway or range without subnet"));
        }
        if self.gateway.len() > self.subnet.len() {
            return Err(Failure::new("cannot set more gateways than subnets"));
        }
        if self.ip_range.len() > self.subnet.len() {
            return Err(Failure::new("cannot set more ranges than subnets"));
        }
        let one = |(index, text): (usize, &String)| {
            let gateway = self.gateway.get(index).map(|text| {
                let wrong = |_| {
                    Failure::new(format!(
                        "invalid argument {text:?} for \"--gateway\" flag: invalid string being converted to IP address: {text}"
                    ))
                };
                text.parse::<IpAddr>().map_err(wrong)
            });
            let range = self.ip_range.get(index).map(|text| range(text));
            Ok(Subnet {
                subnet: net(text)?,
                gateway: gateway.transpose()?,
                range: range.transpose()?,
            })
        };
        self.subnet.iter().enumerate().map(one).collect()
    }
}

fn net(text: &str) -> Result<IpNet, Failure> {
    let wrong = |_| Failure::new(format!("invalid CIDR address: {text}"));
    text.parse().map_err(wrong)
}

fn range(text: &str) -> Result<(IpAddr, IpAddr), Failure> {
    if let Some((start, end)) = text.split_once('-') {
        let ip = |what: &str, text: &str| {
            let wrong = |_| Failure::new(format!("range {what} ip {text:?} is not a ip address"));
            text.parse::<IpAddr>().map_err(wrong)
        };
        return Ok((ip("start", start)?, ip("end", end)?));
    }
    let net = net(text)?;
    // As podman has it: from the first address behind the subnet's own to the last one before its broadcast.
    let (first, last) = match net {
        IpNet::V4(net) => {
            let first = net.network().to_bits().saturating_add(1);
            let last = net.broadcast().to_bits().saturating_sub(1).max(first);
            (IpAddr::V4(first.into()), IpAddr::V4(last.into()))
        }
        IpNet::V6(net) => {
            let first = net.network().to_bits().saturating_add(1);
            (IpAddr::V6(first.into()), IpAddr::V6(net.broadcast()))
        }
    };
    Ok((first, last))
}

fn route(text: &str) -> Result<Route, Failure> {
    let parts: Vec<&str> = text.split(',').collect();
    let (destination, gateway, metric) = match parts[..] {
        [destination, gateway] => (destination, gateway, None),
        [destination, gateway, metric] => (destination, gateway, Some(metric)),
        _ => {
            let words = format!(
                "invalid route: {text}\nFormat: --route <destination in CIDR>,<gateway>,<metric (optional)>"
            );
            return Err(Failure::new(words));
        }
    };
    let wrong = |what: &str, text: &str| Failure::new(format!("invalid route {what} {text}"));
    let metric = metric.map(|text| text.parse().map_err(|_| wrong("metric", text)));
    Ok(Route {
        destination: destination
            .parse()
            .map_err(|_| wrong("destination", destination))?,
        gateway: gateway.parse().map_err(|_| wrong("gateway", gateway))?,
        metric: metric.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_routes_are_read_as_podman_writes_them() {
        let ips = |text: &str| range(text).map(|(start, end)| format!("{start} {end}"));
        assert_eq!(ips("10.1.0.8/29").unwrap(), "10.1.0.9 10.1.0.14");
        assert_eq!(ips("10.1.0.2-10.1.0.4").unwrap(), "10.1.0.2 10.1.0.4");
        assert_eq!(ips("fd00::/120").unwrap(), "fd00::1 fd00::ff");
        assert!(ips("10.1.0.2").is_err() && ips("a-b").is_err());
        let one = route("10.2.0.0/16,10.1.0.9,7").unwrap();
        assert_eq!(
            (one.gateway.to_string(), one.metric),
            ("10.1.0.9".into(), Some(7))
        );
        for bad in [
            "10.2.0.0/16",
            "x,10.1.0.9",
            "10.2.0.0/16,x",
            "10.2.0.0/16,10.1.0.9,x",
            "a,b,c,d",
        ] {
            assert!(route(bad).is_err(), "{bad}");
        }
    }
}
