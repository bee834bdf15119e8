//! The plugins that floe has built in, one file each, over netlink. Each takes the configuration of
//! the CNI plugin of its name; what it cannot do is left to the program of that name.

mod bridge;
mod firewall;
pub(crate) mod isolation;
pub(crate) mod loopback;
pub(crate) mod macvlan;
mod pod_link;
mod portmap;
mod ptp;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cni::List;
use crate::cni::external::External;
use crate::cni::plugin::Plugin;
use crate::{Mac, Result};

/// What a built-in plugin makes of a configuration.
pub(crate) enum Built {
    /// It can do all that is asked.
    Yes(Box<dyn Plugin>),
    /// It lacks something (named here) that the program of the same name may have.
    Lacks(String),
}

/// What is asked of one attachment (CNI conventions, "args").
#[derive(Debug, Default, Deserialize)]
struct Args {
    #[serde(default)]
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
struct CniArgs {
    mac: Option<Mac>,
}

/// The plugin for a configuration: built in when it can do all that is asked, else the program.
pub(crate) fn build(config: &Map<String, Value>, list: &List) -> Result<Box<dyn Plugin>> {
    let kind = config
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let built = match kind {
        "bridge" => bridge::build(config, list)?,
        "ptp" => ptp::build(config, list)?,
        "loopback" => loopback::build(),
        "portmap" => portmap::build(config, list)?,
        "firewall" => firewall::build(config, list)?,
        isolation::KIND => isolation::build(config, list)?,
        macvlan::KIND => macvlan::build(config, list)?,
        _ => return Ok(Box::new(External::find(kind, config.clone(), list, None)?)),
    };
    match built {
        Built::Yes(plugin) => Ok(plugin),
        Built::Lacks(what) => Ok(Box::new(External::find(
            kind,
            config.clone(),
            list,
            Some(what),
        )?)),
    }
}

/// The first key that is set to something and is not among the `known` ones: "not built in: KEY".
fn unknown_key(config: &Map<String, Value>, known: &[&str]) -> Option<String> {
    const ALWAYS: [&str; 8] = [
        "type",
        "cniVersion",
        "cniVersions",
        "name",
        "capabilities",
        "args",
        "ipam",
        "dns",
    ];
    let is_set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) => true,
    };
    config
        .iter()
        .find(|(key, value)| {
            is_set(value) && !known.contains(&key.as_str()) && !ALWAYS.contains(&key.as_str())
        })
        .map(|(key, _)| format!("{key:?} is not built in"))
}
