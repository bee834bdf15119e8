//! The form of an archive with an index, `layers/N.erofs`: in `tar` the uncompressed archive as it is, and in
//! `index` an EROFS image of names and attributes that points into it (`erofs`).
//!
//! The index is made here and never taken from anywhere: it is what the kernel reads as a file system. Must never
//! be mounted from files of other processes' making.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use image::{Descriptor, Digest};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::add::Fresh;
use super::seal::{self, Seal};
use super::{Form, Home, Layer, Purpose, failed, pipeline, shared};
use crate::archive::Archive;
use crate::check::Flaw;
use crate::error::{Error, LayerError, Result};
use crate::extract::{Extractor, Index, Indexed, Indexer, Unpacked};
use crate::layout::{DIRECTORY, TempDir, TempFile};
use crate::sys::{MountAttr, mount_setattr};
use crate::{Store, Usage, tree};

/// The archive's name in the layer's directory.
pub(super) const TAR: &str = "tar";
/// The index's.
pub(super) const INDEX: &str = "index";

/// Bytes read at once.
const READ: usize = 256 << 10;
/// What files take on disk is a multiple of it.
const BLOCK: u64 = 4096;

/// A layer in `tmp/`, and its blob; unpacked where the format has no place for it.
pub(super) fn make<'a>(
    store: &'a Store,
    descriptor: &'a Descriptor,
    diff_id: &Digest,
    reader: impl Read,
    keep: bool,
) -> Result<(Option<TempFile<'a>>, Fresh<'a>)> {
    let dir = TempDir::create(store.layout())?;
    let failed = |source| Error::Layer {
        layer: descriptor.digest.clone(),
        source,
    };
    let tar = create(dir.fd(), TAR).map_err(failed)?;
    let work = |stream: pipeline::Chunks<'_>| pipeline::index(stream, &tar, store.limits());
    let (blob, indexed) = pipeline::run(store, descriptor, diff_id, reader, keep, work)?;
    let why = match indexed {
        Indexed::Whole(index) => match write_index(dir.fd(), &tar, index).map_err(failed)? {
            Written::Facts(facts) => {
                // Nobody may have it open for writing.
                drop(tar);
                let seal = seal(store, dir.fd()).map_err(failed)?;
                let form = Form::Erofs;
                let fresh = Fresh {
                    dir,
                    form,
                    facts,
                    seal,
                };
                return Ok((blob, fresh));
            }
            Written::Unfit(why) => why,
        },
        Indexed::Unfit(why) => why,
    };
    tracing::info!("store: layer {diff_id} is unpacked: {why}");
    let fresh = unpack(store, tar).map_err(|error| match error {
        Unpacking::Layer(source) => failed(source),
        Unpacking::Store(error) => error,
    })?;
    Ok((blob, fresh))
}

/// What became of an index.
enum Written {
    Facts(Unpacked),
    /// The format has no place for something.
    Unfit(String),
}

/// Why an archive was not unpacked.
enum Unpacking {
    Layer(LayerError),
    Store(Error),
}

fn seal(store: &Store, dir: BorrowedFd<'_>) -> Result<Option<Seal>, LayerError> {
    store.0.form.seals.seal(dir).map_err(|errno| {
        let op = "seal the archive";
        let source = errno.into();
        LayerError::Write { op, source }
    })
}

fn write_index(dir: BorrowedFd<'_>, tar: &File, index: Index) -> Result<Written, LayerError> {
    let bytes = length(tar)?;
    let mut file = create(dir, INDEX)?;
    let summary = match erofs::write(&index.tree, bytes, &mut file) {
        Ok(summary) => summary,
        Err(erofs::Error::Write(source)) => {
            let op = "write the index";
            return Err(LayerError::Write { op, source });
        }
        Err(unfit) => return Ok(Written::Unfit(unfit.to_string())),
    };
    let on_disk = |bytes: u64| bytes.div_ceil(BLOCK) * BLOCK;
    Ok(Written::Facts(Unpacked {
        usage: Usage {
            bytes: BLOCK + on_disk(bytes) + on_disk(summary.bytes),
            // The directory and its two files.
            inodes: 3,
        },
        opaque: index.opaque,
        omissions: index.omissions,
        implied: index.implied,
    }))
}

/// Unpacks an archive whose digest is right.
fn unpack(store: &Store, mut tar: File) -> Result<Fresh<'_>, Unpacking> {
    let dir = TempDir::create(store.layout()).map_err(Unpacking::Store)?;
    let read = |source| Unpacking::Layer(LayerError::Decompress(source));
    tar.rewind().map_err(read)?;
    let mut archive = Archive::new(BufReader::with_capacity(READ, tar));
    let extractor = Extractor::new(store.layout(), dir.fd(), store.limits());
    let facts = extractor.run(&mut archive).map_err(Unpacking::Layer)?;
    let form = Form::Directory;
    Ok(Fresh {
        dir,
        form,
        facts,
        seal: None,
    })
}

fn create(dir: BorrowedFd<'_>, name: &str) -> Result<File, LayerError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok(file.into()),
        Err(errno) => Err(LayerError::Write {
            op: "create a file of the layer",
            source: errno.into(),
        }),
    }
}

fn length(file: &File) -> Result<u64, LayerError> {
    let metadata = file.metadata().map_err(|source| LayerError::Write {
        op: "stat the archive",
        source,
    })?;
    Ok(metadata.len())
}

pub(super) fn open(layer: &Layer, purpose: Purpose<'_>) -> Result<OwnedFd> {
    match purpose {
        Purpose::Directory => match shared::there(layer) {
            Some(root) => Ok(root),
            None => shared::root_of(&mount(layer)?).map_err(failed("open", layer)),
        },
        Purpose::Mount { ids } => mount_with(layer, ids),
        Purpose::Image => Err(Error::Unsupported {
            what: format!("layer {} as an image file", layer.diff_id()),
            why: "it is an archive and an index of it".to_owned(),
        }),
    }
}

fn mount_with(layer: &Layer, ids: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = match shared::there(layer) {
        Some(root) => open_tree(&root, c"", flags).map_err(failed("clone the mount of", layer))?,
        None => mount(layer)?,
    };
    match mount_setattr(tree.as_fd(), &MountAttr::private_read_only(ids)) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) if ids.is_some() => Err(Error::Unsupported {
            what: format!("layer {} as a mount with other ids", layer.diff_id()),
            why: "this kernel maps none of it".to_owned(),
        }),
        other => other
            .map(|()| tree)
            .map_err(failed("set the attributes of a mount of", layer)),
    }
}

/// A mount of it that is nowhere. Errors with [`Error::Unsupported`] where the kernel mounts no files.
pub(super) fn mount(layer: &Layer) -> Result<OwnedFd> {
    let dir = directory(layer)?;
    shared::mount_files(dir.as_fd(), &layer.path()).map_err(|errno| match errno {
        errno if shared::is_lacking(errno) => Error::Unsupported {
            what: format!("layer {} in the form {}", layer.diff_id(), Form::Erofs),
            why: format!(
                "the kernel does not mount it ({errno}): floe system convert makes it one that is unpacked"
            ),
        },
        errno => failed("mount", layer)(errno),
    })
}

/// Its directory in the store.
fn directory(layer: &Layer) -> Result<OwnedFd> {
    let opened = match layer.home() {
        Home::Here => {
            let layers = layer.store().layout().layers();
            openat(layers, layer.name(), DIRECTORY, Mode::empty())
        }
        Home::Additional(_) => openat(CWD, layer.path(), DIRECTORY, Mode::empty()),
    };
    opened.map_err(failed("open", layer))
}

pub(super) fn usage(layer: &Layer) -> Result<Usage> {
    let directory = directory(layer)?;
    tree::usage(directory.as_fd()).map_err(failed("walk", layer))
}

pub(super) fn owner(layer: &Layer) -> Result<(u32, u32, u32)> {
    let root = open(layer, Purpose::Directory)?;
    let stat = fstat(&root).map_err(failed("stat", layer))?;
    Ok((stat.st_mode, stat.st_uid, stat.st_gid))
}

/// The archive, and its bytes.
pub(super) fn archive(layer: &Layer) -> Result<(File, u64)> {
    let directory = directory(layer)?;
    let file = plain(directory.as_fd(), TAR).map_err(failed("open the archive of", layer))?;
    let metadata = file.metadata();
    let length = metadata.map_err(Error::io("stat the archive of", layer.path()))?;
    Ok((file, length.len()))
}

/// The archive from a byte on.
pub(super) fn tar(layer: &Layer, from: u64) -> Result<File> {
    let (mut file, length) = archive(layer)?;
    let failed = Error::io("read the archive of", layer.path());
    if from > length {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    match file.seek(SeekFrom::Start(from)) {
        Ok(_) => Ok(file),
        Err(error) => Err(failed(error)),
    }
}

/// A file of it, whatever lies there.
fn plain(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(Errno::LOOP),
    }
}

/// Whether both files are there.
pub(crate) fn quick_flaw(dir: BorrowedFd<'_>) -> Option<Flaw> {
    for name in [TAR, INDEX] {
        match plain(dir, name) {
            Ok(_) => {}
            Err(Errno::NOENT) => return Some(Flaw::Missing),
            Err(Errno::LOOP) => return Some(Flaw::Kind),
            Err(errno) => return Some(Flaw::Read(errno.to_string())),
        }
    }
    None
}

/// Whether the files of a layer are those that were sealed, if they were.
pub(crate) fn seal_flaw(layer: &Layer) -> Result<Option<Flaw>> {
    let Some(seal) = layer.seal() else {
        return Ok(None);
    };
    let dir = directory(layer)?;
    let flaw = match seal::measured(dir.as_fd()) {
        Ok(Some(measured)) if measured == seal => None,
        Ok(_) => Some(Flaw::Seal),
        Err(errno) => Some(Flaw::Read(errno.to_string())),
    };
    Ok(flaw)
}

/// What is wrong with a layer: the archive is read against its digest, and the index made again.
pub(super) fn flaw(layer: &Layer) -> Result<Option<Flaw>> {
    let dir = match directory(layer) {
        Ok(dir) => dir,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(Flaw::Missing));
        }
        Err(error) => return Ok(Some(Flaw::Read(error.to_string()))),
    };
    if let Some(flaw) = quick_flaw(dir.as_fd()) {
        return Ok(Some(flaw));
    }
    if let Some(flaw) = seal_flaw(layer)? {
        return Ok(Some(flaw));
    }
    let read = || {
        if layer.seal().is_some() {
            // They are the files whose digest was right: the kernel says of each byte whether it still is.
            for name in [TAR, INDEX] {
                read_all(&mut plain(dir.as_fd(), name)?, |_| {})?;
            }
            return Ok(None);
        }
        let mut tar = plain(dir.as_fd(), TAR)?;
        if !has_digest(&mut tar, layer.diff_id())? {
            return Ok(Some(Flaw::Digest));
        }
        tar.rewind()?;
        let mut index = Compared {
            file: BufReader::with_capacity(READ, plain(dir.as_fd(), INDEX)?),
            same: true,
        };
        let same = match index_again(tar, layer.store(), &mut index)? {
            true => index.finish()?,
            false => false,
        };
        Ok((!same).then(|| Flaw::Differs(INDEX.to_owned())))
    };
    Ok(read().unwrap_or_else(|error: io::Error| Some(Flaw::Read(error.to_string()))))
}

fn has_digest(file: &mut File, digest: &Digest) -> io::Result<bool> {
    let mut hasher = digest.algorithm().hasher();
    read_all(file, |bytes| hasher.update(bytes))?;
    Ok(hasher.finish() == *digest)
}

fn read_all(file: &mut File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut chunk = vec![0; READ];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => each(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes the index of an archive; `false` when it has none.
fn index_again(tar: File, store: &Store, out: &mut impl Write) -> io::Result<bool> {
    let bytes = tar.metadata()?.len();
    let mut archive = Archive::new(BufReader::with_capacity(READ, tar));
    match Indexer::new(store.limits()).run(&mut archive) {
        Ok(Indexed::Whole(index)) => match erofs::write(&index.tree, bytes, out) {
            Ok(_) => Ok(true),
            Err(erofs::Error::Write(error)) => Err(error),
            Err(_) => Ok(false),
        },
        Ok(Indexed::Unfit(_)) | Err(_) => Ok(false),
    }
}

/// A file that is compared with what is written here.
struct Compared {
    file: BufReader<File>,
    same: bool,
}

impl Compared {
    /// Whether all was the same, and the file ends here.
    fn finish(mut self) -> io::Result<bool> {
        Ok(self.same && self.file.read(&mut [0])? == 0)
    }
}

impl Write for Compared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        match self.file.read_exact(&mut there) {
            Ok(()) => self.same &= there == bytes,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.same = false,
            Err(error) => return Err(error),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tries whether layers can have this form in the store; nothing stays.
pub(super) fn probe(store: &Store) -> Result<()> {
    let dir = TempDir::create(store.layout())?;
    let path = store.root().join("tmp");
    let make = || -> Result<(), LayerError> {
        let mut tar = create(dir.fd(), TAR)?;
        let written = tar.write_all(&[0; 1024]);
        let op = "write the archive";
        written.map_err(|source| LayerError::Write { op, source })?;
        let mut archive = Archive::new(BufReader::new(io::empty()));
        if let Indexed::Whole(index) = Indexer::new(store.limits()).run(&mut archive)? {
            write_index(dir.fd(), &tar, index)?;
        }
        Ok(())
    };
    make().map_err(|error| Error::Unsupported {
        what: format!("a layer in the form {}", Form::Erofs),
        why: error.to_string(),
    })?;
    match shared::mount_files(dir.fd(), &dir.path()) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Error::sys("mount a file as a layer in", path)(errno)),
    }
}
