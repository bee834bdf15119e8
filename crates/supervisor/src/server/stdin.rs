//! A container's stdin, or the writing side of its terminal: bytes wait here while the container
//! does not read them. Never waits, and never holds more than a client may send in one go
//! ([`Stdin::is_full`] tells the clients to pause).

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::diagnose;
use super::poller::{Interest, Poller, Token};

/// How many bytes may wait.
const FULL: usize = 64 << 10;

/// The supervisor's side of a container's stdin.
#[derive(Debug)]
pub(super) struct Stdin {
    fd: OwnedFd,
    token: Token,
    queue: Vec<u8>,
    watched: bool,
    ending: bool,
    /// A terminal has no end of its stdin.
    terminal: bool,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It can take more, now or later.
    Open,
    /// It has ended: nobody reads it, or its end was asked for and everything is written.
    Ended,
}

impl Stdin {
    /// Over a descriptor that does not wait.
    pub(super) fn new(fd: OwnedFd, token: Token, terminal: bool) -> Self {
        Self {
            fd,
            token,
            queue: Vec::new(),
            watched: false,
            ending: false,
            terminal,
        }
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Must clients pause?
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= FULL
    }

    /// Adds bytes and writes what there is room for.
    pub(super) fn push(&mut self, bytes: &[u8], poller: &Poller) -> Fate {
        if !self.ending {
            self.queue.extend_from_slice(bytes);
        }
        self.pump(poller)
    }

    /// No more bytes will come; those that wait are written first.
    pub(super) fn end(&mut self, poller: &Poller) -> Fate {
        self.ending = !self.terminal;
        self.pump(poller)
    }

    /// Writes what there is room for.
    pub(super) fn pump(&mut self, poller: &Poller) -> Fate {
        let mut written = 0;
        let mut broken = false;
        while written < self.queue.len() {
            match rustix::io::write(&self.fd, &self.queue[written..]) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        if written == self.queue.len() {
            self.queue = Vec::new();
        } else {
            self.queue.drain(..written);
        }
        if broken || (self.ending && self.queue.is_empty()) {
            self.watch(false, poller);
            return Fate::Ended;
        }
        self.watch(!self.queue.is_empty(), poller);
        Fate::Open
    }

    /// Leaves the set of watched descriptors; before it is dropped.
    pub(super) fn forget(&mut self, poller: &Poller) {
        self.watch(false, poller);
    }

    fn watch(&mut self, wanted: bool, poller: &Poller) {
        if wanted == self.watched {
            return;
        }
        let done = match wanted {
            true => poller.add(self.fd.as_fd(), self.token, Interest::WRITE),
            false => poller.remove(self.fd.as_fd(), self.token),
        };
        match done {
            Ok(()) => self.watched = wanted,
            Err(error) => diagnose(format_args!("stdin: {error}")),
        }
    }
}
