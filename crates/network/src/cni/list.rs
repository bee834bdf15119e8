//! One network's configuration: a list of plugins with a name and a CNI version.
//! CNI specification, section 1. Only the list itself; what a plugin makes of its own object is its
//! own matter.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::NetworkConfig;
use crate::{Error, Result};

/// Versions of the specification, oldest first.
pub(super) const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// Where a list's plugins find what does not stand in it.
#[derive(Debug)]
pub(crate) struct Places {
    /// Directory for the leases of host-local networks without a `dataDir`.
    pub(crate) leases: PathBuf,
    /// Where the program host-local has them.
    pub(crate) host_local: Option<PathBuf>,
    /// Directories of plugin programs.
    pub(crate) plugin_dirs: Vec<PathBuf>,
    /// How long a plugin program may take.
    pub(crate) plugin_timeout: Duration,
}

impl Places {
    /// As the settings say.
    pub(crate) fn new(config: &NetworkConfig, plugin_timeout: Duration) -> Arc<Places> {
        Arc::new(Places {
            leases: config.state_dir.join("networks"),
            host_local: config.host_local_dir.clone(),
            plugin_dirs: config.plugin_dirs.clone(),
            plugin_timeout,
        })
    }
}

/// A network configuration list.
#[derive(Debug, Clone)]
pub(crate) struct List {
    /// The network's name; a plain file name.
    pub(crate) name: String,
    /// The version that its plugins are spoken to in.
    pub(crate) version: String,
    /// Whether CHECK is switched off.
    pub(crate) disable_check: bool,
    /// Whether GC is switched off.
    pub(crate) disable_gc: bool,
    /// The plugins' objects in order.
    pub(crate) plugins: Vec<Map<String, Value>>,
    /// Surroundings.
    pub(crate) places: Arc<Places>,
}

impl List {
    /// Reads a configuration list, or the older form of a single plugin. `source` names it in errors
    /// that come before its own name is known.
    pub(crate) fn parse(value: Value, source: &str, places: &Arc<Places>) -> Result<List> {
        let Value::Object(mut object) = value else {
            return Err(Error::config(
                source,
                "configuration",
                "is not a JSON object",
            ));
        };
        let name = match object.get("name").and_then(Value::as_str) {
            Some(name) if is_name(name) => name.to_owned(),
            Some(name) => {
                return Err(Error::config(
                    source,
                    "name",
                    format!("{name:?} is not valid"),
                ));
            }
            None => return Err(Error::config(source, "name", "is missing")),
        };
        let version = version(&object, &name)?;
        let disable_check = object.get("disableCheck").is_some_and(is_true);
        let disable_gc = object.get("disableGC").is_some_and(is_true);
        let plugins = match object.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err(Error::config(&name, "plugins", "is not a list")),
            None => vec![Value::Object(object)],
        };
        if plugins.is_empty() {
            return Err(Error::config(&name, "plugins", "is empty"));
        }
        let plugins = plugins
            .into_iter()
            .enumerate()
            .map(|(index, plugin)| match plugin {
                Value::Object(plugin) if plugin.get("type").is_some_and(Value::is_string) => {
                    Ok(plugin)
                }
                _ => Err(Error::config(
                    &name,
                    format!("plugins[{index}].type"),
                    "is missing",
                )),
            })
            .collect::<Result<_>>()?;
        Ok(List {
            name,
            version,
            disable_check,
            disable_gc,
            plugins,
            places: places.clone(),
        })
    }

    /// Whether one of its plugins says that it can do this.
    pub(crate) fn has_capability(&self, name: &str) -> bool {
        self.plugins.iter().any(|plugin| {
            plugin
                .get("capabilities")
                .and_then(|all| all.get(name))
                .is_some_and(is_true)
        })
    }

    /// The list as it is kept with a pod.
    pub(crate) fn to_value(&self) -> Value {
        json!({ "cniVersion": self.version, "name": self.name, "plugins": self.plugins,
            "disableCheck": self.disable_check })
    }

    /// The built-in network: one bridge with an address of each family, masquerading, host ports.
    pub(crate) fn built_in(config: &NetworkConfig, places: &Arc<Places>) -> Result<List> {
        let ranges: Vec<Value> = config
            .subnets
            .iter()
            .map(|subnet| json!([{ "subnet": subnet.trunc() }]))
            .collect();
        let list = json!({
            "cniVersion": "1.1.0",
            "name": NetworkConfig::BUILT_IN,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": config.bridge,
                    "isDefaultGateway": true,
                    "ipMasq": true,
                    "hairpinMode": true,
                    // floe's alone, so with a place of its own.
                    "ipam": { "type": "host-local", "ranges": ranges, "dataDir": places.leases },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        List::parse(list, NetworkConfig::BUILT_IN, places)
    }
}

/// Whether a JSON value is `true`; some configurations write it as text.
pub(crate) fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

/// The version to speak: of `cniVersions` the newest that floe knows, else `cniVersion`. Configurations
/// are older than that key: without it, they are of the first version.
fn version(object: &Map<String, Value>, name: &str) -> Result<String> {
    let wrong = |reason: String| Error::config(name, "cniVersion", reason);
    let single = match object.get("cniVersion") {
        None => "",
        Some(Value::String(single)) => single.as_str(),
        Some(other) => return Err(wrong(format!("{other} is not a version"))),
    };
    let many = object.get("cniVersions").and_then(Value::as_array);
    let offered: Vec<&str> = many
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .chain([single])
        .collect();
    let known = || VERSIONS.iter().rev();
    match known().find(|version| offered.contains(version)) {
        Some(version) => Ok((*version).to_owned()),
        None if single.is_empty() && many.is_none() => Ok(VERSIONS[0].to_owned()),
        None => Err(wrong(format!(
            "{single:?} is not supported (known: {})",
            VERSIONS.join(", ")
        ))),
    }
}

/// The specification's rule for names, which also makes them safe as file names.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<List> {
        let places = Places::new(&NetworkConfig::default(), Duration::ZERO);
        List::parse(
            serde_json::from_str(text).unwrap(),
            "file.conflist",
            &places,
        )
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let list =
            parse(r#"{"cniVersion":"0.4.0","name":"n","type":"bridge","mtu":1400}"#).unwrap();
        assert_eq!((list.name.as_str(), list.plugins.len()), ("n", 1));
        assert_eq!(list.plugins[0]["mtu"], 1400);
    }

    #[test]
    fn the_newest_known_of_several_versions_is_spoken() {
        let list = parse(
            r#"{"cniVersion":"0.4.0","cniVersions":["0.3.1","1.0.0","9.9.9"],"name":"n",
                "plugins":[{"type":"x"}]}"#,
        );
        assert_eq!(list.unwrap().version, "1.0.0");
    }

    #[test]
    fn a_configuration_without_a_version_is_of_the_first() {
        for json in [
            r#"{"name":"n","type":"x"}"#,
            r#"{"cniVersion":"","name":"n","plugins":[{"type":"x"}]}"#,
        ] {
            assert_eq!(parse(json).unwrap().version, "0.1.0", "{json}");
        }
        let old = parse(r#"{"cniVersion":"0.2.0","name":"n","type":"x"}"#);
        assert_eq!(old.unwrap().version, "0.2.0");
    }

    #[test]
    fn wrong_lists_are_refused_by_field() {
        for (json, wanted) in [
            ("[]", "not a JSON object"),
            (
                r#"{"cniVersion":"1.0.0","plugins":[{"type":"x"}]}"#,
                "name: is missing",
            ),
            (
                r#"{"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"x"}]}"#,
                "not valid",
            ),
            (
                r#"{"cniVersion":"0.2.9","name":"n","plugins":[{"type":"x"}]}"#,
                "0.2.9",
            ),
            (
                r#"{"cniVersion":1,"name":"n","plugins":[{"type":"x"}]}"#,
                "1 is not a version",
            ),
            (
                r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#,
                "plugins: is empty",
            ),
            (
                r#"{"cniVersion":"1.0.0","name":"n","plugins":[{}]}"#,
                "plugins[0].type: is missing",
            ),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error} does not contain {wanted}");
        }
    }
}
