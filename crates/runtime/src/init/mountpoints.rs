//! The root file system of a container that somebody else will mount (criu, on a restore): a mount of
//! its own, with every place that something is going to be mounted on. Called in a mount namespace
//! that goes afterwards; what stays are directories and files to mount on, as after a creation.

use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use super::mounts::Mounts;
use super::{rootfs, target};
use crate::cgroup::Cgroup;
use crate::container::{NewContainer, Rootfs};
use crate::error::InitFailure;

/// Mounts everything as for a new container, so that all places are made, also those in other
/// mounts; then takes it down and leaves the root file system alone. Returns `places` without
/// symbolic links.
pub(crate) fn make_mountpoints(
    new: &NewContainer<'_>,
    cgroup: &Cgroup,
    places: &[&Path],
) -> Result<Vec<PathBuf>, InitFailure> {
    rootfs::make_private()?;
    let root = rootfs::prepare(new, rootfs::open(new, &[])?, false)?;
    Mounts {
        root: &root,
        new,
        cgroup,
        runtime: None,
        processes: None,
    }
    .perform()?;
    let places = places
        .iter()
        .map(|place| target::resolve(root.fd(), place))
        .collect();
    drop(root);
    if let Rootfs::Path(path) = &new.rootfs {
        unmount(path, UnmountFlags::DETACH)
            .map_err(InitFailure::at(format_args!("unmount {}", path.display())))?;
    }
    drop(rootfs::prepare(new, rootfs::open(new, &[])?, false)?);
    Ok(places)
}
