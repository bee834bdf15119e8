//! The configuration: crio.conf's tables and keys, so that a CRI-O node's file works as it is.
//! `[floe.*]` is the same as `[crio.*]` and wins over it. Keys that floe does not use are
//! reported by name and line and never stop the engine; values that cannot be used do.
//!
//! One struct per table ([`tables`]); defaults stand there and nowhere else.

mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) use tables::parse_ulimit;
pub use tables::{Api, CgroupManager, Config, Image, Network, Root, Runtime};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Where the main file is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/floe/floe.toml";
/// Drop-ins, read in lexical order after the main file when no file is named.
pub const DEFAULT_DIR: &str = "/etc/floe/floe.toml.d";

/// A key in a file that floe does not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The file.
    pub file: PathBuf,
    /// 1-based line, 0 if it could not be found.
    pub line: usize,
    /// Dotted name.
    pub key: String,
}

impl Config {
    /// Reads `file`, or the default file and drop-ins (each may be missing) if `None`.
    ///
    /// # Errors
    /// A named file that is missing, a file that is not TOML, a value of the wrong type or
    /// outside its range; each with file and line.
    pub fn load(file: Option<&Path>) -> Result<(Self, Vec<UnknownKey>)> {
        let mut layers = Vec::new();
        match file {
            Some(path) => layers.push(read_layer(path)?),
            None => {
                for path in default_files()? {
                    layers.push(read_layer(&path)?);
                }
            }
        }
        let mut merged = toml::Table::new();
        let mut unknown = Vec::new();
        let known = Self::known_keys();
        for layer in layers {
            for key in leaf_keys(&layer.table) {
                if !known.contains(key.as_str()) {
                    unknown.push(UnknownKey {
                        file: layer.path.clone(),
                        line: line_of(&layer.text, &key),
                        key,
                    });
                }
            }
            merge(&mut merged, layer.table);
        }
        let origin = file
            .unwrap_or(Path::new(DEFAULT_FILE))
            .display()
            .to_string();
        let config = Self::from_table(&merged).map_err(|reason| Error::Config {
            origin: origin.clone(),
            reason,
        })?;
        config
            .validate()
            .map_err(|reason| Error::Config { origin, reason })?;
        Ok((config, unknown))
    }

    /// The tables below `[crio]`; an error names the key.
    fn from_table(whole: &toml::Table) -> Result<Self, String> {
        let empty = toml::Table::new();
        let crio = whole
            .get("crio")
            .and_then(toml::Value::as_table)
            .unwrap_or(&empty);
        let mut own = crio.clone();
        own.retain(|_, value| !value.is_table());
        Ok(Self {
            root_table: section("crio", own.into())?,
            api: subsection(crio, "api")?,
            runtime: subsection(crio, "runtime")?,
            image: subsection(crio, "image")?,
            network: subsection(crio, "network")?,
        })
    }

    /// Every dotted key below the root table, taken from the defaults written out.
    fn known_keys() -> BTreeSet<String> {
        let defaults = toml::Table::try_from(Self::default()).unwrap_or_default();
        leaf_keys(&defaults).into_iter().collect()
    }
}

fn subsection<T: DeserializeOwned>(crio: &toml::Table, name: &str) -> Result<T, String> {
    let value = crio
        .get(name)
        .cloned()
        .unwrap_or_else(|| toml::Table::new().into());
    section(&format!("crio.{name}"), value)
}

/// One table, each of whose keys is tried alone if the whole cannot be read, to name the culprit.
fn section<T: DeserializeOwned>(name: &str, value: toml::Value) -> Result<T, String> {
    let keys = value.as_table().cloned().unwrap_or_default();
    T::deserialize(value).map_err(|whole| {
        let alone = keys.into_iter().find_map(|(key, value)| {
            let table = toml::Table::from_iter([(key.clone(), value)]);
            let error = T::deserialize(toml::Value::from(table)).err()?;
            Some(format!("{name}.{key}: {}", error.message()))
        });
        alone.unwrap_or_else(|| format!("{name}: {}", whole.message()))
    })
}

struct Layer {
    path: PathBuf,
    text: String,
    /// `[crio]` only: `[floe]` has been merged into it.
    table: toml::Table,
}

fn read_layer(path: &Path) -> Result<Layer> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let mut whole: toml::Table = text.parse().map_err(|e: toml::de::Error| Error::Config {
        origin: format!(
            "{}:{}",
            path.display(),
            e.span().map_or(0, |s| line_at(&text, s.start))
        ),
        reason: e.message().to_owned(),
    })?;
    let mut crio = toml::Table::new();
    for name in ["crio", "floe"] {
        if let Some(toml::Value::Table(table)) = whole.remove(name) {
            merge(&mut crio, table);
        }
    }
    let mut table = whole;
    table.insert("crio".into(), crio.into());
    Ok(Layer {
        path: path.to_owned(),
        text,
        table,
    })
}

fn default_files() -> Result<Vec<PathBuf>> {
    let main = Path::new(DEFAULT_FILE);
    let mut files: Vec<PathBuf> = main.exists().then(|| main.to_owned()).into_iter().collect();
    let dir = match std::fs::read_dir(DEFAULT_DIR) {
        Ok(dir) => dir,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(e) => return Err(Error::io("read", DEFAULT_DIR)(e)),
    };
    let mut drop_ins: Vec<PathBuf> = dir
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml" || e == "conf"))
        .collect();
    drop_ins.sort();
    files.extend(drop_ins);
    Ok(files)
}

/// Later wins, key by key.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Dotted names of all values, without the leading `crio.`; names outside `[crio]` keep theirs.
fn leaf_keys(table: &toml::Table) -> Vec<String> {
    fn walk(prefix: &str, table: &toml::Table, out: &mut Vec<String>) {
        for (key, value) in table {
            let name = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            match value {
                toml::Value::Table(inner) => walk(&name, inner, out),
                _ => out.push(name),
            }
        }
    }
    let mut out = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) if key == "crio" => walk("", inner, &mut out),
            toml::Value::Table(inner) => walk(key, inner, &mut out),
            _ => out.push(key.clone()),
        }
    }
    out
}

/// The line on which the last part of a dotted key is set.
fn line_of(text: &str, key: &str) -> usize {
    let last = key.rsplit('.').next().unwrap_or(key);
    text.lines()
        .position(|line| {
            line.trim_start()
                .strip_prefix(last)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        })
        .map_or(0, |index| index + 1)
}

fn line_at(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<(Config, Vec<UnknownKey>)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()))
    }

    #[test]
    fn a_crio_file_is_read_and_unknown_keys_are_named_with_their_line() {
        let (config, unknown) = load(
            "[crio]\nroot = \"/a\"\n[crio.runtime]\nconmon = \"/usr/bin/conmon\"\ncgroup_manager = \"cgroupfs\"\n",
        )
        .unwrap();
        assert_eq!(config.root_table.root, Path::new("/a"));
        assert_eq!(unknown.len(), 1);
        assert_eq!(
            (unknown[0].key.as_str(), unknown[0].line),
            ("runtime.conmon", 4)
        );
    }

    #[test]
    fn floe_tables_win_over_crio_tables() {
        let (config, unknown) =
            load("[crio.api]\nlisten = \"/c.sock\"\n[floe.api]\nlisten = \"/f.sock\"\n").unwrap();
        assert_eq!(config.api.listen, Path::new("/f.sock"));
        assert_eq!(unknown, []);
    }

    #[test]
    fn a_value_of_the_wrong_type_or_range_stops_the_start_with_its_name() {
        let error = load("[crio.runtime]\npids_limit = \"many\"\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("crio.runtime.pids_limit"), "{error}");
        let error = load("[crio.runtime]\ncgroup_manager = \"magic\"\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("magic"), "{error}");
        let error = load("[crio]\nroot = \"relative\"\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("root"), "{error}");
    }
}
