//! Room for a lower limit of memory (cgroup-v2.rst, "memory.reclaim"; cgroup-v1/memory.rst, "force_empty").

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::memory::{LIMIT, in_use};
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Version;

/// Bytes that are asked back at a time, so that the time is looked at between.
const STEP: u64 = 64 << 20;
/// How often the kernel may get back nothing.
const TRIES: u32 = 5;

/// See [`Cgroup::make_room`].
pub(in crate::cgroup) fn make(cgroup: &Cgroup, limit: u64, within: Duration) -> Result<(), Error> {
    let Some(dir) = cgroup.dir_of(LIMIT.controller) else {
        return Ok(());
    };
    let begun = Instant::now();
    let value = i64::try_from(limit).unwrap_or(i64::MAX);
    let (mut tries, mut former) = (0, u64::MAX);
    loop {
        let error = in_use(&dir, value)?;
        let excess = match &error {
            Error::MemoryInUse { usage, .. } => usage.saturating_sub(limit),
            _ => return Err(error),
        };
        if excess == 0 {
            return Ok(());
        }
        // What is given back may be taken again at once.
        if excess >= former {
            tries += 1;
        }
        former = excess;
        if tries >= TRIES || begun.elapsed() >= within {
            return Err(error);
        }
        let asked = match dir.version() {
            Version::V1 => dir.write("memory.force_empty", "0"),
            Version::V2 => dir.write("memory.reclaim", &excess.min(STEP).to_string()),
        };
        match asked {
            // v1 does all that it can at once.
            Ok(()) if dir.version() == Version::V1 => tries = TRIES,
            Ok(()) => {}
            // Some of it perhaps.
            Err(Errno::AGAIN | Errno::BUSY | Errno::INTR) => {}
            // Linux before 5.19 and others that cannot: what is in use stays so.
            Err(_) => return Err(error),
        }
    }
}
