//! The database is lost, empty, cut, garbage, or without its log: images are listed again, and what a
//! container stands on is never collected.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use crate::common::{Layer, Sandbox, Tar, child, describe, expect_success, put, role};
use image::MediaType;
use store::{Check, Document, Purpose, Store};

fn layer(name: &str) -> Layer {
    Layer::gzip(
        &Tar::new()
            .dir("etc")
            .file(format!("etc/{name}"), name)
            .finish(),
    )
}

/// Everything that has to do with the database.
fn files(root: &Path) -> [std::path::PathBuf; 3] {
    ["meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm"].map(|name| root.join(name))
}

/// Copies the log into the database, as happens after some time.
fn checkpoint(root: &Path) {
    let database = rusqlite::Connection::open(root.join("meta.sqlite")).unwrap();
    let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    database.set_db_config(keep, true).unwrap();
    database
        .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
        .unwrap();
}

fn cut(path: &Path, length: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

fn garble(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    let noise: Vec<u8> = (0..length).map(|n| (n * 167 + 13) as u8).collect();
    fs::write(path, noise).unwrap();
}

/// Every form of damage, by its name.
fn damage(form: &str, root: &Path) {
    let [main, log, memory] = files(root);
    let length = fs::metadata(&main).unwrap().len();
    match form {
        "all lost" => files(root)
            .iter()
            .for_each(|path| drop(fs::remove_file(path))),
        "lost" => fs::remove_file(&main).unwrap(),
        "empty" => cut(&main, 0),
        "cut in its header" => cut(&main, 50),
        "cut in the middle" => cut(&main, length / 2 / 4096 * 4096),
        "garbage" => garble(&main),
        "garbage, as is its log" => {
            garble(&main);
            garble(&log);
        }
        "without its log" => {
            fs::remove_file(&log).unwrap();
            let _ = fs::remove_file(&memory);
        }
        "with an empty log" => cut(&log, 0),
        "with a log of garbage" => garble(&log),
        "one page of garbage" => {
            use std::os::unix::fs::FileExt;
            let file = fs::File::options().write(true).open(&main).unwrap();
            for page in 2..length / 4096 {
                file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

const FORMS: [&str; 11] = [
    "all lost",
    "lost",
    "empty",
    "cut in its header",
    "cut in the middle",
    "garbage",
    "garbage, as is its log",
    "without its log",
    "with an empty log",
    "with a log of garbage",
    "one page of garbage",
];

/// A store with two images, one of them without a name, and a container of a third that was removed.
struct Used {
    sandbox: Sandbox,
    images: Vec<store::ImageRecord>,
}

fn used() -> Used {
    used_in(Sandbox::new())
}

fn used_in(sandbox: Sandbox) -> Used {
    let store = &sandbox.store;
    let (base, own) = (layer("base"), layer("own"));
    let mut new = describe(
        &[base.clone(), own.clone()],
        &["example.com/a:1", "example.com/a:2"],
        "a",
    );
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [new.manifest.descriptor],
    });
    new.index = Some(Document::new(
        MediaType::OciIndex,
        serde_json::to_vec(&index).unwrap(),
    ));
    let lease = store.lease().unwrap();
    base.add(store, &lease).unwrap();
    own.add(store, &lease).unwrap();
    store.put_image(&lease, new).unwrap();
    drop(lease);
    put(store, &[layer("nameless")], &[], "b");
    let gone = put(store, &[base, layer("gone")], &["example.com/gone:1"], "c");
    store.create_writable_layer("busy", &gone).unwrap();
    store.remove(&gone.id).unwrap();
    store.gc().unwrap();
    store.settle().unwrap();
    let images = store.images().unwrap();
    assert_eq!(images.len(), 2);
    Used { sandbox, images }
}

/// The container has all that it stands on, and the images are there and can be used.
#[track_caller]
fn sound(store: &Store, images: &[store::ImageRecord], form: &str) {
    for _ in 0..2 {
        assert_eq!(store.images().unwrap(), images, "{form}");
        let rw = store.container_root("busy").unwrap().unwrap();
        let lower = rw.overlay_paths().unwrap().lower;
        let names = ["etc/gone", "etc/base"];
        assert_eq!(lower.len(), 2, "{form}");
        for (dir, name) in lower.iter().zip(names) {
            assert!(dir.join(name).exists(), "{form}: {name} is gone");
        }
        for image in images {
            store.read_file(image, "/etc/passwd", 100).unwrap();
            assert!(
                store
                    .layers_of(image)
                    .unwrap()
                    .iter()
                    .all(|layer| layer.open(Purpose::Directory).is_ok())
            );
        }
        store.gc().unwrap();
    }
    let report = store.check(Check::default()).unwrap();
    let damaged: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert!(!report.is_damaged(), "{form}: {damaged:?}");
    // New things get numbers of their own.
    let record = put(store, &[layer("new")], &["example.com/new:1"], "new");
    assert!(store.read_file(&record, "etc/new", 9).unwrap().is_some());
    let busy = store.container_root("busy").unwrap().unwrap();
    assert!(
        !busy
            .layers()
            .contains(&store.layers_of(&record).unwrap()[0]),
        "{form}"
    );
    store.remove(&record.id).unwrap();
    store.gc().unwrap();
    // A removed container gives its layer free.
    store.remove_writable_layer("busy").unwrap();
    store.gc().unwrap();
    let is_there = |layer: &store::Layer| {
        let found = store.layer(layer.diff_id()).unwrap();
        found.is_some_and(|found| found.open(Purpose::Directory).is_ok())
    };
    let there: Vec<bool> = busy.layers().iter().map(is_there).collect();
    assert_eq!(there, [false, true], "{form}");
}

#[test]
fn a_database_that_is_lost_or_damaged_is_made_again_and_what_containers_use_stays() {
    for copied in [false, true] {
        for form in FORMS {
            let Used { sandbox, images } = used();
            let dir = sandbox.stop();
            let root = dir.path().join("store");
            if copied {
                checkpoint(&root);
            }
            damage(form, &root);
            let form = format!("{form}, log copied: {copied}");
            let store = Store::open(&root).unwrap_or_else(|error| panic!("{form}: {error}"));
            sound(&store, &images, &form);
        }
    }
}

#[test]
fn a_database_that_is_lost_under_a_process_is_made_again_for_it_and_others() {
    for form in [
        "all lost",
        "lost",
        "garbage, as is its log",
        "without its log",
    ] {
        let Used { sandbox, images } = used();
        damage(form, sandbox.root());
        // The first who meets damage in the middle may be told so.
        let _ = sandbox.store.images();
        let other = Store::open(sandbox.root()).unwrap();
        assert_eq!(other.images().unwrap(), images, "{form}");
        sound(&sandbox.store, &images, form);
        assert_eq!(other.images().unwrap(), images, "{form}");
    }
}

#[test]
fn without_index_and_database_images_are_found_by_their_blobs() {
    let Used { sandbox, images } = used();
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    damage("all lost", &root);
    fs::write(root.join("index.json"), "{").unwrap();
    let store = Store::open(&root).unwrap();
    let ids = |images: &[store::ImageRecord]| -> Vec<String> {
        images.iter().map(|image| image.id.clone()).collect()
    };
    assert_eq!(ids(&store.images().unwrap()), ids(&images));
    store.gc().unwrap();
    assert_eq!(
        store
            .container_root("busy")
            .unwrap()
            .unwrap()
            .layers()
            .len(),
        2
    );
}

#[test]
fn a_container_of_which_nothing_is_written_down_keeps_every_layer_until_it_is_removed() {
    let Used { sandbox, .. } = used();
    let before = sandbox.store.container_root("busy").unwrap().unwrap();
    let before = before.overlay_paths().unwrap();
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    fs::remove_file(root.join("containers/busy/layers")).unwrap();
    fs::remove_dir_all(root.join("records")).unwrap();
    damage("all lost", &root);
    let store = Store::open(&root).unwrap();
    store.gc().unwrap();
    assert!(before.lower.iter().all(|dir| dir.exists()));
    store.remove_writable_layer("busy").unwrap();
    store.gc().unwrap();
    assert!(!before.lower[0].exists());
}

#[test]
fn a_damaged_database_is_kept_beside_the_new_one() {
    let Used { sandbox, .. } = used();
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    damage("garbage, as is its log", &root);
    let garbage = fs::read(root.join("meta.sqlite")).unwrap();
    Store::open(&root).unwrap();
    assert_eq!(fs::read(root.join("meta.sqlite.damaged")).unwrap(), garbage);
}

#[test]
fn an_image_that_lost_a_part_besides_is_not_listed() {
    let Used { sandbox, images } = used_in(Sandbox::unpacked());
    let named = images.iter().find(|image| !image.names.is_empty()).unwrap();
    let top = crate::common::top_of(&sandbox.store, named);
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    damage("all lost", &root);
    fs::remove_dir_all(&top).unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(store.images().unwrap().len(), 1);
    assert!(store.find("example.com/a:1").unwrap().is_none());
}

#[test]
fn processes_that_come_at_the_same_time_make_it_again_once() {
    if let Some((_, root)) = role() {
        let store = Store::open(&root).unwrap();
        assert_eq!(store.images().unwrap().len(), 2);
        store.gc().unwrap();
        return;
    }
    for form in ["all lost", "garbage"] {
        let Used { sandbox, images } = used();
        let dir = sandbox.stop();
        let root = dir.path().join("store");
        damage(form, &root);
        let test = "processes_that_come_at_the_same_time_make_it_again_once";
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| expect_success(&mut child(test, "open", &root)));
            }
        });
        sound(&Store::open(&root).unwrap(), &images, form);
    }
}
