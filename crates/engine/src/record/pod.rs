//! `pod.json`: a pod as it was asked for, and how far it has come.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::container::Resources;
use super::{At, Form, Record, Text, UnknownFields, VERSION};
use crate::config::BUILT_IN;
use crate::error::Result;
use crate::networks;
use crate::node::cgroups;
use crate::pod::record::{PodRecord, Stage as Live};
use crate::pod::{
    DnsConfig, IdMapping, NamespaceMode, NamespaceModes, Origin as Maker, PodSize, PodSpec, Step,
    UserIds, UserMode,
};

/// Revision 1: `version` and `revision`. 2: `handler`. 3: `overhead` and `resources`. 4: `users`. 5: `cgroup_prefix`.
/// 6: `steps`. 7: the stage `Defined`, `host_aliases`, `shm_size`.
/// 8: `by_itself`. 9: `networks`.
const REVISION: u32 = 9;
/// The version of a pod that the built-in runtime does not run: who knows no handlers would take it for one
/// that it does, and ask its supervisor for what another program is to do.
const OF_HANDLER: u32 = 2;
/// The version of a pod with a user namespace of its own: who does not know of it would make containers that
/// are the node's root.
const OF_USERS: u32 = 3;
/// The version of a pod on networks of people's own: who knows none would put it on the one of the configuration,
/// which may lead to what those keep it from.
const OF_NETWORKS: u32 = 4;

/// The whole record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pod<'a> {
    #[serde(default = "super::first")]
    version: u32,
    #[serde(default)]
    revision: u32,
    id: Text<'a>,
    created_at: i64,
    stage: Stage<'a>,
    cgroup: Text<'a>,
    owns_cgroup: bool,
    #[serde(default = "first_prefix")]
    cgroup_prefix: Text<'a>,
    #[serde(default)]
    maker: Option<(i32, u64)>,
    #[serde(default)]
    handler: Text<'a>,
    spec: Spec<'a>,
    #[serde(default)]
    steps: Cow<'a, [Step]>,
}

/// How far a pod has come. A newer floe's may have other words for it.
#[derive(Debug, Serialize)]
enum Stage<'a> {
    Creating,
    Made(Made<'a>),
    Stopped,
    Failed,
    Defined,
    /// Never written.
    #[serde(skip)]
    Other,
}

#[derive(Debug, Serialize, Deserialize)]
struct Made<'a> {
    ips: Cow<'a, [IpAddr]>,
}

/// What was asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Spec<'a> {
    name: Text<'a>,
    uid: Text<'a>,
    namespace: Text<'a>,
    attempt: u32,
    origin: Origin,
    hostname: Text<'a>,
    log_directory: Option<At<'a>>,
    dns: Option<Dns<'a>>,
    port_mappings: Vec<Port>,
    labels: Cow<'a, BTreeMap<String, String>>,
    annotations: Cow<'a, BTreeMap<String, String>>,
    cgroup_parent: Option<Text<'a>>,
    namespaces: Namespaces<'a>,
    sysctls: Cow<'a, BTreeMap<String, String>>,
    privileged: bool,
    runtime_handler: Text<'a>,
    network_none: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overhead: Option<Resources<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resources: Option<Resources<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    host_aliases: Vec<(IpAddr, Text<'a>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shm_size: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_itself: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    networks: Vec<Joining<'a>>,
}

/// A place on a network of people's.
#[derive(Debug, Serialize, Deserialize)]
struct Joining<'a> {
    network: Text<'a>,
    interface: Text<'a>,
    ips: Cow<'a, [IpAddr]>,
    mac: Option<network::Mac>,
    aliases: Cow<'a, [String]>,
}

/// Who made a pod.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Origin {
    Cri,
    Cli,
}

/// The lines of its resolv.conf.
#[derive(Debug, Serialize, Deserialize)]
struct Dns<'a> {
    servers: Cow<'a, [String]>,
    searches: Cow<'a, [String]>,
    options: Cow<'a, [String]>,
}

/// A port of the node that leads to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default, rename = "hostIP", skip_serializing_if = "Option::is_none")]
    host_ip: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// Whose namespaces a pod or container has.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Namespaces<'a> {
    network: Namespace,
    pid: Namespace,
    ipc: Namespace,
    target_id: Text<'a>,
    user_pod: bool,
    #[serde(default)]
    users: Option<Users<'a>>,
}

/// Whose users.
#[derive(Debug, Serialize, Deserialize)]
enum Users<'a> {
    Node,
    Pod(Ids<'a>),
}

/// Of a user namespace, or of a mount.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ids<'a> {
    uids: Cow<'a, [IdMapping]>,
    gids: Cow<'a, [IdMapping]>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Namespace {
    Pod,
    Container,
    Node,
    Target,
}

/// What was the name of members before a record said it.
fn first_prefix() -> Text<'static> {
    cgroups::DEFAULT_PREFIX.into()
}

/// Reads the record of the pod in `dir`; `None` if there is none.
pub(crate) fn read(dir: &Path) -> Result<Option<PodRecord>> {
    let read = super::read::<Pod<'_>>(&path(dir))?;
    Ok(read.map(|(record, kept)| record.into_live(kept)))
}

/// Writes it.
pub(crate) fn write(dir: &Path, record: &PodRecord) -> Result<()> {
    super::write(&path(dir), &Pod::of(record), &record.kept)
}

/// The record's place.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("pod.json")
}

impl Record for Pod<'_> {
    const NEWEST: u32 = OF_NETWORKS;

    fn form(&self) -> Form {
        Form {
            version: self.version,
            revision: self.revision,
        }
    }
}

impl<'a> Pod<'a> {
    fn of(live: &'a PodRecord) -> Self {
        Self {
            version: match (live.spec.namespaces.users.ids(), live.handler.as_str()) {
                _ if !live.spec.networks.is_empty() => OF_NETWORKS,
                (Some(_), _) => OF_USERS,
                (None, "" | BUILT_IN) => VERSION,
                (None, _) => OF_HANDLER,
            },
            revision: REVISION,
            id: (&live.id).into(),
            created_at: live.created_at,
            stage: match &live.stage {
                Live::Creating => Stage::Creating,
                Live::Made { ips } => Stage::Made(Made { ips: ips.into() }),
                Live::Stopped => Stage::Stopped,
                Live::Failed => Stage::Failed,
                Live::Defined => Stage::Defined,
                Live::Other | Live::Damaged => Stage::Other,
            },
            cgroup: (&live.cgroup).into(),
            owns_cgroup: live.owns_cgroup,
            cgroup_prefix: (&live.cgroup_prefix).into(),
            maker: live.maker,
            handler: (&live.handler).into(),
            spec: Spec::of(&live.spec),
            steps: Cow::Borrowed(&live.steps),
        }
    }

    fn into_live(self, kept: UnknownFields) -> PodRecord {
        PodRecord {
            id: self.id.into_owned(),
            created_at: self.created_at,
            stage: match self.stage {
                Stage::Creating => Live::Creating,
                Stage::Made(Made { ips }) => Live::Made {
                    ips: ips.into_owned(),
                },
                Stage::Stopped => Live::Stopped,
                Stage::Failed => Live::Failed,
                Stage::Defined => Live::Defined,
                Stage::Other => Live::Other,
            },
            cgroup: self.cgroup.into_owned(),
            owns_cgroup: self.owns_cgroup,
            cgroup_prefix: self.cgroup_prefix.into_owned(),
            maker: self.maker,
            handler: self.handler.into_owned(),
            spec: self.spec.into_live(),
            steps: self.steps.into_owned(),
            kept,
        }
    }
}

impl<'a> Spec<'a> {
    fn of(live: &'a PodSpec) -> Self {
        Self {
            name: (&live.name).into(),
            uid: (&live.uid).into(),
            namespace: (&live.namespace).into(),
            attempt: live.attempt,
            origin: match live.origin {
                Maker::Cri => Origin::Cri,
                Maker::Cli => Origin::Cli,
            },
            hostname: (&live.hostname).into(),
            log_directory: live.log_directory.as_deref().map(Cow::from),
            dns: live.dns.as_ref().map(Dns::of),
            port_mappings: live.port_mappings.iter().map(Port::of).collect(),
            labels: Cow::Borrowed(&live.labels),
            annotations: Cow::Borrowed(&live.annotations),
            cgroup_parent: live.cgroup_parent.as_deref().map(Cow::from),
            namespaces: Namespaces::of(&live.namespaces),
            sysctls: Cow::Borrowed(&live.sysctls),
            privileged: live.privileged,
            runtime_handler: (&live.runtime_handler).into(),
            network_none: live.network_none,
            overhead: live.size.overhead.as_ref().map(Resources::of),
            resources: live.size.resources.as_ref().map(Resources::of),
            host_aliases: live
                .host_aliases
                .iter()
                .map(|(ip, name)| (*ip, name.into()))
                .collect(),
            shm_size: live.shm_size,
            by_itself: live.by_itself,
            networks: live.networks.iter().map(Joining::of).collect(),
        }
    }

    fn into_live(self) -> PodSpec {
        PodSpec {
            name: self.name.into_owned(),
            uid: self.uid.into_owned(),
            namespace: self.namespace.into_owned(),
            attempt: self.attempt,
            origin: match self.origin {
                Origin::Cri => Maker::Cri,
                Origin::Cli => Maker::Cli,
            },
            hostname: self.hostname.into_owned(),
            log_directory: self.log_directory.map(Cow::into_owned),
            dns: self.dns.map(Dns::into_live),
            port_mappings: self.port_mappings.iter().map(Port::to_live).collect(),
            labels: self.labels.into_owned(),
            annotations: self.annotations.into_owned(),
            cgroup_parent: self.cgroup_parent.map(Cow::into_owned),
            namespaces: self.namespaces.into_live(),
            sysctls: self.sysctls.into_owned(),
            privileged: self.privileged,
            runtime_handler: self.runtime_handler.into_owned(),
            network_none: self.network_none,
            size: PodSize {
                overhead: self.overhead.map(Resources::into_live),
                resources: self.resources.map(Resources::into_live),
            },
            host_aliases: self
                .host_aliases
                .into_iter()
                .map(|(ip, name)| (ip, name.into_owned()))
                .collect(),
            shm_size: self.shm_size,
            by_itself: self.by_itself,
            networks: self.networks.into_iter().map(Joining::into_live).collect(),
        }
    }
}

impl<'a> Joining<'a> {
    fn of(live: &'a networks::Joining) -> Self {
        Self {
            network: (&live.network).into(),
            interface: (&live.interface).into(),
            ips: Cow::Borrowed(&live.ips),
            mac: live.mac,
            aliases: Cow::Borrowed(&live.aliases),
        }
    }

    fn into_live(self) -> networks::Joining {
        networks::Joining {
            network: self.network.into_owned(),
            interface: self.interface.into_owned(),
            ips: self.ips.into_owned(),
            mac: self.mac,
            aliases: self.aliases.into_owned(),
        }
    }
}

impl<'a> Dns<'a> {
    fn of(live: &'a DnsConfig) -> Self {
        Self {
            servers: (&live.servers).into(),
            searches: (&live.searches).into(),
            options: (&live.options).into(),
        }
    }

    fn into_live(self) -> DnsConfig {
        DnsConfig {
            servers: self.servers.into_owned(),
            searches: self.searches.into_owned(),
            options: self.options.into_owned(),
        }
    }
}

impl Port {
    fn of(live: &network::PortMapping) -> Self {
        Self {
            host_port: live.host_port,
            container_port: live.container_port,
            protocol: match live.protocol {
                network::Protocol::Tcp => Protocol::Tcp,
                network::Protocol::Udp => Protocol::Udp,
                network::Protocol::Sctp => Protocol::Sctp,
            },
            host_ip: live.host_ip,
        }
    }

    fn to_live(&self) -> network::PortMapping {
        network::PortMapping {
            host_port: self.host_port,
            container_port: self.container_port,
            protocol: match self.protocol {
                Protocol::Tcp => network::Protocol::Tcp,
                Protocol::Udp => network::Protocol::Udp,
                Protocol::Sctp => network::Protocol::Sctp,
            },
            host_ip: self.host_ip,
        }
    }
}

impl<'a> Namespaces<'a> {
    pub(super) fn of(live: &'a NamespaceModes) -> Self {
        Self {
            network: Namespace::of(live.network),
            pid: Namespace::of(live.pid),
            ipc: Namespace::of(live.ipc),
            target_id: (&live.target_id).into(),
            user_pod: live.users.ids().is_some(),
            users: match &live.users {
                UserMode::Unsaid => None,
                UserMode::Node => Some(Users::Node),
                UserMode::Pod(ids) => Some(Users::Pod(Ids::of(ids))),
            },
        }
    }

    pub(super) fn into_live(self) -> NamespaceModes {
        NamespaceModes {
            network: self.network.to_live(),
            pid: self.pid.to_live(),
            ipc: self.ipc.to_live(),
            target_id: self.target_id.into_owned(),
            users: match self.users {
                // It was never written by who could not say which.
                None if self.user_pod => UserMode::Pod(UserIds::default()),
                None => UserMode::Unsaid,
                Some(Users::Node) => UserMode::Node,
                Some(Users::Pod(ids)) => UserMode::Pod(ids.into_live()),
            },
        }
    }
}

impl<'a> Ids<'a> {
    pub(super) fn of(live: &'a UserIds) -> Self {
        Self {
            uids: (&live.uids).into(),
            gids: (&live.gids).into(),
        }
    }

    pub(super) fn into_live(self) -> UserIds {
        UserIds {
            uids: self.uids.into_owned(),
            gids: self.gids.into_owned(),
        }
    }
}

impl Namespace {
    fn of(live: NamespaceMode) -> Self {
        match live {
            NamespaceMode::Pod => Self::Pod,
            NamespaceMode::Container => Self::Container,
            NamespaceMode::Node => Self::Node,
            NamespaceMode::Target => Self::Target,
        }
    }

    fn to_live(self) -> NamespaceMode {
        match self {
            Self::Pod => NamespaceMode::Pod,
            Self::Container => NamespaceMode::Container,
            Self::Node => NamespaceMode::Node,
            Self::Target => NamespaceMode::Target,
        }
    }
}

impl<'de> Deserialize<'de> for Stage<'_> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StageVisitor)
    }
}

/// Takes any word for a stage, where serde's own code knows only those that are listed.
struct StageVisitor;

impl<'de> Visitor<'de> for StageVisitor {
    type Value = Stage<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stage's name, alone or with what is known in it")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        match name {
            "Creating" => Ok(Stage::Creating),
            "Stopped" => Ok(Stage::Stopped),
            "Failed" => Ok(Stage::Failed),
            "Defined" => Ok(Stage::Defined),
            "Made" => Err(E::custom("the stage \"Made\" without addresses")),
            _ => Ok(Stage::Other),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let name = map
            .next_key::<String>()?
            .ok_or_else(|| A::Error::custom("a stage without a name"))?;
        let stage = match name.as_str() {
            "Made" => Stage::Made(map.next_value()?),
            _ => {
                map.next_value::<IgnoredAny>()?;
                Stage::Other
            }
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(stage),
            Some(_) => Err(A::Error::custom("more than one stage")),
        }
    }
}
