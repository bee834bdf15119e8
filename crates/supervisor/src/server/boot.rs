//! From a program that was just executed to a process that is nobody's child, holds nothing of its
//! starter's but one connection and the lock that says it lives, and cannot be ended by accident.

use std::os::fd::{AsFd, OwnedFd};

use runtime::cgroup::{Cgroup, Controller};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{
    Resource, Rlimit, chdir, getpid, getrlimit, set_child_subreaper, setrlimit, setsid, umask,
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

/// Waits for what the starter wants set up. `None`: the starter is gone.
pub(super) fn receive_setup(connection: &OwnedFd) -> Result<Option<PodSetup>> {
    let mut inbox = Inbox::default();
    let mut scratch = [0; 4096];
    loop {
        match inbox.message::<Request>()? {
            Some(Request::SetUp(setup)) => return Ok(Some(*setup)),
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
    let cgroup = setup.cgroup.as_deref().map(make_cgroup).transpose()?;
    let unified = cgroup.as_ref().and_then(|(_, unified)| unified.as_ref());
    setsid().map_err(Error::io("start", "session"))?;
    let inherited = std::fs::read_to_string("/proc/self/oom_score_adj").ok();
    // The last of the pod that the kernel kills when the pod's memory is used up. Needs
    // CAP_SYS_RESOURCE.
    let protected = std::fs::write("/proc/self/oom_score_adj", "-999").is_ok();
    match fork(0, unified.map(AsFd::as_fd)).map_err(Error::io("fork", "supervisor"))? {
        Fork::Parent(_) => exit_now(0),
        Fork::Child => {}
    }
    if let Some((cgroup, _)) = &cgroup {
        let joined = match protected {
            true => cgroup.join_v1(),
            // Where it cannot be protected it stays out of the pod's limit.
            false => cgroup.join_v1_without(Controller::Memory),
        };
        joined.map_err(|error| cgroup_failed(cgroup.path(), error))?;
    }
    Ok(inherited.and_then(|text| text.trim().parse().ok()))
}

fn make_cgroup(path: &str) -> Result<(Cgroup, Option<OwnedFd>)> {
    let cgroup = Cgroup::create(path, None).map_err(|error| cgroup_failed(path, error))?;
    let unified = cgroup
        .v2_directory()
        .map_err(|error| cgroup_failed(path, error))?;
    Ok((cgroup, unified))
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
