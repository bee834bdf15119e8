//! Golden databases: each schema that was ever written (`golden/meta-VERSION.REVISION.sql`) is opened,
//! brought up to date and says what it said, and the last of them is what this program makes. Their rules
//! are in `docs/records.md`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use crate::common::{Layer, Sandbox, Tar, describe, put};
use rusqlite::Connection;
use store::{Error, Form, ImageRecord, Store, Usage};

/// Where a test of it has a container.
const CONTAINER: &str = "c0ffee";
/// A manifest list's name.
const LIST: &str = "example.com/list:1";
/// What is beside the database of all goldens, and in them: two images that share a layer, of which one has
/// names, one of them by digest, and is pinned; a container; a manifest list.
fn fill(store: &Store) -> ImageRecord {
    store.set_layer_form(Form::Directory);
    let layers = [("bottom", "etc/a"), ("top", "etc/b")]
        .map(|(text, name)| Layer::plain(&Tar::new().file(name, text).finish()));
    let manifest = describe(&layers, &[], "one").manifest;
    let by_digest = format!("example.com/x@{}", manifest.descriptor.digest);
    let names = ["example.com/x:1", "example.com/y:latest", &by_digest];
    let record = put(store, &layers, &names, "one");
    put(store, &layers[..1], &[], "two");
    store.set_pinned(&record.id, true).unwrap();
    store.create_writable_layer(CONTAINER, &record).unwrap();
    store.swap_list(LIST, None, Some(b"{}")).unwrap();
    store.settle().unwrap();
    store.find(&record.id).unwrap().unwrap()
}

fn database(root: &Path) -> Connection {
    Connection::open(root.join("meta.sqlite")).unwrap()
}

fn strings(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// What a database has beside rows.
fn schema(db: &Connection) -> Vec<String> {
    const OWN: &str =
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
        ORDER BY type = 'table' DESC, type = 'view' DESC, name";
    strings(db, OWN)
}

fn version(db: &Connection) -> i64 {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap()
}

/// A database as a golden file: tables, rows, and then what would notice rows that come.
fn dump(db: &Connection) -> String {
    let (tables, others): (Vec<String>, Vec<String>) = schema(db)
        .into_iter()
        .partition(|sql| sql.starts_with("CREATE TABLE"));
    let mut text = format!("PRAGMA user_version = {};\n", version(db));
    let mut add = |lines: &[String]| lines.iter().for_each(|sql| text += &format!("{sql};\n"));
    add(&tables);
    let named = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    for table in strings(db, named) {
        let columns = strings(
            db,
            &format!("SELECT name FROM pragma_table_info('{table}')"),
        );
        let quoted = columns.iter().map(|name| format!("quote(\"{name}\")"));
        let quoted = quoted.collect::<Vec<_>>().join(" || ',' || ");
        let rows = format!("SELECT 'INSERT INTO {table} VALUES(' || {quoted} || ')' FROM {table}");
        add(&strings(db, &rows));
    }
    add(&others);
    text
}

/// The golden files, oldest first, with their names.
fn golden() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(read).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

/// Makes a golden file a database.
fn load(sql: &str, db: &Connection) {
    // Tables come in the order of their names.
    db.pragma_update(None, "foreign_keys", false).unwrap();
    db.execute_batch(&format!("BEGIN;\n{sql}COMMIT;")).unwrap();
}

/// A store that has a golden database in the place of its own; an image as that has it, and what is in it.
fn with_database(sql: &str) -> (tempfile::TempDir, PathBuf, ImageRecord, Usage) {
    let sandbox = Sandbox::new();
    let mut record = fill(&sandbox.store);
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(root.join(format!("meta.sqlite{end}")));
    }
    let database = database(&root);
    load(sql, &database);
    // Files take another space on another file system.
    let number = |sql: &str| {
        let found: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
        u64::try_from(found).unwrap()
    };
    record.size = number("SELECT size FROM images WHERE pinned");
    let usage = Usage {
        bytes: number("SELECT (SELECT sum(size) FROM blobs) + (SELECT sum(bytes) FROM layers)"),
        inodes: number("SELECT (SELECT count(*) FROM blobs) + (SELECT sum(inodes) FROM layers)"),
    };
    (dir, root, record, usage)
}

#[test]
fn every_database_that_was_ever_written_is_brought_up_to_date_and_says_what_it_said() {
    for (name, sql) in golden() {
        let (dir, root, record, usage) = with_database(&sql);
        let store = Store::open(&root).unwrap();
        let fresh = Sandbox::new();
        let (brought, made) = (database(&root), database(fresh.root()));
        assert_eq!(version(&brought), version(&made), "{name}");
        assert_eq!(schema(&brought), schema(&made), "{name}");
        let reader = "SELECT value || '' FROM state WHERE key = 'reader'";
        // Who had the newest schema before there was this number has the same by its absence.
        if name != "meta-3.0.sql" {
            assert_eq!(strings(&brought, reader), strings(&made, reader), "{name}");
        }

        let images = store.images().unwrap();
        let found = images.iter().find(|image| image.id == record.id).unwrap();
        assert_eq!(*found, record, "{name}");
        assert_eq!(images.len(), 2, "{name}");
        assert_eq!(store.usage().unwrap(), usage, "{name}");
        // Version 1 knew no lists.
        let lists: &[&str] = match sql.contains("CREATE TABLE lists") {
            true => &[LIST],
            false => &[],
        };
        assert_eq!(store.lists().unwrap(), lists, "{name}");
        // What holds something holds it, and what nothing holds goes.
        assert_eq!(store.gc().unwrap(), Usage::default(), "{name}");
        let root = store.container_root(CONTAINER).unwrap().unwrap();
        assert_eq!(root.layers().len(), 2, "{name}");
        store.remove_writable_layer(CONTAINER).unwrap();
        store.set_pinned(&record.id, false).unwrap();
        for image in images {
            store.remove(&image.id).unwrap();
        }
        assert_eq!(store.gc().unwrap(), usage, "{name}");
        drop((store, dir));
    }
}

#[test]
fn the_last_golden_database_is_what_is_written() {
    let sandbox = Sandbox::new();
    fill(&sandbox.store);
    let written = database(sandbox.root());
    let (name, last) = golden().pop().unwrap();
    let before = Connection::open_in_memory().unwrap();
    load(&last, &before);
    let keys = "SELECT key FROM state ORDER BY key";
    let is_same = schema(&written) == schema(&before)
        && version(&written) == version(&before)
        && strings(&written, keys) == strings(&before, keys);
    assert!(
        is_same,
        "{name}: what is written has changed. A version that was released stays as it is; add what a former \
         program may pass over, or a version, and its golden file (see docs/records.md):\n{}",
        dump(&written)
    );
}

/// Has a store's database say that it is of a schema to come, which programs may work on that know
/// another. Returns the newest that is known now.
fn of_the_future(root: &Path, needs: Option<i64>) -> i64 {
    let database = database(root);
    // One more than what is written where all layers are directories.
    let own = version(&database) + 1;
    database
        .pragma_update(None, "user_version", own + 1)
        .unwrap();
    let sql = match needs {
        Some(needs) => format!("UPDATE state SET value = {needs} WHERE key = 'reader'"),
        None => "DELETE FROM state WHERE key = 'reader'".to_owned(),
    };
    database
        .execute_batch(&format!("{sql}; CREATE TABLE novelty(x TEXT) STRICT"))
        .unwrap();
    own
}

#[test]
fn a_newer_schema_that_this_program_may_work_on_is_worked_on_and_left_as_it_is() {
    let sandbox = Sandbox::new();
    let record = fill(&sandbox.store);
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    let newest = version(&database(&root)) + 1;
    let own = of_the_future(&root, Some(newest));
    let store = Store::open(&root).unwrap();
    assert!(store.images().unwrap().contains(&record));
    let added = put(&store, &[], &["example.com/new:1"], "three");
    store.remove_writable_layer(CONTAINER).unwrap();
    drop(store);
    let database = database(&root);
    assert_eq!(version(&database), own + 1);
    assert!(schema(&database).iter().any(|sql| sql.contains("novelty")));
    // Also where nothing is written.
    let beside = Store::open_beside(&dir.path().join("own"), std::slice::from_ref(&root)).unwrap();
    assert!(
        beside
            .images()
            .unwrap()
            .iter()
            .any(|image| image.id == added.id)
    );
}

#[test]
fn a_newer_schema_that_is_not_for_this_program_is_refused_by_its_number() {
    for needs in [Some(99), None] {
        let sandbox = Sandbox::new();
        let dir = sandbox.stop();
        let root = dir.path().join("store");
        let own = of_the_future(&root, needs);
        let wanted = needs.unwrap_or(own + 1);
        let before = std::fs::read(root.join("meta.sqlite")).unwrap();
        let beside = dir.path().join("own");
        for error in [
            Store::open(&root).unwrap_err(),
            Store::open_beside(&beside, std::slice::from_ref(&root)).unwrap_err(),
        ] {
            assert!(
                matches!(error, Error::Schema { found, needs, known, .. }
                    if (found, needs, known) == (own + 1, wanted, own)),
                "{error}"
            );
            assert!(
                error.to_string().contains(&format!("schema {wanted}")),
                "{error}"
            );
        }
        assert_eq!(std::fs::read(root.join("meta.sqlite")).unwrap(), before);
    }
}
