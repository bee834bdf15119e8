//! `--publish`: which ports of the node lead to the container.

use std::net::IpAddr;

use engine::pod::{PortMapping, Protocol};

use crate::failure::Failure;

/// `[[IP:]HOSTPORT[-LAST]:]PORT[-LAST][/PROTOCOL]`
pub(super) fn parse(text: &str) -> Result<Vec<PortMapping>, Failure> {
    let wrong = |why: &str| Failure::new(format!("--publish {text:?}: {why}"));
    let (rest, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or_default(), Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some((rest, "sctp")) => (rest, Protocol::Sctp),
        Some(_) => return Err(wrong("the protocol must be tcp, udp or sctp")),
    };
    let (rest, container) = rest
        .rsplit_once(':')
        .map_or((None, rest), |(rest, container)| (Some(rest), container));
    let (host_ip, host) = rest
        .map(|rest| rest.rsplit_once(':').unwrap_or(("", rest)))
        .unwrap_or_default();
    let host_ip = match host_ip.trim_matches(['[', ']']) {
        "" => None,
        ip => Some(
            ip.parse::<IpAddr>()
                .map_err(|_| wrong("not an IP address"))?,
        ),
    };
    let inside = range(container).ok_or_else(|| wrong("not a port"))?;
    let outside = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| wrong("not a port"))?),
    };
    if let Some(outside) = &outside
        && outside.clone().count() != inside.clone().count()
    {
        return Err(wrong("the ranges of ports differ in length"));
    }
    let mapping = |(number, container_port): (usize, u16)| {
        Ok(PortMapping {
            protocol,
            container_port,
            host_port: match outside.as_ref().and_then(|ports| ports.clone().nth(number)) {
                Some(port) => port,
                None => free_port(protocol)?,
            },
            host_ip,
        })
    };
    inside.enumerate().map(mapping).collect()
}

/// `PORT` or `FIRST-LAST`.
fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

/// A port of the node that nobody uses now.
fn free_port(protocol: Protocol) -> Result<u16, Failure> {
    let address = (std::net::Ipv4Addr::UNSPECIFIED, 0);
    let bound = match protocol {
        Protocol::Udp => std::net::UdpSocket::bind(address)?.local_addr()?,
        Protocol::Tcp | Protocol::Sctp => std::net::TcpListener::bind(address)?.local_addr()?,
    };
    Ok(bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> PortMapping {
        let mut all = parse(text).unwrap();
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    #[test]
    fn ports_are_read_with_and_without_address_and_protocol() {
        let full = one("127.0.0.1:8080:80/udp");
        assert_eq!(
            (full.host_port, full.container_port, full.protocol),
            (8080, 80, Protocol::Udp)
        );
        assert_eq!(full.host_ip, Some("127.0.0.1".parse().unwrap()));
        let six = one("[::1]:8080:80");
        assert_eq!(six.host_ip, Some("::1".parse().unwrap()));
        assert_ne!(one("80").host_port, 0);
        for bad in [
            "",
            "0",
            "x",
            "1:2:3:4:5",
            "80/icmp",
            "70000",
            "9-8",
            "1-3:1-2",
            "1-",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_is_as_many_ports() {
        let all = parse("8000-8002:80-82").unwrap();
        let pairs: Vec<_> = all
            .iter()
            .map(|one| (one.host_port, one.container_port))
            .collect();
        assert_eq!(pairs, [(8000, 80), (8001, 81), (8002, 82)]);
        assert_eq!(parse("80-81").unwrap().len(), 2);
    }
}
