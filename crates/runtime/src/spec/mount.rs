//! config.md, mounts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{IdMapping, null_is_default};

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Path inside, absolute.
    pub destination: PathBuf,
    /// File system type; `bind` or absent with a bind option.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Device, name, or path (absolute or relative to the bundle).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// Flags and data of mount(8).
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub options: Vec<String>,
    /// Users of an idmapped mount.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub uid_mappings: Vec<IdMapping>,
    /// Groups of an idmapped mount.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub gid_mappings: Vec<IdMapping>,
}
