//! `working.json`: what is written down of a working container (docs/records.md). Configuration, history and layers have
//! the form that they have in images, whose specification keeps it.
//!
//! Must never be written by a program that does not know all of its version: what is not known of a former or a later
//! one is kept.

use std::collections::BTreeMap;

use image::config::{ContainerConfig, History};
use image::{Descriptor, Digest, Platform};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::ImageRecord;

use crate::error::{Error, Result};
use crate::state::State;

/// The form that this program reads and writes.
const VERSION: u32 = 1;
const REVISION: u32 = 1;

/// What is written down of a working container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(default = "first")]
    version: u32,
    #[serde(default)]
    revision: u32,
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// The image that it was made of; `None`: of nothing.
    pub image: Option<BaseImage>,
    /// The form of the images that are made of it: `oci` or `docker`.
    pub format: String,
    /// Who makes it.
    pub author: Option<String>,
    /// What it is for.
    pub platform: Platform,
    /// What containers of its images start with.
    pub config: ContainerConfig,
    /// Annotations of its images' manifests.
    pub annotations: BTreeMap<String, String>,
    /// What the history says that has made it.
    pub created_by: Option<String>,
    /// What the history remarks.
    pub comment: Option<String>,
    /// The layers that it stands on, the lowest first.
    pub layers: Vec<BaseLayer>,
    /// The image's history.
    pub history: Vec<History>,
    /// What was done since, where that was to be remembered.
    pub steps: Vec<History>,
    /// Options of its commands, as they were said when it was made.
    pub commands: Vec<String>,
    /// What a command that runs is mounted on and the image has not, which goes with it; since revision 1.
    #[serde(default)]
    pub(super) places: Vec<String>,
    #[serde(flatten)]
    kept: BTreeMap<String, Value>,
}

/// The image that a working container was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// Its first name, or its ID.
    pub name: String,
    /// Its ID.
    pub id: String,
    /// The digest of its manifest.
    pub digest: String,
    #[serde(flatten)]
    pub(super) kept: BTreeMap<String, Value>,
}

/// A layer of that image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseLayer {
    /// The blob.
    pub blob: Descriptor,
    /// The digest of what it unpacks to.
    pub diff_id: Digest,
    #[serde(flatten)]
    kept: BTreeMap<String, Value>,
}

fn first() -> u32 {
    1
}

impl Record {
    /// One that stands on nothing.
    pub(super) fn of_nothing(platform: Platform) -> Record {
        let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
        Record {
            version: VERSION,
            revision: REVISION,
            id: String::new(),
            name: String::new(),
            created: i64::try_from(now).unwrap_or(0),
            image: None,
            format: "oci".to_owned(),
            author: None,
            platform,
            config: ContainerConfig::default(),
            annotations: BTreeMap::new(),
            created_by: None,
            comment: None,
            layers: Vec::new(),
            history: Vec::new(),
            steps: Vec::new(),
            commands: Vec::new(),
            places: Vec::new(),
            kept: BTreeMap::new(),
        }
    }

    /// One on an image.
    pub(super) fn of_image(state: State, image: &ImageRecord) -> Record {
        let name = state
            .base
            .map_or_else(|| image.id.clone(), |(name, _)| name);
        let layer = |layer: crate::state::Layer| BaseLayer {
            blob: layer.blob,
            diff_id: layer.diff_id,
            kept: BTreeMap::new(),
        };
        Record {
            image: Some(BaseImage {
                name,
                id: image.id.clone(),
                digest: image.manifest_digest.to_string(),
                kept: BTreeMap::new(),
            }),
            author: state.author,
            config: state.config,
            layers: state.layers.into_iter().map(layer).collect(),
            history: state.history,
            ..Record::of_nothing(state.platform)
        }
    }

    /// As it lies beside the layer.
    pub(super) fn written(&self) -> Result<Vec<u8>> {
        let mut record = self.clone();
        // One that a later floe has written has the fields of that still.
        record.revision = record.revision.max(REVISION);
        serde_json::to_vec(&record)
            .map_err(|e| Error::Request(format!("write the record of {}: {e}", self.name)))
    }

    /// Reads it; why not, in words.
    pub(super) fn read(bytes: &[u8]) -> std::result::Result<Record, String> {
        #[derive(Deserialize)]
        struct Form {
            #[serde(default = "first")]
            version: u32,
        }
        // A greater version may have any fields: its number is the better reason.
        if let Ok(form) = serde_json::from_slice::<Form>(bytes)
            && form.version > VERSION
        {
            return Err(format!(
                "version {} of its record needs a newer floe: this one reads up to {VERSION}",
                form.version
            ));
        }
        serde_json::from_slice(bytes).map_err(|e| format!("its record cannot be read: {e}"))
    }

    /// As the steps of a build see it.
    pub(super) fn state(&self) -> State {
        let mut state = State::scratch(self.platform.clone(), crate::variables::Scope::default());
        let has_path = self
            .config
            .env
            .iter()
            .any(|entry| entry.starts_with("PATH="));
        let usual = match has_path {
            true => Vec::new(),
            false => std::mem::take(&mut state.config.env),
        };
        state.config = self.config.clone();
        state.config.env.splice(0..0, usual);
        state.base = self
            .image
            .as_ref()
            .map(|image| (image.name.clone(), image.digest.clone()));
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never changed: what a first floe has written.
    const FIRST: &str = include_str!("golden/working-1.0.json");
    /// What this one writes.
    const GOLDEN: &str = include_str!("golden/working-1.1.json");

    #[test]
    fn the_first_form_is_read_and_written_by_every_later_floe() {
        let first = Record::read(FIRST.as_bytes()).unwrap();
        let record = Record::read(GOLDEN.as_bytes()).unwrap();
        assert_eq!((first.places.len(), record.places.len()), (0, 2));
        let same = Record {
            places: record.places.clone(),
            revision: record.revision,
            ..first
        };
        assert_eq!(same, record);
        assert_eq!(record.name, "app-working-container");
        assert_eq!(record.layers.len(), 1);
        assert_eq!(record.commands, ["--cap-add", "NET_ADMIN"]);
        let again: Value = serde_json::from_slice(&record.written().unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(GOLDEN).unwrap());
    }

    #[test]
    fn what_a_later_floe_has_added_is_kept() {
        let mut later: Value = serde_json::from_str(GOLDEN).unwrap();
        later["revision"] = 7.into();
        later["added"] = serde_json::json!({ "x": [1] });
        later["image"]["added"] = "y".into();
        later["layers"][0]["added"] = "z".into();
        let record = Record::read(later.to_string().as_bytes()).unwrap();
        let again: Value = serde_json::from_slice(&record.written().unwrap()).unwrap();
        assert_eq!(again, later);
    }

    #[test]
    fn a_greater_version_is_refused_by_its_number() {
        let refused = Record::read(br#"{"version": 2, "name": 7}"#).unwrap_err();
        assert!(
            refused.contains("version 2") && refused.contains("newer floe"),
            "{refused}"
        );
        assert!(Record::read(b"{").unwrap_err().contains("cannot be read"));
    }
}
