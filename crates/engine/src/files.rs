//! Trees of files as tar archives, between a container and this machine. Both ends are worked on from inside of
//! their own directory ([`base::rooted`]): must never follow a link of either out of it, recurse, or open a file that
//! is none.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{major, minor};
use tar::{Archive, Builder, EntryType, Header};

/// An archive is a whole number of records of so many bytes, as POSIX has it: GNU tar changes no other correctly.
const RECORD: u64 = 20 * 512;
/// More files with several links are written as if each had one.
const LINKS: usize = 1 << 20;

/// Writes what is at `from` into an archive, under the name `name`; of a directory also all that is below, and with
/// the name `.` that alone. Sockets are left out.
///
/// # Errors
/// What cannot be read or written.
pub fn pack(to: impl Write, from: &Path, name: &Path) -> io::Result<()> {
    let mut archive = Builder::new(Counted(to, 0));
    let mut linked: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut waiting = vec![(from.to_owned(), name.to_owned())];
    while let Some((path, name)) = waiting.pop() {
        let found = match std::fs::symlink_metadata(&path) {
            // It was there a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != from => continue,
            found => found.map_err(at(&path))?,
        };
        if found.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(at(&path))? {
                let entry = entry.map_err(at(&path))?;
                let below = match name == Path::new(".") {
                    true => entry.file_name().into(),
                    false => name.join(entry.file_name()),
                };
                waiting.push((entry.path(), below));
            }
        } else if found.nlink() > 1 && found.is_file() && linked.len() < LINKS {
            let same = linked.entry((found.dev(), found.ino()));
            if let std::collections::hash_map::Entry::Occupied(first) = &same {
                let mut header = header(&found);
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                archive.append_link(&mut header, &name, first.get())?;
                continue;
            }
            same.or_insert_with(|| name.clone());
        }
        if name != Path::new(".") {
            append(&mut archive, &path, &name, &found).map_err(at(&path))?;
        }
    }
    let mut written = archive.into_inner()?;
    let missing = written.1.next_multiple_of(RECORD) - written.1;
    io::copy(&mut io::repeat(0).take(missing), &mut written)?;
    written.flush()
}

/// Counts what is written.
struct Counted<W>(W, u64);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1 += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn append(
    archive: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    found: &Metadata,
) -> io::Result<()> {
    let mut header = header(found);
    let kind = found.file_type();
    if kind.is_file() {
        // Another one may have come to its place, a fifo that is never opened by anybody else among them.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let now = file.metadata()?;
        if !now.is_file() {
            return Err(io::Error::other("it changed while it was read"));
        }
        header.set_size(now.size());
        header.set_entry_type(EntryType::Regular);
        let whole = file.take(now.size()).chain(io::repeat(0)).take(now.size());
        return archive.append_data(&mut header, name, whole);
    }
    header.set_size(0);
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return archive.append_link(&mut header, name, std::fs::read_link(path)?);
    }
    let kind = if kind.is_dir() {
        EntryType::Directory
    } else if kind.is_fifo() {
        EntryType::Fifo
    } else if kind.is_char_device() {
        EntryType::Char
    } else if kind.is_block_device() {
        EntryType::Block
    } else {
        return Ok(());
    };
    header.set_entry_type(kind);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(major(found.rdev()))?;
        header.set_device_minor(minor(found.rdev()))?;
    }
    archive.append_data(&mut header, name, io::empty())
}

fn header(found: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(found);
    header
}

/// Whose what is unpacked shall be.
#[derive(Debug, Clone, Copy)]
pub enum Owner {
    /// Whoever unpacks it.
    Oneself,
    /// This user and group.
    One(u32, u32),
    /// As the archive says.
    Kept,
}

/// Unpacks an archive into the directory `to`. Files that are there are replaced, directories stay; a file in the place
/// of a directory, or the other way, only with `overwrite`.
///
/// # Errors
/// An archive that is none, a name that leads out of it, or what cannot be made.
pub fn unpack(from: impl Read, to: &Path, owner: Owner, overwrite: bool) -> io::Result<()> {
    let mut archive = Archive::new(from);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(matches!(owner, Owner::Kept));
    archive.set_overwrite(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let out = || io::Error::other(format!("{}: it leads out of the archive", name.display()));
        // Before anything makes way for it.
        let path = to.join(within(&name).ok_or_else(out)?);
        let kind = entry.header().entry_type();
        make_way(&path, kind == EntryType::Directory, overwrite)?;
        if !entry.unpack_in(to)? {
            return Err(out());
        }
        if let Owner::One(user, group) = owner {
            std::os::unix::fs::lchown(&path, Some(user), Some(group)).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// A name of an archive below the directory that it is unpacked in; `None`: it leads out of that.
fn within(name: &Path) -> Option<PathBuf> {
    let mut inner = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => inner.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(inner)
}

/// What stands where something comes goes: a directory where one comes stays, and nothing of another kind goes unless
/// that is wanted.
fn make_way(path: &Path, for_directory: bool, overwrite: bool) -> io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    // A link to a directory is one where a directory comes.
    let is_dir = found.is_dir() || (for_directory && path.is_dir());
    match (is_dir, for_directory) {
        (true, true) => Ok(()),
        (false, false) => std::fs::remove_file(path).map_err(at(path)),
        _ if !overwrite => Err(at(path)(io::ErrorKind::AlreadyExists.into())),
        (true, false) => std::fs::remove_dir_all(path).map_err(at(path)),
        (false, true) => std::fs::remove_file(path).map_err(at(path)),
    }
}

/// The error with its path.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The last part of a path; of a root, `.`.
pub fn base_name(path: &Path) -> PathBuf {
    path.file_name().unwrap_or(OsStr::new(".")).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn packed(from: &Path, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(&mut bytes, from, Path::new(name)).unwrap();
        bytes
    }

    #[test]
    fn a_tree_comes_out_as_it_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::write(from.join("a/file"), "text").unwrap();
        std::fs::hard_link(from.join("a/file"), from.join("a/twin")).unwrap();
        symlink("/nowhere/at/all", from.join("a/link")).unwrap();
        let name = "x".repeat(200);
        std::fs::write(from.join("a/b").join(&name), [0; 70_000]).unwrap();
        let to = dir.path().join("to");
        std::fs::create_dir(&to).unwrap();
        std::fs::write(to.join("new"), "in the way").unwrap();
        unpack(&packed(&from, "new")[..], &to, Owner::Oneself, true).unwrap();
        let new = to.join("new/a");
        assert_eq!(std::fs::read(new.join("file")).unwrap(), b"text");
        let inode = |name: &str| std::fs::metadata(new.join(name)).unwrap().ino();
        assert_eq!(inode("file"), inode("twin"));
        let target = std::fs::read_link(new.join("link")).unwrap();
        assert_eq!(target, Path::new("/nowhere/at/all"));
        assert_eq!(
            std::fs::read(new.join("b").join(name)).unwrap().len(),
            70_000
        );
    }

    #[test]
    fn an_archive_that_leads_out_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(1);
        header.set_mode(0o644);
        let name = b"../escaped";
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend([0; 512]);
        let to = dir.path().join("to");
        std::fs::create_dir(&to).unwrap();
        let outside = dir.path().join("escaped");
        std::fs::write(&outside, "stays").unwrap();
        assert!(unpack(&bytes[..], &to, Owner::Oneself, true).is_err());
        assert_eq!(std::fs::read(outside).unwrap(), b"stays");
    }
}
