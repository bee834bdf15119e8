//! What the runtime and the container's first process say to each other: one message per packet
//! of a SOCK_SEQPACKET pair. Execve closes init's end, which is how the runtime learns that the
//! program runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::InitFailure;
use crate::sys;

/// To init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// It is in its cgroup now.
    Placed,
    /// The hooks of the runtime's side have run.
    HooksDone,
    /// The ids of the user namespace are known.
    UsersMapped,
    /// The clone has its ids.
    IdsSet,
    /// Execute the program.
    Start,
}

/// From init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// A pidfd of the successor of the process between comes with this packet.
    Born,
    /// The filter is loaded; its listener is this descriptor of the sender.
    Listener(i32),
    /// The master side of the terminal comes with this packet.
    Console,
    /// The clone of the mount of this index in config.json comes with this packet: give it its ids.
    SetIds(usize),
    /// Namespaces and mounts stand; the root is not switched yet.
    Mounted,
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

    /// The next message; `None` when the other side is closed.
    pub(crate) fn receive<T: DeserializeOwned>(
        &self,
    ) -> Result<Option<(T, Option<OwnedFd>)>, Errno> {
        let (bytes, fd) = sys::receive(&self.0)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&bytes)
            .map(|message| Some((message, fd)))
            .map_err(|_| Errno::BADMSG)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
