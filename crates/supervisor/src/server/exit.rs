//! The ends of processes: reaping all children, the record of a container's end, and killing.
//! An exit code is on disk before anybody is told of it, and the log is complete before that.

use std::time::Instant;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::connection::Role;
use super::container::{Container, Want, backoff};
use super::events::Events;
use super::poller::Key;
use super::streams::close_log_after_last;
use super::{Supervisor, diagnose};
use crate::error::Error;
use crate::event::Happening;
use crate::protocol::Response;
use crate::state::{Status, now_ns};
use crate::stream::Kind;
use crate::sys::process::ended_child;

/// The code a shell would give: the process's own, or 128 and the signal that killed it.
pub(super) fn exit_code(status: WaitStatus) -> i32 {
    status
        .exit_status()
        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}

impl Supervisor {
    /// Reaps every child that has ended: containers, exec'd commands, the pod's first process, and
    /// whatever was orphaned below and came to the subreaper.
    pub(super) fn reap(&mut self) {
        while let Some(pid) = ended_child() {
            // What a process said last is heard before its number may be another's.
            self.hear_creation(pid);
            self.hear_starting(pid);
            let orphan = self.may_be_orphan(pid);
            // This one and no other: one that has ended since is not heard yet. One that was given up upon
            // what it said is reaped with that.
            let reaped = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
            if let Ok(Some((_, status))) = reaped {
                let code = exit_code(status);
                self.orphans.extend(orphan.map(|orphan| orphan.with(code)));
                self.on_end(pid, code);
            }
        }
    }

    fn on_end(&mut self, pid: i32, code: i32) {
        let of = |container: &Container| {
            container
                .process
                .as_ref()
                .is_some_and(|process| process.pid() == pid)
        };
        if let Some(exec) = self.execs.remove(&pid) {
            self.exec_ended(exec, code);
        } else if self.program_ended(pid, code)
            || self.restore_ended(pid, code)
            || self.creation_ended(pid)
            || self.hooks_ended(pid, code)
            || self.companion_ended(pid, code)
            || self.dump_ended(pid, code)
            || self.on_exit_ended(pid, code)
        {
            // Told to whom it concerns.
        } else if let Some(key) = self
            .containers
            .iter()
            .find(|(_, container)| of(container))
            .map(|(key, _)| *key)
        {
            self.container_ended(key, code);
        } else if let Some(init) = self.pod.init.as_mut().filter(|init| init.pid() == pid) {
            init.gone();
            diagnose(format_args!(
                "the pod's first process {pid} has ended with code {code}: no container can join the pod"
            ));
        }
    }

    /// The first process of a container is reaped.
    pub(super) fn container_ended(&mut self, key: Key, code: i32) {
        let held_back = |one: &mut Container| one.hold_back(code);
        if self.containers.get_mut(&key).is_some_and(held_back) {
            return;
        }
        let kills = self.last_kills(key, code);
        self.end_agent(key);
        self.on_gate(key);
        self.drain(key);
        self.kill_execs_of(key);
        self.end_checks(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.process = None;
        container.gate = None;
        container.starting = None;
        if let Some(mut stdin) = container.stdin.take() {
            stdin.forget(&self.poller);
        }
        container.oom_due = None;
        if kills > container.oom_told {
            self.events.note(Happening::OutOfMemory, &container.state);
        }
        let oom_killed = kills > 0;
        container.state.pid = None;
        let failure = container.start_failure.take();
        container.set_status(match &failure {
            None => Status::Exited {
                started_at: container.state.status.started_at(),
                finished_at: now_ns(),
                exit_code: code,
                oom_killed,
                message: None,
            },
            Some(failure) => Status::Exited {
                started_at: None,
                finished_at: now_ns(),
                exit_code: failure.exit_code,
                oom_killed,
                message: Some(failure.message.clone()),
            },
        });
        self.events.note(Happening::Exited, &container.state);
        close_log_after_last(container);
        if container.is_ending() {
            kill_rest(container);
        }
        if let Some(removal) = &mut container.removal {
            removal.next = Instant::now();
        }
        self.tell_end(
            key,
            failure.map(|failure| (failure.message, failure.exit_code)),
        );
    }

    /// Tells all who wait for the end of a container, or carry its streams.
    pub(super) fn tell_end(&mut self, key: Key, failure: Option<(String, i32)>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let attached = !container.attached.is_empty();
        let failed = failure
            .map(|(message, exit_code)| Response::Failed(Error::Start { message, exit_code }))
            .unwrap_or(Response::Done);
        let ended = Response::State(container.state.clone());
        let (told, still) = container
            .waiting
            .drain(..)
            .partition(|(_, want)| *want != Want::Removal);
        container.waiting = still;
        let told: Vec<(Key, Want)> = told;
        for (client, want) in told {
            let answer = if want == Want::Start { &failed } else { &ended };
            self.connections.answer(client, answer, Vec::new());
        }
        // The record has no text but ids and a message: it always has a JSON form.
        let record = serde_json::to_vec(&container.state).unwrap_or_default();
        for client in container.attached.drain(..) {
            if let Some(connection) = self.connections.get(client) {
                connection.packet(Kind::Exit, &record);
                connection.role = Role::Leaving;
            }
        }
        self.note_exit(key, attached);
    }

    /// Kills a container, and sets the time to do so again. A process that cannot die now (state
    /// D) dies when it can; nobody but those who wait for it is held up.
    pub(super) fn kill(&mut self, key: Key) {
        self.let_go_with(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if container.is_exited() || container.shim.is_some() {
            return self.give_up_shim_container(key);
        }
        thaw(container, &mut self.events);
        if let Err(error) = container.signal("kill", libc::SIGKILL) {
            diagnose(format_args!("container {}: {error}", container.id()));
        }
        if container.restored {
            // It dies before it does anything.
            let _ = container.cgroup.tell_to_thaw();
        }
        // One that does not die at once may be frozen, by its own doing too.
        let again = container.stop.as_ref().is_some_and(|stop| stop.kills > 0);
        if !container.own_pid_namespace || again {
            kill_rest(container);
        }
        let id = container.state.id.clone();
        if let Some(stop) = &mut container.stop {
            stop.kills += 1;
            stop.kill_at = super::time::after(backoff(stop.kills + 4));
            if stop.kills == 10 {
                diagnose(format_args!(
                    "container {id}: its first process does not die; it is killed again and again"
                ));
            }
        }
    }
}

/// A frozen process takes no signal: lets a paused container run again.
pub(super) fn thaw(container: &mut Container, events: &mut Events) {
    if let Status::Paused { started_at } = container.state.status {
        match container.cgroup.thaw() {
            Ok(()) => {
                container.set_status(Status::Running { started_at });
                events.note(Happening::Resumed, &container.state);
            }
            Err(error) => diagnose(format_args!("container {}: thaw: {error}", container.id())),
        }
    }
}

/// Kills what is left in a container's cgroup, and waits for nothing that it does.
pub(super) fn kill_rest(container: &Container) {
    if let Err(error) = container.cgroup.kill_all_aside() {
        diagnose(format_args!(
            "container {}: kill its cgroup: {error}",
            container.id()
        ));
    }
}
