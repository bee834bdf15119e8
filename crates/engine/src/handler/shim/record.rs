//! `shim.json` in a pod's directory: all that is needed to find the pod's shim again, or to clean up
//! after it. Written before the shim begins, and again when it has said where it listens. A record as all
//! of the engine's are (`docs/records.md`).

use std::path::{Path, PathBuf};

use runtime::cgroup::Unit;
use serde::{Deserialize, Serialize};
use shim::{Options, Program, Shim, Version};

use super::super::PodRef;
use super::ShimConfig;
use crate::error::Result;
use crate::record::{self, Form, Record, UnknownFields};

/// The version that is written.
const VERSION: u32 = 1;
/// Revision 1: `service`.
const REVISION: u32 = 1;
/// The file's name in the pod's directory.
const FILE: &str = "shim.json";
/// The namespace of our containers' ids in shims, which may be others' too.
const NAMESPACE: &str = "floe";

/// A pod's shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ShimRecord {
    version: u32,
    #[serde(default)]
    revision: u32,
    /// The program.
    program: PathBuf,
    /// What it is to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<PathBuf>,
    namespace: String,
    /// The socket that it forwards events to.
    pub(super) events: PathBuf,
    /// Where it listens; `None`: it has not said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<PathBuf>,
    /// The version of its task service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<i64>,
    /// The sandbox is one of its sandbox service, and no container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) service: bool,
    #[serde(skip)]
    kept: UnknownFields,
}

impl Record for ShimRecord {
    fn form(&self) -> Form {
        Form {
            version: self.version,
            revision: self.revision,
        }
    }
}

impl ShimRecord {
    /// Of a shim that is about to begin.
    pub(super) fn new(config: &ShimConfig, pod: PodRef<'_>) -> Self {
        // A socket's path has to be short.
        let name = pod.id.get(..16).unwrap_or(pod.id);
        Self {
            version: VERSION,
            revision: REVISION,
            program: config.program.clone(),
            config: config.file(),
            namespace: NAMESPACE.to_owned(),
            events: config.runroot.join("events").join(name),
            address: None,
            task: None,
            service: false,
            kept: UnknownFields::default(),
        }
    }

    /// It has said where it listens.
    pub(super) fn found(&mut self, shim: &Shim) {
        self.address = Some(shim.address().to_owned());
        self.task = Some(shim.version().number().into());
    }

    /// The shim, if it has said where it listens.
    pub(super) fn shim(&self) -> Option<Shim> {
        let version = Version::from_number(self.task?)?;
        Some(Shim::new(self.address.clone()?, version, &self.namespace))
    }

    /// The namespace of its containers' ids.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What the shim is told of its runtime.
    pub(super) fn options(&self, pod: PodRef<'_>) -> Option<Options> {
        options(&self.program, self.config.clone(), pod)
    }

    /// The program, to begin a shim or to clean up after one.
    pub(super) fn command(&self, pod: PodRef<'_>) -> Program {
        Program {
            path: self.program.clone(),
            namespace: self.namespace.clone(),
            events: self.events.clone(),
            publisher: std::env::current_exe().unwrap_or_default(),
            options: self.options(pod),
        }
    }

    pub(super) fn write(&self, pod: PodRef<'_>) -> Result<()> {
        record::write(&pod.dir.join(FILE), self, &self.kept)
    }
}

/// What the shim of a pod is told of its runtime: which file to read, and containerd's own that systemd makes
/// the pod's cgroups. Kata's sees that by the path.
pub(super) fn options(program: &Path, config: Option<PathBuf>, pod: PodRef<'_>) -> Option<Options> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let is_runcs = name.starts_with("containerd-shim-runc-");
    let unit = Unit::at(pod.cgroup).filter(|_| is_runcs);
    let runc = unit.map(|_| Options::Runc {
        binary: String::new(),
        root: String::new(),
        systemd_cgroup: true,
    });
    config.map(Options::ConfigFile).or(runc)
}

/// The pod's record; `None` before its shim is begun.
pub(super) fn read(pod: PodRef<'_>) -> Result<Option<ShimRecord>> {
    let read = record::read::<ShimRecord>(&pod.dir.join(FILE))?;
    Ok(read.map(|(record, kept)| ShimRecord { kept, ..record }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_back(text: &Value) -> (ShimRecord, Value) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, text.to_string()).unwrap();
        let pod = PodRef {
            id: "p",
            dir: dir.path(),
            cgroup: "/",
            prefix: "crio",
        };
        let record = read(pod).unwrap().unwrap();
        record.write(pod).unwrap();
        let again = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (record, again)
    }

    #[test]
    fn a_record_of_any_time_is_read_and_keeps_what_it_does_not_know() {
        // As version 1.0 has written it.
        let golden = json!({
            "version": 1, "revision": 0, "program": "/usr/bin/containerd-shim-kata-v2",
            "config": "/etc/kata/configuration.toml", "namespace": "floe",
            "events": "/run/floe/events/0123", "address": "/run/containerd/s/1", "task": 2,
        });
        let (record, again) = read_back(&golden);
        let shim = record.shim().unwrap();
        assert_eq!(shim.address().to_str(), Some("/run/containerd/s/1"));
        assert_eq!(shim.version(), Version::V2);
        assert_eq!(again, golden);
        assert!(!record.service);
        // As revision 1 may have it.
        let mut of_service = golden.clone();
        of_service["revision"] = json!(1);
        of_service["service"] = json!(true);
        let (record, again) = read_back(&of_service);
        assert!(record.service);
        assert_eq!(again, of_service);
        let mut later = golden;
        later["revision"] = json!(7);
        later["later"] = json!([1]);
        assert_eq!(read_back(&later).1, later);
    }

    #[test]
    fn a_shim_that_has_not_begun_is_none() {
        let begun = json!({"version": 1, "program": "/p", "namespace": "n", "events": "/e"});
        assert!(read_back(&begun).0.shim().is_none());
    }
}
