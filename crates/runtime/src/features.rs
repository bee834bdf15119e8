//! features.md: what this runtime can do, as engines ask for it before they write a config.json.
//!
//! Says only what is built: each list comes from the code that does the work, less what that code
//! refuses. Promises nothing about the kernel it runs on.

use serde::Serialize;

use crate::capability;
use crate::init::mount_options;
use crate::seccomp;
use crate::spec::HookStage;

/// What can be made or joined.
const NAMESPACES: [&str; 8] = [
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

/// Annotations that change what a container may do; one that ends with a dot stands for all that start
/// with it.
const ANNOTATIONS: [&str; 3] = [
    "org.systemd.property.",
    "run.oci.keep_original_groups",
    "run.oci.systemd.subgroup",
];

/// The document of the verb `features`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: [&'static str; HookStage::ALL.len()],
    mount_options: Vec<String>,
    linux: Linux,
    annotations: Annotations,
    potentially_unsafe_config_annotations: [&'static str; ANNOTATIONS.len()],
}

/// Names of runc's, by which engines ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.runc.checkpoint.enabled")]
    checkpoint: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: [&'static str; NAMESPACES.len()],
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: Enabled,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: [&'static str; seccomp::ACTIONS.len()],
    operators: [&'static str; seccomp::OPERATORS.len()],
    archs: Vec<&'static str>,
    known_flags: [&'static str; seccomp::FLAGS.len()],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

impl Features {
    /// Of this build.
    #[must_use]
    pub fn of_this_build() -> Self {
        let yes = || Enabled { enabled: true };
        Self {
            oci_version_min: "1.0.0",
            oci_version_max: "1.3.0",
            hooks: HookStage::ALL.map(HookStage::name),
            mount_options: mount_options(),
            linux: Linux {
                namespaces: NAMESPACES,
                capabilities: (0..=capability::last())
                    .filter_map(capability::name)
                    .map(|name| format!("CAP_{name}"))
                    .collect(),
                cgroup: Cgroup {
                    v1: true,
                    v2: true,
                    systemd: true,
                    systemd_user: true,
                    rdma: true,
                },
                seccomp: Seccomp {
                    enabled: true,
                    actions: seccomp::ACTIONS,
                    operators: seccomp::OPERATORS,
                    archs: seccomp::architectures().collect(),
                    known_flags: seccomp::FLAGS,
                },
                apparmor: yes(),
                selinux: yes(),
                intel_rdt: yes(),
                mount_extensions: MountExtensions { idmap: yes() },
                net_devices: yes(),
            },
            annotations: Annotations { checkpoint: "true" },
            potentially_unsafe_config_annotations: ANNOTATIONS,
        }
    }
}
