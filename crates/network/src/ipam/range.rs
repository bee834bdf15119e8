//! Address ranges of the host-local kind and walking through them. Pure arithmetic, no files.
//! CNI host-local: subnet, rangeStart, rangeEnd, gateway.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Deserialize;

use crate::config::first_address;
use crate::{Error, Result};

/// A range as the configuration has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RangeConfig {
    subnet: IpNet,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

/// A checked range: all within one subnet, start not after end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    subnet: IpNet,
    start: u128,
    end: u128,
    gateway: IpAddr,
}

/// Ranges of one address family: a pod gets one address from each set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<Range>);

impl RangeConfig {
    /// Checks the range; `field` says where it stands in the configuration.
    fn check(&self, network: &str, field: &str) -> Result<Range> {
        let wrong =
            |key: &str, reason: String| Error::config(network, format!("{field}.{key}"), reason);
        let subnet = self.subnet;
        if subnet.addr() != subnet.network() {
            return Err(wrong("subnet", format!("{subnet} has host bits set")));
        }
        if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
            return Err(wrong("subnet", format!("{subnet} is too small")));
        }
        let gateway = self.gateway.unwrap_or_else(|| first_address(&subnet));
        let last = match subnet {
            IpNet::V4(_) => number(subnet.broadcast()) - 1,
            IpNet::V6(_) => number(subnet.broadcast()),
        };
        let start = self
            .range_start
            .map_or(number(subnet.network()) + 1, number);
        let end = self.range_end.map_or(last, number);
        for (key, ip) in [
            ("gateway", Some(gateway)),
            ("rangeStart", self.range_start),
            ("rangeEnd", self.range_end),
        ] {
            if let Some(ip) = ip
                && !subnet.contains(&ip)
            {
                return Err(wrong(key, format!("{ip} is not in {subnet}")));
            }
        }
        if start > end {
            return Err(wrong("rangeStart", "is after rangeEnd".to_owned()));
        }
        Ok(Range {
            subnet,
            start,
            end,
            gateway,
        })
    }
}

impl RangeSet {
    /// Checks a set of ranges: not empty, of one family, not overlapping.
    pub(super) fn check(configs: &[RangeConfig], network: &str, field: &str) -> Result<RangeSet> {
        let mut ranges: Vec<Range> = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let field = format!("{field}[{index}]");
            let range = config.check(network, &field)?;
            if ranges.iter().any(|other| other.overlaps(&range)) {
                return Err(Error::config(network, field, "overlaps another range"));
            }
            if ranges.iter().any(|other| other.is_v4() != range.is_v4()) {
                return Err(Error::config(
                    network,
                    field,
                    "mixes IPv4 and IPv6 in one set",
                ));
            }
            ranges.push(range);
        }
        if ranges.is_empty() {
            return Err(Error::config(network, field, "has no range"));
        }
        Ok(RangeSet(ranges))
    }

    /// All addresses that can be given out, each once, beginning after `last`.
    pub(crate) fn after(&self, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
        let position = last.and_then(|last| {
            let index = self.0.iter().position(|range| range.contains(last))?;
            Some((index, number(last)))
        });
        // The rest of the range where the last address was, then the other ranges in turn, then the
        // beginning of the first one.
        let (first, from) = match position {
            Some((index, last)) => (index, last + 1),
            None => (0, self.0[0].start),
        };
        let count = self.0.len();
        let tail = (from, self.0[first].end, &self.0[first]);
        let others = (1..count).map(move |step| &self.0[(first + step) % count]);
        let head = (self.0[first].start, from.saturating_sub(1), &self.0[first]);
        std::iter::once(tail)
            .chain(others.map(|range| (range.start, range.end, range)))
            .chain(std::iter::once(head))
            .flat_map(|(start, end, range)| {
                (start..=end).map(move |number| (range.ip(number), range))
            })
            .filter(|(ip, range)| *ip != range.gateway)
    }

    /// The range in whose subnet an address is, whether or not it would be given out there.
    pub(crate) fn of(&self, ip: IpAddr) -> Option<&Range> {
        let mut ranges = self.0.iter();
        ranges.find(|range| range.subnet.contains(&ip))
    }

    /// Whether an address of this set would be.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(ip))
    }

    fn overlaps(&self, other: &RangeSet) -> bool {
        self.0
            .iter()
            .any(|range| other.0.iter().any(|two| range.overlaps(two)))
    }
}

/// Checks that no two sets share addresses.
pub(super) fn check_disjoint(sets: &[RangeSet], network: &str) -> Result<()> {
    for (index, set) in sets.iter().enumerate() {
        if sets[..index].iter().any(|other| other.overlaps(set)) {
            let field = format!("ipam.ranges[{index}]");
            return Err(Error::config(network, field, "overlaps another set"));
        }
    }
    Ok(())
}

impl Range {
    /// The range's gateway.
    pub(crate) fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// An address of this range with the subnet's prefix length.
    pub(crate) fn with_prefix(&self, ip: IpAddr) -> IpNet {
        // The prefix length comes from a valid subnet of the same family.
        IpNet::new(ip, self.subnet.prefix_len()).unwrap_or_else(|_| IpNet::from(ip))
    }

    fn is_v4(&self) -> bool {
        self.subnet.addr().is_ipv4()
    }

    fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.is_v4() && (self.start..=self.end).contains(&number(ip))
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.is_v4() == other.is_v4() && self.start <= other.end && other.start <= self.end
    }

    fn ip(&self, number: u128) -> IpAddr {
        match self.subnet {
            // Numbers of an IPv4 range come from 32-bit addresses.
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }
}

/// An address as a number.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}-{}", range.ip(range.start), range.ip(range.end))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(json: &str) -> Result<RangeSet> {
        let configs: Vec<RangeConfig> = serde_json::from_str(json).unwrap();
        RangeSet::check(&configs, "net", "ipam.ranges[0]")
    }

    fn walk(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        let last = last.map(|ip| ip.parse().unwrap());
        set.after(last).map(|(ip, _)| ip.to_string()).collect()
    }

    #[test]
    fn a_range_leaves_out_network_gateway_and_broadcast() {
        let set = set(r#"[{"subnet":"10.1.0.0/29"}]"#).unwrap();
        assert_eq!(
            walk(&set, None),
            ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
        );
    }

    #[test]
    fn round_robin_goes_on_after_the_last_one_and_visits_each_once() {
        let set = set(
            r#"[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.10","rangeEnd":"10.1.0.12"},
                {"subnet":"10.2.0.0/30"}]"#,
        )
        .unwrap();
        assert_eq!(
            walk(&set, Some("10.1.0.11")),
            ["10.1.0.12", "10.2.0.2", "10.1.0.10", "10.1.0.11"]
        );
        assert_eq!(walk(&set, Some("10.9.9.9")).len(), 4);
        assert_eq!(set.to_string(), "10.1.0.10-10.1.0.12, 10.2.0.1-10.2.0.2");
    }

    #[test]
    fn an_ipv6_range_of_any_size_is_walked_lazily() {
        let set = set(r#"[{"subnet":"fd00::/64"}]"#).unwrap();
        let first: Vec<_> = set
            .after(None)
            .take(2)
            .map(|(ip, _)| ip.to_string())
            .collect();
        assert_eq!(first, ["fd00::2", "fd00::3"]);
    }

    #[test]
    fn wrong_ranges_are_refused_by_name() {
        for (json, wanted) in [
            (
                r#"[{"subnet":"10.1.0.3/24"}]"#,
                "subnet: 10.1.0.3/24 has host bits set",
            ),
            (
                r#"[{"subnet":"10.1.0.0/31"}]"#,
                "subnet: 10.1.0.0/31 is too small",
            ),
            (
                r#"[{"subnet":"10.1.0.0/24","gateway":"10.2.0.1"}]"#,
                "gateway: 10.2.0.1 is not in",
            ),
            (
                r#"[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.9","rangeEnd":"10.1.0.8"}]"#,
                "after",
            ),
            (
                r#"[{"subnet":"10.1.0.0/24"},{"subnet":"10.1.0.0/25"}]"#,
                "overlaps",
            ),
            (
                r#"[{"subnet":"10.1.0.0/24"},{"subnet":"fd00::/64"}]"#,
                "mixes",
            ),
            ("[]", "has no range"),
        ] {
            let error = set(json).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error} does not contain {wanted}");
        }
    }
}
