//! The two threads that take in a layer.
//!
//! ```text
//! caller: reader ─▶ [hash, count, write blob] ─▶ decompress ─▶ chunks ─▶ worker: [hash] ─▶ untar
//! ```
//! A few chunks are all that is in memory. When several things are wrong at once, the error is the
//! cause: a content that is not the descriptor's is reported as that, not as a damaged archive.

use std::io::{self, BufRead, Read};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use image::{Descriptor, Digest, Hasher};

use super::decompress::{Decoder, MAGIC, detect};
use crate::Store;
use crate::archive::Archive;
use crate::blob::BlobWriter;
use crate::error::{Error, LayerError, Result};
use crate::extract::{EntryFlaw, Extractor, Unpacked};
use crate::layout::{Layout, TempFile};
use crate::limits::Limits;

/// Bytes read at once.
const READ: usize = 128 << 10;
/// Bytes of a chunk between the threads.
const CHUNK: usize = 256 << 10;
/// Chunks on their way.
const CHUNKS: usize = 4;
/// Up to here no ratio is too high: small files compress well.
const RATIO_FROM: u64 = 1 << 30;

/// What to make of the stream.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Keep the compressed bytes as a blob.
    pub keep: bool,
    /// Unpack the archive; otherwise its digest is only checked.
    pub unpack: bool,
}

/// Takes in a layer: the verified blob (if `keep`), not yet on disk nor in place, and what is below
/// `root` now (if given).
pub(super) fn run<'a>(
    store: &'a Store,
    descriptor: &'a Descriptor,
    diff_id: &Digest,
    reader: impl Read,
    keep: bool,
    root: Option<BorrowedFd<'_>>,
) -> Result<(Option<TempFile<'a>>, Option<Unpacked>)> {
    let layout = store.layout();
    let blob = BlobWriter::create(layout, descriptor, keep)?;
    let mut tee = Tee::new(reader, blob, descriptor);
    let (to_worker, chunks) = sync_channel::<Vec<u8>>(CHUNKS);
    let (give_back, spare) = channel::<Vec<u8>>();
    let (sent, worked) = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let stream = Chunks::new(chunks, give_back, diff_id.algorithm().hasher());
            work(stream, layout, root, store.limits())
        });
        let sent = decompress(&mut tee, descriptor, store.limits(), to_worker, spare);
        let worked = worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (sent, worked)
    });
    let layer = |source| Error::Layer {
        layer: descriptor.digest.clone(),
        source,
    };
    let (found, unpacked) = match first_error(sent, worked, &mut tee) {
        Ok(done) => done,
        Err(Failure::Local(error)) => return Err(layer(error)),
        // The content is at fault: is it the right content?
        Err(Failure::Content(error)) => {
            tee.drain()?;
            tee.blob.finish()?;
            return Err(layer(error));
        }
        Err(Failure::Source(error)) => return Err(error),
    };
    tee.drain()?;
    let blob = tee.blob.finish()?;
    if found != *diff_id {
        return Err(layer(LayerError::DiffId {
            expected: diff_id.clone(),
            actual: found,
        }));
    }
    Ok((blob, unpacked))
}

/// Whose fault an error is.
enum Failure {
    /// The reader failed or there was no space for the blob.
    Source(Error),
    /// The bytes are not a good layer.
    Content(LayerError),
    /// The layer could not be written, or exceeds a limit.
    Local(LayerError),
}

/// How sending ended.
enum Sent {
    All,
    /// The worker has given up.
    Refused,
    Failed(LayerError),
}

type Worked = Result<(Digest, Option<Unpacked>), LayerError>;

fn first_error<R: Read>(
    sent: Sent,
    worked: Worked,
    tee: &mut Tee<'_, R>,
) -> Result<(Digest, Option<Unpacked>), Failure> {
    if let Some(error) = tee.failure.take() {
        return Err(Failure::Source(error));
    }
    let error = match (sent, worked) {
        (Sent::All, Ok(done)) => return Ok(done),
        (Sent::Failed(error), _) | (_, Err(error)) => error,
        // The worker only gives up with an error.
        (Sent::Refused, Ok(done)) => return Ok(done),
    };
    let local = matches!(
        error,
        LayerError::Limit { .. }
            | LayerError::Write { .. }
            | LayerError::Entry {
                flaw: EntryFlaw::Io { .. },
                ..
            }
    );
    Err(if local {
        Failure::Local(error)
    } else {
        Failure::Content(error)
    })
}

fn decompress<R: Read>(
    tee: &mut Tee<'_, R>,
    descriptor: &Descriptor,
    limits: &Limits,
    to_worker: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
) -> Sent {
    let magic = match tee.peek(MAGIC) {
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
        if let Err(e) = fill(&mut decoder, &mut chunk) {
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
fn fill(reader: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.resize(CHUNK, 0);
    let mut filled = 0;
    while filled < CHUNK {
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
    if total > RATIO_FROM && total / compressed.max(1) > limits.ratio {
        return Err(LayerError::Limit {
            what: "unpacked bytes for each compressed one",
            max: limits.ratio,
        });
    }
    Ok(())
}

fn work(stream: Chunks, layout: &Layout, root: Option<BorrowedFd<'_>>, limits: &Limits) -> Worked {
    let Some(root) = root else {
        return Ok((stream.digest_of_rest(), None));
    };
    let mut archive = Archive::new(stream);
    let unpacked = Extractor::new(layout, root, limits).run(&mut archive)?;
    // What follows the end of the archive counts for its digest.
    Ok((archive.into_source().digest_of_rest(), Some(unpacked)))
}

/// The worker's end of the chunks: hashes each when it arrives.
struct Chunks {
    chunks: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
    hasher: Hasher,
    chunk: Vec<u8>,
    read: usize,
}

impl Chunks {
    fn new(chunks: Receiver<Vec<u8>>, give_back: Sender<Vec<u8>>, hasher: Hasher) -> Chunks {
        Chunks {
            chunks,
            give_back,
            hasher,
            chunk: Vec::new(),
            read: 0,
        }
    }

    fn advance(&mut self) {
        let old = std::mem::take(&mut self.chunk);
        if old.capacity() > 0 {
            // The other end is gone when all has been sent.
            let _ = self.give_back.send(old);
        }
        self.read = 0;
        if let Ok(chunk) = self.chunks.recv() {
            self.hasher.update(&chunk);
            self.chunk = chunk;
        }
    }

    fn digest_of_rest(mut self) -> Digest {
        loop {
            self.advance();
            if self.chunk.is_empty() {
                return self.hasher.finish();
            }
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Chunks {
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

/// The compressed stream: every byte read of it goes to the blob.
struct Tee<'a, R> {
    reader: R,
    blob: BlobWriter<'a>,
    descriptor: &'a Descriptor,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The real error behind what the decompressor was told.
    failure: Option<Error>,
}

impl<'a, R: Read> Tee<'a, R> {
    fn new(reader: R, blob: BlobWriter<'a>, descriptor: &'a Descriptor) -> Tee<'a, R> {
        Tee {
            reader,
            blob,
            descriptor,
            buffer: vec![0; READ],
            start: 0,
            end: 0,
            failure: None,
        }
    }

    /// The first bytes, fewer than `length` only when there are no more.
    fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.end < length && self.more()? {}
        Ok(&self.buffer[..self.end.min(length)])
    }

    /// Reads on behind what is in the buffer; `false` at the end.
    fn more(&mut self) -> io::Result<bool> {
        let length = loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(length) => break length,
                Err(source) => {
                    let digest = self.descriptor.digest.clone();
                    return Err(self.fail(Error::BlobRead { digest, source }));
                }
            }
        };
        let bytes = &self.buffer[self.end..self.end + length];
        self.end += length;
        match self.blob.push(bytes) {
            Ok(true) => Ok(length > 0),
            Ok(false) => {
                let (digest, expected) = (self.descriptor.digest.clone(), self.descriptor.size);
                let actual = self.blob.size();
                Err(self.fail(Error::SizeMismatch {
                    digest,
                    expected,
                    actual,
                }))
            }
            Err(error) => {
                let layer = self.descriptor.digest.clone();
                let error = match error {
                    Error::Io { op, source, .. } => Error::Layer {
                        layer,
                        source: LayerError::Write { op, source },
                    },
                    other => other,
                };
                Err(self.fail(error))
            }
        }
    }

    fn fail(&mut self, error: Error) -> io::Error {
        let told = io::Error::other(error.to_string());
        self.failure.get_or_insert(error);
        told
    }

    /// Reads what the decompressor left, so that the whole blob is hashed.
    fn drain(&mut self) -> Result<()> {
        loop {
            (self.start, self.end) = (0, 0);
            match self.more() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(told) => {
                    return Err(self.failure.take().unwrap_or_else(|| Error::BlobRead {
                        digest: self.descriptor.digest.clone(),
                        source: told,
                    }));
                }
            }
        }
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
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.more()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
    }
}
