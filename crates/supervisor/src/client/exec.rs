//! The client's side of an exec: a session that lives as long as its connection.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{Winsize, tcsetwinsize};

use super::{Client, receive, unexpected};
use crate::error::{Error, Result};
use crate::frame::Inbox;
use crate::protocol::{ExecExit, ExecRequest, ExecWire, Request, Response};

/// The streams of an exec'd command.
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
    /// The command's process id as the host sees it.
    pub pid: i32,
    socket: UnixStream,
    dir: PathBuf,
    arrived: Mutex<Arrived>,
}

#[derive(Debug)]
struct Arrived {
    inbox: Inbox,
    exit: Option<ExecExit>,
}

impl Client {
    /// Runs a command in a running container; returns once its program is executed. The
    /// connection is the session's from then on.
    ///
    /// # Errors
    /// [`Error::Start`] if the program cannot be executed; [`Error::State`] if the container does
    /// not run, is paused, or is being killed.
    pub fn exec(
        mut self,
        id: &str,
        request: &ExecRequest,
        stdio: ExecStdio,
    ) -> Result<ExecSession> {
        let wire = match &stdio {
            ExecStdio::Fds(_) => ExecWire::Fds,
            ExecStdio::Terminal(size) => ExecWire::Terminal { size: *size },
        };
        let call = Request::Exec {
            id: id.to_owned(),
            request: Box::new(request.clone()),
            stdio: wire,
        };
        let response = match &stdio {
            ExecStdio::Fds(fds) => self.call_with(&call, &fds.each_ref().map(AsFd::as_fd))?,
            ExecStdio::Terminal(_) => self.call(&call)?,
        };
        let Response::ExecStarted { pid } = response else {
            return Err(unexpected(&response));
        };
        let console = self.take_fd();
        if console.is_none() && wire != ExecWire::Fds {
            return Err(Error::protocol("no terminal came with the answer to exec"));
        }
        let Self {
            socket, inbox, dir, ..
        } = self;
        Ok(ExecSession {
            console,
            pid,
            socket,
            dir,
            arrived: Mutex::new(Arrived { inbox, exit: None }),
        })
    }
}

impl ExecSession {
    /// Waits until the command has ended, even if its children still hold its streams. May be
    /// called again, with the same answer.
    ///
    /// # Errors
    /// [`Error::Gone`] if the supervisor went away.
    pub fn wait(&self) -> Result<ExecExit> {
        // A thread that panicked while it waited has left nothing half done here.
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exit) = arrived.exit {
            return Ok(exit);
        }
        match receive(&self.socket, &mut arrived.inbox, &self.dir, None)? {
            Response::ExecExited(exit) => Ok(*arrived.exit.insert(exit)),
            Response::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets the size of the command's terminal.
    ///
    /// # Errors
    /// A session without a terminal.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<()> {
        let Some(console) = &self.console else {
            return Err(Error::invalid("terminal", "the command has none"));
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(console, size).map_err(Error::io("resize", "the terminal of an exec"))
    }
}

impl AsFd for ExecSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
