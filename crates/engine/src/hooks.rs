//! Hook directories: programs that run at a container's stages, each where a file says (oci-hooks(5), schema
//! 1.0.0, as CRI-O and podman read it).
//!
//! Files are read once for each configuration, and again when one changes; a bad one is an error by name
//! and never passed over: it may be what a node's devices or its security depend on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use runtime::spec::{Hook, HookStage, Hooks};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The longest file, in bytes, and the most files.
const LONGEST: u64 = 1 << 20;
const FILES: usize = 1000;
/// The version of the schema.
const VERSION: &str = "1.0.0";

/// All hooks of the directories, in the order in which they run.
#[derive(Debug, Default)]
pub(crate) struct HookFiles(Vec<HookFile>);

/// A container as the conditions of hooks see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Of the container and its pod.
    pub(crate) annotations: &'a BTreeMap<String, String>,
    /// The first word of its command.
    pub(crate) command: &'a str,
    /// Does its request mount anything?
    pub(crate) has_bind_mounts: bool,
}

#[derive(Debug)]
struct HookFile {
    hook: Hook,
    when: When,
    stages: Vec<HookStage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    version: String,
    hook: Hook,
    when: WhenText,
    stages: Vec<HookStage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct WhenText {
    always: Option<bool>,
    annotations: BTreeMap<String, String>,
    commands: Vec<String>,
    has_bind_mounts: Option<bool>,
}

#[derive(Debug)]
struct When {
    always: Option<bool>,
    annotations: Vec<(Regex, Regex)>,
    commands: Vec<Regex>,
    has_bind_mounts: Option<bool>,
}

impl HookFiles {
    /// Reads `*.json` of the directories; a file of a later one replaces one of the same name. A directory
    /// that is not there has none.
    ///
    /// # Errors
    /// A directory or file that cannot be read, or a file that is no hook.
    pub(crate) fn read(dirs: &[PathBuf]) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for dir in dirs {
            let entries = match std::fs::read_dir(dir) {
                Err(e) if base::file::is_absent(&e) => continue,
                other => other.map_err(Error::io("read", dir))?,
            };
            for entry in entries {
                let path = entry.map_err(Error::io("read", dir))?.path();
                let Some(name) = path.file_name() else {
                    continue;
                };
                if path.extension().is_some_and(|end| end == "json") {
                    let name = name.to_os_string();
                    paths.insert(name, path);
                }
                if paths.len() > FILES {
                    return Err(wrong(dir, format!("more than {FILES} hooks")));
                }
            }
        }
        let mut paths: Vec<_> = paths.into_iter().collect();
        // The order of their names in lower case.
        paths.sort_by_key(|(name, _)| name.to_string_lossy().to_lowercase());
        let files = paths.iter().map(|(_, path)| HookFile::read(path));
        files.collect::<Result<_>>().map(Self)
    }

    /// Is there no file at all?
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the hooks of a container to those that it has.
    pub(crate) fn add_to(&self, hooks: &mut Option<Hooks>, subject: Subject<'_>) {
        for file in self.0.iter().filter(|file| file.when.holds(subject)) {
            let hooks = hooks.get_or_insert_default();
            for stage in &file.stages {
                hooks.add(*stage, file.hook.clone());
            }
        }
    }
}

impl HookFile {
    fn read(path: &Path) -> Result<Self> {
        let text = base::file::read_linked(path, LONGEST);
        let text = text.map_err(Error::io("read", path))?.unwrap_or_default();
        let text: Text = serde_json::from_slice(&text).map_err(|e| wrong(path, e.to_string()))?;
        if text.version != VERSION {
            let why = format!("version {:?} is not {VERSION:?}", text.version);
            return Err(wrong(path, why));
        }
        if !text.hook.path.is_absolute() || !text.hook.path.exists() {
            let why = format!(
                "hook.path: {:?} is no absolute path of a file",
                text.hook.path
            );
            return Err(wrong(path, why));
        }
        if text.stages.is_empty() {
            return Err(wrong(path, "stages: is empty".to_owned()));
        }
        let expression = |key: &str, text: &str| {
            let made = Regex::new(text);
            made.map_err(|e| wrong(path, format!("{key}: {text:?}: {e}")))
        };
        let when = text.when;
        let annotations = when.annotations.iter().map(|(key, value)| {
            let key = expression("when.annotations", key)?;
            Ok((key, expression("when.annotations", value)?))
        });
        let commands = when.commands.iter();
        Ok(Self {
            hook: text.hook,
            when: When {
                always: when.always,
                annotations: annotations.collect::<Result<_>>()?,
                commands: commands
                    .map(|text| expression("when.commands", text))
                    .collect::<Result<_>>()?,
                has_bind_mounts: when.has_bind_mounts,
            },
            stages: text.stages,
        })
    }
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::Config {
        origin: path.display().to_string(),
        reason,
    }
}

impl When {
    /// All conditions that there are, at least one.
    fn holds(&self, of: Subject<'_>) -> bool {
        let annotation = |(key, value): &(Regex, Regex)| {
            let mut all = of.annotations.iter();
            all.any(|(own_key, own)| key.is_match(own_key) && value.is_match(own))
        };
        let mut conditions = Vec::new();
        conditions.extend(self.always);
        conditions.extend(
            self.has_bind_mounts
                .map(|wanted| wanted && of.has_bind_mounts),
        );
        conditions.extend(self.annotations.iter().map(annotation));
        if !self.commands.is_empty() {
            let mut all = self.commands.iter();
            conditions.push(all.any(|command| command.is_match(of.command)));
        }
        !conditions.is_empty() && conditions.into_iter().all(|holds| holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ANNOTATIONS: &BTreeMap<String, String> = &BTreeMap::new();

    fn subject<'a>(command: &'a str) -> Subject<'a> {
        Subject {
            annotations: NO_ANNOTATIONS,
            command,
            has_bind_mounts: false,
        }
    }

    fn file(when: &str) -> String {
        format!(
            r#"{{"version": "1.0.0", "hook": {{"path": "/bin/sh"}}, "when": {when}, "stages": ["prestart"]}}"#
        )
    }

    fn read(files: &[(&str, &str)]) -> Result<HookFiles> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        HookFiles::read(&[dir.path().to_owned()])
    }

    #[test]
    fn every_condition_that_there_is_must_hold_and_there_must_be_one() {
        let annotations = BTreeMap::from([("a.b/c".to_owned(), "yes".to_owned())]);
        let of = Subject {
            annotations: &annotations,
            command: "/bin/app",
            has_bind_mounts: true,
        };
        for (when, holds) in [
            ("{}", false),
            (r#"{"always": true}"#, true),
            (r#"{"always": false, "commands": ["app"]}"#, false),
            (r#"{"annotations": {"^a\\.b/.*$": "^yes$"}}"#, true),
            (r#"{"annotations": {"^a\\.b/.*$": "^no$"}}"#, false),
            (r#"{"annotations": {"a": "yes", "other": "."}}"#, false),
            (r#"{"commands": ["^/usr", "app$"]}"#, true),
            (r#"{"commands": ["app$"], "hasBindMounts": true}"#, true),
            (r#"{"hasBindMounts": false}"#, false),
        ] {
            let files = read(&[("x.json", &file(when))]).unwrap();
            let mut hooks = None;
            files.add_to(&mut hooks, of);
            assert_eq!(hooks.is_some(), holds, "{when}");
        }
    }

    #[test]
    fn files_run_in_the_order_of_their_names_and_a_later_directory_replaces() {
        let named = |arg: &str| {
            format!(
                r#"{{"version": "1.0.0", "hook": {{"path": "/bin/sh", "args": ["{arg}"]}},
                "when": {{"always": true}}, "stages": ["poststop", "createRuntime"]}}"#
            )
        };
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let write = |dir: usize, name: &str, arg: &str| {
            std::fs::write(dirs[dir].path().join(name), named(arg)).unwrap();
        };
        write(0, "b.json", "b");
        write(0, "A.json", "a");
        write(0, "c.json", "c of the first");
        write(1, "c.json", "c of the second");
        write(1, "readme.txt", "no hook");
        let mut all: Vec<PathBuf> = dirs.iter().map(|dir| dir.path().to_owned()).collect();
        all.push("/no/such/dir".into());
        let mut hooks = None;
        HookFiles::read(&all)
            .unwrap()
            .add_to(&mut hooks, subject("x"));
        let hooks = hooks.unwrap();
        let args = |list: &[Hook]| {
            list.iter()
                .map(|hook| hook.args[0].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(args(&hooks.poststop), ["a", "b", "c of the second"]);
        assert_eq!(hooks.create_runtime, hooks.poststop);
        assert_eq!(hooks.prestart, []);
    }

    #[test]
    fn a_bad_file_is_an_error_that_names_it_and_what_is_wrong() {
        for (text, why) in [
            ("{", "EOF"),
            (
                r#"{"version": "0.1.0", "hook": {"path": "/bin/sh"}, "when": {}, "stages": ["prestart"]}"#,
                "version",
            ),
            (
                r#"{"version": "1.0.0", "hook": {"path": "sh"}, "when": {}, "stages": ["prestart"]}"#,
                "hook.path",
            ),
            (
                r#"{"version": "1.0.0", "hook": {"path": "/no/such"}, "when": {}, "stages": ["prestart"]}"#,
                "/no/such",
            ),
            (
                r#"{"version": "1.0.0", "hook": {"path": "/bin/sh"}, "when": {}, "stages": []}"#,
                "stages",
            ),
            (
                r#"{"version": "1.0.0", "hook": {"path": "/bin/sh"}, "when": {}, "stages": ["now"]}"#,
                "now",
            ),
            (&file(r#"{"commands": ["("]}"#), "when.commands"),
            (&file(r#"{"always": true, "sometimes": true}"#), "sometimes"),
        ] {
            let error = read(&[("bad.json", text)]).unwrap_err().to_string();
            assert!(error.contains("bad.json") && error.contains(why), "{error}");
        }
    }
}
