//! What is remembered of a volume. How it is written down: `record/volume.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Volume, data};
use crate::error::Result;
use crate::record::{self, UnknownFields};

/// A volume's record.
#[derive(Debug, Clone)]
pub(crate) struct VolumeRecord {
    pub(crate) name: String,
    pub(crate) created_at: i64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) anonymous: bool,
    pub(crate) owner: Option<(u32, u32)>,
    /// What an image has at its place is not copied.
    pub(crate) no_copy: bool,
    /// A container has used it.
    pub(crate) begun: bool,
    /// What a newer floe has written besides.
    pub(crate) kept: UnknownFields,
}

impl VolumeRecord {
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        record::volume::read(&dir.join("volume.json"))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        record::volume::write(&dir.join("volume.json"), self)
    }

    /// The volume as callers see it.
    pub(super) fn view(self, dir: &Path) -> Volume {
        Volume {
            name: self.name,
            mountpoint: data(dir),
            created_at: self.created_at,
            labels: self.labels,
            options: self.options,
            anonymous: self.anonymous,
            owner: self.owner,
            begun: self.begun,
        }
    }
}
