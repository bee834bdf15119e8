//! `floe pod create`: what a pod's containers share is said here. Nothing of it runs before its first container.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgAction;
use engine::container::Resources;
use engine::pod::{NamespaceMode, PodSize};
use engine::{Engine, PodSpec};

use crate::cmd::run::env::{lines, pairs};
use crate::cmd::run::limits::Change;
use crate::cmd::run::options::Network;
use crate::cmd::run::request::is_taken;
use crate::failure::Failure;
use crate::names;
use crate::refused::{self, List, NotOffered, Takes};

/// Options of `floe pod create`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Name [default: two words at random]
    #[arg(long, short)]
    name: Option<String>,
    /// Remove a pod that has the name
    #[arg(long)]
    replace: bool,
    /// KEY=VALUE
    #[arg(long, short, value_name = "LABEL")]
    label: Vec<String>,
    /// File with a label in each line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Write the pod's id to this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Option<PathBuf>,
    /// NAME=VALUE
    #[arg(long, value_name = "SYSCTL")]
    sysctl: Vec<String>,
    /// What its containers share: ipc, net, uts, and also pid
    #[arg(
        long,
        value_name = "NAMESPACES",
        value_delimiter = ',',
        default_value = "ipc,net,uts"
    )]
    share: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// The cgroup below which the pod's is made
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// Accepted for podman's sake: there is no infra container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    infra: Option<bool>,
    /// The same
    #[arg(long, value_name = "IMAGE")]
    infra_image: Option<String>,
    /// The same
    #[arg(long, value_name = "COMMAND")]
    infra_command: Option<String>,
    /// The same
    #[arg(long, value_name = "NAME")]
    infra_name: Option<String>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    limits: Change,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
    /// The same as --name
    #[arg(conflicts_with = "name", value_name = "NAME")]
    last_name: Option<String>,
}

const OF_CONTAINERS: &str = "say it of each container";

/// What podman's pod create has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        ("device", Takes::Value, OF_CONTAINERS),
        ("security-opt", Takes::Value, OF_CONTAINERS),
        ("volume", Takes::Value, OF_CONTAINERS),
        ("volumes-from", Takes::Value, OF_CONTAINERS),
        ("restart", Takes::Value, OF_CONTAINERS),
        (
            "userns",
            Takes::Value,
            "pods of people have the node's users",
        ),
        (
            "uidmap",
            Takes::Value,
            "pods of people have the node's users",
        ),
        (
            "gidmap",
            Takes::Value,
            "pods of people have the node's users",
        ),
        (
            "exit-policy",
            Takes::Value,
            "a pod goes on without its containers until it is stopped",
        ),
    ];
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let name = args.name.clone().or_else(|| args.last_name.clone());
    let name = name.map_or_else(names::invent, Ok)?;
    names::check(&name)?;
    if is_taken(engine, &name)? {
        if !args.replace {
            let words = format!("name {name:?} is in use: pod already exists");
            return Err(Failure::new(words));
        }
        let old = names::find_pod(engine, &name)?;
        super::remove(engine, &old, true, None)?;
    }
    let id = engine.define_pod(args.spec(&name)?)?;
    engine.keep_pod_definition(&id)?;
    if let Some(path) = &args.pod_id_file {
        let written =
            std::fs::File::create(path).and_then(|mut file| file.write_all(id.as_bytes()));
        written.map_err(|error| Failure::new(format!("write {}: {error}", path.display())))?;
    }
    println!("{id}");
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn spec(&self, name: &str) -> Result<PodSpec, Failure> {
        let mut pod = self.network.pod(name)?;
        pod.by_itself = true;
        for file in &self.label_file {
            pod.labels
                .extend(pairs("--label-file", &lines(file)?, true)?);
        }
        pod.labels.extend(pairs("--label", &self.label, true)?);
        pod.sysctls = pairs("--sysctl", &self.sysctl, false)?
            .into_iter()
            .collect();
        pod.cgroup_parent.clone_from(&self.cgroup_parent);
        let shm = self.shm_size.as_deref().map(crate::cmd::run::limits::bytes);
        pod.shm_size = shm.transpose()?.and_then(|size| u64::try_from(size).ok());
        let limits = self.limits.resources()?;
        if limits != Resources::default() {
            pod.size = PodSize {
                resources: Some(limits),
                overhead: None,
            };
        }
        pod.namespaces.pid = NamespaceMode::Container;
        for shared in self.share.iter().filter(|shared| !shared.is_empty()) {
            match shared.as_str() {
                "pid" => pod.namespaces.pid = NamespaceMode::Pod,
                "ipc" | "net" | "uts" | "cgroup" => {}
                other => {
                    let words = format!(
                        "invalid kernel namespace to share: {other}. Options are: cgroup, ipc, net, pid, uts or none"
                    );
                    return Err(Failure::new(words));
                }
            }
        }
        for always in ["ipc", "net", "uts"] {
            if !self.share.iter().any(|shared| shared == always) {
                let words =
                    format!("--share without {always} is not offered: a pod's containers share it");
                return Err(Failure::new(words));
            }
        }
        Ok(pod)
    }
}
