//! Writable layers of containers: on the hot path of every container start.
//!
//! Must stay a few mkdirs and one row, without any fsync: a container does not outlive a reboot.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use image::Digest;
use rusqlite::{Connection, OptionalExtension, params};
use rustix::fs::{Gid, Mode, Uid, fchmod, fchown, mkdirat, openat, renameat};
use rustix::io::Errno;

use crate::db::Durability;
use crate::error::{Error, Result};
use crate::gc::REMOVAL;
use crate::layer::{Home, LayerRow, forms, image_layers, read_row};
use crate::layout::DIRECTORY;
use crate::records::{self, ContainerFacts};
use crate::{
    ImageRecord, Layer, LayerRecord, RootFilesystem, Store, Usage, implicit_directories, reserve,
    tree,
};

const LONGEST_ID: usize = 200;

impl Store {
    /// Makes the writable layer of a container; the image's layers stay as long as it does.
    ///
    /// Its root has the owner and mode of the image's. Errors with [`Error::ContainerId`],
    /// [`Error::ContainerExists`] or [`Error::ImageNotFound`].
    pub fn create_writable_layer(
        &self,
        container: &str,
        record: &ImageRecord,
    ) -> Result<RootFilesystem> {
        check_id(container)?;
        let foreign = self.place_of(&record.id)?;
        // Nobody collects the layers of additional stores.
        let foreign = foreign.map(|place| self.foreign_layers(place, &record.id));
        let foreign = foreign.transpose()?;
        self.make_writable_layer(container, &record.id, |tx| match &foreign {
            Some(layers) => Ok((layers.clone(), Vec::new())),
            None => {
                let layers = self.layers_at(Home::Here, image_layers(tx, &record.id)?)?;
                let ids = layers.iter().map(Layer::id).collect();
                Ok((layers, ids))
            }
        })
    }

    /// Makes a writable layer on the layers that `find` finds, top first, with the numbers of those of this store.
    pub(crate) fn make_writable_layer(
        &self,
        container: &str,
        image: &str,
        find: impl Fn(&Connection) -> Result<(Vec<Layer>, Vec<i64>)>,
    ) -> Result<RootFilesystem> {
        let mut made = MadeDirectories::new(self, container);
        let root = self.db().write(Durability::Ordered, |tx| {
            let (layers, ids) = find(tx)?;
            record_container(tx, container, image, &ids)?;
            let root = RootFilesystem::of_container(self, container, layers);
            let facts = ContainerFacts {
                image: image.to_owned(),
                roots: root.record().layers,
                layers: ids,
            };
            let upper = self.make_directories(&mut made, root.layers().first(), &facts)?;
            self.make_implied(tx, container, root.layers(), &facts.layers, upper)?;
            Ok(root)
        })?;
        made.armed = false;
        root.mount_layers();
        Ok(root)
    }

    /// Makes the directories that some layer has without an entry of their own.
    fn make_implied(
        &self,
        tx: &Connection,
        container: &str,
        layers: &[Layer],
        ids: &[i64],
        upper: OwnedFd,
    ) -> Result<()> {
        let implied = implicit_directories::of(tx, ids)?;
        if implied.is_empty() {
            return Ok(());
        }
        let roots = layers.iter().map(Layer::directory);
        let roots = roots.collect::<Result<Vec<_>>>()?;
        let made = implicit_directories::make(upper.as_fd(), ids, &roots, &implied);
        made.map_err(Error::sys(
            "fill",
            self.root().join("containers").join(container).join("upper"),
        ))
    }

    /// The root file system whose writable layer [`create_writable_layer`](Store::create_writable_layer) made; `None` when there is
    /// none. Errors with [`Error::LayerLost`] when a layer of it is nowhere.
    pub fn container_root(&self, container: &str) -> Result<Option<RootFilesystem>> {
        check_id(container)?;
        let found = self.db().read(|db| {
            let known = db
                .prepare_cached("SELECT 1 FROM containers WHERE id = ?1")
                .and_then(|mut statement| statement.exists([container]))
                .map_err(Error::db("look up a container"))?;
            match known {
                true => Ok(Some((
                    container_rows(db, container)?,
                    foreign_lowers(db, container)?,
                ))),
                false => Ok(None),
            }
        })?;
        let Some((rows, paths)) = found else {
            return Ok(None);
        };
        let layers = match (rows.is_empty(), paths.is_empty()) {
            (false, _) => self.own_layers(container, rows)?,
            (true, true) => self.recorded_layers(container)?,
            (true, false) => self.layers_by_paths(container, &paths)?,
        };
        Ok(Some(RootFilesystem::of_container(self, container, layers)))
    }

    /// Of a layer that was adopted without knowing what it is, its record may tell.
    fn own_layers(&self, container: &str, mut rows: Vec<LayerRow>) -> Result<Vec<Layer>> {
        for row in rows.iter_mut().filter(|row| row.diff_id.is_empty()) {
            let facts = records::layer(self.layout(), row.id).ok_or_else(|| Error::LayerLost {
                container: container.to_owned(),
                diff_id: format!("number {}", row.id),
            })?;
            row.diff_id = facts.diff_id;
            row.form = facts.form;
        }
        self.layers_at(Home::Here, rows)
    }

    /// The layers of additional stores that a container's own record names.
    fn recorded_layers(&self, container: &str) -> Result<Vec<Layer>> {
        let facts = records::container(self.layout(), container);
        let roots = facts.map_or_else(Vec::new, |facts| facts.roots);
        let find = |root: LayerRecord| {
            let diff_id = Digest::parse(&root.diff_id).ok();
            let layer = diff_id.map(|diff_id| self.layer(&diff_id)).transpose()?;
            layer.flatten().ok_or_else(|| Error::LayerLost {
                container: container.to_owned(),
                diff_id: root.diff_id,
            })
        };
        roots.into_iter().map(find).collect()
    }

    /// The same of a container that an earlier version made: it kept the paths.
    fn layers_by_paths(&self, container: &str, paths: &[PathBuf]) -> Result<Vec<Layer>> {
        let find = |path: &PathBuf| {
            let id = path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            for (place, store) in self.additional().iter().enumerate() {
                if let Some(id) = id
                    && path.parent() == Some(&store.path().join("layers"))
                    && let Some(row) = store.read(|db| row_of_id(db, id))?
                {
                    return self.layer_of(Home::Additional(place), row);
                }
            }
            Err(Error::LayerLost {
                container: container.to_owned(),
                diff_id: path.display().to_string(),
            })
        };
        paths.iter().map(find).collect()
    }

    /// Removes a container's writable layer; that it is gone already is no error.
    ///
    /// Its content is deleted in the background: a container may have written gigabytes.
    pub fn remove_writable_layer(&self, container: &str) -> Result<()> {
        check_id(container)?;
        let layout = self.layout();
        self.detach_mount(container);
        let mounted = self.mounts_of(container);
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
        self.unmount_unused(&mounted);
        Ok(())
    }

    /// Deletes in the background what was moved to `tmp/`.
    pub(crate) fn remove_later(&self, doomed: CString) {
        self.0.background.remove(doomed);
    }

    /// The containers that have a writable layer, those that a crash left half-made included; no builds.
    pub fn writable_layer_ids(&self) -> Result<Vec<String>> {
        let mut ids = self.layout().container_ids()?;
        ids.retain(|id| !Store::is_mount_of_image(id) && !Store::is_of_build(id));
        Ok(ids)
    }

    /// What a container has written, by a walk over its upper directory; nothing when it is gone.
    pub fn writable_layer_usage(&self, container: &str) -> Result<Usage> {
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

    fn make_directories(
        &self,
        made: &mut MadeDirectories<'_>,
        top: Option<&Layer>,
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
        let (mode, uid, gid) = match top {
            Some(top) => top.owner()?,
            None => (0o755, 0, 0),
        };
        let fill = || {
            mkdirat(&dir, "work", Mode::from_raw_mode(0o700))?;
            mkdirat(&dir, "upper", Mode::from_raw_mode(0o755))?;
            let upper: OwnedFd = openat(&dir, "upper", DIRECTORY, Mode::empty())?;
            fchown(&upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            fchmod(&upper, Mode::from_raw_mode(mode))?;
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

/// Where the layers of a container lie that an earlier version made on an additional store.
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

fn container_rows(db: &Connection, container: &str) -> Result<Vec<LayerRow>> {
    const LAYERS: &str = "
        SELECT id, diff_id, bytes, inodes FROM container_layers JOIN layers ON layers.id = layer
        WHERE container = ?1 ORDER BY position DESC";
    let read = || {
        let mut statement = db.prepare_cached(LAYERS)?;
        let rows = statement.query_map([container], read_row)?;
        rows.collect::<rusqlite::Result<Vec<LayerRow>>>()
    };
    let mut rows = read().map_err(Error::db("read the layers of a container"))?;
    forms::fill(db, &mut rows)?;
    Ok(rows)
}

fn row_of_id(db: &Connection, id: i64) -> Result<Option<LayerRow>> {
    let mut row = db
        .prepare_cached("SELECT id, diff_id, bytes, inodes FROM layers WHERE id = ?1 AND ready = 1")
        .and_then(|mut statement| statement.query_row([id], read_row).optional())
        .map_err(Error::db("look up a layer"))?;
    forms::fill(db, row.as_mut_slice())?;
    Ok(row)
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
