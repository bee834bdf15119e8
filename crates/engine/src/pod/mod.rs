//! A pod: the namespaces, network and supervisor that its containers share (CRI: PodSandbox).
//! This file holds the nouns; one file per verb stands beside it. How a pod is written
//! to `pod.json` is in `record/pod.rs` alone.

mod again;
mod asked;
pub(crate) mod files;
pub(crate) mod join;
pub(crate) mod link_logs;
mod names;
pub(crate) mod network;
mod port;
mod query;
pub(crate) mod record;
mod run;
mod size;
pub(crate) mod stop;
mod users;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::Resources;
use crate::networks::Joining;

/// What a caller asks for: everything that is known before the pod exists.
#[derive(Debug, Clone, Default)]
pub struct PodSpec {
    /// Name, unique together with namespace, uid and attempt.
    pub name: String,
    /// Kubernetes uid.
    pub uid: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// How often kubelet has made this pod before.
    pub attempt: u32,
    /// Who made the pod; CRI lists only its own.
    pub origin: Origin,
    /// Hostname inside; empty: the first 12 characters of the pod id (the node's name with the node's network).
    pub hostname: String,
    /// Where the logs of its containers go; relative `log_path`s of containers need it.
    pub log_directory: Option<PathBuf>,
    /// Contents of resolv.conf; `None` copies the node's.
    pub dns: Option<DnsConfig>,
    /// Ports of the node that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Labels, kept byte for byte.
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept byte for byte.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup under which the pod's cgroups are made; `None`: the engine's default parent.
    pub cgroup_parent: Option<String>,
    /// Which namespaces are the pod's own and which the node's.
    pub namespaces: NamespaceModes,
    /// Namespaced sysctls to set in the pod.
    pub sysctls: BTreeMap<String, String>,
    /// May its containers be privileged?
    pub privileged: bool,
    /// The runtime handler; empty means the default.
    pub runtime_handler: String,
    /// True when no network at all is wanted (`floe run --network none`).
    pub network_none: bool,
    /// The networks of people's that it is on, in their order; empty: the configuration's.
    pub networks: Vec<Joining>,
    /// What the pod as a whole may use. A cgroup that its maker has named is its maker's to limit, and this is
    /// kept and shown; floe's own cgroup of the pod gets these limits.
    pub size: PodSize,
    /// Further lines of /etc/hosts: of a person's pod, whose file floe writes.
    pub host_aliases: Vec<(std::net::IpAddr, String)>,
    /// A person has made it for itself: it stays without containers, and containers come and go in it.
    pub by_itself: bool,
    /// Size of /dev/shm in bytes, in place of the configuration's.
    pub shm_size: Option<u64>,
}

/// The limits of a pod as a whole (CRI LinuxPodSandboxConfig, `overhead` and `resources`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSize {
    /// What the pod costs beyond its containers.
    pub overhead: Option<Resources>,
    /// The sum of its containers.
    pub resources: Option<Resources>,
}

/// Who made a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// kubelet, crictl or another CRI client.
    #[default]
    Cri,
    /// A person at a terminal.
    Cli,
}

/// resolv.conf as CRI's DNSConfig gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// A port of the node that leads to the pod.
pub use ::network::{PortMapping, Protocol};
pub(crate) use users::check_user;
pub use users::{IdMapping, UserIds, UserMode};

/// One namespace's owner (CRI NamespaceMode).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamespaceMode {
    /// Shared by the pod's containers.
    #[default]
    Pod,
    /// The container's own.
    Container,
    /// The node's.
    Node,
    /// Another container's (`target_id`).
    Target,
}

/// The namespace options of a pod or container (CRI NamespaceOption).
#[derive(Debug, Clone, Default)]
pub struct NamespaceModes {
    /// Network: `Pod` or `Node`.
    pub network: NamespaceMode,
    /// Processes: any.
    pub pid: NamespaceMode,
    /// System V IPC and /dev/shm: `Pod` or `Node`.
    pub ipc: NamespaceMode,
    /// The container whose process namespace is shared when `pid` is `Target`.
    pub target_id: String,
    /// Users.
    pub users: UserMode,
}

/// Ready, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// The supervisor lives and the network stands.
    Ready,
    /// Stopped, or the supervisor is gone.
    NotReady,
}

/// A step of a pod's way to be ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was done then: `asked`, `directory`, `sandbox` (the supervisor or the shim is up), `network`, `ready`.
    pub what: Cow<'static, str>,
    /// When: nanoseconds since 1970.
    pub at: i64,
}

impl Step {
    /// It is done now.
    pub(crate) fn now(what: &'static str) -> Self {
        Self {
            what: Cow::Borrowed(what),
            at: crate::disk::now_ns(),
        }
    }
}

/// A pod as it is now.
#[derive(Debug, Clone)]
pub struct Pod {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What was asked for.
    pub spec: PodSpec,
    /// Ready or not.
    pub state: PodState,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// How it came to be ready, in the order of time; empty if a former floe made it.
    pub steps: Vec<Step>,
    /// The pod's addresses, the primary one first; empty with the node's network.
    pub ips: Vec<std::net::IpAddr>,
    /// The supervisor's process id while it lives.
    pub supervisor_pid: Option<i32>,
    /// The path of the pod's network namespace while the supervisor lives; `None` with the node's network.
    pub netns: Option<PathBuf>,
    /// The cgroup of the pod under each hierarchy's root.
    pub cgroup_parent: String,
    /// Its record cannot be read: nothing but the id is known of it, and it can only be removed.
    pub damaged: bool,
}

/// Which pods to list. Conditions are ANDed; `None` and empty mean any.
#[derive(Debug, Clone, Default)]
pub struct PodFilter {
    /// An id or its unambiguous beginning.
    pub id: Option<String>,
    /// The state.
    pub state: Option<PodState>,
    /// Labels that must all be there with these values.
    pub labels: BTreeMap<String, String>,
    /// Only pods of this origin.
    pub origin: Option<Origin>,
}
