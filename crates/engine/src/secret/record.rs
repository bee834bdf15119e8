//! What is remembered of a secret. How it is written down: `record/secret.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use super::Secret;
use crate::error::Result;
use crate::record::{self, UnknownFields};

/// A secret's record.
#[derive(Debug, Clone)]
pub(crate) struct SecretRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_at: i64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
    /// What a newer floe has written besides.
    pub(crate) kept: UnknownFields,
}

impl SecretRecord {
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        record::secret::read(&dir.join("secret.json"))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        record::secret::write(&dir.join("secret.json"), self)
    }

    /// The secret as callers see it.
    pub(super) fn view(self) -> Secret {
        Secret {
            id: self.id,
            name: self.name,
            created_at: self.created_at,
            labels: self.labels,
            options: self.options,
        }
    }
}
