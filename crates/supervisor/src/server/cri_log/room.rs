//! May a log grow? Not past its hard limit, and not into the reserve of the file system that it is on: what
//! looks after logs (kubelet, by rotation) comes by every ten seconds or so, and a container fills a disk in less.

use std::fmt;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::fstatvfs;

use crate::protocol::LogTarget;

/// A log that grows by so many bytes looks at its file system again: so many may go into the reserve.
const STEP: u64 = 256 << 10;
/// After so long it looks again in any case.
const AGAIN: Duration = Duration::from_secs(1);
/// The reserve is at most this part of the file system: a small one holds logs, too.
const PART: u64 = 10;
/// A log that was held up goes on when the reserve is there and this part of it more.
const MARGIN: u64 = 8;

/// Why lines are lost.
#[derive(Debug)]
pub(super) enum Cause {
    /// The file is as long as it may be.
    Limit(u64),
    /// Less than that is free.
    Reserve(u64),
    /// The beginning of their line is lost.
    Rest,
    /// They cannot be written.
    Io(io::Error),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => write!(f, "it has reached its limit of {limit} bytes"),
            Self::Reserve(reserve) => {
                write!(f, "less than {reserve} bytes of its disk are free")
            }
            Self::Rest => f.write_str("the beginning of their line is"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The bounds of one log.
#[derive(Debug)]
pub(super) struct Room {
    limit: Option<u64>,
    reserve: Option<u64>,
    /// Bytes that were written since the file system was looked at.
    since: u64,
    looked: Option<Instant>,
    /// When the file was asked for its size.
    measured: Option<Instant>,
    /// What of the reserve was missing then.
    lacks: Option<u64>,
}

impl Room {
    pub(super) fn of(target: &LogTarget) -> Self {
        Self {
            limit: target.limit.filter(|limit| *limit > 0),
            reserve: target.reserve.filter(|reserve| *reserve > 0),
            since: 0,
            looked: None,
            measured: None,
            lacks: None,
        }
    }

    /// The file is another one.
    pub(super) fn begin_anew(&mut self) {
        self.looked = None;
        self.measured = None;
        self.lacks = None;
    }

    /// May the file grow by `length`? `size` is what it is thought to have, and what it has if that matters.
    pub(super) fn allow(&mut self, file: &File, size: &mut u64, length: u64) -> Result<(), Cause> {
        if let Some(limit) = self.limit.filter(|limit| *size + length > *limit) {
            self.measure(file, size);
            if *size + length > limit {
                return Err(Cause::Limit(limit));
            }
        }
        let Some(reserve) = self.reserve else {
            return Ok(());
        };
        let grown = self.lacks.is_none() && self.since >= STEP;
        if grown || is_due(&self.looked) {
            self.look(file, reserve);
        }
        if let Some(reserve) = self.lacks {
            return Err(Cause::Reserve(reserve));
        }
        self.since += length;
        Ok(())
    }

    /// Somebody else may have emptied it.
    fn measure(&mut self, file: &File, size: &mut u64) {
        if is_due(&self.measured) {
            self.measured = Some(Instant::now());
            // One that cannot be asked is as it was.
            *size = file.metadata().map_or(*size, |found| found.len());
        }
    }

    fn look(&mut self, file: &File, reserve: u64) {
        self.since = 0;
        self.looked = Some(Instant::now());
        // One that cannot be asked says at the write what is wrong.
        let Ok(found) = fstatvfs(file) else { return };
        self.lacks = missing(
            reserve,
            found.f_blocks.saturating_mul(found.f_frsize),
            found.f_bavail.saturating_mul(found.f_frsize),
            self.lacks.is_some(),
        );
    }
}

fn is_due(last: &Option<Instant>) -> bool {
    last.is_none_or(|at| at.elapsed() >= AGAIN)
}

/// The reserve of a file system of `total` bytes, if not all of it is free. `held_up`: it was not, before.
fn missing(reserve: u64, total: u64, free: u64, held_up: bool) -> Option<u64> {
    // A tmpfs without a limit says 0.
    let reserve = reserve.min(total / PART);
    let needed = match held_up {
        true => reserve + reserve / MARGIN,
        false => reserve,
    };
    (free < needed).then_some(reserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_no_more_than_a_part_of_the_disk_and_has_a_margin() {
        let (reserve, total) = (100, 10_000);
        assert_eq!(missing(reserve, total, 100, false), None);
        assert_eq!(missing(reserve, total, 99, false), Some(100));
        assert_eq!(missing(reserve, total, 111, true), Some(100));
        assert_eq!(missing(reserve, total, 112, true), None);
        assert_eq!(missing(reserve, 500, 50, false), None);
        assert_eq!(missing(reserve, 500, 49, false), Some(50));
        assert_eq!(missing(reserve, 0, 0, false), None);
        assert_eq!(missing(u64::MAX, u64::MAX, 0, true), Some(u64::MAX / PART));
    }
}
