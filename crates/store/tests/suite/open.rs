//! Opening a store: also one that others open at the same time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Barrier;

use crate::common::{Layer, Sandbox, Tar, put};
use store::Store;

#[test]
fn a_new_store_is_opened_by_all_who_come_first_at_the_same_time() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        Store::open(dir.path()).map(|store| store.images().unwrap().len())
                    })
                })
                .collect();
            for one in opened {
                assert_eq!(one.join().unwrap().unwrap(), 0);
            }
        });
    }
}

#[test]
fn a_store_of_an_earlier_version_is_brought_up_to_date() {
    let sandbox = Sandbox::new();
    let layer = Layer::plain(&Tar::new().file("x", "y").finish());
    let record = put(&sandbox.store, &[layer], &["example.com/x:1"], "x");
    let usage = sandbox.store.usage().unwrap();
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    // What version 3 added, taken away again.
    let database = rusqlite::Connection::open(root.join("meta.sqlite")).unwrap();
    let added: Vec<(String, String)> = {
        let sql = "SELECT type, name FROM sqlite_schema WHERE name IN
            ('lease_blobs_digest', 'layers_lease', 'loose_blobs', 'loose_layers', 'users', 'signatures', 'entries', 'touched')
            OR type = 'trigger' AND (tbl_name NOT IN ('names', 'images') OR name LIKE '%touches')
            ORDER BY type <> 'trigger'";
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    };
    for (kind, name) in &added {
        database
            .execute_batch(&format!("DROP {kind} {name}"))
            .unwrap();
    }
    let keys = "DELETE FROM state WHERE key NOT IN ('names', 'index')";
    database.execute_batch(keys).unwrap();
    database.pragma_update(None, "user_version", 2).unwrap();
    drop(database);
    let store = Store::open(&root).unwrap();
    assert_eq!(store.images().unwrap(), std::slice::from_ref(&record));
    assert_eq!(store.usage().unwrap(), usage);
    store.settle().unwrap();
    let index = std::fs::read_to_string(root.join("index.json")).unwrap();
    assert!(index.contains("example.com/x:1"), "{index}");
    store.remove(&record.id).unwrap();
    assert_eq!(store.gc().unwrap(), usage);
}

#[test]
fn an_additional_store_of_an_earlier_version_has_to_be_opened_first() {
    let sandbox = Sandbox::new();
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    let database = rusqlite::Connection::open(root.join("meta.sqlite")).unwrap();
    database.pragma_update(None, "user_version", 2).unwrap();
    drop(database);
    let own = dir.path().join("own");
    let error = Store::open_beside(&own, std::slice::from_ref(&root)).unwrap_err();
    assert!(error.to_string().contains("earlier version"), "{error}");
}
