//! Which form each layer has, and under what name it lies in `layers/`.
//!
//! A layer without a row is a directory, as all were once. The table lies beside the schema; with its first row
//! the schema's number says that an earlier program must not open the store. Must never give two forms one name:
//! whoever finds a name knows what lies there, whatever a kill has left.

use rusqlite::{Connection, params};

use super::{Form, LayerRow};
use crate::db::{self, exists, schema};
use crate::error::{Error, Result};

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS forms(
      layer INTEGER PRIMARY KEY REFERENCES layers(id) ON DELETE CASCADE,
      form TEXT NOT NULL) STRICT";
/// What the name of a layer ends with that is an archive and an index.
const ARCHIVE: &str = ".erofs";

/// All forms.
pub(crate) const ALL: [Form; 2] = [Form::Directory, Form::Erofs];

/// The name of a layer's directory in `layers/`.
pub(crate) fn name(id: i64, form: Form) -> String {
    match form {
        Form::Directory => id.to_string(),
        Form::Erofs => format!("{id}{ARCHIVE}"),
    }
}

/// The number in a name in `layers/`, and the form that lies there.
pub(crate) fn parse(name: &str) -> Option<(i64, Form)> {
    let (number, form) = match name.strip_suffix(ARCHIVE) {
        Some(number) => (number, Form::Erofs),
        None => (name, Form::Directory),
    };
    Some((number.parse().ok()?, form))
}

/// Whether there may be rows. The number is read from the file's head, and of most stores says no.
fn has_table(db: &Connection) -> Result<bool> {
    let version = db
        .prepare_cached("PRAGMA user_version")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
    let version: i64 = version.map_err(Error::db("read the schema version"))?;
    Ok(version >= schema::KNOWN
        && exists(db, "SELECT 1 FROM sqlite_schema WHERE name = 'forms'", &[])?)
}

/// The form of a layer.
pub(crate) fn of(db: &Connection, layer: i64) -> Result<Form> {
    match has_table(db)? {
        true => recorded(db, layer),
        false => Ok(Form::Directory),
    }
}

/// The same, where there are forms.
fn recorded(db: &Connection, layer: i64) -> Result<Form> {
    let form = "SELECT form FROM forms WHERE layer = CAST(?1 AS INTEGER)";
    match db::one(db, form, &layer.to_string())?.as_deref() {
        None => Ok(Form::Directory),
        Some("erofs") => Ok(Form::Erofs),
        Some(other) => Err(Error::Unsupported {
            what: format!("layer {layer}"),
            why: format!("its form {other:?} is of a later version of floe"),
        }),
    }
}

/// Gives these their forms.
pub(crate) fn fill(db: &Connection, rows: &mut [LayerRow]) -> Result<()> {
    if rows.is_empty() || !has_table(db)? {
        return Ok(());
    }
    for row in rows {
        row.form = recorded(db, row.id)?;
    }
    Ok(())
}

/// Records the form of a layer.
pub(crate) fn record(tx: &Connection, layer: i64, form: Form) -> Result<()> {
    let failed = || Error::db("record the form of a layer");
    match form {
        Form::Directory if !has_table(tx)? => Ok(()),
        Form::Directory => {
            tx.execute("DELETE FROM forms WHERE layer = ?1", [layer])
                .map_err(failed())?;
            schema::note_forms(tx, exists(tx, "SELECT 1 FROM forms", &[])?)
        }
        Form::Erofs => {
            tx.execute_batch(TABLE).map_err(failed())?;
            tx.execute(
                "INSERT OR REPLACE INTO forms VALUES(?1, ?2)",
                params![layer, form.to_string()],
            )
            .map_err(failed())?;
            schema::note_forms(tx, true)
        }
    }
}
