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
        let length = u32::try_from(block.len() + 10).unwrap_or(u32::MAX);
        self.frames.extend(b"\x80\x03\0\x01\0");
        self.frames.extend(&length.to_be_bytes()[1..]);
        self.frames.extend(id.to_be_bytes());
        self.frames.extend([0; 6]);
        self.frames.extend(block);
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
