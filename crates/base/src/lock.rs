//! Locks between processes, waited for no longer than their honest holders need (flock(2)).

use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The first pause between two attempts, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(10));

/// Which lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody else has any.
    Exclusive,
    /// Nobody has an exclusive one.
    Shared,
}

/// Locks an open file; false if others have held it all the time until `limit` was over, which may
/// be zero. The lock goes with the last copy of the descriptor.
///
/// # Errors
/// As flock(2).
pub fn within(file: impl AsFd, kind: Kind, limit: Duration) -> io::Result<bool> {
    let operation = match kind {
        Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        Kind::Shared => FlockOperation::NonBlockingLockShared,
    };
    let begin = Instant::now();
    let (mut pause, longest) = PAUSES;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if begin.elapsed() < limit => {
                thread::sleep(pause);
                pause = (pause * 2).min(longest);
            }
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The same, where a lock that is not given free is an error of the kind `TimedOut`.
///
/// # Errors
/// As flock(2), and `TimedOut`.
pub fn or_timeout(file: impl AsFd, kind: Kind, limit: Duration) -> io::Result<()> {
    if within(file, kind, limit)? {
        return Ok(());
    }
    let why = format!("another process has held it for {} s", limit.as_secs());
    Err(io::Error::new(io::ErrorKind::TimedOut, why))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_lock_is_had_by_one_or_shared_and_waiting_for_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (first, second) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        assert!(within(&first, Kind::Shared, Duration::ZERO).unwrap());
        assert!(within(&second, Kind::Shared, Duration::ZERO).unwrap());
        let soon = Duration::from_millis(5);
        assert!(!within(&second, Kind::Exclusive, soon).unwrap());
        let error = or_timeout(&second, Kind::Exclusive, soon).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(first);
        or_timeout(&second, Kind::Exclusive, Duration::ZERO).unwrap();
    }
}
