//! Starting a pod's supervisor: a child of nobody (it forks once more and leaves the caller's
//! session), which holds none of the caller's files but the first connection, its log and its lock.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use runtime::cgroup::Cgroup;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{ANSWER_LIMIT, Client, unexpected, wait_readable};
use crate::error::{Error, Result};
use crate::info::{LOG_FILE, SupervisorInfo};
use crate::protocol::{Request, Response};
use crate::setup::PodSetup;

/// A network namespace that is made when it is first asked for, by whoever asks.
pub type Netns = LazyLock<std::io::Result<OwnedFd>>;

/// Starts `program supervise POD` for a pod whose directory exists, and returns when the pod
/// stands: its namespaces exist, its socket listens, `supervisor.json` is written. It outlives the
/// caller, is not its child, and ignores SIGTERM, SIGHUP and SIGINT while it has containers. `netns` is to be
/// the pod's network namespace, and asked for once the program is started; one of an older floe passes it over and
/// makes one of its own, so whoever gives one asks for the ability `set_up.netns` afterwards.
///
/// # Errors
/// A program that cannot be started, or a part of the pod that cannot be set up; nothing is left
/// but `supervisor.log` and `supervisor.lock` in the pod's directory. [`Error::Silent`] after `limit`: what
/// was started may come up later, and is found by [`find`](super::find()).
pub fn launch(
    program: &Path,
    setup: &PodSetup,
    netns: Option<&Netns>,
    limit: Duration,
) -> Result<(Client, SupervisorInfo)> {
    let until = Instant::now() + limit;
    let left = || until.saturating_duration_since(Instant::now());
    let lock = super::find::lock(&setup.dir)?;
    let (ours, theirs) = UnixStream::pair().map_err(Error::io("make socket for", &setup.dir))?;
    let log_path = setup.dir.join(LOG_FILE);
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(Error::io("open", &log_path))?;
    let mut client = Client::over(ours, &setup.dir, limit);
    let mut setup = setup.clone();
    setup.netns_given = netns.is_some();
    setup.open_files = setup.open_files.or_else(super::open_files::of_supervisors);
    // What runs before a container's program must not be a way to overwrite this program's file.
    let file = runtime::read_only_program(program).map_err(|error| Error::Launch {
        program: program.to_owned(),
        reason: error.to_string(),
    })?;
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command
        .arg0(program)
        .arg("supervise")
        .arg(&setup.id)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(lock)
        .stderr(log);
    let mut starter = Starter(command.spawn().map_err(Error::io("execute", program))?);
    // Our copy of its connection: its end must be seen.
    drop(command);
    let netns = match netns.map(LazyLock::force) {
        Some(Ok(netns)) => Some(netns.as_fd()),
        Some(Err(error)) => {
            return Err(Error::SetUp {
                part: "a network namespace".to_owned(),
                reason: error.to_string(),
            });
        }
        None => None,
    };
    let sent = client.send(&Request::SetUp(Box::new(setup.clone())), netns.as_slice());
    // First the answer: one that is longer than the socket's buffer waits for its reader.
    let answer = client.answer(Some(left()));
    let silent = || Error::silent(&setup.dir, limit);
    if let Err(Error::Silent { .. }) = answer {
        return Err(silent());
    }
    let status = starter.end(left())?.ok_or_else(silent)?;
    if !status.success() {
        // A program that ends at once says why in its log.
        let reason = format!("{status} (see {})", log_path.display());
        return Err(Error::Launch {
            program: program.to_owned(),
            reason,
        });
    }
    match sent.and(answer) {
        Ok(Response::Ready(info)) => {
            if setup.users.is_some() {
                info.can("set_up.users")?;
            }
            Ok((client, info))
        }
        Ok(other) => Err(unexpected(&other)),
        Err(error) => {
            remove_cgroup(&setup, client);
            Err(error)
        }
    }
}

/// The process that was executed: it ends once the supervisor, its child, is on its own. Nobody's
/// pod hangs on it, so it is killed and reaped when dropped before its end.
struct Starter(Child);

impl Starter {
    /// Its end; `None`: it does not come within `limit`.
    fn end(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let failed = |operation| Error::io::<std::io::Error>(operation, "floe-runtime supervise");
        let pid = Pid::from_child(&self.0);
        let process = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| failed("open the pidfd of")(error.into()))?;
        match wait_readable(process.as_fd(), limit).map_err(failed("wait for"))? {
            true => self.0.wait().map(Some).map_err(failed("reap")),
            false => Ok(None),
        }
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        // One that has ended is reaped already, and this does nothing.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.try_wait();
        }
    }
}

/// A supervisor that failed could not remove the cgroup that it was in.
fn remove_cgroup(setup: &PodSetup, mut client: Client) {
    let Some(path) = &setup.cgroup else { return };
    // Its end is the end of the connection.
    let _ = client.answer(Some(ANSWER_LIMIT));
    if let Ok(cgroup) = Cgroup::open(path) {
        // The error that is on its way says why; the pod's removal tries again.
        let _ = cgroup.delete();
    }
}
