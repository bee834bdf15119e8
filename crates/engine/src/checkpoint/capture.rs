//! One container's part of a checkpoint: the files that checkpointctl, CRI-O and podman know by name, in one
//! directory.
//!
//! | file | |
//! | --- | --- |
//! | `checkpoint/` | criu's images |
//! | `dump.log`, `stats-dump` | what criu says of its work |
//! | `config.dump` | which container of which image, and when |
//! | `spec.dump` | its config.json |
//! | `rootfs-diff.tar` | what it has written |
//! | `deleted.files` | what of its image it has removed, where that is not marked in the archive |
//! | `bind.mounts` | what is mounted in it, and whether that is a directory |

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use runtime::spec::Spec;
use serde::Serialize;

use super::cancel::{Cancel, While};
use crate::container::Container;
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::Frozen;

const VERB: &str = "checkpoint";

/// How what a container has removed is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// As marks in the archive, as in a layer.
    Marked,
    /// By name in `deleted.files`.
    Named,
}

/// A container that is to be written down.
pub(super) struct Capture<'a> {
    pub(super) engine: &'a Engine,
    pub(super) container: &'a Container,
    /// The directory, which is there and empty.
    pub(super) into: &'a Path,
    pub(super) cancel: &'a Cancel,
}

/// What is known of a container in `config.dump`, by checkpointctl's names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigDump<'a> {
    id: &'a str,
    name: &'a str,
    rootfs_image: &'a str,
    rootfs_image_ref: &'a str,
    rootfs_image_name: &'a str,
    runtime: &'a str,
    created_time: String,
    checkpointed_time: String,
    restored_time: &'a str,
    restored: bool,
}

/// A mount in `bind.mounts`.
#[derive(Serialize)]
struct BindMount<'a> {
    source: &'a Path,
    destination: &'a Path,
    file_type: &'a str,
    permissions: u32,
}

impl Capture<'_> {
    /// Memory and files, while it is frozen.
    pub(super) fn while_frozen(
        &self,
        frozen: &mut dyn Frozen,
        criu: &Path,
        removed: Removed,
    ) -> Result<()> {
        self.check()?;
        let images = self.into.join("checkpoint");
        frozen.dump(&self.container.id, &images, self.into, criu)?;
        self.check()?;
        self.write_files(removed)
    }

    /// What does not change: when it goes on already.
    pub(super) fn describe(&self) -> Result<()> {
        let config = self.container.bundle.join("config.json");
        let spec: Spec = disk::read_json(&config)?.ok_or_else(|| Error::Record {
            path: config,
            reason: "is missing".to_owned(),
        })?;
        self.write_json("spec.dump", &spec)?;
        self.write_json("bind.mounts", &bind_mounts(&spec))?;
        let nanos = |at| String::from_utf8_lossy(&base::time::rfc3339_nanos(at)).into_owned();
        let container = self.container;
        let dump = ConfigDump {
            id: &container.id,
            name: &container.spec.name,
            rootfs_image: container.spec.named_image(),
            rootfs_image_ref: &container.image_id,
            rootfs_image_name: container.spec.named_image(),
            runtime: &container.handler,
            created_time: nanos(container.created_at),
            checkpointed_time: nanos(disk::now_ns()),
            // Go's time that is none.
            restored_time: "0001-01-01T00:00:00Z",
            restored: false,
        };
        self.write_json("config.dump", &dump)
    }

    fn check(&self) -> Result<()> {
        self.cancel.check(VERB, &self.container.id)
    }

    fn write_files(&self, removed: Removed) -> Result<()> {
        let root = self.engine.store().container_root(&self.container.id)?;
        let root = root.ok_or_else(|| Error::NotFound {
            what: "writable layer",
            name: self.container.id.clone(),
        })?;
        let (path, file) = self.create("rootfs-diff.tar")?;
        let mut out = BufWriter::new(While {
            out: file,
            cancel: self.cancel,
        });
        let written = match removed {
            Removed::Marked => root.write_difference(&mut out).map(|_| None),
            Removed::Named => root.write_changes(&mut out).map(|(_, names)| Some(names)),
        };
        // A time that is over is the reason of what failed then.
        self.check()?;
        let names = written?;
        out.flush().map_err(Error::io("write", path))?;
        if let Some(names) = names {
            let names = names.iter().map(|name| String::from_utf8_lossy(name));
            self.write_json("deleted.files", &names.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let (path, file) = self.create(name)?;
        let mut out = BufWriter::new(file);
        let written = serde_json::to_writer_pretty(&mut out, value);
        let written = written.map_err(std::io::Error::from);
        written
            .and_then(|()| out.flush())
            .map_err(Error::io("write", path))
    }

    fn create(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.into.join(name);
        let file = new_file(&path)?;
        Ok((path, file))
    }
}

/// A file that only root may read: it may hold what a container had in its memory.
pub(super) fn new_file(path: &Path) -> Result<File> {
    let mut new = File::options();
    new.write(true).create_new(true).mode(0o600);
    new.open(path).map_err(Error::io("create", path))
}

/// The mounts of the node's files; one that is gone by now is told as a directory.
fn bind_mounts(spec: &Spec) -> Vec<BindMount<'_>> {
    let is_bind = |mount: &&runtime::spec::Mount| {
        let mut options = mount.options.iter();
        mount.kind.as_deref() == Some("bind")
            || options.any(|option| option == "bind" || option == "rbind")
    };
    let all = spec.mounts.iter().filter(is_bind);
    all.filter_map(|mount| {
        let source = mount.source.as_deref()?;
        let found = std::fs::metadata(source).ok();
        let directory = found.as_ref().is_none_or(std::fs::Metadata::is_dir);
        Some(BindMount {
            source,
            destination: &mount.destination,
            file_type: if directory { "directory" } else { "file" },
            permissions: found.map_or(0o755, |found| found.mode() & 0o7777),
        })
    })
    .collect()
}
