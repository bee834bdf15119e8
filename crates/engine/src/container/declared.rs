//! Volumes that an image declares (its configuration's `Volumes`): directories of the container, or ones of their
//! own beside its writable layer, as `crio.image.image_volumes` says. A mount of the request at the same place
//! replaces one. Must never follow a link out of the container's root.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use image::config::ContainerConfig;
use runtime::spec::{self, Spec};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, open, openat2, readlinkat,
};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use store::{Access, MountOptions, RootFilesystem};

use super::volumes;
use crate::config::ImageVolumes;
use crate::disk;
use crate::error::{Error, Result};

/// The most that an image may declare.
const MOST: usize = 256;
/// The most links on the way to one, as the kernel has it.
const LINKS: usize = 40;
/// Of the directories that are made.
const MODE: Mode = Mode::from_raw_mode(0o755);

/// What the volumes of a container are made of.
pub(super) struct Place<'a> {
    /// Its root file system, which is mounted nowhere yet.
    pub(super) root: &'a RootFilesystem,
    /// Its directory in the store.
    pub(super) store: PathBuf,
    /// Its directory in the state of the engine.
    pub(super) bundle: &'a Path,
    /// Who the container runs as, user and group.
    pub(super) user: (u32, u32),
}

/// Makes the volumes that `image` declares and no mount of `config` replaces, and adds the mounts of those that
/// have a directory of their own.
///
/// # Errors
/// Too many of them, or a place that is no directory.
pub(super) fn make(
    way: ImageVolumes,
    image: &ContainerConfig,
    config: &mut Spec,
    place: &Place<'_>,
) -> Result<()> {
    if way == ImageVolumes::Ignore || image.volumes.is_empty() {
        return Ok(());
    }
    if image.volumes.len() > MOST {
        let reason = format!(
            "it declares {} volumes, and {MOST} are the most",
            image.volumes.len()
        );
        return Err(Error::invalid("config.image", reason));
    }
    let asked = |volume: &PathBuf| {
        config
            .mounts
            .iter()
            .any(|mount| mount.destination == *volume)
    };
    let wanted = image.volumes.keys().filter_map(|name| normal(name));
    let wanted: Vec<PathBuf> = wanted.filter(|volume| !asked(volume)).collect();
    match way {
        _ if wanted.is_empty() => Ok(()),
        ImageVolumes::Bind => bind_all(&wanted, config, place),
        _ => make_all(&wanted, place),
    }
}

/// A volume's place, absolute and without `..`; none for the root itself.
fn normal(name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::from("/");
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                path.pop();
            }
            _ => {}
        }
    }
    (path != Path::new("/")).then_some(path)
}

/// Gives each a directory beside the writable layer, with which it goes, and the owners that the container's files
/// have.
fn bind_all(volumes: &[PathBuf], config: &mut Spec, place: &Place<'_>) -> Result<()> {
    let linux = config.linux.as_ref();
    let (users, groups) = linux
        .map(|linux| (linux.uid_mappings.clone(), linux.gid_mappings.clone()))
        .unwrap_or_default();
    let mounts = &mut config.mounts;
    for (number, volume) in volumes.iter().enumerate() {
        let source = place.store.join("volumes").join(number.to_string());
        disk::make_dir(&source)?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(MODE.as_raw_mode());
        let opened = std::fs::set_permissions(&source, open);
        opened.map_err(Error::io("change the mode of", &source))?;
        let options = ["bind", "rprivate", "rw", "nosuid", "nodev"];
        let mount = spec::Mount {
            destination: volume.clone(),
            kind: Some("bind".to_owned()),
            source: Some(source),
            options: options.map(str::to_owned).to_vec(),
            uid_mappings: users.clone(),
            gid_mappings: groups.clone(),
        };
        // Before what is mounted below it.
        let below = |other: &spec::Mount| other.destination.starts_with(volume);
        let before = mounts.iter().position(below).unwrap_or(mounts.len());
        mounts.insert(before, mount);
    }
    Ok(())
}

/// Makes those that are missing in the container's root, for its user.
fn make_all(volumes: &[PathBuf], place: &Place<'_>) -> Result<()> {
    let failed = |volume: &Path, errno: Errno| {
        let reason = format!("its volume {}: {errno}", volume.display());
        Error::invalid("config.image", reason)
    };
    {
        let root = mounted(place.root, place.bundle, Access::Volatile)?;
        for volume in volumes {
            let made = make_below(root.as_fd(), volume, place.user);
            made.map_err(|errno| failed(volume, errno))?;
        }
    }
    Ok(place.root.forget_volatile()?)
}

/// The root file system, seen by nobody else, and gone with the descriptor.
pub(super) fn mounted(root: &RootFilesystem, bundle: &Path, access: Access) -> Result<OwnedFd> {
    let options = MountOptions::new(access);
    match root.open(&options) {
        Err(store::Error::Unsupported { .. }) => {}
        other => return Ok(other?),
    }
    let at = volumes::place(bundle, MOST);
    disk::make_dir(&at)?;
    root.mount_by_paths(&at, &options)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(&at, flags, Mode::empty());
    let detached = unmount(&at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    detached.map_err(|errno| Error::io("unmount", &at)(errno.into()))?;
    std::fs::remove_dir(&at).map_err(Error::io("remove", &at))?;
    root.map_err(|errno| Error::io("open", &at)(errno.into()))
}

/// Makes a directory and those above it that are missing; what is there stays as it is.
fn make_below(
    root: BorrowedFd<'_>,
    volume: &Path,
    (user, group): (u32, u32),
) -> rustix::io::Result<()> {
    let mut parts: VecDeque<OsString> = names(volume).collect();
    let mut reached = PathBuf::from(".");
    let mut links = 0;
    while let Some(part) = parts.pop_front() {
        if part == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(&part);
        match inside(root, &next) {
            Ok(_) => {
                reached = next;
                continue;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let parent = inside(root, &reached)?;
        match mkdirat(&parent, &part, MODE) {
            Ok(()) => {
                let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                chownat(&parent, &part, Some(user), Some(group), flags)?;
                reached = next;
            }
            // A link to what is missing.
            Err(Errno::EXIST) if links < LINKS => {
                links += 1;
                let target = readlinkat(&parent, &part, Vec::new())?;
                let target = PathBuf::from(os(target.as_bytes()));
                if target.is_absolute() {
                    reached = PathBuf::from(".");
                }
                for part in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    parts.push_front(part);
                }
            }
            Err(Errno::EXIST) => return Err(Errno::LOOP),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn os(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        _ => None,
    })
}

/// A directory of the container's root, links followed in it.
fn inside(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    openat2(root, path, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_place_is_absolute_and_below_the_root() {
        let normal = |name| normal(name).map(|path| path.display().to_string());
        assert_eq!(normal("data/../x//y/.").as_deref(), Some("/x/y"));
        assert_eq!(normal("/../../etc").as_deref(), Some("/etc"));
        for root in ["", "/", ".", "a/..", "../.."] {
            assert_eq!(normal(root), None);
        }
    }

    #[test]
    fn missing_directories_are_made_where_links_lead_inside_and_never_outside() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("there")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        symlink(outside.path(), at("out")).unwrap();
        symlink("there/far/../near", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let root = open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        let make = |name: &str| make_below(root.as_fd(), Path::new(name), (0, 0));
        make("/new/deep").unwrap();
        make("/there").unwrap();
        make("/dangling/x").unwrap();
        make("/out/made").unwrap();
        assert!(at("new/deep").is_dir() && at("there/near/x").is_dir());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        let below = outside.path().strip_prefix("/").unwrap().join("made");
        assert!(dir.path().join(below).is_dir());
        assert_eq!(make("/file"), Err(Errno::NOTDIR));
        assert_eq!(make("/file/x"), Err(Errno::NOTDIR));
        assert_eq!(make("/loop/x"), Err(Errno::LOOP));
    }
}
