//! The options of `floe run` that describe the container, and what they mean to the engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use engine::container::{Extras, HealthCheck, ImageVolume, RestartPolicy};
use engine::pod::{DnsConfig, NamespaceModes, Origin, PortMapping};
use engine::{ContainerSpec, Engine, PodSpec};
use serde_json::Value;

use super::env::{Environment, lines, pairs};
use super::health::HealthOptions;
use super::identity::Identity;
use super::limits::Limits;
use super::mounts::Mounts;
use super::networks::{Mode, Networks};
use super::notify::{self, When};
use super::ports;
use super::refused::{self, NotInRun};
use super::secrets;
use crate::containers_conf::Containers;
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
    health: HealthOptions,
    #[command(flatten)]
    without_effect: WithoutEffect,
    #[command(flatten)]
    _refused: NotOffered<NotInRun>,
}

/// The container's network and names, or a pod's.
#[derive(Debug, clap::Args)]
pub(crate) struct Network {
    /// [[IP:]HOSTPORT:]PORT[/PROTOCOL], also ranges of ports
    #[arg(long, short, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish all ports that the image or --expose names, at ports of the node that nobody uses
    #[arg(long, short = 'P', num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, hide_default_value = true, value_name = "BOOL")]
    publish_all: bool,
    /// A port that the program listens on, for --publish-all: PORT[-LAST][/PROTOCOL]
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    #[command(flatten)]
    networks: Networks,
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
    /// NAME[,type=mount|env][,target=PLACE][,uid=UID][,gid=GID][,mode=MODE]: a secret, as a file below /run/secrets or as a variable
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
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
    /// When systemd is told of it ($NOTIFY_SOCKET): ignore, conmon (as soon as it runs), healthy
    #[arg(long, value_name = "WHEN", value_parser = notify::parse)]
    sdnotify: Option<When>,
    /// The cgroup below which the container's is made
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// k8s-file, json-file (the same) or none
    #[arg(long, default_value = "k8s-file", value_parser = ["k8s-file", "json-file", "none"])]
    log_driver: String,
    /// When it runs again after its end: no, always, unless-stopped, on-failure[:TIMES]
    #[arg(long, value_name = "POLICY", default_value = "no", hide_default_value = true, value_parser = restart_policy)]
    restart: RestartPolicy,
    /// Seconds after which it is killed; 0 for no limit
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true
    )]
    timeout: u64,
}

/// Options whose only values that are offered are what happens anyway.
#[derive(Debug, clap::Args)]
struct WithoutEffect {
    /// enabled or no-conmon
    #[arg(long, value_name = "MODE", value_parser = refused::cgroups)]
    cgroups: Option<()>,
    /// default
    #[arg(long, value_name = "POLICY", value_parser = refused::seccomp_policy)]
    seccomp_policy: Option<()>,
    /// true or false: nothing is done for a systemd inside
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = refused::systemd)]
    systemd: Option<()>,
}

impl Options {
    /// Takes from containers.conf what was not said; of the network nothing where a pod has one already.
    pub(super) fn take_defaults(&mut self, given: &Containers, joins: bool) -> Result<(), Failure> {
        self.environment.take_defaults(given);
        self.mounts.take_defaults(given);
        self.limits.take_defaults(given);
        self.identity.take_defaults(given)?;
        let process = &mut self.process;
        if process.tz.is_none() {
            process.tz.clone_from(&given.tz);
        }
        without_key(&mut process.annotation, &given.annotations);
        // The network of the node has what the node has.
        let on_node = self.network.networks.mode()? == Mode::Host;
        let sysctls = given.default_sysctls.iter();
        let sysctls = sysctls.filter(|text| !on_node || !text.starts_with("net."));
        without_key(&mut process.sysctl, &sysctls.cloned().collect::<Vec<_>>());
        self.network.no_hosts |= given.no_hosts == Some(true);
        if !joins {
            self.network.take_defaults(given);
        }
        Ok(())
    }

    /// Adds the variables of containers.conf that neither the image nor the command line has.
    pub(super) fn add_variables(&self, container: &mut ContainerSpec, of_image: &[String]) {
        for (name, value) in self.environment.defaults() {
            let begin = format!("{name}=");
            let is_known = of_image.iter().any(|entry| entry.starts_with(&begin))
                || container.env.iter().any(|(known, _)| known == name);
            if !is_known {
                container.env.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// The words of `--entrypoint`.
    pub(crate) fn entrypoint_words(&self) -> Vec<String> {
        let Some(text) = self.process.entrypoint.as_deref() else {
            return Vec::new();
        };
        let listed = serde_json::from_str::<Vec<String>>(text);
        let words = listed.unwrap_or_else(|_| vec![text.to_owned()]);
        words.into_iter().filter(|word| !word.is_empty()).collect()
    }

    /// How the container's health is checked, of these options and what its image declares.
    pub(super) fn health(&self, of_image: Option<&Value>) -> Result<Option<HealthCheck>, Failure> {
        self.health.check(of_image, self.process.stop_timeout)
    }

    /// What a pod has that was made for itself is not a container's to say.
    pub(super) fn must_leave_the_network(&self) -> Result<(), Failure> {
        match self.network.is_given() {
            true => Err(Failure::new(
                "network cannot be configured when it is shared with a pod: say it when the pod is created",
            )),
            false => Ok(()),
        }
    }

    /// Adds the mounts of other containers, and what the image declares.
    pub(super) fn mounts_besides<'a>(
        &self,
        engine: &Engine,
        container: &mut ContainerSpec,
        declared: impl Iterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        self.mounts.take_over(engine, container)?;
        self.mounts.declare(container, declared);
        let given = self.process.secret.iter();
        let secrets = given.map(|text| secrets::parse(engine, text));
        let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
        container.extras.get_or_insert_default().secrets = secrets;
        Ok(())
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
        let mode = self.network.networks.mode()?;
        let (of_pod, own) = self.identity.namespaces(mode.namespace());
        let pod = PodSpec {
            namespaces: of_pod,
            sysctls: pairs("--sysctl", &self.process.sysctl, false)?
                .into_iter()
                .collect(),
            privileged: self.identity.privileged,
            cgroup_parent: self.process.cgroup_parent.clone(),
            shm_size: self.limits.shm_size()?,
            ..self.network.pod(name)?
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
            restart: self.process.restart,
            run_limit: Some(self.process.timeout).filter(|seconds| *seconds > 0),
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

/// Adds `KEY=VALUE`s whose keys are not there.
fn without_key(there: &mut Vec<String>, more: &[String]) {
    let key = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
    for text in more {
        if !there.iter().any(|other| key(other) == key(text)) {
            there.push(text.clone());
        }
    }
}

/// A policy in podman's words.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    match text {
        "no" | "never" | "" => Ok(RestartPolicy::No),
        "always" => Ok(RestartPolicy::Always),
        "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
        "on-failure" => Ok(RestartPolicy::OnFailure { most: None }),
        other => match other.strip_prefix("on-failure:").map(str::parse) {
            Some(Ok(most)) => Ok(RestartPolicy::OnFailure { most: Some(most) }),
            _ => Err("write no, always, unless-stopped or on-failure[:TIMES]".to_owned()),
        },
    }
}

/// The images that mounts show.
pub(super) fn volume_images(spec: &mut ContainerSpec) -> impl Iterator<Item = &mut ImageVolume> {
    spec.mounts
        .iter_mut()
        .filter_map(|mount| mount.image.as_mut())
}

impl Network {
    /// A pod with this network.
    pub(crate) fn pod(&self, name: &str) -> Result<PodSpec, Failure> {
        let mode = self.networks.mode()?;
        let mut ports = Vec::new();
        for text in &self.publish {
            ports.extend(ports::parse(text)?);
        }
        Ok(PodSpec {
            name: name.to_owned(),
            namespace: "floe".into(),
            origin: Origin::Cli,
            hostname: self.hostname.clone().unwrap_or_default(),
            dns: self.dns()?,
            port_mappings: ports,
            namespaces: NamespaceModes {
                network: mode.namespace(),
                ..NamespaceModes::default()
            },
            network_none: mode == Mode::None,
            networks: match mode {
                Mode::Bridge(joined) => joined,
                Mode::Host | Mode::None => Vec::new(),
            },
            host_aliases: self.aliases()?,
            ..PodSpec::default()
        })
    }

    /// Takes from containers.conf what was not said.
    fn take_defaults(&mut self, given: &Containers) {
        let is_none = self.dns.iter().any(|server| server == "none");
        let lists = [
            (&mut self.dns, &given.dns_servers),
            (&mut self.dns_option, &given.dns_options),
            (&mut self.dns_search, &given.dns_searches),
        ];
        for (list, usual) in lists {
            if list.is_empty() && !is_none {
                *list = usual.to_vec();
            }
        }
    }

    /// Is anything of it asked for that is a pod's to say?
    fn is_given(&self) -> bool {
        !self.publish.is_empty()
            || self.publish_all
            || self.networks.is_given()
            || self.hostname.is_some()
            || !self.dns.is_empty()
            || !self.dns_option.is_empty()
            || !self.dns_search.is_empty()
            || !self.add_host.is_empty()
    }

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
        aliases(&self.add_host)
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

/// `NAME[;NAME]:IP` as lines of /etc/hosts.
pub(crate) fn aliases(texts: &[String]) -> Result<Vec<(IpAddr, String)>, Failure> {
    let mut all = Vec::new();
    for text in texts {
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
        let notify = self.sdnotify.and_then(When::annotation);
        Ok(given.into_iter().chain([stop]).chain(notify).collect())
    }

    fn stop_signal(&self) -> Result<Option<i32>, Failure> {
        let parse = |text: &String| {
            base::signal::parse(text)
                .ok_or_else(|| Failure::new(format!("--stop-signal {text:?} is not a signal")))
        };
        self.stop_signal.as_ref().map(parse).transpose()
    }
}
