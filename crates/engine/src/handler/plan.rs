//! What a handler is asked to make, and how it finds that again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use ::supervisor::{Netns, OnExit};
use runtime::spec::Spec;

use super::Sandbox;
use crate::pod::PodSpec;

/// A pod, as every verb names it.
#[derive(Debug, Clone, Copy)]
pub struct PodRef<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its directory, private to root and on tmpfs: gone at a reboot, like its processes.
    pub dir: &'a Path,
    /// Its cgroup below each hierarchy's root: what runs the pod on this node shall be below that.
    pub cgroup: &'a str,
    /// What the names of the cgroups in it begin with.
    pub prefix: &'a str,
}

/// A container, as every verb names it.
#[derive(Debug, Clone, Copy)]
pub struct ContainerRef<'a> {
    /// Its pod.
    pub pod: PodRef<'a>,
    /// Its id.
    pub id: &'a str,
    /// Its directory in the pod's, an OCI bundle but for the root file system.
    pub dir: &'a Path,
    /// The cgroup in which its processes on this node shall be.
    pub cgroup: &'a str,
}

/// A pod to be made.
#[derive(Debug)]
pub struct PodPlan<'a> {
    /// Which.
    pub pod: PodRef<'a>,
    /// What was asked for.
    pub spec: &'a PodSpec,
    /// Its host name; `None`: the node's.
    pub hostname: Option<String>,
    /// Kernel parameters of its own namespaces, the configuration's defaults included.
    pub sysctls: BTreeMap<String, String>,
    /// Size of its /dev/shm in bytes.
    pub shm_size: u64,
    /// The processors of what stands for the pod on this node, a list of ranges; empty: all.
    pub cpuset: &'a str,
    /// The network namespace that it shall have, for a handler that [`takes`](super::Handler::takes_netns) one:
    /// its network is connected meanwhile.
    pub netns: Option<&'a Netns>,
    /// Something may be due at the end of its containers ([`ContainerPlan::on_exit`]).
    pub keeps_home: bool,
}

/// How names are answered in a pod.
#[derive(Debug, Clone, Copy)]
pub struct NamesPlan<'a> {
    /// The network's directory of state, where names are told.
    pub state: &'a Path,
    /// Servers for all other names; none: those of the node, as they are at the time.
    pub servers: &'a [std::net::IpAddr],
}

/// A container to be made.
#[derive(Debug)]
pub struct ContainerPlan<'a> {
    /// Which. Its directory holds `config.json`.
    pub container: ContainerRef<'a>,
    /// Its pod's sandbox as it is now.
    pub sandbox: &'a Sandbox,
    /// The same configuration, to be read.
    pub spec: &'a Spec,
    /// Its root file system, a value that the handler opens in one of the forms of
    /// [`super::Abilities::roots`].
    pub root: &'a store::RootFilesystem,
    /// Where its output is logged; `None`: nowhere.
    pub log: Option<Log>,
    /// A terminal as its stdin, stdout and stderr.
    pub terminal: bool,
    /// Keep its stdin open for those who attach.
    pub stdin: bool,
    /// Close its stdin when the first who attached to it leaves.
    pub stdin_once: bool,
    /// What is due at its end, for a handler that sees it.
    pub on_exit: Option<OnExit>,
    /// It is killed when it has run for so long.
    pub run_limit: Option<std::time::Duration>,
    /// How its health is checked: see [`super::Ability::HealthChecks`].
    pub check: Option<::supervisor::HealthCheck>,
}

/// A container's log file, in CRI's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The file; its directory exists.
    pub path: PathBuf,
    /// The directory above it below which no symbolic link is followed.
    pub beneath: PathBuf,
    /// Begin anew before it would grow past so many bytes.
    pub max_size: Option<u64>,
    /// Write no more than so many bytes until it is opened anew: what comes then is counted.
    pub limit: Option<u64>,
    /// Nor while less than so many bytes of its disk are free.
    pub reserve: Option<u64>,
}
