//! The three threads that take in a layer.
//!
//! ```text
//! caller: reader ─▶ decompress ─▶ chunks ─▶ worker: [hash] ─▶ untar, or [write archive] ─▶ index
//!              └──▶ pieces ─▶ writer: [hash, write blob]
//! ```
//! A few chunks are all that is in memory. When several things are wrong at once, the error is the
//! cause: a content that is not the descriptor's is reported as that, not as a damaged archive.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::ScopedJoinHandle;

use image::{Descriptor, Digest, Hasher};

use super::decompress::{Decoder, detect};
use crate::Store;
use crate::archive::Archive;
use crate::blob::BlobWriter;
use crate::error::{Error, LayerError, Result};
use crate::extract::{EntryFlaw, Extractor, Indexed, Indexer, Unpacked};
use crate::layout::{Layout, TempFile};
use crate::limits::Limits;

/// Bytes read at once.
const READ: usize = 128 << 10;
/// Bytes of a chunk between the threads.
const CHUNK: usize = 256 << 10;
/// Chunks on their way.
const CHUNKS: usize = 4;

/// Takes in a layer: the verified blob (if `keep`), not yet in place, and what `work` makes of the uncompressed
/// archive: [`check`], [`unpack`] or [`index`].
pub(super) fn run<'a, T: Send>(
    store: &'a Store,
    descriptor: &'a Descriptor,
    diff_id: &Digest,
    reader: impl Read,
    keep: bool,
    work: impl FnOnce(Chunks<'_>) -> Worked<T> + Send,
) -> Result<(Option<TempFile<'a>>, T)> {
    let (layout, limits) = (store.layout(), store.limits());
    let blob = BlobWriter::create(layout, descriptor, keep)?;
    let outcome = std::thread::scope(|scope| {
        let (to_worker, chunks) = sync_channel(CHUNKS);
        let (give_chunk, spare_chunks) = channel();
        let (to_blob, pieces) = sync_channel(CHUNKS);
        let (give_piece, spare_pieces) = channel();
        let hasher = diff_id.algorithm().hasher();
        let worker = scope.spawn(move || work(Chunks::new(chunks, give_chunk, hasher)));
        let writer = scope.spawn(move || write_blob(blob, pieces, give_piece));
        let mut tee = Tee::new(reader, descriptor, to_blob, spare_pieces);
        let sent = decompress(&mut tee, descriptor, limits, to_worker, spare_chunks);
        let worked = join(worker);
        let layer = first_error(sent, worked);
        // Whether the content is the right one matters unless the error has nothing to do with it.
        if !matches!(&layer, Err(error) if is_local(error)) {
            tee.drain();
        }
        let source = tee.failure.take();
        drop(tee);
        Outcome {
            layer,
            source,
            blob: join(writer),
        }
    });
    outcome.judge(descriptor, diff_id)
}

/// A panic of a thread of the pipeline goes on in its caller.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// How sending ended.
enum Sent {
    All,
    /// The worker has given up.
    Refused,
    Failed(LayerError),
}

/// The digest of the archive, and what was made of it.
pub(super) type Worked<T> = Result<(Digest, T), LayerError>;

fn first_error<T>(sent: Sent, worked: Worked<T>) -> Worked<T> {
    match sent {
        Sent::All | Sent::Refused => worked,
        Sent::Failed(error) => Err(error),
    }
}

/// Whether an error is about this host or its limits, whatever the content is.
fn is_local(error: &LayerError) -> bool {
    matches!(
        error,
        LayerError::Limit { .. }
            | LayerError::Write { .. }
            | LayerError::Entry {
                flaw: EntryFlaw::Io { .. },
                ..
            }
    )
}

/// What the threads found.
struct Outcome<'a, T> {
    layer: Worked<T>,
    source: Option<Error>,
    blob: Result<Option<TempFile<'a>>>,
}

impl<'a, T> Outcome<'a, T> {
    /// The result, or of several errors the one that caused the others.
    fn judge(self, descriptor: &Descriptor, diff_id: &Digest) -> Result<(Option<TempFile<'a>>, T)> {
        let layer = |source| Error::Layer {
            layer: descriptor.digest.clone(),
            source,
        };
        match (self.source, self.blob, self.layer) {
            (Some(error), _, _) => Err(error),
            (None, Err(Error::Io { op, source, .. }), _) => {
                Err(layer(LayerError::Write { op, source }))
            }
            (None, _, Err(error)) if is_local(&error) => Err(layer(error)),
            (None, Err(error), _) => Err(error),
            (None, Ok(_), Err(error)) => Err(layer(error)),
            (None, Ok(blob), Ok((actual, made))) if actual == *diff_id => Ok((blob, made)),
            (None, Ok(_), Ok((actual, _))) => Err(layer(LayerError::DiffId {
                expected: diff_id.clone(),
                actual,
            })),
        }
    }
}

/// Hashes and writes the compressed bytes.
fn write_blob<'a>(
    mut blob: BlobWriter<'a>,
    pieces: Receiver<Arc<Vec<u8>>>,
    give_back: Sender<Arc<Vec<u8>>>,
) -> Result<Option<TempFile<'a>>> {
    for piece in pieces {
        blob.push(&piece)?;
        // The other end may have all that it wants.
        let _ = give_back.send(piece);
    }
    blob.finish()
}

fn decompress<R: Read>(
    tee: &mut Tee<'_, R>,
    descriptor: &Descriptor,
    limits: &Limits,
    to_worker: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
) -> Sent {
    let magic = match tee.peek() {
        Ok(magic) => magic,
        Err(e) => return Sent::Failed(LayerError::Decompress(e)),
    };
    let compression = match detect(&descriptor.media_type, magic) {
        Ok(compression) => compression,
        Err(error) => return Sent::Failed(error),
    };
    let mut decoder = match Decoder::new(compression, tee) {
        Ok(decoder) => decoder,
        Err(e) => return Sent::Failed(LayerError::Decompress(e)),
    };
    let mut total = 0u64;
    loop {
        let mut chunk = spare
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        if let Err(e) = fill(&mut decoder, &mut chunk, CHUNK) {
            return Sent::Failed(LayerError::Decompress(e));
        }
        if chunk.is_empty() {
            return Sent::All;
        }
        total += chunk.len() as u64;
        if let Err(error) = check_limits(total, descriptor.size, limits) {
            return Sent::Failed(error);
        }
        if to_worker.send(chunk).is_err() {
            return Sent::Refused;
        }
    }
}

/// Fills a chunk, less only at the end of the stream.
fn fill(reader: &mut impl Read, chunk: &mut Vec<u8>, size: usize) -> io::Result<()> {
    chunk.resize(size, 0);
    let mut filled = 0;
    while filled < size {
        match reader.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    chunk.truncate(filled);
    Ok(())
}

fn check_limits(total: u64, compressed: u64, limits: &Limits) -> Result<(), LayerError> {
    if total > limits.unpacked_bytes {
        return Err(LayerError::Limit {
            what: "unpacked bytes",
            max: limits.unpacked_bytes,
        });
    }
    if total > limits.ratio_from && total / compressed.max(1) > limits.ratio {
        return Err(LayerError::Limit {
            what: "unpacked bytes for each compressed one",
            max: limits.ratio,
        });
    }
    Ok(())
}

/// The digest, and nothing else.
pub(super) fn check(stream: Chunks<'_>) -> Worked<()> {
    Ok((stream.digest_of_rest()?, ()))
}

/// The archive's entries below a directory.
pub(super) fn unpack(
    stream: Chunks<'_>,
    layout: &Layout,
    root: BorrowedFd<'_>,
    limits: &Limits,
) -> Worked<Unpacked> {
    let mut archive = Archive::new(stream);
    let unpacked = Extractor::new(layout, root, limits).run(&mut archive)?;
    // What follows the end of the archive counts for its digest.
    let digest = archive.into_source().digest_of_rest()?;
    Ok((digest, unpacked))
}

/// The archive as it is, in a file that was empty, and its entries in the tree of an index.
pub(super) fn index(stream: Chunks<'_>, file: &File, limits: &Limits) -> Worked<Indexed> {
    let mut archive = Archive::new(Chunks {
        chunks: stream.chunks,
        give_back: stream.give_back,
        hasher: stream.hasher,
        chunk: stream.chunk,
        read: stream.read,
        copy: Some(file),
        failure: None,
    });
    let indexed = Indexer::new(limits).run(&mut archive);
    let mut rest = archive.into_source();
    // A disk that is full looks to the reader of the archive like one that ends.
    if let Some(source) = rest.failure.take() {
        return Err(written(source));
    }
    let indexed = indexed?;
    Ok((rest.digest_of_rest()?, indexed))
}

fn written(source: io::Error) -> LayerError {
    let op = "write the archive";
    LayerError::Write { op, source }
}

/// The worker's end of the chunks: hashes each when it arrives, and copies it.
pub(super) struct Chunks<'a> {
    chunks: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
    hasher: Hasher,
    chunk: Vec<u8>,
    read: usize,
    copy: Option<&'a File>,
    /// Why there is no copy.
    failure: Option<io::Error>,
}

impl Chunks<'_> {
    fn new(
        chunks: Receiver<Vec<u8>>,
        give_back: Sender<Vec<u8>>,
        hasher: Hasher,
    ) -> Chunks<'static> {
        Chunks {
            chunks,
            give_back,
            hasher,
            chunk: Vec::new(),
            read: 0,
            copy: None,
            failure: None,
        }
    }

    fn advance(&mut self) {
        let old = std::mem::take(&mut self.chunk);
        if old.capacity() > 0 {
            // The other end is gone when all has been sent.
            let _ = self.give_back.send(old);
        }
        self.read = 0;
        let Ok(chunk) = self.chunks.recv() else {
            return;
        };
        self.hasher.update(&chunk);
        let copied = self.copy.map_or(Ok(()), |mut copy| copy.write_all(&chunk));
        match copied {
            Ok(()) => self.chunk = chunk,
            Err(error) => self.failure = Some(error),
        }
    }

    fn digest_of_rest(mut self) -> Result<Digest, LayerError> {
        loop {
            self.advance();
            if let Some(source) = self.failure {
                return Err(written(source));
            }
            if self.chunk.is_empty() {
                return Ok(self.hasher.finish());
            }
        }
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Chunks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.chunk.len() {
            self.advance();
        }
        Ok(&self.chunk[self.read..])
    }

    fn consume(&mut self, length: usize) {
        self.read += length;
    }
}

/// The compressed stream: every byte read of it goes to the blob's thread as well.
struct Tee<'a, R> {
    reader: R,
    descriptor: &'a Descriptor,
    to_blob: SyncSender<Arc<Vec<u8>>>,
    spare: Receiver<Arc<Vec<u8>>>,
    buffer: Arc<Vec<u8>>,
    read: usize,
    /// Bytes read from the source.
    total: u64,
    /// The real error behind what the decompressor was told.
    failure: Option<Error>,
}

impl<'a, R: Read> Tee<'a, R> {
    fn new(
        reader: R,
        descriptor: &'a Descriptor,
        to_blob: SyncSender<Arc<Vec<u8>>>,
        spare: Receiver<Arc<Vec<u8>>>,
    ) -> Tee<'a, R> {
        let buffer = Arc::default();
        Tee {
            reader,
            descriptor,
            to_blob,
            spare,
            buffer,
            read: 0,
            total: 0,
            failure: None,
        }
    }

    /// The first bytes, fewer than a buffer only when there are no more.
    fn peek(&mut self) -> io::Result<&[u8]> {
        self.fill_buf()
    }

    /// Replaces the buffer, which was read, by the next one; empty at the end.
    fn advance(&mut self) -> io::Result<()> {
        self.buffer = Arc::default();
        self.read = 0;
        let spare = self.spare.try_recv().ok().and_then(Arc::into_inner);
        let mut buffer = spare.unwrap_or_default();
        let filled = fill(&mut self.reader, &mut buffer, READ);
        self.total += buffer.len() as u64;
        let digest = || self.descriptor.digest.clone();
        if let Err(source) = filled {
            let digest = digest();
            return Err(self.fail(Error::BlobRead { digest, source }));
        }
        if self.total > self.descriptor.size {
            let (digest, expected, actual) = (digest(), self.descriptor.size, self.total);
            return Err(self.fail(Error::SizeMismatch {
                digest,
                expected,
                actual,
            }));
        }
        self.buffer = Arc::new(buffer);
        // When the blob's thread has given up, its own error says why.
        match self.buffer.is_empty() || self.to_blob.send(Arc::clone(&self.buffer)).is_ok() {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn fail(&mut self, error: Error) -> io::Error {
        let told = io::Error::other(error.to_string());
        self.failure.get_or_insert(error);
        told
    }

    /// Reads what the decompressor left, so that the whole blob is hashed.
    fn drain(&mut self) {
        while self.failure.is_none() && self.advance().is_ok() && !self.buffer.is_empty() {}
    }
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Tee<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.buffer.len() {
            self.advance()?;
        }
        Ok(&self.buffer[self.read..])
    }

    fn consume(&mut self, length: usize) {
        self.read += length;
    }
}
