//! The verbs between a container's creation and its removal, one function each.

use std::time::{Duration, Instant};

use rustix::termios::{Winsize, tcsetwinsize};

use super::container::{Container, Start, StartFailure, Stop, Want};
use super::exit::{kill_rest, thaw};
use super::poller::{Interest, Key, Token};
use super::requests::Reply;
use super::time::after;
use super::{SET_UP, Supervisor};
use crate::error::{Error, Result};
use crate::event::Happening;
use crate::protocol::Response;
use crate::state::{Status, now_ns};

/// Ends a container that could not be started; the answer comes when its end is on disk.
pub(super) fn fail_start(
    container: &mut Container,
    client: Key,
    message: String,
    exit_code: i32,
) -> Reply {
    container.start_failure = Some(StartFailure { message, exit_code });
    container.waiting.push((client, Want::Start));
    let _ = container.signal("kill", libc::SIGKILL);
    Reply::Later
}

impl Supervisor {
    /// Opens the gate; answered when the program is executed, or cannot be.
    pub(super) fn start(&mut self, id: &str, client: Key) -> Result<Reply> {
        let key = self.find(id)?;
        let container = self.container(id)?;
        container.own_process("start")?;
        let ready = matches!(container.state.status, Status::Created) && container.stop.is_none();
        if let Some(driven) = &container.program {
            return match ready && !driven.starting {
                true => self.start_by_program(key, client),
                false => Err(container.wrong_state("start")),
            };
        }
        if container.restored && ready {
            return self.start_restored(key, client);
        }
        let Some(gate) = container.gate.take().filter(|_| ready) else {
            return Err(container.wrong_state("start"));
        };
        if let Err(error) = gate.release() {
            let code = error.exit_code();
            return Ok(fail_start(container, client, error.to_string(), code));
        }
        self.poller.add(&gate, Token::Gate(key), Interest::READ)?;
        let limit = Instant::now() + SET_UP;
        self.container(id)?.starting = Some(Start {
            gate,
            client,
            limit,
        });
        Ok(Reply::Later)
    }

    /// Lets a container go on that was made from criu's images.
    fn start_restored(&mut self, key: Key, client: Key) -> Result<Reply> {
        let Some(container) = self.containers.get_mut(&key) else {
            return Err(Error::protocol("the container is gone"));
        };
        let thawed = container.cgroup.tell_to_thaw();
        thawed.map_err(container.failed("start"))?;
        container.restored = false;
        container.set_status(Status::Running {
            started_at: now_ns(),
        });
        self.events.note(Happening::Started, &container.state);
        self.poststart(key, client);
        Ok(Reply::Later)
    }

    /// The first process has said something at its gate, or has left it.
    pub(super) fn on_gate(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(start) = container.starting.take() else {
            return;
        };
        let outcome = start.gate.is_executed();
        if matches!(outcome, Ok(false)) {
            container.starting = Some(start);
            return;
        }
        let _ = self.poller.remove(&start.gate, Token::Gate(key));
        match outcome {
            Ok(_) => {
                container.set_status(Status::Running {
                    started_at: now_ns(),
                });
                self.events.note(Happening::Started, &container.state);
                self.poststart(key, start.client);
            }
            Err(error) => {
                let code = error.exit_code();
                drop(fail_start(container, start.client, error.to_string(), code));
            }
        }
    }

    /// Ends starts whose time is over: something that the program's file or the container's hooks wait
    /// for does not come.
    pub(super) fn end_late_starts(&mut self, now: Instant) {
        let containers = self.containers.values_mut();
        let late = |start: &mut Start| start.limit <= now;
        for container in containers {
            if let Some(start) = container.starting.take_if(late) {
                let message = format!("its program is not executed within {} s", SET_UP.as_secs());
                let _ = self.poller.remove(&start.gate, Token::Gate(0));
                drop(fail_start(container, start.client, message, 128));
            }
        }
    }

    /// Sends a signal to the first process, or to all.
    pub(super) fn signal(
        &mut self,
        id: &str,
        signal: i32,
        all: bool,
        client: Key,
    ) -> Result<Reply> {
        let key = self.find(id)?;
        let container = self.container(id)?;
        if container.is_exited() && !all {
            return Err(container.wrong_state("signal"));
        }
        check_signal(signal)?;
        container.own_process("signal")?;
        // Who ends it does not want it to run again.
        container.killed |= matches!(signal, libc::SIGKILL | libc::SIGTERM);
        let by_program = container.program.is_some() && !container.is_exited();
        if by_program && signal != libc::SIGKILL {
            return self.signal_by_program(key, signal, all, Some(client));
        }
        if all {
            container
                .cgroup
                .signal_all(signal)
                .map_err(container.failed("signal"))?;
        } else {
            container.signal("signal", signal)?;
        }
        Ok(Response::Done.into())
    }

    /// Ends a container: the signal now, SIGKILL when the time is over.
    pub(super) fn stop(
        &mut self,
        id: &str,
        signal: i32,
        timeout: Duration,
        client: Key,
    ) -> Result<Reply> {
        check_signal(signal)?;
        if self.give_up_creation(id, client) {
            return Ok(Reply::Later);
        }
        let key = self.find(id)?;
        let container = self.container(id)?;
        if container.is_exited() {
            if !container.own_pid_namespace {
                kill_rest(container);
            }
            return Ok(Response::State(container.state.clone()).into());
        }
        container.waiting.push((client, Want::Exit));
        // Who stops it does not want it to run again, though it was to for being unhealthy.
        container.unwell = None;
        self.begin_stop(key, signal, timeout);
        Ok(Reply::Later)
    }

    /// A stop that is under way keeps the earlier of both times; its signal was sent already.
    pub(super) fn begin_stop(&mut self, key: Key, signal: i32, timeout: Duration) {
        self.let_go_with(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        // Before its program a process has no handlers: nothing but SIGKILL ends it.
        let at_once = timeout.is_zero() || matches!(container.state.status, Status::Created);
        let kill_at = if at_once {
            Some(Instant::now())
        } else {
            after(timeout)
        };
        if let Some(stop) = &mut container.stop {
            stop.kill_at = stop.kill_at.into_iter().chain(kill_at).min();
        } else {
            container.stop = Some(Stop { kill_at, kills: 0 });
            if !at_once && container.program.is_some() {
                return self.ask_to_end_by_program(key, signal);
            }
            // What another program runs it has been asked to end; here is waited for that.
            if !at_once && container.shim.is_none() {
                thaw(container, &mut self.events);
                // Only a process that has ended cannot be signalled, and its end is on its way.
                let _ = container.signal("stop", signal);
            }
        }
        if at_once && container.stop.as_ref().is_some_and(|stop| stop.kills == 0) {
            self.kill(key);
        }
    }

    /// Answers when the container has ended.
    pub(super) fn wait(&mut self, id: &str, client: Key) -> Result<Reply> {
        let container = self.container(id)?;
        if container.is_exited() {
            return Ok(Response::State(container.state.clone()).into());
        }
        container.waiting.push((client, Want::Exit));
        Ok(Reply::Later)
    }

    /// Opens the log anew.
    pub(super) fn reopen_log(&mut self, id: &str) -> Result<Reply> {
        let container = running(self.container(id)?, "reopen the log of")?;
        let Some(log) = &mut container.log else {
            return Err(Error::invalid("log", format!("container {id} has none")));
        };
        log.reopen()?;
        let news = log.news();
        container.note_log_loss(news);
        Ok(Response::Done.into())
    }

    /// Sets the size of the container's terminal.
    pub(super) fn resize(&mut self, id: &str, rows: u16, cols: u16) -> Result<Reply> {
        let container = self.container(id)?;
        if !container.terminal {
            return Err(Error::invalid(
                "terminal",
                format!("container {id} has none"),
            ));
        }
        let Some(output) = &container.stdout else {
            return Err(container.wrong_state("resize the terminal of"));
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(output.fd(), size).map_err(Error::io(
            "resize",
            format!("the terminal of container {id}"),
        ))?;
        Ok(Response::Done.into())
    }

    /// Changes the limits of the container's cgroup.
    pub(super) fn update(
        &mut self,
        id: &str,
        resources: &runtime::spec::Resources,
        client: Key,
    ) -> Result<Reply> {
        let key = self.find(id)?;
        let container = self.container(id)?;
        if container.is_exited() {
            return Err(container.wrong_state("update"));
        }
        container.own_process("update")?;
        if container.program.is_some() {
            return self.update_by_program(key, resources, client);
        }
        container
            .cgroup
            .update(resources)
            .map_err(container.failed("update"))?;
        Ok(Response::Done.into())
    }

    /// Freezes a container.
    pub(super) fn pause(&mut self, id: &str, client: Key) -> Result<Reply> {
        let key = self.find(id)?;
        let container = self.container(id)?;
        container.own_process("pause")?;
        let Status::Running { started_at } = container.state.status else {
            return Err(container.wrong_state("pause"));
        };
        if container.stop.is_some() || container.held {
            let state = match container.held {
                true => "being written down",
                false => "being stopped",
            };
            return Err(Error::State {
                verb: "pause".into(),
                id: id.to_owned(),
                state: state.into(),
            });
        }
        if container.program.is_some() {
            return self.pause_by_program(key, client);
        }
        container
            .cgroup
            .freeze()
            .map_err(container.failed("pause"))?;
        container.set_status(Status::Paused { started_at });
        let state = container.state.clone();
        self.events.note(Happening::Paused, &state);
        Ok(Response::Done.into())
    }

    /// Thaws a container.
    pub(super) fn resume(&mut self, id: &str, client: Key) -> Result<Reply> {
        let key = self.find(id)?;
        let container = self.container(id)?;
        container.own_process("resume")?;
        let Status::Paused { started_at } = container.state.status else {
            return Err(container.wrong_state("resume"));
        };
        if container.program.is_some() {
            return self.resume_by_program(key, client);
        }
        container
            .cgroup
            .thaw()
            .map_err(container.failed("resume"))?;
        container.set_status(Status::Running { started_at });
        let state = container.state.clone();
        self.events.note(Happening::Resumed, &state);
        Ok(Response::Done.into())
    }
}

/// The container if it runs, paused or not.
pub(super) fn running<'a>(container: &'a mut Container, verb: &str) -> Result<&'a mut Container> {
    match container.state.status {
        Status::Running { .. } | Status::Paused { .. } => Ok(container),
        Status::Created | Status::Exited { .. } | Status::Other(_) => {
            Err(container.wrong_state(verb))
        }
    }
}

fn check_signal(signal: i32) -> Result<()> {
    if (1..=64).contains(&signal) {
        return Ok(());
    }
    Err(Error::invalid(
        "signal",
        format!("{signal} is not between 1 and 64"),
    ))
}
