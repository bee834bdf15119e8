//! `secret.json`: what a secret is called. What is secret is in no record.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Form, Record, Text, VERSION};
use crate::error::Result;
use crate::secret::record::SecretRecord;

/// The form that this program writes.
const REVISION: u32 = 0;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Secret<'a> {
    #[serde(default = "super::first")]
    version: u32,
    #[serde(default)]
    revision: u32,
    id: Text<'a>,
    name: Text<'a>,
    created_at: i64,
    labels: Cow<'a, BTreeMap<String, String>>,
    options: Cow<'a, BTreeMap<String, String>>,
}

/// Reads the record at `path`; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<SecretRecord>> {
    let read = super::read::<Secret<'_>>(path)?;
    Ok(read.map(|(record, kept)| SecretRecord {
        id: record.id.into_owned(),
        name: record.name.into_owned(),
        created_at: record.created_at,
        labels: record.labels.into_owned(),
        options: record.options.into_owned(),
        kept,
    }))
}

/// Writes it.
pub(crate) fn write(path: &Path, live: &SecretRecord) -> Result<()> {
    let record = Secret {
        version: VERSION,
        revision: REVISION,
        id: (&live.id).into(),
        name: (&live.name).into(),
        created_at: live.created_at,
        labels: Cow::Borrowed(&live.labels),
        options: Cow::Borrowed(&live.options),
    };
    super::write(path, &record, &live.kept)
}

impl Record for Secret<'_> {
    fn form(&self) -> Form {
        Form {
            version: self.version,
            revision: self.revision,
        }
    }
}
