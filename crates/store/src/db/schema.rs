//! The schema of `meta.sqlite`, version by version.
//!
//! Must never change a version that was ever released: add one (docs/records.md).

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::error::{Error, Result};

/// The schema written by this program, kept in `PRAGMA user_version`.
pub(crate) const SCHEMA_VERSION: i64 = 3;

/// The newest schema that this program works on: [`SCHEMA_VERSION`] with layers that are no directories, which
/// a program that takes every layer for one must not touch.
pub(crate) const KNOWN: i64 = 4;

/// The lowest schema that a program must know to work on what this one writes, kept in `state`: a
/// program that knows less would do harm.
const LOWEST_READER: i64 = 3;
/// Its key.
const READER: &str = "reader";

/// Names of images change `state.names`; `index.json` is true when `state.index` equals it.
const SCHEMA: &str = "
CREATE TABLE state(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO state VALUES('names', 1), ('index', 0);

-- The boot in which the store was last opened. A blob or layer with an `unsettled` mark, which no
-- other ever had, is not known to be on disk and counts only in that boot.
CREATE TABLE boots(id TEXT NOT NULL) STRICT;

CREATE TABLE leases(id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL) STRICT;

CREATE TABLE blobs(digest TEXT PRIMARY KEY, size INTEGER NOT NULL, unsettled TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_unsettled ON blobs(unsettled) WHERE unsettled IS NOT NULL;
CREATE TABLE lease_blobs(
  lease INTEGER NOT NULL REFERENCES leases(id) ON DELETE CASCADE,
  digest TEXT NOT NULL,
  PRIMARY KEY(lease, digest)) STRICT, WITHOUT ROWID;

-- A layer is reserved (ready = 0, owned by a lease) before its directory appears under its id.
CREATE TABLE layers(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  diff_id TEXT NOT NULL,
  ready INTEGER NOT NULL,
  unsettled TEXT,
  lease INTEGER,
  -- 1: its root hides all layers below (overlayfs does not look for that mark at a root).
  opaque INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL,
  inodes INTEGER NOT NULL) STRICT;
CREATE INDEX layers_unsettled ON layers(unsettled) WHERE unsettled IS NOT NULL;
CREATE UNIQUE INDEX layers_ready ON layers(diff_id) WHERE ready = 1;
CREATE TABLE lease_layers(
  lease INTEGER NOT NULL REFERENCES leases(id) ON DELETE CASCADE,
  layer INTEGER NOT NULL REFERENCES layers(id),
  PRIMARY KEY(lease, layer)) STRICT, WITHOUT ROWID;
CREATE INDEX lease_layers_layer ON lease_layers(layer);

CREATE TABLE images(
  id TEXT NOT NULL UNIQUE,
  manifest TEXT NOT NULL,
  size INTEGER NOT NULL,
  created INTEGER,
  pinned INTEGER NOT NULL DEFAULT 0,
  config BLOB NOT NULL) STRICT;
CREATE TABLE image_layers(
  image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  layer INTEGER NOT NULL REFERENCES layers(id),
  PRIMARY KEY(image, position)) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_layer ON image_layers(layer);

CREATE TABLE manifests(
  digest TEXT PRIMARY KEY,
  image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
  media_type TEXT NOT NULL,
  size INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX manifests_image ON manifests(image);
CREATE TABLE manifest_blobs(
  manifest TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE,
  blob TEXT NOT NULL REFERENCES blobs(digest),
  PRIMARY KEY(manifest, blob)) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_blobs_blob ON manifest_blobs(blob);

-- kind 0: repository:tag; kind 1: repository@digest.
CREATE TABLE names(
  name TEXT PRIMARY KEY,
  repository TEXT NOT NULL,
  kind INTEGER NOT NULL,
  image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
  manifest TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE) STRICT, WITHOUT ROWID;
CREATE INDEX names_image ON names(image, kind, name);
CREATE INDEX names_manifest ON names(manifest);

CREATE TABLE containers(id TEXT PRIMARY KEY, image TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE container_layers(
  container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  layer INTEGER NOT NULL REFERENCES layers(id),
  PRIMARY KEY(container, position)) STRICT, WITHOUT ROWID;
CREATE INDEX container_layers_layer ON container_layers(layer);

CREATE TRIGGER names_insert AFTER INSERT ON names
  BEGIN UPDATE state SET value = value + 1 WHERE key = 'names'; END;
CREATE TRIGGER names_update AFTER UPDATE ON names
  BEGIN UPDATE state SET value = value + 1 WHERE key = 'names'; END;
CREATE TRIGGER names_delete AFTER DELETE ON names
  BEGIN UPDATE state SET value = value + 1 WHERE key = 'names'; END;
CREATE TRIGGER images_insert AFTER INSERT ON images
  BEGIN UPDATE state SET value = value + 1 WHERE key = 'names'; END;
CREATE TRIGGER images_update AFTER UPDATE OF manifest ON images
  BEGIN UPDATE state SET value = value + 1 WHERE key = 'names'; END;
CREATE TRIGGER images_delete AFTER DELETE ON images
  BEGIN UPDATE state SET value = value + 1 WHERE key = 'names'; END;
";

/// From version 1 to 2: manifest lists, and containers on layers of additional stores.
const LISTS: &str = "
CREATE TABLE lists(name TEXT PRIMARY KEY, document BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE container_lowers(
  container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  path BLOB NOT NULL,
  PRIMARY KEY(container, position)) STRICT, WITHOUT ROWID;
";

/// From version 2 to 3: garbage collection looks only at what lost something that held it, whoever took
/// it away and however, and at everything when `state.walk` says so.
const LOOSE: &str = "
CREATE INDEX lease_blobs_digest ON lease_blobs(digest);
CREATE INDEX layers_lease ON layers(lease) WHERE lease IS NOT NULL;
CREATE TABLE loose_blobs(digest TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE loose_layers(id INTEGER PRIMARY KEY) STRICT;
INSERT INTO state VALUES('walk', 1);

CREATE TRIGGER manifest_blobs_delete AFTER DELETE ON manifest_blobs
  BEGIN INSERT OR IGNORE INTO loose_blobs VALUES(OLD.blob); END;
CREATE TRIGGER lease_blobs_delete AFTER DELETE ON lease_blobs
  WHEN NOT EXISTS (SELECT 1 FROM manifest_blobs WHERE blob = OLD.digest)
  BEGIN INSERT OR IGNORE INTO loose_blobs VALUES(OLD.digest); END;
CREATE TRIGGER image_layers_delete AFTER DELETE ON image_layers
  BEGIN INSERT OR IGNORE INTO loose_layers VALUES(OLD.layer); END;
CREATE TRIGGER container_layers_delete AFTER DELETE ON container_layers
  WHEN NOT EXISTS (SELECT 1 FROM image_layers WHERE layer = OLD.layer)
  BEGIN INSERT OR IGNORE INTO loose_layers VALUES(OLD.layer); END;
CREATE TRIGGER lease_layers_delete AFTER DELETE ON lease_layers
  WHEN NOT EXISTS (SELECT 1 FROM image_layers WHERE layer = OLD.layer)
  BEGIN INSERT OR IGNORE INTO loose_layers VALUES(OLD.layer); END;
CREATE TRIGGER blobs_delete AFTER DELETE ON blobs
  BEGIN INSERT OR IGNORE INTO loose_blobs VALUES(OLD.digest); END;
CREATE TRIGGER layers_delete AFTER DELETE ON layers
  BEGIN INSERT OR IGNORE INTO loose_layers VALUES(OLD.id); END;
CREATE TRIGGER leases_delete AFTER DELETE ON leases
  BEGIN INSERT OR IGNORE INTO loose_layers SELECT id FROM layers WHERE lease = OLD.id; END;
";

/// From version 2 to 3 as well: what everything takes, counted when it comes and goes.
const TOTALS: &str = "
INSERT INTO state VALUES
  ('bytes', (SELECT coalesce(sum(size), 0) FROM blobs)
    + (SELECT coalesce(sum(bytes), 0) FROM layers WHERE ready = 1)),
  ('inodes', (SELECT count(*) FROM blobs)
    + (SELECT coalesce(sum(inodes), 0) FROM layers WHERE ready = 1));

CREATE TRIGGER blobs_counted AFTER INSERT ON blobs BEGIN
  UPDATE state SET value = value + NEW.size WHERE key = 'bytes';
  UPDATE state SET value = value + 1 WHERE key = 'inodes';
END;
CREATE TRIGGER blobs_resized AFTER UPDATE OF size ON blobs
  BEGIN UPDATE state SET value = value + NEW.size - OLD.size WHERE key = 'bytes'; END;
CREATE TRIGGER blobs_uncounted AFTER DELETE ON blobs BEGIN
  UPDATE state SET value = value - OLD.size WHERE key = 'bytes';
  UPDATE state SET value = value - 1 WHERE key = 'inodes';
END;
CREATE TRIGGER layers_counted AFTER UPDATE OF ready ON layers WHEN NEW.ready = 1 AND OLD.ready = 0 BEGIN
  UPDATE state SET value = value + NEW.bytes WHERE key = 'bytes';
  UPDATE state SET value = value + NEW.inodes WHERE key = 'inodes';
END;
CREATE TRIGGER layers_uncounted AFTER DELETE ON layers WHEN OLD.ready = 1 BEGIN
  UPDATE state SET value = value - OLD.bytes WHERE key = 'bytes';
  UPDATE state SET value = value - OLD.inodes WHERE key = 'inodes';
END;
";

/// From version 2 to 3 as well: lists say an image's user, and need not read its config for that.
const USERS: &str = "
CREATE TABLE users(
  image TEXT PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,
  user TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO users SELECT id, json_extract(CAST(config AS TEXT), '$.config.User') FROM images
  WHERE json_extract(CAST(config AS TEXT), '$.config.User') <> '';
";

/// From version 2 to 3 as well: the entries of `index.json`, made anew for an image that is touched. One for
/// each tag, or each digest name of an image without tags, or one of an image without names.
const ENTRIES: &str = "
CREATE TABLE entries(
  name TEXT NOT NULL,
  digest TEXT NOT NULL,
  image TEXT NOT NULL,
  entry TEXT NOT NULL,
  PRIMARY KEY(name, digest)) STRICT, WITHOUT ROWID;
CREATE INDEX entries_image ON entries(image);

CREATE VIEW touched AS SELECT NULL AS image WHERE 0;
CREATE TRIGGER touch INSTEAD OF INSERT ON touched BEGIN
  DELETE FROM entries WHERE image = NEW.image;
  INSERT INTO entries SELECT n.name, m.digest, n.image, json_object(
      'mediaType', m.media_type, 'digest', m.digest, 'size', m.size,
      'annotations', json_object('org.opencontainers.image.ref.name', n.name))
    FROM names n JOIN manifests m ON m.digest = n.manifest
    WHERE n.image = NEW.image AND (n.kind = 0
      OR NOT EXISTS (SELECT 1 FROM names t WHERE t.image = NEW.image AND t.kind = 0));
  INSERT INTO entries SELECT '', m.digest, i.id, json_object(
      'mediaType', m.media_type, 'digest', m.digest, 'size', m.size)
    FROM images i JOIN manifests m ON m.digest = i.manifest
    WHERE i.id = NEW.image AND NOT EXISTS (SELECT 1 FROM names t WHERE t.image = NEW.image);
END;
CREATE TRIGGER names_insert_touches AFTER INSERT ON names
  BEGIN INSERT INTO touched VALUES(NEW.image); END;
CREATE TRIGGER names_update_touches AFTER UPDATE ON names
  BEGIN INSERT INTO touched VALUES(OLD.image); INSERT INTO touched VALUES(NEW.image); END;
CREATE TRIGGER names_delete_touches AFTER DELETE ON names
  BEGIN INSERT INTO touched VALUES(OLD.image); END;
CREATE TRIGGER manifests_insert_touches AFTER INSERT ON manifests
  BEGIN INSERT INTO touched VALUES(NEW.image); END;
CREATE TRIGGER manifests_delete_touches AFTER DELETE ON manifests
  BEGIN INSERT INTO touched VALUES(OLD.image); END;
CREATE TRIGGER images_update_touches AFTER UPDATE OF manifest ON images
  BEGIN INSERT INTO touched VALUES(NEW.id); END;
CREATE TRIGGER images_delete_touches AFTER DELETE ON images
  BEGIN INSERT INTO touched VALUES(OLD.id); END;
INSERT INTO touched SELECT id FROM images;
UPDATE state SET value = value + 1 WHERE key = 'names';
";

/// From version 2 to 3 as well: signatures that came with images.
const SIGNATURES: &str = "
CREATE TABLE signatures(
  manifest TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  signature BLOB NOT NULL,
  PRIMARY KEY(manifest, position)) STRICT, WITHOUT ROWID;
";

/// What makes each version, from nothing on, out of the one before it.
const MIGRATIONS: [&[&str]; SCHEMA_VERSION as usize] = [
    &[SCHEMA],
    &[LISTS],
    &[LOOSE, TOTALS, USERS, ENTRIES, SIGNATURES],
];

/// The schema of the database at `path`.
///
/// # Errors
/// [`Error::Schema`]: one that this program must not work with.
pub(crate) fn version(db: &Connection, path: &Path) -> Result<i64> {
    let found: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(Error::db("read the schema version"))?;
    if found <= KNOWN {
        return Ok(found);
    }
    let needs: Option<i64> = db
        .query_row("SELECT value FROM state WHERE key = ?1", [READER], |row| {
            row.get(0)
        })
        .optional()
        .map_err(Error::db("read which programs may read it"))?;
    // Who does not say has not thought of others.
    match needs.unwrap_or(found) {
        needs if needs <= KNOWN => Ok(found),
        needs => Err(Error::Schema {
            path: path.to_owned(),
            found,
            needs,
            known: KNOWN,
        }),
    }
}

/// Makes what a database of the schema `found` lacks, and records what it is now.
pub(super) fn migrate(tx: &Transaction<'_>, found: i64) -> Result<()> {
    let found = usize::try_from(found).unwrap_or_default();
    for migration in MIGRATIONS.iter().skip(found).copied().flatten() {
        tx.execute_batch(migration)
            .map_err(Error::db("bring the schema up to date"))?;
    }
    record(tx, SCHEMA_VERSION, LOWEST_READER)
}

/// Says whether there are layers that only a program may work with that knows [`KNOWN`].
pub(crate) fn note_forms(tx: &Connection, any: bool) -> Result<()> {
    match any {
        true => record(tx, KNOWN, KNOWN),
        false => record(tx, SCHEMA_VERSION, LOWEST_READER),
    }
}

fn record(tx: &Connection, version: i64, reader: i64) -> Result<()> {
    let state = "INSERT OR REPLACE INTO state VALUES(?1, ?2)";
    tx.execute(state, rusqlite::params![READER, reader])
        .and_then(|_| tx.pragma_update(None, "user_version", version))
        .map_err(Error::db("record the schema version"))
}
