//! The first use of a volume: it begins with what the image has at its place, its owner and mode included, or else
//! belongs to the container's user. Once, whoever comes first; must never follow a link of the image out of it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use base::rooted;
use store::RootFilesystem;

use super::data;
use super::record::VolumeRecord;
use crate::container::{ContainerSpec, ResolvedUser};
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{self, Owner};

impl Engine {
    /// Begins those volumes of a container that were never used. `open` mounts its root file system to be read.
    ///
    /// # Errors
    /// A volume that is gone, or files that cannot be copied.
    pub(crate) fn begin_volumes(
        &self,
        spec: &ContainerSpec,
        user: &ResolvedUser,
        root: &RootFilesystem,
        open: impl Fn(&RootFilesystem) -> Result<OwnedFd>,
    ) -> Result<()> {
        for mount in &spec.mounts {
            let Some(volume) = &mount.volume else {
                continue;
            };
            let dir = self.volume_dir(&volume.name);
            let missing = || Error::NotFound {
                what: "volume",
                name: volume.name.clone(),
            };
            if VolumeRecord::read(&dir)?.ok_or_else(missing)?.begun {
                continue;
            }
            let _turn = self.volume_turn(&volume.name)?;
            let mut record = VolumeRecord::read(&dir)?.ok_or_else(missing)?;
            if record.begun {
                continue;
            }
            let copies = !record.no_copy && !volume.no_copy;
            let is_empty = disk::entries(&data(&dir))?.is_empty();
            let copied = match copies && is_empty {
                true => copy(
                    &open(root)?,
                    &mount.container_path,
                    &data(&dir),
                    record.owner,
                )?,
                false => false,
            };
            if !copied && record.owner.is_none() && is_empty {
                let path = data(&dir);
                let given = chown(&path, Some(user.uid), Some(user.gid));
                given.map_err(Error::io("give", &path))?;
            }
            record.begun = true;
            record.write(&dir)?;
        }
        Ok(())
    }
}

/// Copies what a root file system has at a place; false: it has no directory there.
fn copy(root: &OwnedFd, place: &Path, to: &Path, owner: Option<(u32, u32)>) -> Result<bool> {
    let failed = |what: &'static str| Error::io(what, to);
    let found = rooted::within(root.as_fd(), || {
        let real = std::fs::canonicalize(place).ok()?;
        let found = std::fs::metadata(&real)
            .ok()
            .filter(std::fs::Metadata::is_dir)?;
        Some((real, found))
    });
    let Some((real, found)) = found.map_err(failed("look for the image's files of"))? else {
        return Ok(false);
    };
    let target = File::open(to).map_err(failed("open"))?;
    let (reader, writer) = std::io::pipe().map_err(failed("make a pipe for"))?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| {
            rooted::within(root.as_fd(), || {
                let writer = std::io::BufWriter::with_capacity(1 << 16, writer);
                files::pack(writer, &real, Path::new("."))
            })
        });
        let unpacked = rooted::within(target.as_fd(), || {
            let reader = std::io::BufReader::with_capacity(1 << 16, reader);
            files::unpack(reader, Path::new("/"), Owner::Kept, true)
        });
        let packed = packing.join();
        let packed = packed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (packed, unpacked)
    });
    unpacked
        .and_then(|done| done)
        .map_err(failed("copy into"))?;
    packed.and_then(|done| done).map_err(failed("copy for"))?;
    let (user, group) = owner.unwrap_or((found.uid(), found.gid()));
    chown(to, Some(user), Some(group)).map_err(failed("give"))?;
    let mode = std::fs::Permissions::from_mode(found.mode() & 0o7777);
    std::fs::set_permissions(to, mode).map_err(failed("change the mode of"))?;
    Ok(true)
}
