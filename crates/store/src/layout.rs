//! The store's directory: what lies where, half-made things, and the one way to write a file.
//!
//! ```text
//! oci-layout, index.json     OCI image layout (image-spec image-layout.md), readable by any OCI tool
//! index.lock                 flock(2)ed while index.json is rewritten
//! blobs/sha256/HEX           manifests, configs, compressed layers
//! layers/N/                  an unpacked layer, an overlay lower directory (short: option strings are)
//! layers/N.erofs/{tar,index} a layer as its archive, and an image of EROFS that points into it
//! mounted/N/                 where such a layer is mounted, for as long as a container stands on it
//! containers/ID/{upper,work} writable layers, and in `layers` what each stands on
//! records/N                  what the layer N is, should the database be lost
//! mounts/NAME/               root file systems that are mounted for a person or a builder
//! reserve                    space for removing on a full disk
//! meta.sqlite                what is ready, named and used
//! tmp/OWNER-N                half-made or half-removed, by a process that still runs or is dead
//! ```
//! A thing is made in `tmp/` and renamed when it is complete; when it is on disk for good is the
//! business of `settle`. Must never touch what a living process has in `tmp/`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::file::Temporary;
use base::lock;
use image::{Algorithm, Digest};
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, mkdirat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::tree;

/// Flags for directories that are only paths to others.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The name in `layers/` of a directory that is always empty; the ids of layers begin at 1.
pub(crate) const EMPTY_LAYER: &str = "0";

/// The content of `oci-layout`.
pub(crate) const OCI_LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

/// One for the process: several handles may be open on one store.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Open directories of a store.
#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    owner: Owner,
    root: OwnedFd,
    tmp: OwnedFd,
    sha256: OwnedFd,
    sha512: OwnedFd,
    layers: OwnedFd,
    containers: OwnedFd,
    /// None in a store of an earlier version on a disk that is full.
    records: Option<OwnedFd>,
    /// The file system cannot be written.
    read_only: bool,
}

impl Layout {
    /// Opens the store's directories, making what is missing. A new root is for root only: image
    /// files may be set-uid.
    pub(crate) fn open(path: &Path) -> Result<Layout> {
        let path = std::path::absolute(path).map_err(Error::io("resolve", path))?;
        let mut builder = std::fs::DirBuilder::new();
        let builder = std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .recursive(true)
            .create(&path)
            .map_err(Error::io("create", &path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &path, flags, Mode::empty()).map_err(Error::sys("open", &path))?;
        let sub = |name: &str| directory(root.as_fd(), &path, name);
        let blobs = sub("blobs")?;
        let writable = accessat(&root, ".", Access::WRITE_OK, AtFlags::empty());
        let layout = Layout {
            read_only: writable == Err(Errno::ROFS),
            records: sub("records").ok(),
            owner: Owner::current()?,
            tmp: sub("tmp")?,
            sha256: directory(blobs.as_fd(), &path, "sha256")?,
            sha512: directory(blobs.as_fd(), &path, "sha512")?,
            layers: sub("layers")?,
            containers: sub("containers")?,
            root,
            path,
        };
        let layers = layout.path.join("layers");
        match mkdirat(&layout.layers, EMPTY_LAYER, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::sys("create", layers.join(EMPTY_LAYER))(e)),
        }
        Ok(layout)
    }

    /// Whether the file system cannot be written: what is there can be used, and nothing changed.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether there is nothing in the store, nor ever was.
    pub(crate) fn is_fresh(&self) -> Result<bool> {
        let failed = |errno| Error::sys("read the directories of", &self.path)(errno);
        let index = statat(&self.root, "index.json", AtFlags::SYMLINK_NOFOLLOW);
        if index.is_ok() && !self.is_listed_empty() {
            return Ok(false);
        }
        for dir in [&self.sha256, &self.sha512, &self.containers] {
            if !tree::names(dir.as_fd()).map_err(failed)?.is_empty() {
                return Ok(false);
            }
        }
        let layers = tree::names(self.layers()).map_err(failed)?;
        Ok(layers
            .iter()
            .all(|name| name.to_bytes() == EMPTY_LAYER.as_bytes()))
    }

    fn is_listed_empty(&self) -> bool {
        crate::index::written(self).is_some_and(|index| index.manifests.is_empty())
    }

    /// The root as an absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// This process.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn tmp(&self) -> BorrowedFd<'_> {
        self.tmp.as_fd()
    }

    /// The directory of the blobs whose digests are of this algorithm.
    pub(crate) fn blobs(&self, algorithm: Algorithm) -> BorrowedFd<'_> {
        match algorithm {
            Algorithm::Sha256 => self.sha256.as_fd(),
            Algorithm::Sha512 => self.sha512.as_fd(),
        }
    }

    pub(crate) fn layers(&self) -> BorrowedFd<'_> {
        self.layers.as_fd()
    }

    pub(crate) fn containers(&self) -> BorrowedFd<'_> {
        self.containers.as_fd()
    }

    /// The directory of what is written down of each layer.
    pub(crate) fn records(&self) -> Option<BorrowedFd<'_>> {
        self.records.as_ref().map(AsFd::as_fd)
    }

    /// Takes the lock of a file in the root, or errors with [`Error::Busy`] when another process has it
    /// for longer than `wait`.
    pub(crate) fn lock(&self, name: &'static str, wait: Duration) -> Result<OwnedFd> {
        let path = self.path.join(name);
        let file = self.lockable(name).map_err(Error::sys("open", &path))?;
        match lock::within(&file, lock::Kind::Exclusive, wait).map_err(Error::io("lock", &path))? {
            true => Ok(file),
            false => Err(Error::Busy {
                path,
                seconds: wait.as_secs(),
            }),
        }
    }

    /// A file, made if need be, or directory of the root, opened anew.
    fn lockable(&self, name: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(self.root(), name, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::ISDIR) => openat(self.root(), name, DIRECTORY, Mode::empty()),
            other => other,
        }
    }

    /// A lock that any number of processes may have, for as long as what it returns lives. Who cannot have
    /// it goes on without: it is a courtesy to others.
    pub(crate) fn lock_shared(&self, name: &'static str) -> Option<OwnedFd> {
        // Who has it alone only looks, and not for long.
        const PATIENCE: Duration = Duration::from_secs(2);
        let file = self.lockable(name).ok()?;
        let got = lock::within(&file, lock::Kind::Shared, PATIENCE).unwrap_or(false);
        got.then_some(file)
    }

    /// The containers that have a directory.
    pub(crate) fn container_ids(&self) -> Result<Vec<String>> {
        let path = self.path.join("containers");
        let names = tree::names(self.containers()).map_err(Error::sys("read", path))?;
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.collect())
    }

    /// The size of a blob's file; `None` when there is none.
    pub(crate) fn blob_length(&self, digest: &Digest) -> Option<u64> {
        let dir = self.blobs(digest.algorithm());
        let stat = statat(dir, digest.hex(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        file.then_some(u64::try_from(stat.st_size).ok())?
    }

    /// A name in `tmp/` that no one else has or had.
    pub(crate) fn temp_name(&self) -> String {
        format!("{}-{}", self.owner, COUNTER.fetch_add(1, Ordering::Relaxed))
    }

    /// The path of something in `tmp/`, for messages.
    pub(crate) fn temp_path(&self, name: &str) -> PathBuf {
        self.path.join("tmp").join(name)
    }

    /// Replaces a file of the root: readers see the old or the new. Not durable: both files that are
    /// written so can be made again, and are at the first open after a boot.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_in(self.root(), name, bytes, &self.path.join(name))
    }

    /// The same in any directory of the store. `path` is for messages.
    pub(crate) fn write_in(
        &self,
        dir: BorrowedFd<'_>,
        name: &str,
        bytes: &[u8],
        path: &Path,
    ) -> Result<()> {
        let mut temp = TempFile::create(self)?;
        temp.write_all(bytes)
            .map_err(Error::io("write", temp.path()))?;
        temp.commit(dir, name, path)
    }

    /// The names in `tmp/` of what dead processes left.
    pub(crate) fn left_behind(&self) -> Result<Vec<CString>> {
        let names = tree::names(self.tmp()).map_err(Error::sys("read", self.path.join("tmp")))?;
        let is_dead = |name: &CString| {
            let owner = name.to_str().ok().and_then(Owner::parse);
            owner.is_some_and(|owner| !owner.is_alive(&self.owner))
        };
        Ok(names.into_iter().filter(is_dead).collect())
    }
}

fn directory(parent: BorrowedFd<'_>, path: &Path, name: &str) -> Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(Error::sys("create", path.join(name))(e)),
    }
    openat(parent, name, DIRECTORY, Mode::empty()).map_err(Error::sys("open", path.join(name)))
}

/// A file in `tmp/`, removed on drop unless it was committed. What cannot be removed is the business of
/// the next gc after this process.
#[derive(Debug)]
pub(crate) struct TempFile<'a> {
    layout: &'a Layout,
    file: Temporary<'a>,
}

impl<'a> TempFile<'a> {
    pub(crate) fn create(layout: &'a Layout) -> Result<TempFile<'a>> {
        let name = layout.temp_name();
        let path = layout.temp_path(&name);
        let file =
            Temporary::create(layout.tmp(), name, 0o644).map_err(Error::io("create", path))?;
        Ok(TempFile { layout, file })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.layout.path.join("tmp").join(self.file.name())
    }

    pub(crate) fn file(&self) -> &File {
        self.file.file()
    }

    /// Gives the content its name in `dir`. `path` is for messages.
    pub(crate) fn commit(self, dir: BorrowedFd<'_>, name: &str, path: &Path) -> Result<()> {
        self.file
            .commit(dir, name)
            .map_err(Error::io("rename to", path))
    }
}

impl Write for TempFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory in `tmp/`, removed with all in it on drop unless it was committed.
#[derive(Debug)]
pub(crate) struct TempDir<'a> {
    layout: &'a Layout,
    name: String,
    fd: OwnedFd,
    committed: bool,
}

impl<'a> TempDir<'a> {
    /// An empty directory with mode 0755.
    pub(crate) fn create(layout: &'a Layout) -> Result<TempDir<'a>> {
        let name = layout.temp_name();
        let path = layout.temp_path(&name);
        mkdirat(layout.tmp(), &name, Mode::from_raw_mode(0o755))
            .map_err(Error::sys("create", &path))?;
        let opened = openat(layout.tmp(), &name, DIRECTORY, Mode::empty()).and_then(|fd| {
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
            Ok(fd)
        });
        match opened {
            Ok(fd) => Ok(TempDir {
                layout,
                name,
                fd,
                committed: false,
            }),
            Err(e) => {
                let _ = unlinkat(layout.tmp(), &name, AtFlags::REMOVEDIR);
                Err(Error::sys("open", path)(e))
            }
        }
    }

    /// A directory that was `name` in `whose`, a directory in `dir`. `path` is for messages.
    pub(crate) fn take(
        layout: &'a Layout,
        dir: BorrowedFd<'_>,
        whose: &str,
        name: &str,
        path: &Path,
    ) -> Result<TempDir<'a>> {
        let new = layout.temp_name();
        let take = || {
            let whose = openat(dir, whose, DIRECTORY, Mode::empty())?;
            let fd = openat(&whose, name, DIRECTORY, Mode::empty())?;
            renameat(&whose, name, layout.tmp(), &new)?;
            Ok(fd)
        };
        Ok(TempDir {
            layout,
            fd: take().map_err(Error::sys("take", path))?,
            name: new,
            committed: false,
        })
    }

    /// Its path, for messages and the kernel's own.
    pub(crate) fn path(&self) -> PathBuf {
        self.layout.temp_path(&self.name)
    }

    /// The directory itself.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Gives the directory its name in `dir`. `path` is for messages.
    pub(crate) fn commit(mut self, dir: BorrowedFd<'_>, name: &str, path: &Path) -> Result<()> {
        renameat(self.layout.tmp(), &self.name, dir, name)
            .map_err(Error::sys("rename to", path))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for TempDir<'_> {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        let name = CString::new(self.name.as_str());
        let removed = name
            .map_err(|_| Errno::INVAL)
            .and_then(|name| tree::remove(self.layout, self.layout.tmp(), &name));
        if let Err(e) = removed {
            tracing::warn!(path = %self.layout.temp_path(&self.name).display(), "half-made directory left for the next gc: {e}");
        }
    }
}
