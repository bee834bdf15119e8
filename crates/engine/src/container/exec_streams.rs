//! A command whose streams somebody far away has: pipes or a terminal, of which we hold the other ends,
//! and a life that ends with whoever holds them. `exec.rs` is for callers with files of their own.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::pipe::fcntl_setpipe_size;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::calls::{Place, Purpose};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{ExecExit, ExecSession, ExecStdio, LIMIT, Pending};
use crate::pipes;

/// What a command's pipe may hold, in bytes.
const PIPE: usize = 512 << 10;

/// Which of a command's streams are wanted; the others are /dev/null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WantedStreams {
    /// Something is written to its stdin.
    pub stdin: bool,
    /// Its stdout is read.
    pub stdout: bool,
    /// Its stderr is read; with a terminal there is none.
    pub stderr: bool,
    /// It gets a terminal.
    pub terminal: bool,
}

/// A command that was begun, and our ends of its streams.
pub struct ExecStreams {
    /// Writes to its stdin; closing it is the end.
    pub stdin: Option<OwnedFd>,
    /// Reads its stdout.
    pub stdout: Option<OwnedFd>,
    /// Reads its stderr.
    pub stderr: Option<OwnedFd>,
    /// The master side of its terminal, in the place of all three.
    pub console: Option<OwnedFd>,
    /// The outer future completes when the program is executed, the inner one when it has ended, even
    /// if its children hold its streams. Dropping either kills the command.
    pub started: Pending<Pending<ExecExit>>,
}

impl std::fmt::Debug for ExecStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecStreams").finish_non_exhaustive()
    }
}

impl Engine {
    /// The whole id of a container that runs, for what is to begin later; `verb` is that, for the error.
    ///
    /// # Errors
    /// An unknown container or one that does not run.
    pub fn require_running(&self, verb: &'static str, id: &str) -> Result<String> {
        self.running_container(verb, id)
            .map(|container| container.id)
    }

    /// Begins `command` in the container as the container's own user. With a terminal it waits until
    /// the program is executed: the caller's thread may wait.
    ///
    /// # Errors
    /// An unknown container or one that does not run, a command that cannot be executed, or
    /// [`Error::Busy`].
    pub fn exec_streams(
        &self,
        id: &str,
        command: &[String],
        wanted: WantedStreams,
    ) -> Result<ExecStreams> {
        if command.is_empty() {
            return Err(Error::invalid("cmd", "must not be empty"));
        }
        let (container, mut command) = self.command(id, command, None, |_| {})?;
        let place = self.calls().take(&container.pod_id, Purpose::Command)?;
        command.process.terminal = wanted.terminal;
        if wanted.terminal {
            let session = self.with_handler(&container, |handler, at| {
                handler.exec_session(at, command, ExecStdio::Terminal(None), LIMIT)
            })?;
            return Ok(terminal(session, place));
        }
        let (stdin, given_stdin) = input(wanted.stdin)?;
        let (stdout, given_stdout) = output(wanted.stdout)?;
        let (stderr, given_stderr) = output(wanted.stderr)?;
        let given = [given_stdin, given_stdout, given_stderr];
        let running =
            self.with_handler(&container, |handler, at| handler.exec(at, command, given))?;
        let started = async move {
            let exit = running.await?.exit;
            let exit: Pending<ExecExit> = Box::pin(async move {
                let _place = place;
                exit.await
            });
            Ok(exit)
        };
        Ok(ExecStreams {
            stdin,
            stdout,
            stderr,
            console: None,
            started: Box::pin(started),
        })
    }
}

fn terminal(mut session: ExecSession, place: Place) -> ExecStreams {
    let console = session.console.take();
    let exit: Pending<ExecExit> = Box::pin(async move {
        let _place = place;
        // SAFETY: the session holds the descriptor open, and the same one, until it is dropped.
        let watched =
            unsafe { AsyncFd::register_with_interest(Watched(session), Interest::READABLE) };
        let watched = watched.map_err(|error| Error::io("watch", "command")(error.into()))?;
        let ended = watched.readable().await;
        ended.map_err(Error::io("watch", "command"))?.retain_ready();
        watched.get_ref().0.wait()
    });
    ExecStreams {
        stdin: None,
        stdout: None,
        stderr: None,
        console,
        started: Box::pin(async move { Ok(exit) }),
    }
}

/// A session, by the descriptor that tells of its end.
struct Watched(ExecSession);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Our end of a command's stdin, and the command's.
fn input(wanted: bool) -> Result<(Option<OwnedFd>, OwnedFd)> {
    if !wanted {
        return Ok((None, pipes::null(false)?));
    }
    let (read, write) = roomy()?;
    Ok((Some(write), read))
}

/// Our end of one of a command's outputs, and the command's.
fn output(wanted: bool) -> Result<(Option<OwnedFd>, OwnedFd)> {
    if !wanted {
        return Ok((None, pipes::null(true)?));
    }
    let (read, write) = roomy()?;
    Ok((Some(read), write))
}

/// A pipe that holds a good part of a large transfer: each time that it is full or empty the two sides
/// wait for each other's turn on a processor.
fn roomy() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipes::pipe()?;
    // Slower where that is not allowed (fs.pipe-max-size).
    let _ = fcntl_setpipe_size(&read, PIPE);
    Ok((read, write))
}
