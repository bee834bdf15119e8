//! config.json of the OCI runtime-spec 1.3, as lenient types: unknown fields are ignored, unknown
//! names (capabilities, signals, options) stay strings for the code that knows them, absent lists
//! are empty. Nothing is checked here. One file per chapter; all types are re-exported.

mod hooks;
mod linux;
mod mount;
mod process;
mod resources;
mod seccomp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use hooks::{Hook, HookStage, Hooks};
pub use linux::{
    Device, IdMapping, IntelRdt, Linux, MemoryPolicy, Namespace, NamespaceKind, NetDevice,
    Personality, TimeOffset,
};
pub use mount::Mount;
pub use process::{
    BinaryVariable, Capabilities, ConsoleSize, ExecCpuAffinity, IoPriority, Process, Rlimit,
    Scheduler, User,
};
pub use resources::{
    BlockIo, Cpu, DeviceCgroup, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};
pub use seccomp::{Seccomp, SeccompArg, SeccompSyscall};

/// A container's configuration (config.md).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Version of the specification, SemVer.
    pub oci_version: String,
    /// What runs; may be absent until start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Name of the host inside; needs a UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name inside; needs a UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Mounts in order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub mounts: Vec<Mount>,
    /// Programs to call at points of the life cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Free text by name.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

impl Spec {
    /// What only Linux has; nothing where that is absent.
    #[must_use]
    pub fn linux(&self) -> &Linux {
        static NONE: LazyLock<Linux> = LazyLock::new(Linux::default);
        self.linux.as_ref().unwrap_or(&NONE)
    }

    /// Where the root file system is, or is to be mounted: root.path below the bundle, `rootfs` if none is named.
    #[must_use]
    pub fn root_in(&self, bundle: &Path) -> PathBuf {
        let named = self.root.as_ref().map(|root| root.path.as_path());
        bundle.join(named.unwrap_or(Path::new("rootfs")))
    }
}

/// The root file system (config.md, root).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Directory, absolute or relative to the bundle.
    pub path: PathBuf,
    /// Not writable from inside.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// Go programs write an absent list or map as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_nulls_are_taken_and_round_trip() {
        let text = r#"{"ociVersion":"1.2.0","future":1,"mounts":null,"process":{"args":["a"],"cwd":"/","env":null,
            "user":{"uid":1,"gid":2},"capabilities":{"bounding":["CAP_FUTURE"]}},
            "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/x"}],"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        let process = spec.process.clone().unwrap();
        assert_eq!((process.user.uid, process.user.gid), (1, 2));
        assert_eq!(process.capabilities.unwrap().bounding, ["CAP_FUTURE"]);
        assert_eq!(
            spec.linux.as_ref().unwrap().namespaces[1].path.as_deref(),
            Some(std::path::Path::new("/x"))
        );
        let again: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
    }
}
