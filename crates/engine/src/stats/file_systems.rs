//! What images and writable layers take of their file systems (CRI ImageFsInfo).

use super::layers::LAYER_AGE;
use super::threads::in_threads;
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
    /// What images and writable layers take. Layers are not measured anew at each call, as kubelet asks often and a
    /// container makes its tree as large as it likes.
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
        let mut ids = self.store().writable_layer_ids()?;
        ids.retain(|id| volumes::container_of(id) == id);
        let measured = in_threads(&ids, |id| {
            let measure = || Ok(self.store().writable_layer_usage(id)?);
            self.layer_usage().get(id, LAYER_AGE, measure).ok()
        });
        for one in measured {
            written.bytes += one.usage.bytes;
            written.inodes += one.usage.inodes;
        }
        let there = ids.iter().map(String::as_str).collect();
        self.layer_usage().forget_all_but(&there);
        Ok(FsInfo {
            images: usage(self.store().usage()?, root.clone()),
            containers: usage(written, root.join("containers")),
        })
    }
}
