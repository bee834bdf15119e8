//! Commands in a container, and what a client that carries a container's streams asks beside them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use runtime::spec::ConsoleSize;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use shim::{Shim, task};
use tokio::net::unix::pipe::Receiver;

use super::super::{
    Attachment, Command, ExecExit, ExecSession, ExecStdio, Pending, Running, Session, StreamInput,
    wait,
};
use super::failed;
use super::relay::Relay;
use crate::disk;
use crate::error::{Error, Result};
use crate::pipes::pipe;

/// SIGKILL, as shims number signals.
const KILL: u32 = 9;
/// How long the shim may take to hand over what a command that has ended said; children of the command
/// may hold its streams for ever.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often it is looked whether a terminal has another size: nobody tells its other side.
const SIZES: Duration = Duration::from_millis(250);

/// A command in a shim. Dropped before it has ended, it is killed.
struct Process {
    shim: Shim,
    container: String,
    exec: String,
    ended: bool,
}

impl Process {
    fn new(shim: Shim, container: &str, exec: String) -> Self {
        Self {
            shim,
            container: container.to_owned(),
            exec,
            // Until it is begun there is nothing to end.
            ended: true,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (shim, container) = (self.shim.clone(), std::mem::take(&mut self.container));
        let exec = std::mem::take(&mut self.exec);
        let end = move || {
            // Whatever cannot be done ends with the container.
            let _ = shim.ask(task::kill(&shim, &container, Some(&exec), KILL, false));
            let limit = Some(LAST_WORDS);
            let _ = shim.ask(task::wait(&shim, &container, Some(&exec)).within(limit));
            let _ = shim.ask(task::delete(&shim, &container, Some(&exec)).within(limit));
        };
        let thread = std::thread::Builder::new().name("exec-end".to_owned());
        if let Err(error) = thread.spawn(end) {
            tracing::warn!(%error, "a command that was given up runs on");
        }
    }
}

/// A command's name in its container.
fn new_name() -> Result<String> {
    Ok(format!("exec-{}", &disk::new_id()?[..16]))
}

/// Runs a command with the caller's descriptors.
pub(super) fn exec(
    shim: Shim,
    container: &str,
    command: Command,
    streams: [OwnedFd; 3],
) -> Result<Pending<Running>> {
    let process = Process::new(shim, container, new_name()?);
    Ok(Box::pin(begin(process, command, Relay::new(streams)?)))
}

async fn begin(mut process: Process, command: Command, mut relay: Relay) -> Result<Running> {
    let shim = process.shim.clone();
    let (id, exec) = (process.container.clone(), process.exec.clone());
    let mut program = command.process;
    program.terminal = relay.streams.terminal;
    program.console_size = relay.size;
    let question = task::exec(&shim, &id, &exec, &relay.streams, &program);
    let question = question.map_err(|reason| Error::invalid("process", reason))?;
    shim.ask_async(question).await.map_err(not_begun(&id))?;
    process.ended = false;
    let started = shim.ask_async(task::start(&shim, &id, Some(&exec))).await;
    let pid = started.map_err(not_begun(&id))?;
    relay.opened();
    if let Some(ended) = relay.stdin_ended.take() {
        tokio::spawn(close_stdin(shim, id, exec, ended));
    }
    let exit = Box::pin(end(process, relay, command.limit));
    Ok(Running { pid, exit })
}

/// Tells the shim that no more stdin will come: it holds the pipe open itself.
async fn close_stdin(shim: Shim, id: String, exec: String, ended: OwnedFd) {
    let Ok(ended) = Receiver::from_owned_fd(ended) else {
        return;
    };
    if ended.readable().await.is_ok() {
        // A command that has ended has no stdin.
        let _ = shim
            .ask_async(task::close_stdin(&shim, &id, Some(&exec)))
            .await;
    }
}

async fn end(mut process: Process, mut relay: Relay, limit: Option<Duration>) -> Result<ExecExit> {
    let shim = process.shim.clone();
    let (id, exec) = (process.container.clone(), process.exec.clone());
    let ended = |limit| shim.ask_async(task::wait(&shim, &id, Some(&exec)).within(limit));
    let (exit, timed_out) = match ended(limit).await {
        Err(shim::Error::Silent { .. }) => {
            let kill = task::kill(&shim, &id, Some(&exec), KILL, false);
            shim.ask_async(kill).await.map_err(failed)?;
            (ended(Some(task::ANSWER_LIMIT)).await, true)
        }
        other => (other, false),
    };
    let exit = exit.map_err(failed)?;
    process.ended = true;
    // The shim copies what was said until then, unless somebody else holds the streams.
    let delete = task::delete(&shim, &id, Some(&exec));
    let forget = tokio::spawn({
        let shim = shim.clone();
        async move { shim.ask_async(delete).await }
    });
    if tokio::time::timeout(LAST_WORDS, forget).await.is_ok() {
        let handed_over = tokio::task::spawn_blocking(move || relay.finish());
        let _ = tokio::time::timeout(LAST_WORDS, handed_over).await;
    }
    Ok(ExecExit {
        code: exit.code.into(),
        timed_out,
    })
}

/// Why a command is not begun: what the shim refuses is about the command.
fn not_begun(id: &str) -> impl FnOnce(shim::Error) -> Error {
    let id = id.to_owned();
    move |error| match error {
        shim::Error::Refused { message, .. } => {
            let exit_code = match &message {
                it if it.contains("not found") || it.contains("no such file") => 127,
                it if it.contains("permission denied") => 126,
                _ => 128,
            };
            Error::Exec {
                id,
                message,
                exit_code,
            }
        }
        other => failed(other),
    }
}

/// Runs a command whose caller waits on a thread: another drives it.
pub(super) fn exec_session(
    shim: Shim,
    container: &str,
    command: Command,
    stdio: ExecStdio,
    limit: Duration,
) -> Result<ExecSession> {
    let (console, slave, relay) = match stdio {
        ExecStdio::Fds(streams) => (None, None, Relay::new(streams)?),
        ExecStdio::Terminal(size) => {
            let (master, slave) = terminal(size)?;
            let twin = slave.try_clone().map_err(no_terminal)?;
            let mut relay = Relay::terminal(twin)?;
            relay.size = size.map(|(rows, cols)| ConsoleSize {
                height: rows,
                width: cols,
            });
            (Some(master), Some(slave), relay)
        }
    };
    let process = Process::new(shim.clone(), container, new_name()?);
    let sizes = Sizes {
        shim,
        container: container.to_owned(),
        exec: process.exec.clone(),
        slave,
    };
    let (ended, end) = pipe()?;
    let (given_up, give_up) = pipe()?;
    let outcome = Arc::new(Outcome::default());
    let driven = Driven {
        begun: Box::pin(begin(process, command, relay)),
        sizes,
        given_up,
        outcome: Arc::clone(&outcome),
        _end: end,
    };
    let thread = std::thread::Builder::new().name("exec".to_owned());
    let drive = thread.spawn(move || driven.drive());
    drive.map_err(Error::io("begin", "a command's thread"))?;
    let pid = outcome.started(limit)?;
    let session = Driving {
        outcome,
        ended,
        _give_up: give_up,
    };
    Ok(ExecSession::new(console, pid, Box::new(session)))
}

/// A terminal whose slave side passes everything on as it is.
fn terminal(size: Option<(u16, u16)>) -> Result<(OwnedFd, OwnedFd)> {
    let made = (|| -> rustix::io::Result<(OwnedFd, OwnedFd)> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty())?;
        let mut modes = tcgetattr(&slave)?;
        modes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        if let Some((rows, cols)) = size {
            let size = Winsize {
                ws_row: rows,
                ws_col: cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&master, size)?;
        }
        Ok((master, slave))
    })();
    made.map_err(|error| no_terminal(error.into()))
}

fn no_terminal(error: std::io::Error) -> Error {
    Error::io("make", "the streams of a command")(error)
}

/// What became of a command, for who waits for it.
#[derive(Debug, Default)]
struct Outcome {
    state: Mutex<Known>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    started: Option<Result<Option<i32>>>,
    exit: Option<Result<ExecExit, String>>,
}

impl Outcome {
    fn tell(&self, what: impl FnOnce(&mut Known)) {
        what(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_all();
    }

    fn started(&self, limit: Duration) -> Result<Option<i32>> {
        let known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |known: &mut Known| known.started.is_none();
        let (mut known, _) = self
            .news
            .wait_timeout_while(known, limit, waits)
            .unwrap_or_else(PoisonError::into_inner);
        let silent = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let started = known.started.take();
        started.unwrap_or_else(|| Err(Error::io("begin", "a command in a shim")(silent())))
    }

    fn exit(&self) -> Result<ExecExit> {
        let known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self
            .news
            .wait_while(known, |known| known.exit.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        match &known.exit {
            Some(Ok(exit)) => Ok(*exit),
            Some(Err(reason)) => Err(lost(reason)),
            None => Err(lost("it is not known")),
        }
    }
}

fn lost(reason: &str) -> Error {
    Error::io("wait for", "a command in a shim")(std::io::Error::other(reason.to_owned()))
}

/// A command with the thread that drives it.
struct Driven {
    begun: Pending<Running>,
    sizes: Sizes,
    /// Readable once the caller has given up.
    given_up: OwnedFd,
    outcome: Arc<Outcome>,
    /// Closed at the end.
    _end: OwnedFd,
}

impl Driven {
    fn drive(self) {
        let Self {
            begun,
            sizes,
            given_up,
            outcome,
            _end,
        } = self;
        let told = Arc::clone(&outcome);
        let ran = wait(async move {
            let given_up = Receiver::from_owned_fd(given_up);
            let given_up = given_up.map_err(Error::io("watch", "a command's caller"))?;
            let mut running = match begun.await {
                Ok(running) => running,
                Err(error) => {
                    told.tell(|known| known.started = Some(Err(error)));
                    return Ok(None);
                }
            };
            told.tell(|known| known.started = Some(Ok(running.pid)));
            tokio::select! {
                exit = &mut running.exit => exit.map(Some),
                _ = given_up.readable() => Ok(None),
                () = sizes.follow() => Ok(None),
            }
        });
        outcome.tell(|known| {
            known.exit = Some(match ran {
                Ok(Some(exit)) => Ok(exit),
                Ok(None) => Err("it was given up".to_owned()),
                Err(error) => Err(error.to_string()),
            });
            // Whoever still waits for the start has its answer by now, or this.
            known
                .started
                .get_or_insert_with(|| Err(lost("it did not begin")));
        });
    }
}

/// The size of a command's terminal, of which only the caller's side is told.
struct Sizes {
    shim: Shim,
    container: String,
    exec: String,
    slave: Option<OwnedFd>,
}

impl Sizes {
    /// Passes each new size on, without end.
    async fn follow(self) {
        let Some(slave) = self.slave else {
            return std::future::pending().await;
        };
        let mut last = None;
        loop {
            let size = tcgetwinsize(&slave).ok().map(|it| (it.ws_row, it.ws_col));
            if let Some((rows, cols)) = size
                && size != last
                && rows > 0
            {
                let exec = Some(&*self.exec);
                let question = task::resize(&self.shim, &self.container, exec, rows, cols);
                // One that is not set is set with the next.
                let _ = self.shim.ask_async(question).await;
                last = size;
            }
            tokio::time::sleep(SIZES).await;
        }
    }
}

/// A command whose caller holds it.
#[derive(Debug)]
struct Driving {
    outcome: Arc<Outcome>,
    ended: OwnedFd,
    /// Closed when the caller drops the session.
    _give_up: OwnedFd,
}

impl Session for Driving {
    fn wait(&self) -> Result<ExecExit> {
        self.outcome.exit()
    }

    fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

/// Adds to an attached connection what only the shim can do: the size of a terminal, and the end of
/// stdin, of which the shim holds the pipe.
pub(super) fn attach(shim: Shim, container: &str, attachment: Attachment) -> Attachment {
    attachment.with_input(|inner| {
        Box::new(Input {
            inner,
            shim,
            container: container.to_owned(),
        })
    })
}

#[derive(Debug)]
struct Input {
    inner: Box<dyn StreamInput>,
    shim: Shim,
    container: String,
}

impl StreamInput for Input {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.send(bytes)
    }

    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }

    fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        let question = task::resize(&self.shim, &self.container, None, rows, cols);
        match self.shim.ask(question) {
            // One without a terminal ignores it.
            Err(shim::Error::Refused { .. }) => Ok(()),
            other => other.map_err(failed),
        }
    }
}
