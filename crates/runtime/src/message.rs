//! What the runtime and the container's first process say to each other: one message per packet
//! of a SOCK_SEQPACKET pair. Execve closes init's end, which is how the runtime learns that the
//! program runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cgroup;
use crate::error::{Error, InitFailure};
use crate::sys;

/// To init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// It is in its cgroup now.
    Placed,
    /// The hooks of the runtime's side have run.
    HooksDone,
    /// The runtime knows the successor.
    Known,
    /// The same, and the ids of its user namespace are known.
    UsersMapped,
    /// The clone has its ids.
    IdsSet,
    /// Execute the program.
    Start,
}

/// From init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// A pidfd of the sender's successor comes with this packet; the sender ends. The successor says
    /// nothing before it is answered: two senders have no order.
    Born {
        /// With its warnings, if the successor has nothing to do but to wait for [`ToInit::Start`].
        ready: Option<Vec<String>>,
    },
    /// The filter is loaded; its listener is this descriptor of the sender.
    Listener(i32),
    /// The master side of the terminal comes with this packet.
    Console,
    /// The clone of the mount of this index in config.json comes with this packet: give it its ids.
    SetIds(usize),
    /// Namespaces and mounts stand; the root is not switched yet.
    Mounted,
    /// From the process that has systemd make the cgroup around init: it is there, or why not.
    Placed(Option<Unplaced>),
    /// From the process that ran the hooks of the runtime's side: which of them failed.
    HooksRan(Option<HookFailure>),
    /// Everything stands; waiting for [`ToInit::Start`].
    Ready {
        /// What was degraded, in words.
        warnings: Vec<String>,
    },
    /// It could not be set up.
    Failed(InitFailure),
    /// The program could not be executed.
    NotExecuted(InitFailure),
}

/// Why there is no cgroup ([`cgroup::Error::Aside`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unplaced {
    reason: String,
    of_request: bool,
}

impl Unplaced {
    pub(crate) fn of(error: &cgroup::Error) -> Self {
        Self {
            reason: error.to_string(),
            of_request: error.is_of_request(),
        }
    }

    pub(crate) fn into_error(self) -> cgroup::Error {
        let Self { reason, of_request } = self;
        cgroup::Error::Aside { reason, of_request }
    }
}

/// A hook of the runtime's side that failed ([`Error::Hook`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HookFailure {
    prestart: bool,
    number: usize,
    reason: String,
}

impl HookFailure {
    pub(crate) fn of(error: Error) -> Self {
        match error {
            Error::Hook {
                kind,
                number,
                reason,
            } => Self {
                prestart: kind == "prestart",
                number,
                reason,
            },
            other => Self {
                prestart: false,
                number: 0,
                reason: other.to_string(),
            },
        }
    }

    pub(crate) fn into_error(self) -> Error {
        Error::Hook {
            kind: match self.prestart {
                true => "prestart",
                false => "createRuntime",
            },
            number: self.number,
            reason: self.reason,
        }
    }
}

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Channel(pub(crate) OwnedFd);

impl Channel {
    pub(crate) fn pair() -> Result<(Self, Self), Errno> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(a), Self(b)))
    }

    pub(crate) fn send<T: Serialize>(
        &self,
        message: &T,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
        sys::send(&self.0, &bytes, fd)
    }

    /// Sends by write(2), the one call that no filter hands to an agent ([`crate::seccomp`]).
    pub(crate) fn write<T: Serialize>(&self, message: &T) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &bytes)).map(drop)
    }

    /// The next message; `None` when the other side is closed. Waits for it as long as it takes: for
    /// the process that sets itself up, which whoever made it ends at its limit.
    pub(crate) fn receive<T: DeserializeOwned>(
        &self,
    ) -> Result<Option<(T, Option<OwnedFd>)>, Errno> {
        match decode(sys::receive(&self.0, true)?)? {
            Incoming::Message(message, fd) => Ok(Some((message, fd))),
            Incoming::Closed | Incoming::Nothing => Ok(None),
        }
    }

    /// What has come by now.
    pub(crate) fn look<T: DeserializeOwned>(&self) -> Result<Incoming<T>, Errno> {
        match sys::receive(&self.0, false) {
            Err(Errno::AGAIN) => Ok(Incoming::Nothing),
            Err(Errno::CONNRESET) => Ok(Incoming::Closed),
            other => decode(other?),
        }
    }

    /// Waits until [`Channel::look`] finds something.
    pub(crate) fn wait(&self) -> Result<(), Errno> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, None)).map(drop)
    }

    /// The same, or until the process that `pidfd` stands for has ended with nothing more to read of it:
    /// false then. (Its successor may hold the channel open, and wait for an answer.)
    pub(crate) fn wait_with(&self, pidfd: &OwnedFd) -> Result<bool, Errno> {
        let mut fds = [
            PollFd::new(&self.0, PollFlags::IN),
            PollFd::new(pidfd, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        let [said, ended] = fds.map(|fd| !fd.revents().is_empty());
        Ok(said || !ended)
    }
}

/// What [`Channel::look`] finds.
#[derive(Debug)]
pub(crate) enum Incoming<T> {
    /// A message, with what came along.
    Message(T, Option<OwnedFd>),
    /// The other side is closed, and all that it said is read.
    Closed,
    /// Nothing yet.
    Nothing,
}

fn decode<T: DeserializeOwned>(
    (bytes, fd): (Vec<u8>, Option<OwnedFd>),
) -> Result<Incoming<T>, Errno> {
    if bytes.is_empty() {
        return Ok(Incoming::Closed);
    }
    serde_json::from_slice(&bytes)
        .map(|message| Incoming::Message(message, fd))
        .map_err(|_| Errno::BADMSG)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message that has no place where it came.
pub(crate) fn unasked() -> Error {
    Error::Init(InitFailure::because("init said what nobody asked"))
}
