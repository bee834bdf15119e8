//! The configuration: crio.conf's tables and keys, so that a CRI-O node's file works as it is.
//! `[floe.*]` is the same as `[crio.*]` and wins over it. Keys that floe does not act on never stop the
//! engine, and are told with file, line and reason ([`UnusedKey`]); values that cannot be used stop it.
//!
//! One struct per table ([`tables`]); defaults stand there and nowhere else.

mod changes;
mod checkpoint;
mod compat;
mod crio;
mod device;
mod files;
mod metrics;
mod migrate;
mod nri;
mod runtime_checks;
mod runtimes;
mod tables;
mod tracing;
mod words;
mod workload;
mod write;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use self::nri::{DefaultValidator, Nri};
pub use checkpoint::{CheckpointLevel, CheckpointRestore};
pub use compat::Compat;
pub use crio::Why;
pub(crate) use device::parse_device;
pub use files::{DEFAULT_DIR, DEFAULT_FILE, Sources};
pub use metrics::{MetricGroup, Metrics, Stats};
pub use migrate::migrated;
pub(crate) use runtimes::allowed;
pub use runtimes::{BUILT_IN, Meaning, RuntimeEntry};
pub(crate) use tables::parse_ulimit;
pub use tables::{Api, CgroupManager, Config, Image, ImageVolumes, Network, Root, Runtime};

pub use self::tracing::Tracing;
pub use words::{Kind, Said, WORDS, Word};
pub use workload::{Workload, WorkloadResources};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// As many are named in a summary.
const NAMED: usize = 5;

/// A key in a file that floe does not act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedKey {
    /// The file.
    pub file: PathBuf,
    /// 1-based line; 0: it was said as an option or a variable, which `file` names.
    pub line: usize,
    /// Dotted name.
    pub key: String,
    /// Why.
    pub why: Why,
}

impl UnusedKey {
    /// Whether somebody may be waiting for what it asks.
    #[must_use]
    pub fn matters(&self) -> bool {
        !matches!(self.why, Why::Moot(_))
    }
}

impl std::fmt::Display for UnusedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = match self.why {
            Why::Unknown => "no such key",
            Why::Moot(reason) | Why::Ignored(reason) => reason,
        };
        let place = files::place(&self.file, self.line);
        write!(f, "{} ({place}): {reason}", self.key)
    }
}

/// One line for the keys that may matter; `None` if there is none.
#[must_use]
pub fn summary(keys: &[UnusedKey]) -> Option<String> {
    let matter: Vec<&UnusedKey> = keys.iter().filter(|key| key.matters()).collect();
    if matter.is_empty() {
        return None;
    }
    let named: Vec<String> = matter.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match matter.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more, which --log-level debug names"),
    };
    let (count, named) = (matter.len(), named.join("; "));
    Some(format!(
        "{count} keys of the configuration have no effect: {named}{more}"
    ))
}

impl Config {
    /// Reads the files that there are.
    ///
    /// # Errors
    /// A named file that is missing, a file that is not TOML, a value of the wrong type or
    /// outside its range; each with file and line.
    pub fn load(sources: &Sources) -> Result<(Self, Vec<UnusedKey>)> {
        Self::load_with(sources, &[])
    }

    /// The same, and then what the environment and the command line said, of which later wins.
    ///
    /// # Errors
    /// As [`Config::load`]; what was said is named as it was written.
    pub fn load_with(sources: &Sources, said: &[Said]) -> Result<(Self, Vec<UnusedKey>)> {
        let mut merged = toml::Table::new();
        let mut unused = Vec::new();
        let mut places = files::Places::default();
        let known = Self::known_keys();
        let mut layers = sources.read()?;
        for said in said {
            layers.push(said.layer()?);
        }
        for layer in layers {
            let layer_path = layer.path;
            for key in layer.keys {
                places.add(&layer_path, &key);
                if known.contains(&key.name) {
                    continue;
                }
                unused.extend(crio::why(&key.name, &key.value).map(|why| UnusedKey {
                    file: layer_path.clone(),
                    line: key.line,
                    why,
                    key: key.name,
                }));
            }
            files::merge(&mut merged, layer.table);
        }
        let wrong = |reason: String| Error::Config {
            origin: places.of(&reason).unwrap_or_else(|| sources.origin()),
            reason,
        };
        let mut config = Self::from_table(&merged).map_err(wrong)?;
        config.fill_empty();
        config.validate().map_err(wrong)?;
        Ok((config, unused))
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
            stats: subsection(crio, "stats")?,
            metrics: subsection(crio, "metrics")?,
            tracing: subsection(crio, "tracing")?,
            compat: subsection(crio, "compat")?,
            nri: subsection(crio, "nri")?,
            checkpoint_restore: subsection(crio, "checkpoint_restore")?,
        })
    }

    /// Every dotted key that is acted on, taken from the defaults written out.
    fn known_keys() -> BTreeSet<String> {
        let defaults = toml::Table::try_from(Self::default()).unwrap_or_default();
        let mut known = BTreeSet::from(["runtime.log_dir".to_owned()]);
        let mut tables: Vec<(String, toml::Table)> = vec![(String::new(), defaults)];
        while let Some((prefix, table)) = tables.pop() {
            for (key, value) in table {
                let name = format!("{prefix}{key}");
                match value {
                    toml::Value::Table(inner) if !inner.is_empty() => {
                        tables.push((format!("{name}."), inner));
                    }
                    _ => {
                        known.insert(name);
                    }
                }
            }
        }
        known
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

#[cfg(test)]
mod tests;
