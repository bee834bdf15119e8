//! Proxies, as Go's programs and so podman and CRI-O find them in the environment: `HTTPS_PROXY` and
//! `HTTP_PROXY` by what is asked for, and `NO_PROXY` with what is asked for directly.
//!
//! Must never go around a proxy that was named and cannot be used, never ask one for this machine's
//! own addresses, and never show its password.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;
use url::Host;

use super::endpoint::is_loopback;
use crate::error::{Error, Result};

/// What the environment says about proxies. Nothing is looked at before the first request.
#[derive(Clone, Default)]
pub struct Proxies {
    http: String,
    https: String,
    no: String,
}

impl Proxies {
    /// Of the variables, in capitals or else in small letters; `var` looks one up.
    pub fn from_env(var: impl Fn(&str) -> Option<OsString>) -> Proxies {
        let find = |names: [&str; 2]| {
            let mut found = names.into_iter().filter_map(&var);
            let text = found.find(|text| !text.is_empty()).unwrap_or_default();
            text.to_string_lossy().into_owned()
        };
        Proxies {
            http: find(["HTTP_PROXY", "http_proxy"]),
            https: find(["HTTPS_PROXY", "https_proxy"]),
            no: find(["NO_PROXY", "no_proxy"]),
        }
    }

    /// For the connections of an HTTP client. Errors name the variable that cannot be used.
    pub(super) fn rule(&self) -> Result<reqwest::Proxy> {
        let http = address("HTTP_PROXY", &self.http)?;
        let https = address("HTTPS_PROXY", &self.https)?;
        let direct = Exceptions::parse(&self.no);
        Ok(reqwest::Proxy::custom(move |url| {
            let proxy = match url.scheme() {
                "https" => https.as_ref(),
                _ => http.as_ref(),
            };
            proxy.filter(|_| !direct.contains(url)).cloned()
        }))
    }
}

/// Addresses of proxies may hold passwords.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxies {{ no: {:?}, .. }}", self.no)
    }
}

/// A proxy's address: a URL, or `host[:port]` of one that speaks HTTP.
fn address(variable: &str, text: &str) -> Result<Option<Url>> {
    let refused = |cause: &str| Error::Setup {
        cause: format!("the environment's {variable}: {cause}"),
    };
    let text = match text.trim() {
        "" => return Ok(None),
        text if text.contains("://") => text.to_owned(),
        text => format!("http://{text}"),
    };
    let url = Url::parse(&text).map_err(|_| refused("it is no address of a proxy"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refused("it names no host"));
    }
    match url.scheme() {
        "http" | "https" | "socks5h" => Ok(Some(url)),
        // It is asked by name, as Go does.
        "socks5" => Ok(Url::parse(&text.replacen("socks5", "socks5h", 1)).ok()),
        scheme => Err(refused(&format!("{scheme} is no known kind of proxy"))),
    }
}

/// `NO_PROXY`: what is reached directly.
#[derive(Debug, Default)]
struct Exceptions {
    all: bool,
    networks: Vec<IpNet>,
    /// With the only port that is meant, if it says one.
    hosts: Vec<(Name, Option<u16>)>,
}

#[derive(Debug)]
enum Name {
    Address(IpAddr),
    /// `example.com`: the domain and what is below it.
    Domain(String),
    /// `.example.com`: what is below it.
    Below(String),
}

impl Exceptions {
    /// Nonsense in the list matches nothing.
    fn parse(list: &str) -> Exceptions {
        let mut exceptions = Exceptions::default();
        for entry in list.split(',') {
            let entry = entry.trim().to_ascii_lowercase();
            if entry == "*" {
                exceptions.all = true;
            } else if let Ok(network) = entry.parse() {
                exceptions.networks.push(network);
            } else {
                exceptions.hosts.extend(host(&entry));
            }
        }
        exceptions
    }

    fn contains(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let address = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        let named = |wanted: &Name| match wanted {
            Name::Address(one) => address == Some(*one),
            wanted => url.domain().is_some_and(|name| wanted.covers(name)),
        };
        self.all
            || is_loopback(url)
            || address.is_some_and(|ip| self.networks.iter().any(|network| network.contains(&ip)))
            || self
                .hosts
                .iter()
                .any(|(name, only)| only.is_none_or(|only| Some(only) == port) && named(name))
    }
}

impl Name {
    fn covers(&self, name: &str) -> bool {
        let below = |domain: &str| {
            let rest = name.strip_suffix(domain);
            rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        match self {
            Name::Address(_) => false,
            Name::Domain(domain) => name == domain || below(domain),
            Name::Below(domain) => below(domain),
        }
    }
}

/// One host of the list, which may have a port.
fn host(entry: &str) -> Option<(Name, Option<u16>)> {
    let bracketed = entry
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None if entry.matches(':').count() == 1 => {
            let (host, port) = entry.split_once(':')?;
            (host, Some(port))
        }
        None => (entry, None),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    let name = match host.parse() {
        Ok(ip) => Name::Address(ip),
        Err(_) => {
            let host = host
                .strip_prefix('*')
                .filter(|rest| rest.starts_with('.'))
                .unwrap_or(host);
            match host.strip_prefix('.') {
                Some(domain) => Name::Below(domain.to_owned()),
                None => Name::Domain(host.to_owned()),
            }
        }
    };
    let empty = matches!(&name, Name::Domain(text) | Name::Below(text) if text.is_empty());
    (!empty).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(list: &str, url: &str) -> bool {
        Exceptions::parse(list).contains(&Url::parse(url).unwrap())
    }

    #[test]
    fn what_is_reached_directly_is_what_go_reaches_directly() {
        let list = "Example.com, .below.test,*.star.test,10.0.0.0/8,192.0.2.7, [2001:db8::1],\
            fd00::/8,ported.test:5000,192.0.2.8:443,[2001:db8::2]:8443,,:80,nonsense:port";
        for url in [
            "https://example.com",
            "https://EXAMPLE.com:5000",
            "https://a.b.example.com",
            "http://x.below.test",
            "http://x.star.test",
            "https://10.255.0.1:5000",
            "https://192.0.2.7",
            "https://[2001:db8::1]:1",
            "https://[fd12::1]",
            "http://ported.test:5000",
            "https://192.0.2.8",
            "https://[2001:db8::2]:8443",
            "http://localhost:5000",
            "https://127.9.9.9",
            "https://[::1]",
        ] {
            assert!(direct(list, url), "{url}");
        }
        for url in [
            "https://notexample.com",
            "https://example.com.evil.test",
            "http://below.test",
            "http://star.test",
            "https://11.0.0.1",
            "https://192.0.2.70",
            "https://[2001:db8::3]",
            "http://ported.test",
            "https://192.0.2.8:444",
            "https://[2001:db8::2]",
            "https://nonsense",
            "https://10.example.org",
        ] {
            assert!(!direct(list, url), "{url}");
        }
        assert!(direct(" * ", "https://anything.test"));
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_an_error_without_its_password() {
        let with = |text: &str| {
            let var = |name: &str| (name == "https_proxy").then(|| OsString::from(text));
            Proxies::from_env(var).rule()
        };
        for good in [
            "",
            "proxy.test:3128",
            "http://u:p@proxy.test",
            "https://proxy.test",
            "socks5://proxy.test:1080",
        ] {
            assert!(with(good).is_ok(), "{good}");
        }
        for bad in [
            "ftp://u:secret@proxy.test",
            "http://",
            "a b",
            "http://u:secret@:80",
        ] {
            let error = with(bad).unwrap_err().to_string();
            assert!(
                error.contains("HTTPS_PROXY") && !error.contains("secret"),
                "{error}"
            );
        }
        let proxies = Proxies {
            https: "http://u:secret@proxy.test".to_owned(),
            ..Proxies::default()
        };
        assert!(!format!("{proxies:?}").contains("secret"));
    }
}
