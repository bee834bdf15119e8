//! What every plugin of a chain can do, whether built in or a program, and who is built in.
//!
//! Life cycle: a plugin object is made from its configuration, which is checked then and never again;
//! `add` puts one pod's part of the network up, given what the plugins before it did; `del` takes it
//! down, and must succeed for what is half there or gone. `del` is also the undo of a failed `add`.

use std::fmt::Debug;

use serde_json::{Map, Value};

use super::external::External;
use super::list::List;
use super::result::CniResult;
use crate::host::Host;
use crate::plugins::{bridge, firewall, loopback, portmap, ptp};
use crate::pod::Pod;
use crate::{Attachment, Error, Result};

/// For whom a plugin works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The pod.
    pub(crate) attachment: &'a Attachment<'a>,
    /// Its network namespace; `None` when it is gone.
    pub(crate) pod: Option<&'a Pod>,
    /// The host's side.
    pub(crate) host: &'a Host,
}

impl Call<'_> {
    /// The pod's namespace, which `add` cannot do without.
    pub(crate) fn pod(&self) -> Result<&Pod> {
        self.pod.ok_or_else(|| Error::Request {
            id: self.attachment.id.to_owned(),
            reason: "has no network namespace",
        })
    }
}

/// A plugin with its checked configuration.
pub(crate) trait Plugin: Debug + Send + Sync {
    /// Its type, for logs.
    fn kind(&self) -> &str;

    /// Puts its part of the pod's network up. Returns the result so far, its own part included.
    fn add(&self, call: &Call<'_>, previous: Option<CniResult>) -> Result<CniResult>;

    /// Takes its part down. `result` is that of the whole chain; `None` when `add` never finished.
    fn del(&self, call: &Call<'_>, result: Option<&CniResult>) -> Result<()>;

    /// Whether its part is still as `add` left it.
    fn check(&self, call: &Call<'_>, result: &CniResult) -> Result<()>;
}

/// What a built-in plugin makes of a configuration.
pub(crate) enum Built {
    /// It can do all that is asked.
    Yes(Box<dyn Plugin>),
    /// It lacks something (named here) that the program of the same name may have.
    Lacks(String),
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
pub(crate) fn unknown_key(config: &Map<String, Value>, known: &[&str]) -> Option<String> {
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
