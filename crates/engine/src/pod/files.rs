//! The files of a pod that its containers see: resolv.conf, hostname and hosts under /etc, and
//! /run/.containerenv.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use super::{DnsConfig, NamespaceMode, Origin, PodSpec, UserIds};
use crate::disk;
use crate::error::{Error, Result};

/// Where a pod's own resolver listens.
const RESOLVER: &str = "127.0.0.11";

/// Writes resolv.conf, hostname and the empty file that says that this is a container into the pod's directory.
///
/// `resolves`: its own resolver is asked, which asks the others.
pub(crate) fn write(dir: &Path, id: &str, spec: &PodSpec, resolves: bool) -> Result<()> {
    let resolv = resolv(spec, resolves)?;
    disk::write_file(&dir.join("resolv.conf"), resolv.as_bytes(), 0o644)?;
    disk::write_file(
        &dir.join("hostname"),
        format!("{}\n", hostname(id, spec)).as_bytes(),
        0o644,
    )?;
    disk::write_file(&dir.join("containerenv"), b"", 0o644)?;
    give(dir, &["resolv.conf", "hostname", "containerenv"], spec)
}

/// The text of a pod's resolv.conf.
pub(super) fn resolv(spec: &PodSpec, resolves: bool) -> Result<String> {
    Ok(match (&spec.dns, resolves) {
        (Some(dns), false) => resolv_conf(dns),
        (None, false) => node_resolv_conf()?,
        (Some(dns), true) => resolv_conf(&DnsConfig {
            servers: vec![RESOLVER.to_owned()],
            ..dns.clone()
        }),
        (None, true) => {
            let node = node_resolv_conf()?;
            let others = node
                .lines()
                .filter(|line| !line.trim_start().starts_with("nameserver"));
            let mut text: String = others.map(|line| format!("{line}\n")).collect();
            let _ = writeln!(text, "nameserver {RESOLVER}");
            text
        }
    })
}

/// Gives files to root of the pod's own user namespace, if it has one.
fn give(dir: &Path, names: &[&str], spec: &PodSpec) -> Result<()> {
    let Some((uid, gid)) = spec.namespaces.users.ids().and_then(UserIds::root) else {
        return Ok(());
    };
    names.iter().try_for_each(|name| {
        let path = dir.join(name);
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).map_err(Error::io("give", path))
    })
}

/// Writes /etc/hosts for a pod that has no kubelet to do it.
pub(crate) fn write_hosts(dir: &Path, id: &str, spec: &PodSpec, ips: &[IpAddr]) -> Result<()> {
    if spec.origin != Origin::Cli {
        return Ok(());
    }
    let mut text =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for ip in ips {
        let _ = writeln!(text, "{ip}\t{} {}", hostname(id, spec), spec.name);
    }
    for (ip, name) in &spec.host_aliases {
        let _ = writeln!(text, "{ip}\t{name}");
    }
    disk::write_file(&dir.join("hosts"), text.as_bytes(), 0o644)?;
    give(dir, &["hosts"], spec)
}

/// The hostname inside the pod.
pub(crate) fn hostname(id: &str, spec: &PodSpec) -> String {
    if !spec.hostname.is_empty() {
        return spec.hostname.clone();
    }
    if spec.namespaces.network == NamespaceMode::Node {
        return rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
    }
    id.chars().take(12).collect()
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", dns.searches.join(" "));
    }
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    text
}

/// The node's resolv.conf; a node without one gives an empty file.
fn node_resolv_conf() -> Result<String> {
    let path = Path::new("/etc/resolv.conf");
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(Error::io("read", path)),
    }
}

/// The servers in it.
pub(super) fn node_servers() -> Result<Vec<String>> {
    let text = node_resolv_conf()?;
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next().map(str::to_owned))?
    });
    Ok(servers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_one_line_of_each_kind_and_one_per_server() {
        let dns = DnsConfig {
            servers: vec!["10.0.0.1".into(), "fd00::1".into()],
            searches: vec!["a.b".into(), "c".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(&dns),
            "search a.b c\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&DnsConfig::default()), "");
    }
}
