//! Commands run in a container (CRI ExecSync and Exec). A command's streams are the client's own
//! descriptors or a terminal whose master the client gets: its output never passes through here.
//! Its life hangs on the client's connection, and ends with the container's. Health checks are commands that no
//! client has asked for ([`super::health`]).

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use runtime::cgroup::OomWatch;
use runtime::spec::{Namespace, NamespaceKind};
use runtime::{NewExec, Progress, Started, Starting, Stdio};

use super::connection::Role;
use super::container::{Container, runtime_failed};
use super::create::read_spec;
use super::poller::{Interest, Key, Token};
use super::program::exec::Place;
use super::requests::Reply;
use super::time::after;
use super::{LAST_WAIT, SET_UP, Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::protocol::{ExecExit, ExecRequest, ExecWire, Response};
use crate::state::Status;
use crate::sys::process::Process;

/// The end of a command whose time was over before it had another.
const LATE: ExecExit = ExecExit {
    code: 128 + libc::SIGKILL,
    timed_out: true,
    oom: false,
};

/// Who is told what becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client.
    Client(Key),
    /// The health check of this container.
    Check(Key),
}

/// A command that runs.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) container: Key,
    /// `None`: nobody any more.
    asker: Option<Asker>,
    process: Process,
    /// When its time is over.
    deadline: Option<Instant>,
    timed_out: bool,
    /// It was killed and has not ended: when its client is told all the same.
    answer_at: Option<Instant>,
}

impl Exec {
    /// When something is due with it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.answer_at).min()
    }
}

/// A command whose program is not executed yet.
#[derive(Debug)]
pub(super) struct Beginning {
    container: Key,
    pub(super) asker: Asker,
    starting: By,
    /// Its time, which runs from the request.
    timeout: Option<Instant>,
    /// When it is given up.
    limit: Instant,
    /// The client waits for a terminal.
    terminal: bool,
}

/// What starts a command.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual, and lives for a moment"
)]
enum By {
    /// The runtime library. Empty only while it is asked.
    Library(Option<Starting>),
    /// A program, in that process.
    Program(i32),
}

impl By {
    /// The command's process, if it is known.
    fn pid(&self) -> Option<i32> {
        match self {
            Self::Library(starting) => starting.as_ref().map(Starting::pid),
            Self::Program(_) => None,
        }
    }
}

impl Beginning {
    /// When it is given up.
    pub(super) fn deadline(&self) -> Instant {
        self.limit
    }
}

impl Supervisor {
    /// Runs a command in a container; answered when its program is executed.
    pub(super) fn exec(
        &mut self,
        id: &str,
        request: ExecRequest,
        wire: ExecWire,
        fds: Vec<OwnedFd>,
        client: Key,
    ) -> Result<Reply> {
        self.tidy = true;
        let wires = (wire, fds);
        let asker = Asker::Client(client);
        let key = self.begin_command(id, request.process, wires, request.timeout, asker)?;
        if let Some(connection) = self.connections.get(client) {
            connection.role = Role::Starting(key);
        }
        Ok(Reply::Later)
    }

    /// Begins a command; whoever asked is told when its program is executed, and when it has ended.
    pub(super) fn begin_command(
        &mut self,
        id: &str,
        process: runtime::spec::Process,
        (wire, fds): (ExecWire, Vec<OwnedFd>),
        timeout: Option<Duration>,
        asker: Asker,
    ) -> Result<Key> {
        let container = self.find(id)?;
        let key = self.new_key();
        let starting = self.begin_exec(id, process, (wire, fds), key)?;
        let timeout = timeout.and_then(after);
        let limit = Instant::now() + SET_UP;
        let beginning = Beginning {
            container,
            asker,
            starting,
            timeout,
            limit: timeout.map_or(limit, |timeout| timeout.min(limit)),
            terminal: matches!(wire, ExecWire::Terminal { .. }),
        };
        self.beginnings.insert(key, beginning);
        Ok(key)
    }

    fn begin_exec(
        &mut self,
        id: &str,
        mut process: runtime::spec::Process,
        (wire, fds): (ExecWire, Vec<OwnedFd>),
        key: Key,
    ) -> Result<By> {
        let inherited = self.oom_score_adj;
        let container = self.container(id)?;
        container.own_process("exec in")?;
        let first = may_exec(container)?;
        process.terminal = matches!(wire, ExecWire::Terminal { .. });
        process.oom_score_adj = process.oom_score_adj.or(inherited);
        if let Some(driven) = &container.program {
            let (program, dir) = (driven.program.clone(), container.dir.clone());
            let place = Place {
                program: &program,
                id,
                dir: &dir,
            };
            let run = self.exec_by_program(key, &place, process, (wire, fds))?;
            return Ok(By::Program(run));
        }
        let mut spec = read_spec(&container.dir)?;
        if container.own_time {
            let linux = spec.linux.get_or_insert_default();
            linux.namespaces.push(Namespace {
                kind: NamespaceKind::Time,
                path: None,
            });
        }
        let exec = NewExec {
            id,
            bundle: &container.dir,
            container_pid: first.pid(),
            container: first.pidfd(),
            spec: &spec,
            process: &process,
            cgroup: &container.cgroup,
            resctrl: container.resctrl.as_ref(),
            stdio: stdio(wire, fds)?,
            preserve_fds: 0,
        };
        let starting = exec.begin().map_err(not_started(id))?;
        self.poller
            .add(&starting, Token::Starting(key), Interest::READ)?;
        Ok(By::Library(Some(starting)))
    }

    /// The process of a command has said something.
    pub(super) fn on_starting(&mut self, key: Key) {
        let Some(beginning) = self.beginnings.get_mut(&key) else {
            return;
        };
        let By::Library(starting) = &mut beginning.starting else {
            return;
        };
        let outcome = match starting.take().map(Starting::advance) {
            Some(Ok(Progress::Pending(more))) => {
                *starting = Some(more);
                return;
            }
            Some(Ok(Progress::Done(started))) => Ok(started),
            Some(Err(error)) => Err(error),
            None => return,
        };
        let Some(beginning) = self.beginnings.remove(&key) else {
            return;
        };
        match outcome {
            Ok(started) => self.exec_started(beginning, started),
            Err(error) => {
                let id = self.containers.get(&beginning.container);
                let id = id.map(Container::id).unwrap_or_default();
                let answer = Response::Failed(not_started(id)(error));
                self.tell_asker(beginning.asker, answer, Vec::new());
            }
        }
    }

    pub(super) fn exec_started(&mut self, beginning: Beginning, started: Started) {
        let id = self.containers.get(&beginning.container);
        let id = id.map(Container::id).unwrap_or_default();
        for warning in &started.warnings {
            diagnose(format_args!("exec in container {id}: {warning}"));
        }
        let pid = started.pid;
        let exec = Exec {
            container: beginning.container,
            asker: Some(beginning.asker),
            process: Process::new(pid, started.pidfd),
            deadline: beginning.timeout,
            timed_out: false,
            answer_at: None,
        };
        self.execs.insert(pid, exec);
        if let Asker::Client(client) = beginning.asker {
            self.connections.answer_as(
                client,
                &Response::ExecStarted { pid },
                started.console.into_iter().collect(),
                Role::Exec(pid),
            );
        }
    }

    /// Says what became of a command.
    pub(super) fn tell_asker(&mut self, asker: Asker, said: Response, fds: Vec<OwnedFd>) {
        match (asker, said) {
            (Asker::Client(client), said) => self.connections.answer(client, &said, fds),
            (Asker::Check(key), Response::ExecExited(exit)) => self.check_exited(key, exit),
            (Asker::Check(key), Response::Failed(error)) => {
                self.check_failed(key, &error.to_string());
            }
            (Asker::Check(_), _) => {}
        }
    }

    /// A command has ended before it was known to be one.
    pub(super) fn exec_was_short(
        &mut self,
        beginning: &Beginning,
        (pid, console): (i32, Option<OwnedFd>),
        code: i32,
    ) {
        let exit = ExecExit {
            code,
            timed_out: false,
            oom: self.is_out_of_memory(beginning.container, code),
        };
        let asker = beginning.asker;
        let started = Response::ExecStarted { pid };
        self.tell_asker(asker, started, console.into_iter().collect());
        self.tell_asker(asker, Response::ExecExited(exit), Vec::new());
    }

    /// Was a process that ended so killed for want of memory, or another of its container?
    fn is_out_of_memory(&self, container: Key, code: i32) -> bool {
        let watch = self
            .containers
            .get(&container)
            .and_then(|one| one.oom.as_ref());
        code == 128 + libc::SIGKILL && watch.is_some_and(OomWatch::oom_killed)
    }

    /// A child has ended: if it is the process of a beginning command, what it said last is heard first.
    pub(super) fn hear_starting(&mut self, pid: i32) {
        let is_of = |one: &Beginning| one.starting.pid() == Some(pid);
        let of = |(key, one): (&Key, &Beginning)| is_of(one).then_some(*key);
        let Some(key) = self.beginnings.iter().find_map(of) else {
            return;
        };
        self.on_starting(key);
        if self.beginnings.get(&key).is_some_and(is_of) {
            self.give_up_starting(key, "it has ended before its program");
        }
    }

    /// The client of a command that is not there yet is gone.
    pub(super) fn abandon_starting(&mut self, key: Key) {
        if let Some(beginning) = self.beginnings.remove(&key) {
            self.abandon(beginning.starting);
        }
    }

    /// Ends what is to be a command. It is reaped like any other child.
    fn abandon(&self, starting: By) {
        match starting {
            By::Library(starting) => drop(starting.and_then(Starting::abandon)),
            By::Program(run) => {
                if let Some(run) = self.program_runs.get(&run) {
                    run.kill();
                }
            }
        }
    }

    /// Kills a command before its program, and tells its client: that its time is over, if it is.
    fn give_up_starting(&mut self, key: Key, reason: &str) {
        let Some(beginning) = self.beginnings.remove(&key) else {
            return;
        };
        self.abandon(beginning.starting);
        let now = Instant::now();
        let late = beginning.timeout.is_some_and(|timeout| timeout <= now);
        let asker = beginning.asker;
        if late && !beginning.terminal {
            let started = Response::ExecStarted { pid: 0 };
            self.tell_asker(asker, started, Vec::new());
            self.tell_asker(asker, Response::ExecExited(LATE), Vec::new());
            return;
        }
        let failed = Response::Failed(Error::Start {
            message: reason.to_owned(),
            exit_code: 128,
        });
        self.tell_asker(asker, failed, Vec::new());
    }

    /// Gives up the commands whose program is not executed in time: the container holds up what they
    /// need, or what they are.
    pub(super) fn end_late_beginnings(&mut self, now: Instant) {
        let due = |(key, one): (&Key, &Beginning)| (one.limit <= now).then_some(*key);
        let keys: Vec<Key> = self.beginnings.iter().filter_map(due).collect();
        for key in keys {
            self.give_up_starting(key, "its program is not executed in time");
        }
    }

    /// A command is reaped: tells its client.
    pub(super) fn exec_ended(&mut self, exec: Exec, code: i32) {
        let oom = self.is_out_of_memory(exec.container, code);
        if let Some(asker) = exec.asker {
            let exit = ExecExit {
                code,
                timed_out: exec.timed_out,
                oom,
            };
            self.tell_asker(asker, Response::ExecExited(exit), Vec::new());
        }
        // A removal may have waited for it.
        if let Some(container) = self.containers.get_mut(&exec.container)
            && let Some(removal) = &mut container.removal
        {
            removal.next = Instant::now();
        }
    }

    /// The client of a command is gone.
    pub(super) fn abandon_exec(&mut self, pid: i32) {
        if let Some(exec) = self.execs.get_mut(&pid) {
            exec.asker = None;
            exec.deadline = None;
            exec.process.kill_with_group();
        }
    }

    /// The container has ended: its commands have nothing to live in.
    pub(super) fn kill_execs_of(&mut self, container: Key) {
        let of = |exec: &&mut Exec| exec.container == container;
        for exec in self.execs.values_mut().filter(of) {
            exec.process.kill_with_group();
        }
        let of = |(key, one): (&Key, &Beginning)| (one.container == container).then_some(*key);
        let keys: Vec<Key> = self.beginnings.iter().filter_map(of).collect();
        for key in keys {
            self.give_up_starting(key, "its container has ended");
        }
    }

    /// Kills the commands whose time is over. One that the kernel holds is told of before it ends.
    pub(super) fn kill_late_execs(&mut self, now: Instant) {
        let mut late = Vec::new();
        for exec in self.execs.values_mut() {
            if exec.deadline.is_some_and(|deadline| deadline <= now) {
                exec.deadline = None;
                exec.timed_out = true;
                exec.answer_at = after(LAST_WAIT);
                exec.process.kill_with_group();
            }
            if exec.answer_at.is_some_and(|at| at <= now) {
                exec.answer_at = None;
                late.extend(exec.asker.take());
            }
        }
        for asker in late {
            self.tell_asker(asker, Response::ExecExited(LATE), Vec::new());
        }
    }
}

/// Why a command could not be started.
fn not_started(id: &str) -> impl FnOnce(runtime::Error) -> Error + use<> {
    let id = id.to_owned();
    move |error| match error.exit_code() {
        128 => runtime_failed(&id, "exec in")(error),
        exit_code => Error::Start {
            message: error.to_string(),
            exit_code,
        },
    }
}

/// The first process of a container that takes commands.
fn may_exec(container: &Container) -> Result<&Process> {
    let state = match (&container.state.status, &container.stop) {
        (_, Some(stop)) if stop.kills > 0 => "being killed",
        // What is in its cgroup then would be in the checkpoint, or hold it up.
        _ if container.held => "being written down",
        (Status::Running { .. }, _) => "",
        (status, _) => status.word(),
    };
    match container.process.as_ref().filter(|_| state.is_empty()) {
        Some(process) => Ok(process),
        None => Err(Error::State {
            verb: "exec in".into(),
            id: container.id().to_owned(),
            state: state.to_owned(),
        }),
    }
}

pub(super) fn stdio(wire: ExecWire, fds: Vec<OwnedFd>) -> Result<Stdio> {
    match wire {
        ExecWire::Terminal { size } => Ok(Stdio::Terminal {
            size,
            raw_output: false,
        }),
        ExecWire::Fds => {
            let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(fds).map_err(|fds| {
                Error::protocol(format!(
                    "exec wants three file descriptors, and {} came",
                    fds.len()
                ))
            })?;
            Ok(Stdio::Fds {
                stdin,
                stdout,
                stderr,
            })
        }
    }
}
