//! The options of `floe run` that describe the container, and what they mean to the engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use engine::container::{Extras, ImageVolume};
use engine::pod::{DnsConfig, NamespaceMode, Origin, PortMapping};
use engine::{ContainerSpec, PodSpec};

use super::env::{Environment, lines, pairs};
use super::identity::Identity;
use super::limits::Limits;
use super::mounts::Mounts;
use super::ports;
use super::refused::{self, NotInRun};
use crate::failure::Failure;
use crate::refused::NotOffered;

/// The annotation that keeps for how long a stop waits.
pub(crate) const STOP_TIMEOUT: &str = "io.floe.stop-timeout";

/// What the container is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    environment: Environment,
    #[command(flatten)]
    mounts: Mounts,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    without_effect: WithoutEffect,
    #[command(flatten)]
    _refused: NotOffered<NotInRun>,
}

/// The container's network and names.
#[derive(Debug, clap::Args)]
struct Network {
    /// [[IP:]HOSTPORT:]PORT[/PROTOCOL], also ranges of ports
    #[arg(long, short, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish all ports that the image or --expose names, at ports of the node that nobody uses
    #[arg(long, short = 'P', num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, hide_default_value = true, value_name = "BOOL")]
    publish_all: bool,
    /// A port that the program listens on, for --publish-all: PORT[-LAST][/PROTOCOL]
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// bridge, none or host
    #[arg(long, alias = "net", default_value = "bridge", value_parser = ["bridge", "none", "host"])]
    network: String,
    /// Name of the host inside
    #[arg(long, short = 'h', value_name = "NAME")]
    hostname: Option<String>,
    /// Name server, or none to keep the image's /etc/resolv.conf
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Option of the resolver
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Domain in which names are looked for; . for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// NAME[;NAME]:IP, a line of /etc/hosts
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Keep the image's /etc/hosts
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, hide_default_value = true, value_name = "BOOL")]
    no_hosts: bool,
    /// Keep the image's /etc/hostname
    #[arg(long)]
    no_hostname: bool,
}

/// The process, and what is told of it.
#[derive(Debug, clap::Args)]
struct Process {
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Replaces the image's entrypoint: a program, or a list of words in JSON
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// KEY=VALUE
    #[arg(long, short, value_name = "LABEL")]
    label: Vec<String>,
    /// File with a label in each line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// KEY=VALUE
    #[arg(long, value_name = "ANNOTATION")]
    annotation: Vec<String>,
    /// NAME=VALUE
    #[arg(long, value_name = "SYSCTL")]
    sysctl: Vec<String>,
    /// Time zone, or local for this machine's
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// Signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds that floe stop waits before it kills
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    stop_timeout: u64,
    /// The cgroup below which the container's is made
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// k8s-file, json-file (the same) or none
    #[arg(long, default_value = "k8s-file", value_parser = ["k8s-file", "json-file", "none"])]
    log_driver: String,
}

/// Options whose only values that are offered are what happens anyway.
#[derive(Debug, clap::Args)]
struct WithoutEffect {
    /// no
    #[arg(long, value_name = "POLICY", value_parser = refused::restart)]
    restart: Option<()>,
    /// enabled or no-conmon
    #[arg(long, value_name = "MODE", value_parser = refused::cgroups)]
    cgroups: Option<()>,
    /// ignore
    #[arg(long, value_name = "MODE", value_parser = refused::image_volume)]
    image_volume: Option<()>,
    /// default
    #[arg(long, value_name = "POLICY", value_parser = refused::seccomp_policy)]
    seccomp_policy: Option<()>,
    /// true or false: nothing is done for a systemd inside
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = refused::systemd)]
    systemd: Option<()>,
    /// Run no health check: there are none
    #[arg(long)]
    no_healthcheck: bool,
}

impl Options {
    /// The words of `--entrypoint`.
    pub(crate) fn entrypoint_words(&self) -> Vec<String> {
        let Some(text) = self.process.entrypoint.as_deref() else {
            return Vec::new();
        };
        let listed = serde_json::from_str::<Vec<String>>(text);
        let words = listed.unwrap_or_else(|_| vec![text.to_owned()]);
        words.into_iter().filter(|word| !word.is_empty()).collect()
    }

    /// Who the container is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The pod and the container that these options describe.
    pub(crate) fn specs(
        &self,
        name: &str,
        image: &str,
    ) -> Result<(PodSpec, ContainerSpec), Failure> {
        let network = match self.network.network.as_str() {
            "host" => NamespaceMode::Node,
            _ => NamespaceMode::Pod,
        };
        let (of_pod, own) = self.identity.namespaces(network);
        let mut ports = Vec::new();
        for text in &self.network.publish {
            ports.extend(ports::parse(text)?);
        }
        let pod = PodSpec {
            name: name.to_owned(),
            namespace: "floe".into(),
            origin: Origin::Cli,
            hostname: self.network.hostname.clone().unwrap_or_default(),
            dns: self.network.dns()?,
            port_mappings: ports,
            namespaces: of_pod,
            sysctls: pairs("--sysctl", &self.process.sysctl, false)?
                .into_iter()
                .collect(),
            privileged: self.identity.privileged,
            network_none: self.network.network == "none",
            cgroup_parent: self.process.cgroup_parent.clone(),
            host_aliases: self.network.aliases()?,
            shm_size: self.limits.shm_size()?,
            ..PodSpec::default()
        };
        let wanted = self.mounts.wanted()?;
        let mut security = self.identity.security(own)?;
        security.readonly_rootfs = self.mounts.read_only;
        let (devices, cdi_devices) = self.identity.devices()?;
        let mut extras = Extras {
            filesystems: wanted.filesystems,
            unset_env: self.environment.unset(),
            hidden_files: self.network.hidden(),
            time_zone: self.process.tz.clone(),
            ..Extras::default()
        };
        self.limits.add_to(&mut extras)?;
        self.identity.add_to(&mut extras);
        let container = ContainerSpec {
            name: name.to_owned(),
            user_specified_image: image.to_owned(),
            working_dir: self.process.workdir.clone().unwrap_or_default(),
            env: self.environment.variables()?,
            mounts: wanted.mounts,
            devices,
            cdi_devices,
            labels: self.process.labels()?,
            annotations: self.process.annotations()?,
            log_path: (self.process.log_driver != "none").then(|| PathBuf::from("ctr.log")),
            resources: self.limits.resources()?,
            security,
            stop_signal: self.process.stop_signal()?,
            extras: Some(Box::new(extras)),
            ..ContainerSpec::default()
        };
        Ok((pod, container))
    }
}

impl Options {
    /// Whether the ports that an image names are wanted.
    pub(super) fn publishes_all(&self) -> bool {
        self.network.publish_all
    }

    /// Leads ports of the node to those that the image names, and `--expose`, and that have none yet.
    pub(super) fn publish(
        &self,
        pod: &mut PodSpec,
        named: impl IntoIterator<Item = String>,
    ) -> Result<(), Failure> {
        for text in named.into_iter().chain(self.network.expose.clone()) {
            for mapping in ports::parse(&text)? {
                let is_same = |other: &PortMapping| {
                    other.container_port == mapping.container_port
                        && other.protocol == mapping.protocol
                };
                if !pod.port_mappings.iter().any(is_same) {
                    pod.port_mappings.push(mapping);
                }
            }
        }
        Ok(())
    }
}

/// The images that mounts show.
pub(super) fn volume_images(spec: &mut ContainerSpec) -> impl Iterator<Item = &mut ImageVolume> {
    spec.mounts
        .iter_mut()
        .filter_map(|mount| mount.image.as_mut())
}

impl Network {
    fn dns(&self) -> Result<Option<DnsConfig>, Failure> {
        if self.dns.is_empty() && self.dns_option.is_empty() && self.dns_search.is_empty() {
            return Ok(None);
        }
        let is_none = |servers: &[String]| servers.iter().any(|server| server == "none");
        if is_none(&self.dns) {
            let alone = self.dns.len() == 1 && self.dns_option.is_empty();
            return match alone && self.dns_search.is_empty() {
                true => Ok(None),
                false => Err(Failure::new(
                    "--dns none stands alone: nothing is written into /etc/resolv.conf",
                )),
            };
        }
        for server in &self.dns {
            let address = server.parse::<IpAddr>();
            address.map_err(|_| Failure::new(format!("--dns {server:?} is not an IP address")))?;
        }
        let mut config = of_this_machine();
        if !self.dns.is_empty() {
            config.servers.clone_from(&self.dns);
        }
        if !self.dns_option.is_empty() {
            config.options.clone_from(&self.dns_option);
        }
        match self.dns_search.as_slice() {
            [] => {}
            [root] if root == "." => config.searches.clear(),
            domains => config.searches = domains.to_vec(),
        }
        Ok(Some(config))
    }

    /// The lines of `--add-host`.
    fn aliases(&self) -> Result<Vec<(IpAddr, String)>, Failure> {
        if self.no_hosts && !self.add_host.is_empty() {
            return Err(Failure::new(
                "--no-hosts and --add-host cannot be set together",
            ));
        }
        let mut all = Vec::new();
        for text in &self.add_host {
            let wrong = |why: &str| Failure::new(format!("--add-host {text:?}: {why}"));
            let (names, ip) = text.split_once(':').ok_or_else(|| wrong("write NAME:IP"))?;
            if ip == "host-gateway" {
                return Err(wrong("host-gateway is not offered: write the address"));
            }
            let ip = ip.trim_matches(['[', ']']).parse();
            let ip: IpAddr = ip.map_err(|_| wrong("not an IP address"))?;
            for name in names.split(';') {
                let is_good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                if name.is_empty() || !name.chars().all(is_good) {
                    return Err(wrong("not the name of a host"));
                }
                all.push((ip, name.to_owned()));
            }
        }
        Ok(all)
    }

    /// Where the image's own files stay.
    fn hidden(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        if self.no_hosts {
            all.push("/etc/hosts".into());
        }
        if self.no_hostname {
            all.push("/etc/hostname".into());
        }
        if self.dns.iter().any(|server| server == "none") {
            all.push("/etc/resolv.conf".into());
        }
        all
    }
}

/// What this machine's resolv.conf says, which holds where nothing else is said.
fn of_this_machine() -> DnsConfig {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => config.servers.extend(words.next()),
            Some("search") => config.searches = words.collect(),
            Some("options") => config.options = words.collect(),
            _ => {}
        }
    }
    config
}

impl Process {
    fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut all = Vec::new();
        for file in &self.label_file {
            all.extend(pairs("--label-file", &lines(file)?, true)?);
        }
        all.extend(pairs("--label", &self.label, true)?);
        Ok(all.into_iter().collect())
    }

    fn annotations(&self) -> Result<BTreeMap<String, String>, Failure> {
        let given = pairs("--annotation", &self.annotation, false)?;
        let stop = (STOP_TIMEOUT.to_owned(), self.stop_timeout.to_string());
        Ok(given.into_iter().chain([stop]).collect())
    }

    fn stop_signal(&self) -> Result<Option<i32>, Failure> {
        let parse = |text: &String| {
            base::signal::parse(text)
                .ok_or_else(|| Failure::new(format!("--stop-signal {text:?} is not a signal")))
        };
        self.stop_signal.as_ref().map(parse).transpose()
    }
}
