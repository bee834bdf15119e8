//! Registries as URLs: which host stands for a domain, over which scheme, and who is whose neighbour.
//!
//! Pure. Must never make https into http by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use url::Host;

use crate::error::RedirectFlaw;

/// The URL of the API's root at a registry, as `https://registry-1.docker.io/v2/`.
pub(super) fn root(domain: &str, scheme: Scheme) -> Option<Url> {
    let host = match domain {
        "docker.io" => "registry-1.docker.io",
        other => other,
    };
    Url::parse(&format!("{}://{host}/v2/", scheme.as_str())).ok()
}

/// How to speak to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
        }
    }
}

/// What helps when TLS with a registry failed for this cause, as rustls words it.
pub(super) fn advice(cause: &str) -> Option<&'static str> {
    let any = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    if any(&["InvalidContentType", "tls handshake eof"]) {
        return Some(
            ": it does not speak TLS there; if plain HTTP is meant, give --tls-verify=false, or insecure = \
             true in registries.conf",
        );
    }
    any(&["UnknownIssuer", "CaUsedAsEndEntity"]).then_some(
        ": its CA, or it itself, belongs in certs.d or --cert-dir; without any check it is used with \
         --tls-verify=false, or insecure = true in registries.conf",
    )
}

/// Scheme, host and port: what may share credentials.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The URL without what may hold secrets (query, user), for messages.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Only URLs that cannot have a user refuse this, and they have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// The names that certs.d may have for this host: with the port, or without when it is the usual one.
pub(super) fn cert_names(url: &Url) -> Vec<String> {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => vec![format!("{host}:{port}")],
        None if host == "registry-1.docker.io" => vec![host.to_owned(), "docker.io".to_owned()],
        None => vec![host.to_owned(), format!("{host}:443")],
    }
}

/// Whether the host is this machine by its very name, so that no proxy can reach it.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Addresses at which clouds have their metadata services, besides those of the link: Azure,
/// Alibaba, Oracle, and AWS over IPv6.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// This machine, its link, a metadata service, or no address at all.
pub(super) fn is_local_address(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
    };
    local || METADATA.contains(&ip)
}

/// The same of a URL, by its very name: names that have such addresses are known in `dns.rs`.
pub(super) fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_local_address(ip.into()),
        Some(Host::Ipv6(ip)) => is_local_address(ip.into()),
        _ => is_loopback(url),
    }
}

/// Where a redirect leads, if it may be followed. `insecure` registries may leave https.
pub(super) fn redirect(
    from: &Url,
    location: &str,
    insecure: bool,
) -> Result<Url, (String, RedirectFlaw)> {
    let no_place = |_| {
        (
            location.chars().take(200).collect(),
            RedirectFlaw::NoLocation,
        )
    };
    let target = from.join(location).map_err(no_place)?;
    let flaw = match target.scheme() {
        "http" if from.scheme() == "https" && !insecure => RedirectFlaw::Downgrade,
        "http" | "https" if is_local(&target) && !is_local(from) => RedirectFlaw::Local,
        "http" | "https" => return Ok(target),
        _ => RedirectFlaw::Scheme,
    };
    Err((shown(&target), flaw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn docker_hub_has_another_host() {
        assert_eq!(
            root("docker.io", Scheme::Https).unwrap().as_str(),
            "https://registry-1.docker.io/v2/"
        );
        assert_eq!(
            root("[::1]:5000", Scheme::Http).unwrap().as_str(),
            "http://[::1]:5000/v2/"
        );
        assert_eq!(root("a.b:99999", Scheme::Https), None);
    }

    #[test]
    fn certificates_are_found_by_host_and_port() {
        assert_eq!(cert_names(&url("https://a.b:5000/v2/")), ["a.b:5000"]);
        assert_eq!(cert_names(&url("https://a.b/v2/")), ["a.b", "a.b:443"]);
    }

    #[test]
    fn only_harmless_redirects_are_followed() {
        let from = url("https://a.example/v2/x");
        let flaw = |location: &str, insecure| {
            redirect(&from, location, insecure).map_err(|(_, flaw)| flaw)
        };
        assert_eq!(flaw("/y", false).unwrap().as_str(), "https://a.example/y");
        assert_eq!(
            flaw("https://cdn.example/y?sig=1", false)
                .unwrap()
                .host_str(),
            Some("cdn.example")
        );
        assert_eq!(
            flaw("http://cdn.example/", false),
            Err(RedirectFlaw::Downgrade)
        );
        assert!(flaw("http://cdn.example/", true).is_ok());
        for bad in [
            "file:///etc/passwd",
            "ftp://a.example/",
            "data:,x",
            "javascript:1",
        ] {
            assert_eq!(flaw(bad, true), Err(RedirectFlaw::Scheme), "{bad}");
        }
        for local in [
            "//169.254.169.254/latest",
            "//127.0.0.1/",
            "//[::1]/",
            "//localhost/",
            "//0.0.0.0/",
            "//[fe80::1]/",
            "//[::ffff:169.254.169.254]/",
            "//2852039166/",
            "//168.63.129.16/",
            "//[fd00:ec2::254]/latest",
        ] {
            assert_eq!(
                flaw(&format!("https:{local}"), true),
                Err(RedirectFlaw::Local),
                "{local}"
            );
        }
        assert_eq!(flaw("https://", false), Err(RedirectFlaw::NoLocation));
        assert!(
            redirect(
                &url("http://127.0.0.1:5000/"),
                "http://127.0.0.1:6000/",
                false
            )
            .is_ok()
        );
        assert!(redirect(&from, "https://u:p@b.example:1/x?token=1", false).is_ok());
        assert_eq!(
            shown(&url("https://u:p@b.example:1/x?token=1#f")),
            "https://b.example:1/x"
        );
    }
}
