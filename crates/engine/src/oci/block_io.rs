//! Classes of block I/O, which annotations give to containers in goresctrl's words, as with CRI-O: of the
//! container `io.kubernetes.cri.blockio-class`, of its pod `blockio.resources.beta.kubernetes.io/container.NAME` or
//! `…/pod`. What a class is stands in the file `blockio_config_file`, which is read at each use. Classes of RDT are
//! asked for in the same way, and refused: none are made.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use base::file::read_linked;
use runtime::spec;
use serde::Deserialize;

use super::Inputs;
use base::size::quantity;

use crate::annotations::wrong;
use crate::error::{Error, Result};

/// The most that the file of classes may be, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The most devices that a pattern may fit.
const DEVICES: usize = 256;

/// The class of a kind (`blockio`, `rdt`) that a container is to have, and the annotation that says so.
fn class<'a>(inputs: &Inputs<'a>, kind: &str) -> Option<(String, &'a str)> {
    let own = &inputs.container.spec;
    let of_pod = &inputs.pod.spec.annotations;
    let prefix = format!("{kind}.resources.beta.kubernetes.io");
    let named = [
        (&own.annotations, format!("io.kubernetes.cri.{kind}-class")),
        (of_pod, format!("{prefix}/container.{}", own.name)),
        (of_pod, format!("{prefix}/pod")),
    ];
    let found = |(annotations, key): (&'a BTreeMap<String, String>, String)| {
        let class = annotations.get(&key)?;
        Some((key, class.as_str()))
    };
    named
        .into_iter()
        .find_map(found)
        .filter(|(_, class)| !class.is_empty())
}

/// The file: classes by name, each a list of parameters of devices.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Classes {
    classes: BTreeMap<String, Vec<Parameters>>,
}

/// What holds of some devices; without any, of all that a weight is for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Parameters {
    devices: Option<Vec<String>>,
    throttle_read_bps: String,
    throttle_write_bps: String,
    #[serde(rename = "ThrottleReadIOPS")]
    throttle_read_iops: String,
    #[serde(rename = "ThrottleWriteIOPS")]
    throttle_write_iops: String,
    weight: String,
}

impl Classes {
    /// Reads the file that the configuration names.
    ///
    /// # Errors
    /// A file that is not there or says what cannot be meant, by its name.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::Config {
            origin: path.display().to_string(),
            reason,
        };
        let text = read_linked(path, FILE_MAX).map_err(|error| bad(error.to_string()))?;
        let text = text.ok_or_else(|| bad("there is no such file".to_owned()))?;
        let text = String::from_utf8(text).map_err(|error| bad(error.to_string()))?;
        let read: Self = serde_saphyr::from_str(&text).map_err(|error| {
            let whole = error.to_string();
            bad(whole.lines().next().unwrap_or_default().to_owned())
        })?;
        for (name, all) in &read.classes {
            for one in all {
                one.check()
                    .map_err(|why| bad(format!("class {name:?}: {why}")))?;
            }
        }
        Ok(read)
    }

    fn of(&self, class: &str) -> Option<spec::BlockIo> {
        let mut built = spec::BlockIo::default();
        for one in self.classes.get(class)? {
            one.put(&mut built);
        }
        Some(built)
    }
}

impl Parameters {
    fn check(&self) -> std::result::Result<(), String> {
        for (name, text) in [
            ("ThrottleReadBps", &self.throttle_read_bps),
            ("ThrottleWriteBps", &self.throttle_write_bps),
            ("ThrottleReadIOPS", &self.throttle_read_iops),
            ("ThrottleWriteIOPS", &self.throttle_write_iops),
        ] {
            if !text.is_empty() && quantity(text).is_none() {
                return Err(format!("{name}: {text:?} is no quantity"));
            }
            if !text.is_empty() && self.devices.is_none() {
                return Err(format!("{name} without Devices"));
            }
        }
        let weight = &self.weight;
        match weight.is_empty() || matches!(weight.parse(), Ok(10..=1000_u16)) {
            true => Ok(()),
            false => Err(format!("Weight: {weight:?} is not 10 to 1000")),
        }
    }

    fn put(&self, built: &mut spec::BlockIo) {
        let weight: Option<u16> = self.weight.parse().ok();
        let Some(patterns) = &self.devices else {
            built.weight = weight.or(built.weight);
            return;
        };
        for (major, minor) in devices(patterns) {
            if weight.is_some() {
                built.weight_device.push(spec::WeightDevice {
                    major,
                    minor,
                    weight,
                    leaf_weight: None,
                });
            }
            for (text, all) in [
                (&self.throttle_read_bps, &mut built.throttle_read_bps_device),
                (
                    &self.throttle_write_bps,
                    &mut built.throttle_write_bps_device,
                ),
                (
                    &self.throttle_read_iops,
                    &mut built.throttle_read_iops_device,
                ),
                (
                    &self.throttle_write_iops,
                    &mut built.throttle_write_iops_device,
                ),
            ] {
                let rate = quantity(text);
                all.extend(rate.map(|rate| spec::ThrottleDevice { major, minor, rate }));
            }
        }
    }
}

/// The numbers of the block devices that patterns fit: paths whose last part may have `*` and `?`.
fn devices(patterns: &[String]) -> Vec<(i64, i64)> {
    let mut all = Vec::new();
    for pattern in patterns {
        for path in matching(Path::new(pattern)).into_iter().take(DEVICES) {
            let Ok(found) = std::fs::metadata(&path) else {
                continue;
            };
            if found.file_type().is_block_device() {
                let number = found.rdev();
                let numbers = (libc::major(number).into(), libc::minor(number).into());
                if !all.contains(&numbers) {
                    all.push(numbers);
                }
            }
        }
    }
    all
}

fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(last)) = (
        pattern.parent(),
        pattern.file_name().and_then(|n| n.to_str()),
    ) else {
        return Vec::new();
    };
    if !last.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let fits = |name: &str| wildcard(last.as_bytes(), name.as_bytes());
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(fits));
    named.map(|entry| entry.path()).collect()
}

/// Does a pattern of `*`, `?` and bytes fit?
fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of, mut star, mut from) = (0, 0, None, 0);
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                (star, from) = (Some(at), of);
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[of] => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some(place) => {
                    from += 1;
                    (at, of) = (place + 1, from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// What the container's class of block I/O gives it, if it is to have one.
///
/// # Errors
/// A class that the file does not have, by the annotation's name; a file that cannot be used.
pub(super) fn build(inputs: &Inputs<'_>) -> Result<Option<spec::BlockIo>> {
    let file = &inputs.runtime.blockio_config_file;
    let Some((key, class)) = class(inputs, "blockio").filter(|_| !file.as_os_str().is_empty())
    else {
        return Ok(None);
    };
    let found = Classes::read(file)?.of(class);
    found
        .map(Some)
        .ok_or_else(|| wrong(&key, format!("{} has no class {class:?}", file.display())))
}

/// Refuses a class of RDT, as CRI-O does where it has none.
///
/// # Errors
/// The annotation that asks for one.
pub(super) fn refuse_rdt(inputs: &Inputs<'_>) -> Result<()> {
    match class(inputs, "rdt") {
        None => Ok(()),
        Some((key, class)) => {
            let reason = format!(
                "no class {class:?}: classes of RDT are not made (a CDI device may name one that is there)"
            );
            Err(wrong(&key, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_those_of_a_shell_do() {
        for (pattern, name, fits) in [
            ("sd*", "sda", true),
            ("sd?", "sda1", false),
            ("*", "", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b", "abc", false),
        ] {
            assert_eq!(
                wildcard(pattern.as_bytes(), name.as_bytes()),
                fits,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn classes_are_read_from_the_file_and_what_cannot_be_meant_is_refused_by_its_class() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("blockio.yaml");
        let text = "Classes:\n  slow:\n  - Weight: \"20\"\n  - Devices: [/dev/null]\n    ThrottleReadBps: 60M\n";
        std::fs::write(&file, text).unwrap();
        let classes = Classes::read(&file).unwrap();
        let slow = classes.of("slow").unwrap();
        assert_eq!(slow.weight, Some(20));
        // No block device.
        assert!(slow.throttle_read_bps_device.is_empty());
        assert!(classes.of("other").is_none());
        for bad in [
            "Classes:\n  bad:\n  - Weight: \"5\"\n",
            "Classes:\n  bad:\n  - ThrottleReadBps: 1M\n",
            "Classes:\n  bad:\n  - Devices: [/dev/sda]\n    ThrottleReadIOPS: many\n",
            "Classes: [",
        ] {
            std::fs::write(&file, bad).unwrap();
            let error = Classes::read(&file).unwrap_err().to_string();
            assert!(error.contains("blockio.yaml"), "{error}");
        }
    }
}
