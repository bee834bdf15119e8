//! What the engine writes down of pods and containers, as a format: types of their own, apart from
//! those that the engine lives with, so that a change of these is never a change of what lies on
//! disk. One file for each kind of record. The rules are in `docs/records.md`; in short:
//!
//! - a field is added with a default, and the record's `revision` is raised: older readers pass it
//!   over, and keep it when they write the record again ([`UnknownFields`]);
//! - `version` is raised only when an older reader would do harm: it refuses the record then, and
//!   its pod is one that can be listed and removed;
//! - what [`VERSION`] began with is always written, as its first readers need it;
//! - a golden file in `golden/` shows every version and revision that ever was.
//!
//! Must never hold a path into the store: an image and its layers are named by what they are.

pub(crate) mod container;
pub(crate) mod ended;
mod extras;
pub(crate) mod network;
pub(crate) mod pod;
pub(crate) mod secret;
mod unknown_fields;
pub(crate) mod volume;

use std::borrow::Cow;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::{Error, Result};
pub(crate) use unknown_fields::UnknownFields;

/// The version that records of the engine began with.
const VERSION: u32 = 1;

/// Text that is borrowed when a record is written, and its own when it was read.
pub(crate) type Text<'a> = Cow<'a, str>;
/// A path, as [`Text`].
pub(crate) type At<'a> = Cow<'a, Path>;

/// The form of a record: its first two fields. A record without them is of before they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Form {
    /// Who reads a record of a greater version than its own refuses it.
    #[serde(default = "first")]
    pub(crate) version: u32,
    /// How many times fields were added; tells people, and refuses nobody.
    #[serde(default)]
    pub(crate) revision: u32,
}

fn first() -> u32 {
    1
}

/// A kind of record.
pub(crate) trait Record {
    /// The greatest version that this program reads: a greater one is refused.
    const NEWEST: u32 = VERSION;

    /// The form of this one.
    fn form(&self) -> Form;
}

/// Reads a record, and what is in it that this program does not know; `None` if there is none.
///
/// # Errors
/// What is no such record, or one of a version that this program does not know.
pub(crate) fn read<T: Record + DeserializeOwned>(
    path: &Path,
) -> Result<Option<(T, UnknownFields)>> {
    let Some(bytes) = disk::read_record(path)? else {
        return Ok(None);
    };
    let wrong = |reason: String| Error::Record {
        path: path.to_owned(),
        reason,
    };
    match unknown_fields::parse::<T>(&bytes) {
        Ok((record, kept)) => match refusal(record.form(), T::NEWEST) {
            Some(reason) => Err(wrong(reason)),
            None => Ok(Some((record, kept))),
        },
        // A greater version may have any fields: its number is the better reason.
        Err(error) => {
            let form = serde_json::from_slice(&bytes).ok();
            let form = form.and_then(|form| refusal(form, T::NEWEST));
            Err(wrong(form.unwrap_or_else(|| error.to_string())))
        }
    }
}

/// Why a record of that form is not used, if it is not.
fn refusal(form: Form, newest: u32) -> Option<String> {
    (form.version > newest).then(|| {
        format!(
            "version {} of the record needs a newer floe: this one reads up to {newest}",
            form.version
        )
    })
}

/// Writes a record, with what was kept of the one that was read.
///
/// # Errors
/// As [`disk::write_json`].
pub(crate) fn write<T: Serialize>(path: &Path, record: &T, kept: &UnknownFields) -> Result<()> {
    if kept.is_empty() {
        return disk::write_json(path, record);
    }
    let whole = kept.with(record).map_err(|error| Error::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    disk::write_json(path, &whole)
}

#[cfg(test)]
mod tests;
