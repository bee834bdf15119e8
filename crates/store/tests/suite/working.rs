//! Working layers of builds: what is written to one becomes a layer, as it lies or unpacked again; or it goes.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use image::Digest;
use store::{Access, Check, Document, ImageRecord, MountOptions, NewImage, NewLayer, Store, Times};

use crate::common::{Layer, Sandbox, Tar, child, documents, put, role};

fn base() -> Layer {
    Layer::gzip(
        &Tar::new()
            .file("etc/kept", "base")
            .file("etc/gone", "base")
            .file("old/file", "base")
            .finish(),
    )
}

/// Does to a root what steps of a build do.
fn work(root: &std::path::Path) {
    fs::remove_file(root.join("etc/gone")).unwrap();
    fs::remove_dir_all(root.join("old")).unwrap();
    fs::create_dir(root.join("old")).unwrap();
    fs::write(root.join("old/new"), "new").unwrap();
    fs::hard_link(root.join("old/new"), root.join("linked")).unwrap();
    fs::set_permissions(root.join("old/new"), PermissionsExt::from_mode(0o4711)).unwrap();
    symlink("../../../etc/kept", root.join("link")).unwrap();
}

/// A layer of that work on the base.
fn worked(store: &Store, lease: &store::Lease, base: &Digest, times: Times) -> NewLayer {
    let working = store.working_layer(std::slice::from_ref(base)).unwrap();
    let mounted = working
        .root()
        .open(&MountOptions::new(Access::Durable))
        .unwrap();
    work(&PathBuf::from(format!(
        "/proc/self/fd/{}",
        mounted.as_raw_fd()
    )));
    drop(mounted);
    working.commit(lease, times).unwrap()
}

fn put_with(store: &Store, lease: &store::Lease, base: &Layer, new: &NewLayer) -> ImageRecord {
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [base.diff_id, new.diff_id] },
    });
    let config = Document::new(image::MediaType::OciConfig, config.to_string().into_bytes());
    let blobs = vec![base.descriptor.clone(), new.blob.clone()];
    let image: NewImage = documents(config, blobs, &["example.com/built:1"]);
    store.put_image(lease, image).unwrap()
}

#[test]
fn what_was_written_is_a_layer_that_agrees_with_its_blob() {
    for times in [Times::Kept, Times::Until(1_000_000), Times::All(7)] {
        let sandbox = Sandbox::new();
        let store = Store::open(&sandbox.root().join("store")).unwrap();
        let base = base();
        let record = put(
            &store,
            std::slice::from_ref(&base),
            &["example.com/base:1"],
            "x",
        );
        let lease = store.lease().unwrap();
        let new = worked(&store, &lease, &base.diff_id, times);
        let built = put_with(&store, &lease, &base, &new);
        drop(lease);
        store.remove(&record.id).unwrap();
        store.gc().unwrap();
        let root = store
            .layers_root(&[base.diff_id.clone(), new.diff_id.clone()])
            .unwrap();
        assert_eq!(root.layers(), store.image_root(&built).unwrap().layers());
        let mounted = root.open(&MountOptions::new(Access::ReadOnly)).unwrap();
        let at = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
        assert_eq!(fs::read_to_string(at.join("linked")).unwrap(), "new");
        assert_eq!(
            fs::metadata(at.join("old/new"))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777,
            0o4711
        );
        assert!(!at.join("etc/gone").exists() && !at.join("old/file").exists());
        let modified = fs::metadata(at.join("old/new"))
            .unwrap()
            .modified()
            .unwrap();
        let seconds = modified
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        match times {
            Times::Kept => assert!(seconds > 1_000_000_000),
            Times::Until(time) | Times::All(time) => assert_eq!(seconds, time.unsigned_abs()),
        }
        drop(mounted);
        let report = store.check(Check::default()).unwrap();
        assert!(
            report.findings.is_empty(),
            "{times:?}: {:?}",
            report.findings
        );
        assert_eq!(store.writable_layer_ids().unwrap(), Vec::<String>::new());
        assert_eq!(
            fs::read_dir(store.root().join("containers"))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn the_same_work_at_the_same_time_is_the_same_layer() {
    let sandbox = Sandbox::new();
    let store = Store::open(&sandbox.root().join("store")).unwrap();
    let base = base();
    put(
        &store,
        std::slice::from_ref(&base),
        &["example.com/base:1"],
        "x",
    );
    let lease = store.lease().unwrap();
    let one = worked(&store, &lease, &base.diff_id, Times::All(5));
    let other = worked(&store, &lease, &base.diff_id, Times::All(5));
    assert_eq!(one, other);
}

#[test]
fn a_layer_on_nothing_is_a_layer_too() {
    let sandbox = Sandbox::new();
    let store = Store::open(&sandbox.root().join("store")).unwrap();
    let lease = store.lease().unwrap();
    let working = store.working_layer(&[]).unwrap();
    let mounted = working
        .root()
        .open(&MountOptions::new(Access::Durable))
        .unwrap();
    fs::write(format!("/proc/self/fd/{}/file", mounted.as_raw_fd()), "x").unwrap();
    drop(mounted);
    let new = working.commit(&lease, Times::Kept).unwrap();
    assert_eq!(new.difference.entries, 2);
    assert!(store.has_layer(&new.diff_id).unwrap());
    let missing = store.working_layer(&[Digest::of(b"nothing")]).unwrap_err();
    assert!(
        matches!(missing, store::Error::LayerLost { .. }),
        "{missing}"
    );
    drop(lease);
    store.gc().unwrap();
    assert!(!store.has_layer(&new.diff_id).unwrap());
}

#[test]
fn what_a_killed_build_leaves_is_collected_and_what_a_living_one_has_is_not() {
    const TEST: &str = "what_a_killed_build_leaves_is_collected_and_what_a_living_one_has_is_not";
    if let Some((_, dir)) = role() {
        let store = Store::open(&dir).unwrap();
        let working = store.working_layer(&[]).unwrap();
        std::mem::forget(working);
        std::process::abort();
    }
    let sandbox = Sandbox::new();
    let root = sandbox.root().join("store");
    let store = Store::open(&root).unwrap();
    let own = store.working_layer(&[]).unwrap();
    assert!(!child(TEST, "build", &root).status().unwrap().success());
    let left = || fs::read_dir(root.join("containers")).unwrap().count();
    assert_eq!(left(), 2);
    store.gc().unwrap();
    assert_eq!(left(), 1);
    assert_eq!(store.clear_working_layers().unwrap(), 0);
    drop(own);
    assert_eq!(left(), 0);
}

#[test]
fn what_is_remembered_is_there_or_forgotten() {
    let sandbox = Sandbox::new();
    let store = Store::open(&sandbox.root().join("store")).unwrap();
    let base = base();
    put(
        &store,
        std::slice::from_ref(&base),
        &["example.com/base:1"],
        "x",
    );
    let lease = store.lease().unwrap();
    let new = worked(&store, &lease, &base.diff_id, Times::Kept);
    let (key, other) = (Digest::of(b"step"), Digest::of(b"other"));
    assert_eq!(store.remembered(&lease, &key, None).unwrap(), None);
    let layer = Some((&new.diff_id, &new.blob.digest));
    store.remember(&key, b"words", layer).unwrap();
    store.remember(&other, b"more", None).unwrap();
    drop(lease);
    store.gc().unwrap();
    // Neither a collection nor another process takes it.
    let store = Store::open(store.root()).unwrap();
    assert!(store.has_layer(&new.diff_id).unwrap());
    let lease = store.lease().unwrap();
    assert_eq!(
        store.remembered(&lease, &key, None).unwrap().unwrap(),
        b"words"
    );
    assert_eq!(
        store.remembered(&lease, &other, None).unwrap().unwrap(),
        b"more"
    );
    let long = std::time::Duration::from_secs(3600);
    assert_eq!(
        store.remembered(&lease, &key, Some(long)).unwrap().unwrap(),
        b"words"
    );
    assert_eq!(store.forget_unused(long).unwrap(), 0);
    assert_eq!(store.forget_unused(std::time::Duration::ZERO).unwrap(), 2);
    assert_eq!(store.remembered(&lease, &key, None).unwrap(), None);
    drop(lease);
    store.gc().unwrap();
    assert!(!store.has_layer(&new.diff_id).unwrap());
    let report = store.check(Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
