//! The verbs of a program's container between its creation and its removal. SIGKILL, the end of a stop
//! and of a removal depend on no program: they are the kernel's.

use std::time::Instant;

use runtime::spec::Resources;
use rustix::fs::{MemfdFlags, memfd_create};

use super::super::container::Container;
use super::super::life::fail_start;
use super::super::poller::Key;
use super::super::requests::Reply;
use super::super::{Supervisor, diagnose};
use super::Deletion;
use super::run::{Order, Outcome, Then};
use crate::error::{Error, Result};
use crate::event::Happening;
use crate::oci_program::{ProgramRecord, path_of};
use crate::protocol::{OciProgram, Response};
use crate::state::{Status, now_ns};

impl Supervisor {
    /// A container's program and id.
    fn program_of(&self, key: Key) -> Option<(OciProgram, String)> {
        let container = self.containers.get(&key)?;
        let driven = container.program.as_ref()?;
        Some((driven.program.clone(), container.id().to_owned()))
    }

    /// Has the program carry out a verb that takes no words of its own.
    fn order_plain(&mut self, key: Key, verb: &'static str, then: Then) -> Result<()> {
        let (program, id) = self.program_of(key).ok_or_else(|| gone(key))?;
        self.order(Order::new(&program, &id, verb), then).map(drop)
    }

    /// Has the program start a container; answered when it has.
    pub(in crate::server) fn start_by_program(&mut self, key: Key, client: Key) -> Result<Reply> {
        self.order_plain(key, "start", Then::Started(key, client))?;
        let container = self.containers.get_mut(&key);
        if let Some(driven) = container.and_then(|one| one.program.as_mut()) {
            driven.starting = true;
        }
        Ok(Reply::Later)
    }

    pub(super) fn started_by_program(&mut self, key: Key, client: Key, outcome: Outcome) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let mut ended = None;
        if let Some(driven) = &mut container.program {
            driven.starting = false;
            ended = driven.ended.take();
        }
        match outcome {
            Ok(()) => {
                container.set_status(Status::Running {
                    started_at: now_ns(),
                });
                self.events.note(Happening::Started, &container.state);
                self.connections.answer(client, &Response::Done, Vec::new());
            }
            Err(failure) => {
                let code = exit_code(&failure.words);
                drop(fail_start(container, client, failure.words, code));
            }
        }
        if let Some(code) = ended {
            self.container_ended(key, code);
        }
    }

    /// Sends a signal to a container through its program; nobody waits for it if there is no client.
    pub(in crate::server) fn signal_by_program(
        &mut self,
        key: Key,
        signal: i32,
        all: bool,
        client: Option<Key>,
    ) -> Result<Reply> {
        let (program, id) = self.program_of(key).ok_or_else(|| gone(key))?;
        let mut order = Order::new(&program, &id, "kill");
        if all {
            order.options.push("--all".into());
        }
        order.last = Some(signal.to_string());
        self.order(order, Then::Signalled(client))?;
        Ok(Reply::Later)
    }

    pub(super) fn signalled_by_program(&mut self, id: &str, client: Option<Key>, outcome: Outcome) {
        match (client, outcome) {
            (Some(client), outcome) => self.tell_of_verb("signal", id, client, outcome),
            (None, Err(failure)) => diagnose(format_args!("container {id}: {}", failure.words)),
            (None, Ok(())) => {}
        }
    }

    /// The signal of a stop: a container that is paused is resumed first, for it takes none.
    pub(in crate::server) fn ask_to_end_by_program(&mut self, key: Key, signal: i32) {
        let paused = self
            .containers
            .get(&key)
            .is_some_and(|one| matches!(one.state.status, Status::Paused { .. }));
        let done = match paused {
            true => self.order_plain(key, "resume", Then::Resumed(key, Err(signal))),
            false => self.signal_by_program(key, signal, false, None).map(drop),
        };
        if let Err(error) = done {
            diagnose(format_args!("{error}"));
        }
    }

    /// Has the program freeze a container that runs.
    pub(in crate::server) fn pause_by_program(&mut self, key: Key, client: Key) -> Result<Reply> {
        self.order_plain(key, "pause", Then::Paused(key, client))?;
        Ok(Reply::Later)
    }

    pub(super) fn paused_by_program(&mut self, key: Key, client: Key, outcome: Outcome) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let (Status::Running { started_at }, Ok(())) = (&container.state.status, &outcome) {
            let started_at = *started_at;
            container.set_status(Status::Paused { started_at });
            self.events.note(Happening::Paused, &container.state);
        }
        let id = container.id().to_owned();
        self.tell_of_verb("pause", &id, client, outcome);
    }

    /// Has the program thaw a container that is paused.
    pub(in crate::server) fn resume_by_program(&mut self, key: Key, client: Key) -> Result<Reply> {
        self.order_plain(key, "resume", Then::Resumed(key, Ok(client)))?;
        Ok(Reply::Later)
    }

    pub(super) fn resumed_by_program(
        &mut self,
        key: Key,
        next: std::result::Result<Key, i32>,
        outcome: Outcome,
    ) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let (Status::Paused { started_at }, Ok(())) = (&container.state.status, &outcome) {
            let started_at = *started_at;
            container.set_status(Status::Running { started_at });
            self.events.note(Happening::Resumed, &container.state);
        }
        let id = container.id().to_owned();
        match next {
            Ok(client) => self.tell_of_verb("resume", &id, client, outcome),
            Err(signal) => {
                if let Err(failure) = outcome {
                    diagnose(format_args!("container {id}: {}", failure.words));
                }
                // One that has ended meanwhile takes none, which is fine.
                let _ = self.signal_by_program(key, signal, false, None);
            }
        }
    }

    /// Has the program change a container's limits.
    pub(in crate::server) fn update_by_program(
        &mut self,
        key: Key,
        resources: &Resources,
        client: Key,
    ) -> Result<Reply> {
        let (program, id) = self.program_of(key).ok_or_else(|| gone(key))?;
        let file = memory_file("resources", resources)?;
        let mut order = Order::new(&program, &id, "update");
        order.options = vec!["--resources".into(), path_of(&file).into()];
        order.held = Some(file);
        self.order(order, Then::Updated(client))?;
        Ok(Reply::Later)
    }

    /// Answers whoever asked for a verb.
    pub(super) fn tell_of_verb(
        &mut self,
        verb: &'static str,
        id: &str,
        client: Key,
        outcome: Outcome,
    ) {
        let answer = match outcome {
            Ok(()) => Response::Done,
            Err(failure) => Response::Failed(Error::Runtime {
                verb: verb.to_owned(),
                id: id.to_owned(),
                message: failure.words,
            }),
        };
        self.connections.answer(client, &answer, Vec::new());
    }

    /// Has the program delete a container that has ended and is empty. True: there is nothing to wait for.
    pub(in crate::server) fn delete_by_program(&mut self, key: Key) -> bool {
        let container = self.containers.get_mut(&key);
        let Some(driven) = container.and_then(|one| one.program.as_mut()) else {
            return true;
        };
        match driven.deletion {
            Deletion::Done => return true,
            Deletion::UnderWay => return false,
            Deletion::NotAsked => driven.deletion = Deletion::UnderWay,
        }
        let Some((program, id)) = self.program_of(key) else {
            return true;
        };
        let mut order = Order::new(&program, &id, "delete");
        order.options.push("--force".into());
        if let Err(error) = self.order(order, Then::Deleted(key)) {
            self.deleted_by_program(key, Err(error.into()));
        }
        false
    }

    pub(super) fn deleted_by_program(&mut self, key: Key, outcome: Outcome) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let id = container.id().to_owned();
        if let Some(driven) = &mut container.program {
            driven.deletion = Deletion::Done;
            if let Err(failure) = outcome {
                diagnose(format_args!("container {id}: {}", failure.words));
                if let Err(error) = driven.program.forget(&id) {
                    diagnose(format_args!("container {id}: {error}"));
                }
            }
        }
        if let Err(error) = ProgramRecord::remove(&container.dir) {
            diagnose(format_args!("container {id}: {error}"));
        }
        if let Some(removal) = &mut container.removal {
            removal.next = Instant::now();
        }
    }
}

impl Container {
    /// Holds back the end of its first process until the program has said how its start went.
    pub(in crate::server) fn hold_back(&mut self, code: i32) -> bool {
        let driven = self.program.as_mut().filter(|driven| driven.starting);
        let Some(driven) = driven else {
            return false;
        };
        driven.ended = Some(code);
        self.process = None;
        true
    }
}

/// What a shell would answer for a program that could not be executed, by what is said of it.
pub(super) fn exit_code(words: &str) -> i32 {
    let words = words.to_lowercase();
    let has = |all: &[&str]| all.iter().any(|one| words.contains(one));
    match () {
        () if has(&["no such file", "not found", "not a directory"]) => 127,
        () if has(&["permission denied", "exec format error", "is a directory"]) => 126,
        () => 128,
    }
}

/// JSON in a file without a name, for a program to read.
pub(super) fn memory_file(
    name: &'static str,
    value: &impl serde::Serialize,
) -> Result<std::os::fd::OwnedFd> {
    let failed = || Error::io::<std::io::Error>("write", name);
    let file = memfd_create(name, MemfdFlags::CLOEXEC).map_err(Error::io("make", name))?;
    let mut file = std::fs::File::from(file);
    serde_json::to_writer(&mut file, value).map_err(|error| failed()(error.into()))?;
    Ok(file.into())
}

fn gone(key: Key) -> Error {
    Error::protocol(format!("container {key} is no program's"))
}
