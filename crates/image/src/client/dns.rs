//! Host names to addresses: /etc/hosts, then the name servers of /etc/resolv.conf.
//!
//! The programs are static, so the C library's resolver cannot be used. Must never ask a name
//! server that the machine's configuration does not name, and never send `localhost` to one.

use std::error::Error as StdError;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
enum DnsError {
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot use {}: {cause}", path.display())]
    Config { path: PathBuf, cause: String },
    #[error("no address for host {host}: {cause}")]
    Lookup { host: String, cause: String },
}

/// The resolver of a client.
#[derive(Clone)]
pub(super) struct Dns {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    servers: Arc<Mutex<Option<Servers>>>,
}

/// The resolver made from one version of resolv.conf.
struct Servers {
    modified: Option<SystemTime>,
    resolver: TokioResolver,
}

impl Dns {
    pub(super) fn new(hosts: PathBuf, resolv_conf: PathBuf) -> Dns {
        Dns {
            hosts,
            resolv_conf,
            servers: Arc::default(),
        }
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let known = fs::read_to_string(&self.hosts)
            .map(|text| in_hosts(&text, &name))
            .unwrap_or_default();
        if !known.is_empty() {
            return Ok(known);
        }
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let answer = self.resolver()?.lookup_ip(host).await;
        let failed = |cause: String| DnsError::Lookup {
            host: host.to_owned(),
            cause,
        };
        Ok(answer
            .map_err(|error| failed(error.to_string()))?
            .iter()
            .collect())
    }

    /// The resolver for resolv.conf as it is now; DHCP clients and VPNs rewrite the file.
    fn resolver(&self) -> Result<TokioResolver, DnsError> {
        let path = &self.resolv_conf;
        let modified = fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &*servers
            && current.modified == modified
        {
            return Ok(current.resolver.clone());
        }
        let text = fs::read(path).map_err(|source| DnsError::Read {
            path: path.clone(),
            source,
        })?;
        let unusable = |cause: String| DnsError::Config {
            path: path.clone(),
            cause,
        };
        let (config, options) =
            parse_resolv_conf(text).map_err(|error| unusable(error.to_string()))?;
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let resolver = builder
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        *servers = Some(Servers {
            modified,
            resolver: resolver.clone(),
        });
        Ok(resolver)
    }
}

impl Resolve for Dns {
    fn resolve(&self, name: Name) -> Resolving {
        let dns = self.clone();
        Box::pin(async move {
            let found = dns
                .lookup(name.as_str())
                .await
                .map_err(|error| -> BoxError { error.into() })?;
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// The addresses that a hosts file has for `name` (lower case).
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let mut found = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        if words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name))
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(hosts: &str, resolv_conf: &str) -> (tempfile::TempDir, Dns) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hosts"), hosts).unwrap();
        fs::write(dir.path().join("resolv.conf"), resolv_conf).unwrap();
        let dns = Dns::new(dir.path().join("hosts"), dir.path().join("resolv.conf"));
        (dir, dns)
    }

    #[test]
    fn the_hosts_file_is_read() {
        let text =
            "127.0.0.1 a b.example # c\n#1.2.3.4 d\n::1\tB.Example.\nnonsense a\n127.0.0.1 a\n";
        assert_eq!(in_hosts(text, "a"), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(in_hosts(text, "b.example").len(), 2);
        assert!(in_hosts(text, "c").is_empty() && in_hosts(text, "d").is_empty());
    }

    #[tokio::test]
    async fn localhost_and_known_hosts_need_no_name_server() {
        let (_dir, dns) = dns("127.0.0.9 registry.test\n", "");
        assert_eq!(
            dns.lookup("Registry.test.").await.unwrap(),
            [IpAddr::from([127, 0, 0, 9])]
        );
        assert_eq!(dns.lookup("localhost").await.unwrap().len(), 2);
        let error = dns.lookup("other.test").await.unwrap_err().to_string();
        assert!(error.contains("resolv.conf"), "{error}");
    }

    /// Answers every A question with 127.0.0.7, and any other with nothing.
    async fn name_server(socket: tokio::net::UdpSocket) {
        let mut packet = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
            let name_end = 12
                + packet[12..length]
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap();
            let question_end = name_end + 5;
            let is_a = packet[name_end + 1..name_end + 3] == [0, 1];
            let mut answer = packet[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            answer.extend(&packet[12..question_end]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 7]);
            }
            socket.send_to(&answer, peer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_configured_name_server_is_asked() {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low);
        let socket = match tokio::net::UdpSocket::bind((address, 53)).await {
            Ok(socket) => socket,
            Err(error) => return eprintln!("SKIP: cannot listen on {address}:53: {error}"),
        };
        let server = tokio::spawn(name_server(socket));
        let (_dir, dns) = dns(
            "",
            &format!("nameserver {address}\noptions timeout:2 attempts:1\n"),
        );
        assert_eq!(
            dns.lookup("registry.example.").await.unwrap(),
            [IpAddr::from([127, 0, 0, 7])]
        );
        server.abort();
    }
}
