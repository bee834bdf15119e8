//! One container as its supervisor holds it: record, process, cgroup, streams, and what is under
//! way with it. Changes of its state go through [`Container::set_status`], which puts them on disk.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use runtime::Gate;
use runtime::cgroup::{Cgroup, OomWatch};
use runtime::resctrl::Group;

use super::cri_log::CriLog;
use super::diagnose;
use super::health::Checks;
use super::on_exit::Due;
use super::poller::Key;
use super::program::Driven;
use super::seccomp_agent::Agent;
use super::shim_container::ShimContainer;
use super::stdin::Stdin;
use super::streams::Output;
use super::time::after;
use crate::client::Stream;
use crate::error::{Error, Result};
use crate::health::OnUnhealthy;
use crate::state::{ContainerState, LogLoss, Status};
use crate::sys::process::Process;

/// How long until a record that could not be written is tried again.
const RETRY_RECORD: Duration = Duration::from_secs(1);

/// A container of the pod.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) state: ContainerState,
    /// Its directory, where the record is.
    pub(super) dir: PathBuf,
    /// Its first process, until that is reaped.
    pub(super) process: Option<Process>,
    /// Holds its first process before its program; taken by start.
    pub(super) gate: Option<Gate>,
    /// What is known of it, if another program runs it.
    pub(super) shim: Option<Box<ShimContainer>>,
    /// The program that it is made by, if one is.
    pub(super) program: Option<Box<Driven>>,
    /// It was let on at its gate, and its program is not executed yet.
    pub(super) starting: Option<Start>,
    /// Why start failed; its first process is ending.
    pub(super) start_failure: Option<StartFailure>,
    pub(super) cgroup: Cgroup,
    /// Its group of resctrl, if it has one.
    pub(super) resctrl: Option<Group>,
    pub(super) oom: Option<OomWatch>,
    /// How many OOM kills were told.
    pub(super) oom_told: u64,
    /// When to look for more of them.
    pub(super) oom_due: Option<Instant>,
    /// With its first process the kernel kills all others.
    pub(super) own_pid_namespace: bool,
    /// It has hooks that run after start or removal.
    pub(super) hooks: bool,
    /// Its streams are one terminal, whose master side is `stdout`.
    pub(super) terminal: bool,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    pub(super) stdin: Option<Stdin>,
    pub(super) stdin_once: bool,
    pub(super) log: Option<CriLog>,
    /// Clients that carry its streams.
    pub(super) attached: Vec<Key>,
    /// Clients that wait for something of it.
    pub(super) waiting: Vec<(Key, Want)>,
    pub(super) stop: Option<Stop>,
    pub(super) removal: Option<Removal>,
    /// It was made from criu's images and stands frozen: start lets it go on.
    pub(super) restored: bool,
    /// criu has put it into a time namespace, which config.json does not know of.
    pub(super) own_time: bool,
    /// It is frozen for a client ([`super::hold`]).
    pub(super) held: bool,
    /// Counts the calls that its seccomp profile refuses, if it is to.
    pub(super) agent: Option<Box<Agent>>,
    /// What is due at its end.
    pub(super) due: Option<Due>,
    /// What its health checks have come to, if there are any.
    pub(super) checks: Option<Box<Checks>>,
    /// It is ended because it is unhealthy.
    pub(super) unwell: Option<OnUnhealthy>,
    /// Somebody has sent it a signal that ends it.
    pub(super) killed: bool,
    /// How long it may run.
    pub(super) run_limit: Option<Duration>,
    /// When it is killed for that.
    pub(super) run_until: Option<Instant>,
    /// The record on disk is older than the one in memory; when to try again.
    pub(super) unsaved: Option<Instant>,
}

/// A start that is under way.
#[derive(Debug)]
pub(super) struct Start {
    /// Tells when the program is executed.
    pub(super) gate: Gate,
    /// Who asked for it.
    pub(super) client: Key,
    /// When it has failed.
    pub(super) limit: Instant,
}

/// Why a program was not executed.
#[derive(Debug)]
pub(super) struct StartFailure {
    pub(super) message: String,
    pub(super) exit_code: i32,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The end of a start that failed.
    Start,
    /// The end of a health check.
    Check,
    /// Its end.
    Exit,
    /// Its removal.
    Removal,
}

/// A stop that is under way.
#[derive(Debug)]
pub(super) struct Stop {
    /// When to kill, or to kill again; `None` never.
    pub(super) kill_at: Option<Instant>,
    /// How many times it was killed.
    pub(super) kills: u32,
}

/// A removal that is under way; it begins when the container has ended.
#[derive(Debug)]
pub(super) struct Removal {
    /// When to try next.
    pub(super) next: Instant,
    /// How many times it was tried.
    pub(super) tries: u32,
    /// Leave the record on disk: the pod is shut down, and somebody may want to know the exit code.
    pub(super) keep_record: bool,
}

/// How long to wait after so many tries: doubled each time, up to five seconds.
pub(super) fn backoff(tries: u32) -> Duration {
    Duration::from_millis(5)
        .saturating_mul(1 << tries.min(10))
        .min(Duration::from_secs(5))
}

impl Container {
    pub(super) fn id(&self) -> &str {
        &self.state.id
    }

    pub(super) fn is_exited(&self) -> bool {
        self.state.status.is_exited()
    }

    /// Somebody stops or removes it.
    pub(super) fn is_ending(&self) -> bool {
        self.stop.is_some() || self.removal.is_some()
    }

    /// Puts the record on disk; a failure is told, and the record tried again later.
    pub(super) fn save(&mut self) {
        match self.state.write(&self.dir) {
            Ok(()) => self.unsaved = None,
            Err(error) => {
                diagnose(format_args!("container {}: {error}", self.state.id));
                self.unsaved = after(RETRY_RECORD);
            }
        }
    }

    /// Puts what its log lacks on disk, if that is something new.
    pub(super) fn note_log_loss(&mut self, loss: Option<LogLoss>) {
        let known = self.state.log_loss.as_deref();
        if let Some(loss) = loss.filter(|loss| *loss != LogLoss::default() && known != Some(loss)) {
            self.state.log_loss = Some(Box::new(loss));
            self.save();
        }
    }

    /// Moves the container to another state, also on disk.
    pub(super) fn set_status(&mut self, status: Status) {
        if matches!(status, Status::Running { .. }) && self.run_until.is_none() {
            self.run_until = self.run_limit.and_then(after);
        }
        if let (Status::Running { .. }, Some(checks)) = (&status, &mut self.checks) {
            checks.begin(Instant::now());
        }
        self.state.status = status;
        self.save();
    }

    /// The error for a verb that does not fit the state.
    pub(super) fn wrong_state(&self, verb: &str) -> Error {
        Error::State {
            verb: verb.to_owned(),
            id: self.state.id.clone(),
            state: self.state.status.word().to_owned(),
        }
    }

    /// Something the runtime said, with the container's name.
    pub(super) fn failed<E: std::error::Error + 'static>(
        &self,
        verb: &'static str,
    ) -> impl FnOnce(E) -> Error + use<E> {
        runtime_failed(&self.state.id, verb)
    }

    pub(super) fn output(&mut self, stream: Stream) -> &mut Option<Output> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Sends a signal to the first process.
    pub(super) fn signal(&self, verb: &'static str, signal: i32) -> Result<()> {
        let process = self
            .process
            .as_ref()
            .ok_or_else(|| self.wrong_state(verb))?;
        process
            .signal(signal)
            .map_err(Error::io("signal", format!("process {}", process.pid())))
    }

    /// The next moment at which something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stop = self
            .stop
            .as_ref()
            .filter(|_| !self.is_exited())
            .and_then(|stop| stop.kill_at);
        let removal = self
            .removal
            .as_ref()
            .filter(|_| self.is_exited())
            .map(|removal| removal.next);
        let start = self.starting.as_ref().map(|start| start.limit);
        let shim = self.shim.as_ref().and_then(|it| it.deadline());
        let agent = self.agent.as_ref().and_then(|it| it.deadline());
        let due = self.due.as_ref().and_then(|due| due.at);
        let run = self.run_until.filter(|_| !self.is_exited());
        let check = self.checks.as_ref().and_then(|it| it.deadline());
        let all = [
            due,
            run,
            check.filter(|_| !self.is_exited()),
            stop,
            removal,
            start,
            shim,
            agent,
            self.unsaved,
            self.oom_due,
        ];
        all.into_iter().flatten().min()
    }
}

/// Something the runtime said, with the container's name.
pub(super) fn runtime_failed<E: std::error::Error + 'static>(
    id: &str,
    verb: &'static str,
) -> impl FnOnce(E) -> Error + use<E> {
    let id = id.to_owned();
    move |error| {
        let message = error.to_string();
        let any: &dyn std::error::Error = &error;
        let of_request = match (any.downcast_ref(), any.downcast_ref()) {
            (Some(error), _) => runtime::Error::is_of_request(error),
            (None, Some(error)) => runtime::cgroup::Error::is_of_request(error),
            (None, None) => false,
        };
        if of_request {
            return Error::invalid(format!("{verb} container {id}"), message);
        }
        Error::Runtime {
            verb: verb.to_owned(),
            id,
            message,
        }
    }
}
