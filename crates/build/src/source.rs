//! Where files are copied from: the context, a further one, a stage, an image. Each is mounted where nobody sees it.

use std::os::fd::{AsFd, OwnedFd};

use containerfile::Ignore;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use store::{Access, Error as StoreError, MountOptions, RootFilesystem};

use crate::Context;
use crate::error::Failed;
use crate::plan::Build;
use crate::tree::Tree;

/// A tree to copy from.
pub(crate) struct Origin {
    pub(crate) tree: Tree,
    /// What of it is not seen.
    pub(crate) ignore: Ignore,
    /// Whether its owners are those of the files in an image.
    pub(crate) is_image: bool,
}

/// A mount that no mount namespace has.
pub(crate) fn mounted(root: &RootFilesystem, access: Access) -> Result<Tree, Failed> {
    let options = MountOptions::new(access);
    match root.open(&options) {
        Err(StoreError::Unsupported { .. }) => by_a_path(root, &options),
        other => Ok(Tree::new(other?)),
    }
}

/// The same for kernels before Linux 6.13: for a moment it has a place.
fn by_a_path(root: &RootFilesystem, options: &MountOptions<'_>) -> Result<Tree, Failed> {
    let place = tempfile::tempdir().map_err(Failed::io("make", "a directory"))?;
    let path = place.path();
    root.mount_at(path, options)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let gone = unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    let shown = path.display().to_string();
    gone.map_err(Failed::io("unmount", &shown))?;
    Ok(Tree::new(opened.map_err(Failed::io("open", &shown))?))
}

impl Build<'_> {
    /// The context of the build.
    pub(crate) fn context(&self) -> Result<Origin, Failed> {
        let context = self.request.context.as_ref();
        let context =
            context.ok_or("there is no context to copy from: the Containerfile came alone")?;
        Ok(Origin {
            tree: Tree::new(cloned(context)?),
            ignore: self.request.ignore.clone(),
            is_image: false,
        })
    }

    /// What `--from` names: a stage, a further context, an image.
    pub(crate) fn named(&self, name: &str) -> Result<Origin, Failed> {
        let of_image = |tree| Origin {
            tree,
            ignore: Ignore::default(),
            is_image: true,
        };
        if let Some(stage) = self.stage_number(name) {
            let state = self.done(stage).ok_or_else(|| {
                Failed::Words(format!("the stage {name} is not built before this one"))
            })?;
            let root = self.engine.store().layers_root(&state.diff_ids())?;
            return Ok(of_image(mounted(&root, Access::ReadOnly)?));
        }
        match self.request.contexts.get(name) {
            Some(Context::Directory(dir)) => Ok(Origin {
                is_image: false,
                ..of_image(Tree::new(cloned(dir)?))
            }),
            other => {
                let name = match other {
                    Some(Context::Image(image)) => image,
                    _ => name,
                };
                let record = self.image(name, None)?;
                let root = self.engine.store().image_root(&record)?;
                Ok(of_image(mounted(&root, Access::ReadOnly)?))
            }
        }
    }
}

fn cloned(dir: &OwnedFd) -> Result<OwnedFd, Failed> {
    dir.as_fd()
        .try_clone_to_owned()
        .map_err(Failed::io("open", "the context"))
}
