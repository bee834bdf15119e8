//! Which files are read, in which order, and at which line each key stands in them.
//!
//! As CRI-O does it: the main file, then every file below a directory of drop-ins in lexical order.
//! Must never be stopped by a file that only root may read and nobody named.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};

/// Where the main file is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/floe/floe.toml";
/// Drop-ins, read in lexical order after the main file when no file is named.
pub const DEFAULT_DIR: &str = "/etc/floe/floe.toml.d";

/// No configuration is as long.
const FILE_MAX: u64 = 4 << 20;
/// Nor has one as many drop-ins, or directories in each other.
const FILES_MAX: usize = 1000;
const DEPTH_MAX: usize = 8;

/// Where the configuration is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The main file; `None`: [`DEFAULT_FILE`], if it is there.
    pub file: Option<PathBuf>,
    /// The directory of drop-ins; `None`: the one beside the file (`crio.conf.d` of `crio.conf`), if
    /// it is there. An empty path: none.
    pub dir: Option<PathBuf>,
}

/// One file.
pub(super) struct Layer {
    pub(super) path: PathBuf,
    /// `[crio]` only: `[floe]` has been merged into it.
    pub(super) table: toml::Table,
    /// Every key with a value.
    pub(super) keys: Vec<Key>,
}

/// A key in a file.
pub(super) struct Key {
    /// Dotted, without the leading `crio.` or `floe.`.
    pub(super) name: String,
    /// 1-based; 0: it is in no file.
    pub(super) line: usize,
    pub(super) value: toml::Value,
}

/// Where a key stands, for people.
pub(super) fn place(file: &Path, line: usize) -> String {
    match line {
        0 => file.display().to_string(),
        line => format!("{}:{line}", file.display()),
    }
}

/// Where each key stands that counts: the last of its name.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, String>);

impl Places {
    pub(super) fn add(&mut self, file: &Path, key: &Key) {
        self.0.insert(key.name.clone(), place(file, key.line));
    }

    /// Where the key stands with which an error begins (`crio.runtime.pids_limit: …`), or the first key of
    /// the table that it names.
    pub(super) fn of(&self, error: &str) -> Option<String> {
        let name = own_name(error.split(':').next()?);
        let below = format!("{name}.");
        let mut keys = self.0.iter();
        let found = keys.find(|(key, _)| *key == name || key.starts_with(&below));
        found.map(|(_, place)| place.clone())
    }
}

impl Sources {
    /// Where errors of the whole are said to be.
    pub(super) fn origin(&self) -> String {
        self.main_file().display().to_string()
    }

    /// The main file, whether it is there or not.
    #[must_use]
    pub fn main_file(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }

    /// The directory of drop-ins, whether it is there or not.
    #[must_use]
    pub fn drop_ins(&self) -> Option<PathBuf> {
        match (&self.dir, &self.file) {
            (Some(dir), _) if dir.as_os_str().is_empty() => None,
            (Some(dir), _) => Some(dir.clone()),
            (None, None) => Some(DEFAULT_DIR.into()),
            (None, Some(file)) => {
                let mut name = file.as_os_str().to_owned();
                name.push(".d");
                Some(name.into())
            }
        }
    }

    /// Reads all files, in the order in which later ones win.
    pub(super) fn read(&self) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        match &self.file {
            Some(file) => layers.push(read(file)?),
            None => layers.extend(unless_hidden(read(Path::new(DEFAULT_FILE)))?),
        }
        let Some(dir) = self.drop_ins() else {
            return Ok(layers);
        };
        let is_own = self.file.is_none() && self.dir.is_none();
        let wanted = |path: &Path| {
            !is_own
                || path
                    .extension()
                    .is_some_and(|end| end == "toml" || end == "conf")
        };
        for path in below(&dir)?.into_iter().filter(|path| wanted(path)) {
            match self.file.is_some() || self.dir.is_some() {
                true => layers.push(read(&path)?),
                false => layers.extend(unless_hidden(read(&path))?),
            }
        }
        Ok(layers)
    }
}

/// Nothing, when a file that nobody named is not there, or is not for an ordinary user to read.
fn unless_hidden(read: Result<Layer>) -> Result<Option<Layer>> {
    let is_user = !rustix::process::geteuid().is_root();
    match read {
        Err(Error::Io { source, .. })
            if source.kind() == ErrorKind::NotFound
                || is_user && source.kind() == ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// All files below a directory in lexical order, but for hidden ones; none if it is missing, or not
/// for this user to list.
fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e)
                if e.kind() == ErrorKind::PermissionDenied
                    && !rustix::process::geteuid().is_root() =>
            {
                continue;
            }
            other => other.map_err(Error::io("read", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &dir))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            // Follows links: drop-ins are often mounted as such.
            let Ok(kind) = std::fs::metadata(&path) else {
                continue;
            };
            if kind.is_file() {
                files.push(path);
            } else if kind.is_dir() && depth < DEPTH_MAX {
                dirs.push((path, depth + 1));
            }
            if files.len() + dirs.len() > FILES_MAX {
                return Err(Error::Config {
                    origin: dir.display().to_string(),
                    reason: format!("more than {FILES_MAX} files"),
                });
            }
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn read(path: &Path) -> Result<Layer> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(Error::io("read", path))?;
    let wrong = |line: usize, reason: String| Error::Config {
        origin: format!("{}:{line}", path.display()),
        reason,
    };
    if text.len() as u64 > FILE_MAX {
        return Err(wrong(0, format!("is longer than {FILE_MAX} bytes")));
    }
    let bad = |e: toml::de::Error| {
        let line = e.span().map_or(0, |span| line_at(&text, span.start));
        wrong(line, e.message().to_owned())
    };
    let whole: toml::Table = text.parse().map_err(bad)?;
    let spans = DeTable::parse(&text).map_err(bad)?;
    let keys = keys(&text, spans.get_ref(), &whole);
    Ok(Layer {
        path: path.to_owned(),
        table: one_table(whole),
        keys,
    })
}

/// `[floe]` merged into `[crio]`.
fn one_table(mut whole: toml::Table) -> toml::Table {
    let mut crio = toml::Table::new();
    for name in ["crio", "floe"] {
        if let Some(toml::Value::Table(table)) = whole.remove(name) {
            merge(&mut crio, table);
        }
    }
    // Earlier versions of floe had this key of CRI-O's in another table.
    let runtime = crio.get_mut("runtime").and_then(toml::Value::as_table_mut);
    if let Some(dir) = runtime.and_then(|runtime| runtime.remove("log_dir")) {
        crio.entry("log_dir").or_insert(dir);
    }
    whole.insert("crio".into(), crio.into());
    whole
}

/// Every key that has a value which is no table, in the order of the lines.
fn keys(text: &str, spans: &DeTable<'_>, values: &toml::Table) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut tables = vec![(String::new(), spans, values)];
    while let Some((prefix, spans, values)) = tables.pop() {
        for (key, span) in spans {
            let plain: &str = key.get_ref();
            let name = format!("{prefix}{plain}");
            match (span.get_ref(), values.get(plain)) {
                (DeValue::Table(inner), Some(toml::Value::Table(values))) => {
                    tables.push((format!("{name}."), inner, values));
                }
                (_, Some(value)) => keys.push(Key {
                    name: own_name(&name).to_owned(),
                    line: line_at(text, key.span().start),
                    value: value.clone(),
                }),
                (_, None) => {}
            }
        }
    }
    keys.sort_by_key(|key| key.line);
    keys
}

fn own_name(name: &str) -> &str {
    let own = ["crio.", "floe."];
    let own = own.iter().find_map(|table| name.strip_prefix(table));
    own.unwrap_or(name)
}

/// Later wins, key by key. The parser limits how deep tables lie in each other.
pub(super) fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
