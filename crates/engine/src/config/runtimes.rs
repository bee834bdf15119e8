//! `[crio.runtime.runtimes.NAME]`: the runtime handlers that RuntimeClasses choose among, and what an
//! entry means here. crio.conf(5).
//!
//! A CRI-O node's file names `runc` or `crun` because CRI-O can do nothing without: nobody chose it.
//! Such an entry is the built-in runtime where it is the default, or names no program; a RuntimeClass
//! that names an entry with a program gets that program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::size;
use image::Platform;
use runtime::cgroup::Unit;
use serde::{Deserialize, Serialize};

use super::{Runtime, Why};

/// The name of the built-in runtime.
pub const BUILT_IN: &str = "floe";
/// The runtimes that the built-in one stands in for.
const PLAIN: [&str; 2] = ["runc", "crun"];

/// `[crio.runtime.runtimes.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeEntry {
    /// The program; empty: the one that is called like the entry, on PATH.
    pub runtime_path: PathBuf,
    /// Where it keeps its state; empty: its own choice.
    pub runtime_root: PathBuf,
    /// `oci` (also when empty), or `vm`: a shim v2.
    pub runtime_type: String,
    /// The configuration of a shim.
    pub runtime_config_path: PathBuf,
    /// Paths, type, root and configuration are those of the default runtime.
    pub inherit_default_runtime: bool,
    /// Beginnings of the names of pods' annotations that reach the runtime.
    pub allowed_annotations: Vec<String>,
    /// Annotations of every container whose pod does not set them.
    pub default_annotations: BTreeMap<String, String>,
    /// A privileged container gets the devices that it asks for, and no others.
    pub privileged_without_host_devices: bool,
    /// The least memory limit that a container may have, such as `12MiB`; empty: any.
    pub container_min_memory: String,
    /// `OS/ARCH` and the program for it, before `runtime_path`.
    pub platform_runtime_paths: BTreeMap<String, PathBuf>,
    /// seccomp profile (JSON) to use as RuntimeDefault; empty: the one of `[crio.runtime]`.
    pub seccomp_profile: String,
    /// `first`: commands that are executed in a container begin on the first of its processors; empty: on any.
    pub exec_cpu_affinity: String,
    /// Seconds that making a container may take; 0: floe's own limit.
    pub container_create_timeout: u64,
    /// As the default, the built-in runtime stands in for a plain program (not a key of CRI-O).
    pub stand_in: bool,
}

impl Default for RuntimeEntry {
    fn default() -> Self {
        Self {
            runtime_path: PathBuf::new(),
            runtime_root: PathBuf::new(),
            runtime_type: String::new(),
            runtime_config_path: PathBuf::new(),
            inherit_default_runtime: false,
            allowed_annotations: Vec::new(),
            default_annotations: BTreeMap::new(),
            privileged_without_host_devices: false,
            container_min_memory: String::new(),
            platform_runtime_paths: BTreeMap::new(),
            seccomp_profile: String::new(),
            exec_cpu_affinity: String::new(),
            container_create_timeout: 0,
            stand_in: true,
        }
    }
}

/// What an entry means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The built-in runtime.
    BuiltIn,
    /// A program with the OCI command line: its path, or its name on PATH.
    Program(PathBuf),
    /// A shim v2: its path, or its name on PATH.
    Shim(PathBuf),
}

impl RuntimeEntry {
    /// What the entry of that name means to a pod that chooses it.
    #[must_use]
    pub fn meaning(&self, name: &str) -> Meaning {
        let program = self.program(name);
        let called = |names: &[&str]| {
            program
                .file_name()
                .is_some_and(|file| names.iter().any(|name| file == *name))
        };
        if self.runtime_type == "vm" {
            return Meaning::Shim(program);
        }
        let unnamed = program == Path::new(name);
        if called(&[BUILT_IN, "floe-runtime"]) || unnamed && called(&PLAIN) {
            return Meaning::BuiltIn;
        }
        Meaning::Program(program)
    }

    /// What it means to a pod that chooses nothing, the entry being the default.
    #[must_use]
    pub fn meaning_as_default(&self, name: &str) -> Meaning {
        match self.meaning(name) {
            Meaning::Program(program)
                if self.stand_in
                    && program
                        .file_name()
                        .is_some_and(|file| PLAIN.iter().any(|plain| file == *plain)) =>
            {
                Meaning::BuiltIn
            }
            other => other,
        }
    }

    /// The program for this platform.
    fn program(&self, name: &str) -> PathBuf {
        // Without a variant, as Go names platforms.
        let platform = format!("linux/{}", Platform::host().architecture);
        let own = self.platform_runtime_paths.get(&platform);
        let path = own.unwrap_or(&self.runtime_path);
        match path.as_os_str().is_empty() {
            true => PathBuf::from(name),
            false => path.clone(),
        }
    }

    /// The entry with what it has from the default's.
    #[must_use]
    pub fn inheriting(&self, default: &Self) -> Self {
        if !self.inherit_default_runtime {
            return self.clone();
        }
        Self {
            runtime_path: default.runtime_path.clone(),
            runtime_root: default.runtime_root.clone(),
            runtime_type: default.runtime_type.clone(),
            runtime_config_path: default.runtime_config_path.clone(),
            platform_runtime_paths: default.platform_runtime_paths.clone(),
            ..self.clone()
        }
    }

    /// The annotations of a pod that reach the runtime, and those that it has by default. None of a pod that
    /// speaks of a unit of systemd's does, whatever is allowed.
    #[must_use]
    pub fn annotations(&self, of_pod: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = self.default_annotations.clone();
        all.extend(allowed(&self.allowed_annotations, of_pod));
        all
    }

    /// The least memory limit in bytes; 0: any.
    ///
    /// # Errors
    /// It is no size.
    pub fn min_memory(&self) -> Result<i64, String> {
        match self.container_min_memory.as_str() {
            "" => Ok(0),
            text => {
                size::parse(text).ok_or_else(|| format!("{text:?} is no size, such as \"12MiB\""))
            }
        }
    }

    /// How long making a container may take, if the entry says.
    #[must_use]
    pub fn create_limit(&self) -> Option<Duration> {
        let seconds = Some(self.container_create_timeout).filter(|seconds| *seconds > 0);
        seconds.map(Duration::from_secs)
    }

    /// Checks what types cannot say; `name` is the entry's.
    pub(super) fn validate(&self, name: &str) -> Result<(), String> {
        let key = |key: &str| format!("crio.runtime.runtimes.{name}.{key}");
        if !matches!(self.runtime_type.as_str(), "" | "oci" | "vm" | "pod") {
            let kind = &self.runtime_type;
            return Err(format!(
                "{}: {kind:?} is neither \"oci\" nor \"vm\"",
                key("runtime_type")
            ));
        }
        let own = self.platform_runtime_paths.values();
        for path in own.chain([
            &self.runtime_path,
            &self.runtime_root,
            &self.runtime_config_path,
        ]) {
            if !path.as_os_str().is_empty() && !path.is_absolute() {
                let key = format!("crio.runtime.runtimes.{name}");
                return Err(format!("{key}: {path:?} is not an absolute path"));
            }
        }
        if !matches!(self.exec_cpu_affinity.as_str(), "" | "first") {
            let given = &self.exec_cpu_affinity;
            let key = key("exec_cpu_affinity");
            return Err(format!("{key}: {given:?} is neither \"first\" nor empty"));
        }
        self.min_memory()
            .map(drop)
            .map_err(|reason| format!("{}: {reason}", key("container_min_memory")))
    }
}

/// A pod's annotations whose names begin with one of these; none that speaks of a unit of systemd's.
pub(crate) fn allowed<'a>(
    beginnings: &'a [String],
    of_pod: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (String, String)> + 'a {
    let is_allowed = |key: &str| {
        let mut allowed = beginnings.iter();
        allowed.any(|begin| key.starts_with(begin.as_str())) && !Unit::is_annotation(key)
    };
    let all = of_pod.iter().filter(move |(key, _)| is_allowed(key));
    all.map(|(key, value)| (key.clone(), value.clone()))
}

/// Checks the entries, and that the default is one.
pub(super) fn validate(runtime: &Runtime) -> Result<(), String> {
    for (name, entry) in &runtime.runtimes {
        entry.validate(name)?;
    }
    if let Some(own) = runtime.runtimes.get(BUILT_IN)
        && own.meaning(BUILT_IN) != Meaning::BuiltIn
    {
        return Err(format!(
            "crio.runtime.runtimes.{BUILT_IN}: is the built-in runtime's name, and cannot be another's"
        ));
    }
    let default = runtime.default_runtime.as_str();
    let built_in = default.is_empty() || default == BUILT_IN || PLAIN.contains(&default);
    match built_in || runtime.runtimes.contains_key(default) {
        true => Ok(()),
        false => Err(format!(
            "crio.runtime.default_runtime: there is no [crio.runtime.runtimes.{default}]"
        )),
    }
}

/// The keys of an entry that floe does not act on: the value's beginning or all of it with which that
/// changes nothing, and why.
const UNUSED: &[(&str, &[&str], &str)] = &[
    (
        "monitor_path",
        &[
            "",
            "/usr/bin/conmon",
            "/usr/libexec/crio/conmon",
            "/usr/libexec/podman/conmon",
        ],
        MONITOR,
    ),
    ("monitor_cgroup", &["", "system.slice", "pod"], MONITOR),
    ("monitor_exec_cgroup", &[""], MONITOR),
    ("monitor_env", &["[]"], MONITOR),
    (
        "no_sync_log",
        &[],
        "container logs are not synced to disk in any case",
    ),
    (
        "runtime_pull_image",
        &["false"],
        "no handler takes images by itself yet",
    ),
    (
        "stream_websockets",
        &["false"],
        "exec, attach and port-forward choose their protocol by themselves",
    ),
];
const MONITOR: &str = "floe has no monitor beside its supervisors";

/// Why floe does not act on a key of an entry; `None`: it does. `key` is what follows the entry's name.
pub(super) fn why(key: &str, value: &toml::Value) -> Option<Why> {
    let table = key.split('.').next().unwrap_or(key);
    let used = toml::Table::try_from(RuntimeEntry::default()).unwrap_or_default();
    if used.contains_key(table) {
        return None;
    }
    let Some((name, same, reason)) = UNUSED.iter().find(|(name, ..)| *name == key) else {
        return Some(Why::Unknown);
    };
    let text = match value {
        toml::Value::String(text) => text.clone(),
        // CRI-O sets its monitor's PATH.
        toml::Value::Array(all) if *name == "monitor_env" && all.iter().all(is_path) => "[]".into(),
        other => other.to_string(),
    };
    match same.is_empty() || same.contains(&text.as_str()) {
        true => Some(Why::Moot(reason)),
        false => Some(Why::Ignored(reason)),
    }
}

fn is_path(value: &toml::Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("PATH="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: &str) -> RuntimeEntry {
        RuntimeEntry {
            runtime_path: path.into(),
            runtime_type: kind.into(),
            ..RuntimeEntry::default()
        }
    }

    #[test]
    fn an_entry_without_a_program_is_built_in_only_where_it_is_a_plain_runtimes() {
        for name in ["runc", "crun", "floe"] {
            assert_eq!(entry("", "").meaning(name), Meaning::BuiltIn, "{name}");
        }
        let program = Meaning::Program("runsc".into());
        assert_eq!(entry("", "oci").meaning("runsc"), program);
        let shim = Meaning::Shim("/opt/kata/shim".into());
        assert_eq!(entry("/opt/kata/shim", "vm").meaning("kata"), shim);
        let own = entry("/usr/bin/floe-runtime", "oci");
        assert_eq!(own.meaning("fast"), Meaning::BuiltIn);
    }

    #[test]
    fn a_plain_program_is_run_for_who_names_it_and_not_as_the_default() {
        let crun = entry("/usr/libexec/crio/crun", "oci");
        let program = Meaning::Program("/usr/libexec/crio/crun".into());
        assert_eq!(crun.meaning("crun"), program);
        assert_eq!(crun.meaning_as_default("crun"), Meaning::BuiltIn);
        let program_itself = RuntimeEntry {
            stand_in: false,
            ..crun
        };
        assert_eq!(program_itself.meaning_as_default("crun"), program);
        let youki = entry("/usr/bin/youki", "oci");
        let program = Meaning::Program("/usr/bin/youki".into());
        assert_eq!(youki.meaning_as_default("youki"), program);
    }

    #[test]
    fn the_platforms_own_program_goes_before_the_one_for_all() {
        let mut runtime = entry("/usr/bin/runsc", "oci");
        for arch in ["amd64", "arm64"] {
            let path = PathBuf::from(format!("/opt/{arch}/runsc"));
            let key = format!("linux/{arch}");
            runtime.platform_runtime_paths.insert(key, path);
        }
        let Meaning::Program(path) = runtime.meaning("runsc") else {
            panic!("no program");
        };
        assert!(path.starts_with("/opt"), "{path:?}");
    }

    #[test]
    fn what_is_inherited_is_how_to_run_and_not_what_is_allowed() {
        let default = entry("/usr/bin/youki", "oci");
        let own = RuntimeEntry {
            inherit_default_runtime: true,
            allowed_annotations: vec!["a".into()],
            ..entry("/x", "vm")
        };
        let inherited = own.inheriting(&default);
        assert_eq!(
            inherited.meaning("b"),
            Meaning::Program("/usr/bin/youki".into())
        );
        assert_eq!(inherited.allowed_annotations, ["a"]);
    }

    #[test]
    fn the_least_memory_is_in_cri_os_words() {
        let of = |text: &str| {
            let container_min_memory = text.into();
            let entry = RuntimeEntry {
                container_min_memory,
                ..RuntimeEntry::default()
            };
            entry.min_memory()
        };
        assert_eq!(of(""), Ok(0));
        assert_eq!(of("12MiB"), Ok(12 << 20));
        assert_eq!(of("12MB"), Ok(12 << 20));
        assert!(of("12 pints").unwrap_err().contains("is no size"));
        assert!(of("-1").is_err());
    }

    #[test]
    fn a_monitors_key_is_named_unless_it_says_what_cri_o_says() {
        let value = |text: &str| toml::Value::from(text);
        let reason = |key, text| why(key, &value(text)).unwrap();
        assert!(matches!(
            reason("monitor_path", "/usr/bin/conmon"),
            Why::Moot(_)
        ));
        assert!(matches!(
            reason("monitor_path", "/opt/conmonrs"),
            Why::Ignored(_)
        ));
        assert_eq!(reason("magic", "x"), Why::Unknown);
        assert_eq!(why("default_annotations.a", &value("b")), None);
    }
}
