//! Values that cross the connection, checked: process ids, times, exit codes, mounts, options.

use std::path::PathBuf;

use prost::Message;
use serde::Serialize;

use crate::wire;

/// What containerd has for an end of which nothing is known.
const UNKNOWN_EXIT: u8 = 255;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, or 128 and the number of the signal that killed it; 255 if the shim does not
    /// know it, or gives a number that is no exit code.
    pub code: u8,
    /// When, in nanoseconds since 1970; `None` if the shim does not know.
    pub at: Option<i64>,
}

impl Exit {
    pub(crate) fn of(status: u32, at: Option<wire::Timestamp>) -> Self {
        Self {
            code: u8::try_from(status).unwrap_or(UNKNOWN_EXIT),
            at: time(at),
        }
    }
}

/// A time after 1970, in nanoseconds since then; Go's zero time is before it.
pub(crate) fn time(time: Option<wire::Timestamp>) -> Option<i64> {
    let time = time?;
    if time.seconds <= 0 || !(0..1_000_000_000).contains(&time.nanos) {
        return None;
    }
    let seconds = time.seconds.checked_mul(1_000_000_000)?;
    seconds.checked_add(i64::from(time.nanos))
}

/// A process id of this host, or `None` for 0: the process is in a virtual machine.
pub(crate) fn pid(pid: u32) -> Result<Option<i32>, String> {
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some(pid)),
        Err(_) => Err(format!("{pid} is no process id")),
    }
}

/// A mount that the shim makes to have a root file system, as mount(8) has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Such as `overlay` or `bind`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Such as `lowerdir=…`.
    pub options: Vec<String>,
}

impl Mount {
    /// An overlay of layers, the topmost first, under a writable one.
    ///
    /// # Errors
    /// In words: a path that an overlay's options cannot name.
    pub fn overlay(lower: &[PathBuf], upper: PathBuf, work: PathBuf) -> Result<Self, String> {
        let name = |path: &PathBuf| match path.to_str() {
            // Overlayfs takes these as separators, and shims do not escape them.
            Some(name) if !name.contains([':', ',', '\\']) => Ok(name.to_owned()),
            _ => Err(format!("an overlay cannot be of {}", path.display())),
        };
        let lower: Vec<String> = lower.iter().map(name).collect::<Result<_, _>>()?;
        Ok(Self {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                format!("lowerdir={}", lower.join(":")),
                format!("upperdir={}", name(&upper)?),
                format!("workdir={}", name(&work)?),
            ],
        })
    }

    /// A directory that is there.
    ///
    /// # Errors
    /// In words: a path that is no text.
    pub fn bind(directory: &std::path::Path, readonly: bool) -> Result<Self, String> {
        let source = directory
            .to_str()
            .ok_or_else(|| format!("{} is no text", directory.display()))?;
        let access = if readonly { "ro" } else { "rw" };
        Ok(Self {
            kind: "bind".into(),
            source: source.to_owned(),
            options: vec!["rbind".into(), access.into()],
        })
    }
}

impl From<Mount> for wire::Mount {
    fn from(mount: Mount) -> Self {
        Self {
            r#type: mount.kind,
            source: mount.source,
            target: String::new(),
            options: mount.options,
        }
    }
}

/// What a shim is told of its runtime, with the task or with the program's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Options {
    /// `runtimeoptions.v1.Options`: a configuration file, as Kata takes it.
    ConfigFile(PathBuf),
    /// `containerd.runc.v1.Options`: as containerd-shim-runc-v2 takes them.
    Runc {
        /// The OCI runtime; empty: runc.
        binary: String,
        /// Where it keeps its state; empty: its own place.
        root: String,
        /// Cgroups by systemd.
        systemd_cgroup: bool,
    },
}

impl Options {
    pub(crate) fn any(&self) -> wire::Any {
        match self {
            Self::ConfigFile(path) => message(
                "runtimeoptions.v1.Options",
                &wire::RuntimeOptions {
                    type_url: String::new(),
                    config_path: path.to_string_lossy().into_owned(),
                },
            ),
            Self::Runc {
                binary,
                root,
                systemd_cgroup,
            } => message(
                "containerd.runc.v1.Options",
                &wire::RuncOptions {
                    binary_name: binary.clone(),
                    root: root.clone(),
                    systemd_cgroup: *systemd_cgroup,
                },
            ),
        }
    }
}

/// A message with its type.
pub(crate) fn message(kind: &str, message: &impl Message) -> wire::Any {
    wire::Any {
        type_url: kind.to_owned(),
        value: message.encode_to_vec(),
    }
}

/// A part of the runtime-spec with its type; it travels as JSON.
///
/// # Errors
/// In words: it cannot be written as JSON.
pub(crate) fn document(kind: &str, document: &impl Serialize) -> Result<wire::Any, String> {
    Ok(wire::Any {
        type_url: format!("types.containerd.io/opencontainers/runtime-spec/1/{kind}"),
        value: serde_json::to_vec(document).map_err(|error| error.to_string())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: i32) -> Option<wire::Timestamp> {
        Some(wire::Timestamp { seconds, nanos })
    }

    #[test]
    fn only_times_after_1970_are_known() {
        assert_eq!(time(at(2, 5)), Some(2_000_000_005));
        assert_eq!(time(None), None);
        for (seconds, nanos) in [
            (-62_135_596_800, 0),
            (1, -1),
            (1, 1_000_000_000),
            (i64::MAX, 0),
        ] {
            assert_eq!(time(at(seconds, nanos)), None, "{seconds}");
        }
    }

    #[test]
    fn a_number_that_is_no_exit_code_is_255() {
        assert_eq!(Exit::of(7, None).code, 7);
        assert_eq!(Exit::of(u32::MAX, None).code, 255);
    }

    #[test]
    fn a_number_that_is_no_process_id_is_refused() {
        assert_eq!(pid(0), Ok(None));
        assert_eq!(pid(7), Ok(Some(7)));
        assert!(pid(u32::MAX).is_err());
    }

    #[test]
    fn a_path_that_would_be_two_is_no_layer() {
        let overlay = |lower: &str| Mount::overlay(&[lower.into()], "/u".into(), "/w".into());
        assert_eq!(
            overlay("/a").unwrap().options,
            ["lowerdir=/a", "upperdir=/u", "workdir=/w"]
        );
        for bad in ["/a:/b", "/a,userxattr", "/a\\"] {
            assert!(overlay(bad).is_err(), "{bad}");
        }
    }
}
