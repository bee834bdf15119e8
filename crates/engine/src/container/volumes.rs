//! Image volumes (CRI Mount.image): the files of an image, or of an artifact, at a place of a container, always
//! read-only.
//!
//! The image's layers are held as those of a container's own image are, by a writable layer ([`layer`]) that stays
//! empty. They are mounted below `volumes` in the container's directory, with the owners and the label that the
//! container needs, and only while the container is made: what runs it binds them into the container's mount
//! namespace, and then the node has them no more. What a kill in between leaves is detached by whoever
//! removes the directory. A sub path is looked for by the kernel inside of the mounted image alone: no link of the
//! image leads out of it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use runtime::spec::Spec;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use store::{Access, MountOptions, Store};

use super::{ContainerSpec, ImageVolume, Propagation};
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler;
use crate::image::ImageRecord;
use crate::oci::Owners;
use crate::pod::Origin;
use crate::pod::record::PodRecord;

/// The directory in a container's.
const PLACES: &str = "volumes";
/// What the name of a volume's layer begins with.
const LAYER: &str = "volume-";

/// The name in the store of what holds the layers of a container's volume; `number` is that of the mount.
fn layer(container: &str, number: &str) -> String {
    format!("{LAYER}{container}-{number}")
}

/// Whose a layer in the store is: a container's own, or one of a volume of it.
pub(crate) fn container_of(layer: &str) -> &str {
    let volume = layer.strip_prefix(LAYER);
    let container = volume.and_then(|name| name.rsplit_once('-'));
    container.map_or(layer, |(container, _)| container)
}

/// Where the mount of that number has its files while the container is made.
pub(crate) fn place(bundle: &Path, number: usize) -> PathBuf {
    bundle.join(PLACES).join(number.to_string())
}

/// May a volume be mounted in the directory of a container? Those of a pod go one by one before it.
pub(crate) fn may_be_mounted(dir: &Path) -> bool {
    dir.join(PLACES).exists()
}

/// What a request may not ask of an image volume, beside what is wrong with any mount.
pub(super) fn validate(spec: &ContainerSpec) -> Result<()> {
    for mount in spec.mounts.iter().filter(|mount| mount.image.is_some()) {
        let field = |part: &str| format!("mounts[{}].{part}", mount.container_path.display());
        if !mount.readonly {
            return Err(Error::invalid(
                field("readonly"),
                "an image volume is never writable",
            ));
        }
        if mount.propagation == Propagation::Bidirectional {
            let reason = "nothing can be mounted in an image volume that the node would see";
            return Err(Error::invalid(field("propagation"), reason));
        }
    }
    Ok(())
}

impl Engine {
    /// Looks for the images that a container's mounts name, whose ids are known afterwards: by the number of the mount.
    pub(super) fn volume_images(
        &self,
        pod: &PodRecord,
        spec: &mut ContainerSpec,
    ) -> Result<Vec<(usize, ImageRecord)>> {
        let mut found = Vec::new();
        for (number, mount) in spec.mounts.iter_mut().enumerate() {
            let Some(volume) = &mut mount.image else {
                continue;
            };
            if mount.ids.is_some() && mount.ids.as_ref() != pod.spec.namespaces.users.ids() {
                let field = format!("mounts[{}].uidMappings", mount.container_path.display());
                let reason = "an image volume's files have the owners of the pod's user namespace";
                return Err(Error::invalid(field, reason));
            }
            let image = self.image(&volume.image).and_then(|image| {
                if pod.spec.origin == Origin::Cri {
                    self.admit_stored(&image, volume.named_image(), &pod.spec.namespace)?;
                }
                Ok(image)
            });
            let image = image.map_err(failed(volume))?;
            volume.id.clone_from(&image.id);
            found.push((number, image));
        }
        Ok(found)
    }

    /// Forgets the volumes of a container that has ended, made or half made.
    pub(super) fn discard_volumes(&self, bundle: &Path, id: &str) -> Result<()> {
        let numbers = disk::entries(&bundle.join(PLACES))?;
        if numbers.is_empty() {
            return Ok(());
        }
        handler::release(bundle)?;
        for number in numbers {
            self.store().remove_writable_layer(&layer(id, &number))?;
        }
        Ok(())
    }
}

/// The volumes of a container that is being made. Dropped, they are mounted on the node no more.
#[derive(Debug, Default)]
pub(super) struct Mounted(Vec<PathBuf>);

impl Mounted {
    /// Mounts the images where config.json, `spec`, looks for them.
    pub(super) fn new(
        store: &Store,
        (id, bundle): (&str, &Path),
        asked: &ContainerSpec,
        images: &[(usize, ImageRecord)],
        spec: &Spec,
    ) -> Result<Self> {
        let mut mounted = Self::default();
        if images.is_empty() {
            return Ok(mounted);
        }
        let owners = Owners::of(spec)?;
        for (number, image) in images {
            let volume = asked
                .mounts
                .get(*number)
                .and_then(|mount| mount.image.as_ref());
            let Some(volume) = volume else { continue };
            let place = place(bundle, *number);
            let mut mount = || {
                disk::make_dir(&place)?;
                let layer = layer(id, &number.to_string());
                let root = match image.is_artifact() {
                    true => store.create_file_layer(&layer, image)?,
                    false => store.create_writable_layer(&layer, image)?,
                };
                mounted.0.push(place.clone());
                let options = owners.options(Access::ReadOnly);
                show(&root, &options, &place, &volume.sub_path)
            };
            mount().map_err(failed(volume))?;
        }
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for place in &self.0 {
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            match unmount(place, flags) {
                // Its making failed before it was mounted.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => {
                    tracing::warn!(path = %place.display(), "an image volume stays mounted until its container is removed: {errno}");
                }
            }
        }
    }
}

fn failed(volume: &ImageVolume) -> impl FnOnce(Error) -> Error + use<> {
    let image = volume.named_image().to_owned();
    move |source| Error::ImageVolume {
        image,
        source: Box::new(source),
    }
}

/// Mounts an image, or what it has at a sub path, at a directory, which becomes a file where that is one.
fn show(
    root: &store::RootFilesystem,
    options: &MountOptions<'_>,
    place: &Path,
    sub_path: &Path,
) -> Result<()> {
    root.mount_at(place, options)?;
    if sub_path.as_os_str().is_empty() {
        return Ok(());
    }
    let at = |what| move |errno: Errno| Error::io(what, place)(errno.into());
    let whole = open(
        place,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let part = part_of(whole.map_err(at("open"))?.as_fd(), sub_path)?;
    let kind = fstat(&part).map_err(at("stat"))?.st_mode;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&part, c"", flags).map_err(at("clone a mount of"))?;
    drop(part);
    unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(at("unmount"))?;
    match FileType::from_raw_mode(kind) {
        FileType::Directory => {}
        FileType::RegularFile => {
            std::fs::remove_dir(place).map_err(Error::io("remove", place))?;
            File::create_new(place).map_err(Error::io("create", place))?;
        }
        _ => {
            let reason = format!("{} is neither a directory nor a file", sub_path.display());
            return Err(Error::invalid("image_sub_path", reason));
        }
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, c"", CWD, place, flags).map_err(at("mount on"))
}

/// What a mounted image has at a path, links followed in it.
fn part_of(image: BorrowedFd<'_>, sub_path: &Path) -> Result<OwnedFd> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    openat2(
        image,
        sub_path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        inside,
    )
    .map_err(|errno| {
        let path = sub_path.display();
        let reason = match errno {
            Errno::NOENT | Errno::NOTDIR => format!("{path} does not exist in the image"),
            other => format!("{path} of the image: {other}"),
        };
        Error::invalid("image_sub_path", reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_of_a_volume_is_its_containers() {
        let id = "a".repeat(64);
        assert_eq!(container_of(&layer(&id, "12")), id);
        assert_eq!(container_of(&id), id);
        assert_eq!(container_of("volume-"), "volume-");
    }

    #[test]
    fn a_sub_path_stays_in_the_image_whatever_its_links_say() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "node").unwrap();
        let image = tempfile::tempdir().unwrap();
        let path = |name: &str| image.path().join(name);
        std::fs::create_dir_all(path("a/b")).unwrap();
        std::fs::write(path("secret"), "image").unwrap();
        let out = outside.path().join("secret");
        for (name, target) in [
            ("absolute", out.as_path()),
            ("up", Path::new("../../../../../../etc/passwd")),
            ("inside", Path::new("/secret")),
            ("loop", Path::new("loop")),
            ("fd", Path::new("/proc/self/root")),
        ] {
            std::os::unix::fs::symlink(target, path(name)).unwrap();
        }
        let root = File::open(image.path()).unwrap();
        let read = |sub: &str| {
            let part = part_of(root.as_fd(), Path::new(sub))?;
            let opened = std::fs::read(format!("/proc/self/fd/{}", part.as_fd().as_raw_fd()));
            Ok::<_, Error>(String::from_utf8(opened.unwrap()).unwrap())
        };
        assert_eq!(read("inside").unwrap(), "image");
        assert_eq!(read("a/b/../../../../secret").unwrap(), "image");
        for sub in ["absolute", "up", "fd", "loop", "nothing", "secret/x"] {
            let error = read(sub).unwrap_err();
            assert!(error.to_string().starts_with("image_sub_path: "), "{error}");
        }
        assert!(part_of(root.as_fd(), Path::new("a/b")).is_ok());
    }

    use std::os::fd::AsRawFd;
}
