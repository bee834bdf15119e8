//! Frames on the supervisor's socket: a length as u32 in little endian, then as many bytes of
//! JSON; file descriptors (SCM_RIGHTS, at most [`MAX_FDS`]) travel with the first byte of a frame.
//! Used by both sides; must never trust a length, nor keep a descriptor that no frame claims.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The longest frame either side accepts, in bytes of JSON.
pub(crate) const MAX_FRAME: usize = 4 << 20;
/// The most descriptors one frame can carry: stdin, stdout, stderr.
pub(crate) const MAX_FDS: usize = 3;

const HEADER: usize = 4;

/// A message as bytes to send.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)
        .map_err(|error| Error::protocol(format!("encode: {error}")))?;
    let length = bytes.len() - HEADER;
    if length > MAX_FRAME {
        return Err(Error::protocol(format!(
            "a message of {length} bytes is longer than {MAX_FRAME}"
        )));
    }
    let length =
        u32::try_from(length).map_err(|_| Error::protocol("a message longer than 4 GiB"))?;
    bytes[..HEADER].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// What has arrived on a connection and is not yet used.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Receives once. `Ok(0)` is the end of the connection.
    ///
    /// # Errors
    /// As recvmsg(2); more descriptors than a frame may carry are `InvalidData`.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            match recvmsg(
                socket,
                &mut [IoSliceMut::new(scratch)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                self.fds.extend(fds);
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) || self.fds.len() > MAX_FDS {
            self.fds.clear();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too many file descriptors",
            ));
        }
        self.bytes.extend_from_slice(&scratch[..message.bytes]);
        Ok(message.bytes)
    }

    /// Receives once what is no frame and has no descriptors, by way of `buffer`.
    ///
    /// # Errors
    /// As recv(2).
    pub(crate) fn receive_packets(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        loop {
            buffer.clear();
            match recv(socket, spare_capacity(buffer), RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// A frame that is too long or is not such a message.
    pub(crate) fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME {
            return Err(Error::protocol(format!(
                "a frame of {length} bytes is longer than {MAX_FRAME}"
            )));
        }
        let Some(body) = self.bytes.get(HEADER..HEADER + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)
            .map_err(|error| Error::protocol(format!("decode: {error}")));
        self.consume(HEADER + length);
        message.map(Some)
    }

    /// How many bytes of the next message have not arrived; at least one, even if it is whole.
    pub(crate) fn missing(&self) -> usize {
        let whole = match self.bytes.first_chunk::<HEADER>() {
            Some(header) => HEADER + u32::from_le_bytes(*header) as usize,
            None => HEADER,
        };
        whole.saturating_sub(self.bytes.len()).max(1)
    }

    /// The bytes that have arrived, for those who read packets instead of frames.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes bytes away; the memory of an empty inbox is given back.
    pub(crate) fn consume(&mut self, count: usize) {
        if count >= self.bytes.len() {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..count);
        }
    }

    /// The descriptors that came along.
    pub(crate) fn take_fds(&mut self) -> VecDeque<OwnedFd> {
        std::mem::take(&mut self.fds)
    }
}

/// Sends as much as the socket takes now, the descriptors with the first byte.
///
/// # Errors
/// As sendmsg(2); a reader that is gone is `BrokenPipe`, without a signal.
pub(crate) fn send(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many file descriptors",
        ));
    }
    loop {
        match sendmsg(socket.as_fd(), parts, &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Sends everything, waiting as long as it takes.
///
/// # Errors
/// As [`send`].
pub(crate) fn send_all(
    socket: impl AsFd,
    mut bytes: &[u8],
    mut fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = send(socket.as_fd(), &[IoSlice::new(bytes)], fds)?;
        bytes = &bytes[count..];
        fds = &[];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox {
            bytes: bytes.to_vec(),
            fds: VecDeque::new(),
        }
    }

    #[test]
    fn a_message_is_whole_or_not_there() {
        let bytes = encode(&"hello").unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(inbox(&bytes[..cut]).message::<String>().unwrap(), None);
        }
        let mut twice = inbox(&[bytes.clone(), bytes].concat());
        assert_eq!(twice.message::<String>().unwrap().as_deref(), Some("hello"));
        assert_eq!(twice.message::<String>().unwrap().as_deref(), Some("hello"));
        assert_eq!(twice.message::<String>().unwrap(), None);
    }

    #[test]
    fn a_reader_that_asks_for_what_is_missing_never_takes_of_the_next_message() {
        let bytes = encode(&"hello").unwrap();
        assert_eq!(inbox(&[]).missing(), HEADER);
        assert_eq!(inbox(&bytes[..HEADER]).missing(), bytes.len() - HEADER);
        assert_eq!(
            inbox(&bytes[..HEADER + 3]).missing(),
            bytes.len() - HEADER - 3
        );
    }

    #[test]
    fn a_length_past_the_limit_is_refused_before_the_body_comes() {
        let error = inbox(&u32::MAX.to_le_bytes())
            .message::<String>()
            .unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn descriptors_come_with_their_frame() {
        let (here, there) = UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send_all(&here, &encode(&1).unwrap(), &[null.as_fd(), null.as_fd()]).unwrap();
        let mut inbox = Inbox::default();
        inbox.receive(there.as_fd(), &mut [0; 64]).unwrap();
        assert_eq!(inbox.message::<i32>().unwrap(), Some(1));
        assert_eq!(inbox.take_fds().len(), 2);
        assert!(inbox.take_fds().is_empty());
    }
}
