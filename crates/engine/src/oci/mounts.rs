//! runtime-spec `mounts`: the usual file systems, the pod's files under /etc, /dev/shm, and the
//! request's mounts in order.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use base::mountinfo;
use runtime::spec;
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxFlags, statvfs, statx};

use super::Inputs;
use super::host::Host;
use crate::annotations;
use crate::config::Config;
use crate::container::{Mount, Propagation, volumes};
use crate::error::{Error, Result};
use crate::pod::{NamespaceMode, NamespaceModes, UserIds};

/// The group `tty`.
const TTY: u32 = 5;

/// The pod's files that its containers see, and where.
pub(super) const POD_FILES: [(&str, &str); 4] = [
    ("resolv.conf", "/etc/resolv.conf"),
    ("hostname", "/etc/hostname"),
    ("hosts", "/etc/hosts"),
    // By which programs see that they are in a container.
    ("containerenv", "/run/.containerenv"),
];

/// Where the time zone is.
const LOCALTIME: &str = "/etc/localtime";
/// All zones, unless `TZDIR` names another directory.
const ZONES: &str = "/usr/share/zoneinfo";

/// The file of a time zone of the configuration's, links followed; `None`: it has none.
///
/// # Errors
/// There is no such zone on this node.
pub(super) fn zone(name: &str) -> Result<Option<PathBuf>> {
    let path = match name {
        "" => return Ok(None),
        "local" => PathBuf::from(LOCALTIME),
        name => {
            let zones = std::env::var_os("TZDIR").filter(|dir| !dir.is_empty());
            PathBuf::from(zones.unwrap_or_else(|| ZONES.into())).join(name)
        }
    };
    let found = path.canonicalize().ok().filter(|found| found.is_file());
    found.map(Some).ok_or_else(|| Error::Config {
        origin: "crio.runtime.timezone".into(),
        reason: format!("{name:?}: there is no file {}", path.display()),
    })
}

/// `devices` are those that are bound.
pub(super) fn build(
    inputs: &Inputs<'_>,
    host: &Host,
    devices: Vec<spec::Mount>,
) -> Result<Vec<spec::Mount>> {
    let mut all = system(inputs, host);
    let requested = &inputs.container.spec.mounts;
    let taken = |path: &str| {
        requested
            .iter()
            .any(|mount| mount.container_path == Path::new(path))
    };
    let pod_dir = &host.pod_dir;
    let read_only = inputs.container.spec.security.readonly_rootfs;
    for (name, target) in POD_FILES {
        if !taken(target) && host.pod_files.contains(&name) {
            let access = if read_only { "ro" } else { "rw" };
            all.push(bind(&pod_dir.join(name), target, access));
        }
    }
    if let Some(zone) = &host.zone
        && !taken(LOCALTIME)
    {
        all.push(bind(zone, LOCALTIME, "ro"));
    }
    if !taken("/dev/shm") {
        let node = inputs.pod.spec.namespaces.ipc == NamespaceMode::Node;
        let source = if node {
            PathBuf::from("/dev/shm")
        } else {
            pod_dir.join("shm")
        };
        let mut shm = bind(&source, "/dev/shm", "rw");
        if !node {
            // As it is mounted: the options of a bind mount are its own.
            shm.options.push("noexec".to_owned());
        }
        all.push(shm);
    }
    let given = host.default_mounts.iter();
    all.extend(given.map(|pair| {
        let target = pair.target.display().to_string();
        let options = ["rbind", "rprivate", "nosuid", "nodev", "ro"];
        let mut made = bind_with("", &target, &options);
        made.source = Some(pair.source.clone());
        made
    }));
    all.extend(devices);
    // A mount over one of the system's own replaces it.
    all.retain(|mount| {
        !requested
            .iter()
            .any(|asked| asked.container_path == mount.destination)
    });
    for (mount, source) in requested.iter().zip(&host.sources) {
        all.push(request(mount, source)?);
    }
    Ok(all)
}

/// Mounts with rshared or rslave need a root that lets events through.
pub(super) fn root_propagation(inputs: &Inputs<'_>) -> Option<String> {
    let strongest = inputs
        .container
        .spec
        .mounts
        .iter()
        .map(|mount| mount.propagation)
        .max_by_key(|p| match p {
            Propagation::Private => 0,
            Propagation::HostToContainer => 1,
            Propagation::Bidirectional => 2,
        })?;
    match strongest {
        Propagation::Private => None,
        Propagation::HostToContainer => Some("rslave".into()),
        Propagation::Bidirectional => Some("rshared".into()),
    }
}

fn system(inputs: &Inputs<'_>, host: &Host) -> Vec<spec::Mount> {
    let sys = if inputs.privileged() { "rw" } else { "ro" };
    let cgroup = match host.cgroup_v2 && inputs.annotations().is_true(annotations::CGROUP_RW) {
        true => "rw",
        false => sys,
    };
    let modes = &inputs.pod.spec.namespaces;
    let mut all = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        terminals(modes),
    ];
    // It shows the IPC namespace; the node's belongs to no user namespace of a pod.
    let options = ["nosuid", "noexec", "nodev"];
    match modes.ipc {
        NamespaceMode::Node if modes.users.ids().is_some() => {
            let options = [&["bind", "rprivate"][..], &options].concat();
            let bound = || bind_with("/dev/mqueue", "/dev/mqueue", &options);
            all.extend(host.mqueue.then(bound));
        }
        _ => all.push(mount("mqueue", "mqueue", "/dev/mqueue", &options)),
    }
    all.push(match modes.network {
        // sysfs shows the network namespace it was mounted in, which its owner may forbid to mount anew.
        NamespaceMode::Node => bind_with(
            "/sys",
            "/sys",
            &["rbind", "nosuid", "noexec", "nodev", sys, "rprivate"],
        ),
        _ => mount(
            "sysfs",
            "sysfs",
            "/sys",
            &["nosuid", "noexec", "nodev", sys],
        ),
    });
    all.push(mount(
        "cgroup",
        "cgroup",
        "/sys/fs/cgroup",
        &["nosuid", "noexec", "nodev", "relatime", cgroup],
    ));
    all
}

/// Pseudo-terminals; they belong to the group that is tty everywhere, if there is such a group.
fn terminals(modes: &NamespaceModes) -> spec::Mount {
    let options = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    let mut made = mount("devpts", "devpts", "/dev/pts", &options);
    let there = |ids: &UserIds| ids.user(0).is_some() && ids.group(TTY).is_some();
    if modes.users.ids().is_none_or(there) {
        made.options.push(format!("gid={TTY}"));
    }
    made
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> spec::Mount {
    spec::Mount {
        destination: target.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..spec::Mount::default()
    }
}

fn bind(source: &Path, target: &str, access: &str) -> spec::Mount {
    let mut made = bind_with("", target, &["bind", "rprivate", "nosuid", "nodev", access]);
    made.source = Some(source.to_owned());
    made
}

fn bind_with(source: &str, target: &str, options: &[&str]) -> spec::Mount {
    mount("bind", source, target, options)
}

/// Where the source of a mount is on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Without links; as it was asked for where nothing is there.
    pub(super) path: PathBuf,
    /// Nothing is there, and a directory is to be made.
    pub(super) missing: bool,
    /// Is the mount that holds it shared? Looked at where the request needs it.
    pub(super) shared: bool,
    /// It is mounted read-only on the node: so it stays.
    pub(super) read_only: bool,
    /// The type of its file system, if its owners are to be mapped and that type has none of it.
    pub(super) unmapped: Option<String>,
}

/// Looks for the sources of the request's mounts; a symlink is followed on the node. Images are mounted in
/// the container's directory, `bundle`, before the container is made.
///
/// # Errors
/// A source that is missing, unless `config` has it made; the field is named.
pub(super) fn look(requested: &[Mount], config: &Config, bundle: &Path) -> Result<Vec<Source>> {
    let prefix = &config.runtime.bind_mount_prefix;
    let rejected = &config.runtime.absent_mount_sources_to_reject;
    let made = |path: &PathBuf| config.compat.make_mount_sources && !rejected.contains(path);
    let mut shared = SharedMounts::default();
    let mut mapped = MappedSources::default();
    let mut one = |(number, asked): (usize, &Mount)| {
        if asked.image.is_some() {
            return Ok(Source {
                path: volumes::place(bundle, number),
                missing: false,
                shared: false,
                read_only: false,
                unmapped: None,
            });
        }
        let wanted = prefixed(prefix, &asked.host_path);
        let (path, missing) = match wanted.canonicalize() {
            Ok(path) => (path, false),
            Err(e) if e.kind() == ErrorKind::NotFound && made(&asked.host_path) => (wanted, true),
            Err(e) => return Err(unusable(asked)(e)),
        };
        let shared = match asked.propagation {
            Propagation::Bidirectional => shared.holds(&nearest(&path))?,
            _ => false,
        };
        let unmapped = match &asked.ids {
            Some(ids) => mapped
                .lacks(&nearest(&path), ids)
                .map_err(unusable(asked))?,
            None => None,
        };
        let read_only = !missing && !asked.readonly && is_read_only(&path);
        Ok(Source {
            path,
            missing,
            shared,
            read_only,
            unmapped,
        })
    };
    requested.iter().enumerate().map(&mut one).collect()
}

/// Is what is there mounted read-only? What cannot be asked is not: to mount it will say why.
fn is_read_only(path: &Path) -> bool {
    let flags = statvfs(path).map(|found| found.f_flag);
    flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY))
}

/// Where a path of the request is on this node.
fn prefixed(prefix: &Path, path: &Path) -> PathBuf {
    match prefix.as_os_str().is_empty() {
        true => path.to_owned(),
        false => prefix.join(path.strip_prefix("/").unwrap_or(path)),
    }
}

/// What is there of a path, without links: what is made below lies on the same mount.
fn nearest(path: &Path) -> PathBuf {
    let mut above = path.ancestors();
    let there = above.find_map(|path| path.canonicalize().ok());
    there.unwrap_or_else(|| PathBuf::from("/"))
}

/// Makes the sources that are missing as directories, where the configuration has CRI-O's way. `mounts` ends
/// with those of the request.
pub(super) fn make_sources(
    inputs: &Inputs<'_>,
    host: &Host,
    mounts: &mut [spec::Mount],
) -> Result<()> {
    let requested = &inputs.container.spec.mounts;
    let system = mounts.len() - requested.len();
    for ((asked, source), mount) in requested
        .iter()
        .zip(&host.sources)
        .zip(&mut mounts[system..])
    {
        if source.missing {
            std::fs::create_dir_all(&source.path).map_err(unusable(asked))?;
            let made = source.path.canonicalize().map_err(unusable(asked))?;
            mount.source = Some(made);
        }
    }
    Ok(())
}

fn field(asked: &Mount) -> String {
    format!("mounts[{}].host_path", asked.container_path.display())
}

fn unusable(asked: &Mount) -> impl FnOnce(std::io::Error) -> Error {
    let (field, path) = (field(asked), asked.host_path.display().to_string());
    move |e| Error::invalid(field, format!("{path}: {e}"))
}

fn request(asked: &Mount, source: &Source) -> Result<spec::Mount> {
    let propagation = match asked.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional if source.shared => "rshared",
        Propagation::Bidirectional => {
            let reason = format!(
                "{} is not on a shared mount, as PROPAGATION_BIDIRECTIONAL needs",
                source.path.display()
            );
            return Err(Error::invalid(field(asked), reason));
        }
    };
    if let Some(kind) = &source.unmapped {
        let reason = format!(
            "{} is on a file system of type {kind}, whose owners cannot be mapped as a user namespace needs it",
            source.path.display()
        );
        return Err(Error::invalid(field(asked), reason));
    }
    // An image is mounted with the owners that it has inside.
    let ids = asked.ids.clone().filter(|_| asked.image.is_none());
    let ids = ids.unwrap_or_default();
    // A container may not write where the node itself does not: its own logs in one of its volumes, for one.
    let access = match (
        asked.recursive_read_only,
        asked.readonly || source.read_only,
    ) {
        (true, _) => "rro",
        (false, true) => "ro",
        (false, false) => "rw",
    };
    let mut options = ["rbind", propagation, access].map(String::from).to_vec();
    if asked.image.is_some() {
        // Whoever made the image is no administrator of the node.
        options.extend(["nosuid", "nodev"].map(String::from));
    }
    for option in &asked.options {
        if !options.contains(option) {
            options.push(option.clone());
        }
    }
    Ok(spec::Mount {
        destination: asked.container_path.clone(),
        kind: Some("bind".into()),
        source: Some(source.path.clone()),
        options,
        uid_mappings: ids.uids,
        gid_mappings: ids.gids,
    })
}

/// Asks the kernel whether owners can be mapped, by one user namespace for all mounts of the same ids.
#[derive(Default)]
struct MappedSources(Vec<(UserIds, OwnedFd)>);

impl MappedSources {
    /// The type of the file system that holds `path`, if it maps none; that a mount below it may have another
    /// changes nothing.
    fn lacks(&mut self, path: &Path, ids: &UserIds) -> std::io::Result<Option<String>> {
        let known = self.0.iter().position(|(known, _)| known == ids);
        let place = match known {
            Some(place) => place,
            None => {
                let users = runtime::user_namespace(&ids.uids, &ids.gids)
                    .map_err(|error| std::io::Error::other(error.to_string()))?;
                self.0.push((ids.clone(), users));
                self.0.len() - 1
            }
        };
        match runtime::kernel::maps_owners(path, self.0[place].1.as_fd())? {
            true => Ok(None),
            false => type_of(path).map(Some),
        }
    }
}

/// The type of the file system that a path is on.
fn type_of(path: &Path) -> std::io::Result<String> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    let table = mountinfo::read()?;
    let found = mountinfo::parse(&table).find(|mount| mount.id == stat.stx_mnt_id);
    Ok(found.map_or_else(|| "unknown".to_owned(), |mount| mount.kind.to_owned()))
}

/// The node's mounts and whether they are shared, read when
/// first asked for: a container may have thousands of mounts, and so may the node.
#[derive(Default)]
struct SharedMounts(Option<HashMap<PathBuf, bool>>);

impl SharedMounts {
    /// Is the mount that holds `path` shared?
    fn holds(&mut self, path: &Path) -> Result<bool> {
        let table = match &mut self.0 {
            Some(table) => table,
            none => none.insert(read_shared()?),
        };
        let mut above = path.ancestors();
        Ok(above
            .find_map(|dir| table.get(dir).copied())
            .unwrap_or(false))
    }
}

fn read_shared() -> Result<HashMap<PathBuf, bool>> {
    let table = mountinfo::read().map_err(Error::io("read", "/proc/self/mountinfo"))?;
    // Of mounts at one point the last one is on top.
    Ok(mountinfo::parse(&table)
        .map(|mount| (mount.point, mount.shared))
        .collect())
}
