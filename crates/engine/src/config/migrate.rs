//! A configuration file of an earlier CRI-O or floe in today's words.

use std::path::Path;

use toml::{Table, Value};

use super::files;
use crate::error::{Error, Result};

/// What became of a key.
enum Now {
    /// It is a member of a list of the same table.
    InList(&'static str),
    /// It is one of each runtime handler.
    OfRuntimes(&'static str),
    /// It is gone, and why.
    Gone(&'static str),
}

/// Keys of earlier versions, in their table.
const EARLIER: &[(&str, &str, Now)] = &[
    ("network", "plugin_dir", Now::InList("plugin_dirs")),
    ("runtime", "conmon", Now::OfRuntimes("monitor_path")),
    (
        "runtime",
        "conmon_cgroup",
        Now::OfRuntimes("monitor_cgroup"),
    ),
    ("runtime", "conmon_env", Now::OfRuntimes("monitor_env")),
    (
        "runtime",
        "manage_ns_lifecycle",
        Now::Gone("namespaces are managed in any case"),
    ),
    (
        "runtime",
        "manage_network_ns_lifecycle",
        Now::Gone("namespaces are managed in any case"),
    ),
    (
        "runtime",
        "seccomp_use_default_when_empty",
        Now::Gone("kubelet's seccompDefault decides it"),
    ),
    (
        "image",
        "registries",
        Now::Gone("unqualified-search-registries of registries.conf"),
    ),
    (
        "api",
        "host_ip",
        Now::Gone("stream_address says where streams are served"),
    ),
];

/// The file with earlier keys replaced, and a line for each that was.
///
/// # Errors
/// A file that cannot be read or is not TOML, with its line.
pub fn migrated(path: &Path) -> Result<(String, Vec<String>)> {
    let layer = files::read(path)?;
    let mut notes = Vec::new();
    let line = |name: &str| {
        let found = layer.keys.iter().find(|key| key.name == name);
        found.map(|key| format!("{}:{}", path.display(), key.line))
    };
    // Moved when it was read.
    if let Some(place) = line("runtime.log_dir") {
        notes.push(format!("{place}: crio.runtime.log_dir is crio.log_dir"));
    }
    let mut whole = layer.table;
    if let Some(crio) = whole.get_mut("crio").and_then(Value::as_table_mut) {
        for (table, key, now) in EARLIER {
            let name = format!("{table}.{key}");
            let (Some(place), Some(Value::Table(section))) = (line(&name), crio.get_mut(*table))
            else {
                continue;
            };
            if let Some(value) = section.remove(*key) {
                notes.push(format!(
                    "{place}: crio.{name} {}",
                    replace(crio, table, value, now)
                ));
            }
        }
    }
    let text = toml::to_string(&whole).map_err(|e| Error::Config {
        origin: path.display().to_string(),
        reason: e.to_string(),
    })?;
    Ok((text, notes))
}

/// Puts a value where it belongs now, and says where that is.
fn replace(crio: &mut Table, table: &str, value: Value, now: &Now) -> String {
    match now {
        Now::Gone(why) => format!("is no more: {why}"),
        Now::InList(list) => {
            let section = crio.entry(table).or_insert_with(|| Table::new().into());
            if let Some(section) = section.as_table_mut() {
                let all = section
                    .entry(*list)
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(all) = all
                    && !all.contains(&value)
                {
                    all.push(value);
                }
            }
            format!("is in crio.{table}.{list}")
        }
        Now::OfRuntimes(key) => {
            let runtimes = crio
                .get_mut("runtime")
                .and_then(|table| table.get_mut("runtimes"));
            for (_, entry) in runtimes.and_then(Value::as_table_mut).into_iter().flatten() {
                if let Value::Table(entry) = entry {
                    entry.entry(*key).or_insert_with(|| value.clone());
                }
            }
            format!("is {key} of each of crio.runtime.runtimes")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_keys_are_replaced_each_with_a_note_and_all_else_stays() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[crio.runtime]\nlog_dir = '/l'\nconmon = '/c'\nmanage_ns_lifecycle = true\npids_limit = 7\n\
                    [crio.runtime.runtimes.runc]\nruntime_path = '/r'\n\
                    [crio.network]\nplugin_dir = '/p'\n[other]\nx = 1\n";
        std::fs::write(file.path(), text).unwrap();
        let (text, notes) = migrated(file.path()).unwrap();
        let new: Table = text.parse().unwrap();
        let expected: Table = "[other]\nx = 1\n[crio]\nlog_dir = '/l'\n[crio.network]\nplugin_dirs = ['/p']\n\
            [crio.runtime]\npids_limit = 7\n[crio.runtime.runtimes.runc]\nruntime_path = '/r'\nmonitor_path = '/c'\n"
            .parse()
            .unwrap();
        assert_eq!(new, expected);
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert!(
            notes
                .iter()
                .any(|note| note.contains(":3: crio.runtime.conmon is")),
            "{notes:?}"
        );
        std::fs::write(file.path(), &text).unwrap();
        assert_eq!(migrated(file.path()).unwrap(), (text, Vec::new()));
    }
}
