//! Working containers: writable layers that outlive the process that made them, each with a record of whoever made it.
//!
//! ```text
//! make_working_container ─▶ containers/build-container-ID/{upper,work,layers,working.json}
//!                              │ lock_working_container: one process at a time writes to it
//!                              └ remove_working_container: a rename, and its rows
//! ```
//! One is there when its record is: what a kill left half made has none, and goes with the next collection. What it
//! stands on, and the blobs of that image, stay as long as its directory does, by a lease with its name. To earlier
//! versions its name is a build's that no process owns, which they leave alone. Must never be taken by an engine for a
//! container of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use base::lock;
use image::Digest;
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use crate::db::Durability;
use crate::error::{Error, Result};
use crate::images::hold_all;
use crate::layout::{DIRECTORY, Layout, TempFile};
use crate::{Access, ImageRecord, RootFilesystem, Store};

/// What the names of their layers begin with: a build's, with no process behind it.
const PREFIX: &str = "build-container-";
const RECORD: &str = "working.json";
const LOCK: &str = "working.lock";
/// A larger record is none.
const LARGEST: u64 = 16 << 20;
/// How long a collection waits for somebody who makes one.
const COURTESY: Duration = Duration::ZERO;

/// Nobody else makes or names a working container meanwhile.
#[derive(Debug)]
pub struct WorkingContainers {
    _lock: OwnedFd,
}

/// A working container that nobody else uses meanwhile.
#[derive(Debug)]
pub struct WorkingContainer {
    store: Store,
    id: String,
    name: String,
    directory: OwnedFd,
    root: RootFilesystem,
}

fn name_of(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// Whether a lease is a working container's that is there.
pub(crate) fn holds(layout: &Layout, owner: &str) -> bool {
    is_one(owner)
        && !matches!(
            statat(layout.containers(), owner, AtFlags::SYMLINK_NOFOLLOW),
            Err(Errno::NOENT)
        )
}

/// Whether a writable layer is a working container's.
pub(crate) fn is_one(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl Store {
    /// Keeps others from making and naming working containers, as long as what it returns lives.
    ///
    /// Errors with [`Error::Busy`] when somebody else does for long.
    pub fn lock_working_containers(&self) -> Result<WorkingContainers> {
        let lock = self.layout().lock(LOCK, self.limits().lock_wait)?;
        self.clear_half_made()?;
        Ok(WorkingContainers { _lock: lock })
    }

    /// Makes a working container on these layers, the lowest first, which somebody holds meanwhile, as all that `image`
    /// is made of; `record` is its maker's.
    ///
    /// Errors with [`Error::LayerLost`] when a layer is nowhere, and [`Error::ContainerExists`].
    pub fn make_working_container(
        &self,
        _names: &WorkingContainers,
        id: &str,
        (below, image): (&[Digest], Option<&ImageRecord>),
        record: &[u8],
    ) -> Result<()> {
        let name = name_of(id);
        self.layer_on(&name, below)?;
        let made = self.hold_by(&name, image).and_then(|()| {
            let directory = self.directory_of(&name)?;
            write(self.layout(), &directory, &name, record)
        });
        if made.is_err()
            && let Err(error) = self.remove_writable_layer(&name)
        {
            tracing::warn!(layer = %name, "working container left for the next collection: {error}");
        }
        made
    }

    fn hold_by(&self, name: &str, image: Option<&ImageRecord>) -> Result<()> {
        let Some(image) = image else { return Ok(()) };
        self.db().write(Durability::Durable, |tx| {
            tx.execute("INSERT INTO leases(owner) VALUES(?1)", [name])
                .map_err(Error::db("begin a lease"))?;
            hold_all(tx, tx.last_insert_rowid(), &image.id).map(drop)
        })
    }

    /// The IDs of all working containers.
    pub fn working_containers(&self) -> Result<Vec<String>> {
        let names = self.layout().container_ids()?.into_iter();
        let ids = names.filter(|name| self.has_record(name));
        Ok(ids
            .filter_map(|name| name.strip_prefix(PREFIX).map(str::to_owned))
            .collect())
    }

    fn has_record(&self, name: &str) -> bool {
        let path = format!("{name}/{RECORD}");
        is_one(name) && statat(self.layout().containers(), path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The record of a working container; `None` when there is none. Errors with [`Error::TooLarge`].
    pub fn working_record(&self, id: &str) -> Result<Option<Vec<u8>>> {
        let path = format!("{}/{RECORD}", name_of(id));
        let shown = self.root().join("containers").join(&path);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(self.layout().containers(), path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(Error::sys("open", shown)(e)),
        };
        let mut bytes = Vec::new();
        let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
        read.map_err(Error::io("read", &shown))?;
        match bytes.len() as u64 > LARGEST {
            true => Err(Error::TooLarge {
                what: shown.display().to_string(),
                size: bytes.len() as u64,
                max: LARGEST,
            }),
            false => Ok(Some(bytes)),
        }
    }

    /// A working container for writing, when nobody else uses it any more; `None` when there is none.
    ///
    /// Errors with [`Error::Busy`] when it is used for longer than `wait`.
    pub fn lock_working_container(
        &self,
        id: &str,
        wait: Duration,
    ) -> Result<Option<WorkingContainer>> {
        let name = name_of(id);
        if !self.has_record(&name) {
            return Ok(None);
        }
        let path = self.path_of(&name);
        let directory = self.directory_of(&name)?;
        let locked = lock::within(&directory, lock::Kind::Exclusive, wait);
        if !locked.map_err(Error::io("lock", &path))? {
            return Err(Error::Busy {
                path,
                seconds: wait.as_secs(),
            });
        }
        // It may have been removed, and made again, while it was waited for.
        let own = fstat(&directory).map_err(Error::sys("look at", &path))?;
        let there = statat(self.layout().containers(), &name, AtFlags::SYMLINK_NOFOLLOW);
        if !there.is_ok_and(|there| (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)) {
            return Ok(None);
        }
        let Some(root) = self.container_root(&name)? else {
            return Ok(None);
        };
        Ok(Some(WorkingContainer {
            store: self.clone(),
            id: id.to_owned(),
            name,
            directory,
            root,
        }))
    }

    /// The root file system of a working container, to be read; `None` when there is none.
    ///
    /// Errors as [`container_root`](Self::container_root).
    pub fn working_root(&self, id: &str) -> Result<Option<RootFilesystem>> {
        self.container_root(&name_of(id))
    }

    /// Removes a working container with what was written, whoever uses it; that it is gone is no error. Needs no space.
    pub fn remove_working_container(&self, id: &str) -> Result<()> {
        let name = name_of(id);
        self.remove_writable_layer(&name)?;
        let ended = self.db().remove(Durability::Ordered, |tx| {
            tx.execute("DELETE FROM leases WHERE owner = ?1", [&name])
                .map_err(Error::db("end a lease"))
        });
        match ended {
            // The next collection ends the lease of what is not there.
            Err(error) if error.is_no_space() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Where a working container is mounted, if it is.
    pub fn working_mount(&self, id: &str) -> Result<Option<PathBuf>> {
        let name = name_of(id);
        let mut mounts = self.mounts()?.into_iter();
        Ok(mounts.find(|(of, _)| *of == name).map(|(_, path)| path))
    }

    /// Removes what a kill has left half made, unless somebody makes one right now.
    pub(crate) fn clear_half_made_working(&self) -> Result<()> {
        let mut names = self.layout().container_ids()?.into_iter();
        if !names.any(|name| is_one(&name) && !self.has_record(&name)) {
            return Ok(());
        }
        match self.layout().lock(LOCK, COURTESY) {
            Ok(_lock) => self.clear_half_made(),
            Err(Error::Busy { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The same for who has the lock.
    fn clear_half_made(&self) -> Result<()> {
        for name in self.layout().container_ids()? {
            if is_one(&name) && !self.has_record(&name) {
                self.remove_writable_layer(&name)?;
            }
        }
        Ok(())
    }

    fn directory_of(&self, name: &str) -> Result<OwnedFd> {
        openat(self.layout().containers(), name, DIRECTORY, Mode::empty())
            .map_err(Error::sys("open", self.path_of(name)))
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.root().join("containers").join(name)
    }
}

impl WorkingContainer {
    /// Its ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The root file system that is written to.
    pub fn root(&self) -> &RootFilesystem {
        &self.root
    }

    /// Its record; empty when it was lost.
    pub fn record(&self) -> Result<Vec<u8>> {
        Ok(self.store.working_record(&self.id)?.unwrap_or_default())
    }

    /// Replaces its record, durably: a kill or a power cut leaves the old or the new.
    pub fn write_record(&self, record: &[u8]) -> Result<()> {
        write(self.store.layout(), &self.directory, &self.name, record)
    }

    /// Mounts it for writing and returns where; at once when it is mounted already.
    pub fn mount(&self) -> Result<PathBuf> {
        let mounted = self.store.mount_container(&self.name, Access::Durable)?;
        mounted.ok_or_else(|| Error::sys("mount", self.store.path_of(&self.name))(Errno::NOENT))
    }

    /// Takes that back; `false` when it was not mounted. Errors while somebody uses it.
    pub fn unmount(&self) -> Result<bool> {
        self.store.unmount(&self.name)
    }

    /// Removes it with what was written.
    pub fn remove(self) -> Result<()> {
        self.store.remove_working_container(&self.id)
    }
}

fn write(layout: &Layout, directory: &OwnedFd, name: &str, record: &[u8]) -> Result<()> {
    let path = layout.path().join("containers").join(name).join(RECORD);
    let mut temp = TempFile::create(layout)?;
    temp.write_all(record)
        .and_then(|()| temp.file().sync_all())
        .map_err(Error::io("write", temp.path()))?;
    temp.commit(directory.as_fd(), RECORD, &path)?;
    rustix::fs::fsync(directory).map_err(Error::sys("write", path))
}
