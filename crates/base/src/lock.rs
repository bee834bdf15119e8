//! Locks between processes, waited for no longer than their honest holders need (flock(2)).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
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
    Err(timed_out(limit))
}

/// That a lock was not given free for as long.
#[must_use]
pub fn timed_out(limit: Duration) -> io::Error {
    let why = format!("another process has held it for {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// Opens a file to be locked, which is made if need be (mode 0600).
///
/// # Errors
/// As open(2), which follows no symbolic link.
pub fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Locks the file at `path`, which is made if need be (mode 0600), and may be removed by who has it locked:
/// then the lock is on what has come in its place. `None` if others have held it until `limit` was over.
///
/// # Errors
/// As open(2) and flock(2), which follow no symbolic link.
pub fn path_within(path: &Path, kind: Kind, limit: Duration) -> io::Result<Option<File>> {
    let begin = Instant::now();
    loop {
        let file = open(path)?;
        if !within(&file, kind, limit.saturating_sub(begin.elapsed()))? {
            return Ok(None);
        }
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

/// Is the open file, or directory, still the one at `path`?
///
/// # Errors
/// As fstat(2).
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let here = file.metadata()?;
    let there = std::fs::symlink_metadata(path);
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino())))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_lock_that_was_removed_by_its_owner_is_not_mistaken_for_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = |limit| path_within(&path, Kind::Exclusive, limit).unwrap();
        let first = lock(Duration::ZERO).unwrap();
        assert!(lock(Duration::ZERO).is_none());
        let second = thread::scope(|scope| {
            let waiting = scope.spawn(|| lock(Duration::from_secs(60)).unwrap());
            std::fs::remove_file(&path).unwrap();
            drop(first);
            waiting.join().unwrap()
        });
        assert!(is_at(&second, &path).unwrap());
        assert!(lock(Duration::ZERO).is_none());
    }

    #[test]
    fn no_link_is_followed_to_a_lock_and_none_is_made_in_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (link, other) = (dir.path().join("link"), dir.path().join("other"));
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let error = path_within(&link, Kind::Shared, Duration::ZERO).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        assert!(!other.exists());
        let error = path_within(&other.join("lock"), Kind::Shared, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
