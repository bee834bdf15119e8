//! Containers that an OCI program makes (runc, crun, youki, runsc), in place of the runtime library: the
//! program is executed for each verb, as a child beside the loop, and killed at a limit with all of its
//! process group. Streams, logs, exit codes, limits of time and SIGKILL are the supervisor's as they are
//! of any other container: as its subreaper it is the parent of the container's first process and of
//! every command, once the program that made them has ended.
//!
//! A program is believed nothing that can be checked: a process that it names must be a child of this one,
//! and younger than the program's run; what it says is read to a limit.
//!
//! [`run`] executes, [`create`] and [`exec`] make processes, [`verbs`] is the rest of a life.

pub(super) mod console;
pub(super) mod create;
pub(super) mod exec;
pub(super) mod run;
pub(super) mod verbs;

use std::path::{Path, PathBuf};

use base::file::read_bounded;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::Supervisor;
use crate::protocol::OciProgram;
use crate::state::remove_file;
use crate::sys::process::Process;
use run::Run;

/// How many processes that ended are kept in mind at the most.
const ORPHANS: usize = 1024;

/// The program that a container is made by, and what is under way with it.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) program: OciProgram,
    /// Its start is under way.
    pub(super) starting: bool,
    /// Its first process has ended with that code before the program said how its start went.
    pub(super) ended: Option<i32>,
    pub(super) deletion: Deletion,
}

impl Driven {
    pub(super) fn new(program: OciProgram) -> Box<Self> {
        Box::new(Self {
            program,
            starting: false,
            ended: None,
            deletion: Deletion::NotAsked,
        })
    }
}

/// Has the program deleted what it knows of a container?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    /// It knows it still.
    NotAsked,
    /// It is at it.
    UnderWay,
    /// It has, or it was done without it.
    Done,
}

/// A file that a program writes a process id to.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// A name in the container's directory that nothing has.
    pub(super) fn new(dir: &Path, number: u32) -> Self {
        Self(dir.join(format!("{number}.pid")))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn read(&self) -> Result<i32, String> {
        let text = read_bounded(&self.0, 16).map_err(|error| format!("its pid file {error}"))?;
        let text = text.ok_or("it wrote no pid file")?;
        let number = std::str::from_utf8(&text).unwrap_or_default().trim();
        let pid = number.parse().ok().filter(|pid| *pid > 1);
        pid.ok_or_else(|| "what it wrote to its pid file is no process id".to_owned())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It goes with the container's directory at the latest.
        let _ = remove_file(&self.0);
    }
}

/// A process that has ended and nobody knew, while a program was making one: some leave what they make to
/// the supervisor before they say what it is.
#[derive(Debug)]
pub(super) struct Orphan {
    pid: i32,
    /// When it started.
    since: u64,
    /// How it ended.
    code: i32,
}

impl Orphan {
    /// With how it ended.
    pub(super) fn with(self, code: i32) -> Self {
        Self { code, ..self }
    }
}

/// A process that a program has made.
enum Child {
    /// It lives, or waits to be reaped.
    Here(Process),
    /// It has ended with that code.
    Ended(i32, i32),
}

impl Supervisor {
    /// A child is about to be reaped: may it turn out to be what a program is making?
    pub(super) fn may_be_orphan(&mut self, pid: i32) -> Option<Orphan> {
        if !self.program_runs.values().any(Run::makes) {
            self.orphans = Vec::new();
            return None;
        }
        let room = self.orphans.len() < ORPHANS && !self.knows(pid);
        let since = base::process::stat(pid)
            .ok()
            .flatten()
            .filter(|_| room)?
            .start;
        Some(Orphan {
            pid,
            since,
            code: 0,
        })
    }

    /// The process that a program says it has made, also if it has ended meanwhile.
    fn child(&self, file: &PidFile, since: u64) -> Result<Child, String> {
        let lies = match self.made(file, since) {
            Ok(process) => return Ok(Child::Here(process)),
            Err(lies) => lies,
        };
        let pid = file.read()?;
        let is_it = |one: &&Orphan| one.pid == pid && one.since >= since;
        match self.orphans.iter().find(is_it) {
            Some(orphan) => Ok(Child::Ended(pid, orphan.code)),
            None => Err(lies),
        }
    }

    /// The process that a program says it has made, if it is one: a child of ours since the program has
    /// ended, not older than that, and none that is known.
    fn made(&self, file: &PidFile, since: u64) -> Result<Process, String> {
        let pid = file.read()?;
        let lies = || format!("process {pid}, which it says it has made, is none of its own");
        let process = Pid::from_raw(pid).ok_or_else(lies)?;
        // Asked after the pidfd is held: from here on the number is that process's.
        let pidfd = pidfd_open(process, PidfdFlags::empty()).map_err(|_| lies())?;
        let own = getpid().as_raw_nonzero().get();
        let is_ours = base::process::stat(pid)
            .ok()
            .flatten()
            .is_some_and(|stat| stat.parent == own && stat.start >= since);
        match is_ours && !self.knows(pid) {
            true => Ok(Process::new(pid, pidfd)),
            false => Err(lies()),
        }
    }

    /// Is it a child that has a part already?
    fn knows(&self, pid: i32) -> bool {
        let mut first = self.containers.values().flat_map(|one| &one.process);
        self.execs.contains_key(&pid)
            || self.program_runs.contains_key(&pid)
            || self.hook_runs.contains_key(&pid)
            || self.companions.contains_key(&pid)
            || self.dumps.contains_key(&pid)
            || self.pod.init.as_ref().is_some_and(|init| init.pid() == pid)
            || first.any(|process| process.pid() == pid)
    }
}
