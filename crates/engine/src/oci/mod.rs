//! From a container's specification, its pod and its image to the runtime's config.json
//! (OCI runtime-spec). [`build`] looks at the node ([`Host`]), has [`config`] decide, which is pure,
//! and only then makes what the decision needs. One file per chapter of the runtime-spec.

mod block_io;
mod default_mounts;
mod devices;
mod extras;
mod host;
mod mounts;
mod owners;
mod process;
mod relabel;
mod resources;
mod security;
#[cfg(test)]
mod tests;

use image::config::ContainerConfig;
use runtime::cgroup::Unit;
use runtime::spec;

pub(crate) use block_io::Classes as BlockIoClasses;
pub(crate) use owners::Owners;
pub(crate) use process::{arguments, exec_process, stop_signal};
pub(crate) use resources::limits;
pub(crate) use security::{all_capabilities, check_profiles};

use crate::annotations::Asked;
use crate::config::{self, RuntimeEntry, Workload, allowed};
use crate::container::record::ContainerRecord;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::hooks::Subject;
use crate::node::cgroups;
use crate::pod::record::PodRecord;
use crate::pod::{NamespaceMode, NamespaceModes, UserIds};
use host::Host;

/// What is asked for: by the request, the pod, the image and the configuration.
pub(crate) struct Inputs<'a> {
    pub(crate) runtime: &'a config::Runtime,
    /// What the configuration says of the pod's runtime handler, if anything.
    pub(crate) entry: Option<&'a RuntimeEntry>,
    pub(crate) pod: &'a PodRecord,
    pub(crate) container: &'a ContainerRecord,
    /// What the image says about its containers.
    pub(crate) image: &'a ContainerConfig,
    /// Devices by their CDI names.
    pub(crate) cdi_devices: &'a [String],
}

impl Inputs<'_> {
    fn privileged(&self) -> bool {
        self.container.spec.security.privileged
    }

    /// The ids of the pod's own user namespace.
    fn users(&self) -> Option<&UserIds> {
        self.pod.spec.namespaces.users.ids()
    }

    /// The annotations on which the engine itself acts.
    fn annotations(&self) -> Asked<'_> {
        Asked::new(self.runtime, self.entry, &self.pod.spec.annotations)
    }

    /// Does the container get every device of the node?
    pub(crate) fn all_devices(&self) -> bool {
        let own_only = |entry: &RuntimeEntry| entry.privileged_without_host_devices;
        self.privileged() && !self.entry.is_some_and(own_only)
    }
}

/// The container's config.json. Missing sources of mounts are there afterwards and have the label that is asked
/// for, and its AppArmor profile is loaded.
///
/// # Errors
/// A field of the request that cannot be accepted, named; nothing was made then.
pub(crate) fn build(engine: &Engine, inputs: &Inputs<'_>) -> Result<spec::Spec> {
    check(inputs)?;
    let mut host = Host::look(engine, inputs)?;
    let edits = std::mem::take(&mut host.cdi);
    let mut built = config(inputs, &host)?;
    extras::apply(inputs, &mut built);
    edits.make(&mut built, !inputs.all_devices());
    add_hooks(engine, inputs, &mut built)?;
    let seccomp = built
        .linux
        .as_ref()
        .and_then(|linux| linux.seccomp.as_ref());
    if let Some(dir) = seccomp.and_then(|_| host.seccomp_socket.parent())
        && seccomp.is_some_and(|profile| profile.listener_metadata.starts_with(supervisor::AGENT))
    {
        crate::disk::make_dir(dir)?;
    }
    let process = built.process.as_ref();
    if let Some(profile) = process.and_then(|process| process.apparmor_profile.as_deref()) {
        security::load_apparmor(profile)?;
    }
    mounts::make_sources(inputs, &host, &mut built.mounts)?;
    let linux = built.linux.as_ref();
    if let Some(label) = linux.and_then(|linux| linux.mount_label.as_deref()) {
        relabel::relabel(inputs, &host.sources, label)?;
    }
    Ok(built)
}

/// config.json as it is on a node of which nothing was seen: what [`crate::counted`] counts.
///
/// # Errors
/// As [`build`].
pub(crate) fn on_plain_node(inputs: &Inputs<'_>) -> Result<Vec<u8>> {
    check(inputs)?;
    let host = Host {
        hostname: inputs.pod.spec.name.clone(),
        pod_dir: "/run/floe/pods/sample".into(),
        last_capability: 40,
        ..Host::default()
    };
    let built = config(inputs, &host)?;
    serde_json::to_vec(&built).map_err(|error| Error::invalid("config.json", error.to_string()))
}

/// Those of the node's hook directories that are for this container: by the annotations of container and pod.
fn add_hooks(engine: &Engine, inputs: &Inputs<'_>, built: &mut spec::Spec) -> Result<()> {
    let files = engine.hooks()?;
    if files.is_empty() {
        return Ok(());
    }
    let mut annotations = inputs.container.spec.annotations.clone();
    annotations.extend(inputs.pod.spec.annotations.clone());
    let args = built.process.as_ref().map(|process| &process.args);
    let subject = Subject {
        annotations: &annotations,
        command: args
            .and_then(|args| args.first())
            .map_or("", String::as_str),
        has_bind_mounts: !inputs.container.spec.mounts.is_empty(),
    };
    files.add_to(&mut built.hooks, subject);
    Ok(())
}

/// What no look at the node could make acceptable.
fn check(inputs: &Inputs<'_>) -> Result<()> {
    block_io::refuse_rdt(inputs)?;
    let asked = &inputs.pod.spec;
    match inputs.privileged() && !asked.privileged && asked.origin == crate::pod::Origin::Cri {
        true => Err(Error::invalid(
            "security_context.privileged",
            "the pod is not privileged",
        )),
        false => Ok(()),
    }
}

/// The decision: what is asked for and what the node has in, config.json out.
fn config(inputs: &Inputs<'_>, host: &Host) -> Result<spec::Spec> {
    let security = &inputs.container.spec.security;
    let mut process = process::build(inputs, host)?;
    let confinement = security::build(inputs, host, process.capabilities.as_ref())?;
    process.apparmor_profile = confinement.apparmor;
    let labels = confinement.selinux;
    process.selinux_label = labels.as_ref().map(|labels| labels.process.clone());
    let devices = devices::build(inputs, host)?;
    let resources = resources::build(inputs, devices.rules)?;
    if let Some(cpu) = &resources.cpu {
        process::inject_gomaxprocs(inputs, &mut process, cpu);
        process.exec_cpu_affinity = process::exec_affinity(inputs, cpu);
    }
    // Known from the namespace; programs want to be told, and refuse others.
    let ids = inputs.users().cloned().unwrap_or_default();
    Ok(spec::Spec {
        // As old as the programs that may read it: crun takes no other before 1.9.
        oci_version: "1.0.2".into(),
        root: Some(spec::Root {
            path: "rootfs".into(),
            readonly: security.readonly_rootfs || inputs.runtime.read_only,
        }),
        hostname: None,
        mounts: mounts::build(inputs, host, devices.mounts)?,
        annotations: annotations(inputs),
        linux: Some(spec::Linux {
            namespaces: namespaces(inputs, host)?,
            cgroups_path: Some(absolute(&cgroups::cgroups_path(&inputs.container.cgroup))),
            resources: Some(resources),
            devices: devices.nodes,
            seccomp: confinement.seccomp,
            mount_label: labels.map(|labels| labels.mount),
            masked_paths: confinement.masked_paths,
            readonly_paths: confinement.readonly_paths,
            rootfs_propagation: mounts::root_propagation(inputs),
            uid_mappings: ids.uids,
            gid_mappings: ids.gids,
            ..spec::Linux::default()
        }),
        process: Some(process),
        ..spec::Spec::default()
    })
}

/// A cgroup's path below the hierarchies' roots as runtimes take it, wherever they are themselves. The name
/// of a unit of systemd (`slice:prefix:name`) stays.
fn absolute(cgroup: &str) -> String {
    match cgroup.starts_with('/') || cgroup.contains(':') {
        true => cgroup.to_owned(),
        false => format!("/{cgroup}"),
    }
}

/// The pod's namespaces by path, the container's own new, the node's left out. One that the sandbox does
/// not report is not the node's either: it is new, or the sandbox's own to give.
fn namespaces(inputs: &Inputs<'_>, host: &Host) -> Result<Vec<spec::Namespace>> {
    let pod = &inputs.pod.spec.namespaces;
    let new = |kind| spec::Namespace { kind, path: None };
    let join = |kind, path| spec::Namespace { kind, path };
    let its = &host.namespaces;
    let mut all = vec![new(spec::NamespaceKind::Mount)];
    if inputs.users().is_some() {
        all.push(join(spec::NamespaceKind::User, its.users.clone()));
    }
    if pod.network != NamespaceMode::Node {
        all.push(join(spec::NamespaceKind::Network, its.network.clone()));
        all.push(join(spec::NamespaceKind::Uts, its.uts.clone()));
    }
    if pod.ipc != NamespaceMode::Node {
        all.push(join(spec::NamespaceKind::Ipc, its.ipc.clone()));
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
            all.push(join(spec::NamespaceKind::Pid, its.pid.clone()));
        }
        NamespaceMode::Target => all.push(join(spec::NamespaceKind::Pid, host.target.clone())),
    }
    // On v2 only: programs of v1 times look for their cgroup's path as the node sees it.
    if host.cgroup_v2 && !inputs.privileged() {
        all.push(new(spec::NamespaceKind::Cgroup));
    }
    Ok(all)
}

/// The annotations that the handler's entry lets through, the container's own (none of which speaks of its
/// unit), what a program is told of that, and what tools that look at a bundle expect to find, in CRI-O's words.
fn annotations(inputs: &Inputs<'_>) -> std::collections::BTreeMap<String, String> {
    let container = inputs.container;
    let of_pod = &inputs.pod.spec.annotations;
    let mut all = inputs
        .entry
        .map(|entry| entry.annotations(of_pod))
        .unwrap_or_default();
    if let Some(workload) = Workload::of(&inputs.runtime.workloads, of_pod) {
        all.extend(allowed(&workload.allowed_annotations, of_pod));
    }
    let own = container.spec.annotations.iter();
    // A file of options for criu would be obeyed by whoever writes the container down.
    let own = own.filter(|(key, _)| !Unit::is_annotation(key) && !key.starts_with("org.criu."));
    all.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    for (key, value) in cgroups::of_unit(&container.cgroup) {
        all.insert((*key).to_owned(), (*value).to_owned());
    }
    for (key, value) in cgroups::at_shutdown(&container.cgroup, &container.spec.annotations) {
        // What the handler's entry says of the unit goes before.
        all.entry(key.to_owned()).or_insert(value);
    }
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
