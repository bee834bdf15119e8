//! A command in a running container.

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::Pending;
use crate::error::Result;

/// A command to be run.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its words, user, environment and capabilities.
    pub process: runtime::spec::Process,
    /// Kill it after that time, with all of its process group.
    pub limit: Option<Duration>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecExit {
    /// Its code, or 128 and the number of the signal that killed it.
    pub code: i32,
    /// It was killed because its time was over.
    pub timed_out: bool,
}

/// A command whose program is executed.
pub struct Running {
    /// Its process on this node, if it is one.
    pub pid: Option<i32>,
    /// Completes when it has ended, even if its children hold its streams. Dropping it kills the command.
    pub exit: Pending<ExecExit>,
}

impl Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Running");
        shown.field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// The streams of a command whose caller waits on a thread.
#[derive(Debug)]
pub enum ExecStdio {
    /// Its stdin, stdout and stderr.
    Fds([OwnedFd; 3]),
    /// A new terminal of that many rows and columns, if known.
    Terminal(Option<(u16, u16)>),
}

/// A command that runs in a container. Dropping the session kills it.
///
/// [`AsFd`] is for poll(2): readable once the command has ended.
#[derive(Debug)]
pub struct ExecSession {
    /// The master side of the command's terminal, if one was asked for. Reading it fails with EIO
    /// once the command and its children have closed the other side.
    pub console: Option<OwnedFd>,
    /// The command's process on this node, if it is one.
    pub pid: Option<i32>,
    session: Box<dyn Session>,
}

/// What a handler keeps of such a command.
pub trait Session: Debug + Send + Sync {
    /// Waits until the command has ended. May be called again, with the same answer.
    ///
    /// # Errors
    /// A sandbox that went away.
    fn wait(&self) -> Result<ExecExit>;

    /// Readable once the command has ended.
    fn ended(&self) -> BorrowedFd<'_>;
}

impl ExecSession {
    /// A session, for handlers.
    #[must_use]
    pub fn new(console: Option<OwnedFd>, pid: Option<i32>, session: Box<dyn Session>) -> Self {
        Self {
            console,
            pid,
            session,
        }
    }

    /// Waits until the command has ended, even if its children still hold its streams. May be
    /// called again, with the same answer.
    ///
    /// # Errors
    /// A sandbox that went away.
    pub fn wait(&self) -> Result<ExecExit> {
        self.session.wait()
    }
}

impl AsFd for ExecSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.session.ended()
    }
}
