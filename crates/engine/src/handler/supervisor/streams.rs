//! Commands in a container, and its streams, over connections to the supervisor: descriptors travel
//! with the request, and the process has them itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use supervisor::protocol::{ExecWire, Request, Response};
use supervisor::{ANSWER_LIMIT, Call, Error as Failure, ExecRequest};

use super::super::{
    AttachEvent, AttachOptions, Attachment, Command, ContainerRef, ExecExit, ExecSession,
    ExecStdio, HangUp, Pending, Running, Session, StreamInput, StreamOutput,
};
use super::ask::ask as begin;
use super::container::seen;
use super::pod::connect;
use crate::error::{Error, Result};

/// Runs a command with the caller's descriptors. Its connection is its life.
pub(super) fn exec(
    container: ContainerRef<'_>,
    command: Command,
    streams: [OwnedFd; 3],
) -> Pending<Running> {
    let (id, dir) = (container.id.to_owned(), container.pod.dir.to_owned());
    Box::pin(async move {
        // Its end comes by itself then, and somewhat later at most.
        let patience = command
            .limit
            .map(|limit| limit.saturating_add(ANSWER_LIMIT));
        let request = Request::Exec {
            id: id.clone(),
            request: Box::new(wire(command)),
            stdio: ExecWire::Fds,
        };
        let asked = begin(&dir, &request, streams.into()).await;
        let mut asked = asked.map_err(|source| failed(&id, source))?;
        let started = asked.answer(Some(ANSWER_LIMIT)).await;
        let pid = match started.map_err(|source| failed(&id, source))? {
            Response::ExecStarted { pid } => pid,
            other => return Err(failed(&id, Call::unexpected(&other))),
        };
        let exit = Box::pin(async move {
            match asked.answer(patience).await {
                Ok(Response::ExecExited(exit)) => Ok(ended(exit)),
                Ok(other) => Err(failed(&id, Call::unexpected(&other))),
                Err(source) => Err(failed(&id, source)),
            }
        });
        Ok(Running {
            pid: Some(pid),
            exit,
        })
    })
}

/// Runs a command whose caller waits on a thread.
pub(super) fn exec_session(
    container: ContainerRef<'_>,
    command: Command,
    stdio: ExecStdio,
    limit: Duration,
) -> Result<ExecSession> {
    let stdio = match stdio {
        ExecStdio::Fds(fds) => supervisor::ExecStdio::Fds(fds),
        ExecStdio::Terminal(size) => supervisor::ExecStdio::Terminal(size),
    };
    let client = connect(container.pod, limit)?;
    let session = client.exec(container.id, &wire(command), stdio);
    let mut session = session.map_err(|source| failed(container.id, source))?;
    let (console, pid) = (session.console.take(), session.pid);
    let commanded = Commanded {
        id: container.id.to_owned(),
        session,
    };
    Ok(ExecSession::new(console, Some(pid), Box::new(commanded)))
}

fn wire(command: Command) -> ExecRequest {
    ExecRequest {
        process: command.process,
        timeout: command.limit,
    }
}

fn ended(exit: supervisor::ExecExit) -> ExecExit {
    ExecExit {
        code: exit.code,
        timed_out: exit.timed_out,
    }
}

/// Why a command was not run, or was lost.
fn failed(id: &str, source: Failure) -> Error {
    let id = id.to_owned();
    match source {
        Failure::Start { message, exit_code } => Error::Exec {
            id,
            message,
            exit_code: u8::try_from(exit_code).unwrap_or(u8::MAX),
        },
        source => Error::Supervisor {
            verb: "exec in container",
            id,
            source,
        },
    }
}

#[derive(Debug)]
struct Commanded {
    id: String,
    session: supervisor::ExecSession,
}

impl Session for Commanded {
    fn wait(&self) -> Result<ExecExit> {
        let exit = self.session.wait();
        exit.map(ended).map_err(|source| failed(&self.id, source))
    }

    fn ended(&self) -> BorrowedFd<'_> {
        self.session.as_fd()
    }
}

/// Joins a container's streams.
pub(super) fn attach(
    container: ContainerRef<'_>,
    options: AttachOptions,
    limit: Duration,
) -> Result<Attachment> {
    let client = connect(container.pod, limit)?;
    let attachment = client.attach(container.id, options);
    let attachment = attachment.map_err(|source| lost(container.id, source))?;
    let hang_up = attachment.hang_up();
    let hang_up = hang_up.map_err(|source| lost(container.id, source))?;
    let (output, input) = attachment.split();
    let id = container.id.to_owned();
    Ok(Attachment::new(
        Box::new(Half(id.clone(), output)),
        Box::new(Half(id, input)),
        Box::new(hang_up),
    ))
}

fn lost(id: &str, source: Failure) -> Error {
    Error::Supervisor {
        verb: "attach to container",
        id: id.to_owned(),
        source,
    }
}

/// One half of an attached connection, and its container's id.
#[derive(Debug)]
struct Half<T>(String, T);

impl StreamOutput for Half<supervisor::AttachOutput> {
    fn read(&mut self) -> Result<AttachEvent> {
        match self.1.read() {
            Ok(supervisor::AttachEvent::Output(stream, bytes)) => {
                Ok(AttachEvent::Output(stream, bytes))
            }
            Ok(supervisor::AttachEvent::Exit(state)) => Ok(AttachEvent::Exit(seen(state))),
            Err(source) => Err(lost(&self.0, source)),
        }
    }
}

impl HangUp for supervisor::HangUp {
    fn hang_up(&self) {
        supervisor::HangUp::hang_up(self);
    }
}

impl StreamInput for Half<supervisor::AttachInput> {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.1.send(bytes).map_err(|source| lost(&self.0, source))
    }

    fn close(&mut self) -> Result<()> {
        self.1.close().map_err(|source| lost(&self.0, source))
    }

    fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        let resized = self.1.resize(rows, cols);
        resized.map_err(|source| lost(&self.0, source))
    }
}
