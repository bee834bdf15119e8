//! Directories that a layer has only because something lies in them, without an entry of their own: in a
//! container they look as the layers below have them (containerd does the same when it applies a layer).
//!
//! A layer is unpacked once for all images, so it cannot be changed for one of them: the directory is made in the
//! container's writable layer, as overlayfs would by a copy-up. Must never follow a link of an image.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rusqlite::{Connection, params};
use rustix::fs::{
    Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr, flistxattr,
    fsetxattr, fstat, futimens, mkdirat, openat,
};
use rustix::io::{Errno, Result as SysResult};

use crate::db::{Database, Durability};
use crate::error::{Error, Result};
use crate::layout::DIRECTORY;
use crate::rootfs;

/// Directories of a layer that are remembered: none has as many that is honest.
pub(crate) const MOST: usize = 1000;
/// The most that the names, or one value, of a file's attributes may be (as the kernel has it).
const MAX_XATTR: usize = 64 << 10;

/// Beside the schema, as an earlier version can do without it.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS implied(
      layer INTEGER NOT NULL REFERENCES layers(id) ON DELETE CASCADE,
      path BLOB NOT NULL,
      PRIMARY KEY(layer, path)) STRICT, WITHOUT ROWID";

/// Makes room for them in a database that has none.
pub(crate) fn prepare(db: &Database) -> Result<()> {
    const KNOWN: &str = "SELECT 1 FROM sqlite_schema WHERE name = 'implied'";
    if db.read(|db| crate::db::exists(db, KNOWN, &[]))? {
        return Ok(());
    }
    db.write(Durability::Ordered, |tx| {
        tx.execute_batch(TABLE)
            .map_err(Error::db("make room for directories"))
    })
}

/// Records those of a layer.
pub(crate) fn keep(tx: &Connection, layer: i64, paths: &[Vec<u8>]) -> Result<()> {
    let run = || {
        if !paths.is_empty() {
            tx.execute_batch(TABLE)?;
        }
        for path in paths {
            tx.execute(
                "INSERT OR IGNORE INTO implied VALUES(?1, ?2)",
                params![layer, path],
            )?;
        }
        Ok(())
    };
    run().map_err(Error::db("record the directories of a layer"))
}

/// Of these layers, those that have any, with their paths.
pub(crate) fn of(db: &Connection, layers: &[i64]) -> Result<HashMap<i64, HashSet<Vec<u8>>>> {
    let read = || {
        let mut found = HashMap::new();
        let mut statement = db.prepare_cached("SELECT path FROM implied WHERE layer = ?1")?;
        for layer in layers {
            let rows = statement.query_map([layer], |row| row.get(0))?;
            let paths = rows.collect::<rusqlite::Result<HashSet<Vec<u8>>>>()?;
            if !paths.is_empty() {
                found.insert(*layer, paths);
            }
        }
        Ok(found)
    };
    read().map_err(Error::db("read the directories of layers"))
}

/// Makes in `upper` the directories that are implied in the topmost layer that has them, as the next layer
/// below has them that has an entry for them. `layers` and their roots, `dirs`, are the same, top first.
pub(crate) fn make(
    upper: BorrowedFd<'_>,
    layers: &[i64],
    dirs: &[OwnedFd],
    implied: &HashMap<i64, HashSet<Vec<u8>>>,
) -> SysResult<()> {
    let none = HashSet::new();
    let of: Vec<&HashSet<Vec<u8>>> = layers
        .iter()
        .map(|l| implied.get(l).unwrap_or(&none))
        .collect();
    let mut paths: Vec<&Vec<u8>> = implied.values().flatten().collect();
    paths.sort_unstable();
    paths.dedup();
    let mut times = Vec::new();
    for path in paths {
        let chain = chain(dirs, path)?;
        let Some(last) = chain.last() else {
            continue;
        };
        if model(last, path, &of).is_none_or(|(depth, _)| depth == 0) {
            continue;
        }
        copy_up(upper, path, &chain, &of, &mut times)?;
    }
    // At last, as a directory that gets an entry gets another time. All on the way are directories, made here.
    for (path, times) in times {
        let dir = openat(upper, path, DIRECTORY, Mode::empty())?;
        futimens(&dir, &times)?;
    }
    Ok(())
}

/// A directory in each layer that has it, top first, with the layer's place.
type Merged = Vec<(usize, OwnedFd)>;

/// The directories on the way to a path, the last one included; empty when a container would not see a
/// directory there.
fn chain(dirs: &[OwnedFd], path: &[u8]) -> SysResult<Vec<Merged>> {
    let roots = dirs.iter().map(rustix::io::dup).enumerate();
    let mut merged = roots
        .map(|(place, dir)| Ok((place, dir?)))
        .collect::<SysResult<Merged>>()?;
    let mut chain = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        merged = rootfs::directories(&merged, name)?;
        if merged.is_empty() {
            return Ok(Vec::new());
        }
        let copies = merged
            .iter()
            .map(|(place, dir)| Ok((*place, rustix::io::dup(dir)?)));
        chain.push(copies.collect::<SysResult<Merged>>()?);
    }
    Ok(chain)
}

/// The directory that says how `path` looks, and how many lie above it.
fn model<'a>(
    merged: &'a Merged,
    path: &[u8],
    implied: &[&HashSet<Vec<u8>>],
) -> Option<(usize, &'a OwnedFd)> {
    let mut found = merged.iter().enumerate();
    found
        .find(|(_, (place, _))| !implied[*place].contains(path))
        .map(|(depth, (_, dir))| (depth, dir))
}

fn copy_up(
    upper: BorrowedFd<'_>,
    path: &[u8],
    chain: &[Merged],
    implied: &[&HashSet<Vec<u8>>],
    times: &mut Vec<(Vec<u8>, Timestamps)>,
) -> SysResult<()> {
    let mut parent: OwnedFd = rustix::io::dup(upper)?;
    let mut reached = Vec::new();
    for (name, merged) in path.split(|byte| *byte == b'/').zip(chain) {
        if !reached.is_empty() {
            reached.push(b'/');
        }
        reached.extend_from_slice(name);
        let made = match mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(e),
        };
        let dir = openat(&parent, name, DIRECTORY, Mode::empty())?;
        let like = model(merged, &reached, implied).map(|(_, dir)| dir);
        if let (true, Some(like)) = (made, like.or_else(|| merged.first().map(|(_, dir)| dir))) {
            times.push((reached.clone(), copy_attributes(like.as_fd(), dir.as_fd())?));
        }
        parent = dir;
    }
    Ok(())
}

/// Copies owner, mode and attributes, and returns the times.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> SysResult<Timestamps> {
    let stat = fstat(from)?;
    fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0_u8; MAX_XATTR];
    let length = match flistxattr(from, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    for name in names[..length].split(|byte| *byte == 0) {
        // What overlayfs keeps there is not the directory's.
        if name.starts_with(b"user.") {
            let mut value = vec![0_u8; MAX_XATTR];
            let length = fgetxattr(from, name, &mut value)?;
            fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
        }
    }
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    Ok(Timestamps {
        last_access: time,
        last_modification: time,
    })
}
