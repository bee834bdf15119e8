//! Host names to addresses: /etc/hosts, then the name servers of /etc/resolv.conf.
//!
//! The programs are static, so the C library's resolver cannot be used. Must never ask a name
//! server that the machine's configuration does not name, and never send `localhost` to one.

use std::error::Error as StdError;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, select};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::system_conf::parse_resolv_conf;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;

use super::endpoint::is_local_address;

/// How long IPv6 addresses are waited for when the IPv4 ones are known, as RFC 8305 has it.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

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
    #[error("host {host} has only addresses of this machine or link, where no registry may lead")]
    Local { host: String },
}

/// The resolver of a client.
#[derive(Clone)]
pub(super) struct Dns {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    servers: Arc<Mutex<Option<Servers>>>,
    /// Names must not have addresses of this machine, its link or metadata services.
    guarded: bool,
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
            guarded: false,
        }
    }

    /// The same for hosts to which registries lead: a name of this machine is not resolved.
    pub(super) fn guarded(&self) -> Dns {
        Dns {
            guarded: true,
            ..self.clone()
        }
    }

    /// All addresses of a host.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        self.lookup(host).await.map_err(|error| error.to_string())
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let mut found = self.find(host).await?;
        if self.guarded {
            found.retain(|ip| !is_local_address(*ip));
            if found.is_empty() {
                let host = host.to_owned();
                return Err(DnsError::Local { host });
            }
        }
        Ok(found)
    }

    async fn find(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
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
        both(&self.resolver()?, host)
            .await
            .map_err(|cause| DnsError::Lookup {
                host: host.to_owned(),
                cause,
            })
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

/// The addresses of both families, asked for at the same time (RFC 8305, section 3): who answers no
/// question about IPv6 does not keep us from the IPv4 addresses that are there.
async fn both(resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, String> {
    let ask = async |kind| {
        let found = resolver.lookup(host, kind).await;
        found.map(|found| {
            let name = found.query().name().clone();
            (name, LookupIp::from(found).iter().collect::<Vec<_>>())
        })
    };
    let (six, four) = (pin!(ask(RecordType::AAAA)), pin!(ask(RecordType::A)));
    let (six, four) = match select(six, four).await {
        Either::Left((six, four)) => (Some(six), four.await),
        Either::Right((four, six)) if four.is_ok() => {
            (timeout(RESOLUTION_DELAY, six).await.ok(), four)
        }
        Either::Right((four, six)) => (Some(six.await), four),
    };
    match (six, four) {
        // Search domains may make two names of one: what belongs to another host is not tried.
        (Some(Ok((name, six))), Ok((same, four))) if name == same => {
            Ok(six.into_iter().chain(four).collect())
        }
        (_, Ok((_, one))) | (Some(Ok((_, one))), Err(_)) => Ok(one),
        (None | Some(Err(_)), Err(error)) => Err(error.to_string()),
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

    /// Answers every A question with 127.0.0.7, and any other with nothing, or not at all.
    async fn name_server(socket: tokio::net::UdpSocket, silent: bool) {
        let mut packet = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
            let name_end = 12
                + packet[12..length]
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap();
            let question_end = name_end + 5;
            let is_a = packet[name_end + 1..name_end + 3] == [0, 1];
            if silent && !is_a {
                continue;
            }
            let mut answer = packet[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            answer.extend(&packet[12..question_end]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 7]);
            }
            socket.send_to(&answer, peer).await.unwrap();
        }
    }

    /// A client of a name server of its own, at 127.53.X.Y; none where that cannot be.
    async fn asking(number: u8, silent: bool) -> Option<(tempfile::TempDir, Dns)> {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let address = Ipv4Addr::new(127, number, high, low);
        let socket = match tokio::net::UdpSocket::bind((address, 53)).await {
            Ok(socket) => socket,
            Err(error) => {
                eprintln!("SKIP: cannot listen on {address}:53: {error}");
                return None;
            }
        };
        tokio::spawn(name_server(socket, silent));
        let resolv_conf = format!("nameserver {address}\noptions timeout:30 attempts:5\n");
        Some(dns("", &resolv_conf))
    }

    #[tokio::test]
    async fn the_configured_name_server_is_asked() {
        let Some((_dir, dns)) = asking(53, false).await else {
            return;
        };
        assert_eq!(
            dns.lookup("registry.example.").await.unwrap(),
            [IpAddr::from([127, 0, 0, 7])]
        );
        let error = dns.guarded().lookup("registry.example.").await;
        assert!(matches!(error, Err(DnsError::Local { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn a_name_server_that_answers_nothing_about_ipv6_keeps_nobody_waiting() {
        let Some((_dir, dns)) = asking(54, true).await else {
            return;
        };
        let found = timeout(Duration::from_secs(20), dns.lookup("registry.example.")).await;
        assert_eq!(
            found.expect("not after all its tries").unwrap(),
            [IpAddr::from([127, 0, 0, 7])]
        );
    }

    #[tokio::test]
    async fn where_registries_lead_is_never_this_machine() {
        let (_dir, dns) = dns(
            "169.254.169.254 meta.test both.test\n192.0.2.1 both.test\n",
            "",
        );
        let guarded = dns.guarded();
        for host in ["meta.test", "localhost", "x.localhost"] {
            let error = guarded.lookup(host).await;
            assert!(matches!(error, Err(DnsError::Local { .. })), "{error:?}");
        }
        assert_eq!(
            guarded.lookup("both.test").await.unwrap(),
            [IpAddr::from([192, 0, 2, 1])]
        );
        assert_eq!(dns.lookup("both.test").await.unwrap().len(), 2);
    }
}
