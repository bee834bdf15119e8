//! A container's root file system on its way to the supervisor: a mount that only the container will see, or
//! paths where the kernel or the supervisor is too old for one (docs/decisions/005).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::spec::Spec;
use store::{Access, RootFilesystem};
use supervisor::RootfsSource;

use crate::error::Result;
use crate::oci::Owners;

/// What the supervisor is told of a root file system, and what goes with that.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) source: RootfsSource,
    mount: Option<OwnedFd>,
}

impl Root {
    /// Of a container that dies with its mount and has this config.json.
    pub(super) fn hand_over(
        root: &RootFilesystem,
        takes_mounts: bool,
        spec: &Spec,
    ) -> Result<Root> {
        let owners = Owners::of(spec)?;
        let options = owners.options(Access::Volatile);
        if takes_mounts {
            match root.open(&options) {
                // Paths would lead to files of other owners.
                Err(store::Error::Unsupported { .. }) if options.ids.is_none() => {}
                opened => {
                    return Ok(Root {
                        source: RootfsSource::Mount,
                        mount: Some(opened?),
                    });
                }
            }
        }
        let paths = root.overlay_paths()?;
        Ok(Root {
            source: RootfsSource::Overlay {
                lower: paths.lower,
                upper: paths.upper,
                work: paths.work,
            },
            mount: None,
        })
    }

    /// See [`RootfsSource::Mount`].
    pub(super) fn mount(&self) -> Option<BorrowedFd<'_>> {
        self.mount.as_ref().map(AsFd::as_fd)
    }
}
