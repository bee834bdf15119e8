//! The one place where the supervisor waits: epoll(7), level-triggered. Each watched descriptor
//! has a [`Token`] that says whose it is; keys are never used twice, so an event that comes after
//! its owner is gone names nobody.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::error::{Error, Result};

/// A connection's or container's number in this supervisor.
pub(super) type Key = u32;

/// Whose descriptor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// New clients.
    Listener,
    /// Signals.
    Signals,
    /// A client.
    Connection(Key),
    /// What a container writes to stdout, or to its terminal.
    Stdout(Key),
    /// What a container writes to stderr.
    Stderr(Key),
    /// What a container reads from stdin, or from its terminal.
    Stdin(Key),
    /// The first process of a container that is being made.
    Creation(Key),
    /// The first process of a container between its gate and its program.
    Gate(Key),
    /// A command between its request and its program.
    Starting(Key),
    /// The kernel's word that a container's memory ran out.
    Oom(Key),
    /// Who says how a container ends that another program runs.
    ShimContainer(Key),
    /// Calls that a container's seccomp profile refuses, or a runtime that says where they come from.
    Agent(Key),
    /// What a health check writes.
    Check(Key),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, key) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Connection(key) => (2, key),
            Self::Stdout(key) => (3, key),
            Self::Stderr(key) => (4, key),
            Self::Stdin(key) => (5, key),
            Self::Creation(key) => (6, key),
            Self::Gate(key) => (7, key),
            Self::Starting(key) => (8, key),
            Self::Oom(key) => (9, key),
            Self::ShimContainer(key) => (10, key),
            Self::Agent(key) => (11, key),
            Self::Check(key) => (12, key),
        };
        kind << 32 | u64::from(key)
    }

    fn unpack(packed: u64) -> Self {
        // The lower half is the key as a whole.
        let key = packed as u32;
        match packed >> 32 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Connection(key),
            3 => Self::Stdout(key),
            4 => Self::Stderr(key),
            5 => Self::Stdin(key),
            6 => Self::Creation(key),
            7 => Self::Gate(key),
            8 => Self::Starting(key),
            9 => Self::Oom(key),
            10 => Self::ShimContainer(key),
            11 => Self::Agent(key),
            _ => Self::Check(key),
        }
    }
}

/// What is waited for on a descriptor. Its end and its errors are always told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Interest {
    /// Something to read.
    pub(super) read: bool,
    /// Room to write.
    pub(super) write: bool,
}

impl Interest {
    /// Something to read.
    pub(super) const READ: Self = Self {
        read: true,
        write: false,
    };
    /// Room to write.
    pub(super) const WRITE: Self = Self {
        read: false,
        write: true,
    };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// To whose descriptor.
    pub(super) token: Token,
    /// There is something to read, or the end.
    pub(super) readable: bool,
    /// There is room to write.
    pub(super) writable: bool,
    /// The other side is gone.
    pub(super) closed: bool,
}

/// The set of watched descriptors.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    /// An empty set.
    pub(super) fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(Error::io("create", "epoll"))?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(32),
        })
    }

    /// Begins to watch a descriptor. It leaves the set when it is closed.
    pub(super) fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<()> {
        epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token.pack()),
            interest.flags(),
        )
        .map_err(Error::io("watch", format!("{token:?}")))
    }

    /// Changes what is waited for.
    pub(super) fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<()> {
        epoll::modify(
            &self.epoll,
            fd,
            EventData::new_u64(token.pack()),
            interest.flags(),
        )
        .map_err(Error::io("watch", format!("{token:?}")))
    }

    /// Stops watching a descriptor that stays open.
    pub(super) fn remove(&self, fd: impl AsFd, token: Token) -> Result<()> {
        epoll::delete(&self.epoll, fd).map_err(Error::io("stop watching", format!("{token:?}")))
    }

    /// Waits until something happens or the time is over.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.events.clear();
        // Rounded up to the next millisecond: waking early would be waking twice.
        let timeout = timeout.map(|wait| {
            let wait = wait
                .saturating_add(Duration::from_micros(999))
                .min(Duration::from_secs(3600));
            rustix::time::Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: i64::from(wait.subsec_nanos()),
            }
        });
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Error::io("wait for", "epoll")(error)),
        }
    }

    /// What happened, by number, so that the caller may change the set meanwhile.
    pub(super) fn ready(&self, number: usize) -> Option<Ready> {
        let event = self.events.get(number)?;
        let flags = event.flags;
        let closed = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        Some(Ready {
            token: Token::unpack(event.data.u64()),
            readable: flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            closed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        for token in [
            Token::Listener,
            Token::Signals,
            Token::Connection(u32::MAX),
            Token::Stdout(7),
            Token::Stderr(7),
            Token::Stdin(0),
            Token::Creation(1),
            Token::Gate(u32::MAX),
            Token::Starting(8),
            Token::Oom(9),
            Token::ShimContainer(9),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
