//! The bytes of a blob on their way: a stream of chunks, from files, through checks, into readers.
//!
//! Must never hold more than a few chunks, and never end well with other bytes than the descriptor
//! says ([`verified`]).

use std::io::{self, Read};
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, once, try_unfold};
use image::Descriptor;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// The bytes of a blob.
pub(crate) type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Opens a blob from its beginning, as often as it is called.
pub(crate) type Open<'a> = dyn Fn() -> BoxFuture<'a, Result<Chunks>> + Send + Sync + 'a;

const CHUNK: usize = 128 << 10;
/// Chunks that may wait between whoever fetches them and whoever unpacks them.
const IN_FLIGHT: usize = 32;

/// All of `bytes` at once.
pub(crate) fn from_bytes(bytes: Bytes) -> Chunks {
    once(async move { Ok(bytes) }).boxed()
}

/// `size` bytes of a file from `offset` on; the stream ends early if the file does.
pub(crate) async fn from_file(path: &Path, offset: u64, size: u64) -> Result<Chunks> {
    let mut file = File::open(path).await.map_err(Error::io("open", path))?;
    if offset > 0 {
        file.seek(io::SeekFrom::Start(offset))
            .await
            .map_err(Error::io("seek in", path))?;
    }
    Ok(try_unfold(file.take(size), |mut file| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let length = file.read_buf(&mut chunk).await?;
        Ok((length > 0).then(|| (chunk.freeze(), file)))
    })
    .boxed())
}

/// The same bytes; the stream fails at the end unless size and digest are the descriptor's.
pub(crate) fn verified(chunks: Chunks, descriptor: &Descriptor) -> Chunks {
    let state = (
        chunks,
        Some(descriptor.digest.verifier()),
        descriptor.size,
        format!("blob {}", descriptor.digest),
    );
    try_unfold(state, |(mut chunks, verifier, left, subject)| async move {
        let Some(mut verifier) = verifier else {
            return Ok(None);
        };
        match chunks.next().await {
            Some(chunk) => {
                let chunk = chunk?;
                let left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
                    io::Error::other("it has more bytes than its descriptor says")
                })?;
                verifier.update(&chunk);
                Ok(Some((chunk, (chunks, Some(verifier), left, subject))))
            }
            None if left > 0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{left} bytes are missing at its end"),
            )),
            None => {
                verifier.finish(&subject).map_err(io::Error::other)?;
                Ok(None)
            }
        }
    })
    .boxed()
}

/// All bytes in memory; for documents. Errors when there are more than `max`.
pub(crate) async fn collect(mut chunks: Chunks, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() as u64 > max {
            return Err(io::Error::other(format!("it has more than {max} bytes")));
        }
    }
    Ok(bytes)
}

/// Writes all bytes to a file that is empty.
pub(crate) async fn to_file(mut chunks: Chunks, file: std::fs::File) -> Result<(), ToFile> {
    let mut file = File::from_std(file);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(ToFile::Read)?;
        file.write_all(&chunk).await.map_err(ToFile::Write)?;
    }
    file.flush().await.map_err(ToFile::Write)?;
    file.sync_data().await.map_err(ToFile::Write)
}

/// Which side of [`to_file`] failed.
pub(crate) enum ToFile {
    Read(io::Error),
    Write(io::Error),
}

/// A blocking reader for a thread of `spawn_blocking`, and the end that feeds it. Few chunks wait between them; the
/// stream ends where that end is dropped.
pub(crate) fn pipe() -> (mpsc::Sender<io::Result<Bytes>>, Fed) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let chunk = Bytes::new();
    (sender, Fed { receiver, chunk })
}

/// See [`pipe`].
pub(crate) struct Fed {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.chunk.has_remaining() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A blocking reader of the stream, for a thread of `spawn_blocking`.
pub(crate) fn reader(chunks: Chunks) -> impl Read + Send {
    Reader {
        chunks,
        chunk: Bytes::new(),
        runtime: Handle::current(),
    }
}

struct Reader {
    chunks: Chunks,
    chunk: Bytes,
    runtime: Handle,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.chunk.has_remaining() {
            match self.runtime.block_on(self.chunks.next()) {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use image::MediaType;

    use super::*;

    async fn through(descriptor: &Descriptor, bytes: &'static [u8]) -> io::Result<Vec<u8>> {
        let chunks = from_bytes(Bytes::from_static(bytes));
        collect(verified(chunks, descriptor), 100).await
    }

    #[tokio::test]
    async fn only_the_right_bytes_end_well() {
        let descriptor = Descriptor::of(MediaType::OciLayer, b"content");
        assert_eq!(through(&descriptor, b"content").await.unwrap(), b"content");
        for (bytes, why) in [
            (&b"conten"[..], "1 bytes are missing"),
            (b"contents", "more bytes"),
            (b"cOntent", "sha256:"),
        ] {
            let error = through(&descriptor, bytes).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn a_document_that_is_too_large_is_not_kept() {
        assert!(
            collect(from_bytes(Bytes::from_static(b"12345")), 4)
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_thread_reads_the_stream() {
        let parts = ["one ", "", "two"].map(|part| Ok(Bytes::from_static(part.as_bytes())));
        let chunks = futures_util::stream::iter(parts).boxed();
        let mut reader = reader(chunks);
        let text = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(text.await.unwrap().unwrap(), "one two");
    }
}
