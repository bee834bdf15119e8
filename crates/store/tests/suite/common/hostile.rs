//! What must hold for hostile layers, for the seeded tests and for `fuzz/`: nothing is written outside of
//! a layer's directory, and a layer that is refused leaves the store as it was.

use std::fs;

use image::MediaType;
use store::{Error, Form, Limits, Store};

use super::twins::{can_mount, same};
use super::{Layer, Sandbox};

/// A store that takes whatever comes, and leaves it again.
pub struct Hostile {
    pub sandbox: Sandbox,
    pub store: Store,
    /// The same with layers of the other form, where they can be had.
    other: Option<Store>,
    outside: std::path::PathBuf,
}

impl Hostile {
    pub fn new() -> Hostile {
        let sandbox = Sandbox::new();
        let outside = sandbox.dir.path().join("outside");
        fs::write(&outside, "untouched").unwrap();
        let limits = Limits {
            unpacked_bytes: 4 << 20,
            ..Limits::default()
        };
        let store = Store::open_with(sandbox.root(), limits.clone()).unwrap();
        let other = sandbox.root().join("other");
        let other = Store::open_with(&other, limits).unwrap();
        let other = can_mount(&other).then_some(other);
        if let Some(other) = &other {
            other.set_layer_form(Form::Erofs);
        }
        Hostile {
            sandbox,
            store,
            other,
            outside,
        }
    }

    /// Unpacks an archive, compressed as `how` says, and drops it again. Returns whether it was taken.
    pub fn unpack(&self, archive: &[u8], how: usize) -> bool {
        let layer = match how % 3 {
            0 => Layer::gzip(archive),
            1 => Layer::zstd(archive),
            _ => Layer::of(archive, archive.to_vec(), MediaType::OciLayer),
        };
        let store = &self.store;
        let lease = store.lease().unwrap();
        let before = store.usage().unwrap();
        let added = layer.add(store, &lease);
        if let Err(error) = &added {
            let words = error.to_string();
            assert!(words.contains("sha256:"), "{words}");
            assert!(!store.has_layer(&layer.diff_id).unwrap(), "{words}");
            assert_eq!(store.usage().unwrap(), before, "{words}");
        }
        assert_eq!(fs::read(&self.outside).unwrap(), b"untouched");
        if let Some(other) = &self.other {
            self.compare(other, &layer, added.as_ref().err());
        }
        drop(lease);
        store.gc().unwrap();
        added.is_ok()
    }

    /// The other form gives the same answer and the same tree.
    fn compare(&self, other: &Store, layer: &Layer, error: Option<&Error>) {
        let lease = other.lease().unwrap();
        match (layer.add(other, &lease), error) {
            (Ok(()), None) => {
                let of = |store: &Store| store.layer(&layer.diff_id).unwrap().unwrap();
                same(&of(&self.store), &of(other));
            }
            (Err(here), Some(there)) => {
                let words = |error: &Error| {
                    let source = std::error::Error::source(error).map(ToString::to_string);
                    format!("{error}: {source:?}")
                };
                assert_eq!(words(&here), words(there));
            }
            (here, there) => panic!("one form is taken, and one is not: {here:?}, {there:?}"),
        }
        drop(lease);
        other.gc().unwrap();
    }
}

/// Makes the checksums of changed headers right again, so that what is behind them is reached.
pub fn sum_up(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
