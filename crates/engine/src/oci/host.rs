//! What a config.json needs to know of the node and of its pod: looked at once, before anything is
//! decided. Makes nothing.

use std::path::{Path, PathBuf};

use runtime::spec;

use super::{Inputs, default_mounts, devices, mounts, security};
use crate::cdi;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::Namespaces;
use crate::node::cgroups;
use crate::pod::NamespaceMode;

/// Facts of the node and of the pod that the container is made in.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// The host name inside.
    pub(super) hostname: String,
    /// Namespaces of the pod's own.
    pub(super) namespaces: Namespaces,
    /// The PID namespace of the container whose processes are shared.
    pub(super) target: Option<PathBuf>,
    /// The pod's directory.
    pub(super) pod_dir: PathBuf,
    /// Which of [`mounts::POD_FILES`] the pod has there.
    pub(super) pod_files: Vec<&'static str>,
    /// Has the node message queues at their usual place?
    pub(super) mqueue: bool,
    /// Are cgroups of version 2 in use?
    pub(super) cgroup_v2: bool,
    /// Can AppArmor profiles be used?
    pub(super) apparmor: bool,
    /// Can SELinux labels be used?
    pub(super) selinux: bool,
    /// Number of the last capability that this engine has itself.
    pub(super) last_capability: u8,
    /// The seccomp profile that request or configuration name by its file.
    pub(super) seccomp: Option<spec::Seccomp>,
    /// Where its supervisor listens for the calls that it refuses, if it is to.
    pub(super) seccomp_socket: PathBuf,
    /// The file of the time zone that the configuration gives to containers.
    pub(super) zone: Option<PathBuf>,
    /// Where the sources of the request's mounts are, in order.
    pub(super) sources: Vec<mounts::Source>,
    /// What every container gets mounted, by the node's file of them.
    pub(super) default_mounts: Vec<default_mounts::Pair>,
    /// The devices that are asked for.
    pub(super) devices: devices::Found,
    /// What the devices that are asked for by CDI name change.
    pub(super) cdi: cdi::Edits,
}

impl Host {
    /// Looks at all that this request needs to know.
    ///
    /// # Errors
    /// A pod that is not ready; a file, device or container that the request names and that cannot be
    /// used, named.
    pub(super) fn look(engine: &Engine, inputs: &Inputs<'_>) -> Result<Host> {
        let (pod, spec) = (inputs.pod, &inputs.container.spec);
        let pod_dir = engine.layout().pod(&pod.id);
        let bundle = engine.layout().container(&pod.id, &inputs.container.id);
        let sandbox = engine.sandbox(pod)?.ok_or_else(|| Error::State {
            verb: "create a container in",
            what: "pod",
            id: pod.id.clone(),
            state: "not ready: its supervisor has ended".into(),
        })?;
        let extras = spec.extras.as_deref();
        let zone = extras.and_then(|extras| extras.time_zone.as_deref());
        let files = mounts::POD_FILES.iter().map(|(name, _)| *name);
        Ok(Host {
            hostname: crate::pod::files::hostname(&pod.id, &pod.spec),
            namespaces: sandbox.namespaces,
            target: target(engine, inputs)?,
            pod_files: files.filter(|name| pod_dir.join(name).exists()).collect(),
            pod_dir,
            mqueue: Path::new("/dev/mqueue").is_dir(),
            cgroup_v2: engine.node().cgroups().version() == cgroups::Version::V2,
            apparmor: runtime::apparmor::is_usable(),
            selinux: runtime::has_selinux(),
            last_capability: runtime::capability::last(),
            seccomp: security::read_seccomp(inputs)?,
            seccomp_socket: engine.layout().seccomp_socket(&inputs.container.id),
            devices: devices::look(&spec.devices, devices::given(inputs)?, inputs.all_devices())?,
            cdi: cdi::look(
                &inputs.runtime.cdi_spec_dirs,
                inputs.cdi_devices,
                inputs.users().is_some(),
            )?,
            zone: mounts::zone(zone.unwrap_or(&inputs.runtime.timezone))?,
            sources: mounts::look(&spec.mounts, engine.config(), &bundle)?,
            default_mounts: default_mounts::read(&inputs.runtime.default_mounts_file)?,
        })
    }
}

/// The PID namespace of the container that the request names.
fn target(engine: &Engine, inputs: &Inputs<'_>) -> Result<Option<PathBuf>> {
    let own = &inputs.container.spec.security.namespaces;
    if own.pid != NamespaceMode::Target {
        return Ok(None);
    }
    let target = engine.running_container("share the processes of", &own.target_id)?;
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
    Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))))
}
