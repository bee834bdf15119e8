//! Additional image stores: seen, used, never written.

#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::{Layer, Sandbox, Tar, in_private_mounts, list, put};
use store::{ImageRecord, Store};

fn layer(content: &str) -> Layer {
    Layer::gzip(&Tar::new().dir("etc").file("etc/file", content).finish())
}

/// A store that is closed, with an image `example.com/far:1`.
fn far() -> (tempfile::TempDir, PathBuf, ImageRecord) {
    let sandbox = Sandbox::new();
    let record = put(
        &sandbox.store,
        &[layer("far")],
        &["example.com/far:1"],
        "far",
    );
    let root = sandbox.root().to_owned();
    (sandbox.stop(), root, record)
}

fn beside(dir: &Path, far: &Path) -> Store {
    Store::open_beside(&dir.join("near"), &[far.to_owned()]).unwrap()
}

/// Every file with what tells whether it was touched, the database's included.
fn everything(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    list(root, &mut all);
    for (path, told) in &mut all {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        told.push_str(&format!(" {:?}", metadata.modified().unwrap()));
    }
    all
}

/// Uses an image in every way that there is.
fn used(store: &Store, id: &str) {
    let found = store.find("example.com/far:1").unwrap().unwrap();
    assert_eq!((found.id.as_str(), found.read_only), (id, true));
    assert_eq!(store.find(&id[..8]).unwrap().unwrap().id, id);
    let file = store.read_file(&found, "/etc/file", 100).unwrap();
    assert_eq!(file.as_deref(), Some(&b"far"[..]));
    let manifest = store.read_blob(&found.manifest_digest, 1 << 20).unwrap();
    assert!(found.manifest_digest.matches(&manifest.unwrap()));
    assert_eq!(store.layer_sizes(id).unwrap().len(), 1);
    let lease = store.lease().unwrap();
    assert!(store.hold_image(&lease, &found).unwrap());
    let made = store.create_writable_layer("guest", &found).unwrap();
    assert_eq!(store.container_root("guest").unwrap(), Some(made.clone()));
    assert_eq!(
        std::fs::read(made.overlay_paths().unwrap().lower[0].join("etc/file")).unwrap(),
        b"far"
    );
    store.gc().unwrap();
    assert_eq!(store.container_root("guest").unwrap(), Some(made));
    store.remove_writable_layer("guest").unwrap();
}

#[test]
fn its_images_are_listed_found_read_and_run_and_no_file_of_it_changes() {
    let (dir, far, record) = far();
    let before = everything(&far);
    let store = beside(dir.path(), &far);
    let own = put(&store, &[layer("near")], &["example.com/near:1"], "near");
    let ids: Vec<_> = store
        .images()
        .unwrap()
        .into_iter()
        .map(|i| (i.id, i.read_only))
        .collect();
    assert_eq!(ids, [(own.id, false), (record.id.clone(), true)]);
    used(&store, &record.id);
    assert!(
        store
            .check(store::Check::default())
            .unwrap()
            .findings
            .is_empty()
    );
    drop(store);
    assert_eq!(everything(&far), before);
}

#[test]
fn one_on_a_read_only_file_system_works() {
    if !in_private_mounts("one_on_a_read_only_file_system_works") {
        return;
    }
    let (dir, far, record) = far();
    for options in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
        let mut mount = std::process::Command::new("mount");
        crate::common::expect_success(mount.args(options).arg(&far).arg(&far));
    }
    assert!(std::fs::write(far.join("x"), "").is_err());
    let store = beside(dir.path(), &far);
    used(&store, &record.id);
    drop(store);
    crate::common::expect_success(std::process::Command::new("umount").arg(&far));
}

#[test]
fn what_is_in_it_is_neither_named_nor_removed_and_the_refusal_says_where_it_is() {
    let (dir, far, record) = far();
    let store = beside(dir.path(), &far);
    for refused in [
        store.tag(&record.id, "example.com/new:1").map(|()| true),
        store.untag("example.com/far:1"),
        store.remove(&record.id),
        store.set_pinned(&record.id, true).map(|()| true),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(&far.display().to_string()), "{error}");
        assert!(error.contains("never written"), "{error}");
    }
    // The same image here is ours.
    let own = put(&store, &[layer("far")], &["example.com/far:1"], "far");
    assert_eq!(own.id, record.id);
    assert_eq!(store.images().unwrap().len(), 1);
    assert!(!store.find("example.com/far:1").unwrap().unwrap().read_only);
    assert!(store.remove(&record.id).unwrap());
    assert!(store.find("example.com/far:1").unwrap().unwrap().read_only);
}

#[test]
fn what_its_owner_adds_is_seen_at_once() {
    let (dir, far, record) = far();
    let store = beside(dir.path(), &far);
    assert_eq!(store.images().unwrap().len(), 1);
    let owner = Store::open(&far).unwrap();
    put(
        &owner,
        &[layer("second")],
        &["example.com/second:1"],
        "second",
    );
    assert_eq!(store.images().unwrap().len(), 2);
    owner.remove(&record.id).unwrap();
    assert!(store.find("example.com/far:1").unwrap().is_none());
}

#[test]
fn one_that_is_none_is_refused_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error =
        Store::open_beside(&dir.path().join("near"), std::slice::from_ref(&missing)).unwrap_err();
    let words = error.to_string();
    assert!(words.contains(&missing.display().to_string()), "{words}");
    assert!(words.contains("no store of floe"), "{words}");
    assert!(!missing.exists());
}
