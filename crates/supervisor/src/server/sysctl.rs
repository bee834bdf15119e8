//! Kernel parameters of a pod (Kubernetes "sysctls"): only those that live in a namespace the pod
//! has for itself, so that no pod changes its node. Written by the supervisor from inside the new
//! namespaces: /proc/sys shows the writer's own. In a user namespace those of IPC are its root's to write
//! (from Linux 6.9 on), and all others this node's root's.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::setup::PodSetup;

/// The namespace a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Net,
    Ipc,
    Uts,
}

/// More than all parameters of all namespaces together: each takes time to set.
const MOST: usize = 4096;
/// The kernel takes no more of a value than a page.
const LONGEST: usize = 4096;

/// Checks all of the pod's parameters, so that a bad one fails before anything is made.
pub(super) fn validate(setup: &PodSetup) -> Result<()> {
    if setup.sysctls.len() > MOST {
        return Err(Error::invalid(
            "sysctls",
            format!("{} are more than {MOST}", setup.sysctls.len()),
        ));
    }
    setup
        .sysctls
        .iter()
        .try_for_each(|(name, value)| path(setup, name, value).map(drop))
}

/// Sets the pod's parameters but for those that are set already. The caller is in the pod's namespaces.
pub(super) fn apply(setup: &PodSetup, set: &[String]) -> Result<()> {
    for (name, value) in setup.sysctls.iter().filter(|(name, _)| !set.contains(name)) {
        let path = path(setup, name, value)?;
        write(&path, value)
            .map_err(|error| refuse(name, value, &format!("write {}: {error}", path.display())))?;
    }
    Ok(())
}

/// Sets those of IPC that the root of a user namespace may write, and says which. The caller is that, in the
/// pod's namespaces.
pub(super) fn apply_as_owner(setup: &PodSetup) -> Result<Vec<String>> {
    let mut set = Vec::new();
    for (name, value) in &setup.sysctls {
        let path = path(setup, name, value)?;
        let parts = split(name).unwrap_or_default();
        if scope(&parts) != Some(Scope::Ipc) {
            continue;
        }
        match write(&path, value) {
            Ok(()) => set.push(name.clone()),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => {
                let reason = format!("write {}: {error}", path.display());
                return Err(refuse(name, value, &reason));
            }
        }
    }
    Ok(set)
}

fn write(path: &Path, value: &str) -> std::io::Result<()> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
}

/// The file of a parameter that this pod may set.
fn path(setup: &PodSetup, name: &str, value: &str) -> Result<PathBuf> {
    let parts =
        split(name).ok_or_else(|| refuse(name, value, "is not the name of a kernel parameter"))?;
    let (has, namespace) = match scope(&parts) {
        Some(Scope::Net) => (setup.new_net, "network"),
        Some(Scope::Ipc) => (setup.new_ipc, "IPC"),
        Some(Scope::Uts) => (setup.new_uts, "UTS"),
        None => {
            return Err(refuse(
                name,
                value,
                "is not namespaced: it would change the node",
            ));
        }
    };
    if !has {
        return Err(refuse(
            name,
            value,
            &format!("the pod uses the node's {namespace} namespace"),
        ));
    }
    if value.len() >= LONGEST {
        return Err(refuse(name, "", "the value is longer than a page"));
    }
    if value.contains('\0') {
        return Err(refuse(name, value, "the value has a zero byte"));
    }
    Ok(["/proc/sys"]
        .into_iter()
        .map(str::to_owned)
        .chain(parts)
        .collect())
}

/// The parts of a name, written with dots or with slashes (sysctl(8)): the first separator
/// decides, and the other one belongs to the parts, as in `net/ipv4/conf/eth0.1/forwarding`.
fn split(name: &str) -> Option<Vec<String>> {
    let slashes = name
        .find(['.', '/'])
        .is_some_and(|at| name[at..].starts_with('/'));
    let parts: Vec<String> = if slashes {
        name.split('/').map(str::to_owned).collect()
    } else {
        name.split('.').map(|part| part.replace('/', ".")).collect()
    };
    let plain = |part: &String| {
        !matches!(part.as_str(), "" | "." | "..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte))
    };
    (parts.len() > 1 && parts.iter().all(plain)).then_some(parts)
}

fn scope(parts: &[String]) -> Option<Scope> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["net", ..] => Some(Scope::Net),
        ["fs", "mqueue", _] | ["kernel", "sem"] => Some(Scope::Ipc),
        ["kernel", name] if name.starts_with("shm") || name.starts_with("msg") => Some(Scope::Ipc),
        ["kernel", "domainname"] => Some(Scope::Uts),
        _ => None,
    }
}

fn refuse(name: &str, value: &str, reason: &str) -> Error {
    Error::Sysctl {
        name: name.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_one(name: &str) -> Result<PathBuf, String> {
        let setup = PodSetup {
            new_net: true,
            new_uts: true,
            ..PodSetup::default()
        };
        path(&setup, name, "1").map_err(|error| error.to_string())
    }

    #[test]
    fn both_ways_to_write_a_name_reach_the_same_file() {
        let file = PathBuf::from("/proc/sys/net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(
            try_one("net.ipv4.conf.eth0/1.forwarding").as_ref(),
            Ok(&file)
        );
        assert_eq!(try_one("net/ipv4/conf/eth0.1/forwarding"), Ok(file));
    }

    #[test]
    fn more_parameters_than_there_are_and_longer_than_a_page_are_refused() {
        let mut setup = PodSetup {
            new_net: true,
            ..PodSetup::default()
        };
        setup.sysctls = [("net.a.b".to_owned(), "x".repeat(LONGEST))].into();
        assert!(validate(&setup).is_err());
        let many = (0..=MOST).map(|number| (format!("net.a.b{number}"), "1".to_owned()));
        setup.sysctls = many.collect();
        let refused = validate(&setup).unwrap_err().to_string();
        assert!(refused.contains("sysctls: 4097"), "{refused}");
    }

    #[test]
    fn what_is_not_the_pods_own_is_refused_by_name() {
        for (name, reason) in [
            (
                "vm.swappiness",
                "sysctl vm.swappiness=\"1\": is not namespaced",
            ),
            ("kernel.shmmax", "the node's IPC namespace"),
            ("kernel.core_pattern", "is not namespaced"),
            ("net..ipv4", "is not the name"),
            ("net/../kernel/core_pattern", "is not the name"),
            ("net", "is not the name"),
        ] {
            let error = try_one(name).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
