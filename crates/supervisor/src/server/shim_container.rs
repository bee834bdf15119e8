//! Containers that another program makes and runs, a shim, in whatever way: the pod's supervisor has
//! their streams, logs, clients and records, and no process. The program writes to named pipes in the
//! container's directory, so that it and the supervisor may begin in any order. How a container ended is
//! told by the program itself: the engine gives the question ([`Watch`]), and the answer comes also when
//! no engine lives. What else becomes of a container the engine tells ([`Became`]).
//!
//! The program is believed nothing but its own containers' ends: its answer is bounded and checked, and
//! when it dies its containers have ended, and what is left of them in their cgroups is killed.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use runtime::cgroup::Cgroup;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::container::{Container, runtime_failed};
use super::create::NewLog;
use super::exit::kill_rest;
use super::on_exit::Due;
use super::poller::{Interest, Key, Token};
use super::requests::Reply;
use super::stdin::Stdin;
use super::streams::{Output, close_log_after_last};
use super::{Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::event::Happening;
use crate::protocol::{Became, CreateContainer, Response, Watch};
use crate::state::{ContainerState, Status, now_ns, remove_file};

mod wire;

/// How long the end of a container waits for the ends of its streams: the program copies them, and says
/// that it has ended before it has copied all.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The longest answer, in bytes: two numbers.
const ANSWER: usize = 4 << 10;
/// The code of a container whose end nobody saw: as if killed.
const KILLED: i32 = 128 + libc::SIGKILL;

/// What is known of a container that another program runs.
#[derive(Debug, Default)]
pub(super) struct ShimContainer {
    watch: Option<Question>,
    /// What is to be said when no more stdin will come.
    close_stdin: Option<Watch>,
    /// It is said; hanging up would take it back.
    closing: Option<UnixStream>,
    /// The kernel killed for want of memory, as the program says.
    oom: bool,
    /// It has ended, and its streams have not.
    end: Option<End>,
}

/// The question how it ended, under way.
#[derive(Debug)]
struct Question {
    socket: UnixStream,
    answer: Vec<u8>,
}

/// How it ended.
#[derive(Debug, Clone)]
struct End {
    code: i32,
    at: i64,
    message: Option<String>,
    /// When its streams are waited for no longer.
    until: Instant,
}

/// A container may have ended before anyone told that it ran: then it began when it ended, at the latest.
fn began_before_its_end(container: &mut Container) {
    let mut status = container.state.status.clone();
    if let Status::Exited {
        started_at: began @ None,
        finished_at,
        ..
    } = &mut status
    {
        *began = Some(*finished_at);
        container.set_status(status);
    }
}

impl ShimContainer {
    /// When its end is told though its streams have no end.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.end.as_ref().map(|end| end.until)
    }
}

impl Supervisor {
    /// Takes part in a container that another program is to make.
    pub(super) fn carry(&mut self, request: CreateContainer) -> Result<Reply> {
        self.may_create(&request)?;
        let log = NewLog::open(&request)?;
        let pipe = |name: &str, flags| make_pipe(&request.bundle.join(name), flags);
        let stdout = pipe("stdout", OFlags::RDONLY)?;
        let stderr = match request.terminal {
            true => None,
            false => Some(pipe("stderr", OFlags::RDONLY)?),
        };
        let stdin = match request.stdin {
            // Open for both: the program may open it later, and its end is told to the program.
            true => Some(pipe("stdin", OFlags::RDWR)?),
            false => None,
        };
        let cgroup = Cgroup::open("").map_err(runtime_failed(&request.id, "create"))?;
        let state = ContainerState::of_shim(&request.id);
        state.write(&request.bundle)?;
        let key = self.new_key();
        let container = Container {
            program: None,
            state,
            dir: request.bundle,
            process: None,
            gate: None,
            shim: Some(Box::default()),
            starting: None,
            start_failure: None,
            cgroup,
            resctrl: None,
            oom: None,
            own_pid_namespace: false,
            hooks: false,
            terminal: request.terminal,
            stdout: Some(Output::new(stdout, Token::Stdout(key))),
            stderr: stderr.map(|fd| Output::new(fd, Token::Stderr(key))),
            stdin: stdin.map(|fd| Stdin::new(fd, Token::Stdin(key), request.terminal)),
            stdin_once: request.stdin_once,
            log: log.commit(),
            attached: Vec::new(),
            waiting: Vec::new(),
            stop: None,
            removal: None,
            held: false,
            restored: false,
            own_time: false,
            due: request.on_exit.map(Due::of),
            checks: None,
            unwell: None,
            killed: false,
            run_limit: request.run_limit,
            run_until: None,
            agent: None,
            unsaved: None,
            oom_told: 0,
            oom_due: None,
        };
        self.events.note(Happening::Created, &container.state);
        self.containers.insert(key, container);
        self.balance(key);
        Ok(Response::Done.into())
    }

    /// What became of such a container.
    pub(super) fn tell(&mut self, id: &str, became: Became) -> Result<Reply> {
        let key = self.find(id)?;
        let Some(container) = self.containers.get_mut(&key) else {
            return Err(Error::NotFound { id: id.to_owned() });
        };
        let Some(shim) = &mut container.shim else {
            let reason = format!("the supervisor runs container {id} itself");
            return Err(Error::invalid("tell", reason));
        };
        if container.state.status.is_exited() {
            if matches!(became, Became::Running) {
                began_before_its_end(container);
            }
            return Ok(Response::Done.into());
        }
        let started_at = container.state.status.started_at().unwrap_or_else(now_ns);
        match became {
            Became::Made { pid, cgroup, watch } => self.made_elsewhere(key, pid, &cgroup, watch)?,
            Became::Running => {
                let happened = match container.state.status {
                    Status::Paused { .. } => Happening::Resumed,
                    _ => Happening::Started,
                };
                if !matches!(container.state.status, Status::Running { .. }) {
                    container.set_status(Status::Running { started_at });
                    self.events.note(happened, &container.state);
                }
            }
            Became::Paused => {
                container.set_status(Status::Paused { started_at });
                self.events.note(Happening::Paused, &container.state);
            }
            Became::OutOfMemory => {
                shim.oom = true;
                self.events.note(Happening::OutOfMemory, &container.state);
            }
            Became::Ended { code, at, message } => self.end_shim_container(key, code, at, message),
        }
        Ok(Response::Done.into())
    }

    fn made_elsewhere(
        &mut self,
        key: Key,
        pid: Option<i32>,
        cgroup: &str,
        watch: Option<Watch>,
    ) -> Result<()> {
        let question = watch
            .as_ref()
            .map(|watch| self.ask(key, watch))
            .transpose()?;
        let Some(container) = self.containers.get_mut(&key) else {
            return Ok(());
        };
        container.state.pid = pid;
        cgroup.clone_into(&mut container.state.cgroup);
        // It may be on this host or not.
        if let Ok(cgroup) = Cgroup::open(cgroup) {
            container.oom = cgroup.oom_events().ok();
            container.cgroup = cgroup;
        }
        let shim = container.shim.get_or_insert_default();
        if question.is_some() {
            shim.watch = question;
            shim.close_stdin = watch.filter(|watch| !watch.close_stdin.is_empty());
        }
        container.save();
        self.watch_for_oom(key);
        Ok(())
    }

    /// Asks the program how the container ends; it answers when it has.
    fn ask(&mut self, key: Key, watch: &Watch) -> Result<Question> {
        let socket = say(&watch.socket, &watch.request)?;
        self.poller
            .add(socket.as_fd(), Token::ShimContainer(key), Interest::READ)?;
        Ok(Question {
            socket,
            answer: Vec::new(),
        })
    }

    /// No more stdin will come.
    pub(super) fn stdin_ended(&mut self, key: Key) {
        let container = self.containers.get_mut(&key);
        let Some(shim) = container.and_then(|it| it.shim.as_mut()) else {
            return;
        };
        if let Some(watch) = shim.close_stdin.take() {
            match say(&watch.socket, &watch.close_stdin) {
                Ok(socket) => shim.closing = Some(socket),
                Err(error) => diagnose(format_args!("stdin is not closed: {error}")),
            }
        }
    }

    /// The program has said something, or is gone.
    pub(super) fn on_shim_container(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(shim) = &mut container.shim else {
            return;
        };
        let Some(question) = &mut shim.watch else {
            return;
        };
        let heard = match question.hear() {
            Ok(None) => return,
            Ok(Some(end)) => Ok(end),
            Err(reason) => Err(reason),
        };
        let _ = self
            .poller
            .remove(&question.socket, Token::ShimContainer(key));
        shim.watch = None;
        match heard {
            Ok((code, at)) => self.end_shim_container(key, code, at, None),
            Err(reason) => {
                diagnose(format_args!("container {}: {reason}", container.id()));
                kill_rest(container);
                self.end_shim_container(key, KILLED, None, Some(reason));
            }
        }
    }

    /// It has ended; told when its streams have too.
    fn end_shim_container(
        &mut self,
        key: Key,
        code: i32,
        at: Option<i64>,
        message: Option<String>,
    ) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(shim) = &mut container.shim else {
            return;
        };
        shim.end.get_or_insert_with(|| End {
            code,
            at: at.unwrap_or_else(now_ns),
            message,
            until: Instant::now() + LAST_WORDS,
        });
        self.settle_shim_container(key);
    }

    /// Tells the end of a container, if all it said is heard or it is not waited for any longer.
    pub(super) fn settle_shim_container(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(end) = container.shim.as_ref().and_then(|it| it.end.clone()) else {
            return;
        };
        let silent = container.stdout.is_none() && container.stderr.is_none();
        if container.is_exited() || (!silent && Instant::now() < end.until) {
            return;
        }
        self.drain(key);
        let kills = self.last_kills(key, end.code);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(mut stdin) = container.stdin.take() {
            stdin.forget(&self.poller);
        }
        container.oom_due = None;
        if kills > container.oom_told {
            self.events.note(Happening::OutOfMemory, &container.state);
        }
        let shim = container.shim.get_or_insert_default();
        shim.end = None;
        let oom_killed = kills > 0 || shim.oom;
        container.state.pid = None;
        let started_at = container.state.status.started_at();
        container.set_status(Status::Exited {
            started_at,
            // Who tells of the start reads the clock after the program began, and may be late.
            finished_at: end.at.max(started_at.unwrap_or(end.at)),
            exit_code: end.code,
            oom_killed,
            message: end.message,
        });
        self.events.note(Happening::Exited, &container.state);
        close_log_after_last(container);
        if let Some(removal) = &mut container.removal {
            removal.next = Instant::now();
        }
        self.tell_end(key, None);
    }

    /// The time is over in which the program was to say that a container has ended: it has.
    pub(super) fn give_up_shim_container(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(shim) = container.shim.as_mut() else {
            return;
        };
        if container.state.status.is_exited() {
            return;
        }
        if let Some(question) = shim.watch.take() {
            let _ = self
                .poller
                .remove(&question.socket, Token::ShimContainer(key));
        }
        kill_rest(container);
        let now = Instant::now();
        let shim = container.shim.get_or_insert_default();
        let end = shim.end.get_or_insert(End {
            code: KILLED,
            at: now_ns(),
            message: None,
            until: now,
        });
        end.until = now;
        self.settle_shim_container(key);
    }

    /// Tells the ends of containers whose streams do not end.
    pub(super) fn end_late_shim_container(&mut self, now: Instant) {
        let late = |container: &Container| {
            let shim = container.shim.as_ref();
            shim.is_some_and(|it| it.deadline().is_some_and(|until| until <= now))
        };
        let of = |(key, container): (&Key, &Container)| late(container).then_some(*key);
        let keys: Vec<Key> = self.containers.iter().filter_map(of).collect();
        for key in keys {
            self.settle_shim_container(key);
        }
    }
}

impl Container {
    /// The error for a verb that the program has to do.
    pub(super) fn own_process(&self, verb: &str) -> Result<()> {
        match self.shim {
            None => Ok(()),
            Some(_) => Err(Error::State {
                verb: verb.to_owned(),
                id: self.id().to_owned(),
                state: "another program's, which is to be asked".to_owned(),
            }),
        }
    }
}

impl Question {
    /// The container's code and when it ended, if it was said.
    ///
    /// # Errors
    /// In words: the program is gone, lies, or does not know.
    fn hear(&mut self) -> std::result::Result<Option<(i32, Option<i64>)>, String> {
        let mut buffer = [0; 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err("its shim is gone".to_owned()),
                Ok(count) if self.answer.len() + count > ANSWER => {
                    return Err("its shim says too much".to_owned());
                }
                Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return wire::exit(&self.answer),
                    _ => return Err(format!("its shim is gone: {error}")),
                },
            }
            if let Some(exit) = wire::exit(&self.answer)? {
                return Ok(Some(exit));
            }
        }
    }
}

/// Says something on a connection of its own. Never waits: a program that takes no client is not served.
fn say(path: &Path, words: &[u8]) -> Result<UnixStream> {
    let failed = |what| Error::io::<rustix::io::Errno>(what, path);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let socket = socket.map_err(failed("make a socket for"))?;
    let address = SocketAddrUnix::new(path).map_err(failed("connect to"))?;
    connect(&socket, &address).map_err(failed("connect to"))?;
    let mut socket = UnixStream::from(socket);
    // What is said has room in an empty socket.
    socket
        .write_all(words)
        .map_err(Error::io("write to", path))?;
    Ok(socket)
}

/// A named pipe in a container's directory; one of before is replaced.
fn make_pipe(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    remove_file(path)?;
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).map_err(Error::io("make", path))?;
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    open(path, flags, Mode::empty()).map_err(Error::io("open", path))
}
