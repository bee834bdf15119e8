//! What images and writable layers take of their file systems (CRI ImageFsInfo).

use crate::container::volumes;
use crate::disk::now_ns;
use crate::engine::Engine;
use crate::error::Result;

/// The use of one file system by images or containers.
#[derive(Debug, Clone)]
pub struct FilesystemUsage {
    /// Directory of the store on that file system.
    pub mountpoint: std::path::PathBuf,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// Bytes.
    pub used_bytes: u64,
    /// Inodes.
    pub inodes_used: u64,
}

/// Images and containers apart (CRI ImageFsInfo).
#[derive(Debug, Clone)]
pub struct FsInfo {
    /// Blobs and layers.
    pub images: FilesystemUsage,
    /// Writable layers.
    pub containers: FilesystemUsage,
}

impl Engine {
    /// What images and writable layers take.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn fs_info(&self) -> Result<FsInfo> {
        let root = &self.config().root_table.root;
        let timestamp = now_ns();
        let usage = |used: store::Usage, mountpoint: std::path::PathBuf| FilesystemUsage {
            mountpoint,
            timestamp,
            used_bytes: used.bytes,
            inodes_used: used.inodes,
        };
        let mut written = store::Usage::default();
        // What volumes show is the images'.
        let ids = self.store().writable_layer_ids()?.into_iter();
        for id in ids.filter(|id| volumes::container_of(id) == id) {
            if let Ok(one) = self.store().writable_layer_usage(&id) {
                written.bytes += one.bytes;
                written.inodes += one.inodes;
            }
        }
        Ok(FsInfo {
            images: usage(self.store().usage()?, root.clone()),
            containers: usage(written, root.join("containers")),
        })
    }
}
