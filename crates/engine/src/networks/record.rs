//! What is remembered of a network. How it is written down: `record/network.rs`.

use std::path::Path;

use super::{Network, NetworkSpec};
use crate::error::Result;
use crate::record::{self, UnknownFields};

/// A network's record.
#[derive(Debug, Clone)]
pub(crate) struct NetworkRecord {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) spec: NetworkSpec,
    /// What a newer floe has written besides.
    pub(crate) kept: UnknownFields,
}

impl NetworkRecord {
    pub(crate) fn read(file: &Path) -> Result<Option<Self>> {
        record::network::read(file)
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        record::network::write(file, self)
    }

    /// The network as callers see it.
    pub(crate) fn view(self) -> Network {
        Network {
            id: self.id,
            created_at: self.created_at,
            spec: self.spec,
        }
    }
}
