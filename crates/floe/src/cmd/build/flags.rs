//! The options of `floe build`, and what they mean to the builder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use build::{Context, Format, Layers, Network, Secret};
use engine::container::Resources;
use store::Times;

use super::context;
use crate::cmd::run::options::aliases;
use crate::cmd::run::{env, identity, limits, mounts};
use crate::failure::Failure;

/// When an image may be fetched.
pub(crate) const WHEN: [&str; 9] = [
    "always",
    "missing",
    "newer",
    "never",
    "true",
    "false",
    "ifmissing",
    "notpresent",
    "ifnewer",
];

/// What commands of a build may do besides what the node gives every container: as buildah has it.
const CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The most bytes of a secret, as BuildKit has it.
const SECRET: u64 = 500 << 10;

/// What is built, and of what.
#[derive(Debug, clap::Args)]
pub(super) struct Inputs {
    /// Containerfile; several are one after the other; - for standard input [default: Containerfile or
    /// Dockerfile of the context]
    #[arg(long, short, value_name = "FILE")]
    pub(super) file: Vec<String>,
    /// NAME=VALUE of an ARG, or NAME for this process's variable
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// File with such lines
    #[arg(long, value_name = "FILE")]
    build_arg_file: Vec<PathBuf>,
    /// NAME=DIRECTORY or NAME=docker-image://IMAGE: a further context
    #[arg(long, value_name = "NAME=PLACE")]
    build_context: Vec<String>,
    /// The stage to build, by name or number
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Image instead of that of the first FROM
    #[arg(long = "from", value_name = "IMAGE")]
    pub(super) base: Option<String>,
    /// File with patterns of what is not seen of the context
    #[arg(long, value_name = "FILE")]
    pub(super) ignorefile: Option<PathBuf>,
}

impl Inputs {
    pub(super) fn arguments(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut all = BTreeMap::new();
        let given = env::given(&self.build_arg_file, &self.build_arg)?;
        for entry in given {
            if let Some((name, value)) = entry.split_once('=') {
                all.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(all)
    }

    pub(super) fn contexts(&self) -> Result<BTreeMap<String, Context>, Failure> {
        let mut all = BTreeMap::new();
        for text in &self.build_context {
            let wrong = |why: &str| Failure::new(format!("--build-context {text:?}: {why}"));
            let (name, place) = text
                .split_once('=')
                .filter(|(name, place)| !name.is_empty() && !place.is_empty())
                .ok_or_else(|| wrong("write NAME=DIRECTORY or NAME=docker-image://IMAGE"))?;
            let image = ["docker-image://", "container-image://", "docker://"];
            let image = image.iter().find_map(|scheme| place.strip_prefix(scheme));
            let context = match image {
                Some(image) => Context::Image(image.to_owned()),
                None if place.contains("://") => {
                    return Err(wrong(
                        "URLs and git repositories are not offered as contexts",
                    ));
                }
                None => Context::Directory(context::directory(place)?),
            };
            all.insert(name.to_owned(), context);
        }
        Ok(all)
    }
}

/// Which steps are done again, and what they are told in secret.
#[derive(Debug, clap::Args)]
pub(super) struct Steps {
    /// Do every step again
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Find only steps again that were done within this time; 0 for none
    #[arg(long, value_name = "DURATION", value_parser = crate::clock::duration)]
    pub(super) cache_ttl: Option<Duration>,
    /// id=NAME,src=FILE or id=NAME,env=VARIABLE: what steps may ask for
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
}

impl Steps {
    pub(super) fn secrets(&self) -> Result<BTreeMap<String, Secret>, Failure> {
        self.secret.iter().map(|text| secret(text)).collect()
    }
}

fn secret(text: &str) -> Result<(String, Secret), Failure> {
    // What it says may be a secret itself: only its name is repeated.
    let wrong = |why: &str| Failure::new(format!("--secret: {why}"));
    let (mut id, mut kind, mut source) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("type", "file")) => kind = Some(false),
            Some(("type", "env")) => kind = Some(true),
            Some(("src" | "source", value)) => source = Some(value.to_owned()),
            Some(("env", value)) => {
                kind = Some(true);
                source = Some(value.to_owned());
            }
            _ => return Err(wrong("write id=NAME,src=FILE or id=NAME,env=VARIABLE")),
        }
    }
    let id = id.or_else(|| source.clone()).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| wrong("it has no id"))?;
    let source = source.unwrap_or_else(|| id.clone());
    let of_variable =
        kind.unwrap_or_else(|| !Path::new(&source).exists() && std::env::var_os(&source).is_some());
    let content = match of_variable {
        true => std::env::var_os(&source)
            .ok_or_else(|| wrong(&format!("{id}: there is no variable {source}")))?
            .into_encoded_bytes(),
        false => {
            let read = |file: File| {
                let mut bytes = Vec::new();
                file.take(SECRET + 1).read_to_end(&mut bytes).map(|_| bytes)
            };
            let bytes = File::open(&source).and_then(read);
            bytes.map_err(|e| wrong(&format!("{id}: {source}: {e}")))?
        }
    };
    match content.len() as u64 > SECRET {
        true => Err(wrong(&format!("{id}: it has more than {SECRET} bytes"))),
        false => Ok((id, Secret(content))),
    }
}

/// The image that is made.
#[derive(Debug, clap::Args)]
pub(super) struct Image {
    /// Name of the image
    #[arg(long, short, value_name = "NAME")]
    pub(super) tag: Vec<String>,
    /// oci or docker
    #[arg(long, value_name = "FORMAT", env = "BUILDAH_FORMAT", default_value = "oci", value_parser = ["oci", "docker"])]
    format: String,
    /// One layer for each step, found again by later builds; false: one for each stage
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_default_value = true, env = "BUILDAH_LAYERS")]
    layers: bool,
    /// One layer for all new ones
    #[arg(long)]
    squash: bool,
    /// One layer, with what is in the base
    #[arg(long)]
    squash_all: bool,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,
    /// KEY=VALUE, a label of the image
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// KEY=VALUE, an annotation of the manifest
    #[arg(long, value_name = "ANNOTATION")]
    annotation: Vec<String>,
    /// NAME=VALUE, a variable of the image
    #[arg(long, value_name = "VARIABLE")]
    env: Vec<String>,
    /// A variable that the image is not to have
    #[arg(long, value_name = "NAME")]
    pub(super) unsetenv: Vec<String>,
    #[command(flatten)]
    pub(super) stamps: Stamps,
    /// Make an image without its history
    #[arg(long)]
    pub(super) omit_history: bool,
}

impl Image {
    pub(super) fn layers(&self) -> Result<Layers, Failure> {
        match (self.squash, self.squash_all) {
            (true, true) => Err(Failure::new("--squash and --squash-all exclude each other")),
            (_, true) => Ok(Layers::One),
            (true, _) => Ok(Layers::Stages),
            _ if self.layers => Ok(Layers::Steps),
            _ => Ok(Layers::Stages),
        }
    }

    pub(super) fn format(&self) -> Format {
        match self.format.as_str() {
            "docker" => Format::Docker,
            _ => Format::Oci,
        }
    }

    pub(super) fn labels(&self) -> Result<Vec<(String, String)>, Failure> {
        env::pairs("--label", &self.label, true)
    }

    pub(super) fn environment(&self) -> Result<Vec<(String, String)>, Failure> {
        let given = env::given(&[], &self.env)?;
        env::pairs("--env", &given, false)
    }

    pub(super) fn annotations(&self) -> Result<BTreeMap<String, String>, Failure> {
        Ok(env::pairs("--annotation", &self.annotation, false)?
            .into_iter()
            .collect())
    }
}

/// When an image and its files are made.
#[derive(Debug, clap::Args)]
pub(crate) struct Stamps {
    /// Seconds since 1970: when the image and all its new files are made
    #[arg(long, value_name = "SECONDS", conflicts_with = "source_date_epoch")]
    timestamp: Option<i64>,
    /// Seconds since 1970: when the image is made
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    source_date_epoch: Option<i64>,
    /// No new file is newer than --source-date-epoch
    #[arg(long)]
    rewrite_timestamp: bool,
}

impl Stamps {
    pub(crate) fn created(&self) -> Result<Option<i64>, Failure> {
        let seconds = self.timestamp.or(self.source_date_epoch);
        match seconds.filter(|seconds| crate::clock::written(*seconds).is_none()) {
            Some(seconds) => Err(Failure::new(format!("{seconds} is no time of an image"))),
            None => Ok(seconds),
        }
    }

    pub(crate) fn times(&self) -> Result<Times, Failure> {
        match (
            self.timestamp,
            self.source_date_epoch,
            self.rewrite_timestamp,
        ) {
            (Some(time), _, _) => Ok(Times::All(time)),
            (None, Some(time), true) => Ok(Times::Until(time)),
            (None, None, true) => Err(Failure::new(
                "--rewrite-timestamp needs --source-date-epoch",
            )),
            (None, _, false) => Ok(Times::Kept),
        }
    }
}

/// What commands are run with.
#[derive(Debug, clap::Args)]
pub(crate) struct Commands {
    /// Network of commands: bridge (or private, default), host, none
    #[arg(long, alias = "net", value_name = "NETWORK", default_value = "bridge", value_parser = ["bridge", "private", "default", "host", "none"])]
    network: String,
    /// NAME:IP, a line of /etc/hosts
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined, seccomp=FILE, apparmor=PROFILE
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// NAME=SOFT[:HARD], as with nofile=1024:2048
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// SOURCE:TARGET[:OPTIONS], a directory of this machine
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Greatest memory, with k, m or g
    #[arg(long, short, value_name = "SIZE")]
    memory: Option<String>,
    /// Greatest sum of memory and swap; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Microseconds that a period of CPU time has
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Microseconds of CPU time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Weight among others that want CPU time
    #[arg(long, short = 'c', value_name = "NUMBER")]
    cpu_shares: Option<i64>,
    /// CPUs to run on, such as 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// NUMA nodes to take memory of
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The cgroup below which those of commands are made
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// Whether commands get the proxies of this process [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_default_value = true)]
    http_proxy: bool,
}

impl Commands {
    pub(crate) fn of_build(&self) -> Result<build::Commands, Failure> {
        let added: Vec<String> = CAPABILITIES
            .iter()
            .map(|name| (*name).to_owned())
            .filter(|name| !self.drops(name))
            .chain(self.cap_add.clone())
            .collect();
        let mut security = identity::confined(&added, &self.cap_drop, &self.security_opt)?;
        security.image_groups = true;
        let proxies = env::PROXY.iter().filter(|_| self.http_proxy);
        let proxies =
            proxies.filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        let volumes = self.volume.iter().map(|text| mounts::volume(text));
        let shm_size = self.shm_size.as_deref().map(limits::bytes).transpose()?;
        Ok(build::Commands {
            network: match self.network.as_str() {
                "host" => Network::Host,
                "none" => Network::None,
                _ => Network::Bridge,
            },
            security,
            resources: self.resources()?,
            rlimits: limits::rlimits(&self.ulimit)?,
            shm_size: shm_size.and_then(|size| u64::try_from(size).ok()),
            hosts: aliases(&self.add_host)?,
            mounts: volumes.collect::<Result<_, _>>()?,
            cgroup_parent: self.cgroup_parent.clone(),
            environment: proxies.collect(),
        })
    }

    /// The same as they would be said again.
    pub(crate) fn words(&self) -> Vec<String> {
        let several = [
            ("add-host", &self.add_host),
            ("cap-add", &self.cap_add),
            ("cap-drop", &self.cap_drop),
            ("security-opt", &self.security_opt),
            ("ulimit", &self.ulimit),
            ("volume", &self.volume),
        ];
        let several = several
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value.clone())));
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        let single = [
            ("network", Some(self.network.clone())),
            ("shm-size", self.shm_size.clone()),
            ("memory", self.memory.clone()),
            ("memory-swap", self.memory_swap.clone()),
            ("cpu-period", number(self.cpu_period)),
            ("cpu-quota", number(self.cpu_quota)),
            ("cpu-shares", number(self.cpu_shares)),
            ("cpuset-cpus", self.cpuset_cpus.clone()),
            ("cpuset-mems", self.cpuset_mems.clone()),
            ("cgroup-parent", self.cgroup_parent.clone()),
            ("http-proxy", Some(self.http_proxy.to_string())),
        ];
        let single = single
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        several
            .chain(single)
            .map(|(name, value)| format!("--{name}={value}"))
            .collect()
    }

    fn drops(&self, name: &str) -> bool {
        let is_it = |dropped: &String| {
            let dropped = dropped.to_ascii_uppercase();
            dropped == "ALL" || dropped.trim_start_matches("CAP_") == name
        };
        self.cap_drop.iter().any(is_it)
    }

    fn resources(&self) -> Result<Resources, Failure> {
        let size = |text: &Option<String>| text.as_deref().map(limits::bytes).transpose();
        let swap = match self.memory_swap.as_deref() {
            Some("-1") => Some(-1),
            _ => size(&self.memory_swap)?,
        };
        Ok(Resources {
            cpu_period: self.cpu_period.unwrap_or(0),
            cpu_quota: self.cpu_quota.unwrap_or(0),
            cpu_shares: self.cpu_shares.unwrap_or(0),
            memory_limit: size(&self.memory)?.unwrap_or(0),
            memory_swap_limit: swap.unwrap_or(0),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            ..Resources::default()
        })
    }
}

/// Options whose values are what happens anyway, or change nothing that can be seen.
#[derive(Debug, clap::Args)]
pub(super) struct WithoutEffect {
    /// Accepted for podman's sake: nothing of a build outlives it
    #[arg(long)]
    force_rm: bool,
    /// The same
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<bool>,
    /// Accepted for docker's sake
    #[arg(long)]
    compress: bool,
    /// Accepted for podman's sake: layers are compressed
    #[arg(long, short = 'D')]
    disable_compression: bool,
    /// Accepted for podman's sake: stages are built one after the other
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<u32>,
    /// Accepted for podman's sake: commands have containers of floe's own
    #[arg(long, value_name = "KIND", env = "BUILDAH_ISOLATION", value_parser = ["oci", "rootless", "chroot", "default"])]
    isolation: Option<String>,
    /// Accepted for podman's sake: no label says what built an image
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    identity_label: Option<bool>,
    /// true
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = ["true"])]
    skip_unused_stages: Option<String>,
}
