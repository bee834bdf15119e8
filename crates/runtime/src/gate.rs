//! The gate before a container's program: its first process has set itself up and waits until somebody
//! starts it (runtime.md, "start").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::message::{Channel, FromInit, Incoming, ToInit, unasked};

/// How the gate before the program is opened.
#[derive(Debug)]
pub enum GateKind {
    /// By the [`Gate`] that `create` returns; init ends if it is dropped.
    Held,
    /// By any process that connects to this listening SOCK_SEQPACKET socket ([`Gate::connect`]).
    Listening(OwnedFd),
}

/// The gate before a container's program.
#[derive(Debug)]
pub struct Gate {
    channel: Channel,
}

impl Gate {
    pub(crate) fn over(channel: Channel) -> Self {
        Self { channel }
    }

    /// The gate behind a [`GateKind::Listening`] socket.
    #[must_use]
    pub fn connect(connected: OwnedFd) -> Self {
        Self::over(Channel(connected))
    }

    /// Lets the program run; returns when it is executed.
    ///
    /// # Errors
    /// [`Error::Exec`] if it cannot be.
    pub fn open(self) -> Result<()> {
        self.release()?;
        while !self.is_executed()? {
            self.channel.wait().map_err(Error::io("wait at", "gate"))?;
        }
        Ok(())
    }

    /// Lets the program run and waits for nothing: the gate is readable when [`Gate::is_executed`] has
    /// something to say.
    ///
    /// # Errors
    /// [`Error::Vanished`] if nobody waits at the gate any more.
    pub fn release(&self) -> Result<()> {
        match self.channel.send(&ToInit::Start, None) {
            Err(Errno::PIPE | Errno::CONNRESET) => Err(Error::Vanished {
                doing: "waiting for start",
            }),
            other => other.map_err(Error::io("open", "gate")),
        }
    }

    /// Is the program executed? Execve closes the channel.
    ///
    /// # Errors
    /// [`Error::Exec`] if it cannot be.
    pub fn is_executed(&self) -> Result<bool> {
        match self.channel.look().map_err(Error::io("read", "gate"))? {
            Incoming::Nothing => Ok(false),
            Incoming::Closed => Ok(true),
            Incoming::Message(FromInit::NotExecuted(failure), _) => Err(Error::Exec(failure)),
            Incoming::Message(FromInit::Failed(failure), _) => Err(Error::Init(failure)),
            Incoming::Message(..) => Err(unasked()),
        }
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
