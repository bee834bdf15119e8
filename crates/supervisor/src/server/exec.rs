//! Commands run in a container (CRI ExecSync and Exec). A command's streams are the client's own
//! descriptors or a terminal whose master the client gets: its output never passes through here.
//! Its life hangs on the client's connection, and ends with the container's.

use std::os::fd::OwnedFd;
use std::time::Instant;

use runtime::{NewExec, Stdio};

use super::connection::Role;
use super::container::Container;
use super::create::read_spec;
use super::poller::Key;
use super::requests::Reply;
use super::time::after;
use super::{Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::protocol::{ExecExit, ExecRequest, ExecWire, Response};
use crate::state::Status;
use crate::sys::process::Process;

/// A command that runs.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) container: Key,
    client: Option<Key>,
    process: Process,
    /// When its time is over.
    deadline: Option<Instant>,
    timed_out: bool,
}

impl Exec {
    /// When its time is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl Supervisor {
    /// Runs a command in a container; answers when its program is executed.
    pub(super) fn exec(
        &mut self,
        id: &str,
        request: ExecRequest,
        wire: ExecWire,
        fds: Vec<OwnedFd>,
        client: Key,
    ) -> Result<Reply> {
        self.tidy = true;
        let key = self.find(id)?;
        let inherited = self.oom_score_adj;
        let container = self.container(id)?;
        let container_pid = may_exec(container)?;
        let mut process = request.process;
        process.terminal = matches!(wire, ExecWire::Terminal { .. });
        process.oom_score_adj = process.oom_score_adj.or(inherited);
        let spec = read_spec(&container.dir)?;
        let stdio = stdio(wire, fds)?;
        let exec = NewExec {
            id,
            bundle: &container.dir,
            container_pid,
            spec: &spec,
            process: &process,
            cgroup: &container.cgroup,
            resctrl: container.resctrl.as_ref(),
            stdio,
            preserve_fds: 0,
        };
        let started = exec.start().map_err(|error| match error.exit_code() {
            128 => container.failed("exec in")(error),
            exit_code => Error::Start {
                message: error.to_string(),
                exit_code,
            },
        })?;
        for warning in &started.warnings {
            diagnose(format_args!("exec in container {id}: {warning}"));
        }
        let console = started.console;
        let exec = Exec {
            container: key,
            client: Some(client),
            process: Process::new(started.pid, started.pidfd),
            deadline: request.timeout.and_then(after),
            timed_out: false,
        };
        self.execs.insert(started.pid, exec);
        Ok(Reply::Now {
            response: Response::ExecStarted { pid: started.pid },
            fds: console.into_iter().collect(),
            role: Role::Exec(started.pid),
        })
    }

    /// A command is reaped: tells its client.
    pub(super) fn exec_ended(&mut self, exec: Exec, code: i32) {
        let killed = code == 128 + libc::SIGKILL;
        let oom = killed
            && self
                .containers
                .get(&exec.container)
                .and_then(|container| container.oom.as_ref())
                .is_some_and(runtime::cgroup::OomWatch::oom_killed);
        if let Some(client) = exec.client {
            let exit = ExecExit {
                code,
                timed_out: exec.timed_out,
                oom,
            };
            self.connections
                .answer(client, &Response::ExecExited(exit), Vec::new());
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
            exec.client = None;
            exec.deadline = None;
            exec.process.kill_with_group();
        }
    }

    /// The container has ended: its commands have nothing to live in.
    pub(super) fn kill_execs_of(&mut self, container: Key) {
        for exec in self
            .execs
            .values()
            .filter(|exec| exec.container == container)
        {
            exec.process.kill_with_group();
        }
    }

    /// Kills the commands whose time is over.
    pub(super) fn kill_late_execs(&mut self, now: Instant) {
        for exec in self.execs.values_mut() {
            if exec.deadline.is_some_and(|deadline| deadline <= now) {
                exec.deadline = None;
                exec.timed_out = true;
                exec.process.kill_with_group();
            }
        }
    }
}

/// The first process of a container that takes commands.
fn may_exec(container: &Container) -> Result<i32> {
    let state = match (&container.state.status, &container.stop) {
        (_, Some(stop)) if stop.kills > 0 => "being killed",
        (Status::Running { .. }, _) => "",
        (status, _) => status.word(),
    };
    match container.state.pid.filter(|_| state.is_empty()) {
        Some(pid) => Ok(pid),
        None => Err(Error::State {
            verb: "exec in".into(),
            id: container.id().to_owned(),
            state: state.to_owned(),
        }),
    }
}

fn stdio(wire: ExecWire, fds: Vec<OwnedFd>) -> Result<Stdio> {
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
