//! Devices by name (Container Device Interface): `vendor.com/class=name` stands for what a file on the node
//! says that a container with that device needs. The files are read when a container asks for a device: what
//! a vendor's program has just written, or mended, is seen by the next try.
//!
//! A container without a device that it was promised is worse than none: a name that is not known, or known
//! twice, or whose file is damaged, fails the create, with the reason.

mod edits;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(crate) use edits::Edits;

use crate::error::{Error, Result};
use spec::CdiSpec;

/// A file's size: those of vendors have some hundred kilobytes.
const MAX_FILE: u64 = 4 << 20;
/// Files of one directory.
const MAX_FILES: usize = 1024;
/// Names that one container may ask for.
const MAX_DEVICES: usize = 1024;
/// Beginning of the annotations that name devices: the way of before Kubernetes 1.28, and of people.
const ANNOTATION: &str = "cdi.k8s.io/";
/// The field of a request, as errors name it.
const FIELD: &str = "config.CDI_devices";

/// The devices that a container asks for: those of the field, then those of annotations
/// (`cdi.k8s.io/NAME: DEVICE,DEVICE`), each once.
///
/// # Errors
/// An annotation that is no list of devices' names, or too many of them.
pub fn requested(
    field: impl IntoIterator<Item = String>,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |name: String| {
        if seen.insert(name.clone()) {
            names.push(name);
        }
        match names.len() > MAX_DEVICES {
            true => Err(Error::invalid(
                FIELD,
                format!("more than {MAX_DEVICES} names"),
            )),
            false => Ok(()),
        }
    };
    field.into_iter().try_for_each(&mut add)?;
    let named = annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATION));
    for (key, value) in named {
        for name in value.split(',') {
            spec::check_name(name)
                .map_err(|reason| Error::invalid(format!("config.annotations[{key}]"), reason))?;
            add(name.to_owned())?;
        }
    }
    Ok(names)
}

/// Looks for devices in the directories of CDI files, of which a later one wins, and at the device nodes that
/// they name. `in_users`: for a container with a user namespace of its own.
///
/// # Errors
/// Names that are not known, all of them, with what is wrong with files that could have known them.
pub(crate) fn look(dirs: &[PathBuf], names: &[String], in_users: bool) -> Result<Edits> {
    if names.is_empty() {
        return Ok(Edits::default());
    }
    let known = Known::read(dirs);
    let (mut edits, mut made, mut unknown) = (Edits::default(), Vec::new(), Vec::new());
    for name in names {
        let Some(Device { spec, index }) = known.find(name) else {
            unknown.push(name.as_str());
            continue;
        };
        if !made.iter().any(|other| Rc::ptr_eq(other, spec)) {
            edits.add(&spec.container_edits, name, in_users)?;
            made.push(spec.clone());
        }
        edits.add(&spec.devices[*index].container_edits, name, in_users)?;
    }
    if unknown.is_empty() {
        return Ok(edits);
    }
    let mut reason = format!("unresolvable CDI devices {}", unknown.join(", "));
    for flaw in known.flaws_about(&unknown) {
        reason = format!("{reason}; {flaw}");
    }
    Err(Error::invalid(FIELD, reason))
}

/// All devices of the node's files.
#[derive(Default)]
struct Known {
    /// By name; `None`: two files of one directory have it.
    devices: BTreeMap<String, Option<Device>>,
    /// What is wrong with files, with the kind if that could be read.
    flaws: Vec<String>,
}

/// A device by its place in a file.
struct Device {
    spec: Rc<CdiSpec>,
    index: usize,
}

impl Known {
    fn read(dirs: &[PathBuf]) -> Self {
        let mut known = Self::default();
        for dir in dirs {
            let mut here: BTreeMap<String, Option<Device>> = BTreeMap::new();
            for file in known.files(dir) {
                known.read_file(&file, &mut here);
            }
            // A later directory wins, also over a conflict.
            known.devices.extend(here);
        }
        known
    }

    /// The files of a directory, by name; one that is not there has none.
    fn files(&mut self, dir: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if base::file::is_absent(&error) => return Vec::new(),
            Err(error) => {
                self.flaws.push(format!("{}: {error}", dir.display()));
                return Vec::new();
            }
        };
        let is_spec = |path: &PathBuf| {
            let extension = path.extension().and_then(std::ffi::OsStr::to_str);
            matches!(extension, Some("json" | "yaml"))
        };
        let paths = entries.flatten().map(|entry| entry.path()).filter(is_spec);
        let mut files: Vec<PathBuf> = paths.take(MAX_FILES + 1).collect();
        if files.len() > MAX_FILES {
            let flaw = format!("{} has more than {MAX_FILES} files", dir.display());
            self.flaws.push(flaw);
        }
        files.sort();
        files
    }

    fn read_file(&mut self, file: &Path, here: &mut BTreeMap<String, Option<Device>>) {
        let read = base::file::read_linked(file, MAX_FILE)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                let text = String::from_utf8(bytes.unwrap_or_default());
                CdiSpec::parse(&text.map_err(|error| error.to_string())?)
            });
        let spec = match read {
            Ok(spec) => Rc::new(spec),
            Err(reason) => {
                tracing::warn!(file = %file.display(), reason, "a CDI file is passed over");
                self.flaws.push(format!("{}: {reason}", file.display()));
                return;
            }
        };
        for (index, device) in spec.devices.iter().enumerate() {
            let name = format!("{}={}", spec.kind, device.name);
            let spec = spec.clone();
            let device = Some(Device { spec, index });
            match here.entry(name) {
                Entry::Vacant(place) => drop(place.insert(device)),
                Entry::Occupied(mut place) => {
                    let name = place.key();
                    let flaw = format!("{}: {name} is also in another file", file.display());
                    self.flaws.push(flaw);
                    place.insert(None);
                }
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Device> {
        self.devices.get(name)?.as_ref()
    }

    /// What an operator has to know to mend it: files that cannot be read may be those that have it.
    fn flaws_about<'a>(&'a self, unknown: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let about_other = |flaw: &str| {
            flaw.ends_with("is also in another file")
                && !unknown.iter().any(|name| flaw.contains(*name))
        };
        let flaws = self.flaws.iter().map(String::as_str);
        flaws.filter(move |flaw| !about_other(flaw)).take(8)
    }
}
