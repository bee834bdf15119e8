//! Compressed blobs that are kept always, for a time, or not at all.

use std::fs;
use std::time::{Duration, SystemTime};

use store::{Check, Error, KeepBlobs, Store};

use crate::common::{Layer, Sandbox, Tar, describe, put};

fn layer() -> Layer {
    Layer::gzip(&Tar::new().file("etc/file", vec![b'x'; 20_000]).finish())
}

fn has_file(store: &Store, layer: &Layer) -> bool {
    let blobs = store.root().join("blobs/sha256");
    blobs.join(layer.descriptor.digest.hex()).exists()
}

/// The counters agree with what is there.
fn counted(store: &Store) {
    let blobs = fs::read_dir(store.root().join("blobs/sha256")).unwrap();
    let sizes: Vec<u64> = blobs
        .map(|blob| blob.unwrap().metadata().unwrap().len())
        .collect();
    let mut layers = store::Usage::default();
    let mut seen = std::collections::HashSet::new();
    for image in store.images().unwrap() {
        for layer in store.layers_of(&image).unwrap() {
            if seen.insert(layer.diff_id().clone()) {
                layers += layer.usage();
            }
        }
    }
    let all = store.usage().unwrap();
    assert_eq!(all.bytes, sizes.iter().sum::<u64>() + layers.bytes);
    assert_eq!(all.inodes, sizes.len() as u64 + layers.inodes);
}

/// The image can be used, and a check finds nothing wrong.
fn sound(store: &Store) {
    let image = store.find("example.com/x:1").unwrap().unwrap();
    let read = store.read_file(&image, "etc/file", 1 << 20).unwrap();
    assert_eq!(read.unwrap().len(), 20_000);
    let report = store.check(Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    counted(store);
}

#[test]
fn what_is_to_be_kept_until_it_is_unpacked_is_not_even_written() {
    let sandbox = Sandbox::unpacked();
    let (store, layer) = (&sandbox.store, layer());
    store.set_keep_blobs(KeepBlobs::UntilUnpacked);
    put(
        store,
        std::slice::from_ref(&layer),
        &["example.com/x:1"],
        "x",
    );
    assert!(!has_file(store, &layer));
    assert!(store.is_blob_dropped(&layer.descriptor.digest).unwrap());
    sound(store);
    let unpacked = store.layer(&layer.diff_id).unwrap().unwrap();
    assert!(matches!(unpacked.tar(0), Err(Error::LayerBlobGone { .. })));
    // It is not fetched again by who needs no blobs, and is by who does.
    let lease = store.lease().unwrap();
    assert!(store.hold_blob(&lease, &layer.descriptor.digest).unwrap());
    store.set_keep_blobs(KeepBlobs::Always);
    assert!(!store.hold_blob(&lease, &layer.descriptor.digest).unwrap());
    layer.add(store, &lease).unwrap();
    assert!(has_file(store, &layer));
    assert!(!store.is_blob_dropped(&layer.descriptor.digest).unwrap());
    drop(lease);
    sound(store);
    assert!(unpacked.verify().unwrap().is_none());
}

#[test]
fn a_blob_that_lies_is_refused_whether_it_would_be_kept_or_not() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    store.set_keep_blobs(KeepBlobs::UntilUnpacked);
    let mut layer = layer();
    layer.descriptor.digest = image::Digest::of(b"another");
    let lease = store.lease().unwrap();
    let refused = layer.add(store, &lease).unwrap_err();
    assert!(matches!(refused, Error::DigestMismatch { .. }), "{refused}");
    assert!(store.layer(&layer.diff_id).unwrap().is_none());
    let known = store.is_blob_dropped(&layer.descriptor.digest).unwrap();
    assert!(!known && !store.has_blob(&layer.descriptor.digest).unwrap());
}

#[test]
fn collection_takes_what_is_old_enough_and_nothing_that_a_lease_holds() {
    let sandbox = Sandbox::new();
    let (store, layer) = (&sandbox.store, layer());
    put(
        store,
        std::slice::from_ref(&layer),
        &["example.com/x:1"],
        "x",
    );
    store.gc().unwrap();
    store.set_keep_blobs(KeepBlobs::Days(7));
    store.gc().unwrap();
    assert!(has_file(store, &layer), "it is new");
    let file = store
        .root()
        .join("blobs/sha256")
        .join(layer.descriptor.digest.hex());
    let age = |days: u64| {
        let then = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
        fs::File::open(&file).unwrap().set_modified(then).unwrap();
    };
    age(6);
    store.gc().unwrap();
    assert!(has_file(store, &layer));
    age(8);
    let lease = store.lease().unwrap();
    let image = store.find("example.com/x:1").unwrap().unwrap();
    store.hold_image(&lease, &image).unwrap();
    store.gc().unwrap();
    assert!(has_file(store, &layer), "somebody sends it on");
    drop(lease);
    let freed = store.gc().unwrap();
    assert_eq!((freed.bytes, freed.inodes), (layer.descriptor.size, 1));
    assert!(!has_file(store, &layer));
    sound(store);
    assert_eq!(store.gc().unwrap(), store::Usage::default());
    // Config and manifest stay, as everything is known by them.
    let left = fs::read_dir(store.root().join("blobs/sha256"))
        .unwrap()
        .count();
    assert_eq!(left, 2);
    store.remove(&image.id).unwrap();
    store.gc().unwrap();
    assert_eq!(store.usage().unwrap(), store::Usage::default());
}

#[test]
fn a_database_that_is_made_again_knows_an_image_whose_blobs_were_not_kept() {
    let sandbox = Sandbox::new();
    let layer = layer();
    sandbox.store.set_keep_blobs(KeepBlobs::UntilUnpacked);
    put(
        &sandbox.store,
        std::slice::from_ref(&layer),
        &["example.com/x:1"],
        "x",
    );
    sandbox.store.settle().unwrap();
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    for name in ["meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm"] {
        let _ = fs::remove_file(root.join(name));
    }
    let store = Store::open(&root).unwrap();
    sound(&store);
    assert!(store.is_blob_dropped(&layer.descriptor.digest).unwrap());
}

#[test]
fn an_image_of_the_same_layer_in_another_compression_needs_no_blob_of_it_either() {
    let sandbox = Sandbox::new();
    let (store, gzip) = (&sandbox.store, layer());
    store.set_keep_blobs(KeepBlobs::UntilUnpacked);
    put(
        store,
        std::slice::from_ref(&gzip),
        &["example.com/x:1"],
        "x",
    );
    let zstd = Layer::zstd(&Tar::new().file("etc/file", vec![b'x'; 20_000]).finish());
    assert_eq!(zstd.diff_id, gzip.diff_id);
    let lease = store.lease().unwrap();
    assert!(!store.hold_blob(&lease, &zstd.descriptor.digest).unwrap());
    zstd.add(store, &lease).unwrap();
    let new = describe(std::slice::from_ref(&zstd), &["example.com/y:1"], "y");
    store.put_image(&lease, new).unwrap();
    assert!(!has_file(store, &zstd));
    drop(lease);
    sound(store);
}

#[test]
fn words_for_it_are_few() {
    let parse = |text: &str| text.parse::<KeepBlobs>();
    assert_eq!(parse("always").unwrap(), KeepBlobs::Always);
    assert_eq!(parse("until-unpacked").unwrap(), KeepBlobs::UntilUnpacked);
    assert_eq!(parse("0d").unwrap(), KeepBlobs::UntilUnpacked);
    assert_eq!(parse("30d").unwrap(), KeepBlobs::Days(30));
    for wrong in ["", "7", "d", "-1d", "never", "1w", "99999999999d"] {
        assert!(parse(wrong).unwrap_err().contains("none of"), "{wrong}");
    }
}
