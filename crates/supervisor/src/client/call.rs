//! One request on a connection that never blocks, for callers with an event loop: connect, send,
//! receive, each a step that does what can be done now. The socket says when to try again; how long
//! to go on is the caller's to decide. The life of an exec'd command hangs on its call, as on
//! an [`super::ExecSession`]; dropping any other call harms nothing.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{OLDER, can_be_asked, lost};
use crate::address;
use crate::error::{Error, Result};
use crate::frame::{Inbox, encode, send};
use crate::protocol::{Request, Response};

/// A request under way. Its socket is the caller's, who watches it.
#[derive(Debug)]
pub struct Call {
    dir: PathBuf,
    request: Vec<u8>,
    sent: usize,
    /// Those that go with the request's first byte.
    fds: VecDeque<OwnedFd>,
    inbox: Inbox,
}

impl Call {
    /// Connects to the supervisor of the pod in `dir`; `None` if it has no room for a client now.
    ///
    /// # Errors
    /// [`Error::Gone`] if none listens there.
    pub fn connect(dir: &Path) -> Result<Option<(Self, UnixStream)>> {
        let Some(socket) = address::try_connect(dir)? else {
            return Ok(None);
        };
        let call = Self {
            dir: dir.to_owned(),
            request: Vec::new(),
            sent: 0,
            fds: VecDeque::new(),
            inbox: Inbox::default(),
        };
        Ok(Some((call, socket)))
    }

    /// Sets what is to be sent, with at most three descriptors. One request a call.
    ///
    /// # Errors
    /// A request that is too long for the protocol, or one that the supervisor is too old for.
    pub fn ask(&mut self, request: &Request, fds: impl IntoIterator<Item = OwnedFd>) -> Result<()> {
        can_be_asked(request, &self.dir)?;
        self.request = encode(request)?;
        self.sent = 0;
        self.fds = fds.into_iter().collect();
        Ok(())
    }

    /// Sends what there is room for. True: all is sent; false: try again when it is writable.
    ///
    /// # Errors
    /// [`Error::Gone`] if the supervisor went away.
    pub fn send(&mut self, socket: &impl AsFd) -> Result<bool> {
        while self.sent < self.request.len() {
            let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
            let rest = [IoSlice::new(&self.request[self.sent..])];
            match send(socket, &rest, &fds) {
                Ok(count) => {
                    self.sent += count;
                    self.fds.clear();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(lost("send to", &self.dir, None, error)),
            }
        }
        self.request = Vec::new();
        self.sent = 0;
        Ok(true)
    }

    /// The next answer; `None`: try again when it is readable.
    ///
    /// # Errors
    /// What the supervisor answers as an error; [`Error::Gone`] if it went away.
    pub fn receive(&mut self, socket: &impl AsFd) -> Result<Option<Response>> {
        let mut scratch = [0; 4096];
        loop {
            match self.inbox.message()? {
                Some(Response::Failed(error)) => return Err(error.or_unsupported(OLDER)),
                Some(response) => return Ok(Some(response)),
                None => {}
            }
            match self.inbox.receive(socket.as_fd(), &mut scratch) {
                Ok(0) => {
                    return Err(Error::Gone {
                        dir: self.dir.clone(),
                    });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(lost("receive from", &self.dir, None, error)),
            }
        }
    }

    /// The pod's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// That answer does not fit the request.
    #[must_use]
    pub fn unexpected(response: &Response) -> Error {
        super::unexpected(response)
    }
}
