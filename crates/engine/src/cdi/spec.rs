//! A CDI specification as a file has it (Container Device Interface, SPEC.md 0.1.0 to 1.1.0), and what makes
//! one invalid. Nothing here looks at a device.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runtime::spec::HookStage;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// The versions that there are.
const VERSIONS: [&str; 11] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
    "1.1.1",
];

/// One file. What the specification does not know makes it invalid, as for the peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CdiSpec {
    cdi_version: String,
    /// `vendor/class`.
    pub(super) kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<CdiDevice>,
    /// Made once, whichever of its devices is asked for.
    #[serde(default)]
    pub(super) container_edits: ContainerEdits,
}

/// A device of the file's kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CdiDevice {
    pub(super) name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    pub(super) container_edits: ContainerEdits,
}

/// What a device changes in a container's config.json.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ContainerEdits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) hooks: Vec<Hook>,
    pub(super) mounts: Vec<Mount>,
    pub(super) intel_rdt: Option<IntelRdt>,
    pub(super) additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DeviceNode {
    /// Inside.
    pub(super) path: PathBuf,
    /// On the node; the same if absent.
    pub(super) host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) file_mode: Option<u32>,
    /// Of the device controller: `rwm`.
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    #[serde(rename = "hookName", deserialize_with = "stage")]
    pub(super) stage: HookStage,
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    pub(super) timeout: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    pub(super) clos_id: Option<String>,
    #[serde(rename = "l3CacheSchema")]
    pub(super) l3_cache_schema: Option<String>,
    #[serde(rename = "memBwSchema")]
    pub(super) mem_bw_schema: Option<String>,
    pub(super) schemata: Vec<String>,
    #[serde(rename = "enableMonitoring")]
    pub(super) enable_monitoring: bool,
    /// Of before 1.1.0; without meaning since.
    #[serde(rename = "enableCMT")]
    _enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    _enable_mbm: bool,
}

fn stage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HookStage, D::Error> {
    let name = String::deserialize(deserializer)?;
    HookStage::named(&name).ok_or_else(|| Error::custom(format!("a hook is of no stage: {name:?}")))
}

impl CdiSpec {
    /// Reads a file's text; JSON is YAML, too.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let read: Self = serde_saphyr::from_str(text).map_err(|error| {
            let whole = error.to_string();
            whole.lines().next().unwrap_or_default().to_owned()
        })?;
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), String> {
        let version = self.cdi_version.trim_start_matches('v');
        let has = VERSIONS.iter().position(|known| *known == version);
        let has = has.ok_or_else(|| format!("cdiVersion {:?} is not known", self.cdi_version))?;
        let (least, why) = self.least_version();
        if VERSIONS.iter().position(|known| *known == least) > Some(has) {
            return Err(format!(
                "{why} needs cdiVersion {least}, and it is {version}"
            ));
        }
        check_kind(&self.kind)?;
        if self.devices.is_empty() {
            return Err("it has no devices".to_owned());
        }
        self.container_edits.check()?;
        let mut names = std::collections::BTreeSet::new();
        for device in &self.devices {
            let named = |reason: String| format!("device {:?}: {reason}", device.name);
            check_device_name(&device.name).map_err(named)?;
            device.container_edits.check().map_err(named)?;
            if device.container_edits.is_empty() {
                return Err(named("has no containerEdits".to_owned()));
            }
            if !names.insert(&device.name) {
                return Err(named("is there twice".to_owned()));
            }
        }
        Ok(())
    }

    /// The first version that had all that is used here, and what of it was last to come.
    fn least_version(&self) -> (&'static str, &'static str) {
        let edits = || {
            let devices = self.devices.iter().map(|device| &device.container_edits);
            devices.chain([&self.container_edits])
        };
        let rdt = || edits().filter_map(|edits| edits.intel_rdt.as_ref());
        let class = self.kind.split_once('/').map_or("", |(_, class)| class);
        let notes = |device: &CdiDevice| !device.annotations.is_empty();
        let digit = |device: &CdiDevice| device.name.starts_with(|c: char| c.is_ascii_digit());
        let uses = [
            (
                edits().any(|edits| !edits.net_devices.is_empty()),
                ("1.1.0", "netDevices"),
            ),
            (
                rdt().any(|rdt| !rdt.schemata.is_empty() || rdt.enable_monitoring),
                ("1.1.0", "intelRdt.schemata or enableMonitoring"),
            ),
            (rdt().next().is_some(), ("0.7.0", "intelRdt")),
            (
                edits().any(|edits| !edits.additional_gids.is_empty()),
                ("0.7.0", "additionalGids"),
            ),
            (
                !self.annotations.is_empty() || self.devices.iter().any(notes),
                ("0.6.0", "annotations"),
            ),
            (class.contains('.'), ("0.6.0", "a class with a dot")),
            (
                edits()
                    .flat_map(|edits| &edits.device_nodes)
                    .any(|node| node.host_path.is_some()),
                ("0.5.0", "hostPath of a device node"),
            ),
            (
                self.devices.iter().any(digit),
                ("0.5.0", "a device name that begins with a digit"),
            ),
            (
                edits()
                    .flat_map(|edits| &edits.mounts)
                    .any(|mount| mount.kind.is_some()),
                ("0.4.0", "type of a mount"),
            ),
        ];
        let used = uses.into_iter().find(|(used, _)| *used);
        used.map_or((VERSIONS[0], ""), |(_, least)| least)
    }
}

impl ContainerEdits {
    pub(super) fn is_empty(&self) -> bool {
        self.env.is_empty()
            && self.device_nodes.is_empty()
            && self.net_devices.is_empty()
            && self.hooks.is_empty()
            && self.mounts.is_empty()
            && self.intel_rdt.is_none()
            && self.additional_gids.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        let refused = |what: &str, is: &dyn std::fmt::Debug| Err(format!("{what} {is:?}"));
        for variable in &self.env {
            match variable.split_once('=') {
                Some((name, _)) if !name.is_empty() && !variable.contains('\0') => {}
                _ => return refused("env is not NAME=VALUE:", variable),
            }
        }
        for node in &self.device_nodes {
            if node.path.as_os_str().is_empty() {
                return Err("a device node has no path".to_owned());
            }
            if !matches!(
                node.kind.as_deref(),
                None | Some("" | "b" | "c" | "u" | "p")
            ) {
                return refused("a device node has type", &node.kind);
            }
            let access = node.permissions.as_deref().unwrap_or_default();
            if access.contains(|c: char| !"rwm".contains(c)) {
                return refused("a device node has permissions", &access);
            }
        }
        let (mut hosts, mut names) = (Vec::new(), Vec::new());
        for device in &self.net_devices {
            let (host, name) = (&device.host_interface_name, &device.name);
            if host.is_empty() || name.is_empty() || hosts.contains(&host) || names.contains(&name)
            {
                return refused("a network device lacks a name, or has another's:", device);
            }
            hosts.push(host);
            names.push(name);
        }
        for hook in &self.hooks {
            if !hook.path.is_absolute() {
                return refused("the path of a hook is not absolute:", &hook.path);
            }
            if hook.env.iter().any(|variable| !variable.contains('=')) {
                return refused("env of a hook is not NAME=VALUE:", &hook.env);
            }
        }
        for mount in &self.mounts {
            if mount.host_path.as_os_str().is_empty() || !mount.container_path.is_absolute() {
                return refused("a mount lacks a path:", mount);
            }
        }
        match self
            .intel_rdt
            .as_ref()
            .and_then(|rdt| rdt.clos_id.as_deref())
        {
            Some(id)
                if id.len() >= 4096 || matches!(id, "." | "..") || id.contains(['/', '\n']) =>
            {
                refused("intelRdt has closID", &id)
            }
            _ => Ok(()),
        }
    }
}

/// Is this `vendor/class=device`?
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let (kind, device) = name
        .split_once('=')
        .ok_or_else(|| "is not VENDOR/CLASS=NAME".to_owned())?;
    check_kind(kind)?;
    check_device_name(device)
}

fn check_kind(kind: &str) -> Result<(), String> {
    let (vendor, class) = kind
        .split_once('/')
        .ok_or_else(|| format!("kind {kind:?} is not VENDOR/CLASS"))?;
    check_word(vendor, "_-.", false).map_err(|reason| format!("vendor {vendor:?} {reason}"))?;
    check_word(class, "_-.", false).map_err(|reason| format!("class {class:?} {reason}"))
}

fn check_device_name(name: &str) -> Result<(), String> {
    check_word(name, "_-.:", true).map_err(|reason| format!("device name {name:?} {reason}"))
}

fn check_word(word: &str, marks: &str, digit_first: bool) -> Result<(), &'static str> {
    let begins = |c: char| c.is_ascii_alphabetic() || digit_first && c.is_ascii_digit();
    if !word.starts_with(begins) {
        return Err("does not begin with a letter");
    }
    if word.contains(|c: char| !c.is_ascii_alphanumeric() && !marks.contains(c)) {
        return Err("has a character that it may not have");
    }
    match word.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err("does not end with a letter or digit"),
    }
}
