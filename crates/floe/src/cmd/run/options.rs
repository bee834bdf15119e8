//! The options of `floe run` that describe the container, and what they mean to the engine.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use engine::container::{Mount, Profile, Propagation, Resources, Security};
use engine::pod::{DnsConfig, NamespaceMode, NamespaceModes, Origin, PortMapping, Protocol};
use engine::{ContainerSpec, PodSpec};

use crate::failure::Failure;

/// Paths under /proc and /sys that tell or change too much of the node.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// podman's default.
const PIDS_LIMIT: i64 = 2048;

/// What the container is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// NAME=VALUE, or NAME to take it from here
    #[arg(long, short, value_name = "ENV")]
    env: Vec<String>,
    /// SOURCE:TARGET[:OPTIONS] with options ro, rw, rslave, rshared, rprivate
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// [[IP:]HOSTPORT:]PORT[/PROTOCOL]
    #[arg(long, short, value_name = "PORT")]
    publish: Vec<String>,
    /// bridge, none or host
    #[arg(long, alias = "net", default_value = "bridge", value_parser = ["bridge", "none", "host"])]
    network: String,
    /// USER[:GROUP], names or numbers
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Replaces the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Name of the host inside
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// KEY=VALUE
    #[arg(long, short, value_name = "LABEL")]
    label: Vec<String>,
    /// All capabilities and devices
    #[arg(long)]
    privileged: bool,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined, seccomp=FILE
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Root file system not writable
    #[arg(long)]
    read_only: bool,
    /// Greatest memory, with k, m or g
    #[arg(long, short, value_name = "SIZE")]
    memory: Option<String>,
    /// Greatest number of CPUs, such as 0.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Greatest number of processes; -1 for no limit
    #[arg(long, default_value_t = PIDS_LIMIT, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: i64,
    /// host or private
    #[arg(long, default_value = "private", value_parser = ["private", "host"])]
    pid: String,
    /// NAME=VALUE
    #[arg(long, value_name = "SYSCTL")]
    sysctl: Vec<String>,
    /// Name server
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
}

impl Options {
    /// The words of `--entrypoint`.
    pub(crate) fn entrypoint_words(&self) -> Vec<String> {
        self.entrypoint
            .iter()
            .filter(|word| !word.is_empty())
            .cloned()
            .collect()
    }

    /// The pod and the container that these options describe.
    pub(crate) fn specs(
        &self,
        name: &str,
        image: &str,
    ) -> Result<(PodSpec, ContainerSpec), Failure> {
        let labels = pairs("--label", &self.label, true)?.into_iter().collect();
        let namespaces = NamespaceModes {
            network: if self.network == "host" {
                NamespaceMode::Node
            } else {
                NamespaceMode::Pod
            },
            pid: if self.pid == "host" {
                NamespaceMode::Node
            } else {
                NamespaceMode::Container
            },
            ..NamespaceModes::default()
        };
        let pod = PodSpec {
            name: name.to_owned(),
            namespace: "floe".into(),
            origin: Origin::Cli,
            hostname: self.hostname.clone().unwrap_or_default(),
            dns: self.dns(),
            port_mappings: self
                .publish
                .iter()
                .map(|text| port(text))
                .collect::<Result<_, _>>()?,
            namespaces: namespaces.clone(),
            sysctls: pairs("--sysctl", &self.sysctl, false)?
                .into_iter()
                .collect(),
            privileged: self.privileged,
            network_none: self.network == "none",
            size: Default::default(),
            ..PodSpec::default()
        };
        let container = ContainerSpec {
            name: name.to_owned(),
            user_specified_image: image.to_owned(),
            working_dir: self.workdir.clone().unwrap_or_default(),
            env: self.environment()?,
            mounts: self
                .volume
                .iter()
                .map(|text| volume(text))
                .collect::<Result<_, _>>()?,
            labels,
            log_path: Some(PathBuf::from("ctr.log")),
            resources: self.resources()?,
            security: self.security(namespaces)?,
            stop_signal: self.stop_signal()?,
            ..ContainerSpec::default()
        };
        Ok((pod, container))
    }

    fn dns(&self) -> Option<DnsConfig> {
        (!self.dns.is_empty()).then(|| DnsConfig {
            servers: self.dns.clone(),
            ..DnsConfig::default()
        })
    }

    fn environment(&self) -> Result<Vec<(String, String)>, Failure> {
        let given: Vec<String> = self
            .env
            .iter()
            .filter_map(|entry| match entry.contains('=') {
                true => Some(entry.clone()),
                false => std::env::var(entry)
                    .ok()
                    .map(|value| format!("{entry}={value}")),
            })
            .collect();
        pairs("--env", &given, false)
    }

    fn stop_signal(&self) -> Result<Option<i32>, Failure> {
        let parse = |text: &String| {
            base::signal::parse(text)
                .ok_or_else(|| Failure::new(format!("--stop-signal {text:?} is not a signal")))
        };
        self.stop_signal.as_ref().map(parse).transpose()
    }

    fn resources(&self) -> Result<Resources, Failure> {
        const PERIOD: i64 = 100_000;
        let quota = match self.cpus {
            None => 0,
            Some(cpus) if cpus.is_finite() && cpus > 0.0 && cpus < 10_000.0 => {
                (cpus * PERIOD as f64) as i64
            }
            Some(cpus) => {
                return Err(Failure::new(format!(
                    "--cpus {cpus} is not a number of CPUs"
                )));
            }
        };
        Ok(Resources {
            cpu_period: if quota > 0 { PERIOD } else { 0 },
            cpu_quota: quota,
            memory_limit: self.memory.as_deref().map(bytes).transpose()?.unwrap_or(0),
            pids_limit: self.pids_limit,
            ..Resources::default()
        })
    }

    fn security(&self, namespaces: NamespaceModes) -> Result<Security, Failure> {
        let mut security = Security {
            image_groups: true,
            add_capabilities: self.cap_add.clone(),
            drop_capabilities: self.cap_drop.clone(),
            privileged: self.privileged,
            namespaces,
            readonly_rootfs: self.read_only,
            masked_paths: MASKED.map(String::from).to_vec(),
            readonly_paths: READ_ONLY.map(String::from).to_vec(),
            seccomp: Profile::RuntimeDefault,
            apparmor: Profile::RuntimeDefault,
            user: self.user.clone().unwrap_or_default(),
            ..Security::default()
        };
        for option in &self.security_opt {
            match option.split_once('=').unwrap_or((option, "")) {
                ("no-new-privileges", "" | "true") => security.no_new_privs = true,
                ("seccomp", "unconfined") => security.seccomp = Profile::Unconfined,
                ("seccomp", file) if !file.is_empty() => {
                    security.seccomp = Profile::Localhost(absolute(file)?)
                }
                ("apparmor", "unconfined") => security.apparmor = Profile::Unconfined,
                ("apparmor", name) if !name.is_empty() => {
                    security.apparmor = Profile::Localhost(name.to_owned())
                }
                _ => {
                    return Err(Failure::new(format!(
                        "--security-opt {option:?} is not supported"
                    )));
                }
            }
        }
        Ok(security)
    }
}

/// NAME=VALUE entries; a bare NAME has an empty value where that is allowed.
fn pairs(flag: &str, entries: &[String], bare: bool) -> Result<Vec<(String, String)>, Failure> {
    entries
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            None if bare && !entry.is_empty() => Ok((entry.clone(), String::new())),
            _ => Err(Failure::new(format!("{flag} {entry:?} is not NAME=VALUE"))),
        })
        .collect()
}

fn absolute(path: &str) -> Result<String, Failure> {
    let full = std::fs::canonicalize(path).map_err(|e| Failure::new(format!("{path}: {e}")))?;
    full.into_os_string()
        .into_string()
        .map_err(|_| Failure::new(format!("{path}: not UTF-8")))
}

/// SOURCE:TARGET[:OPTIONS]
fn volume(text: &str) -> Result<Mount, Failure> {
    let wrong = |why: &str| Failure::new(format!("--volume {text:?}: {why}"));
    let mut parts = text.splitn(3, ':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err(wrong(
            "anonymous volumes are not supported yet: give SOURCE:TARGET",
        ));
    };
    if !source.starts_with(['/', '.', '~']) {
        return Err(wrong(
            "named volumes are not supported yet: give a path, such as ./name",
        ));
    }
    if !Path::new(target).is_absolute() {
        return Err(wrong("the target must be an absolute path"));
    }
    let host_path = std::fs::canonicalize(source).map_err(|e| wrong(&format!("{source}: {e}")))?;
    let mut mount = Mount {
        container_path: target.into(),
        host_path,
        ..Mount::default()
    };
    for option in parts
        .next()
        .unwrap_or_default()
        .split(',')
        .filter(|option| !option.is_empty())
    {
        match option {
            "ro" => mount.readonly = true,
            "rw" | "rprivate" | "private" | "rbind" | "bind" | "exec" | "suid" | "dev" => {}
            "z" | "Z" => mount.selinux_relabel = true,
            "rslave" | "slave" => mount.propagation = Propagation::HostToContainer,
            "rshared" | "shared" => mount.propagation = Propagation::Bidirectional,
            other => return Err(wrong(&format!("option {other:?} is not supported"))),
        }
    }
    Ok(mount)
}

/// [[IP:]HOSTPORT:]PORT[/PROTOCOL]
fn port(text: &str) -> Result<PortMapping, Failure> {
    let wrong = |why: &str| Failure::new(format!("--publish {text:?}: {why}"));
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|n| *n != 0)
            .ok_or_else(|| wrong("not a port"))
    };
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
    let ip = host_ip.trim_matches(['[', ']']);
    Ok(PortMapping {
        protocol,
        container_port: number(container)?,
        host_port: if host.is_empty() {
            free_port(protocol)?
        } else {
            number(host)?
        },
        host_ip: match ip {
            "" => None,
            ip => Some(
                ip.parse::<IpAddr>()
                    .map_err(|_| wrong("not an IP address"))?,
            ),
        },
    })
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

/// `512m`, `1g`, `1048576`.
fn bytes(text: &str) -> Result<i64, Failure> {
    base::size::parse(text)
        .filter(|number| *number > 0)
        .ok_or_else(|| Failure::new(format!("{text:?} is not a size such as 512m")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_with_and_without_address_and_protocol() {
        let full = port("127.0.0.1:8080:80/udp").unwrap();
        assert_eq!(
            (full.host_port, full.container_port, full.protocol),
            (8080, 80, Protocol::Udp)
        );
        assert_eq!(full.host_ip, Some("127.0.0.1".parse().unwrap()));
        let six = port("[::1]:8080:80").unwrap();
        assert_eq!(six.host_ip, Some("::1".parse().unwrap()));
        assert_ne!(port("80").unwrap().host_port, 0);
        for bad in ["", "0", "x", "1:2:3:4:5", "80/icmp", "70000"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_need_a_path_and_a_known_option() {
        let mount = volume("/tmp:/data:ro,rslave").unwrap();
        assert!(mount.readonly);
        assert_eq!(mount.propagation, Propagation::HostToContainer);
        for bad in ["/tmp", "name:/data", "/tmp:data", "/tmp:/data:fly"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let absent = format!("{}:/data", dir.path().join("absent").display());
        assert!(volume(&absent).is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("64m").unwrap(), 64 << 20);
        assert_eq!(bytes("1gb").unwrap(), 1 << 30);
        assert_eq!(bytes("10").unwrap(), 10);
        for bad in ["", "m", "-1", "1x", "99999999999g"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
