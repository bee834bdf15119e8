//! Locks between processes, waited for as long as an honest holder may need. flock(2).

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use base::lock;

use crate::{Error, Result};

/// Whoever holds such a lock changes a few files or makes a bridge.
const LIMIT: Duration = Duration::from_secs(30);

/// Locks an open file against everybody else. Errors with the path when it stays locked.
pub(crate) fn exclusive(file: &File, path: &Path) -> Result<()> {
    within(file, path, LIMIT)
}

fn within(file: &File, path: &Path, limit: Duration) -> Result<()> {
    lock::or_timeout(file, lock::Kind::Exclusive, limit).map_err(Error::file("lock", path))
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
        assert!(error.contains("another process has held it"), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        drop(holder);
        exclusive(&other, &path).unwrap();
    }
}
