//! Locks between processes, waited for as long as an honest holder may need. flock(2).

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{Error, Result};

/// Whoever holds such a lock changes a few files or makes a bridge.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Locks an open file against everybody else. Errors with the path when it stays locked.
pub(crate) fn exclusive(file: &File, path: &Path) -> Result<()> {
    within(file, path, LIMIT)
}

fn within(file: &File, path: &Path, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    let mut pause = Duration::from_micros(100);
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < until => {
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSE);
            }
            Err(Errno::WOULDBLOCK) => {
                let why = format!(
                    "another process holds it for more than {} s",
                    limit.as_secs()
                );
                let error = io::Error::new(io::ErrorKind::TimedOut, why);
                return Err(Error::file("lock", path)(error));
            }
            Err(errno) => return Err(Error::file("lock", path)(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_never_given_up_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (holder, other) = (File::create(&path).unwrap(), File::open(&path));
        let other = other.unwrap();
        exclusive(&holder, &path).unwrap();
        let error = within(&other, &path, Duration::ZERO)
            .unwrap_err()
            .to_string();
        assert!(error.contains("another process holds it"), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        drop(holder);
        exclusive(&other, &path).unwrap();
    }
}
