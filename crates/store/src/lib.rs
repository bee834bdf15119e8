//! The image store: blobs, layers, names, writable layers, and their garbage collection.
//!
//! A store is a directory that is an OCI image layout (image-spec image-layout.md) and more: see
//! [`Store`] for the life of an image in it. Several processes share one store; each call is atomic
//! against a kill and a power cut (see [`Store::settle`]). Blocking throughout: async callers use a thread for it.
//!
//! ```text
//! lease ──▶ add_layer (each layer) ──▶ put_image ──▶ find, images, read_file
//!                                          │              │
//!                                  tag, untag, remove   create_writable_layer ──▶ remove_writable_layer
//!                                          └──────▶ gc ◀──────┘
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

use std::path::{Path, PathBuf};
use std::sync::Arc;

mod additional;
mod archive;
mod artifact;
mod background;
mod blob;
mod cache;
mod check;
mod db;
mod diff;
mod error;
mod extract;
mod gc;
mod images;
mod implicit_directories;
mod index;
mod keep;
mod layer;
mod layout;
mod lease;
mod limits;
mod manifest_lists;
mod mounts;
mod owner;
mod records;
mod repositories;
mod reserve;
mod restore;
mod root;
mod rootfs;
mod settle;
mod sys;
mod tree;
mod usage;
mod working;
mod working_container;
mod writable_layer;

pub use archive::{TarEntry, TarFile, TarFlaw, TarKind};
pub use check::{Check, Finding, Flaw, Outcome, Report, Subject};
pub use diff::{Change, DiffFlaw, Difference, Times};
pub use error::{Error, ImageFlaw, LayerError, NameFlaw, Result};
pub use extract::EntryFlaw;
pub use images::{Document, ImageRecord, MOST_LAYERS, NewImage, SignedManifest};
pub use keep::KeepBlobs;
pub use layer::{Form, Layer, LayerState, LayerTar, Purpose, WantedForm, names_unpacked};
pub use lease::Lease;
pub use limits::Limits;
pub use root::{
    Access, LayerRecord, MappedIds, MountOptions, OverlayPaths, RootFilesystem, RootRecord,
};
pub use usage::Usage;
pub use working::{NewLayer, WorkingLayer};
pub use working_container::{WorkingContainer, WorkingContainers};

/// A store: cheap to clone, usable from several threads and, through the disk, several processes.
///
/// What a pull does: take a [`lease`](Store::lease); for each layer ask
/// [`hold_layer`](Store::hold_layer) and [`hold_blob`](Store::hold_blob), and if either says no,
/// stream it into [`add_layer`](Store::add_layer); then [`put_image`](Store::put_image); then drop
/// the lease. What is reachable from an image, a container's writable layer or a live lease is never
/// collected; all else goes at the next [`gc`](Store::gc).
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    limits: Limits,
    additional: Vec<additional::Additional>,
    keep: keep::Choice,
    form: layer::Choice,
    background: background::Background,
}

/// What a store is on disk.
#[derive(Debug)]
struct Core {
    layout: Arc<layout::Layout>,
    db: db::Database,
    /// How long a lock is waited for.
    wait: std::time::Duration,
}

impl Store {
    /// Opens the store at `root` with the default [`Limits`], making it when it is not there.
    ///
    /// Removes what dead processes left half-made, and forgets what a power cut may have damaged.
    /// Errors with [`Error::Io`], [`Error::Database`] or [`Error::Schema`].
    pub fn open(root: &Path) -> Result<Store> {
        Store::open_with(root, Limits::default())
    }

    /// [`open`](Store::open) with additional image stores: the roots of other stores, whose images are
    /// found after this one's, and never written. Errors also with [`Error::Additional`].
    pub fn open_beside(root: &Path, additional: &[PathBuf]) -> Result<Store> {
        Store::open_as(root, additional, Limits::default())
    }

    /// [`open`](Store::open) with limits for the layers that this handle adds.
    pub fn open_with(root: &Path, limits: Limits) -> Result<Store> {
        Store::open_as(root, &[], limits)
    }

    fn open_as(root: &Path, additional: &[PathBuf], limits: Limits) -> Result<Store> {
        let layout = Arc::new(layout::Layout::open(root)?);
        let db = db::Database::open(&layout, limits.lock_wait)?;
        let wait = limits.lock_wait;
        let core = Arc::new(Core { layout, db, wait });
        let boot = core.layout.owner().boot();
        let additional = additional
            .iter()
            .map(|path| additional::Additional::open(path, boot))
            .collect::<Result<_>>()?;
        let read_only = core.layout.is_read_only();
        let store = Store(Arc::new(Inner {
            background: background::Background::new(Arc::clone(&core)),
            core,
            limits,
            additional,
            keep: keep::Choice::new(),
            form: layer::Choice::default(),
        }));
        match read_only {
            true => tracing::warn!(
                "store: {} is read-only: what is there can be used, and nothing changed",
                store.root().display()
            ),
            false => store.put_in_order()?,
        }
        Ok(store)
    }

    /// Does what others did not get to: they were killed, or the machine was switched off.
    fn put_in_order(&self) -> Result<()> {
        let core = self.core();
        core.recover()?;
        for name in core.layout.left_behind()? {
            self.0.background.remove(name);
        }
        // A node whose disk is full must start, and be able to remove.
        let prepared =
            implicit_directories::prepare(&core.db).and_then(|()| keep::prepare(&core.db));
        match prepared.and_then(|()| records::complete(&core.db)) {
            Err(error) if error.is_no_space() => tracing::warn!("store: {error}"),
            other => other?,
        }
        reserve::keep(&core.layout);
        // Without one it is no image layout.
        let index = match self.root().join("index.json").exists() {
            true => self.write_index_soon(),
            false => core.rewrite_index(),
        };
        match index {
            Err(error) if error.is_no_space() => tracing::warn!("store: {error}"),
            other => other?,
        }
        if core.has_leftovers()? {
            self.0.background.collect_at_last();
        }
        self.settle_soon()
    }

    /// The root directory, as an absolute path.
    pub fn root(&self) -> &Path {
        self.layout().path()
    }

    fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    fn layout(&self) -> &layout::Layout {
        &self.0.core.layout
    }

    fn db(&self) -> &db::Database {
        &self.0.core.db
    }

    fn additional(&self) -> &[additional::Additional] {
        &self.0.additional
    }

    fn choice(&self) -> &keep::Choice {
        &self.0.keep
    }

    fn layer_path(&self, id: i64, form: Form) -> PathBuf {
        self.root()
            .join("layers")
            .join(layer::forms::name(id, form))
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }
}
