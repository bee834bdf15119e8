//! The container that stands for a pod in a shim: shims make their sandbox, a virtual machine, with the
//! first container of a pod, and keep it as long as that runs. It needs no image: its root has nothing
//! but `floe-runtime`, which is static, and it does nothing until it is told to end.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use runtime::spec::Spec;
use serde_json::{Value, json};

use super::super::{PodPlan, PodRef, Sandbox};
use crate::disk;
use crate::error::{Error, Result};
use crate::node::cgroups;

/// A user that owns nothing, as Kubernetes' pause image has it.
const NOBODY: u32 = 65_535;

/// The bundle of the container that stands for the pod. Shims want a bundle to have its container's id
/// as its name.
pub(super) fn bundle(pod: PodRef<'_>) -> PathBuf {
    pod.dir.join("shim").join(pod.id)
}

/// Its cgroup on this node.
pub(super) fn cgroup(pod: PodRef<'_>) -> String {
    cgroups::member(pod.cgroup, pod.prefix, &format!("infra-{}", pod.id))
}

/// Writes its bundle, once the pod's namespaces are known.
pub(super) fn write(
    plan: &PodPlan<'_>,
    sandbox: &Sandbox,
    annotations: BTreeMap<String, String>,
) -> Result<()> {
    let bundle = bundle(plan.pod);
    let made = std::fs::create_dir_all(bundle.join("rootfs"));
    made.map_err(Error::io("make", &bundle))?;
    let config = config(plan, sandbox, describe(plan, annotations));
    disk::write_json(&bundle.join("config.json"), &config)
}

fn config(plan: &PodPlan<'_>, sandbox: &Sandbox, annotations: BTreeMap<String, String>) -> Value {
    let its = &sandbox.namespaces;
    let mut namespaces = vec![json!({"type": "mount"})];
    namespaces.push(match &its.pid {
        Some(path) => json!({"type": "pid", "path": path}),
        None => json!({"type": "pid"}),
    });
    let joined = [
        ("network", &its.network),
        ("ipc", &its.ipc),
        ("uts", &its.uts),
    ];
    for (kind, path) in joined {
        if let Some(path) = path {
            namespaces.push(json!({"type": kind, "path": path}));
        }
    }
    let readonly = ["nosuid", "noexec", "nodev", "ro"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": NOBODY, "gid": NOBODY},
            "args": ["/floe-runtime", "hold"],
            "env": ["PATH=/"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": plan.hostname,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": readonly},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "noexec", "mode=755", "size=64k"]},
        ],
        "annotations": annotations,
        "linux": {
            "cgroupsPath": cgroups::cgroups_path(&cgroup(plan.pod)),
            "namespaces": namespaces,
            "resources": {"cpu": {"shares": 2}},
        },
    })
}

/// Adds to the annotations that the pod may give, which tell Kata how to make its virtual machine, what
/// says whose sandbox it is, in the words of both CRI engines that shims know.
fn describe(plan: &PodPlan<'_>, mut all: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let spec = plan.spec;
    all.extend(kind(plan.pod.id, "sandbox"));
    for (key, value) in cgroups::of_unit(&cgroup(plan.pod)) {
        all.insert((*key).to_owned(), (*value).to_owned());
    }
    for (key, value) in [
        ("io.kubernetes.cri.sandbox-name", &spec.name),
        ("io.kubernetes.cri.sandbox-namespace", &spec.namespace),
        ("io.kubernetes.cri.sandbox-uid", &spec.uid),
        ("io.kubernetes.cri-o.SandboxName", &spec.name),
    ] {
        all.insert(key.to_owned(), value.clone());
    }
    all
}

/// What a sandbox service is told of a bundle.
#[derive(Debug)]
pub(super) struct Written {
    /// The pod's network namespace.
    pub(super) netns: Option<PathBuf>,
    /// What the pod may tell the shim, and whose sandbox it is.
    pub(super) annotations: BTreeMap<String, String>,
}

/// What [`write`] has written.
pub(super) fn written(bundle: &Path) -> Result<Written> {
    let config: Spec = disk::read_json(&bundle.join("config.json"))?.unwrap_or_default();
    let linux = config.linux.unwrap_or_default();
    let network = |namespace: &runtime::spec::Namespace| {
        namespace.kind == runtime::spec::NamespaceKind::Network
    };
    let netns = linux.namespaces.into_iter().find(network);
    Ok(Written {
        netns: netns.and_then(|namespace| namespace.path),
        annotations: config.annotations,
    })
}

/// What says that a container is its pod's sandbox, or in it.
pub(super) fn kind(pod: &str, kind: &str) -> [(String, String); 4] {
    [
        ("io.kubernetes.cri.container-type", kind),
        ("io.kubernetes.cri.sandbox-id", pod),
        ("io.kubernetes.cri-o.ContainerType", kind),
        ("io.kubernetes.cri-o.SandboxID", pod),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// The directory that is the root file system of all such containers; made if it is not there.
pub(super) fn root(runroot: &Path, program: &Path) -> Result<PathBuf> {
    let root = runroot.join(concat!("sandbox-root-", env!("CARGO_PKG_VERSION")));
    if root.join("floe-runtime").exists() {
        return Ok(root);
    }
    let new = runroot.join(format!("sandbox-root-{}.new", disk::new_id()?));
    let made = (|| {
        for dir in ["proc", "dev", "sys"] {
            std::fs::create_dir_all(new.join(dir))?;
        }
        let copy = new.join("floe-runtime");
        std::fs::copy(program, &copy)?;
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755))?;
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755))?;
        match std::fs::rename(&new, &root) {
            // Another engine was faster.
            Err(_) if root.join("floe-runtime").exists() => disk::remove_tree(&new).or(Ok(())),
            other => other,
        }
    })();
    made.map_err(Error::io("make", &root))?;
    Ok(root)
}
