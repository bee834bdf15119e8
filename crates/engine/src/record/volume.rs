//! `volume.json`: a volume as it was asked for, and whether it has begun.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Form, Record, Text, VERSION};
use crate::error::Result;
use crate::volume::record::VolumeRecord;

/// The form that this program writes.
const REVISION: u32 = 0;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Volume<'a> {
    #[serde(default = "super::first")]
    version: u32,
    #[serde(default)]
    revision: u32,
    name: Text<'a>,
    created_at: i64,
    labels: Cow<'a, BTreeMap<String, String>>,
    options: Cow<'a, BTreeMap<String, String>>,
    anonymous: bool,
    owner: Option<(u32, u32)>,
    no_copy: bool,
    begun: bool,
}

/// Reads the record at `path`; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<VolumeRecord>> {
    let read = super::read::<Volume<'_>>(path)?;
    Ok(read.map(|(record, kept)| VolumeRecord {
        name: record.name.into_owned(),
        created_at: record.created_at,
        labels: record.labels.into_owned(),
        options: record.options.into_owned(),
        anonymous: record.anonymous,
        owner: record.owner,
        no_copy: record.no_copy,
        begun: record.begun,
        kept,
    }))
}

/// Writes it.
pub(crate) fn write(path: &Path, live: &VolumeRecord) -> Result<()> {
    let record = Volume {
        version: VERSION,
        revision: REVISION,
        name: (&live.name).into(),
        created_at: live.created_at,
        labels: Cow::Borrowed(&live.labels),
        options: Cow::Borrowed(&live.options),
        anonymous: live.anonymous,
        owner: live.owner,
        no_copy: live.no_copy,
        begun: live.begun,
    };
    super::write(path, &record, &live.kept)
}

impl Record for Volume<'_> {
    fn form(&self) -> Form {
        Form {
            version: self.version,
            revision: self.revision,
        }
    }
}
