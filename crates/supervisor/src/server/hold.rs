//! Containers that are frozen for a client, to be written down as they are at one moment. They go on when
//! the client says so, when its connection closes (an engine that dies included), when the time that it gave
//! is over, or when one of them is stopped: nobody but the supervisor is needed for that.
//!
//! Their record says running all the while. Waits for no process: those that do not stop in time are let go
//! on, and the client is told.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::container::Container;
use super::poller::Key;
use super::requests::Reply;
use super::{Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::protocol::Response;
use crate::state::Status;

/// How long processes may take to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until they, or what is being killed, are looked at again.
const LOOK: Duration = Duration::from_millis(2);
/// The longest that a client may ask for.
const LONGEST: Duration = Duration::from_secs(3600);
/// More containers than a pod has.
const MOST: usize = 1024;

/// Containers that are frozen for a client, filed under it.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) containers: Vec<Key>,
    limit: Instant,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// They are stopping: when they must have, and when to look next.
    Stopping(Instant, Instant),
    /// They stand still.
    Held,
    /// One of them is being written down, by that process and its group.
    Dumping(i32),
    /// They go on, for good once nothing of that group is left: criu freezes what it lets go.
    Ending(i32, Instant),
}

impl Hold {
    /// When something is due.
    pub(super) fn deadline(&self) -> Instant {
        match self.stage {
            Stage::Stopping(_, next) => next.min(self.limit),
            Stage::Held | Stage::Dumping(_) => self.limit,
            Stage::Ending(_, next) => next,
        }
    }
}

impl Supervisor {
    /// Freezes running containers; answered when all stand still.
    pub(super) fn freeze(&mut self, ids: &[String], limit: Duration, client: Key) -> Result<Reply> {
        let containers = self.to_hold(ids, client)?;
        let now = Instant::now();
        let hold = Hold {
            containers,
            limit: now + limit.min(LONGEST),
            stage: Stage::Stopping(now + PATIENCE, now),
        };
        for key in &hold.containers {
            if let Some(container) = self.containers.get_mut(key) {
                container.held = true;
            }
        }
        self.holds.insert(client, hold);
        self.tend_hold(client, now);
        Ok(Reply::Later)
    }

    /// The containers if all can be frozen.
    fn to_hold(&self, ids: &[String], client: Key) -> Result<Vec<Key>> {
        if self.holds.contains_key(&client) {
            return Err(Error::protocol(
                "containers are frozen for this connection already",
            ));
        }
        if ids.is_empty() || ids.len() > MOST {
            let reason = format!("{} containers are named", ids.len());
            return Err(Error::invalid("ids", reason));
        }
        let mut keys = Vec::new();
        for id in ids {
            let key = self.find(id)?;
            if keys.contains(&key) {
                return Err(Error::invalid("ids", format!("names {id} twice")));
            }
            if let Some(container) = self.containers.get(&key) {
                may_hold(container)?;
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// Lets the containers go on that are frozen for a client.
    pub(super) fn thaw(&mut self, client: Key) -> Result<Reply> {
        match self.holds.get(&client).map(|hold| &hold.stage) {
            None | Some(Stage::Ending(..)) => Err(not_held("thaw")),
            Some(_) => {
                self.let_go(client, "");
                Ok(Response::Done.into())
            }
        }
    }

    /// What is due with the containers that are frozen.
    pub(super) fn tend_holds(&mut self, now: Instant) {
        let due = |(client, hold): (&Key, &Hold)| (hold.deadline() <= now).then_some(*client);
        let clients: Vec<Key> = self.holds.iter().filter_map(due).collect();
        for client in clients {
            self.tend_hold(client, now);
        }
    }

    fn tend_hold(&mut self, client: Key, now: Instant) {
        let Some(hold) = self.holds.get_mut(&client) else {
            return;
        };
        match hold.stage {
            Stage::Ending(group, _) if is_left(group) => {
                hold.stage = Stage::Ending(group, now + LOOK);
            }
            Stage::Ending(..) => self.forget_hold(client),
            _ if hold.limit <= now => self.let_go(client, "the time for its checkpoint is over"),
            Stage::Held | Stage::Dumping(_) => {}
            Stage::Stopping(until, _) => {
                let containers = hold.containers.iter();
                let mut containers = containers.filter_map(|key| self.containers.get(key));
                match containers.try_fold(true, |all, one| Ok(stand_still(one)? && all)) {
                    Ok(true) => {
                        hold.stage = Stage::Held;
                        self.connections.answer(client, &Response::Done, Vec::new());
                    }
                    Ok(false) if now < until => hold.stage = Stage::Stopping(until, now + LOOK),
                    Ok(false) => self.let_go(client, "its processes do not stop"),
                    Err(error) => {
                        let error: runtime::cgroup::Error = error;
                        self.let_go(client, &error.to_string());
                    }
                }
            }
        }
    }

    /// Lets containers go on; a client that waits for something of them is told why.
    pub(super) fn let_go(&mut self, client: Key, why: &str) {
        let Some(hold) = self.holds.get_mut(&client) else {
            return;
        };
        let keys = hold.containers.clone();
        let group = match hold.stage {
            Stage::Ending(..) => return,
            Stage::Dumping(group) => Some(group),
            Stage::Stopping(..) | Stage::Held => None,
        };
        let waits = !matches!(hold.stage, Stage::Held);
        if let Some(group) = group {
            kill_group(group);
            hold.stage = Stage::Ending(group, Instant::now() + LOOK);
        }
        self.go_on(&keys);
        if waits {
            let failed = Response::Failed(Error::Runtime {
                verb: "checkpoint".to_owned(),
                id: self.name_of(&keys),
                message: why.to_owned(),
            });
            self.connections.answer(client, &failed, Vec::new());
        }
        if group.is_none() {
            self.forget_hold(client);
        }
    }

    /// Lets go on what is frozen together with a container that is to end.
    pub(super) fn let_go_with(&mut self, key: Key) {
        let with =
            |(client, hold): (&Key, &Hold)| hold.containers.contains(&key).then_some(*client);
        if let Some(client) = self.holds.iter().find_map(with) {
            self.let_go(client, "it is being stopped");
        }
    }

    fn forget_hold(&mut self, client: Key) {
        let Some(hold) = self.holds.remove(&client) else {
            return;
        };
        self.go_on(&hold.containers);
        for key in hold.containers {
            if let Some(container) = self.containers.get_mut(&key) {
                container.held = false;
            }
        }
    }

    /// Thaws containers, whatever one of them says to it.
    fn go_on(&self, keys: &[Key]) {
        for container in keys.iter().filter_map(|key| self.containers.get(key)) {
            if let Err(error) = container.cgroup.tell_to_thaw()
                && !container.is_exited()
            {
                diagnose(format_args!("container {}: thaw: {error}", container.id()));
            }
        }
    }

    fn name_of(&self, keys: &[Key]) -> String {
        let names = keys.iter().filter_map(|key| self.containers.get(key));
        let names: Vec<&str> = names.map(Container::id).collect();
        names.join(", ")
    }
}

/// Can a container be frozen for a client?
fn may_hold(container: &Container) -> Result<()> {
    container.own_process("checkpoint")?;
    let state = match (&container.state.status, &container.stop) {
        _ if container.held => "being written down already",
        (_, Some(_)) => "being stopped",
        (Status::Running { .. }, None) => return Ok(()),
        (status, None) => status.word(),
    };
    Err(Error::State {
        verb: "checkpoint".to_owned(),
        id: container.id().to_owned(),
        state: state.to_owned(),
    })
}

/// Tells a container to stop; has it?
fn stand_still(container: &Container) -> Result<bool, runtime::cgroup::Error> {
    if container.is_exited() {
        return Ok(true);
    }
    container.cgroup.tell_to_freeze()?;
    container.cgroup.has_stopped()
}

/// The client has no containers that are frozen, or none any more.
pub(super) fn not_held(verb: &str) -> Error {
    Error::State {
        verb: verb.to_owned(),
        id: String::new(),
        state: "not frozen, or not any longer: its time was over, or it was stopped".to_owned(),
    }
}

/// Kills a process that is not reaped yet, with its group.
pub(super) fn kill_group(group: i32) {
    if let Some(group) = Pid::from_raw(group) {
        // ESRCH: all of it has ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Is anything left of a process group?
fn is_left(group: i32) -> bool {
    Pid::from_raw(group).is_some_and(|group| test_kill_process_group(group).is_ok())
}
