//! What is remembered of a pod: with which configuration it was put on the network, what for, and
//! what came of it. Written before the first plugin runs, so that a crash in the middle can be
//! cleaned up; removed when all is gone. `results/POD.json` below the state directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base::file::{Lasts, replace};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::list::List;
use super::result::CniResult;
use crate::{Attached, Attachment, Error, PortMapping, Result};

/// Version of the stored form: a greater one is not read. How it may change: `docs/records.md`. Readers
/// of before that page take no other version than 1, and need all of the fields that are here.
const VERSION: u32 = 1;

/// One pod's memory, as it is stored. The port mappings, the list and the result are in CNI's own forms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    id: String,
    ifname: String,
    name: String,
    namespace: String,
    uid: String,
    port_mappings: Vec<PortMapping>,
    annotations: BTreeMap<String, String>,
    /// The configuration list.
    pub(crate) list: Value,
    /// What the plugins did; absent until all have succeeded.
    pub(crate) result: Option<CniResult>,
}

impl Record {
    /// The memory of a pod that is about to be put on a network.
    pub(crate) fn new(attachment: &Attachment<'_>, list: &List) -> Record {
        Record {
            version: VERSION,
            id: attachment.id.to_owned(),
            ifname: attachment.ifname.to_owned(),
            name: attachment.name.to_owned(),
            namespace: attachment.namespace.to_owned(),
            uid: attachment.uid.to_owned(),
            port_mappings: attachment.port_mappings.to_vec(),
            annotations: attachment.annotations.clone(),
            list: list.to_value(),
            result: None,
        }
    }

    /// The attachment as it was asked for, with the namespace as it is now.
    pub(crate) fn attachment<'a>(&'a self, netns: Option<&'a Path>) -> Attachment<'a> {
        Attachment {
            id: &self.id,
            netns,
            ifname: &self.ifname,
            name: &self.name,
            namespace: &self.namespace,
            uid: &self.uid,
            port_mappings: &self.port_mappings,
            annotations: &self.annotations,
            dns: None,
            cgroup: "",
            ips: &[],
            mac: None,
        }
    }

    /// What the pod was given; `None` while it is half made.
    pub(crate) fn attached(&self) -> Option<Attached> {
        let network = self
            .list
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        self.result
            .as_ref()
            .map(|result| result.attached(network, &self.ifname))
    }
}

/// What reading a record can find.
#[derive(Debug)]
pub(crate) enum Memory {
    /// The pod was never put on a network, or has been taken off.
    None,
    /// There is something that cannot be read: a power cut, or another version's. The pod's id still
    /// finds most of what it had.
    Damaged,
    /// The record.
    Record(Box<Record>),
}

/// The directory of all records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// The records at `dir`; touches nothing.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Records { dir }
    }

    /// The records at `name` below: those of one pod's own networks, each under its network's name.
    pub(crate) fn below(&self, name: &str) -> Self {
        Records {
            dir: self.dir.join(name),
        }
    }

    /// Is their directory there at all? Most pods have none.
    pub(crate) fn is_there(&self) -> bool {
        self.dir.symlink_metadata().is_ok()
    }

    /// Removes the directory, if no record is in it: what a kill has left half written goes along.
    pub(crate) fn forget_dir(&self) {
        if self.is_there() && self.ids().is_ok_and(|ids| ids.is_empty()) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Is there anything to read?
    pub(crate) fn has(&self, id: &str) -> Result<bool> {
        let path = self.path(id);
        path.try_exists().map_err(Error::file("look up", &path))
    }

    /// What is remembered of the pod.
    pub(crate) fn read(&self, id: &str) -> Result<Memory> {
        let path = self.path(id);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Memory::None),
            other => other.map_err(Error::file("read", &path))?,
        };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.version <= VERSION => Ok(Memory::Record(Box::new(record))),
            Ok(record) => {
                tracing::warn!(
                    pod = id,
                    version = record.version,
                    "a network's record needs a newer floe: the pod is taken off by its id alone"
                );
                Ok(Memory::Damaged)
            }
            Err(error) => {
                tracing::warn!(pod = id, path = %path.display(), %error, "damaged record");
                Ok(Memory::Damaged)
            }
        }
    }

    /// Writes the record: readers see the old one or the new one. Not synced to disk, since it
    /// describes the running kernel only.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        self.write_as(&record.id, record)
    }

    /// The same, under another name than the pod's id.
    pub(crate) fn write_as(&self, name: &str, record: &Record) -> Result<()> {
        let path = self.path(name);
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::file("write", &path)(error.into()))?;
        let write = || replace(&path, &bytes, 0o600, Lasts::UntilBoot);
        let written = match write() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.dir).map_err(Error::file("create", &self.dir))?;
                write()
            }
            other => other,
        };
        written.map_err(Error::file("write", &path))
    }

    /// Forgets the pod.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::file("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Ids of all pods with a record.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::file("list", &self.dir))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::file("list", &self.dir))?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            ids.extend(id.map(str::to_owned));
        }
        ids.sort();
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a former floe has written of a pod on its default network.
    const GOLDEN: &str = include_str!("../../golden/result-1.0.json");

    fn read(text: &str) -> Memory {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.json"), text).unwrap();
        Records::new(dir.path().to_owned()).read("p").unwrap()
    }

    fn golden() -> Value {
        serde_json::from_str(GOLDEN).unwrap()
    }

    #[test]
    fn a_former_record_is_read_and_is_written_as_it_was() {
        let Memory::Record(record) = read(GOLDEN) else {
            panic!("not read");
        };
        let attached = record.attached().unwrap();
        assert_eq!(attached.network, "floe");
        let ips: Vec<String> = attached.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.85.0.2/16", "fd00:f10e::2/64"]);
        assert_eq!(record.attachment(None).port_mappings[1].host_port, 15353);
        let again = serde_json::to_value(&*record).unwrap();
        assert_eq!(
            again,
            golden(),
            "what is written has changed: docs/records.md"
        );
    }

    #[test]
    fn what_a_newer_floe_has_added_is_passed_over() {
        let mut newer = golden();
        newer["later"] = serde_json::json!({"a": 1});
        newer["result"]["later"] = serde_json::json!([1]);
        assert!(matches!(read(&newer.to_string()), Memory::Record(_)));
    }

    #[test]
    fn a_version_that_needs_a_newer_reader_is_damage() {
        let mut newer = golden();
        newer["version"] = 2.into();
        assert!(matches!(read(&newer.to_string()), Memory::Damaged));
        assert!(matches!(read("{}"), Memory::Damaged));
    }
}
