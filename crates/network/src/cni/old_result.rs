//! CNI results of the versions 0.1.0 and 0.2.0: one address of each family, each with its routes, and
//! no interfaces. CNI specification 0.2.0, "Result".

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::result::{CniResult, IpConfig, RouteConfig, address_or_none};
use crate::Dns;

/// Whether results of this version are so.
pub(super) fn is_of(version: &str) -> bool {
    matches!(version, "0.1.0" | "0.2.0")
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Old {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<OldIp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<OldIp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OldIp {
    ip: IpNet,
    #[serde(
        default,
        deserialize_with = "address_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<RouteConfig>>,
}

/// Reads one without its `cniVersion`.
pub(super) fn read(object: Map<String, Value>) -> serde_json::Result<CniResult> {
    let old = Old::deserialize(Value::Object(object))?;
    let mut result = CniResult {
        dns: old.dns.unwrap_or_default(),
        rest: old.rest,
        ..CniResult::default()
    };
    for one in [old.ip4, old.ip6].into_iter().flatten() {
        result.ips.push(IpConfig::new(one.ip, one.gateway));
        result.routes.extend(one.routes.into_iter().flatten());
    }
    Ok(result)
}

/// Writes the first address of each family, and the routes of that family.
pub(super) fn write(result: &CniResult, version: &str) -> serde_json::Result<Value> {
    let first = |v4: bool| {
        let is_it = |ip: &&IpConfig| ip.address.addr().is_ipv4() == v4;
        let ip = result.ips.iter().find(is_it)?;
        let routes = result.routes.iter();
        let routes: Vec<RouteConfig> = routes
            .filter(|route| route.dst.addr().is_ipv4() == v4)
            .cloned()
            .collect();
        Some(OldIp {
            ip: ip.address,
            gateway: ip.gateway,
            routes: (!routes.is_empty()).then_some(routes),
        })
    };
    let mut rest = result.rest.clone();
    rest.insert("cniVersion".to_owned(), Value::from(version));
    serde_json::to_value(Old {
        ip4: first(true),
        ip6: first(false),
        dns: (!result.dns.is_empty()).then(|| result.dns.clone()),
        rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"cniVersion":"0.2.0",
        "ip4":{"ip":"10.1.0.2/24","gateway":"10.1.0.1",
               "routes":[{"dst":"0.0.0.0/0","gw":""},{"dst":"10.9.0.0/16","gw":"10.1.0.9"}]},
        "ip6":{"ip":"fd01::2/64"},"dns":{"nameservers":["10.0.0.1"]}}"#;

    #[test]
    fn a_result_of_the_first_versions_becomes_one_of_todays_and_back() {
        for (text, version) in [
            (OLD.to_owned(), "1.0.0"),
            (OLD.replace(r#""cniVersion":"0.2.0","#, ""), "0.1.0"),
        ] {
            let result = CniResult::parse(text.as_bytes(), version).unwrap();
            let ips: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
            assert_eq!(ips, ["10.1.0.2/24", "fd01::2/64"]);
            assert_eq!(result.ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
            assert_eq!(result.routes.len(), 2);
            assert_eq!(result.routes[0].gw, None);
            assert_eq!(result.dns.nameservers, ["10.0.0.1"]);
            let new = result.write("1.0.0").unwrap();
            assert_eq!(new["ips"][1]["address"], "fd01::2/64");
            assert_eq!(new.get("ip4"), None);
            let old = result.write("0.2.0").unwrap();
            assert_eq!(old["cniVersion"], "0.2.0");
            assert_eq!(old["ip4"]["routes"][1]["gw"], "10.1.0.9");
            assert_eq!(old["ip6"], serde_json::json!({"ip":"fd01::2/64"}));
            let again = CniResult::parse(old.to_string().as_bytes(), "0.2.0").unwrap();
            assert_eq!(again, result);
        }
    }
}
