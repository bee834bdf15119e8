//! Without root of the host: what a user may have made, and what is refused in words before the
//! kernel refuses it without.
//!
//! Decides nothing for root. What the kernel lets an ordinary user do is not forbidden here.

use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::spec::{IdMapping, NamespaceKind, Process, Spec};

/// Does the caller lack the rights of the host's root: an ordinary user, or root of a user namespace?
#[must_use]
pub fn is_rootless() -> bool {
    !rustix::process::geteuid().is_root() || in_user_namespace()
}

/// Is the caller in a user namespace that is not the host's? Device rules of a cgroup are then out of its
/// reach, and device nodes of its container's too.
#[must_use]
pub fn in_user_namespace() -> bool {
    !knows_all_users()
}

/// What the caller of the program said of cgroups, if he said it.
static OPTIONAL_CGROUPS: OnceLock<bool> = OnceLock::new();

/// May a container be without a cgroup where none may be made? For the whole process, and once: else it
/// is so without root of the host.
pub fn set_optional_cgroups(optional: bool) {
    // The first word counts: the program says it before it does anything.
    let _ = OPTIONAL_CGROUPS.set(optional);
}

/// See [`set_optional_cgroups`].
pub(crate) fn optional_cgroups() -> bool {
    *OPTIONAL_CGROUPS.get_or_init(is_rootless)
}

/// Is the user namespace of this process the first one, which alone maps all ids to themselves?
fn knows_all_users() -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else {
        // A kernel without user namespaces.
        return true;
    };
    let words: Vec<&str> = map.split_ascii_whitespace().collect();
    words == ["0", "0", "4294967295"]
}

/// What an ordinary user cannot have.
pub(crate) fn check(spec: &Spec) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let linux = spec.linux.as_ref();
    let mut namespaces = linux.iter().flat_map(|linux| &linux.namespaces);
    let Some(users) = namespaces.find(|one| one.kind == NamespaceKind::User) else {
        let reason = "rootless container requires user namespaces";
        return Err(Error::invalid("linux.namespaces", reason));
    };
    if users.path.is_none() {
        let uids = linux.map_or(&[][..], |linux| &linux.uid_mappings);
        let gids = linux.map_or(&[][..], |linux| &linux.gid_mappings);
        for mount in &spec.mounts {
            for option in &mount.options {
                mount_option(option, uids, gids)?;
            }
        }
    }
    spec.process.as_ref().map_or(Ok(()), check_process)
}

/// What a process of an ordinary user's container cannot have.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    if rustix::process::geteuid().is_root() || process.user.additional_gids.is_empty() {
        return Ok(());
    }
    let reason = "cannot set any additional groups in a rootless container";
    Err(Error::invalid("process.user.additionalGids", reason))
}

/// `uid=` and `gid=` must name somebody whom the container has.
fn mount_option(option: &str, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let known = |map: &[IdMapping], id: u32| {
        map.iter().any(|one| {
            id.checked_sub(one.container_id)
                .is_some_and(|at| at < one.size)
        })
    };
    let found = match option.split_once('=') {
        Some(("uid", id)) => id.parse().map(|id| known(uids, id)),
        Some(("gid", id)) => id.parse().map(|id| known(gids, id)),
        _ => return Ok(()),
    };
    match found {
        Ok(false) => {
            let reason = format!(
                "cannot specify {option} mount option for rootless container: it is not mapped"
            );
            Err(Error::invalid("mounts", reason))
        }
        // One that is no number is the file system's matter.
        Ok(true) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_options_name_only_ids_that_the_container_has() {
        let one = |container_id, size| IdMapping {
            container_id,
            host_id: 1000,
            size,
        };
        let map = [one(0, 1), one(5, 2)];
        for good in ["uid=0", "gid=5", "gid=6", "mode=755", "uid=name"] {
            mount_option(good, &map, &map).unwrap();
        }
        for bad in ["uid=1", "gid=4", "gid=7"] {
            let error = mount_option(bad, &map, &map).unwrap_err().to_string();
            assert!(
                error.contains(bad) && error.contains("not mapped"),
                "{error}"
            );
        }
    }
}
