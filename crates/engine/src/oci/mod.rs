//! From a container's specification, its pod and its image to the runtime's config.json
//! (OCI runtime-spec). Pure but for looking at host paths of mounts and devices: it makes a
//! missing mount source, nothing else. One file per chapter of the runtime-spec.

mod devices;
mod mounts;
mod process;
mod resources;
mod security;

pub(crate) use resources::limits;
use std::path::{Path, PathBuf};

use image::config::ContainerConfig;
use runtime::spec;

pub(crate) use process::{arguments, exec_process, stop_signal};
pub(crate) use security::all_capabilities;

use crate::config::RuntimeEntry;
use crate::container::record::ContainerRecord;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::record::PodRecord;
use crate::pod::{NamespaceMode, NamespaceModes};

/// Everything that a config.json is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) pod: &'a PodRecord,
    pub(crate) container: &'a ContainerRecord,
    /// What the image says about its containers.
    pub(crate) image: &'a ContainerConfig,
}

impl Inputs<'_> {
    /// What the configuration says of the pod's runtime handler, if anything.
    fn entry(&self) -> Option<&RuntimeEntry> {
        self.engine.runtime_entry(&self.pod.spec.runtime_handler)
    }

    fn privileged(&self) -> bool {
        self.container.spec.security.privileged
    }
}

/// The container's config.json.
///
/// # Errors
/// A field of the request that cannot be accepted, named.
pub(crate) fn build(inputs: &Inputs<'_>) -> Result<spec::Spec> {
    let security = &inputs.container.spec.security;
    if security.privileged
        && !inputs.pod.spec.privileged
        && inputs.pod.spec.origin == crate::pod::Origin::Cri
    {
        return Err(Error::invalid(
            "security_context.privileged",
            "the pod is not privileged",
        ));
    }
    let mut process = process::build(inputs)?;
    let confinement = security::build(inputs, process.capabilities.as_ref())?;
    process.apparmor_profile = confinement.apparmor;
    let labels = confinement.selinux;
    process.selinux_label = labels.as_ref().map(|labels| labels.process.clone());
    let devices = devices::build(inputs)?;
    Ok(spec::Spec {
        oci_version: "1.2.0".into(),
        root: Some(spec::Root {
            path: "rootfs".into(),
            readonly: security.readonly_rootfs || inputs.engine.config().runtime.read_only,
        }),
        hostname: None,
        mounts: mounts::build(inputs)?,
        annotations: annotations(inputs),
        linux: Some(spec::Linux {
            namespaces: namespaces(inputs)?,
            cgroups_path: Some(inputs.container.cgroup.clone()),
            resources: Some(resources::build(inputs, devices.rules)?),
            devices: devices.nodes,
            seccomp: confinement.seccomp,
            mount_label: labels.map(|labels| labels.mount),
            masked_paths: confinement.masked_paths,
            readonly_paths: confinement.readonly_paths,
            rootfs_propagation: mounts::root_propagation(inputs),
            ..spec::Linux::default()
        }),
        process: Some(process),
        ..spec::Spec::default()
    })
}

/// The pod's namespaces by path, the container's own new, the node's left out. One that the sandbox does
/// not report is not the node's either: it is new, or the sandbox's own to give.
fn namespaces(inputs: &Inputs<'_>) -> Result<Vec<spec::Namespace>> {
    let pod = &inputs.pod.spec.namespaces;
    let sandbox = inputs.engine.sandbox(inputs.pod)?;
    let sandbox = sandbox.ok_or_else(|| Error::State {
        verb: "create a container in",
        what: "pod",
        id: inputs.pod.id.clone(),
        state: "not ready: its supervisor has ended".into(),
    })?;
    let new = |kind| spec::Namespace { kind, path: None };
    let join = |kind, path| spec::Namespace { kind, path };
    let its = sandbox.namespaces;
    let mut all = vec![new(spec::NamespaceKind::Mount)];
    if pod.network != NamespaceMode::Node {
        all.push(join(spec::NamespaceKind::Network, its.network));
        all.push(join(spec::NamespaceKind::Uts, its.uts));
    }
    if pod.ipc != NamespaceMode::Node {
        all.push(join(spec::NamespaceKind::Ipc, its.ipc));
    }
    let own: &NamespaceModes = &inputs.container.spec.security.namespaces;
    match own.pid {
        NamespaceMode::Node => {}
        NamespaceMode::Container => all.push(new(spec::NamespaceKind::Pid)),
        NamespaceMode::Pod => {
            if its.pid.is_none() && pod.pid != NamespaceMode::Pod {
                return Err(Error::invalid(
                    "namespace_options.pid",
                    "POD, but the pod was made without a shared PID namespace",
                ));
            }
            all.push(join(spec::NamespaceKind::Pid, its.pid));
        }
        NamespaceMode::Target => {
            let target = inputs
                .engine
                .running_container("share the processes of", &own.target_id)?;
            if target.pod_id != inputs.pod.id {
                return Err(Error::invalid(
                    "namespace_options.target_id",
                    "is a container of another pod",
                ));
            }
            let pid = target.pid.ok_or_else(|| Error::State {
                verb: "share the processes of",
                what: "container",
                id: target.id.clone(),
                state: "without a process on this node".into(),
            })?;
            let path = PathBuf::from(format!("/proc/{pid}/ns/pid"));
            all.push(join(spec::NamespaceKind::Pid, Some(path)));
        }
    }
    // On v2 only: programs of v1 times look for their cgroup's path as the node sees it.
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && !inputs.privileged() {
        all.push(new(spec::NamespaceKind::Cgroup));
    }
    Ok(all)
}

/// The annotations that the handler's entry lets through, the container's own, and what tools that look
/// at a bundle expect to find, in CRI-O's words.
fn annotations(inputs: &Inputs<'_>) -> std::collections::BTreeMap<String, String> {
    let container = inputs.container;
    let of_pod = &inputs.pod.spec.annotations;
    let mut all = inputs
        .entry()
        .map(|entry| entry.annotations(of_pod))
        .unwrap_or_default();
    all.extend(container.spec.annotations.clone());
    for (key, value) in [
        ("io.kubernetes.cri-o.ContainerType", "container".to_owned()),
        ("io.kubernetes.cri-o.SandboxID", inputs.pod.id.clone()),
        ("io.kubernetes.cri-o.ContainerID", container.id.clone()),
        ("io.kubernetes.cri-o.Image", container.image_id.clone()),
    ] {
        all.insert(key.to_owned(), value);
    }
    all
}
