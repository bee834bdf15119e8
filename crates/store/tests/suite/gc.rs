//! Garbage collection, leases, and what a power cut leaves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use crate::common::{Layer, Sandbox, Tar, child, describe, put, role};
use store::{Store, Usage};

fn layer(name: &str) -> Layer {
    Layer::gzip(&Tar::new().file(name, vec![b'x'; 5000]).finish())
}

fn counts(store: &Store) -> (usize, usize) {
    let count = |dir: &str| std::fs::read_dir(store.root().join(dir)).unwrap().count();
    // Writable layers are deleted in the background.
    while count("tmp") > 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Without the empty layer, which is always there.
    (count("layers") - 1, count("blobs/sha256"))
}

#[test]
fn what_an_image_needs_stays_and_the_rest_goes() {
    let sandbox = Sandbox::unpacked();
    let store = &sandbox.store;
    let (shared, own) = (layer("shared"), layer("own"));
    let first = put(store, &[shared.clone(), own], &["example.com/first:1"], "1");
    let second = put(store, &[shared], &["example.com/second:1"], "2");
    assert_eq!(counts(store), (2, 6));
    assert_eq!(store.gc().unwrap(), Usage::default());
    let before = store.usage().unwrap();
    assert!(before.bytes > 16_000 && before.inodes == 10, "{before:?}");
    store.remove(&first.id).unwrap();
    let freed = store.gc().unwrap();
    assert_eq!(counts(store), (1, 3));
    let after = store.usage().unwrap();
    assert_eq!(
        (before.bytes - after.bytes, before.inodes - after.inodes),
        (freed.bytes, freed.inodes)
    );
    assert!(store.read_file(&second, "shared", 9000).unwrap().is_some());
    store.remove(&second.id).unwrap();
    store.gc().unwrap();
    assert_eq!(counts(store), (0, 0));
    assert_eq!(store.usage().unwrap(), Usage::default());
}

/// What the counters of the store must equal.
fn sums(sandbox: &Sandbox) -> Usage {
    let database = rusqlite::Connection::open(sandbox.root().join("meta.sqlite")).unwrap();
    let sum = |sql: &str| {
        let sum: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
        sum.unsigned_abs()
    };
    Usage {
        bytes: sum("SELECT coalesce(sum(size), 0) FROM blobs")
            + sum("SELECT coalesce(sum(bytes), 0) FROM layers WHERE ready = 1"),
        inodes: sum("SELECT count(*) FROM blobs")
            + sum("SELECT coalesce(sum(inodes), 0) FROM layers WHERE ready = 1"),
    }
}

#[test]
fn the_counted_usage_is_the_sum_of_what_is_there() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let shared = layer("shared");
    for round in ["1", "2", "3"] {
        let own = layer(round);
        let name = format!("example.com/{round}:1");
        let record = put(store, &[shared.clone(), own.clone()], &[&name], round);
        assert_eq!(store.usage().unwrap(), sums(&sandbox));
        put(
            store,
            &[shared.clone(), own],
            &["example.com/again:1"],
            round,
        );
        assert_eq!(store.usage().unwrap(), sums(&sandbox));
        if round == "2" {
            store.remove(&record.id).unwrap();
            assert_ne!(store.gc().unwrap(), Usage::default());
            assert_eq!(store.usage().unwrap(), sums(&sandbox));
        }
    }
    assert!(sums(&sandbox).bytes > 0);
}

#[test]
fn a_lease_keeps_what_was_added_or_asked_for_under_it() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let (asked, added) = (layer("asked"), layer("added"));
    let record = put(
        store,
        std::slice::from_ref(&asked),
        &["example.com/x:1"],
        "x",
    );
    let lease = store.lease().unwrap();
    assert!(store.hold_layer(&lease, &asked.diff_id).unwrap());
    assert!(store.hold_blob(&lease, &asked.descriptor.digest).unwrap());
    added.add(store, &lease).unwrap();
    store.remove(&record.id).unwrap();
    store.gc().unwrap();
    assert_eq!(counts(store), (2, 2));
    // What it kept is enough for an image.
    let image = describe(&[asked, added], &["example.com/y:1"], "y");
    let record = store.put_image(&lease, image).unwrap();
    drop(lease);
    store.gc().unwrap();
    assert_eq!(counts(store), (2, 4));
    let lease = store.lease().unwrap();
    assert!(store.hold_image(&lease, &record).unwrap());
    store.remove(&record.id).unwrap();
    store.gc().unwrap();
    assert_eq!(counts(store), (2, 4));
    drop(lease);
    store.gc().unwrap();
    assert_eq!(counts(store), (0, 0));
}

#[test]
fn the_lease_of_a_dead_process_is_none() {
    if let Some((_, root)) = role() {
        let store = Store::open(&root).unwrap();
        let lease = store.lease().unwrap();
        layer("kept").add(&store, &lease).unwrap();
        println!("added");
        std::io::stdout().flush().unwrap();
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let sandbox = Sandbox::new();
    let mut holder = child(
        "the_lease_of_a_dead_process_is_none",
        "hold",
        sandbox.root(),
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("added")));
    sandbox.store.gc().unwrap();
    assert_eq!(counts(&sandbox.store), (1, 1));
    holder.kill().unwrap();
    holder.wait().unwrap();
    sandbox.store.gc().unwrap();
    assert_eq!(counts(&sandbox.store), (0, 0));
}

#[test]
fn a_container_keeps_its_layers_when_the_image_is_removed() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let record = put(store, &[layer("x")], &["example.com/x:1"], "x");
    let rw = store.create_writable_layer("c1", &record).unwrap();
    store.remove(&record.id).unwrap();
    store.gc().unwrap();
    assert!(rw.overlay_paths().unwrap().lower[0].join("x").exists());
    assert_eq!(counts(store), (1, 0), "the blobs are no container's");
    assert_eq!(store.container_root("c1").unwrap().unwrap(), rw);
    store.remove_writable_layer("c1").unwrap();
    store.gc().unwrap();
    assert_eq!(counts(store), (0, 0));
}

#[test]
fn files_that_nobody_knows_are_removed() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    put(store, &[layer("x")], &["example.com/x:1"], "x");
    let known = sandbox.listing();
    std::fs::create_dir_all(sandbox.root().join("layers/777/deep/er")).unwrap();
    std::fs::write(
        sandbox.root().join("blobs/sha256").join("0".repeat(64)),
        "?",
    )
    .unwrap();
    std::fs::write(
        sandbox.root().join("blobs/sha512").join("0".repeat(128)),
        "?",
    )
    .unwrap();
    store.gc().unwrap();
    assert_eq!(sandbox.listing(), known);
}

#[test]
fn trees_of_any_depth_and_width_are_removed_and_counted() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let record = put(store, &[layer("x")], &["example.com/x:1"], "x");
    let rw = store.create_writable_layer("c1", &record).unwrap();
    // Deeper than any path that the kernel takes, as a process can make it step by step.
    let mut dir = rustix::fs::open(
        crate::common::upper(&rw),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&dir, "d", rustix::fs::Mode::RWXU).unwrap();
        dir = rustix::fs::openat(
            &dir,
            "d",
            rustix::fs::OFlags::PATH,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    for n in 0..9000 {
        std::fs::write(crate::common::upper(&rw).join(format!("f{n}")), "").unwrap();
    }
    let usage = store.writable_layer_usage("c1").unwrap();
    assert!(usage.inodes > 9000 + 1000, "{usage:?}");
    store.remove_writable_layer("c1").unwrap();
    assert_eq!(store.writable_layer_usage("c1").unwrap(), Usage::default());
    assert_eq!(counts(store), (1, 3));
    assert_eq!(store.writable_layer_ids().unwrap(), Vec::<String>::new());
}

/// A store that no process has open, without what was not recorded as settled at the last moment.
struct Stopped(tempfile::TempDir);

impl Stopped {
    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.0.path().join("store/meta.sqlite")).unwrap()
    }

    /// As if a blob or layer had been added and not flushed.
    fn unsettle(&self, table: &str, key: &str, value: &str) {
        let sql = format!("UPDATE {table} SET unsettled = 'mark' WHERE {key} = ?1");
        assert_eq!(self.database().execute(&sql, [value]).unwrap(), 1);
    }

    /// As if the machine had been started again.
    fn reboot(&self) -> Store {
        self.database()
            .execute("UPDATE boots SET id = 'earlier'", [])
            .unwrap();
        Store::open(&self.0.path().join("store")).unwrap()
    }
}

#[test]
fn what_was_settled_survives_a_power_cut() {
    let sandbox = Sandbox::new();
    let record = put(&sandbox.store, &[layer("x")], &["example.com/x:1"], "x");
    sandbox.store.settle().unwrap();
    let store = Stopped(sandbox.stop());
    let store = store.reboot();
    assert_eq!(store.images().unwrap(), [record]);
    store.gc().unwrap();
    assert_eq!(counts(&store), (1, 3));
}

#[test]
fn a_power_cut_leaves_no_image_with_a_part_that_was_not_settled() {
    let sandbox = Sandbox::new();
    let (old, new) = (layer("old"), layer("new"));
    let kept = put(
        &sandbox.store,
        std::slice::from_ref(&old),
        &["example.com/kept:1"],
        "kept",
    );
    let lost = put(
        &sandbox.store,
        &[old, new.clone()],
        &["example.com/lost:1"],
        "lost",
    );
    sandbox.store.create_writable_layer("c1", &lost).unwrap();
    let stopped = Stopped(sandbox.stop());
    stopped.unsettle("layers", "diff_id", &new.diff_id.to_string());
    std::fs::remove_file(stopped.0.path().join("store/oci-layout")).unwrap();
    let store = stopped.reboot();
    assert_eq!(store.images().unwrap(), std::slice::from_ref(&kept));
    assert!(!store.has_layer(&new.diff_id).unwrap());
    assert!(store.root().join("oci-layout").exists());
    store.settle().unwrap();
    let index = std::fs::read_to_string(store.root().join("index.json")).unwrap();
    assert!(
        index.contains("example.com/kept:1") && !index.contains("lost"),
        "{index}"
    );
    // The container is still listed for its owner to remove.
    assert_eq!(store.writable_layer_ids().unwrap(), ["c1"]);
    store.remove_writable_layer("c1").unwrap();
    store.gc().unwrap();
    assert_eq!(counts(&store), (1, 3));
    // The same pull again succeeds.
    put(&store, &[new], &["example.com/lost:1"], "again");
}

#[test]
fn a_power_cut_takes_what_was_remembered_with_its_layer_alone() {
    let sandbox = Sandbox::new();
    let (kept, lost) = (layer("kept"), layer("lost"));
    put(
        &sandbox.store,
        &[kept.clone(), lost.clone()],
        &["example.com/x:1"],
        "x",
    );
    let keys = [kept, lost].map(|layer| {
        let key = image::Digest::of(layer.diff_id.hex().as_bytes());
        let held = Some((&layer.diff_id, &layer.descriptor.digest));
        sandbox.store.remember(&key, b"words", held).unwrap();
        (key, layer)
    });
    sandbox.store.settle().unwrap();
    let stopped = Stopped(sandbox.stop());
    stopped.unsettle("layers", "diff_id", &keys[1].1.diff_id.to_string());
    let store = stopped.reboot();
    store.gc().unwrap();
    let lease = store.lease().unwrap();
    let found = keys.map(|(key, _)| store.remembered(&lease, &key, None).unwrap().is_some());
    assert_eq!(found, [true, false]);
}

#[test]
fn a_power_cut_takes_only_the_manifest_that_was_new() {
    let sandbox = Sandbox::new();
    let archive = Tar::new().file("x", "y").finish();
    let (gzip, zstd) = (Layer::gzip(&archive), Layer::zstd(&archive));
    let first = put(&sandbox.store, &[gzip], &["example.com/a:1"], "same");
    put(
        &sandbox.store,
        std::slice::from_ref(&zstd),
        &["example.com/b:1"],
        "same",
    );
    let stopped = Stopped(sandbox.stop());
    stopped.unsettle("blobs", "digest", &zstd.descriptor.digest.to_string());
    let store = stopped.reboot();
    assert_eq!(store.find(&first.id).unwrap(), Some(first));
    assert_eq!(store.find("example.com/b:1").unwrap(), None);
}

#[test]
fn dropping_the_last_handle_waits_until_all_is_settled() {
    let sandbox = Sandbox::new();
    put(&sandbox.store, &[layer("x")], &["example.com/x:1"], "x");
    let stopped = Stopped(sandbox.stop());
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE unsettled IS NOT NULL");
        stopped
            .database()
            .query_row(&sql, [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((count("blobs"), count("layers")), (0, 0));
}
