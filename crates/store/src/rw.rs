//! Writable layers of containers: on the hot path of every container start.
//!
//! Must stay a few mkdirs and one row, without any fsync: a container does not outlive a reboot.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, fchmod, fchown, mkdirat, openat, renameat, statat};
use rustix::io::Errno;

use crate::additional::Additional;
use crate::db::Durability;
use crate::error::{Error, Result};
use crate::gc::REMOVAL;
use crate::layout::{DIRECTORY, EMPTY_LAYER};
use crate::records::{self, ContainerFacts};
use crate::{ImageRecord, Store, Usage, implied, reserve, tree};

/// The directories of a container's overlay mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RwLayer {
    /// The image's layers, top first.
    pub lower: Vec<PathBuf>,
    /// The writable directory.
    pub upper: PathBuf,
    /// overlayfs's own directory, on the same file system.
    pub work: PathBuf,
}

const LONGEST_ID: usize = 200;

impl Store {
    /// The unpacked layers of an image, top first. Errors with [`Error::ImageNotFound`].
    pub fn layers_of(&self, record: &ImageRecord) -> Result<Vec<PathBuf>> {
        match self.elsewhere(&record.id)? {
            Some(store) => foreign_layers(store, &record.id),
            None => {
                let layers = self.db().read(|db| layer_ids(db, &record.id))?;
                Ok(self.layer_paths(&layers))
            }
        }
    }

    /// Makes the writable layer of a container; the image's layers stay as long as it does.
    ///
    /// Its root has the owner and mode of the image's. Errors with [`Error::ContainerId`],
    /// [`Error::ContainerExists`] or [`Error::ImageNotFound`].
    pub fn create_rw(&self, container: &str, record: &ImageRecord) -> Result<RwLayer> {
        check_id(container)?;
        if let Some(store) = self.elsewhere(&record.id)? {
            let lower = foreign_layers(store, &record.id)?;
            return self.create_foreign_rw(container, record, lower);
        }
        let mut made = MadeDirectories::new(self, container);
        let layers = self.db().write(Durability::Ordered, |tx| {
            let layers = layer_ids(tx, &record.id)?;
            record_container(tx, container, &record.id, &layers)?;
            let facts = ContainerFacts {
                image: record.id.clone(),
                layers: layers.clone(),
            };
            let paths = self.layer_paths(&layers);
            let upper = self.make_directories(&mut made, &paths, &facts)?;
            let implied = implied::of(tx, &layers)?;
            if !implied.is_empty() {
                let made = implied::make(upper.as_fd(), &layers, &paths, &implied);
                made.map_err(Error::sys(
                    "fill",
                    self.rw_layer(container, Vec::new()).upper,
                ))?;
            }
            Ok(layers)
        })?;
        made.armed = false;
        Ok(self.rw_layer(container, self.layer_paths(&layers)))
    }

    /// The same on layers of an additional store, which nobody collects.
    fn create_foreign_rw(
        &self,
        container: &str,
        record: &ImageRecord,
        lower: Vec<PathBuf>,
    ) -> Result<RwLayer> {
        let mut made = MadeDirectories::new(self, container);
        self.db().write(Durability::Ordered, |tx| {
            record_container(tx, container, &record.id, &[])?;
            for (position, path) in (0i64..).zip(&lower) {
                tx.execute(
                    "INSERT INTO container_lowers(container, position, path) VALUES(?1, ?2, ?3)",
                    params![container, position, path.as_os_str().as_bytes()],
                )
                .map_err(Error::db("record the layers of a container"))?;
            }
            let facts = ContainerFacts {
                image: record.id.clone(),
                layers: Vec::new(),
            };
            self.make_directories(&mut made, &lower, &facts).map(drop)
        })?;
        made.armed = false;
        Ok(self.rw_layer(container, lower))
    }

    /// The writable layer that [`create_rw`](Store::create_rw) made; `None` when there is none.
    pub fn rw(&self, container: &str) -> Result<Option<RwLayer>> {
        check_id(container)?;
        self.db().read(|db| {
            let known = db
                .prepare_cached("SELECT 1 FROM containers WHERE id = ?1")
                .and_then(|mut statement| statement.exists([container]))
                .map_err(Error::db("look up a container"))?;
            Ok(match known {
                true => {
                    let mut lower = foreign_lowers(db, container)?;
                    if lower.is_empty() {
                        lower = self.layer_paths(&container_layers(db, container)?);
                    }
                    Some(self.rw_layer(container, lower))
                }
                false => None,
            })
        })
    }

    /// Removes a container's writable layer; that it is gone already is no error.
    ///
    /// Its content is deleted in the background: a container may have written gigabytes.
    pub fn remove_rw(&self, container: &str) -> Result<()> {
        check_id(container)?;
        let layout = self.layout();
        let _removing = layout.lock_shared(REMOVAL);
        let doomed = layout.temp_name();
        let rename = || renameat(layout.containers(), container, layout.tmp(), &doomed);
        let renamed = match rename() {
            Err(Errno::NOSPC | Errno::DQUOT) if reserve::give_up(layout) => rename(),
            other => other,
        };
        let moved = match renamed {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            Err(e) => return Err(Error::sys("rename to", layout.temp_path(&doomed))(e)),
        };
        let forget = || {
            self.db().remove(Durability::Ordered, |tx| {
                tx.execute("DELETE FROM containers WHERE id = ?1", [container])
                    .map_err(Error::db("forget a container"))?;
                Ok(())
            })
        };
        let doomed = CString::new(doomed).ok().filter(|_| moved);
        match (forget(), doomed) {
            (Ok(()), Some(doomed)) => self.0.background.remove(doomed),
            (Ok(()), None) => {}
            // Its files make room for what is to be written.
            (Err(error), doomed) if error.is_no_space() => {
                if let Some(doomed) = doomed {
                    tree::remove(layout, layout.tmp(), &doomed)
                        .map_err(Error::sys("remove", layout.temp_path("")))?;
                }
                match forget() {
                    // The next collection forgets a container without a directory.
                    Err(error) if error.is_no_space() => {
                        tracing::warn!(
                            container,
                            "store: removed, and not written down yet: {error}"
                        );
                    }
                    other => return other,
                }
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }

    /// Deletes in the background what was moved to `tmp/`.
    pub(crate) fn remove_later(&self, doomed: CString) {
        self.0.background.remove(doomed);
    }

    /// The containers that have a writable layer, those that a crash left half-made included.
    pub fn rw_ids(&self) -> Result<Vec<String>> {
        self.layout().container_ids()
    }

    /// What a container has written, by a walk over its upper directory; nothing when it is gone.
    pub fn rw_usage(&self, container: &str) -> Result<Usage> {
        check_id(container)?;
        let path = self.root().join("containers").join(container).join("upper");
        let dir = openat(
            self.layout().containers(),
            container,
            DIRECTORY,
            Mode::empty(),
        )
        .and_then(|dir| openat(dir, "upper", DIRECTORY, Mode::empty()));
        match dir {
            Ok(dir) => tree::usage(dir.as_fd()).map_err(Error::sys("walk", path)),
            Err(Errno::NOENT) => Ok(Usage::default()),
            Err(e) => Err(Error::sys("open", path)(e)),
        }
    }

    /// overlayfs needs a lower directory: an image without layers has the empty one.
    fn layer_paths(&self, layers: &[i64]) -> Vec<PathBuf> {
        layer_paths(self.root(), layers)
    }

    fn rw_layer(&self, container: &str, lower: Vec<PathBuf>) -> RwLayer {
        let dir = self.root().join("containers").join(container);
        RwLayer {
            lower,
            upper: dir.join("upper"),
            work: dir.join("work"),
        }
    }

    fn make_directories(
        &self,
        made: &mut MadeDirectories<'_>,
        lower: &[PathBuf],
        facts: &ContainerFacts,
    ) -> Result<OwnedFd> {
        let container = made.container;
        let path = self.root().join("containers").join(container);
        match mkdirat(
            self.layout().containers(),
            container,
            Mode::from_raw_mode(0o700),
        ) {
            Ok(()) => made.armed = true,
            Err(Errno::EXIST) => {
                return Err(Error::ContainerExists {
                    id: container.to_owned(),
                });
            }
            Err(e) => return Err(Error::sys("create", path)(e)),
        }
        let dir = openat(
            self.layout().containers(),
            container,
            DIRECTORY,
            Mode::empty(),
        )
        .map_err(Error::sys("open", &path))?;
        records::keep_container(self.layout(), dir.as_fd(), container, facts)?;
        let fill = || {
            mkdirat(&dir, "work", Mode::from_raw_mode(0o700))?;
            mkdirat(&dir, "upper", Mode::from_raw_mode(0o755))?;
            let upper: OwnedFd = openat(&dir, "upper", DIRECTORY, Mode::empty())?;
            let (mode, uid, gid) = match lower.first() {
                Some(top) => {
                    let stat = statat(CWD, top, AtFlags::SYMLINK_NOFOLLOW)?;
                    (Mode::from_raw_mode(stat.st_mode), stat.st_uid, stat.st_gid)
                }
                None => (Mode::from_raw_mode(0o755), 0, 0),
            };
            fchown(&upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            fchmod(&upper, mode)?;
            Ok(upper)
        };
        fill().map_err(Error::sys("fill", &path))
    }
}

/// Removes the directories of a container unless they were completed, and recorded.
struct MadeDirectories<'a> {
    store: &'a Store,
    container: &'a str,
    armed: bool,
}

impl<'a> MadeDirectories<'a> {
    fn new(store: &'a Store, container: &'a str) -> MadeDirectories<'a> {
        let armed = false;
        MadeDirectories {
            store,
            container,
            armed,
        }
    }
}

impl Drop for MadeDirectories<'_> {
    fn drop(&mut self) {
        let layout = self.store.layout();
        if let (true, Ok(name)) = (self.armed, CString::new(self.container))
            && let Err(e) = tree::remove(layout, layout.containers(), &name)
        {
            tracing::warn!(
                container = self.container,
                "half-made writable layer left: {e}"
            );
        }
    }
}

/// Where an image's layers lie in a store at `root`.
fn layer_paths(root: &Path, layers: &[i64]) -> Vec<PathBuf> {
    let dir = root.join("layers");
    if layers.is_empty() {
        return vec![dir.join(EMPTY_LAYER)];
    }
    layers
        .iter()
        .map(|layer| dir.join(layer.to_string()))
        .collect()
}

fn foreign_layers(store: &Additional, image: &str) -> Result<Vec<PathBuf>> {
    let layers = store.read(|db| layer_ids(db, image))?;
    Ok(layer_paths(store.path(), &layers))
}

fn foreign_lowers(db: &Connection, container: &str) -> Result<Vec<PathBuf>> {
    const PATHS: &str = "SELECT path FROM container_lowers WHERE container = ?1 ORDER BY position";
    let read = || {
        let mut statement = db.prepare_cached(PATHS)?;
        let rows = statement.query_map([container], |row| {
            let path: Vec<u8> = row.get(0)?;
            Ok(PathBuf::from(OsString::from_vec(path)))
        })?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read the layers of a container"))
}

fn record_container(tx: &Connection, container: &str, image: &str, layers: &[i64]) -> Result<()> {
    let inserted = tx
        .prepare_cached("INSERT OR IGNORE INTO containers(id, image) VALUES(?1, ?2)")
        .and_then(|mut statement| statement.execute([container, image]))
        .map_err(Error::db("record a container"))?;
    if inserted == 0 {
        return Err(Error::ContainerExists {
            id: container.to_owned(),
        });
    }
    let insert = || {
        let mut statement = tx.prepare_cached(
            "INSERT INTO container_layers(container, position, layer) VALUES(?1, ?2, ?3)",
        )?;
        for (position, layer) in (0i64..).zip(layers.iter().rev()) {
            statement.execute(params![container, position, layer])?;
        }
        Ok(())
    };
    insert().map_err(Error::db("record the layers of a container"))
}

/// The ids of an image's layers, top first, each once.
///
/// overlayfs refuses a directory that is there twice. Only the topmost counts: all that the lower
/// one shows or hides, the upper one shows or hides too. Below a layer with an opaque root nothing
/// counts.
pub(crate) fn layer_ids(db: &Connection, image: &str) -> Result<Vec<i64>> {
    const LAYERS: &str = "
        SELECT layer, opaque FROM image_layers JOIN layers ON layers.id = layer
        WHERE image = ?1 ORDER BY position DESC";
    let read = || {
        let mut statement = db.prepare_cached(LAYERS)?;
        let rows = statement.query_map([image], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(i64, bool)>>>()
    };
    let mut layers = Vec::new();
    for (layer, opaque) in read().map_err(Error::db("read the layers"))? {
        if !layers.contains(&layer) {
            layers.push(layer);
        }
        if opaque {
            break;
        }
    }
    if layers.is_empty() {
        let known = db
            .prepare_cached("SELECT 1 FROM images WHERE id = ?1")
            .and_then(|mut statement| statement.exists([image]))
            .map_err(Error::db("look up an image"))?;
        if !known {
            return Err(Error::ImageNotFound {
                id: image.to_owned(),
            });
        }
    }
    Ok(layers)
}

/// The layers that a container stands on, top first.
pub(crate) fn container_layers(db: &Connection, container: &str) -> Result<Vec<i64>> {
    const LAYERS: &str =
        "SELECT layer FROM container_layers WHERE container = ?1 ORDER BY position DESC";
    let read = || {
        let mut statement = db.prepare_cached(LAYERS)?;
        let rows = statement.query_map([container], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read the layers"))
}

fn check_id(container: &str) -> Result<()> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let good = (1..=LONGEST_ID).contains(&container.len())
        && container.bytes().all(valid)
        && !container.starts_with(['.', '-']);
    if good {
        return Ok(());
    }
    Err(Error::ContainerId {
        id: container.chars().take(LONGEST_ID).collect(),
    })
}
