//! The hooks that run after the fact (OCI runtime-spec, config.md, "POSIX-platform Hooks"): poststart
//! and poststop. Those before are the runtime's. A poststart hook that fails ends the container; of
//! poststop's it is a warning.
//!
//! They are run by a child, one after the other, so that a hook holds up nobody but whoever asked for
//! what it belongs to; it is killed at the limit of [`SET_UP`].

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Instant;

use runtime::hooks::{HookState, run, run_all};
use runtime::spec::Spec;
use rustix::process::{Pid, Signal, kill_process};
use rustix::stdio::dup2_stdout;

use super::child;
use super::container::Container;
use super::create::read_spec;
use super::life::fail_start;
use super::poller::Key;
use super::{SET_UP, Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::protocol::Response;
use crate::sys::process::close_inherited;

/// How much a hook's failure may say.
const WORDS: u64 = 4096;

/// The hooks of one point that are being run, by the process that this is filed under.
#[derive(Debug)]
pub(super) struct HookRun {
    id: String,
    /// What they hold up.
    then: Then,
    /// Why one failed comes here.
    reason: File,
    limit: Instant,
}

#[derive(Debug)]
enum Then {
    /// The answer to a start.
    Started { container: Key, client: Key },
    /// The answers to removals.
    Removed(Vec<Key>),
}

impl HookRun {
    /// When it is killed.
    pub(super) fn deadline(&self) -> Instant {
        self.limit
    }
}

/// Does a container have a hook that the supervisor must call?
pub(super) fn wanted(spec: &Spec) -> bool {
    spec.hooks
        .as_ref()
        .is_some_and(|hooks| !hooks.poststart.is_empty() || !hooks.poststop.is_empty())
}

impl Supervisor {
    /// A program was executed: its client is answered once its poststart hooks have run.
    pub(super) fn poststart(&mut self, container: Key, client: Key) {
        let then = Then::Started { container, client };
        let Some(of) = self.containers.get(&container).filter(|one| one.hooks) else {
            return self.after_hooks(then, None);
        };
        let run = HookRun::begin(of, "poststart", then);
        self.file(run);
    }

    /// A container was removed: those who asked for it are answered once its poststop hooks have run.
    pub(super) fn poststop(&mut self, container: &Container, clients: Vec<Key>) {
        let then = Then::Removed(clients);
        if !container.hooks {
            return self.after_hooks(then, None);
        }
        let run = HookRun::begin(container, "poststop", then);
        self.file(run);
    }

    fn file(&mut self, run: std::result::Result<(i32, HookRun), (Then, Error)>) {
        match run {
            Ok((pid, run)) => drop(self.hook_runs.insert(pid, run)),
            Err((then, error)) => self.after_hooks(then, Some(error.to_string())),
        }
    }

    /// A child is reaped; was it one that ran hooks?
    pub(super) fn hooks_ended(&mut self, pid: i32, code: i32) -> bool {
        let Some(run) = self.hook_runs.remove(&pid) else {
            return false;
        };
        let mut reason = String::new();
        let read = (&run.reason).take(WORDS).read_to_string(&mut reason);
        if code != 0 && (read.is_err() || reason.is_empty()) {
            reason = format!("its hooks did not end within {} s", SET_UP.as_secs());
        }
        let reason = (code != 0).then_some(reason);
        if let Some(reason) = &reason {
            diagnose(format_args!("container {}: {reason}", run.id));
        }
        self.after_hooks(run.then, reason);
        true
    }

    fn after_hooks(&mut self, then: Then, failure: Option<String>) {
        match (then, failure) {
            (Then::Started { container, client }, Some(message)) => {
                match self.containers.get_mut(&container) {
                    Some(container) if !container.is_exited() => {
                        fail_start(container, client, message, 128);
                    }
                    _ => {
                        let exit_code = 128;
                        let failed = Response::Failed(Error::Start { message, exit_code });
                        self.connections.answer(client, &failed, Vec::new());
                    }
                }
            }
            (Then::Started { client, .. }, None) => {
                self.connections.answer(client, &Response::Done, Vec::new());
            }
            (Then::Removed(clients), _) => {
                for client in clients {
                    self.connections.answer(client, &Response::Done, Vec::new());
                }
            }
        }
    }

    /// Kills what runs hooks for too long. A hook itself may outlive it; the subreaper has it then.
    pub(super) fn end_late_hooks(&mut self, now: Instant) {
        for (pid, run) in &mut self.hook_runs {
            if run.limit <= now
                && let Some(pid) = Pid::from_raw(*pid)
            {
                // It is not reaped, so the number is still its own.
                let _ = kill_process(pid, Signal::KILL);
                run.limit = now + SET_UP;
            }
        }
    }
}

impl HookRun {
    fn begin(
        container: &Container,
        kind: &'static str,
        then: Then,
    ) -> std::result::Result<(i32, Self), (Then, Error)> {
        let begun = read_spec(&container.dir).and_then(|spec| in_child(container, kind, &spec));
        match begun {
            Ok((pid, reason)) => {
                let run = Self {
                    id: container.id().to_owned(),
                    then,
                    reason: reason.into(),
                    limit: Instant::now() + SET_UP,
                };
                Ok((pid, run))
            }
            Err(error) => Err((then, error)),
        }
    }
}

/// Has a child run the hooks; what it says, if one fails, is in the pipe when it has ended.
fn in_child(container: &Container, kind: &'static str, spec: &Spec) -> Result<(i32, OwnedFd)> {
    child::in_child("hooks", |write| {
        // Nothing of the supervisor's stays open in hooks that outlive it, but where they say why.
        let kept = dup2_stdout(write).is_ok() && close_inherited(3).is_ok();
        let outcome = match kept {
            true => call(container, kind, spec),
            false => Err("its hooks could not be called".to_owned()),
        };
        let code = i32::from(outcome.is_err());
        if let Err(reason) = outcome {
            // Whoever would read it is gone, or there is room for it.
            let _ = std::io::stdout().write_all(reason.as_bytes());
            let _ = std::io::stdout().flush();
        }
        code
    })
}

/// Calls the hooks.
fn call(container: &Container, kind: &'static str, spec: &Spec) -> std::result::Result<(), String> {
    let status = match kind {
        "poststart" => "running",
        _ => "stopped",
    };
    let pid = container.state.pid;
    let state = HookState::new(container.id(), status, pid, &container.dir, spec);
    let Some(hooks) = &spec.hooks else {
        return Ok(());
    };
    if kind == "poststart" {
        return run(kind, &hooks.poststart, &state).map_err(|error| error.to_string());
    }
    let failed = run_all(kind, &hooks.poststop, &state);
    let words: Vec<String> = failed.iter().map(ToString::to_string).collect();
    match words.is_empty() {
        true => Ok(()),
        false => Err(words.join("; ")),
    }
}
