//! Containers that are being made: what the runtime has begun and the first process has not finished.
//! What that process waits for (a hung volume, a slow hook, a throttled pod) holds up nobody but the
//! client that asked, and that for [`SET_UP`] at most.
//!
//! One that is given up is killed at once, and forgotten when it has ended and its cgroup is gone.

use std::time::Instant;

use runtime::cgroup::Cgroup;
use runtime::{Creating, Progress};

use super::container::{backoff, runtime_failed};
use super::create::Planned;
use super::poller::{Interest, Key, Token};
use super::program::create::{Made, Rest};
use super::restore::Restoring;
use super::{LAST_WAIT, SET_UP, Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::protocol::Response;

/// A container that is being made.
#[derive(Debug)]
pub(super) struct Creation {
    id: String,
    /// Until it is given up: its log goes with it.
    plan: Option<Planned>,
    client: Key,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It sets itself up, until it stands at its gate or the time is over. Empty only while it is asked.
    SettingUp(Option<Creating>, Instant),
    /// A program makes it.
    ByProgram(Box<Made>),
    /// A child makes it from criu's images.
    Restoring(Box<Restoring>),
    /// It was given up.
    Ending(Ending),
}

/// What is left of a container that was given up.
#[derive(Debug)]
pub(super) struct Ending {
    /// Its process, or that of the program that was to make it, until that is reaped.
    pub(super) pid: Option<i32>,
    /// Its cgroup, if it has one.
    pub(super) cgroup: Option<Cgroup>,
    /// Where that may come to be still.
    path: Option<String>,
    /// What the program that was to make it has to do with it still.
    pub(super) program: Option<Box<Rest>>,
    /// Clients that wait for its end.
    waiting: Vec<Key>,
    /// Until when they wait.
    until: Instant,
    /// When to try next to remove the cgroup.
    pub(super) next: Instant,
    tries: u32,
}

impl Ending {
    fn of(pid: Option<i32>, cgroup: Option<Cgroup>, program: Option<Box<Rest>>) -> Stage {
        let now = Instant::now();
        Stage::Ending(Self {
            pid,
            cgroup,
            path: None,
            program,
            waiting: Vec::new(),
            until: now + LAST_WAIT,
            next: now + backoff(0),
            tries: 0,
        })
    }

    /// What is left in a cgroup of that path, or comes to be there still.
    fn in_cgroup(pid: Option<i32>, path: String) -> Stage {
        match Self::of(pid, Cgroup::open(&path).ok(), None) {
            Stage::Ending(ending) => Stage::Ending(Self {
                path: Some(path),
                ..ending
            }),
            other => other,
        }
    }

    /// Looks once more for a cgroup that was not there.
    fn look_again(&mut self) {
        if self.cgroup.is_none()
            && let Some(path) = &self.path
        {
            self.cgroup = Cgroup::open(path).ok();
        }
    }

    fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
            || self
                .program
                .as_ref()
                .is_some_and(|rest| rest.is_waited_for())
    }

    /// Nobody is in its cgroup.
    fn is_empty(&self) -> bool {
        let processes = self.cgroup.as_ref().map(Cgroup::processes);
        processes.is_none_or(|left| left.is_ok_and(|left| left.is_empty()))
    }
}

impl Creation {
    /// One that a program carries out.
    pub(super) fn of_program(plan: Planned, client: Key, made: Made) -> Self {
        Self {
            id: plan.request.id.clone(),
            plan: Some(plan),
            client,
            stage: Stage::ByProgram(Box::new(made)),
        }
    }

    /// One that a program has failed in.
    pub(super) fn ending(id: String, client: Key, rest: Box<Rest>) -> Self {
        Self {
            id,
            plan: None,
            client,
            stage: Ending::of(None, rest.cgroup(), Some(rest)),
        }
    }

    /// One that is made from criu's images.
    pub(super) fn of_restore(plan: Planned, client: Key, restoring: Restoring) -> Self {
        Self {
            id: plan.request.id.clone(),
            plan: Some(plan),
            client,
            stage: Stage::Restoring(Box::new(restoring)),
        }
    }

    /// What is left of one that is not to be, in that cgroup; `pid` is what was making it, until it is reaped.
    pub(super) fn abandoned(id: String, client: Key, pid: Option<i32>, path: String) -> Self {
        Self {
            id,
            plan: None,
            client,
            stage: Ending::in_cgroup(pid, path),
        }
    }

    /// The child that makes it from criu's images, if one does.
    pub(super) fn restored_by(&self) -> Option<i32> {
        match &self.stage {
            Stage::Restoring(restoring) => Some(restoring.child),
            _ => None,
        }
    }

    /// What is to become of it, if it is made from criu's images.
    pub(super) fn restoring(self) -> Option<(String, Planned, Restoring, Key)> {
        match self.stage {
            Stage::Restoring(restoring) => Some((self.id, self.plan?, *restoring, self.client)),
            _ => None,
        }
    }

    /// What is to become of it, if a program carries it out.
    pub(super) fn made(self) -> Option<(String, Planned, Made, Key)> {
        match self.stage {
            Stage::ByProgram(made) => Some((self.id, self.plan?, *made, self.client)),
            _ => None,
        }
    }

    /// What a program has to do with it still, if it was given up.
    pub(super) fn left(&self) -> Option<&Rest> {
        match &self.stage {
            Stage::Ending(ending) => ending.program.as_deref(),
            _ => None,
        }
    }

    /// The container's id and what is left of it, if it was given up.
    pub(super) fn rest(&mut self) -> Option<(&str, &mut Ending)> {
        match &mut self.stage {
            Stage::Ending(ending) => Some((&self.id, ending)),
            _ => None,
        }
    }

    fn is_of(&self, process: i32) -> bool {
        match &self.stage {
            Stage::SettingUp(creating, _) => {
                creating.as_ref().is_some_and(|one| one.hangs_on(process))
            }
            // Runs have a table of their own.
            Stage::ByProgram(_) | Stage::Restoring(_) => false,
            Stage::Ending(ending) => ending.pid == Some(process),
        }
    }

    /// See [`Creating::outlives`].
    fn outlives(&mut self, process: i32) -> bool {
        match &mut self.stage {
            Stage::SettingUp(Some(creating), _) => creating.outlives(process),
            Stage::SettingUp(None, _)
            | Stage::ByProgram(_)
            | Stage::Restoring(_)
            | Stage::Ending(_) => false,
        }
    }

    /// The next moment at which something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::SettingUp(_, limit) => Some(*limit),
            // The run has a limit.
            Stage::ByProgram(_) => None,
            Stage::Restoring(restoring) => Some(restoring.limit),
            Stage::Ending(ending) if ending.is_waited_for() => Some(ending.next.min(ending.until)),
            Stage::Ending(ending) => Some(ending.next),
        }
    }
}

impl Supervisor {
    pub(super) fn add_creation(
        &mut self,
        creating: Creating,
        plan: Planned,
        client: Key,
    ) -> Result<()> {
        let key = self.new_key();
        self.poller
            .add(&creating, Token::Creation(key), Interest::READ)?;
        let limit = Instant::now() + SET_UP;
        let creation = Creation {
            id: plan.request.id.clone(),
            plan: Some(plan),
            client,
            stage: Stage::SettingUp(Some(creating), limit),
        };
        self.creations.insert(key, creation);
        Ok(())
    }

    pub(super) fn is_being_created(&self, id: &str) -> bool {
        self.creations.values().any(|creation| creation.id == id)
    }

    /// The first process has said something.
    pub(super) fn on_creation(&mut self, key: Key) {
        let Some(creation) = self.creations.get_mut(&key) else {
            return;
        };
        let Stage::SettingUp(creating, _) = &mut creation.stage else {
            return;
        };
        let outcome = match creating.take().map(Creating::advance) {
            Some(Ok(Progress::Pending(more))) => {
                *creating = Some(more);
                return;
            }
            Some(Ok(Progress::Done(created))) => Ok(created),
            Some(Err(error)) => Err(error),
            None => return,
        };
        let Some(Creation {
            id,
            plan: Some(plan),
            client,
            ..
        }) = self.creations.remove(&key)
        else {
            return;
        };
        let answer = match outcome {
            Ok(created) => {
                // At its gate it has nothing to say before it is let on.
                let done = self.poller.remove(&created.gate, Token::Creation(key));
                done.and_then(|()| self.created(key, plan, created))
            }
            Err(error) => {
                drop(plan);
                Err(runtime_failed(&id, "create")(error))
            }
        };
        let answer = answer.map_or_else(Response::Failed, Response::Created);
        self.connections.answer(client, &answer, Vec::new());
    }

    /// A child has ended: if it is the process of a creation, what it said last is heard first.
    pub(super) fn hear_creation(&mut self, pid: i32) {
        let of = |(key, one): (&Key, &Creation)| one.is_of(pid).then_some(*key);
        let Some(key) = self.creations.iter().find_map(of) else {
            return;
        };
        self.on_creation(key);
        let still = self.creations.get_mut(&key).filter(|one| one.is_of(pid));
        if still.is_some_and(|creation| !creation.outlives(pid)) {
            self.give_up(key, "its first process has ended");
        }
    }

    /// A child is reaped; was it the process of a creation that was given up?
    pub(super) fn creation_ended(&mut self, pid: i32) -> bool {
        let found = self.creations.iter_mut().find(|(_, one)| one.is_of(pid));
        let Some((
            key,
            Creation {
                stage: Stage::Ending(ending),
                ..
            },
        )) = found
        else {
            return false;
        };
        let key = *key;
        ending.pid = None;
        self.try_end(key);
        true
    }

    /// Gives up the creation of that id; the client is answered when it is gone. Is there one?
    pub(super) fn give_up_creation(&mut self, id: &str, client: Key) -> bool {
        let of = |(key, one): (&Key, &Creation)| (one.id == id).then_some(*key);
        let Some(key) = self.creations.iter().find_map(of) else {
            return false;
        };
        self.give_up(key, "it was removed while it was being made");
        if let Some(Creation {
            stage: Stage::Ending(ending),
            ..
        }) = self.creations.get_mut(&key)
        {
            ending.waiting.push(client);
        }
        true
    }

    /// Gives up all creations: the pod ends.
    pub(super) fn give_up_creations(&mut self) {
        let keys: Vec<Key> = self.creations.keys().copied().collect();
        for key in keys {
            self.give_up(key, "its pod is being shut down");
        }
    }

    fn give_up(&mut self, key: Key, reason: &str) {
        let Some(creation) = self.creations.get_mut(&key) else {
            return;
        };
        let none = Stage::SettingUp(None, Instant::now());
        creation.stage = match std::mem::replace(&mut creation.stage, none) {
            Stage::SettingUp(Some(creating), _) => {
                let _ = self.poller.remove(&creating, Token::Creation(key));
                let (pid, cgroup) = creating.abandon();
                Ending::of(pid, Some(cgroup), None)
            }
            Stage::Restoring(restoring) => {
                super::hold::kill_group(restoring.child);
                Ending::in_cgroup(Some(restoring.child), restoring.cgroup)
            }
            Stage::ByProgram(made) => {
                if let Some(run) = self.program_runs.get(&made.run) {
                    run.kill();
                }
                let run = made.run;
                let dir = creation
                    .plan
                    .as_ref()
                    .map(|plan| plan.request.bundle.clone());
                let rest = Rest::of(*made, dir.unwrap_or_default(), None);
                Ending::of(Some(run), rest.cgroup(), Some(rest))
            }
            other => {
                creation.stage = other;
                return;
            }
        };
        creation.plan = None;
        let error = Error::Runtime {
            verb: "create".to_owned(),
            id: creation.id.clone(),
            message: reason.to_owned(),
        };
        let client = creation.client;
        self.connections
            .answer(client, &Response::Failed(error), Vec::new());
    }

    /// What is due with creations.
    pub(super) fn end_late_creations(&mut self, now: Instant) {
        let due =
            |(key, one): (&Key, &Creation)| one.deadline().filter(|at| *at <= now).map(|_| *key);
        let keys: Vec<Key> = self.creations.iter().filter_map(due).collect();
        for key in keys {
            self.give_up(key, "it does not stand in time");
            self.try_end(key);
        }
    }

    /// Forgets a creation that was given up, if nothing is left of it.
    pub(super) fn try_end(&mut self, key: Key) {
        let Some((_, ending)) = self.creations.get_mut(&key).and_then(Creation::rest) else {
            return;
        };
        ending.look_again();
        let dead = ending.pid.is_none() && ending.is_empty();
        // What a program knows of it goes first, and its cgroup may with that.
        let deleted = dead && self.delete_creation(key);
        let Some((id, ending)) = self.creations.get_mut(&key).and_then(Creation::rest) else {
            return;
        };
        let now = Instant::now();
        let removed = || {
            let cgroup = ending.cgroup.as_ref();
            cgroup.is_none_or(|cgroup| cgroup.delete().is_ok())
        };
        let gone = deleted && removed();
        if !gone && ending.next <= now {
            ending.tries += 1;
            ending.next = now + backoff(ending.tries);
            let killed = ending.cgroup.as_ref().map(Cgroup::kill_all_aside);
            if let Some(Err(error)) = killed {
                diagnose(format_args!("kill what was being made: {error}"));
            }
        }
        if !gone && ending.until > now {
            return;
        }
        let failure = ending.program.as_mut().and_then(|rest| rest.take_failure());
        let waiting = std::mem::take(&mut ending.waiting);
        let id = id.to_owned();
        let client = self.creations.get(&key).map(|creation| creation.client);
        if gone {
            self.creations.remove(&key);
        }
        if let (Some(client), Some(failure)) = (client, failure) {
            self.connections
                .answer(client, &Response::Failed(failure), Vec::new());
        }
        for client in waiting {
            let id = id.clone();
            let answer = Response::Failed(Error::NotFound { id });
            self.connections.answer(client, &answer, Vec::new());
        }
    }
}
