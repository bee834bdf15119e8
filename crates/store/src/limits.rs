//! Limits on what a layer may unpack to: images are hostile input, and bombs are small; and on how long
//! other processes are waited for.

use std::time::Duration;

/// The most that one layer may hold, and the longest wait. Generous: no honest layer known comes near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive, and of each file (holes included).
    pub unpacked_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of an entry's path.
    pub path_bytes: u64,
    /// Directories in an entry's path.
    pub path_depth: u64,
    /// Uncompressed bytes for each compressed one.
    pub ratio: u64,
    /// Uncompressed bytes from which on the ratio counts: small files compress well.
    pub ratio_from: u64,
    /// How long a process that has a lock on the store is waited for: it may be stopped.
    pub lock_wait: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            unpacked_bytes: 256 << 30,
            entries: 8_000_000,
            path_bytes: 4095,
            path_depth: 512,
            ratio: 2000,
            ratio_from: 1 << 30,
            lock_wait: Duration::from_secs(60),
        }
    }
}
