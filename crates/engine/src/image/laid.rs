//! `images_dir`: archives and layouts that an administrator lays in a directory are taken into the store while the
//! engine serves, checked by the policy, and pinned for as long as they lie there. For nodes without a registry.
//!
//! What was taken is written down in `<root>/images-dir.json`, so that a start reads no archive again. Must never
//! read what is still being written, and never let one file that is bad keep others waiting: it is named once, and
//! tried again when it changes. The readers are those of `floe load`, with their limits.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::file::{Lasts, has_writer, read_bounded, replace};
use distribution::Credentials;
use image::{AnyManifest, Reference};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use transfer::{Access, Location, Options, Source, Target};

use super::watched::Watched;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// How long a file must have been the same, where the file system says whether it is being written, and where not.
const SETTLED: Duration = Duration::from_secs(1);
const SETTLED_UNTOLD: Duration = Duration::from_secs(5);
/// How often what is not settled is looked at.
const SOON: Duration = Duration::from_millis(500);
/// How often all is looked at without a word: a network's file system tells nothing, nor does a layout's inside. What
/// failed for the store's sake is tried again then.
const LATER: Duration = Duration::from_secs(60);
/// Files and directories that are looked at, names that are listed, and files of a layout.
const ENTRIES: usize = 1000;
const LISTED: usize = 100_000;
const BLOBS: usize = 100_000;
/// The longest record, in bytes.
const RECORD_MAX: u64 = 16 << 20;

/// The record of what was taken.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    #[serde(default)]
    revision: u32,
    /// By the name in the directory.
    taken: BTreeMap<String, Taken>,
}

/// A file or directory that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    stamp: Stamp,
    /// The ids of its images.
    images: Vec<String>,
}

/// What tells a file from what it was before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    files: u64,
    size: u64,
    /// Of the newest change, in nanoseconds since 1970.
    changed: i64,
}

/// Takes in what lies in the directory that the configuration names, and what changes there.
#[derive(Debug)]
pub struct LaidImages {
    engine: Engine,
    handle: Handle,
    taken: BTreeMap<String, Taken>,
    /// What is wrong, and whether it may be better without a change.
    bad: BTreeMap<String, (Stamp, bool)>,
    /// What may still be written: as it was when it was looked at, and since when it is so.
    unsettled: BTreeMap<String, (Stamp, Instant)>,
    /// How many names were not looked at, and the first of them: as it was told.
    left_out: Option<(usize, String)>,
    watched: Option<Watched>,
}

impl LaidImages {
    /// For an engine; images are copied on `handle`. Reads the record.
    #[must_use]
    pub fn new(engine: Engine, handle: Handle) -> Self {
        let mut taken = read_record(&record_path(&engine));
        // An image that was removed all the same comes back.
        let is_there = |id: &String| matches!(engine.store().find(id), Ok(Some(_)));
        taken.retain(|_, one| one.images.iter().all(is_there));
        Self {
            engine,
            handle,
            taken,
            bad: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            left_out: None,
            watched: None,
        }
    }

    /// Looks after the directory for ever; blocks.
    pub fn run(mut self) {
        let mut tried = Instant::now();
        loop {
            let engine = self.engine.now();
            let dir = &engine.config().image.images_dir;
            let wait = match dir.as_os_str().is_empty() {
                // A reload may name one.
                true => {
                    self.release(&engine);
                    LATER
                }
                false => {
                    self.watch(dir);
                    if tried.elapsed() >= LATER {
                        tried = Instant::now();
                        self.bad.retain(|_, (_, passes)| !*passes);
                    }
                    self.look(&engine, dir);
                    match self.unsettled.is_empty() {
                        true => LATER,
                        false => SOON,
                    }
                }
            };
            match &self.watched {
                Some(watched) => watched.wait(wait),
                None => std::thread::sleep(wait.min(10 * SETTLED)),
            }
        }
    }

    fn watch(&mut self, dir: &Path) {
        if !self
            .watched
            .as_ref()
            .is_some_and(|watched| watched.is_on(dir))
        {
            self.watched = Watched::on(dir);
        }
    }

    /// Takes what is new and whole, and lets go of what is gone.
    fn look(&mut self, engine: &Engine, dir: &Path) {
        let Some(listed) = entries(dir) else {
            // A directory that cannot be read may have all that was in it.
            return;
        };
        let found = self.chosen(dir, listed);
        let gone: Vec<String> = self
            .taken
            .keys()
            .filter(|name| !found.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.let_go(engine, &name);
        }
        self.bad.retain(|name, _| found.contains(name));
        self.unsettled.retain(|name, _| found.contains(name));
        for name in &found {
            let path = dir.join(name);
            let Some(stamp) = stamp(&path) else { continue };
            if !self.is_news(name, &stamp) {
                self.unsettled.remove(name);
            } else if self.is_settled(name, &path, &stamp) {
                self.unsettled.remove(name);
                self.take(engine, name, &path, stamp);
            }
        }
    }

    /// Those that are looked at: what was taken before, and then the first by name. The rest is told once.
    fn chosen(&mut self, dir: &Path, listed: BTreeSet<String>) -> BTreeSet<String> {
        let known = |name: &&String| self.taken.contains_key(*name);
        let room = ENTRIES.saturating_sub(listed.iter().filter(known).count());
        let others = || listed.iter().filter(|name| !known(name));
        let left_out = others().nth(room).cloned();
        let left_out = left_out.map(|first| (others().count() - room, first));
        if let Some((count, first)) = &left_out
            && self.left_out != left_out
        {
            let dir = dir.display();
            tracing::warn!(%dir, count, first, "images_dir has more than {ENTRIES} files: so many are left out");
        }
        self.left_out = left_out;
        let taken = listed.iter().filter(known);
        taken.chain(others().take(room)).cloned().collect()
    }

    /// Lets go of all that was taken: no directory is configured any more.
    fn release(&mut self, engine: &Engine) {
        self.watched = None;
        self.bad.clear();
        self.unsettled.clear();
        let taken = std::mem::take(&mut self.taken);
        if taken.is_empty() {
            return;
        }
        let files = taken.len();
        for one in taken.into_values() {
            self.unpin(engine, Some(one));
        }
        self.write(engine);
        tracing::info!(
            files,
            "images_dir is not configured any more: its images stay, and are not pinned any more"
        );
    }

    fn is_news(&self, name: &str, stamp: &Stamp) -> bool {
        if self.bad.get(name).is_some_and(|(known, _)| known == stamp) {
            return false;
        }
        self.taken
            .get(name)
            .is_none_or(|taken| taken.stamp != *stamp)
    }

    /// Has it been the same for long enough, and does nobody write to it?
    fn is_settled(&mut self, name: &str, path: &Path, stamp: &Stamp) -> bool {
        let now = Instant::now();
        let since = match self.unsettled.get(name) {
            Some((known, since)) if known == stamp => *since,
            _ => {
                self.unsettled.insert(name.to_owned(), (stamp.clone(), now));
                return false;
            }
        };
        let age = now.saturating_duration_since(since);
        match writer(path) {
            Some(true) => false,
            Some(false) => age >= SETTLED,
            None => age >= SETTLED_UNTOLD,
        }
    }

    fn take(&mut self, engine: &Engine, name: &str, path: &Path, stamp: Stamp) {
        let started = Instant::now();
        let (sender, outcome) = std::sync::mpsc::channel();
        let (from, of) = (path.to_owned(), engine.clone());
        self.handle.spawn(async move {
            let _ = sender.send(copy_all(&of, &from).await);
        });
        let file = path.display();
        match outcome.recv() {
            Ok(Ok(images)) => {
                let (took, count) = (started.elapsed(), images.len());
                self.hold(engine, name, Taken { stamp, images });
                tracing::info!(%file, images = count, ?took, "images that were laid there are taken");
            }
            Ok(Err(error)) => {
                let passes = matches!(error, Error::Store(_) | Error::Io { .. });
                tracing::warn!(%file, %error, "no image can be taken from what was laid there: it is tried again when it changes");
                self.bad.insert(name.to_owned(), (stamp, passes));
            }
            // The process ends.
            Err(_) => {}
        }
    }

    /// Pins the images of a file, and lets go of those that it had before.
    fn hold(&mut self, engine: &Engine, name: &str, taken: Taken) {
        for id in &taken.images {
            pin(engine, id, true);
        }
        let before = self.taken.insert(name.to_owned(), taken);
        self.bad.remove(name);
        self.unpin(engine, before);
        self.write(engine);
    }

    fn let_go(&mut self, engine: &Engine, name: &str) {
        let before = self.taken.remove(name);
        self.unpin(engine, before);
        self.write(engine);
        tracing::info!(
            file = name,
            "it is gone from images_dir: its images stay, and are not pinned any more"
        );
    }

    /// Those that no other file has.
    fn unpin(&self, engine: &Engine, before: Option<Taken>) {
        let held: BTreeSet<&String> = self.taken.values().flat_map(|one| &one.images).collect();
        let images = before.map(|before| before.images).unwrap_or_default();
        for id in images.iter().filter(|id| !held.contains(id)) {
            pin(engine, id, false);
        }
    }

    fn write(&self, engine: &Engine) {
        let record = Record {
            version: 1,
            revision: 0,
            taken: self.taken.clone(),
        };
        let path = record_path(engine);
        let written = serde_json::to_vec(&record)
            .map_err(std::io::Error::other)
            .and_then(|bytes| replace(&path, &bytes, 0o600, Lasts::Always));
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "the next start takes the images of images_dir again");
        }
    }
}

fn pin(engine: &Engine, id: &str, pinned: bool) {
    if let Err(error) = engine.store().set_pinned(id, pinned) {
        tracing::warn!(image = id, pinned, %error, "an image of images_dir keeps its pin as it was");
    }
}

/// What is wrong with what was laid there, or with the store.
fn wrong(error: transfer::Error) -> Error {
    match error {
        transfer::Error::Store(source) => Error::Store(source),
        other => Error::invalid("images_dir", other.to_string()),
    }
}

/// Copies every image of a file or layout into the store; their ids.
async fn copy_all(engine: &Engine, path: &Path) -> Result<Vec<String>> {
    let fetcher = engine.images_fetcher();
    let access = Access {
        client: fetcher.client().clone(),
        credentials: Credentials::Anonymous,
        store: Some(engine.store().clone()),
        peers: None,
        shared_blobs: None,
    };
    let looked = path.to_owned();
    let contents = tokio::task::spawn_blocking(move || transfer::contents(&looked).map_err(wrong));
    let contents = contents
        .await
        .map_err(|error| Error::io("read", path)(error.into()))??;
    let mut images = Vec::new();
    for content in contents {
        let names = content.names.iter().map(|name| {
            let parsed = Reference::parse(name).map(Reference::or_latest);
            parsed.map_err(|why| Error::invalid("images_dir", format!("{name:?}: {why}")))
        });
        let names: Vec<String> = names
            .map(|name| Ok(name?.to_string()))
            .collect::<Result<_>>()?;
        let options = Options {
            policy: Some(fetcher.policies().node().clone()),
            ..Options::default()
        };
        let first = names.first().cloned().unwrap_or_default();
        let copied = async {
            let source = Source::open(&content.location, &access).await?;
            let target = Target::open(&Location::Store(first), &access).await?;
            let watch: transfer::Watch = std::sync::Arc::new(|_| {});
            let written = transfer::copy(&source, target, &options, &watch).await?;
            Ok((written.parse()?, written.digest))
        };
        let (AnyManifest::Manifest(manifest), digest) = copied.await.map_err(wrong)? else {
            return Err(Error::invalid(
                "images_dir",
                "an index was not resolved to an image",
            ));
        };
        let id = manifest.id(&digest).to_owned();
        for name in names.iter().skip(1) {
            engine.store().tag(&id, name)?;
        }
        images.push(id);
    }
    Ok(images)
}

/// The names that may be taken; `None`: they cannot be listed.
fn entries(dir: &Path) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let listed = std::fs::read_dir(dir).ok()?;
    for entry in listed.flatten().take(LISTED) {
        let name = entry.file_name();
        // Hidden ones are how tools name what they are still copying.
        if !name.as_bytes().starts_with(b".") {
            found.extend(name.into_string().ok());
        }
    }
    Some(found)
}

/// What is there now; `None`: no plain file and no directory.
fn stamp(path: &Path) -> Option<Stamp> {
    let top = std::fs::metadata(path).ok()?;
    let mut stamp = Stamp {
        inode: top.ino(),
        ..Stamp::default()
    };
    if top.is_file() {
        stamp.add(&top);
        return Some(stamp);
    }
    if !top.is_dir() {
        return None;
    }
    // A layout: index.json, and blobs two directories down.
    let mut dirs: Vec<(PathBuf, u32)> = vec![(path.to_owned(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).ok()?.flatten() {
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if found.is_dir() && depth < 2 {
                dirs.push((entry.path(), depth + 1));
            } else if found.is_file() {
                stamp.add(&found);
            }
            if stamp.files > BLOBS as u64 || dirs.len() > ENTRIES {
                return None;
            }
        }
    }
    Some(stamp)
}

impl Stamp {
    fn add(&mut self, file: &std::fs::Metadata) {
        let at =
            |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        let modified = at(file.mtime(), file.mtime_nsec());
        let changed = at(file.ctime(), file.ctime_nsec());
        self.files += 1;
        self.size = self.size.saturating_add(file.size());
        self.changed = self.changed.max(modified).max(changed);
    }
}

/// Does somebody write to it? `None`: nobody can say.
fn writer(path: &Path) -> Option<bool> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    has_writer(&options.open(path).ok()?)
}

fn record_path(engine: &Engine) -> PathBuf {
    engine
        .config()
        .root_table
        .root
        .join(OsString::from("images-dir.json"))
}

/// One that is lost, damaged, or of a newer form means that all is taken again.
fn read_record(path: &Path) -> BTreeMap<String, Taken> {
    let bytes = read_bounded(path, RECORD_MAX).ok().flatten();
    let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    let known = record.filter(|record| record.version == 1);
    known.map(|record| record.taken).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_is_none_and_one_of_before_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images-dir.json");
        assert!(read_record(&path).is_empty());
        let golden = r#"{"version":1,"revision":0,"taken":{"a.tar":{"stamp":{"inode":1,"files":1,"size":2,"changed":3},"images":["ab"]}}}"#;
        std::fs::write(&path, golden).unwrap();
        assert_eq!(read_record(&path)["a.tar"].images, ["ab"]);
        std::fs::write(&path, golden.replace("\"version\":1", "\"version\":2")).unwrap();
        assert!(read_record(&path).is_empty());
        std::fs::write(&path, "{").unwrap();
        assert!(read_record(&path).is_empty());
    }

    #[test]
    fn any_change_changes_the_stamp_and_what_is_no_file_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar");
        std::fs::write(&file, "1").unwrap();
        let first = stamp(&file).unwrap();
        assert_eq!(stamp(&file), Some(first.clone()));
        std::fs::write(&file, "22").unwrap();
        let second = stamp(&file).unwrap();
        assert_ne!(first, second);
        let layout = dir.path().join("layout");
        std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let empty = stamp(&layout).unwrap();
        std::fs::write(layout.join("blobs/sha256/x"), "1").unwrap();
        assert_ne!(stamp(&layout).unwrap(), empty);
        assert_eq!(stamp(Path::new("/dev/null")), None);
        std::fs::write(dir.path().join(".part"), "").unwrap();
        assert_eq!(
            entries(dir.path()).unwrap().into_iter().collect::<Vec<_>>(),
            ["a.tar", "layout"]
        );
    }
}
