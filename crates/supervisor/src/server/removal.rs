//! Delete and shutdown: a container that has ended loses its cgroup, with whatever is left in it,
//! and is forgotten. Tried again and again without waiting: a process in state D, or a cgroup that
//! is busy for a moment, holds up nobody but those who asked.

use std::time::{Duration, Instant};

use super::container::{Container, Removal, Want, backoff};
use super::exit::kill_rest;
use super::poller::Key;
use super::requests::Reply;
use super::{LAST_WAIT, Supervisor, diagnose};
use crate::error::Result;
use crate::event::Happening;
use crate::oci_program::DELETION;
use crate::protocol::Response;
use crate::state::ContainerState;

/// After so many tries an empty cgroup that cannot be removed is an error for those who wait. Few:
/// the runtime has tried for most of a second each time.
const TRIES: u32 = 2;
/// After so many tries it is worth a note that processes do not die.
const PATIENCE: u32 = 12;

impl Supervisor {
    /// Forgets a container; kills it first if `force`.
    pub(super) fn delete(&mut self, id: &str, force: bool, client: Key) -> Result<Reply> {
        if force && self.give_up_creation(id, client) {
            return Ok(Reply::Later);
        }
        let key = self.find(id)?;
        let container = self.container(id)?;
        if !container.is_exited() && !force {
            return Err(container.wrong_state("delete"));
        }
        container.waiting.push((client, Want::Removal));
        self.begin_removal(key, false);
        Ok(Reply::Later)
    }

    /// Kills everything; the supervisor ends when the last container is gone.
    pub(super) fn shutdown(&mut self, client: Option<Key>) -> Reply {
        if self.ending.is_none() {
            self.events.note_pod(Happening::PodEnding);
        }
        self.ending.get_or_insert_default().extend(client);
        let keys: Vec<Key> = self.containers.keys().copied().collect();
        for key in keys {
            self.begin_removal(key, true);
        }
        self.give_up_creations();
        Reply::Later
    }

    fn begin_removal(&mut self, key: Key, keep_record: bool) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let under_way = container.removal.take();
        container.removal = Some(Removal {
            next: Instant::now(),
            tries: 0,
            keep_record: keep_record && under_way.is_none_or(|removal| removal.keep_record),
        });
        if container.is_exited() {
            self.try_removal(key);
        } else {
            self.begin_stop(key, libc::SIGKILL, Duration::ZERO);
        }
    }

    /// Removes a container that has ended, or sets the time to try again.
    pub(super) fn try_removal(&mut self, key: Key) {
        let execs = self.execs.values().any(|exec| exec.container == key);
        let Some(container) = self.containers.get(&key) else {
            return;
        };
        // What a program knows of it goes first, and its cgroup may with that.
        let empty = !execs
            && container
                .cgroup
                .processes()
                .is_ok_and(|left| left.is_empty());
        let deleted = container.program.is_none() || (empty && self.delete_by_program(key));
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if empty && !deleted {
            if let Some(removal) = &mut container.removal {
                removal.next = Instant::now() + DELETION + LAST_WAIT;
            }
            return;
        }
        match remove_cgroup(container, execs) {
            Ok(true) => self.forget(key, Ok(())),
            Ok(false) => {
                if let Some(removal) = &mut container.removal {
                    removal.tries += 1;
                    removal.next = Instant::now() + backoff(removal.tries);
                }
            }
            Err(error) => {
                diagnose(format_args!("{error}"));
                self.forget(key, Err(error));
            }
        }
    }

    /// The removal is over: answers those who wait. After a failure the container stays, and its
    /// removal may be asked for again; a supervisor that ends forgets it all the same.
    fn forget(&mut self, key: Key, result: Result<()>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let keep_record = container
            .removal
            .take()
            .is_some_and(|removal| removal.keep_record);
        let waiting = std::mem::take(&mut container.waiting);
        let clients: Vec<Key> = waiting.into_iter().map(|(client, _)| client).collect();
        match result {
            Err(error) if !keep_record => {
                let failed = Response::Failed(error);
                for client in clients {
                    self.connections.answer(client, &failed, Vec::new());
                }
            }
            _ => self.close_container(key, keep_record, clients),
        }
    }

    fn close_container(&mut self, key: Key, keep_record: bool, clients: Vec<Key>) {
        let Some(mut container) = self.containers.remove(&key) else {
            return;
        };
        for output in container.stdout.iter_mut().chain(&mut container.stderr) {
            output.watch(false, &self.poller);
        }
        if !keep_record && let Err(error) = ContainerState::remove(&container.dir) {
            diagnose(format_args!("container {}: {error}", container.id()));
        }
        if !keep_record {
            self.events.note(Happening::Deleted, &container.state);
        }
        self.poststop(&container, clients);
    }
}

/// Removes the cgroup of a container that has ended. `Ok(false)`: not yet.
fn remove_cgroup(container: &Container, execs: bool) -> Result<bool> {
    let tries = container
        .removal
        .as_ref()
        .map_or(0, |removal| removal.tries);
    let left = container
        .cgroup
        .processes()
        .map_err(container.failed("delete"))?;
    if !left.is_empty() || execs {
        if tries == PATIENCE {
            diagnose(format_args!(
                "container {}: processes {left:?} do not die; still trying",
                container.id()
            ));
        }
        kill_rest(container);
        return Ok(false);
    }
    match container.cgroup.delete() {
        Ok(()) => {
            let group = container.resctrl.as_ref();
            group
                .map_or(Ok(()), runtime::resctrl::Group::remove)
                .map_err(container.failed("delete"))?;
            Ok(true)
        }
        Err(_) if tries < TRIES => Ok(false),
        Err(error) => Err(container.failed("delete")(error)),
    }
}
