//! Making a container by a program: its record, its run, and the container that stands then. Whatever
//! fails is undone by the program's own `delete`, and without it where that does not help.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use runtime::cgroup::{Cgroup, Unit};
use runtime::spec::Spec;
use runtime::{Rootfs, Stdio};

use super::super::container::runtime_failed;
use super::super::create::{Planned, Ready, Standing, make_root};
use super::super::creation::Creation;
use super::super::poller::Key;
use super::super::requests::Reply;
use super::super::{Supervisor, diagnose};
use super::console::Console;
use super::run::{Ended, Failure, Order, Outcome, Then};
use super::{Child, Deletion, Driven, PidFile};
use crate::error::{Error, Result};
use crate::oci_program::ProgramRecord;
use crate::protocol::{CreateContainer, OciProgram, Response};

/// A container that a program makes.
#[derive(Debug)]
pub(in crate::server) struct Made {
    /// The process of the run.
    pub(in crate::server) run: i32,
    pub(in crate::server) program: OciProgram,
    /// The path of its cgroup.
    pub(in crate::server) cgroup: String,
    file: PidFile,
    console: Option<Console>,
}

/// What is left of a container that a program did not make.
#[derive(Debug)]
pub(in crate::server) struct Rest {
    made: Made,
    /// The container's directory.
    dir: PathBuf,
    deletion: Deletion,
    /// What the client that asked for it is told once it is gone.
    failure: Option<Error>,
}

impl Supervisor {
    /// Has a program make a container; answered when it has.
    pub(in crate::server) fn create_by_program(
        &mut self,
        plan: Planned,
        (spec, rootfs): (&Spec, Rootfs),
        (program, cgroup): (OciProgram, String),
        stdio: Stdio,
        client: Key,
    ) -> Result<Reply> {
        let (id, bundle) = (plan.request.id.clone(), plan.request.bundle.clone());
        let key = self.new_key();
        let file = PidFile::new(&bundle, key);
        let console = match plan.request.terminal {
            true => {
                let process = spec.process.as_ref();
                let size = process.and_then(|process| process.console_size);
                let size = size.map(|size| (size.height, size.width));
                Some(Console::listen(&bundle, key, size)?)
            }
            false => None,
        };
        if let Rootfs::Overlay { .. } | Rootfs::Mount(_) = &rootfs {
            make_root(&bundle, spec)?;
        }
        let mut order = Order::new(&program, &id, "create");
        order.options = ["--bundle".into(), bundle.clone().into()].into();
        order.options.push("--pid-file".into());
        order.options.push(file.path().into());
        if let Some(console) = &console {
            order.options.push("--console-socket".into());
            order.options.push(console.address().into());
        }
        order.stdio = descriptors(stdio);
        order.root = Some((&bundle, spec, rootfs));
        ProgramRecord::write(&bundle, &id, &program)?;
        let run = match self.order(order, Then::Created(key)) {
            Ok(run) => run,
            Err(error) => {
                ProgramRecord::remove(&bundle)?;
                return Err(error);
            }
        };
        let made = Made {
            run,
            program,
            cgroup,
            file,
            console,
        };
        let creation = Creation::of_program(plan, client, made);
        self.creations.insert(key, creation);
        Ok(Reply::Later)
    }

    /// A program that was to make a container has ended.
    pub(super) fn created_by_program(&mut self, key: Key, ended: Ended) {
        let Some(creation) = self.creations.get_mut(&key) else {
            return;
        };
        if let Some((_, ending)) = creation.rest() {
            ending.pid = None;
            return self.end_given_up(key, ended.since);
        }
        let Some((id, plan, made, client)) = self.creations.remove(&key).and_then(Creation::made)
        else {
            return;
        };
        let (dir, said) = (plan.request.bundle.clone(), plan.last_errors());
        let outcome = match ended.outcome {
            Ok(()) => self.stands(&made, ended.since),
            // What is said before there is a log is said to the container's own stderr.
            Err(Failure { words, silent }) => Err(match said.filter(|_| silent) {
                Some(said) => format!("{words}: {said}"),
                None => words,
            }),
        };
        let failed = |message| Error::Runtime {
            verb: "create".to_owned(),
            id: id.clone(),
            message,
        };
        let container = outcome.map_err(failed).and_then(|(standing, console)| {
            let (pid, cgroup) = (standing.process.pid(), standing.cgroup.path().to_owned());
            let ready = Ready::of(plan, pid, &cgroup, console)?;
            Ok(ready.into_container(key, standing))
        });
        match container {
            Ok(container) => {
                let answer = Response::Created(self.add_container(key, container));
                self.connections.answer(client, &answer, Vec::new());
            }
            Err(error) => {
                let rest = Rest::of(made, dir, Some(error));
                self.creations
                    .insert(key, Creation::ending(id, client, rest));
                self.end_given_up(key, ended.since);
            }
        }
    }

    /// The container that a program says it has made.
    fn stands(
        &self,
        made: &Made,
        since: u64,
    ) -> std::result::Result<(Standing, Option<OwnedFd>), String> {
        let name = made.program.name();
        let told = |words: String| format!("{name} create: {words}");
        let process = match self.child(&made.file, since).map_err(told)? {
            Child::Here(process) => process,
            Child::Ended(_, code) => {
                return Err(told(format!("its process has ended with code {code}")));
            }
        };
        let console = made.console.as_ref().map(Console::take).transpose();
        let console = console.map_err(told);
        let cgroup = Cgroup::open(&made.cgroup)
            .map_err(|error| told(format!("it made no cgroup {}: {error}", made.cgroup)));
        match (console, cgroup) {
            (Ok(console), Ok(cgroup)) => {
                let standing = Standing {
                    process,
                    cgroup,
                    resctrl: None,
                    gate: None,
                    program: Some(Driven::new(made.program.clone())),
                };
                Ok((standing, console))
            }
            (Err(words), _) | (_, Err(words)) => {
                process.kill_with_group();
                Err(words)
            }
        }
    }

    /// Goes on to end what a program was to make and has not, or has too late.
    fn end_given_up(&mut self, key: Key, since: u64) {
        let rest = self.creations.get(&key).and_then(Creation::left);
        let process = rest.map(|rest| self.made(&rest.made.file, since));
        if let Some(Ok(process)) = process {
            process.kill_with_group();
        }
        self.try_end(key);
    }

    /// Has the program delete what is left of a container that was not made. What it made is killed first.
    /// True: it has.
    pub(in crate::server) fn delete_creation(&mut self, key: Key) -> bool {
        let Some((id, ending)) = self.creations.get_mut(&key).and_then(Creation::rest) else {
            return true;
        };
        let Some(rest) = &mut ending.program else {
            return true;
        };
        match rest.deletion {
            Deletion::Done => return true,
            Deletion::UnderWay => return false,
            Deletion::NotAsked => rest.deletion = Deletion::UnderWay,
        }
        let (id, program) = (id.to_owned(), rest.made.program.clone());
        let mut order = Order::new(&program, &id, "delete");
        order.options.push("--force".into());
        if let Err(error) = self.order(order, Then::CreationDeleted(key)) {
            self.creation_deleted(key, Err(error.into()));
        }
        false
    }

    /// The program has deleted what was left, or did not know of anything.
    pub(super) fn creation_deleted(&mut self, key: Key, outcome: Outcome) {
        let Some((id, ending)) = self.creations.get_mut(&key).and_then(Creation::rest) else {
            return;
        };
        let id = id.to_owned();
        let Some(rest) = &mut ending.program else {
            return;
        };
        rest.deletion = Deletion::Done;
        if let (Err(_), Err(error)) = (outcome, rest.made.program.forget(&id)) {
            diagnose(format_args!("container {id}: {error}"));
        }
        if let Err(error) = ProgramRecord::remove(&rest.dir) {
            diagnose(format_args!("container {id}: {error}"));
        }
        // The program may have made it after it was looked for.
        ending.cgroup = rest.cgroup();
        ending.next = Instant::now();
        self.try_end(key);
    }
}

impl Rest {
    pub(in crate::server) fn of(made: Made, dir: PathBuf, failure: Option<Error>) -> Box<Self> {
        Box::new(Self {
            made,
            dir,
            deletion: Deletion::NotAsked,
            failure,
        })
    }

    /// Its cgroup, if there is one.
    pub(in crate::server) fn cgroup(&self) -> Option<Cgroup> {
        Cgroup::open(&self.made.cgroup).ok()
    }

    pub(in crate::server) fn is_waited_for(&self) -> bool {
        self.failure.is_some()
    }

    pub(in crate::server) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }
}

/// The streams that the process gets, unless it has a terminal.
pub(in crate::server) fn descriptors(stdio: Stdio) -> Option<[OwnedFd; 3]> {
    match stdio {
        Stdio::Fds {
            stdin,
            stdout,
            stderr,
        } => Some([stdin, stdout, stderr]),
        Stdio::Inherit | Stdio::Terminal { .. } => None,
    }
}

/// The program that is to make a container, if one is, with the path of the container's cgroup. Says what
/// can be said before it is executed.
pub(in crate::server) fn check(
    request: &CreateContainer,
    spec: &Spec,
) -> Result<Option<(OciProgram, String)>> {
    let Some(program) = &request.program else {
        return Ok(None);
    };
    program.validate()?;
    let process = spec.process.as_ref();
    if process.is_some_and(|process| process.terminal) != request.terminal {
        let reason = "config.json says otherwise, which the program goes by";
        return Err(Error::invalid("terminal", reason));
    }
    if program.systemd_cgroup {
        let failed = runtime_failed(&request.id, "create");
        let unit = Unit::of_container(spec, &request.id).map_err(failed)?;
        return Ok(Some((program.clone(), unit.cgroup_path())));
    }
    let linux = spec.linux.as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path.as_deref());
    match path {
        Some(path) if path.starts_with('/') => Ok(Some((program.clone(), path.to_owned()))),
        _ => Err(Error::invalid(
            "linux.cgroupsPath",
            "a program's container needs one that is absolute",
        )),
    }
}
