//! Temporary files and directories: private, beside what they become, and gone when nobody wants
//! them any more.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::file::Temporary;
use base::lock;
use rustix::fs::{CWD, Mode, OFlags};
use tempfile::TempDir;

use crate::error::{Error, Result};

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Chooses where large temporary files of this process go. Only the first choice counts.
pub fn set_temporary_dir(dir: PathBuf) {
    // A second choice is not taken, as its files would be in two places.
    let _ = CHOSEN.set(dir);
}

/// Large things go here, as images do not fit on many a tmpfs: the place that was chosen,
/// `$TMPDIR`, or else `/var/tmp`.
pub(crate) fn place() -> PathBuf {
    if let Some(dir) = CHOSEN.get() {
        return dir.clone();
    }
    env::var_os("TMPDIR")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Private directories begin so.
const PREFIX: &str = ".floe-copy-";

/// A private directory, gone with all in it when dropped. As long as its process lives it is locked: the
/// next one removes those of processes that were killed.
#[derive(Debug)]
pub struct PrivateDir {
    dir: TempDir,
    _lock: File,
}

impl PrivateDir {
    /// Makes one where large temporary files go.
    pub fn new() -> Result<PrivateDir> {
        dir()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A new private directory.
pub(crate) fn dir() -> Result<PrivateDir> {
    let place = place();
    sweep_dirs(&place);
    let failed = |e| Error::io("create a directory in", &place)(e);
    loop {
        let dir = TempDir::with_prefix_in(PREFIX, &place).map_err(failed)?;
        let lock = File::open(dir.path()).map_err(failed)?;
        // Somebody may have taken it for a dead one's before it was locked.
        if locked(&lock) && is_still(&lock, dir.path()) {
            return Ok(PrivateDir { dir, _lock: lock });
        }
    }
}

/// Removes the private directories of processes that were killed. What cannot be removed stays.
fn sweep_dirs(place: &Path) {
    let mine = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(dir) = rustix::fs::open(entry.path(), flags, Mode::empty()).map(File::from) else {
            continue;
        };
        let owned = dir.metadata().is_ok_and(|found| found.uid() == mine);
        if owned && locked(&dir) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Locks a file or directory that nobody else has locked. Where nothing can be locked, everything is.
fn locked(file: &File) -> bool {
    lock::within(file, lock::Kind::Exclusive, Duration::ZERO).unwrap_or(true)
}

fn is_still(file: &File, path: &Path) -> bool {
    lock::is_at(file, path).unwrap_or(false)
}

/// A new file without a name.
pub(crate) fn nameless() -> Result<File> {
    let place = place();
    tempfile::tempfile_in(&place).map_err(Error::io("create a file in", place))
}

/// A file beside what it is to become, gone when dropped before that. As long as its process lives it is
/// locked: the next one removes those of processes that were killed ([`sweep`]).
#[derive(Debug)]
pub(crate) struct Beside(Temporary<'static>);

impl Beside {
    pub(crate) fn create(target: &Path) -> Result<Beside> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().unwrap_or_default();
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let mut temp = std::ffi::OsString::from(".");
            temp.push(name);
            temp.push(format!(".{}-{number}.tmp", std::process::id()));
            let path = target.with_file_name(temp);
            let file = match Temporary::create(CWD, &path, 0o666) {
                // Of a process with this number, or swept this moment.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(Error::io("create", &path))?,
            };
            if locked(file.file()) && is_still(file.file(), &path) {
                return Ok(Beside(file));
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.name()
    }

    pub(crate) fn file(&self) -> &File {
        self.0.file()
    }

    /// Gives it its name, in place of what has it.
    pub(crate) fn finish(self, target: &Path) -> Result<()> {
        self.0
            .commit(CWD, target)
            .map_err(Error::io("rename", target))
    }
}

/// Removes what killed processes left in `dir` of files that were to become `name`, or any. What cannot be
/// removed stays.
pub(crate) fn sweep(dir: &Path, name: Option<&std::ffi::OsStr>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let found = entry.file_name();
        if !is_temporary(found.as_bytes(), name.map(std::ffi::OsStr::as_bytes)) {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(entry.path(), flags, Mode::empty()).map(File::from) else {
            continue;
        };
        if file.metadata().is_ok_and(|found| found.is_file()) && locked(&file) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a name is `.NAME.PID-NUMBER.tmp`.
fn is_temporary(found: &[u8], name: Option<&[u8]>) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let parts = || {
        let rest = found.strip_prefix(b".")?.strip_suffix(b".tmp")?;
        let dot = rest.iter().rposition(|byte| *byte == b'.')?;
        let dash = rest[dot..].iter().position(|byte| *byte == b'-')? + dot;
        let (stem, pid, number) = (&rest[..dot], &rest[dot + 1..dash], &rest[dash + 1..]);
        Some(digits(pid) && digits(number) && name.is_none_or(|name| name == stem))
    };
    parts().unwrap_or(false)
}

/// Gives `path` this content at once or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temp = Beside::create(path)?;
    let mut file = temp.file();
    file.write_all(bytes)
        .and_then(|()| file.sync_data())
        .map_err(Error::io("write", temp.path()))?;
    temp.finish(path)
}
