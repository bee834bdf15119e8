//! CheckpointContainer: one running container into a new archive, in the form that CRI-O and podman write. The
//! container goes on before the archive is put together.

use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

use super::cancel::{Cancel, While};
use super::capture::{Capture, Removed};
use super::place::NewFile;
use super::{Staging, open_dir};
use crate::disk::Lock;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, needs};

const VERB: &str = "checkpoint";

impl Engine {
    /// Writes a running container to a new tar archive, within the time of `cancel`. It runs on.
    ///
    /// # Errors
    /// An unknown container or one that does not run, a location that cannot be a new file, a handler that
    /// cannot, checkpoints that are switched off, no criu, one that fails, or a time that is over. Nothing is
    /// left at the location then, and the container runs on.
    pub fn checkpoint_container(&self, id: &str, location: &Path, cancel: &Cancel) -> Result<()> {
        let container = self.running_container(VERB, id)?;
        let criu = self.criu_to_checkpoint()?;
        self.with_handler(&container, |handler, _| needs(handler, Ability::Checkpoint))?;
        let archive = NewFile::begin("location", location)?;
        let _stays = self.pod_stays(&container.pod_id)?;
        let staging = Staging::new(self)?;
        let files = staging.files();
        let capture = Capture {
            engine: self,
            container: &container,
            into: &files,
            cancel,
        };
        self.with_frozen(&container.pod_id, &[&container], cancel, |frozen| {
            capture.while_frozen(frozen, &criu, Removed::Named)
        })?;
        capture.describe()?;
        let mut out = BufWriter::with_capacity(
            1 << 20,
            While {
                out: archive.file(),
                cancel,
            },
        );
        let dir = open_dir(&files)?;
        let written = self.store().write_directory(dir.as_fd(), id, &mut out);
        cancel.check(VERB, id)?;
        written?;
        out.flush().map_err(Error::io("write", location))?;
        drop(out);
        archive.commit()
    }

    /// Keeps a pod from being removed meanwhile.
    pub(super) fn pod_stays(&self, pod: &str) -> Result<Lock> {
        let lock = self.layout().pod(pod).join("lock");
        Lock::shared_if_there(&lock)?.ok_or_else(|| Error::NotFound {
            what: "pod",
            name: pod.to_owned(),
        })
    }
}
