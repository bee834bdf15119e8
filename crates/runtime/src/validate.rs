//! What of a config.json can be refused before anything is made: one check per chapter of the
//! runtime-spec. Each error names its field.

use std::path::Path;

use crate::error::{Error, Result};
use crate::labels;
use crate::net_devices;
use crate::resctrl;
use crate::rootless;
use crate::scheduling;
use crate::spec::{HookStage, Hooks, Linux, NamespaceKind, Process, Spec, User};
use crate::users;

/// Checks the whole configuration.
pub(crate) fn spec(spec: &Spec) -> Result<()> {
    version(&spec.oci_version)?;
    let Some(root) = &spec.root else {
        return Err(Error::invalid("root", "is missing"));
    };
    if root.path.as_os_str().is_empty() {
        return Err(Error::invalid("root.path", "is empty"));
    }
    process(
        spec.process
            .as_ref()
            .ok_or_else(|| Error::invalid("process", "is missing"))?,
    )?;
    for (index, mount) in spec.mounts.iter().enumerate() {
        if mount.destination.as_os_str().is_empty() {
            return Err(Error::invalid(
                format!("mounts[{index}].destination"),
                "is empty",
            ));
        }
        if mount.destination == Path::new("/") {
            return Err(Error::invalid(
                format!("mounts[{index}].destination"),
                "\"/\" is the root file system itself, which root.path names",
            ));
        }
    }
    users::check(spec)?;
    rootless::check(spec)?;
    hooks(spec.hooks.as_ref())?;
    match &spec.linux {
        Some(linux) => self::linux(spec, linux),
        None => Ok(()),
    }
}

/// Checks a process on its own, as for an exec.
pub(crate) fn process(process: &Process) -> Result<()> {
    if process.args.is_empty() {
        return Err(Error::invalid("process.args", "is empty"));
    }
    if !Path::new(&process.cwd).is_absolute() {
        return Err(Error::invalid(
            "process.cwd",
            format!("{:?} is not an absolute path", process.cwd),
        ));
    }
    let text = process
        .args
        .iter()
        .chain(&process.env)
        .chain([&process.cwd]);
    if text.into_iter().any(|text| text.contains('\0')) {
        return Err(Error::invalid(
            "process",
            "args, env and cwd must not hold a NUL byte",
        ));
    }
    user(&process.user)?;
    let binary = &process.binary_env;
    if binary.iter().any(|variable| {
        variable.value.contains(&0)
            || variable.name.is_empty()
            || variable.name.contains(['=', '\0'])
    }) {
        return Err(Error::invalid(
            "process.floeBinaryEnv",
            "a variable needs a name without = and a value without NUL",
        ));
    }
    labels::check_process(process)?;
    scheduling::check_process(process)
}

/// The kernel takes the highest number for "no change": the process would stay root.
fn user(user: &User) -> Result<()> {
    let groups = user
        .additional_gids
        .iter()
        .map(|gid| ("additionalGids", gid));
    let all = [("uid", &user.uid), ("gid", &user.gid)];
    match all
        .into_iter()
        .chain(groups)
        .find(|(_, id)| **id == u32::MAX)
    {
        Some((field, id)) => Err(Error::invalid(
            format!("process.user.{field}"),
            format!("{id} is no id"),
        )),
        None => Ok(()),
    }
}

fn hooks(hooks: Option<&Hooks>) -> Result<()> {
    let Some(hooks) = hooks else { return Ok(()) };
    for stage in HookStage::ALL {
        for (index, hook) in hooks.at(stage).iter().enumerate() {
            let field = |name: &str| format!("hooks.{}[{index}].{name}", stage.name());
            if !hook.path.is_absolute() {
                return Err(Error::invalid(
                    field("path"),
                    format!("{:?} is not an absolute path", hook.path),
                ));
            }
            if hook.timeout.is_some_and(|seconds| seconds <= 0) {
                return Err(Error::invalid(
                    field("timeout"),
                    "must be greater than zero",
                ));
            }
        }
    }
    Ok(())
}

fn version(version: &str) -> Result<()> {
    let major = version.split('.').next().unwrap_or_default();
    match major.parse::<u32>() {
        Ok(1) => Ok(()),
        Ok(_) => Err(Error::invalid(
            "ociVersion",
            format!("{version:?} is not a version 1 that this runtime knows"),
        )),
        Err(_) => Err(Error::invalid(
            "ociVersion",
            format!("{version:?} is not a version"),
        )),
    }
}

fn linux(spec: &Spec, linux: &Linux) -> Result<()> {
    let mut seen = Vec::new();
    for namespace in &linux.namespaces {
        if seen.contains(&namespace.kind) {
            return Err(Error::invalid(
                "linux.namespaces",
                format!("{:?} is there twice", namespace.kind),
            ));
        }
        seen.push(namespace.kind);
        if namespace
            .path
            .as_ref()
            .is_some_and(|path| !path.is_absolute())
        {
            return Err(Error::invalid(
                "linux.namespaces",
                format!("{:?}: path must be absolute", namespace.kind),
            ));
        }
    }
    let has = |kind| seen.contains(&kind);
    if !has(NamespaceKind::Mount) {
        for (field, list) in [
            ("linux.maskedPaths", &linux.masked_paths),
            ("linux.readonlyPaths", &linux.readonly_paths),
        ] {
            if !list.is_empty() {
                let reason = "unable to restrict sys entries without a private mount namespace";
                return Err(Error::invalid(field, reason));
            }
        }
    }
    for (field, set, kind) in [
        ("hostname", spec.hostname.is_some(), NamespaceKind::Uts),
        ("domainname", spec.domainname.is_some(), NamespaceKind::Uts),
    ] {
        if set && !has(kind) {
            return Err(Error::invalid(field, "needs a UTS namespace"));
        }
    }
    net_devices::check(linux)?;
    linux.intel_rdt.as_ref().map_or(Ok(()), resctrl::check)?;
    labels::check_mounts(linux)?;
    time_offsets(linux)?;
    scheduling::check(linux)?;
    linux.sysctl.keys().try_for_each(|name| sysctl(name, &seen))
}

/// Clocks are set of a new time namespace only.
fn time_offsets(linux: &Linux) -> Result<()> {
    let refused = |reason: String| Err(Error::invalid("linux.timeOffsets", reason));
    let Some(clock) = linux.time_offsets.keys().next() else {
        return Ok(());
    };
    let mut namespaces = linux.namespaces.iter();
    match namespaces.find(|namespace| namespace.kind == NamespaceKind::Time) {
        None => return refused(format!("{clock:?} needs a time namespace")),
        Some(joined) if joined.path.is_some() => {
            return refused("are those of the joined time namespace already".into());
        }
        Some(_) => {}
    }
    let known = |clock: &&String| ["monotonic", "boottime"].contains(&clock.as_str());
    match linux.time_offsets.keys().find(|clock| !known(clock)) {
        Some(clock) => refused(format!("{clock:?} is not monotonic or boottime")),
        None => Ok(()),
    }
}

/// Only parameters that belong to a namespace of the container may be set.
fn sysctl(name: &str, namespaces: &[NamespaceKind]) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let dotted = name.replace('/', ".");
    let kind = match dotted.as_str() {
        name if name.starts_with("net.") => NamespaceKind::Network,
        name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => NamespaceKind::Ipc,
        "kernel.domainname" => NamespaceKind::Uts,
        "kernel.hostname" => {
            return Err(Error::invalid(
                "linux.sysctl",
                "kernel.hostname: use hostname instead",
            ));
        }
        _ => {
            return Err(Error::invalid(
                "linux.sysctl",
                format!("{name}: belongs to no namespace"),
            ));
        }
    };
    if namespaces.contains(&kind) && !dotted.split('.').any(str::is_empty) {
        return Ok(());
    }
    Err(Error::invalid(
        "linux.sysctl",
        format!("{name}: the container has no {kind:?} namespace of its own"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Namespace, Root};

    fn minimal() -> Spec {
        Spec {
            oci_version: "1.2.0".into(),
            root: Some(Root {
                path: "rootfs".into(),
                readonly: false,
            }),
            process: Some(Process {
                args: vec!["true".into()],
                cwd: "/".into(),
                ..Process::default()
            }),
            linux: Some(Linux {
                namespaces: vec![Namespace {
                    kind: NamespaceKind::Mount,
                    path: None,
                }],
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }

    fn refused(change: impl FnOnce(&mut Spec)) -> String {
        let mut changed = minimal();
        change(&mut changed);
        spec(&changed).unwrap_err().to_string()
    }

    #[test]
    fn a_minimal_configuration_is_accepted() {
        spec(&minimal()).unwrap();
    }

    #[test]
    fn what_the_specification_requires_is_asked_for_by_name() {
        assert!(refused(|s| s.root = None).contains("root: is missing"));
        assert!(refused(|s| s.process = None).contains("process: is missing"));
        assert!(refused(|s| s.process.as_mut().unwrap().args.clear()).contains("process.args"));
        assert!(refused(|s| s.process.as_mut().unwrap().cwd = "x".into()).contains("process.cwd"));
        assert!(refused(|s| s.oci_version = "2.0.0".into()).contains("ociVersion"));
        assert!(refused(|s| s.hostname = Some("h".into())).contains("UTS"));
    }

    #[test]
    fn a_sysctl_of_the_node_is_refused() {
        let set = |name: &'static str| {
            refused(move |s| {
                s.linux
                    .as_mut()
                    .unwrap()
                    .sysctl
                    .insert(name.into(), "1".into());
            })
        };
        assert!(set("vm.swappiness").contains("belongs to no namespace"));
        assert!(set("net.ipv4.ip_forward").contains("Network namespace"));
    }
}
