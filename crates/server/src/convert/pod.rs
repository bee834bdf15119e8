//! Pods: PodSandboxConfig to the engine's PodSpec; a pod to what lists and statuses show.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use engine::container::Resources;
use engine::pod::{DnsConfig, NamespaceModes, Origin, PodSize, PortMapping, Protocol};
use engine::{Error, Pod, PodFilter, PodSpec, PodState};
use serde_json::{Value, json};

use super::security::{GROUPS, id, limits as limits_of, namespace_option, namespaces, profile};
use super::{check, given, invalid, known, not_empty, required};

/// What RunPodSandbox asks for.
pub(crate) fn spec(request: cri::RunPodSandboxRequest) -> Result<PodSpec, Error> {
    let config = required("config", request.config)?;
    let metadata = required("config.metadata", config.metadata)?;
    check::no_windows("config.windows", config.windows.is_some())?;
    let linux = config.linux.unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    validate_identity(&security)?;
    for (field, part) in [
        ("config.metadata.name", &metadata.name),
        ("config.metadata.uid", &metadata.uid),
        ("config.metadata.namespace", &metadata.namespace),
    ] {
        check::name(field, part)?;
    }
    check::hostname("config.hostname", &config.hostname)?;
    check::absolute("config.log_directory", &config.log_directory)?;
    check::notes("config.labels", &config.labels)?;
    check::notes("config.annotations", &config.annotations)?;
    check::below_root("config.linux.cgroup_parent", &linux.cgroup_parent)?;
    check::sysctls("config.linux.sysctls", &linux.sysctls)?;
    Ok(PodSpec {
        name: not_empty("config.metadata.name", metadata.name)?,
        uid: not_empty("config.metadata.uid", metadata.uid)?,
        namespace: not_empty("config.metadata.namespace", metadata.namespace)?,
        attempt: metadata.attempt,
        origin: Origin::Cri,
        hostname: config.hostname,
        log_directory: given(config.log_directory).map(PathBuf::from),
        dns: dns(config.dns_config)?,
        port_mappings: port_mappings(config.port_mappings)?,
        labels: config.labels,
        annotations: config.annotations,
        cgroup_parent: given(linux.cgroup_parent),
        namespaces: namespaces(security.namespace_options)?,
        sysctls: linux.sysctls,
        privileged: security.privileged,
        runtime_handler: request.runtime_handler,
        network_none: false,
        size: size("config.linux", linux.overhead, linux.resources)?,
        ..PodSpec::default()
    })
}

/// The limits of the pod as a whole.
pub(crate) fn size(
    of: &str,
    overhead: Option<cri::LinuxContainerResources>,
    resources: Option<cri::LinuxContainerResources>,
) -> Result<PodSize, Error> {
    let part = |name: &str, limits: Option<cri::LinuxContainerResources>| {
        let limits = limits.map(super::resources).transpose();
        limits.map_err(|error| match error {
            Error::Invalid { field, reason } => {
                let field = field.strip_prefix("resources").unwrap_or(&field);
                let of = if of.is_empty() {
                    String::new()
                } else {
                    format!("{of}.")
                };
                invalid(format!("{of}{name}{field}"), reason)
            }
            other => other,
        })
    };
    Ok(PodSize {
        overhead: part("overhead", overhead)?,
        resources: part("resources", resources)?,
    })
}

/// The pod runs nothing of its own under this identity, but nonsense is nonsense.
fn validate_identity(security: &cri::LinuxSandboxSecurityContext) -> Result<(), Error> {
    let groups = &security.supplemental_groups;
    check::at_most("security_context.supplemental_groups", groups, GROUPS)?;
    for group in groups {
        id("security_context.supplemental_groups", *group)?;
    }
    let _: cri::SupplementalGroupsPolicy = known(
        "security_context.supplemental_groups_policy",
        security.supplemental_groups_policy,
    )?;
    #[expect(deprecated, reason = "older clients still send it")]
    let deprecated = security.seccomp_profile_path.as_str();
    profile(
        "security_context.seccomp",
        security.seccomp.clone(),
        ("security_context.seccomp_profile_path", deprecated),
    )?;
    let apparmor = security.apparmor.clone();
    profile("security_context.apparmor", apparmor, ("", ""))?;
    if security.run_as_group.is_some() && security.run_as_user.is_none() {
        return Err(invalid(
            "security_context.run_as_group",
            "needs run_as_user",
        ));
    }
    for (field, value) in [
        ("security_context.run_as_user", security.run_as_user),
        ("security_context.run_as_group", security.run_as_group),
    ] {
        if let Some(value) = value {
            id(field, value.value)?;
        }
    }
    Ok(())
}

/// Entries of one kind in resolv.conf, and bytes of one: more than any resolver reads.
const DNS_ENTRIES: usize = 64;
const DNS_ENTRY: usize = 1024;
/// Ports of one pod.
const PORTS: usize = 4096;

/// resolv.conf; `None` is the node's, and so is a message that says nothing. A line break would
/// let one setting write another.
fn dns(config: Option<cri::DnsConfig>) -> Result<Option<DnsConfig>, Error> {
    let Some(config) = config.filter(|config| *config != cri::DnsConfig::default()) else {
        return Ok(None);
    };
    let parts = [
        ("servers", &config.servers),
        ("searches", &config.searches),
        ("options", &config.options),
    ];
    for (field, values) in parts {
        check::at_most(&format!("dns_config.{field}"), values, DNS_ENTRIES)?;
        for value in values {
            check::text(&format!("dns_config.{field}"), value, DNS_ENTRY)?;
        }
        if let Some(bad) = values
            .iter()
            .find(|value| value.contains(['\n', '\r', '\0']))
        {
            return Err(invalid(
                format!("dns_config.{field}"),
                format!("{bad:?} has a line break"),
            ));
        }
    }
    Ok(Some(DnsConfig {
        servers: config.servers,
        searches: config.searches,
        options: config.options,
    }))
}

/// Ports that are mapped; those without a port of the node are only declared.
fn port_mappings(mappings: Vec<cri::PortMapping>) -> Result<Vec<PortMapping>, Error> {
    check::at_most("port_mappings", &mappings, PORTS)?;
    let mapped = mappings
        .into_iter()
        .enumerate()
        .filter(|(_, mapping)| mapping.host_port != 0);
    mapped
        .map(|(index, mapping)| port_mapping(index, &mapping))
        .collect()
}

fn port_mapping(index: usize, mapping: &cri::PortMapping) -> Result<PortMapping, Error> {
    let field = |name: &str| format!("port_mappings[{index}].{name}");
    let port = |name: &str, number: i32| match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(invalid(field(name), format!("{number} is not a port"))),
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse::<IpAddr>()
                .map_err(|_| invalid(field("host_ip"), format!("{text:?} is not an IP address")))?,
        ),
    };
    Ok(PortMapping {
        host_port: port("host_port", mapping.host_port)?,
        container_port: port("container_port", mapping.container_port)?,
        protocol: match known(&field("protocol"), mapping.protocol)? {
            cri::Protocol::Tcp => Protocol::Tcp,
            cri::Protocol::Udp => Protocol::Udp,
            cri::Protocol::Sctp => Protocol::Sctp,
        },
        host_ip,
    })
}

/// Which pods to list: only CRI's own.
pub(crate) fn filter(filter: Option<cri::PodSandboxFilter>) -> Result<PodFilter, Error> {
    let filter = filter.unwrap_or_default();
    Ok(PodFilter {
        id: given(filter.id),
        state: filter.state.map(asked_state).transpose()?,
        labels: filter.label_selector,
        origin: Some(Origin::Cri),
    })
}

fn asked_state(value: cri::PodSandboxStateValue) -> Result<PodState, Error> {
    Ok(match known("filter.state.state", value.state)? {
        cri::PodSandboxState::SandboxReady => PodState::Ready,
        cri::PodSandboxState::SandboxNotready => PodState::NotReady,
    })
}

/// How the log names a pod of which only the request is there; empty if it has no name.
pub(crate) fn asked_name(request: &cri::RunPodSandboxRequest) -> String {
    let metadata = request
        .config
        .as_ref()
        .and_then(|config| config.metadata.as_ref());
    metadata.map_or_else(String::new, |metadata| {
        format!("{}/{}", metadata.namespace, metadata.name)
    })
}

/// How the log names a pod that is asked for.
pub(crate) fn label(spec: &PodSpec) -> String {
    format!("{}/{}", spec.namespace, spec.name)
}

/// A pod in a list.
pub(crate) fn item(pod: &Pod) -> cri::PodSandbox {
    cri::PodSandbox {
        id: pod.id.clone(),
        metadata: Some(metadata(&pod.spec)),
        state: state(pod.state).into(),
        created_at: pod.created_at,
        labels: pod.spec.labels.clone(),
        annotations: pod.spec.annotations.clone(),
        runtime_handler: pod.spec.runtime_handler.clone(),
    }
}

/// A pod in full.
pub(crate) fn status(pod: Pod) -> cri::PodSandboxStatus {
    let metadata = metadata(&pod.spec);
    cri::PodSandboxStatus {
        id: pod.id,
        metadata: Some(metadata),
        state: state(pod.state).into(),
        created_at: pod.created_at,
        network: Some(network(&pod.ips)),
        linux: Some(linux(pod.spec.namespaces)),
        labels: pod.spec.labels,
        annotations: pod.spec.annotations,
        runtime_handler: pod.spec.runtime_handler,
    }
}

/// What `crictl inspectp` shows below the status: JSON under the key `info`, with the fields that
/// tools of other runtimes read.
pub(crate) fn info(pod: &Pod, timeline: &Value) -> BTreeMap<String, String> {
    let netns = pod
        .netns
        .as_ref()
        .map(|path| json!({ "type": "network", "path": path }));
    let info = json!({
        "sandboxID": pod.id,
        "pid": pod.supervisor_pid.unwrap_or_default(),
        "image": "",
        "runtimeHandler": pod.spec.runtime_handler,
        "privileged": pod.spec.privileged,
        "timeline": timeline,
        "runtimeSpec": {
            "hostname": pod.spec.hostname,
            "annotations": pod.spec.annotations,
            "linux": {
                "cgroupsPath": pod.cgroup_parent,
                "namespaces": netns.into_iter().collect::<Vec<_>>(),
                "sysctl": pod.spec.sysctls,
                "resources": pod.spec.size.resources.as_ref().map(shown_limits),
                "overhead": pod.spec.size.overhead.as_ref().map(shown_limits),
            },
        },
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

/// Limits in CRI's words.
fn shown_limits(limits: &Resources) -> Value {
    let shown = limits_of(limits.clone());
    let hugepages = shown.hugepage_limits.into_iter();
    json!({
        "cpu_period": shown.cpu_period,
        "cpu_quota": shown.cpu_quota,
        "cpu_shares": shown.cpu_shares,
        "memory_limit_in_bytes": shown.memory_limit_in_bytes,
        "memory_swap_limit_in_bytes": shown.memory_swap_limit_in_bytes,
        "cpuset_cpus": shown.cpuset_cpus,
        "cpuset_mems": shown.cpuset_mems,
        "hugepage_limits": hugepages
            .map(|one| json!({ "page_size": one.page_size, "limit": one.limit }))
            .collect::<Vec<Value>>(),
        "unified": shown.unified,
    })
}

pub(crate) fn metadata(spec: &PodSpec) -> cri::PodSandboxMetadata {
    cri::PodSandboxMetadata {
        name: spec.name.clone(),
        uid: spec.uid.clone(),
        namespace: spec.namespace.clone(),
        attempt: spec.attempt,
    }
}

fn state(state: PodState) -> cri::PodSandboxState {
    match state {
        PodState::Ready => cri::PodSandboxState::SandboxReady,
        PodState::NotReady => cri::PodSandboxState::SandboxNotready,
    }
}

fn network(ips: &[IpAddr]) -> cri::PodSandboxNetworkStatus {
    let mut ips = ips.iter().map(IpAddr::to_string);
    cri::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| cri::PodIp { ip }).collect(),
    }
}

fn linux(namespaces: NamespaceModes) -> cri::LinuxPodSandboxStatus {
    let options = Some(namespace_option(namespaces));
    cri::LinuxPodSandboxStatus {
        namespaces: Some(cri::Namespace { options }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
