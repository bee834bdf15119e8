//! The questions of the task service: a container's life, and that of processes added to it
//! (`exec` names one; `None` is the container's first).
//!
//! A container is made with [`create`], begun with [`start`], has ended when [`wait`] answers or
//! [`state`] says so, and is forgotten with [`delete`], which also undoes its mounts: until then the
//! shim knows how it ended. A process is added with [`exec`] and goes through [`start`], [`wait`] and
//! [`delete`] likewise. A shim ends by [`shutdown`] once it has no container.
//!
//! Definition: <https://github.com/containerd/containerd/blob/main/api/runtime/task/v3/shim.proto>

use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use serde::Serialize;
use ttrpc::printable;

use crate::call::{Ask, Reader};
use crate::stats::Stats;
use crate::value::{self, Exit, Mount, Options};
use crate::{Shim, wire};

/// How long an answer may take that waits for nothing.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How long it may take to make, begin or delete: a virtual machine may have to boot or to end.
pub const WORK_LIMIT: Duration = Duration::from_secs(120);
/// The most processes that an answer may name.
const MAX_PIDS: usize = 1 << 16;

/// The streams of a process: named pipes that somebody else reads and writes; `None` is /dev/null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streams {
    /// One pseudo terminal instead of streams of its own; then there is no `stderr`.
    pub terminal: bool,
    /// What it reads.
    pub stdin: Option<PathBuf>,
    /// Where it writes.
    pub stdout: Option<PathBuf>,
    /// Where it writes what goes wrong.
    pub stderr: Option<PathBuf>,
}

impl Streams {
    fn name(path: Option<&PathBuf>) -> String {
        path.map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Its id.
    pub id: String,
    /// Its bundle, with config.json.
    pub bundle: PathBuf,
    /// Mounts that make the bundle's `rootfs`; none: it is there.
    pub rootfs: Vec<Mount>,
    /// Its streams.
    pub streams: Streams,
    /// A checkpoint to begin from.
    pub checkpoint: Option<PathBuf>,
    /// What its runtime is told.
    pub options: Option<Options>,
}

/// What a process does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, not begun.
    Created,
    /// It runs.
    Running,
    /// Frozen, or about to be.
    Paused,
    /// It has ended.
    Stopped(Exit),
}

/// A process as the shim sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What it does.
    pub status: Status,
    /// Its process id on this host, if it is on this host.
    pub pid: Option<i32>,
}

/// Who a shim is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The shim's process.
    pub shim_pid: Option<i32>,
    /// The container's first process, if it is on this host.
    pub task_pid: Option<i32>,
    /// The shim's version, if it tells.
    pub version: String,
}

/// Makes a question of a verb, its method, the container and the message.
fn ask<T>(
    shim: &Shim,
    (verb, method): (&'static str, &'static str),
    id: &str,
    message: &impl Message,
    read: Reader<T>,
) -> Ask<T> {
    Ask {
        verb,
        id: id.to_owned(),
        service: format!("containerd.task.v{}.Task", shim.version().number()),
        method,
        payload: message.encode_to_vec(),
        limit: Some(ANSWER_LIMIT),
        read,
    }
}

/// Reads an answer with one check after its decoding.
pub(crate) fn read<M: Message + Default + 'static, T>(
    check: impl FnOnce(M) -> Result<T, String> + Send + Sync + 'static,
) -> Reader<T> {
    Box::new(move |bytes| {
        let message = M::decode(bytes).map_err(|error| format!("no such answer: {error}"))?;
        check(message)
    })
}

pub(crate) fn nothing() -> Reader<()> {
    read(|wire::Empty {}| Ok(()))
}

fn process(id: &str, exec: Option<&str>) -> wire::ProcessRequest {
    wire::ProcessRequest {
        id: id.to_owned(),
        exec_id: exec.unwrap_or_default().to_owned(),
    }
}

fn container(id: &str) -> wire::ContainerRequest {
    wire::ContainerRequest { id: id.to_owned() }
}

/// A question that makes or begins something, answered by its process id.
fn work<T>(question: Ask<T>) -> Ask<T> {
    question.within(Some(WORK_LIMIT))
}

/// Make a container: everything but its program. Answered by its process id, if it is on this host.
pub fn create(shim: &Shim, create: Create) -> Ask<Option<i32>> {
    let Create {
        id,
        bundle,
        rootfs,
        streams,
        checkpoint,
        options,
    } = create;
    let message = wire::CreateRequest {
        id: id.clone(),
        bundle: bundle.to_string_lossy().into_owned(),
        rootfs: rootfs.into_iter().map(wire::Mount::from).collect(),
        terminal: streams.terminal,
        stdin: Streams::name(streams.stdin.as_ref()),
        stdout: Streams::name(streams.stdout.as_ref()),
        stderr: Streams::name(streams.stderr.as_ref()),
        checkpoint: Streams::name(checkpoint.as_ref()),
        options: options.as_ref().map(Options::any),
    };
    let answer = read(|answer: wire::PidResponse| value::pid(answer.pid));
    work(ask(shim, ("create", "Create"), &id, &message, answer))
}

/// Begin a process. Answered by its process id, if it is on this host.
pub fn start(shim: &Shim, id: &str, exec: Option<&str>) -> Ask<Option<i32>> {
    let answer = read(|answer: wire::PidResponse| value::pid(answer.pid));
    let message = process(id, exec);
    work(ask(shim, ("start", "Start"), id, &message, answer))
}

/// What does a process do now?
pub fn state(shim: &Shim, id: &str, exec: Option<&str>) -> Ask<State> {
    let wanted = (id.to_owned(), exec.map(ToOwned::to_owned));
    let answer = read(move |answer: wire::StateResponse| {
        let (id, exec) = wanted;
        // Some shims name the process in place of the container.
        if answer.id != id && Some(&answer.id) != exec.as_ref() {
            return Err(format!("{} was not asked for", printable(&answer.id)));
        }
        let status = match answer.status {
            1 => Status::Created,
            2 => Status::Running,
            3 => Status::Stopped(Exit::of(answer.exit_status, answer.exited_at)),
            4 | 5 => Status::Paused,
            other => return Err(format!("{other} is no state")),
        };
        let pid = value::pid(answer.pid)?;
        Ok(State { status, pid })
    });
    ask(shim, ("state", "State"), id, &process(id, exec), answer)
}

/// Answers when a process has ended, however long that takes; a process that has ended already is
/// answered at once, until it is deleted.
pub fn wait(shim: &Shim, id: &str, exec: Option<&str>) -> Ask<Exit> {
    let answer =
        read(|answer: wire::WaitResponse| Ok(Exit::of(answer.exit_status, answer.exited_at)));
    ask(shim, ("wait", "Wait"), id, &process(id, exec), answer).within(None)
}

/// Send a signal to a process, or to all of the container.
pub fn kill(shim: &Shim, id: &str, exec: Option<&str>, signal: u32, all: bool) -> Ask<()> {
    let message = wire::KillRequest {
        id: id.to_owned(),
        exec_id: exec.unwrap_or_default().to_owned(),
        signal,
        all,
    };
    ask(shim, ("kill", "Kill"), id, &message, nothing())
}

/// Forget a process that has ended; with the container's first all of the container is undone.
pub fn delete(shim: &Shim, id: &str, exec: Option<&str>) -> Ask<Exit> {
    let answer =
        read(|answer: wire::DeleteResponse| Ok(Exit::of(answer.exit_status, answer.exited_at)));
    let message = process(id, exec);
    work(ask(shim, ("delete", "Delete"), id, &message, answer))
}

/// Add a process to a container, not yet begun. `program` is the runtime-spec's `process`.
///
/// # Errors
/// In words: a process that cannot be written as JSON.
pub fn exec(
    shim: &Shim,
    id: &str,
    exec: &str,
    streams: &Streams,
    program: &impl Serialize,
) -> Result<Ask<()>, String> {
    let message = wire::ExecRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
        terminal: streams.terminal,
        stdin: Streams::name(streams.stdin.as_ref()),
        stdout: Streams::name(streams.stdout.as_ref()),
        stderr: Streams::name(streams.stderr.as_ref()),
        spec: Some(value::document("Process", program)?),
    };
    Ok(work(ask(shim, ("exec", "Exec"), id, &message, nothing())))
}

/// Set the size of a process's terminal, in characters.
pub fn resize(shim: &Shim, id: &str, exec: Option<&str>, rows: u16, cols: u16) -> Ask<()> {
    let message = wire::ResizeRequest {
        id: id.to_owned(),
        exec_id: exec.unwrap_or_default().to_owned(),
        width: cols.into(),
        height: rows.into(),
    };
    ask(shim, ("resize", "ResizePty"), id, &message, nothing())
}

/// No more stdin will come: needed beside closing the pipe, which the shim holds open itself.
pub fn close_stdin(shim: &Shim, id: &str, exec: Option<&str>) -> Ask<()> {
    let message = wire::CloseRequest {
        id: id.to_owned(),
        exec_id: exec.unwrap_or_default().to_owned(),
        stdin: true,
    };
    ask(
        shim,
        ("close the stdin of", "CloseIO"),
        id,
        &message,
        nothing(),
    )
}

/// Freeze a container.
pub fn pause(shim: &Shim, id: &str) -> Ask<()> {
    ask(shim, ("pause", "Pause"), id, &container(id), nothing())
}

/// Thaw a container.
pub fn resume(shim: &Shim, id: &str) -> Ask<()> {
    ask(shim, ("resume", "Resume"), id, &container(id), nothing())
}

/// Change a container's limits. `resources` is the runtime-spec's `linux.resources`.
///
/// # Errors
/// In words: resources that cannot be written as JSON.
pub fn update(shim: &Shim, id: &str, resources: &impl Serialize) -> Result<Ask<()>, String> {
    let message = wire::UpdateRequest {
        id: id.to_owned(),
        resources: Some(value::document("LinuxResources", resources)?),
        annotations: Default::default(),
    };
    Ok(ask(shim, ("update", "Update"), id, &message, nothing()))
}

/// Write a checkpoint of a container into `image`; `exit` ends it.
pub fn checkpoint(shim: &Shim, id: &str, image: &Path, work_dir: &Path, exit: bool) -> Ask<()> {
    let name = |path: &Path| path.to_string_lossy().into_owned();
    let options = wire::RuncCheckpointOptions {
        exit,
        open_tcp: true,
        image_path: name(image),
        work_path: name(work_dir),
    };
    let message = wire::CheckpointRequest {
        id: id.to_owned(),
        path: name(image),
        options: Some(value::message(
            "containerd.runc.v1.CheckpointOptions",
            &options,
        )),
    };
    let question = ask(shim, ("checkpoint", "Checkpoint"), id, &message, nothing());
    work(question)
}

/// The processes of a container on this host.
pub fn pids(shim: &Shim, id: &str) -> Ask<Vec<i32>> {
    let answer = read(|answer: wire::PidsResponse| {
        if answer.processes.len() > MAX_PIDS {
            return Err(format!("more than {MAX_PIDS} processes"));
        }
        let pids = answer
            .processes
            .iter()
            .map(|process| value::pid(process.pid));
        pids.filter_map(Result::transpose).collect()
    });
    ask(
        shim,
        ("list the processes of", "Pids"),
        id,
        &container(id),
        answer,
    )
}

/// A container's figures.
pub fn stats(shim: &Shim, id: &str) -> Ask<Stats> {
    let answer = read(|answer: wire::StatsResponse| {
        let figures = answer.stats.ok_or("no figures")?;
        Stats::read(&figures)
    });
    ask(shim, ("measure", "Stats"), id, &container(id), answer)
}

/// Who is the shim of that container?
pub fn connect(shim: &Shim, id: &str) -> Ask<Connected> {
    let answer = read(|answer: wire::ConnectResponse| {
        Ok(Connected {
            shim_pid: value::pid(answer.shim_pid)?,
            task_pid: value::pid(answer.task_pid)?,
            version: printable(&answer.version),
        })
    });
    ask(shim, ("connect to", "Connect"), id, &container(id), answer)
}

/// End the shim if it has no container; `now` ends it all the same, in shims that heed it.
pub fn shutdown(shim: &Shim, id: &str, now: bool) -> Ask<()> {
    let message = wire::ShutdownRequest {
        id: id.to_owned(),
        now,
    };
    ask(
        shim,
        ("end the shim of", "Shutdown"),
        id,
        &message,
        nothing(),
    )
}
