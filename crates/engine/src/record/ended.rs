//! `ended.json`: how a container ended whose supervisor was killed.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Form, Record, UnknownFields, VERSION};
use crate::error::Result;
use crate::handler::supervisor::orphaned::Ended as Live;

/// Revision 1: `version` and `revision`.
const REVISION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    #[serde(default = "super::first")]
    version: u32,
    #[serde(default)]
    revision: u32,
    finished_at: i64,
    oom_killed: bool,
}

/// Reads the record at `path`; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Live>> {
    let read = super::read::<Ended>(path)?;
    Ok(read.map(|(record, _)| Live {
        finished_at: record.finished_at,
        oom_killed: record.oom_killed,
    }))
}

/// Writes it, which is done once.
pub(crate) fn write(path: &Path, live: &Live) -> Result<()> {
    let record = Ended {
        version: VERSION,
        revision: REVISION,
        finished_at: live.finished_at,
        oom_killed: live.oom_killed,
    };
    super::write(path, &record, &UnknownFields::default())
}

impl Record for Ended {
    fn form(&self) -> Form {
        Form {
            version: self.version,
            revision: self.revision,
        }
    }
}
