//! Layers, whatever form they have on disk: what each is, and what can be asked of it.
//!
//! ```text
//! add_layer ─▶ Layer ─▶ open: for reading names, or as a mount, id-mapped where asked
//!                 │ ──▶ tar: the archive that its diff_id is the digest of
//!                 └───▶ verify, usage, hold
//! ```
//! A layer is known by its diff_id. Its [`Form`] is how it lies on disk and its [`LayerState`] how much
//! of it is there; neither changes what it is, so whoever stands on a layer records the identity and
//! looks the rest up. What a form that is fetched or mounted as a file adds to this interface, and why
//! it is cut so: docs/decisions/005. Must never tell anyone above the store where a layer lies.

use std::fmt;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use image::Digest;
use rusqlite::{Connection, OptionalExtension};

use crate::check::Flaw;
use crate::db::unsigned;
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::{ImageRecord, Store, Usage, records};

mod add;
mod adopt;
mod choice;
mod convert;
mod decompress;
mod directory;
pub(crate) mod forms;
pub(crate) mod indexed;
mod pipeline;
mod seal;
mod shared;
mod tar;

pub use add::names_unpacked;
pub(crate) use add::{Fresh, ready_layer};
pub(crate) use choice::Choice;
pub use choice::WantedForm;
pub(crate) use seal::Seal;
pub use tar::LayerTar;

/// How a layer lies on disk. A form is added here and in one file beside `directory.rs`; every match on
/// it names all forms, so that the compiler lists what a new one has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Form {
    /// Unpacked, as a lower directory of overlayfs.
    Directory,
    /// The archive as its diff_id says, and an index of it that is mounted as EROFS.
    Erofs,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Directory => "directory",
            Form::Erofs => "erofs",
        })
    }
}

impl std::str::FromStr for Form {
    type Err = String;

    /// `unpacked` (or `directory`) or `erofs`.
    fn from_str(text: &str) -> std::result::Result<Form, String> {
        match text {
            "unpacked" | "directory" => Ok(Form::Directory),
            "erofs" => Ok(Form::Erofs),
            other => Err(format!("{other:?} is neither unpacked nor erofs")),
        }
    }
}

/// How much of a layer is here, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerState {
    /// Some of its content is still elsewhere.
    Partial,
    /// All of it is here; each part was checked when it came, the whole was not.
    Complete,
    /// All of it had the digest that is its identity.
    Verified,
}

/// What a layer is opened for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// Its root as a directory, to read names and files by; whiteouts and opaque marks are overlayfs's.
    Directory,
    /// A detached mount of it, read-only and private: it appears in no mount namespace and is gone with
    /// its last descriptor. With `ids`, a user namespace, its owners are mapped by it.
    Mount {
        /// Whose id maps hold.
        ids: Option<BorrowedFd<'a>>,
    },
    /// One file that a virtual machine can be given as a disk.
    Image,
}

/// A layer that is in a store, or in one of its additional stores.
///
/// It is there for as long as an image, a writable layer or a lease holds it: see [`Layer::hold`].
#[derive(Clone)]
pub struct Layer {
    store: Store,
    home: Home,
    id: i64,
    diff_id: Digest,
    form: Form,
    usage: Usage,
}

/// Which store a layer is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// This one.
    Here,
    /// One of its additional stores, by its place among them.
    Additional(usize),
}

/// What the database says of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerRow {
    pub id: i64,
    pub diff_id: String,
    pub form: Form,
    pub usage: Usage,
}

impl Store {
    /// The layer whose uncompressed archive has this digest, if it is here or in an additional store.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        if let Some(row) = self.db().read(|db| row_of(db, diff_id))? {
            return Ok(Some(self.layer_of(Home::Here, row)?));
        }
        self.additional_layer(diff_id)
    }

    /// The same of additional stores alone.
    pub(crate) fn additional_layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        for (place, store) in self.additional().iter().enumerate() {
            if let Some(row) = store.read(|db| row_of(db, diff_id))? {
                return Ok(Some(self.layer_of(Home::Additional(place), row)?));
            }
        }
        Ok(None)
    }

    /// The layers of an image that count, top first: each once, and none below one that hides all others.
    ///
    /// Errors with [`Error::ImageNotFound`].
    pub fn layers_of(&self, record: &ImageRecord) -> Result<Vec<Layer>> {
        match self.place_of(&record.id)? {
            Some(place) => self.foreign_layers(place, &record.id),
            None => {
                let rows = self.db().read(|db| image_layers(db, &record.id))?;
                self.layers_at(Home::Here, rows)
            }
        }
    }

    /// The same of an image of an additional store.
    pub(crate) fn foreign_layers(&self, place: usize, image: &str) -> Result<Vec<Layer>> {
        let rows = self.additional()[place].read(|db| image_layers(db, image))?;
        self.layers_at(Home::Additional(place), rows)
    }

    pub(crate) fn layers_at(&self, home: Home, rows: Vec<LayerRow>) -> Result<Vec<Layer>> {
        let layers = rows.into_iter().map(|row| self.layer_of(home, row));
        layers.collect()
    }

    pub(crate) fn layer_of(&self, home: Home, row: LayerRow) -> Result<Layer> {
        let diff_id = Digest::parse(&row.diff_id).map_err(|source| Error::Damaged {
            id: row.diff_id,
            field: "diff_id of a layer",
            source: Box::new(source),
        })?;
        Ok(Layer {
            store: self.clone(),
            home,
            id: row.id,
            diff_id,
            form: row.form,
            usage: row.usage,
        })
    }
}

impl Layer {
    /// Its identity: the digest of its uncompressed archive (image-spec config.md, "Layer DiffID").
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// How it lies on disk.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How much of it is here. A directory appears under its name only once the archive that it was
    /// unpacked from had the right digest, and so does an archive.
    pub fn state(&self) -> LayerState {
        match self.form() {
            Form::Directory | Form::Erofs => LayerState::Verified,
        }
    }

    /// What it takes on disk, as it was counted when it was added.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What it takes on disk now, by a walk over all of it.
    pub fn usage_on_disk(&self) -> Result<Usage> {
        match self.form() {
            Form::Directory => directory::usage(self),
            Form::Erofs => indexed::usage(self),
        }
    }

    /// The integrity root that came with it, such as the root of a dm-verity tree, unchecked; `None` when
    /// its image named none, or when it is of an additional store.
    pub fn integrity(&self) -> Result<Option<String>> {
        if self.home != Home::Here {
            return Ok(None);
        }
        let facts = records::layer(self.store.layout(), self.id);
        Ok(facts.and_then(|facts| facts.integrity))
    }

    /// Whether the kernel holds its files to what they were when they were complete (fs-verity), as is written down:
    /// nobody writes them, and what a disk changes in them cannot be read. Never so of a directory, and only where
    /// the file system of the store can.
    pub fn is_sealed(&self) -> Result<bool> {
        match self.form() {
            Form::Directory => Ok(false),
            Form::Erofs => Ok(self.seal().is_some() && indexed::seal_flaw(self)?.is_none()),
        }
    }

    /// What its files were sealed to, if they were.
    pub(crate) fn seal(&self) -> Option<Seal> {
        match self.home {
            Home::Here => records::layer(self.store.layout(), self.id)?.seal,
            Home::Additional(_) => None,
        }
    }

    /// Opens it. What is returned stays usable when the layer is removed meanwhile.
    ///
    /// Errors with [`Error::Unsupported`] when its form, or the kernel, cannot be had so.
    pub fn open(&self, purpose: Purpose<'_>) -> Result<OwnedFd> {
        match self.form() {
            Form::Directory => directory::open(self, purpose),
            Form::Erofs => indexed::open(self, purpose),
        }
    }

    /// Keeps it at least as long as the lease; `false` when it is gone already. Layers of additional stores
    /// are never collected.
    pub fn hold(&self, lease: &Lease) -> Result<bool> {
        match self.home {
            Home::Here => self.store.hold_layer(lease, &self.diff_id),
            Home::Additional(_) => Ok(true),
        }
    }

    /// Whether it still is what its archive makes, and the first difference if not.
    ///
    /// Errors with [`Error::LayerBlobGone`] when the archive is not kept any more, so that nothing can be
    /// said.
    pub fn verify(&self) -> Result<Option<Flaw>> {
        match self.form() {
            Form::Directory => self.store.content_flaw(self, &self.blob()?),
            Form::Erofs => indexed::flaw(self),
        }
    }

    /// Its archive from byte `from` on, exactly as its diff_id says. Whoever needs to be sure hashes it.
    ///
    /// Errors with [`Error::LayerBlobGone`] when it is a directory and no blob of it is kept any more.
    pub fn tar(&self, from: u64) -> Result<LayerTar> {
        tar::open(self, from)
    }

    /// Its archive as the file that lies there, and the bytes of it; `None` where the form keeps none. Not checked:
    /// whoever sends the bytes on computes their digest anyway.
    pub fn archive(&self) -> Result<Option<(File, u64)>> {
        match self.form() {
            Form::Directory => Ok(None),
            Form::Erofs => indexed::archive(self).map(Some),
        }
    }

    /// The blob that it was unpacked from, of which there may be several.
    pub(crate) fn blob(&self) -> Result<image::Descriptor> {
        let found = match self.home {
            Home::Here => self.store.db().read(|db| tar::blobs(db, &self.diff_id))?,
            Home::Additional(place) => {
                self.store.additional()[place].read(|db| tar::blobs(db, &self.diff_id))?
            }
        };
        self.store.layer_blob(&found, &self.diff_id)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// The directory of the store that it is in: for messages, and for kernels that take no descriptors.
    pub(crate) fn path(&self) -> PathBuf {
        let root = match self.home {
            Home::Here => self.store.root(),
            Home::Additional(place) => self.store.additional()[place].path(),
        };
        root.join("layers").join(self.name())
    }

    /// The name of its directory in `layers/`.
    pub(crate) fn name(&self) -> String {
        forms::name(self.id, self.form)
    }

    /// Mode, owner and group of its root.
    pub(crate) fn owner(&self) -> Result<(u32, u32, u32)> {
        match self.form() {
            Form::Directory => directory::owner(self),
            Form::Erofs => indexed::owner(self),
        }
    }

    /// Its root as a lower directory of an overlay that stays, and the path of that from the root of its store,
    /// or an absolute one.
    pub(crate) fn lower(&self) -> Result<(OwnedFd, PathBuf)> {
        match (self.form(), self.home) {
            (Form::Erofs, _) => shared::share(self),
            (Form::Directory, Home::Here) => {
                let path = PathBuf::from("layers").join(self.name());
                Ok((self.directory()?, path))
            }
            (Form::Directory, Home::Additional(_)) => Ok((self.directory()?, self.path())),
        }
    }

    /// Its root as a directory.
    pub(crate) fn directory(&self) -> Result<OwnedFd> {
        self.open(Purpose::Directory)
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({} as {})", self.diff_id, self.path().display())
    }
}

/// The same place on disk.
impl PartialEq for Layer {
    fn eq(&self, other: &Layer) -> bool {
        self.diff_id == other.diff_id && self.path() == other.path()
    }
}

impl Eq for Layer {}

fn row_of(db: &Connection, diff_id: &Digest) -> Result<Option<LayerRow>> {
    let mut row = db
        .prepare_cached(
            "SELECT id, diff_id, bytes, inodes FROM layers WHERE diff_id = ?1 AND ready = 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([diff_id.to_string()], read_row)
                .optional()
        })
        .map_err(Error::db("look up a layer"))?;
    forms::fill(db, row.as_mut_slice())?;
    Ok(row)
}

/// From the columns id, diff_id, bytes and inodes; the form is to be [filled](forms::fill) in.
pub(crate) fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<LayerRow> {
    Ok(LayerRow {
        id: row.get(0)?,
        diff_id: row.get(1)?,
        form: Form::Directory,
        usage: Usage {
            bytes: unsigned(row.get(2)?),
            inodes: unsigned(row.get(3)?),
        },
    })
}

/// An image's layers, top first, each once.
///
/// overlayfs refuses a directory that is there twice. Only the topmost counts: all that the lower
/// one shows or hides, the upper one shows or hides too. Below a layer with an opaque root nothing
/// counts.
pub(crate) fn image_layers(db: &Connection, image: &str) -> Result<Vec<LayerRow>> {
    const LAYERS: &str = "
        SELECT id, diff_id, bytes, inodes, opaque FROM image_layers JOIN layers ON layers.id = layer
        WHERE image = ?1 ORDER BY position DESC";
    let read = || {
        let mut statement = db.prepare_cached(LAYERS)?;
        let rows = statement.query_map([image], |row| Ok((read_row(row)?, row.get(4)?)))?;
        rows.collect::<rusqlite::Result<Vec<(LayerRow, bool)>>>()
    };
    let mut layers: Vec<LayerRow> = Vec::new();
    for (layer, opaque) in read().map_err(Error::db("read the layers"))? {
        if !layers.iter().any(|above| above.id == layer.id) {
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
    forms::fill(db, &mut layers)?;
    Ok(layers)
}

/// What the kernel said about a directory or a mount of a layer.
pub(crate) fn failed(op: &'static str, layer: &Layer) -> impl FnOnce(rustix::io::Errno) -> Error {
    Error::sys(op, layer.path())
}
