//! Mounts of a container that are the host's: binds, cgroups, masked files, device nodes. criu
//! leaves them out of the images under a key, their place inside, and gets a source for each key.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, fstat};

use super::message::{Message, Opt};
use crate::cgroup::Cgroup;
use crate::init;
use crate::spec::{NamespaceKind, Spec};

const NULL: &str = "/dev/null";

/// A mount whose source is on the host.
pub(super) struct Foreign {
    /// Its place inside, as config.json has it.
    pub(super) place: PathBuf,
    pub(super) source: PathBuf,
}

/// All of a container but masked files. `rootfs` and `cgroup` are its own. `managed`: criu sees to cgroups.
pub(super) fn foreign(
    spec: &Spec,
    bundle: &Path,
    rootfs: &Path,
    (cgroup, managed): (&Cgroup, bool),
) -> Vec<Foreign> {
    let mut all = Vec::new();
    let linux = spec.linux();
    // Of a namespace that criu is not to make it knows no root.
    let namespaced = managed && has_cgroup_namespace(spec);
    for mount in &spec.mounts {
        let place = init::inside(&mount.destination, rootfs);
        if init::is_bind(mount) {
            all.push(Foreign {
                place,
                source: bundle.join(mount.source.as_deref().unwrap_or(Path::new(""))),
            });
        } else if mount.kind.as_deref() == Some("cgroup") && !namespaced {
            all.extend(cgroups(&place, cgroup));
        }
    }
    // Bound where nodes cannot be made.
    all.extend(init::device_paths(linux).into_iter().map(|path| Foreign {
        place: path.clone(),
        source: path,
    }));
    all
}

/// Is the container in a cgroup namespace of its own?
pub(super) fn has_cgroup_namespace(spec: &Spec) -> bool {
    let mut namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    namespaces.any(|one| one.kind == NamespaceKind::Cgroup && one.path.is_none())
}

/// The binds that a mount of type cgroup is: one on v2, one for each hierarchy on v1.
fn cgroups(place: &Path, cgroup: &Cgroup) -> Vec<Foreign> {
    let directories = cgroup.directories();
    if let [only] = directories.as_slice()
        && only.unified
    {
        return vec![Foreign {
            place: place.to_owned(),
            source: only.path.clone(),
        }];
    }
    let named = directories.into_iter().filter_map(|directory| {
        Some(Foreign {
            place: place.join(directory.mount.file_name()?),
            source: directory.path,
        })
    });
    named.collect()
}

/// Names each mount that is to be left out. `root` is the running container's.
pub(super) fn leave_out(
    options: &mut Message,
    spec: &Spec,
    foreign: &[Foreign],
    root: BorrowedFd<'_>,
) {
    for one in foreign {
        let place = init::resolve(root, &one.place);
        let place = place.as_os_str().as_encoded_bytes();
        options.set_pair(Opt::ExtMnt, place, place);
    }
    let masked = spec.linux.iter().flat_map(|linux| &linux.masked_paths);
    for path in masked {
        let is_file = |path: &Path| {
            let place = init::open_inside(root, path, OFlags::PATH).ok()?;
            let stat = fstat(&place).ok()?;
            Some(FileType::from_raw_mode(stat.st_mode) != FileType::Directory)
        };
        if is_file(Path::new(path)) == Some(true) {
            let place = init::resolve(root, Path::new(path));
            let place = place.as_os_str().as_encoded_bytes();
            options.set_pair(Opt::ExtMnt, place, NULL.as_bytes());
        }
    }
}

/// Says where each mount that was left out comes from; `places` are those of `foreign` without
/// symbolic links.
pub(super) fn put_back(
    options: &mut Message,
    spec: &Spec,
    foreign: &[Foreign],
    places: &[PathBuf],
) {
    for (one, place) in foreign.iter().zip(places) {
        options.set_pair(
            Opt::ExtMnt,
            place.as_os_str().as_encoded_bytes(),
            one.source.as_os_str().as_encoded_bytes(),
        );
    }
    let masked = spec
        .linux
        .iter()
        .any(|linux| !linux.masked_paths.is_empty());
    if masked {
        options.set_pair(Opt::ExtMnt, NULL.as_bytes(), NULL.as_bytes());
    }
}
