//! config.md, POSIX-platform hooks.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::null_is_default;

/// Programs to call, in order, at each point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// As `create_runtime`, before it; deprecated.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, after namespaces and mounts were made, before pivot_root.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before pivot_root.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub create_container: Vec<Hook>,
    /// In the container, just before the program.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the program was started.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container was deleted.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub poststop: Vec<Hook>,
}

/// A point of a container's life cycle at which hooks are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookStage {
    /// See [`Hooks::prestart`].
    Prestart,
    /// See [`Hooks::create_runtime`].
    CreateRuntime,
    /// See [`Hooks::create_container`].
    CreateContainer,
    /// See [`Hooks::start_container`].
    StartContainer,
    /// See [`Hooks::poststart`].
    Poststart,
    /// See [`Hooks::poststop`].
    Poststop,
}

impl HookStage {
    /// All, in the order in which they come.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// As config.json names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The stage of a name; `None`: there is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

impl Hooks {
    /// Those of a stage.
    #[must_use]
    pub fn at(&self, stage: HookStage) -> &[Hook] {
        match stage {
            HookStage::Prestart => &self.prestart,
            HookStage::CreateRuntime => &self.create_runtime,
            HookStage::CreateContainer => &self.create_container,
            HookStage::StartContainer => &self.start_container,
            HookStage::Poststart => &self.poststart,
            HookStage::Poststop => &self.poststop,
        }
    }

    /// Calls one more at a stage, after those that are there.
    pub fn add(&mut self, stage: HookStage, hook: Hook) {
        let list = match stage {
            HookStage::Prestart => &mut self.prestart,
            HookStage::CreateRuntime => &mut self.create_runtime,
            HookStage::CreateContainer => &mut self.create_container,
            HookStage::StartContainer => &mut self.start_container,
            HookStage::Poststart => &mut self.poststart,
            HookStage::Poststop => &mut self.poststop,
        };
        list.push(hook);
    }
}

/// One program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path.
    pub path: PathBuf,
    /// argv, its first word included.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub args: Vec<String>,
    /// `NAME=VALUE`; none at all: that of the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Seconds; it is killed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}
