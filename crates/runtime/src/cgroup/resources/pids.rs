//! The number of processes and threads.

use super::{Field, limit};
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};
use crate::spec::Pids;

const LIMIT: Field = Field {
    name: "linux.resources.pids.limit",
    controller: Controller::Pids,
};

/// Sets the limit: negative is none, and 0 means 1, as the init process itself counts.
pub(super) fn apply(cgroup: &Cgroup, pids: &Pids) -> Result<(), Error> {
    let Some(asked) = pids.limit else {
        return Ok(());
    };
    match cgroup.dir_of(LIMIT.controller) {
        // Where nothing can be limited, no limit is what was asked for.
        None if asked <= 0 => Ok(()),
        None => Err(LIMIT.missing(asked)),
        Some(dir) => {
            let limit = match asked {
                0 => 1.to_string(),
                // Both versions say "max" here.
                negative_or_more => limit(Version::V2, negative_or_more),
            };
            LIMIT.write(&dir, "pids.max", limit)
        }
    }
}
