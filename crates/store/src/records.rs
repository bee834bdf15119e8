//! What is written down beside the database, so that it can be made again: of each layer what it is,
//! and of each container what it stands on.
//!
//! Each record is written before the database is told. Must never be read while the database is whole,
//! but to keep what a container stands on, and for what only it says of a layer (its integrity root, its seal).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rusqlite::Connection;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::db::{Database, Durability, exists, unsigned};
use crate::error::{Error, Result};
use crate::layer::Seal;
use crate::layout::{DIRECTORY, Layout};
use crate::{Form, LayerRecord, Usage, tree};

/// A record is larger only when it is none.
const LARGEST: u64 = 4 << 20;
/// The name of a container's record, beside `upper` and `work`.
const CONTAINER: &str = "layers";

/// What an unpacked layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerFacts {
    pub diff_id: String,
    pub bytes: u64,
    pub inodes: u64,
    pub opaque: bool,
    /// Directories that no entry is about, as far as their names are text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<String>,
    /// The form that it has.
    #[serde(default = "first_form")]
    pub form: Form,
    /// What the kernel holds its files to, if to anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The integrity root that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<String>,
}

/// What layers were before there was a choice.
fn first_form() -> Form {
    Form::Directory
}

impl LayerFacts {
    pub(crate) fn new(diff_id: String, usage: Usage, opaque: bool) -> LayerFacts {
        let Usage { bytes, inodes } = usage;
        let implied = Vec::new();
        LayerFacts {
            implied,
            diff_id,
            bytes,
            inodes,
            opaque,
            form: first_form(),
            integrity: None,
            seal: None,
        }
    }
}

/// What a container's writable layer stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerFacts {
    pub image: String,
    /// Layers of this store, top first; those of an additional store are never removed.
    pub layers: Vec<i64>,
    /// What all its layers are, top first, wherever they lie. An earlier version kept none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<LayerRecord>,
}

/// Writes down what the layer `id` is.
pub(crate) fn keep_layer(layout: &Layout, id: i64, facts: &LayerFacts) -> Result<()> {
    let Some(dir) = layout.records() else {
        return Ok(());
    };
    let name = id.to_string();
    layout.write_in(
        dir,
        &name,
        &json(facts)?,
        &layout.path().join("records").join(&name),
    )
}

/// Forgets the layer `id`, which is gone.
pub(crate) fn drop_layer(layout: &Layout, id: &str) {
    if let Some(dir) = layout.records() {
        // One that is left says nothing without the layer's directory.
        let _ = unlinkat(dir, id, AtFlags::empty());
    }
}

/// What the layer `id` is, if it is written down.
pub(crate) fn layer(layout: &Layout, id: i64) -> Option<LayerFacts> {
    parsed(layout.records()?, &id.to_string())
}

/// The layers that are written down, by their names.
pub(crate) fn layers(layout: &Layout) -> Result<Vec<(i64, LayerFacts)>> {
    let Some(dir) = layout.records() else {
        return Ok(Vec::new());
    };
    let names = tree::names(dir).map_err(Error::sys("read", layout.path().join("records")))?;
    let read = |name: std::ffi::CString| {
        let id = name.to_str().ok()?.parse().ok()?;
        Some((id, parsed(dir, name.to_str().ok()?)?))
    };
    Ok(names.into_iter().filter_map(read).collect())
}

/// Writes down what a container stands on, in its directory.
pub(crate) fn keep_container(
    layout: &Layout,
    dir: BorrowedFd<'_>,
    container: &str,
    facts: &ContainerFacts,
) -> Result<()> {
    let path = layout.path().join("containers").join(container);
    let bytes = json(facts)?;
    // Nobody looks for it before the directory has all that it needs, so it need not appear at once.
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, CONTAINER, flags, Mode::from_raw_mode(0o600))
        .map_err(Error::sys("create", path.join(CONTAINER)))?;
    std::io::Write::write_all(&mut File::from(file), &bytes)
        .map_err(Error::io("write", path.join(CONTAINER)))
}

/// What a container stands on, if it is written down.
pub(crate) fn container(layout: &Layout, container: &str) -> Option<ContainerFacts> {
    let dir = openat(layout.containers(), container, DIRECTORY, Mode::empty()).ok()?;
    parsed(dir.as_fd(), CONTAINER)
}

/// Writes down what an earlier version did not, once.
pub(crate) fn complete(db: &Database) -> Result<()> {
    const DONE: &str = "SELECT 1 FROM state WHERE key = 'records'";
    let layout = db.layout();
    if layout.records().is_none() || db.read(|db| exists(db, DONE, &[]))? {
        return Ok(());
    }
    for (id, facts) in db.read(ready_layers)? {
        keep_layer(layout, id, &facts)?;
    }
    for (id, facts) in db.read(containers)? {
        let Ok(dir) = openat(layout.containers(), &id, DIRECTORY, Mode::empty()) else {
            continue;
        };
        keep_container(layout, dir.as_fd(), &id, &facts)?;
    }
    db.write(Durability::Ordered, |tx| {
        tx.execute("INSERT OR IGNORE INTO state VALUES('records', 1)", [])
            .map_err(Error::db("note what is written down"))?;
        Ok(())
    })
}

fn ready_layers(db: &Connection) -> Result<Vec<(i64, LayerFacts)>> {
    let read = || {
        let mut statement =
            db.prepare("SELECT id, diff_id, bytes, inodes, opaque FROM layers WHERE ready = 1")?;
        let rows = statement.query_map([], |row| {
            let usage = Usage {
                bytes: unsigned(row.get(2)?),
                inodes: unsigned(row.get(3)?),
            };
            Ok((
                row.get(0)?,
                LayerFacts::new(row.get(1)?, usage, row.get(4)?),
            ))
        })?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read the layers"))
}

fn containers(db: &Connection) -> Result<Vec<(String, ContainerFacts)>> {
    let read = || {
        let mut statement = db.prepare("SELECT id, image FROM containers")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
    };
    let mut found = Vec::new();
    for (id, image) in read().map_err(Error::db("read the containers"))? {
        let layers = crate::writable_layer::container_layers(db, &id)?;
        let roots = Vec::new();
        let facts = ContainerFacts {
            image,
            layers,
            roots,
        };
        found.push((id, facts));
    }
    Ok(found)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Io {
        op: "write",
        path: "records".into(),
        source: error.into(),
    })
}

/// A record; one that cannot be read is none.
fn parsed<T: DeserializeOwned>(dir: BorrowedFd<'_>, name: &str) -> Option<T> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}
