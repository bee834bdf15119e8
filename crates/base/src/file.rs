//! Files that are read within bounds and replaced at once.
//!
//! Must never follow a link that somebody put in a file's place, and never be held up by what is no file.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, openat, renameat, unlinkat,
};

/// The calls of an open file do not wait from now on, whoever else has it; its other flags stay.
///
/// # Errors
/// As fcntl(2).
pub fn never_wait(file: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&file)?;
    Ok(fcntl_setfl(&file, flags | OFlags::NONBLOCK)?)
}

/// fcntl(2); the crate libc has it for no target.
const F_SETSIG: libc::c_int = 10;

/// Whether somebody has the file open for writing; `None`: this file system or user cannot tell. The file must be open
/// for reading only.
pub fn has_writer(file: &File) -> Option<bool> {
    // A lease for reading is given only if nobody writes (fcntl(2), F_SETLEASE). Who wants to write while it is
    // held waits for its end, and we would be told by a signal: one that is ignored unless somebody wants it.
    let fcntl = |operation: libc::c_int, argument: libc::c_int| {
        // SAFETY: these operations take an int and touch no memory; the descriptor is open for as long as `file` is.
        unsafe { libc::fcntl(file.as_raw_fd(), operation, argument) }
    };
    if fcntl(F_SETSIG, libc::SIGURG) != 0 {
        return None;
    }
    if fcntl(libc::F_SETLEASE, libc::F_RDLCK) == 0 {
        fcntl(libc::F_SETLEASE, libc::F_UNLCK);
        return Some(false);
    }
    let refused = io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
    refused.then_some(true)
}

/// The bytes of a plain file of at most `max` bytes; `None` if there is none. No link is followed,
/// and nothing that is in its place can hold the reader up.
///
/// # Errors
/// `InvalidData` for what is no plain file or is longer; else as open(2) and read(2).
pub fn read_bounded(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    match opened {
        Ok(file) => read_plain(file, max).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => wrong("is a symbolic link"),
        Err(error) => Err(error),
    }
}

/// The same of a file that an administrator may have put elsewhere by a symbolic link, or made empty
/// by naming /dev/null.
///
/// # Errors
/// As [`read_bounded`].
pub fn read_linked(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    match opened {
        Ok(file) if is_null(&file)? => Ok(Some(Vec::new())),
        Ok(file) => read_plain(file, max).map(Some),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same, of a text.
///
/// # Errors
/// As [`read_bounded`], and `InvalidData` for what is no UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<Option<String>> {
    let text = read_linked(path, max)?.map(String::from_utf8).transpose();
    text.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Is there nothing at the path, whatever part of it is missing?
#[must_use]
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Is it /dev/null, by whatever name?
fn is_null(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    Ok(found.file_type().is_char_device() && found.rdev() == libc::makedev(1, 3))
}

fn read_plain(file: File, max: u64) -> io::Result<Vec<u8>> {
    let found = file.metadata()?;
    if !found.is_file() {
        return wrong("is not a plain file");
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len().min(max)).unwrap_or(0) + 1);
    file.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => wrong(&format!("is longer than {max} bytes")),
        false => Ok(bytes),
    }
}

fn wrong<T>(reason: &str) -> io::Result<T> {
    Err(io::Error::new(ErrorKind::InvalidData, reason))
}

/// How long a file that is replaced must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// As long as the machine runs: what it says is not true after a boot.
    UntilBoot,
    /// For ever: it is on the disk before it has its name.
    Always,
}

/// Replaces a file: a reader sees the old or the new, never a part. `mode` is that of the new file, less
/// the umask. What a killed process leaves beside it is `NAME.PID.N.tmp`.
///
/// # Errors
/// As open(2), write(2), fsync(2) and rename(2); the old file is as it was then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, lasts: Lasts) -> io::Result<()> {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(
        ".{}.{}.tmp",
        std::process::id(),
        SEQUENCE.fetch_add(1, Ordering::Relaxed)
    ));
    let temporary = PathBuf::from(temporary);
    let mut file = match Temporary::create(CWD, temporary.clone(), mode) {
        // Of a process with this number that was killed: another can have it only after its end.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary)?;
            Temporary::create(CWD, temporary, mode)?
        }
        other => other?,
    };
    file.write_all(bytes)?;
    if lasts == Lasts::Always {
        file.file().sync_all()?;
    }
    file.commit(CWD, path)
}

/// A file that is not whole yet. It is removed when this is dropped, unless it was given its lasting name;
/// what a killed process leaves is its owner's to find by the name.
#[derive(Debug)]
pub struct Temporary<'a> {
    dir: BorrowedFd<'a>,
    name: PathBuf,
    file: File,
    committed: bool,
}

impl<'a> Temporary<'a> {
    /// Makes the file `name` in the directory `dir`, to be written. `mode` is less the umask.
    ///
    /// # Errors
    /// As open(2) with `O_EXCL`.
    pub fn create(dir: BorrowedFd<'a>, name: impl Into<PathBuf>, mode: u32) -> io::Result<Self> {
        let name = name.into();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(dir, &name, flags, Mode::from_raw_mode(mode))?;
        Ok(Self {
            dir,
            name,
            file: file.into(),
            committed: false,
        })
    }

    /// The name that it was made with.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its lasting name in the directory `dir`, in place of what has it. Whether it is on the disk
    /// by then, and the name after this, is the caller's business.
    ///
    /// # Errors
    /// As rename(2); it is removed then.
    pub fn commit(mut self, dir: BorrowedFd<'_>, name: impl AsRef<Path>) -> io::Result<()> {
        renameat(self.dir, &self.name, dir, name.as_ref())?;
        self.committed = true;
        Ok(())
    }
}

impl Write for Temporary<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // The error that led here is the one to tell.
            let _ = unlinkat(self.dir, &self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn dev_null_is_an_empty_file_of_an_administrator_and_no_record() {
        let null = Path::new("/dev/null");
        assert_eq!(read_linked(null, 8).unwrap(), Some(Vec::new()));
        assert_eq!(
            read_bounded(null, 8).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        let zero = read_linked(Path::new("/dev/zero"), 8);
        assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn who_writes_to_a_file_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let reading = File::open(&path).unwrap();
        let Some(written) = has_writer(&reading) else {
            eprintln!("SKIP: no leases on this file system");
            return;
        };
        assert!(!written);
        let writing = File::options().append(true).open(&path).unwrap();
        assert_eq!(has_writer(&reading), Some(true));
        drop(writing);
        assert_eq!(has_writer(&reading), Some(false));
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        for (text, lasts) in [("old", Lasts::UntilBoot), ("new", Lasts::Always)] {
            replace(&path, text.as_bytes(), 0o600, lasts).unwrap();
            assert_eq!(read_bounded(&path, 3).unwrap().unwrap(), text.as_bytes());
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        fs::create_dir(dir.path().join("taken")).unwrap();
        replace(&dir.path().join("taken"), b"x", 0o600, Lasts::UntilBoot).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_temporary_file_is_gone_unless_it_got_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let opened = File::open(dir.path()).unwrap();
        let create = |name: &str| Temporary::create(opened.as_fd(), name, 0o600);
        drop(create("dropped").unwrap());
        let mut kept = create("new").unwrap();
        kept.write_all(b"text").unwrap();
        let taken = create("new").unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        kept.commit(CWD, dir.path().join("name")).unwrap();
        create("other")
            .unwrap()
            .commit(CWD, dir.path())
            .unwrap_err();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read(dir.path().join("name")).unwrap(), b"text");
    }

    #[test]
    fn only_plain_files_within_the_bound_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "1234").unwrap();
        assert_eq!(read_bounded(&file, 4).unwrap().unwrap(), b"1234");
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(read_linked(&link, 4).unwrap().unwrap(), b"1234");
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        for (path, max, why) in [
            (&file, 3, "is longer than 3 bytes"),
            (&link, 4, "is a symbolic link"),
            (&fifo, 4, "is not a plain file"),
            (&dir.path().to_owned(), 4, "is not a plain file"),
        ] {
            let error = read_bounded(path, max).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{path:?}");
            assert_eq!(error.to_string(), why);
        }
        assert!(read_bounded(&dir.path().join("none"), 4).unwrap().is_none());
        assert!(read_linked(&file.join("below"), 4).unwrap().is_none());
    }
}
