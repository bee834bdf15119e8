//! The client's side of an attached connection: output comes as events, input goes as bytes.
//! Both halves block; a program that does both at once splits them over two threads, or polls.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::sockopt::Timeout;

use super::{Client, lost, set_limit, unexpected};
use crate::error::{Error, Result};
use crate::frame::{Inbox, send_all};
use crate::protocol::{AttachOptions, Request, Response};
use crate::state::ContainerState;
use crate::stream::{self, Kind, MAX_PACKET};

/// One of a container's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output; all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What comes from an attached container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachEvent {
    /// Some of its output.
    Output(Stream, Vec<u8>),
    /// It has ended; all it wrote before has come already, and nothing comes after.
    Exit(ContainerState),
}

/// A connection to a container's streams. Dropping it leaves the container alone, but for the end
/// of its stdin if that was to be open once.
#[derive(Debug)]
pub struct Attachment {
    output: AttachOutput,
    input: AttachInput,
}

/// The half that receives. [`AsFd`] is for poll(2), with [`AttachOutput::buffered`] asked first.
#[derive(Debug)]
pub struct AttachOutput {
    socket: UnixStream,
    inbox: Inbox,
    dir: PathBuf,
    scratch: Vec<u8>,
}

/// The half that sends.
#[derive(Debug)]
pub struct AttachInput {
    socket: UnixStream,
    dir: PathBuf,
}

/// Ends an attached connection from beside its halves, whose calls fail from then on.
#[derive(Debug)]
pub struct HangUp(UnixStream);

impl HangUp {
    /// Ends the connection.
    pub fn hang_up(&self) {
        // One that is gone needs no end.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Client {
    /// Joins a container's streams from this moment on; before start, so that nothing is missed.
    /// A reader that is slow slows the container down, and nothing is lost.
    ///
    /// # Errors
    /// An unknown container or one that has ended.
    pub fn attach(mut self, id: &str, options: AttachOptions) -> Result<Attachment> {
        match self.call(&Request::Attach {
            id: id.to_owned(),
            options,
        })? {
            Response::Done => {}
            other => return Err(unexpected(&other)),
        }
        let Self {
            socket, inbox, dir, ..
        } = self;
        // Output comes when there is some, and a container that is slow slows its writer down.
        set_limit(&socket, Timeout::Recv, None, &dir)?;
        set_limit(&socket, Timeout::Send, None, &dir)?;
        let twin = socket
            .try_clone()
            .map_err(Error::io("duplicate the socket of", &dir))?;
        Ok(Attachment {
            input: AttachInput {
                socket: twin,
                dir: dir.clone(),
            },
            output: AttachOutput {
                socket,
                inbox,
                dir,
                scratch: vec![0; MAX_PACKET],
            },
        })
    }
}

impl Attachment {
    /// Waits for output or the end.
    ///
    /// # Errors
    /// [`Error::Gone`] if the supervisor went away, or the container was deleted.
    pub fn read(&mut self) -> Result<AttachEvent> {
        self.output.read()
    }

    /// Sends bytes to the container's stdin.
    ///
    /// # Errors
    /// [`Error::Gone`] if the supervisor went away or the container has ended.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.send(bytes)
    }

    /// Says that no more stdin will come. It ends the container's stdin if that was to be open
    /// once; otherwise, and for a terminal, it does nothing.
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub fn close_stdin(&mut self) -> Result<()> {
        self.input.close()
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// As [`Attachment::write`]. A container without a terminal ignores it.
    pub fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        self.input.resize(rows, cols)
    }

    /// A way to end the connection while other threads wait on its halves.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn hang_up(&self) -> Result<HangUp> {
        let twin = self.input.socket.try_clone();
        twin.map(HangUp)
            .map_err(Error::io("duplicate the socket of", &self.input.dir))
    }

    /// The two halves, for two threads.
    #[must_use]
    pub fn split(self) -> (AttachOutput, AttachInput) {
        (self.output, self.input)
    }
}

impl AttachOutput {
    /// As [`Attachment::read`].
    ///
    /// # Errors
    /// As [`Attachment::read`].
    pub fn read(&mut self) -> Result<AttachEvent> {
        loop {
            if let Some((kind, payload, length)) = stream::parse(self.inbox.bytes())? {
                let event = event(kind, payload);
                self.inbox.consume(length);
                return event;
            }
            match self.inbox.receive(self.socket.as_fd(), &mut self.scratch) {
                Ok(0) => {
                    return Err(Error::Gone {
                        dir: self.dir.clone(),
                    });
                }
                Ok(_) => {}
                Err(error) => return Err(lost("receive from", &self.dir, None, error)),
            }
        }
    }

    /// Has an event arrived already, so that `read` will not wait?
    #[must_use]
    pub fn buffered(&self) -> bool {
        !matches!(stream::parse(self.inbox.bytes()), Ok(None))
    }
}

impl AttachInput {
    /// As [`Attachment::write`].
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        bytes
            .chunks(MAX_PACKET)
            .try_for_each(|chunk| self.packet(Kind::Stdin, chunk))
    }

    /// As [`Attachment::close_stdin`].
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub fn close(&mut self) -> Result<()> {
        self.packet(Kind::StdinEnd, &[])
    }

    /// As [`Attachment::resize`].
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        let [a, b] = rows.to_le_bytes();
        let [c, d] = cols.to_le_bytes();
        self.packet(Kind::Resize, &[a, b, c, d])
    }

    fn packet(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        let failed = |error| lost("send to", &self.dir, None, error);
        send_all(&self.socket, &stream::header(kind, payload.len()), &[]).map_err(failed)?;
        send_all(&self.socket, payload, &[]).map_err(failed)
    }
}

impl Write for AttachInput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(MAX_PACKET);
        match self.send(&bytes[..count]) {
            Ok(()) => Ok(count),
            Err(Error::Io { source, .. }) => Err(source),
            Err(error) => Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for AttachOutput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Attachment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.socket.as_fd()
    }
}

fn event(kind: Kind, payload: &[u8]) -> Result<AttachEvent> {
    match kind {
        Kind::Stdout => Ok(AttachEvent::Output(Stream::Stdout, payload.to_vec())),
        Kind::Stderr => Ok(AttachEvent::Output(Stream::Stderr, payload.to_vec())),
        Kind::Exit => serde_json::from_slice(payload)
            .map(AttachEvent::Exit)
            .map_err(|error| Error::protocol(format!("decode exit: {error}"))),
        Kind::Stdin | Kind::StdinEnd | Kind::Resize => Err(Error::protocol(format!(
            "{kind:?} came from the supervisor"
        ))),
    }
}
