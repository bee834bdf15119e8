//! A client's frames, for tests and `fuzz/`: as Kubernetes' clients write them, or as nobody should.

use std::io;

use super::frame::{self, ResetStatus, StreamId};
use super::headers::Deflater;

/// Frames that are not sent yet, with the compression of one client.
pub(crate) struct Writer {
    deflater: Deflater,
    frames: Vec<u8>,
}

impl Writer {
    /// # Errors
    /// A dictionary that zlib does not take.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            deflater: Deflater::new()?,
            frames: Vec::new(),
        })
    }

    /// A stream with these headers.
    ///
    /// # Errors
    /// Those of zlib.
    pub(crate) fn open(&mut self, id: StreamId, headers: &[(&str, &str)]) -> io::Result<()> {
        let block = self.deflater.block(headers)?;
        self.frames.extend(frame::syn_stream(id, &block));
        Ok(())
    }

    /// Bytes of a stream.
    pub(crate) fn data(&mut self, id: StreamId, fin: bool, bytes: &[u8]) {
        self.frames.extend(frame::data(id, fin, bytes.len()));
        self.frames.extend(bytes);
    }

    /// The abnormal end of a stream.
    pub(crate) fn reset(&mut self, id: StreamId) {
        self.frames.extend(frame::reset(id, ResetStatus::Cancel));
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.frames.extend(bytes);
    }

    /// What was written since the last time.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.frames)
    }
}
