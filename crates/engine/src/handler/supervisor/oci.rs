//! The OCI program of a runtime handler (runc, crun, youki, runsc): where it is, and what it says that it
//! can do (its verb `features`; OCI runtime-spec, features.md). The pod's supervisor executes it for each
//! verb of its containers' lives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use supervisor::OciProgram;

use super::super::{Abilities, Ability, RootForm};
use crate::config::RuntimeEntry;
use crate::error::{Error, Result};

/// How long a program may take to say what it can do.
const SAYS: Duration = Duration::from_secs(5);
/// Where programs are looked for if nothing says so.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What says in a program's features that it has `checkpoint`.
const CHECKPOINT: &str = "org.opencontainers.runc.checkpoint.enabled";

/// A handler's program.
#[derive(Debug)]
pub(crate) struct OciRuntime {
    handler: String,
    /// Its path, or its name on PATH.
    program: PathBuf,
    /// Where it keeps its state.
    root: PathBuf,
}

impl OciRuntime {
    /// The program that an entry of the configuration means.
    pub(crate) fn new(handler: &str, program: PathBuf, entry: &RuntimeEntry) -> Self {
        let usual = || {
            let name = program.file_name().unwrap_or(handler.as_ref());
            Path::new("/run").join(name)
        };
        let root = match entry.runtime_root.as_os_str().is_empty() {
            true => usual(),
            false => entry.runtime_root.clone(),
        };
        Self {
            handler: handler.to_owned(),
            program,
            root,
        }
    }

    /// The program for a container whose cgroup has that name in config.json.
    ///
    /// # Errors
    /// It is not where it should be.
    pub(super) fn find(&self, cgroups_path: Option<&str>) -> Result<OciProgram> {
        Ok(OciProgram {
            path: self.look()?,
            root: self.root.clone(),
            args: Vec::new(),
            // `slice:prefix:name`; a path begins with a slash.
            systemd_cgroup: cgroups_path.is_some_and(|path| !path.starts_with('/')),
        })
    }

    /// Is it where it should be?
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check(&self) -> Result<()> {
        self.look().map(drop)
    }

    fn look(&self) -> Result<PathBuf> {
        let wrong = |reason: String| Error::Config {
            origin: format!("crio.runtime.runtimes.{}.runtime_path", self.handler),
            reason,
        };
        if self.program.is_absolute() {
            return match self.program.is_file() {
                true => Ok(self.program.clone()),
                false => Err(wrong(format!("{} is not a file", self.program.display()))),
            };
        }
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(&self.program))
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| wrong(format!("{} is not on PATH", self.program.display())))
    }

    /// What its containers can be asked for. A program that does not say what it can do is taken to be
    /// able to do what all can.
    pub(super) fn abilities(&self) -> Abilities {
        let mut has = vec![
            Ability::HostNetwork,
            Ability::HostIpc,
            Ability::HostPid,
            Ability::TargetPid,
            Ability::Devices,
            Ability::Privileged,
            Ability::Propagation,
            Ability::MountOptions,
            Ability::Pause,
            Ability::HealthChecks,
            Ability::Ports,
        ];
        match self.features() {
            Ok(features) => {
                let can = [
                    (
                        features.makes_recursively_read_only(),
                        Ability::RecursiveReadOnly,
                    ),
                    (features.maps_mounts(), Ability::MappedMounts),
                    (features.has_user_namespaces(), Ability::UserNamespaces),
                    (features.writes_containers_down(), Ability::Checkpoint),
                ];
                has.extend(
                    can.iter()
                        .filter(|(can, _)| *can)
                        .map(|(_, ability)| *ability),
                );
            }
            Err(reason) => {
                tracing::info!(handler = %self.handler, %reason, "its program does not say what it can do");
            }
        }
        Abilities::new(&[RootForm::Mount, RootForm::Layers], &has)
    }

    fn features(&self) -> std::result::Result<Features, String> {
        let program = self.find(None).map_err(|error| error.to_string())?;
        let text = supervisor::features(&program, SAYS).map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }
}

/// What of the document is of use.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Features {
    mount_options: Option<Vec<String>>,
    annotations: Option<BTreeMap<String, String>>,
    linux: Option<LinuxFeatures>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LinuxFeatures {
    namespaces: Option<Vec<String>>,
    mount_extensions: Option<MountExtensions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MountExtensions {
    idmap: Option<Enabled>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Enabled {
    enabled: Option<bool>,
}

impl Features {
    fn makes_recursively_read_only(&self) -> bool {
        let mut options = self.mount_options.iter().flatten();
        options.any(|option| option == "rro")
    }

    fn maps_mounts(&self) -> bool {
        let extensions = self.linux.iter().flat_map(|linux| &linux.mount_extensions);
        let mut idmaps = extensions.flat_map(|extensions| &extensions.idmap);
        idmaps.any(|idmap| idmap.enabled == Some(true))
    }

    /// runc's word, which others have taken over.
    fn writes_containers_down(&self) -> bool {
        let mut annotations = self.annotations.iter().flatten();
        annotations.any(|(name, value)| name == CHECKPOINT && value == "true")
    }

    /// A pod with one has volumes whose files are mapped.
    fn has_user_namespaces(&self) -> bool {
        let linux = self.linux.iter();
        let mut namespaces = linux.flat_map(|linux| linux.namespaces.iter().flatten());
        namespaces.any(|kind| kind == "user") && self.maps_mounts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_features_document_is_read_leniently() {
        let read = |text: &str| serde_json::from_str::<Features>(text).unwrap();
        let runc = r#"{"ociVersionMin":"1.0.0","hooks":[],"mountOptions":["ro","rro"],"linux":{}}"#;
        assert!(read(runc).makes_recursively_read_only());
        let runc = r#"{"linux":{"namespaces":["mount","user"],
            "mountExtensions":{"idmap":{"enabled":true}}}}"#;
        assert!(read(runc).has_user_namespaces());
        let has = |value: &str| {
            let text = format!(r#"{{"annotations":{{"{CHECKPOINT}":"{value}"}}}}"#);
            read(&text).writes_containers_down()
        };
        assert!(has("true") && !has("false") && !read(runc).writes_containers_down());
        for none in [
            r#"{"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{}}}}"#,
            r#"{"linux":{"namespaces":null,"mountExtensions":{"idmap":{"enabled":true}}}}"#,
            r#"{"linux":{"namespaces":["user"]}}"#,
        ] {
            assert!(!read(none).has_user_namespaces(), "{none}");
        }
        for none in [
            r#"{"mountOptions":["ro"]}"#,
            r#"{"mountOptions":null}"#,
            "{}",
        ] {
            assert!(!read(none).makes_recursively_read_only(), "{none}");
        }
    }

    #[test]
    fn a_program_is_where_it_is_configured_or_on_path() {
        let entry = RuntimeEntry::default();
        let missing = OciRuntime::new("x", "/no/such/program".into(), &entry);
        let error = missing.find(None).unwrap_err().to_string();
        assert!(error.contains("runtimes.x.runtime_path"), "{error}");
        let shell = OciRuntime::new("x", "sh".into(), &entry)
            .find(None)
            .unwrap();
        assert!(shell.path.is_absolute());
        assert_eq!(shell.root, Path::new("/run/sh"));
        let scope = shell_scope();
        assert!(scope.systemd_cgroup);
    }

    fn shell_scope() -> OciProgram {
        let runtime = OciRuntime::new("x", "sh".into(), &RuntimeEntry::default());
        runtime.find(Some("a.slice:crio:b")).unwrap()
    }
}
