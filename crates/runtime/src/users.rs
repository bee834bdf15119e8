//! config-linux.md, user namespaces: the ids of a new one, written by a process outside of it, and
//! namespaces that only carry ids, for idmapped mounts (user_namespaces(7), mount_setattr(2)).
//!
//! Never guesses an id: what config.json does not map stays unmapped.

use std::os::fd::OwnedFd;
use std::process::Command;

use crate::error::{Error, InitFailure, Result};
use crate::namespaces;
use crate::spec::{IdMapping, Mount, NamespaceKind, Spec};
use crate::sys;

/// The ids of one user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids<'a> {
    uids: &'a [IdMapping],
    gids: &'a [IdMapping],
}

/// Which kind of id a map is of.
#[derive(Debug, Clone, Copy)]
enum Kind {
    User,
    Group,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Self::User => "uid_map",
            Self::Group => "gid_map",
        }
    }

    /// The set-user-ID program of shadow that writes maps which /etc/subuid and /etc/subgid allow.
    fn helper(self) -> &'static str {
        match self {
            Self::User => "newuidmap",
            Self::Group => "newgidmap",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::User => "uidMappings",
            Self::Group => "gidMappings",
        }
    }
}

impl<'a> Ids<'a> {
    /// Those of the container's own new user namespace; `None` if it makes none.
    pub(crate) fn of_container(spec: &'a Spec) -> Option<Self> {
        let linux = spec.linux.as_ref()?;
        let new = |namespace: &crate::spec::Namespace| {
            namespace.kind == NamespaceKind::User && namespace.path.is_none()
        };
        linux.namespaces.iter().any(new).then_some(Self {
            uids: &linux.uid_mappings,
            gids: &linux.gid_mappings,
        })
    }

    /// Those of an idmapped mount: its own, or else the container's. `None` if it is not idmapped.
    fn of_mount(spec: &'a Spec, mount: &'a Mount) -> Option<Self> {
        if !mount.uid_mappings.is_empty() {
            return Some(Self {
                uids: &mount.uid_mappings,
                gids: &mount.gid_mappings,
            });
        }
        let linux = spec.linux.as_ref()?;
        let words = |word: &String| word == "idmap" || word == "ridmap";
        mount.options.iter().any(words).then_some(Self {
            uids: &linux.uid_mappings,
            gids: &linux.gid_mappings,
        })
    }

    /// Lets a process whose user namespace is new, and that has no ids yet, have these.
    ///
    /// # Errors
    /// A map that the kernel, or newuidmap(1), does not take.
    pub(crate) fn write(&self, pid: i32) -> Result<()> {
        let privileged = rustix::process::geteuid().is_root();
        let own = rustix::process::getegid().as_raw();
        if !privileged && matches!(self.gids, [one] if one.size == 1 && one.host_id == own) {
            // Without privileges a process may map its own group, once it cannot drop groups.
            let path = format!("/proc/{pid}/setgroups");
            std::fs::write(&path, "deny").map_err(|source| Error::Io {
                operation: "write",
                path: path.into(),
                source,
            })?;
        }
        write_map(pid, Kind::User, self.uids, privileged)?;
        write_map(pid, Kind::Group, self.gids, privileged)
    }

    /// A user namespace that has these ids and no process.
    fn namespace(&self) -> Result<OwnedFd> {
        let holder = sys::Holder::of_users().map_err(Error::io("clone", "a user namespace"))?;
        let pid = holder.pid();
        self.write(pid)?;
        namespaces::open(pid, "user")
    }
}

/// A user namespace that has these ids and no process, for idmapped mounts; it is gone with its last
/// descriptor and mount. The caller may have threads.
///
/// # Errors
/// A process that cannot be made, or a map that the kernel does not take.
pub fn user_namespace(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    Ids { uids, gids }.namespace()
}

/// Gives a process whose user namespace is new, and that has no ids yet, these: once, and from outside.
///
/// # Errors
/// A map that the kernel, or newuidmap(1), does not take.
pub fn map_users(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    Ids { uids, gids }.write(pid)
}

fn write_map(pid: i32, kind: Kind, map: &[IdMapping], privileged: bool) -> Result<()> {
    let path = format!("/proc/{pid}/{}", kind.file());
    // One write: the kernel takes no second.
    match std::fs::write(&path, text(map)) {
        Ok(()) => Ok(()),
        Err(error) if privileged || error.raw_os_error() != Some(libc::EPERM) => {
            Err(refused(kind, map, &error.to_string()))
        }
        Err(_) => by_helper(pid, kind, map),
    }
}

fn by_helper(pid: i32, kind: Kind, map: &[IdMapping]) -> Result<()> {
    let numbers = map
        .iter()
        .flat_map(|one| [one.container_id, one.host_id, one.size])
        .map(|number| number.to_string());
    let done = Command::new(kind.helper())
        .arg(pid.to_string())
        .args(numbers)
        .output()
        .map_err(|error| refused(kind, map, &format!("{}: {error}", kind.helper())))?;
    match done.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&done.stderr);
            Err(refused(
                kind,
                map,
                &format!("{}: {}", kind.helper(), said.trim()),
            ))
        }
    }
}

fn refused(kind: Kind, map: &[IdMapping], reason: &str) -> Error {
    let map = text(map).trim_end().replace('\n', ", ");
    Error::invalid(
        format!("linux.{}", kind.field()),
        format!("{map:?} is refused: {reason}"),
    )
}

fn text(map: &[IdMapping]) -> String {
    map.iter()
        .map(|one| format!("{} {} {}\n", one.container_id, one.host_id, one.size))
        .collect()
}

/// For each mount that is idmapped, the user namespace with its ids; equal ones share one.
pub(crate) fn of_mounts(spec: &Spec) -> Result<Vec<Option<OwnedFd>>> {
    let mut made: Vec<(Ids<'_>, usize)> = Vec::new();
    let mut all: Vec<Option<OwnedFd>> = Vec::new();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let Some(ids) = Ids::of_mount(spec, mount) else {
            all.push(None);
            continue;
        };
        let equal = made.iter().find(|(other, _)| *other == ids);
        let fd = match equal.and_then(|(_, at)| all.get(*at)?.as_ref()) {
            Some(fd) => fd.try_clone().map_err(|source| Error::Io {
                operation: "duplicate",
                path: "user namespace".into(),
                source,
            })?,
            None => match joined(spec, ids)? {
                Some(joined) => joined,
                None if ids.uids.is_empty() => {
                    return Err(Error::invalid("mounts", "an idmapped mount needs mappings"));
                }
                None => ids.namespace()?,
            },
        };
        made.push((ids, index));
        all.push(Some(fd));
    }
    Ok(all)
}

/// The user namespace that the container joins, where a mount is to have its ids: it names none, or those
/// that config.json says this namespace has.
fn joined(spec: &Spec, ids: Ids<'_>) -> Result<Option<OwnedFd>> {
    let Some(linux) = &spec.linux else {
        return Ok(None);
    };
    let own = ids.uids == linux.uid_mappings && ids.gids == linux.gid_mappings;
    let mut namespaces = linux.namespaces.iter();
    let path = namespaces
        .find(|namespace| namespace.kind == NamespaceKind::User)
        .and_then(|namespace| namespace.path.clone());
    match path.filter(|_| own || ids.uids.is_empty()) {
        Some(path) => namespaces::open_file(path).map(Some),
        None => Ok(None),
    }
}

/// What is done with supplementary groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    /// They become those of the process.
    Free,
    /// The user namespace does not let processes set theirs.
    Denied,
    /// The caller's stay, as the annotation that crun knows asks for: a user then keeps the access to
    /// files that these give.
    Kept,
}

impl Groups {
    /// For a process of this container, in the user namespace that `process` (`self`, or a process id)
    /// is in.
    pub(crate) fn of(spec: &Spec, process: &str) -> Self {
        let keep = spec.annotations.get("run.oci.keep_original_groups");
        match keep.map(String::as_str) {
            Some("1" | "true") => Self::Kept,
            _ if groups_denied(process) => Self::Denied,
            _ => Self::Free,
        }
    }
}

/// Becomes root of the user namespace this process is in, and of nothing else: without that,
/// whatever it makes has an owner that the namespace does not know.
pub(crate) fn become_root(groups: Groups) -> std::result::Result<(), InitFailure> {
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    if groups == Groups::Free {
        rustix::thread::set_thread_groups(&[]).map_err(InitFailure::at("drop groups"))?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(InitFailure::at("become group 0 of the user namespace"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .map_err(InitFailure::at("become user 0 of the user namespace"))?;
    // The change of user may have made it open to others.
    sys::not_dumpable().map_err(InitFailure::at("prctl PR_SET_DUMPABLE"))
}

/// May a process (`self`, or a process id) of a user namespace not change its groups? Kernels
/// without `/proc/PID/setgroups` let it.
fn groups_denied(process: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/setgroups"))
        .is_ok_and(|text| text.trim_end() == "deny")
}

/// What of the mappings can be refused before anything is made.
pub(crate) fn check(spec: &Spec) -> Result<()> {
    let Some(linux) = &spec.linux else {
        return Ok(());
    };
    let mut namespaces = linux.namespaces.iter();
    let user = namespaces.find(|namespace| namespace.kind == NamespaceKind::User);
    for (kind, map) in [
        (Kind::User, &linux.uid_mappings),
        (Kind::Group, &linux.gid_mappings),
    ] {
        let field = format!("linux.{}", kind.field());
        match user {
            None if !map.is_empty() => {
                return Err(Error::invalid(field, "needs a user namespace"));
            }
            Some(new) if new.path.is_none() => {
                if map.is_empty() {
                    return Err(Error::invalid(
                        field,
                        "is missing: a new user namespace needs it",
                    ));
                }
                if !map.iter().any(|one| one.container_id == 0 && one.size > 0) {
                    return Err(Error::invalid(field, "does not map id 0 of the container"));
                }
                check_map(&field, map)?;
            }
            _ => {}
        }
    }
    spec.mounts
        .iter()
        .enumerate()
        .try_for_each(|(index, mount)| check_mount(index, mount))
}

fn check_mount(index: usize, mount: &Mount) -> Result<()> {
    let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
    if uids.is_empty() != gids.is_empty() {
        return Err(Error::invalid(
            format!("mounts[{index}]"),
            "uidMappings and gidMappings go together",
        ));
    }
    let bind = mount.kind.as_deref() == Some("bind")
        || mount
            .options
            .iter()
            .any(|word| word == "bind" || word == "rbind");
    let words = |word: &String| word == "idmap" || word == "ridmap";
    if !bind && (!uids.is_empty() || mount.options.iter().any(words)) {
        return Err(Error::invalid(
            format!("mounts[{index}]"),
            "only bind mounts can be idmapped",
        ));
    }
    check_map(&format!("mounts[{index}].uidMappings"), uids)?;
    check_map(&format!("mounts[{index}].gidMappings"), gids)
}

fn check_map(field: &str, map: &[IdMapping]) -> Result<()> {
    let ends = |first: u32, size: u32| first.checked_add(size.saturating_sub(1)).is_some();
    match map.iter().find(|one| {
        one.size == 0 || !ends(one.container_id, one.size) || !ends(one.host_id, one.size)
    }) {
        Some(one) => Err(Error::invalid(
            field,
            format!(
                "\"{} {} {}\" is no range of ids",
                one.container_id, one.host_id, one.size
            ),
        )),
        None => Ok(()),
    }
}
