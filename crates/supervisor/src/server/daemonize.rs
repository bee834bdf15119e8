//! From a program that was just executed to a process that is nobody's child, holds nothing of its
//! starter's but one connection and the lock that says it lives, and cannot be ended by accident.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::cgroup::{Cgroup, Controller, Unit};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, chdir, getpid, getrlimit, kill_process,
    set_child_subreaper, setrlimit, setsid, umask, waitpid,
};
use rustix::stdio::{dup2_stdin, dup2_stdout, stdin, stdout};
use rustix::thread::set_name;

use super::diagnose;
use crate::error::{Error, Result};
use crate::frame::Inbox;
use crate::protocol::Request;
use crate::setup::PodSetup;
use crate::sys::process::{Fork, close_inherited, exit_now, fork};
use crate::sys::signal::block_all;

/// What the starter gave.
pub(super) struct Inherited {
    /// The first connection, which came as stdin.
    pub(super) connection: OwnedFd,
    /// The file that is locked while this process lives, which came as stdout.
    pub(super) lock: OwnedFd,
}

/// Keeps the connection and the lock under other numbers, stderr as the log, and nothing else.
pub(super) fn keep_what_was_given() -> Result<Inherited> {
    let failed = |operation| Error::io::<rustix::io::Errno>(operation, "inherited files");
    close_inherited(3).map_err(Error::io("close", "inherited files"))?;
    let connection = fcntl_dupfd_cloexec(stdin(), 3).map_err(failed("keep"))?;
    let lock = fcntl_dupfd_cloexec(stdout(), 3).map_err(failed("keep"))?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("replace"))?;
    dup2_stdin(&null).map_err(failed("replace"))?;
    dup2_stdout(&null).map_err(failed("replace"))?;
    Ok(Inherited { connection, lock })
}

/// Waits for what the starter wants set up, and the network namespace that it gives along. `None`: the
/// starter is gone.
pub(super) fn receive_setup(connection: &OwnedFd) -> Result<Option<(PodSetup, Option<OwnedFd>)>> {
    let mut inbox = Inbox::default();
    let mut scratch = [0; 4096];
    loop {
        match inbox.message::<Request>()? {
            Some(Request::SetUp(setup)) => {
                let netns = inbox.take_fds().pop_front();
                return Ok(Some((*setup, netns)));
            }
            Some(_) => return Err(Error::protocol("the first request is not set_up")),
            None => {}
        }
        match inbox.receive(connection.as_fd(), &mut scratch) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => {
                diagnose(format_args!(
                    "stdin is not the connection of a supervisor's client: {error}"
                ));
                return Err(Error::io("receive from", "stdin")(error));
            }
        }
    }
}

/// Sets how many files the supervisor and its containers may have open.
pub(super) fn limit_open_files(setup: &PodSetup) -> Result<()> {
    let Some(current) = setup.open_files else {
        return Ok(());
    };
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(maximum.map_or(current, |maximum| current.min(maximum))),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).map_err(Error::io("set", "RLIMIT_NOFILE"))
}

/// Leaves the starter: a new session, a new parent, and the cgroup that is made for the pod. The
/// process that was executed ends here, and its starter has its exit code; the one that goes on is
/// its child, born in the cgroup. Returns the OOM score adjustment that its containers would have had
/// without it.
pub(super) fn leave_starter(setup: &PodSetup) -> Result<Option<i32>> {
    let mut place = Place::of(setup)?;
    setsid().map_err(Error::io("start", "session"))?;
    let inherited = std::fs::read_to_string("/proc/self/oom_score_adj").ok();
    // The last of the pod that the kernel kills when the pod's memory is used up. Needs
    // CAP_SYS_RESOURCE.
    let protected = std::fs::write("/proc/self/oom_score_adj", "-999").is_ok();
    match fork(0, place.unified()).map_err(Error::io("fork", "supervisor"))? {
        Fork::Parent(child) => {
            place.settle(child)?;
            exit_now(0)
        }
        Fork::Child => {}
    }
    if let Some(cgroup) = place.enter()? {
        let joined = match protected {
            true => cgroup.join_v1(),
            // Where it cannot be protected it stays out of the pod's limit.
            false => cgroup.join_v1_without(Controller::Memory),
        };
        joined.map_err(|error| cgroup_failed(cgroup.path(), error))?;
    }
    Ok(inherited.and_then(|text| text.trim().parse().ok()))
}

/// Where the supervisor is to be.
enum Place {
    /// Where its starter is.
    Here,
    /// In this cgroup; the directory is v2's, to be born in.
    Cgroup(Cgroup, Option<OwnedFd>),
    /// In the scope that systemd makes around it, for which it waits at the pipe: reading end and writing
    /// end.
    Unit(Unit, OwnedFd, Option<OwnedFd>),
}

impl Place {
    /// Makes what can be made before there is a process.
    fn of(setup: &PodSetup) -> Result<Self> {
        let Some(path) = &setup.cgroup else {
            return Ok(Self::Here);
        };
        if let Some(unit) = setup.unit() {
            let (reading, writing) =
                pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make", "pipe"))?;
            return Ok(Self::Unit(unit, reading, Some(writing)));
        }
        let cgroup = Cgroup::create(path, None).map_err(|error| cgroup_failed(path, error))?;
        let unified = cgroup
            .v2_directory()
            .map_err(|error| cgroup_failed(path, error))?;
        Ok(Self::Cgroup(cgroup, unified))
    }

    fn unified(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Cgroup(_, unified) => unified.as_ref().map(AsFd::as_fd),
            Self::Here | Self::Unit(..) => None,
        }
    }

    /// The starter's side: has systemd put the supervisor into its scope, and lets it go on; ends it if
    /// that fails.
    fn settle(self, child: Pid) -> Result<()> {
        let Self::Unit(unit, _reading, Some(writing)) = self else {
            return Ok(());
        };
        let path = unit.cgroup_path();
        let made = Cgroup::create_unit(&unit, None, child.as_raw_nonzero().get());
        let placed = made
            .map_err(|error| cgroup_failed(&path, error))
            .and_then(|_| {
                let told = rustix::io::write(&writing, b".");
                told.map(drop).map_err(Error::io("write to", "supervisor"))
            });
        if placed.is_err() {
            let _ = kill_process(child, Signal::KILL);
            while let Err(Errno::INTR) = waitpid(Some(child), WaitOptions::empty()) {}
        }
        placed
    }

    /// The supervisor's side: waits until it is in its scope. The cgroup whose v1 hierarchies are still
    /// to be joined.
    fn enter(&mut self) -> Result<Option<Cgroup>> {
        match self {
            Self::Here => Ok(None),
            Self::Cgroup(cgroup, _) => Ok(Some(cgroup.clone())),
            Self::Unit(unit, reading, writing) => {
                *writing = None;
                let mut word = [0];
                let told = retry_on_intr(|| rustix::io::read(&*reading, &mut word));
                if told != Ok(1) {
                    // Its starter says why, or is gone.
                    exit_now(1);
                }
                let path = unit.cgroup_path();
                let cgroup = Cgroup::open(&path).map_err(|error| cgroup_failed(&path, error))?;
                Ok(Some(cgroup))
            }
        }
    }
}

fn cgroup_failed(path: &str, error: runtime::cgroup::Error) -> Error {
    Error::SetUp {
        part: format!("cgroup {path}"),
        reason: error.to_string(),
    }
}

/// Takes on what a supervisor is.
pub(super) fn become_supervisor() -> Result<()> {
    block_all().map_err(Error::io("block", "signals"))?;
    set_name(c"floe-supervisor").map_err(Error::io("set", "process name"))?;
    set_child_subreaper(Some(getpid())).map_err(Error::io("become", "subreaper"))?;
    chdir("/").map_err(Error::io("enter", "/"))?;
    umask(Mode::from_raw_mode(0o022));
    Ok(())
}
