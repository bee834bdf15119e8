//! Root file systems: an image's layers, and on them what one container writes.
//!
//! A value: whoever has one can mount it, hand a mount of it to others, and write down what it is made
//! of. Where its layers lie nobody above the store is told, so that a layer may have any form. Must never
//! leave a mount in a mount namespace that was not asked for.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layer::{Form, Layer};
use crate::layout::{DIRECTORY, EMPTY_LAYER};
use crate::{ImageRecord, Limits, Store, working_container};

mod mapped;
mod overlay;

pub use mapped::MappedIds;

/// The root file system of a container, or of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFilesystem {
    /// Top first.
    layers: Vec<Layer>,
    writable: Option<WritableLayer>,
    store: StoreRoot,
}

/// What a container writes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WritableLayer {
    container: String,
}

/// The store, which is the same when its root is.
#[derive(Debug, Clone)]
struct StoreRoot(Store);

impl PartialEq for StoreRoot {
    fn eq(&self, other: &StoreRoot) -> bool {
        self.0.root() == other.0.root()
    }
}

impl Eq for StoreRoot {}

/// What may be done to a mounted root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    ReadOnly,
    /// Writing, for a container that ends with its mount: nothing is flushed, and the writable layer is
    /// mounted for writing only once.
    Volatile,
    /// Writing, for whoever wants to use what was written afterwards. No container may run on it.
    Durable,
}

/// How to mount a root file system.
#[derive(Debug, Clone, Copy)]
pub struct MountOptions<'a> {
    /// What may be done to it.
    pub access: Access,
    /// The SELinux context of all its files, if they get one of their own (mount(8), `context=`).
    pub label: Option<&'a str>,
    /// Its files belong to others outside than in it: the layers and what is written keep the owners that
    /// they have inside, and are shared with containers of other ids.
    pub ids: Option<MappedIds<'a>>,
}

impl MountOptions<'_> {
    /// Without a label.
    pub fn new(access: Access) -> MountOptions<'static> {
        MountOptions {
            access,
            label: None,
            ids: None,
        }
    }
}

/// What a root file system is made of, in a form that can be kept: identities and forms, and no paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    /// Top first.
    pub layers: Vec<LayerRecord>,
    /// The container whose writable layer is on top, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// A layer as it is recorded by whoever stands on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Its identity.
    pub diff_id: String,
    /// The form that it had.
    pub form: Form,
}

/// A root file system of directories as the options of overlayfs name it: for supervisors and kernels that
/// take no mount descriptor, and for nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayPaths {
    /// The layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// The writable directory.
    pub upper: PathBuf,
    /// overlayfs's own directory beside it.
    pub work: PathBuf,
}

impl RootFilesystem {
    pub(crate) fn of_container(store: &Store, container: &str, layers: Vec<Layer>) -> Self {
        RootFilesystem {
            layers,
            writable: Some(WritableLayer {
                container: container.to_owned(),
            }),
            store: StoreRoot(store.clone()),
        }
    }

    /// Of layers, top first.
    pub(crate) fn of_layers(store: &Store, layers: Vec<Layer>) -> Self {
        RootFilesystem {
            layers,
            writable: None,
            store: StoreRoot(store.clone()),
        }
    }

    /// What is below the writable layer.
    pub(crate) fn below(&self) -> Self {
        RootFilesystem::of_layers(&self.store.0, self.layers.clone())
    }

    /// Its layers, top first, without the writable one.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// What it is made of, to be written down.
    pub fn record(&self) -> RootRecord {
        RootRecord {
            layers: self.layers.iter().map(LayerRecord::of).collect(),
            container: self.writable.as_ref().map(|own| own.container.clone()),
        }
    }

    /// A mount of it that is in no mount namespace: nobody sees it before it is moved somewhere
    /// (move_mount(2)), and it is gone with its last descriptor if it never is.
    ///
    /// Errors with [`Error::Unsupported`] on kernels before Linux 6.13, which take the layers of an overlay
    /// by path only: see [`overlay_paths`](Self::overlay_paths). With [`MountOptions::ids`] any kernel will do
    /// that has overlays of id-mapped layers (Linux 5.19), and a file system that lets its owners be mapped.
    pub fn open(&self, options: &MountOptions<'_>) -> Result<OwnedFd> {
        if let Some(mounted) = self.mounted_already(options)? {
            return Ok(mounted);
        }
        if options.ids.is_some() || self.has_layers_to_hold() {
            return self.open_of_mounts(options);
        }
        let mount = overlay::Context::new(options).map_err(|e| self.unmountable(e))?;
        let set = |key, dir: OwnedFd| {
            let set = mount.set_directory(key, dir.as_fd());
            set.map_err(|e| self.unmountable(e))
        };
        let own = self.directories(options.access)?;
        let (above, beside) = match own {
            Some((upper, None)) => (Some(upper), None),
            Some((upper, Some(work))) => (None, Some((upper, work))),
            None => (None, None),
        };
        let mut lowers = 0;
        if let Some(upper) = above {
            set(c"lowerdir+", upper)?;
            lowers += 1;
        }
        for layer in &self.layers {
            set(c"lowerdir+", self.lower(layer)?)?;
            lowers += 1;
        }
        // overlayfs needs a lower directory, and two where nothing can be written.
        let least = if beside.is_some() { 1 } else { 2 };
        if lowers < least {
            set(c"lowerdir+", self.empty_layer()?)?;
        }
        if lowers + 1 < least {
            return Err(nothing_to_read());
        }
        if let Some((upper, work)) = beside {
            set(c"upperdir", upper)?;
            set(c"workdir", work)?;
        }
        mount.finish().map_err(|e| self.unmountable(e))
    }

    /// A working container that is mounted for a person is written to through that same overlay: two on one writable
    /// directory know nothing of each other.
    fn mounted_already(&self, options: &MountOptions<'_>) -> Result<Option<OwnedFd>> {
        let own = self.writable.as_ref().map(|own| own.container.as_str());
        match own.filter(|own| working_container::is_one(own)) {
            Some(own) if options.access != Access::ReadOnly => self.store.0.clone_mount(own),
            _ => Ok(None),
        }
    }

    /// Mounts it at a directory of this process's mount namespace, on every kernel. Whoever asks for that
    /// unmounts it.
    pub fn mount_at(&self, target: &Path, options: &MountOptions<'_>) -> Result<()> {
        let mount = match self.open(options) {
            Err(Error::Unsupported { .. }) if options.ids.is_none() => {
                return self.mount_by_paths(target, options);
            }
            other => other?,
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, c"", CWD, target, flags).map_err(Error::sys("mount on", target))
    }

    /// [`mount_at`](Self::mount_at) as kernels before Linux 6.13 need it: by names relative to the store,
    /// which are short enough for mount(2)'s one page of options.
    pub fn mount_by_paths(&self, target: &Path, options: &MountOptions<'_>) -> Result<()> {
        let root = self.store.0.layout().root();
        let names = self.relative_names(options.access)?;
        overlay::mount_relative(root, target, &names, options)
            .map_err(Error::sys("mount on", target))
    }

    /// The paths of its directories. Errors with [`Error::Unsupported`] when it has no writable layer.
    pub fn overlay_paths(&self) -> Result<OverlayPaths> {
        let own = self.writable.as_ref().ok_or_else(|| self.unwritable())?;
        let dir = self.store.0.root().join("containers").join(&own.container);
        let root = self.store.0.root();
        let path = |layer: &Layer| Ok(root.join(layer.lower()?.1));
        let mut lower = self.layers.iter().map(path).collect::<Result<Vec<_>>>()?;
        if lower.is_empty() {
            lower.push(self.store.0.root().join("layers").join(EMPTY_LAYER));
        }
        Ok(OverlayPaths {
            lower,
            upper: dir.join("upper"),
            work: dir.join("work"),
        })
    }

    /// Mounts what layers are files, for all that read names in them from now on. Whoever needs one that cannot be
    /// mounted hears why.
    pub(crate) fn mount_layers(&self) {
        for layer in self
            .layers
            .iter()
            .filter(|layer| layer.form() == Form::Erofs)
        {
            if let Err(error) = layer.lower() {
                tracing::debug!("store: {error}");
            }
        }
    }

    /// Whether layers are mounted for this overlay alone, and go unless somebody holds them until it is made.
    fn has_layers_to_hold(&self) -> bool {
        let mut layers = self.layers.iter();
        self.writable.is_none() && layers.any(|layer| layer.form() == Form::Erofs)
    }

    /// A layer for an overlay. What a container stands on is mounted once for all, and found again.
    fn lower(&self, layer: &Layer) -> Result<OwnedFd> {
        match self.writable {
            Some(_) => Ok(layer.lower()?.0),
            None => layer.directory(),
        }
    }

    /// What the container has written, and for writing overlayfs's directory beside it.
    fn directories(&self, access: Access) -> Result<Option<(OwnedFd, Option<OwnedFd>)>> {
        let own = match (&self.writable, access) {
            (None, Access::ReadOnly) => return Ok(None),
            (None, _) => return Err(self.unwritable()),
            (Some(own), _) => own,
        };
        let layout = self.store.0.layout();
        let open = || {
            let dir = openat(
                layout.containers(),
                &own.container,
                DIRECTORY,
                Mode::empty(),
            )?;
            let upper = openat(&dir, "upper", DIRECTORY, Mode::empty())?;
            let work = match access {
                Access::ReadOnly => None,
                Access::Volatile => Some(openat(&dir, "work", DIRECTORY, Mode::empty())?),
                Access::Durable => Some(used_again(&dir)?),
            };
            Ok((upper, work))
        };
        open()
            .map(Some)
            .map_err(Error::sys("open", self.container_path(&own.container)))
    }

    /// Lets it be mounted for writing once more after a mount with [`Access::Volatile`] that is gone, where no
    /// power cut came between.
    pub fn forget_volatile(&self) -> Result<()> {
        self.directories(Access::Durable).map(drop)
    }

    /// The container, and the directory that it writes to.
    pub(crate) fn upper(&self) -> Result<(String, OwnedFd)> {
        let own = self.writable.as_ref().ok_or_else(|| self.unwritable())?;
        let opened = self.directories(Access::ReadOnly)?;
        let (upper, _) = opened.ok_or_else(|| self.unwritable())?;
        Ok((own.container.clone(), upper))
    }

    /// Makes a container's writable layer, which nothing else has written to and nothing is mounted on, what
    /// [`write_difference`](Self::write_difference) has written of another of the same image. `from` may be
    /// anything: it is read as a layer is.
    ///
    /// Errors with [`Error::Unsupported`] when nothing can be written to it, and [`Error::DiffSource`]: what was
    /// made by then goes with the writable layer.
    pub fn read_difference(&self, from: impl std::io::BufRead) -> Result<()> {
        let (container, upper) = self.upper()?;
        self.store.0.read_directory(upper.as_fd(), &container, from)
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.store.0.limits()
    }

    fn relative_names(&self, access: Access) -> Result<overlay::Names> {
        let own = match (&self.writable, access) {
            (None, Access::ReadOnly) => None,
            (None, _) => return Err(self.unwritable()),
            (Some(own), _) => Some(Path::new("containers").join(&own.container)),
        };
        let relative = |layer: &Layer| Ok(layer.lower()?.1);
        let mut lower = self
            .layers
            .iter()
            .map(relative)
            .collect::<Result<Vec<_>>>()?;
        let empty = || Path::new("layers").join(EMPTY_LAYER);
        let mut writable = None;
        match own {
            Some(own) if access == Access::ReadOnly => lower.insert(0, own.join("upper")),
            Some(own) => writable = Some((own.join("upper"), own.join("work"))),
            None => {}
        }
        if access == Access::Durable {
            self.directories(access)?;
        }
        if lower.is_empty() || writable.is_none() && lower.len() < 2 {
            lower.push(empty());
        }
        Ok(overlay::Names { lower, writable })
    }

    fn empty_layer(&self) -> Result<OwnedFd> {
        let layout = self.store.0.layout();
        let path = || layout.path().join("layers").join(EMPTY_LAYER);
        openat(layout.layers(), EMPTY_LAYER, DIRECTORY, Mode::empty())
            .map_err(|e| Error::sys("open", path())(e))
    }

    fn container_path(&self, container: &str) -> PathBuf {
        self.store.0.root().join("containers").join(container)
    }

    fn unwritable(&self) -> Error {
        Error::Unsupported {
            what: "an image's root file system for writing".to_owned(),
            why: "only a container has a writable layer".to_owned(),
        }
    }

    fn unmountable(&self, failure: overlay::Failure) -> Error {
        match failure {
            overlay::Failure::NoDescriptors => Error::Unsupported {
                what: "a mount descriptor of a root file system".to_owned(),
                why: "overlayfs takes its layers by descriptor from Linux 6.13 on".to_owned(),
            },
            overlay::Failure::Kernel(op, errno) => {
                let path = match &self.writable {
                    Some(own) => self.container_path(&own.container),
                    None => self.store.0.root().join("layers"),
                };
                Error::sys(op, path)(errno)
            }
        }
    }
}

fn nothing_to_read() -> Error {
    Error::Unsupported {
        what: "a read-only root file system without layers".to_owned(),
        why: "there is nothing in it to be read".to_owned(),
    }
}

/// overlayfs's own directory in that of a container. What a volatile mount left there says that what was
/// written may not be on disk; whoever mounts it again has seen to it that no power cut came between.
fn used_again(container: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let work = openat(container, "work", DIRECTORY, Mode::empty())?;
    let open = |dir: &OwnedFd, name| openat(dir, name, DIRECTORY, Mode::empty());
    let forget = || {
        let marks = open(&open(&work, "work")?, "incompat")?;
        unlinkat(open(&marks, "volatile")?, "dirty", AtFlags::empty())?;
        unlinkat(&marks, "volatile", AtFlags::REMOVEDIR)
    };
    match forget() {
        Ok(()) | Err(Errno::NOENT) => Ok(work),
        Err(e) => Err(e),
    }
}

impl LayerRecord {
    fn of(layer: &Layer) -> LayerRecord {
        LayerRecord {
            diff_id: layer.diff_id().to_string(),
            form: layer.form(),
        }
    }
}

impl Store {
    /// The root file system of an image: to be read only. Errors with [`Error::ImageNotFound`].
    ///
    /// Its layers stay only as long as the image does, or a lease on them.
    pub fn image_root(&self, record: &ImageRecord) -> Result<RootFilesystem> {
        Ok(RootFilesystem {
            layers: self.layers_of(record)?,
            writable: None,
            store: StoreRoot(self.clone()),
        })
    }
}
