//! Making a lost database again from what lies in the store: `index.json`, blobs, layers and what is
//! written down of them (`records.rs`), and containers.
//!
//! Must never take what cannot be recognised for something that may be deleted: a layer that a
//! container may stand on is kept until the container is gone.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::{Algorithm, AnyManifest, Descriptor, Digest, MediaType, Reference};
use rusqlite::{Connection, params};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

use crate::Form;
use crate::db::{signed, state};
use crate::error::{Error, Result};
use crate::gc::strings;
use crate::images::{Checked, Document, NewImage};
use crate::index;
use crate::keep;
use crate::layer::{forms, ready_layer};
use crate::layout::{EMPTY_LAYER, Layout};
use crate::records::{self, LayerFacts};
use crate::tree;

/// No document of an image is larger.
const MAX_DOCUMENT: u64 = 16 << 20;
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why something is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There was no database.
    Lost,
    /// What is in the store is newer than the database.
    Behind,
}

/// What could be made again.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    images: usize,
    containers: usize,
    /// Images that could not, and why.
    lost: Vec<String>,
    nameless: bool,
}

impl Restored {
    /// Says it, once.
    pub(crate) fn tell(&self, database: &Path, cause: Cause) {
        let what = match cause {
            Cause::Lost => "was lost",
            Cause::Behind => "had lost its latest changes",
        };
        let names = match self.nameless {
            true => ", without their names, as index.json is lost too",
            false => "",
        };
        let lost = match self.lost.len() {
            0 => String::new(),
            count => format!(
                "; {count} cannot be used and must be pulled again: {}",
                self.lost
                    .iter()
                    .take(10)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        };
        tracing::warn!(
            "store: {} {what} and is made again from what lies beside it: {} images{names} and {} containers (pins, \
             signatures and manifest lists are lost){lost}",
            database.display(),
            self.images,
            self.containers
        );
    }
}

/// Adds to the database whatever the store has and the database does not.
pub(crate) fn from_layout(tx: &Connection, layout: &Layout, cause: Cause) -> Result<Restored> {
    let mut restored = Restored::default();
    if cause == Cause::Behind {
        forget_missing(tx, layout)?;
    }
    layers(tx, layout)?;
    let documents = Documents::read(layout)?;
    let listed = match index::written(layout) {
        Some(index) => listed(index.manifests),
        None => {
            restored.nameless = true;
            documents
                .manifests
                .iter()
                .map(|m| (m.clone(), Vec::new()))
                .collect()
        }
    };
    if cause == Cause::Behind && !restored.nameless {
        forget_unlisted(tx, &listed)?;
    }
    for (manifest, names) in listed {
        let shown = names
            .first()
            .cloned()
            .unwrap_or_else(|| manifest.digest.to_string());
        match in_savepoint(tx, || image(tx, layout, &documents, &manifest, names)) {
            Ok(()) => restored.images += 1,
            Err(error @ Error::Database { .. }) => return Err(error),
            // Of what was found without an index, much is no image.
            Err(_) if restored.nameless => {}
            Err(error) => restored.lost.push(format!("{shown}: {error}")),
        }
    }
    restored.containers = containers(tx, layout, true)?;
    counters(tx, layout)?;
    Ok(restored)
}

/// The containers in the store that the database does not know, with what is written down of them.
/// `unknown`: what nothing is written down of may stand on any layer.
pub(crate) fn containers(tx: &Connection, layout: &Layout, unknown: bool) -> Result<usize> {
    let known: HashSet<String> = strings(tx, "SELECT id FROM containers")?
        .into_iter()
        .collect();
    let path = layout.path().join("containers");
    let names = tree::names(layout.containers()).map_err(Error::sys("read", path))?;
    let mut adopted = 0;
    for id in names.into_iter().filter_map(|name| name.into_string().ok()) {
        if known.contains(&id) {
            continue;
        }
        let (image, layers) = match records::container(layout, &id) {
            Some(facts) => (facts.image, facts.layers),
            None if unknown => (String::new(), directories(layout)?),
            None => continue,
        };
        adopt(tx, layout, &id, &image, &layers)?;
        adopted += 1;
    }
    Ok(adopted)
}

fn adopt(tx: &Connection, layout: &Layout, id: &str, image: &str, layers: &[i64]) -> Result<()> {
    // Half a row of a layer says only that its directory is somebody's.
    const LAYER: &str = "
        INSERT OR IGNORE INTO layers(id, diff_id, ready, bytes, inodes) VALUES(?1, '', 0, 0, 0)";
    const STANDS_ON: &str = "
        INSERT OR IGNORE INTO container_layers(container, position, layer) VALUES(?1, ?2, ?3)";
    let run = || {
        tx.execute(
            "INSERT OR IGNORE INTO containers(id, image) VALUES(?1, ?2)",
            [id, image],
        )?;
        for (position, layer) in (0i64..).zip(layers.iter().rev()) {
            if is_layer(layout, *layer) {
                tx.execute(LAYER, [layer])?;
                tx.execute(STANDS_ON, params![id, position, layer])?;
            }
        }
        Ok(())
    };
    run().map_err(Error::db("record a container"))
}

/// The numbers of all layers that have a directory.
fn directories(layout: &Layout) -> Result<Vec<i64>> {
    let path = layout.path().join("layers");
    let names = tree::names(layout.layers()).map_err(Error::sys("read", path))?;
    let numbers = names
        .iter()
        .filter(|name| name.to_bytes() != EMPTY_LAYER.as_bytes());
    let numbers = numbers.filter_map(|name| Some(forms::parse(name.to_str().ok()?)?.0));
    Ok(numbers.collect())
}

/// Whether a layer has a directory, of any form.
fn is_layer(layout: &Layout, id: i64) -> bool {
    forms::ALL.iter().any(|form| is_of_form(layout, id, *form))
}

fn is_of_form(layout: &Layout, id: i64, form: Form) -> bool {
    let name = forms::name(id, form);
    statat(layout.layers(), name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn layers(tx: &Connection, layout: &Layout) -> Result<()> {
    const INSERT: &str = "
        INSERT OR IGNORE INTO layers(id, diff_id, ready, opaque, bytes, inodes)
        SELECT ?1, ?2, 0, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM layers WHERE diff_id = ?2 AND ready = 1)";
    // By an update, as what is ready is counted then.
    const READY: &str = "UPDATE layers SET ready = 1 WHERE id = ?1 AND diff_id = ?2 AND ready = 0";
    for (id, facts) in records::layers(layout)? {
        let LayerFacts {
            diff_id,
            bytes,
            inodes,
            opaque,
            implied,
            form,
            ..
        } = facts;
        if !is_of_form(layout, id, form) || Digest::parse(&diff_id).is_err() {
            continue;
        }
        let run = || {
            let values = params![id, diff_id, opaque, signed(bytes), signed(inodes)];
            if tx.execute(INSERT, values)? > 0 {
                tx.execute(READY, params![id, diff_id])?;
                return Ok(true);
            }
            Ok(false)
        };
        if run().map_err(Error::db("record a layer"))? {
            forms::record(tx, id, form)?;
        }
        let implied: Vec<Vec<u8>> = implied.into_iter().map(String::into_bytes).collect();
        crate::implicit_directories::keep(tx, id, &implied)?;
    }
    Ok(())
}

/// The manifests of an index, and the names of each.
fn listed(entries: Vec<Descriptor>) -> Vec<(Descriptor, Vec<String>)> {
    let mut listed: Vec<(Descriptor, Vec<String>)> = Vec::new();
    let mut places: HashMap<Digest, usize> = HashMap::new();
    for mut entry in entries {
        let name = entry.annotations.remove(REF_NAME);
        let place = *places.entry(entry.digest.clone()).or_insert_with(|| {
            listed.push((entry, Vec::new()));
            listed.len() - 1
        });
        listed[place].1.extend(name);
    }
    listed
}

fn image(
    tx: &Connection,
    layout: &Layout,
    documents: &Documents,
    entry: &Descriptor,
    names: Vec<String>,
) -> Result<()> {
    let manifest = document(layout, entry)?;
    let unfit = |source| Error::Document {
        digest: entry.digest.clone(),
        source: Box::new(source),
    };
    let AnyManifest::Manifest(parsed) =
        AnyManifest::parse(Some(entry.media_type.as_str()), &manifest.bytes).map_err(unfit)?
    else {
        return Err(Error::Mismatch {
            manifest: entry.digest.clone(),
            flaw: crate::ImageFlaw::Index,
        });
    };
    let config = document(layout, &parsed.config)?;
    let index = documents.indexes.get(&entry.digest).cloned();
    // Names by a digest that nothing here has would lead nowhere.
    let known = |name: &String| {
        Reference::parse(name).is_ok_and(|name| match name.digest() {
            Some(digest) => {
                *digest == entry.digest
                    || index
                        .as_ref()
                        .is_some_and(|index| index.descriptor.digest == *digest)
            }
            None => name.tag().is_some(),
        })
    };
    let new = NewImage {
        names: names.into_iter().filter(known).collect(),
        manifest,
        config,
        // Of indexes within indexes the innermost is found again.
        index,
        inner: Vec::new(),
        signatures: Vec::new(),
    };
    let checked = Checked::new(&new)?;
    let index = new.index.iter().map(|index| &index.descriptor);
    for blob in [entry, &parsed.config].into_iter().chain(index) {
        add_blob(tx, layout, &entry.digest, blob)?;
    }
    if checked.is_artifact() {
        for blob in &parsed.layers {
            add_blob(tx, layout, &entry.digest, blob)?;
        }
    }
    for (blob, diff_id) in parsed.layers.iter().zip(checked.diff_ids()) {
        match layout.blob_length(&blob.digest) {
            // Not kept: what it was unpacked to is what counts.
            None if ready_layer(tx, diff_id)?.is_some() => {
                keep::record_dropped(tx, &blob.digest.to_string(), blob.size)?;
            }
            _ => add_blob(tx, layout, &entry.digest, blob)?,
        }
    }
    checked.record(tx)
}

fn add_blob(tx: &Connection, layout: &Layout, manifest: &Digest, blob: &Descriptor) -> Result<()> {
    if layout.blob_length(&blob.digest) != Some(blob.size) {
        return Err(Error::MissingBlob {
            manifest: manifest.clone(),
            blob: blob.digest.clone(),
        });
    }
    tx.execute(
        "INSERT OR IGNORE INTO blobs(digest, size) VALUES(?1, ?2)",
        params![blob.digest.to_string(), signed(blob.size)],
    )
    .map_err(Error::db("record a blob"))?;
    Ok(())
}

/// A document from its file; whoever takes it in checks its digest.
fn document(layout: &Layout, descriptor: &Descriptor) -> Result<Document> {
    let digest = &descriptor.digest;
    let bytes = read(layout, digest.algorithm(), digest.hex())?;
    let mut descriptor = Descriptor::new(
        descriptor.media_type.clone(),
        digest.clone(),
        descriptor.size,
    );
    descriptor.annotations.clear();
    Ok(Document { descriptor, bytes })
}

fn read(layout: &Layout, algorithm: Algorithm, name: &str) -> Result<Vec<u8>> {
    let place = layout
        .path()
        .join("blobs")
        .join(algorithm.as_str())
        .join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(layout.blobs(algorithm), name, flags, Mode::empty())
        .map_err(Error::sys("open", &place))?;
    let mut bytes = Vec::new();
    File::from(file)
        .take(MAX_DOCUMENT)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", &place))?;
    Ok(bytes)
}

/// The manifests among the blobs, and of each the index that it was chosen from.
#[derive(Default)]
struct Documents {
    manifests: Vec<Descriptor>,
    indexes: HashMap<Digest, Document>,
}

impl Documents {
    fn read(layout: &Layout) -> Result<Documents> {
        let mut found = Documents::default();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let path = layout.path().join("blobs").join(algorithm.as_str());
            let names = tree::names(layout.blobs(algorithm)).map_err(Error::sys("read", path))?;
            for name in names.iter().filter_map(|name| name.to_str().ok()) {
                if let Ok(digest) = Digest::parse(&format!("{algorithm}:{name}")) {
                    found.add(layout, digest);
                }
            }
        }
        Ok(found)
    }

    /// What is no document, or cannot be read, is none.
    fn add(&mut self, layout: &Layout, digest: Digest) {
        let length = layout.blob_length(&digest).unwrap_or(u64::MAX);
        let begins = |first: u8| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let dir = layout.blobs(digest.algorithm());
            let mut byte = [0];
            openat(dir, digest.hex(), flags, Mode::empty())
                .is_ok_and(|file| File::from(file).read_exact(&mut byte).is_ok() && byte == [first])
        };
        if length > MAX_DOCUMENT || !begins(b'{') {
            return;
        }
        let Ok(bytes) = read(layout, digest.algorithm(), digest.hex()) else {
            return;
        };
        let parsed = AnyManifest::parse(None, &bytes);
        match parsed {
            Ok(AnyManifest::Index(index)) => {
                let kind = index.media_type.clone().unwrap_or(MediaType::OciIndex);
                let descriptor = Descriptor::new(kind, digest, length);
                for manifest in index.manifests {
                    let document = Document {
                        descriptor: descriptor.clone(),
                        bytes: bytes.clone(),
                    };
                    self.indexes.insert(manifest.digest, document);
                }
            }
            Ok(AnyManifest::Manifest(manifest)) => {
                let kind = manifest.media_type.unwrap_or(MediaType::OciManifest);
                self.manifests.push(Descriptor::new(kind, digest, length));
            }
            Err(_) => {}
        }
    }
}

/// Forgets layers and blobs that are not there any more, and the images made of them.
fn forget_missing(tx: &Connection, layout: &Layout) -> Result<()> {
    let failed = || Error::db("forget what is gone");
    for id in strings(tx, "SELECT CAST(id AS TEXT) FROM layers WHERE ready = 1")? {
        if id.parse().is_ok_and(|id| is_layer(layout, id)) {
            continue;
        }
        for sql in [
            "DELETE FROM images WHERE id IN (SELECT image FROM image_layers WHERE layer = ?1)",
            "DELETE FROM lease_layers WHERE layer = ?1",
            "DELETE FROM container_layers WHERE layer = ?1",
            "DELETE FROM layers WHERE id = ?1",
        ] {
            tx.execute(sql, [&id]).map_err(failed())?;
        }
    }
    let dropped = keep::dropped(tx)?;
    for digest in strings(tx, "SELECT digest FROM blobs")? {
        let there = dropped.contains(&digest)
            || Digest::parse(&digest).is_ok_and(|digest| layout.blob_length(&digest).is_some());
        if !there {
            crate::check::forget_blob(tx, &digest)?;
        }
    }
    Ok(())
}

/// Forgets images and tags that a newer index does not list any more.
fn forget_unlisted(tx: &Connection, listed: &[(Descriptor, Vec<String>)]) -> Result<()> {
    let manifests: HashSet<String> = listed.iter().map(|(m, _)| m.digest.to_string()).collect();
    let names: HashSet<&str> = listed
        .iter()
        .flat_map(|(_, names)| names.iter().map(String::as_str))
        .collect();
    let failed = || Error::db("forget what is not listed");
    for name in strings(tx, "SELECT name FROM names WHERE kind = 0")? {
        if !names.contains(name.as_str()) {
            tx.execute("DELETE FROM names WHERE name = ?1", [&name])
                .map_err(failed())?;
        }
    }
    let mut kept = HashSet::new();
    for pair in strings(tx, "SELECT image || ' ' || digest FROM manifests")? {
        if let Some((image, digest)) = pair.split_once(' ')
            && manifests.contains(digest)
        {
            kept.insert(image.to_owned());
        }
    }
    for image in strings(tx, "SELECT id FROM images")? {
        if !kept.contains(&image) {
            tx.execute("DELETE FROM images WHERE id = ?1", [&image])
                .map_err(failed())?;
        }
    }
    Ok(())
}

/// Sees to it that no number is given twice, and that `index.json` is written again.
fn counters(tx: &Connection, layout: &Layout) -> Result<()> {
    let largest = directories(layout)?.into_iter().max().unwrap_or(0);
    let names = state(tx, "names")?.max(index::written_names(layout).unwrap_or(0));
    let run = || {
        // Others may still hold leases that only the old database knows.
        tx.execute(
            "INSERT INTO leases(id, owner) SELECT unixepoch(), 'none' WHERE NOT EXISTS
            (SELECT 1 FROM sqlite_sequence WHERE name = 'leases' AND seq >= unixepoch())",
            [],
        )?;
        tx.execute("DELETE FROM leases WHERE owner = 'none'", [])?;
        tx.execute(
            "INSERT INTO sqlite_sequence(name, seq) SELECT 'layers', 0 WHERE NOT EXISTS
            (SELECT 1 FROM sqlite_sequence WHERE name = 'layers')",
            [],
        )?;
        tx.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'layers'",
            [largest],
        )?;
        tx.execute(
            "UPDATE state SET value = ?1 WHERE key = 'names'",
            [names + 1],
        )?;
        // What belongs to nothing stays until somebody asks for it to go: nothing is sure just now.
        tx.execute("UPDATE state SET value = 0 WHERE key = 'walk'", [])?;
        tx.execute("INSERT OR IGNORE INTO state VALUES('records', 1)", [])?;
        tx.execute(
            "INSERT INTO boots(id) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM boots)",
            [layout.owner().boot()],
        )
    };
    run().map_err(Error::db("count on"))?;
    Ok(())
}

/// Undoes what `run` did to the database if it fails.
fn in_savepoint(tx: &Connection, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let sql = |sql: &str| tx.execute_batch(sql).map_err(Error::db("take a step"));
    sql("SAVEPOINT one")?;
    let result = run();
    if result.is_err() {
        sql("ROLLBACK TO one")?;
    }
    sql("RELEASE one")?;
    result
}
