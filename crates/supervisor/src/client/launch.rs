//! Starting a pod's supervisor: a child of nobody (it forks once more and leaves the caller's
//! session), which holds none of the caller's files but the first connection and its log.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use runtime::cgroup::Cgroup;

use super::{Client, unexpected};
use crate::error::{Error, Result};
use crate::info::{LOG_FILE, SupervisorInfo};
use crate::protocol::{Request, Response};
use crate::setup::PodSetup;

/// Starts `program supervise POD` for a pod whose directory exists, and returns when the pod
/// stands: its namespaces exist, its socket listens, `supervisor.json` is written. It outlives the
/// caller, is not its child, and ignores SIGTERM, SIGHUP and SIGINT while it has containers.
///
/// # Errors
/// A program that cannot be started, or a part of the pod that cannot be set up; nothing is left
/// but `supervisor.log` in the pod's directory.
pub fn launch(program: &Path, setup: &PodSetup) -> Result<(Client, SupervisorInfo)> {
    let (ours, theirs) = UnixStream::pair().map_err(Error::io("make socket for", &setup.dir))?;
    let log_path = setup.dir.join(LOG_FILE);
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(Error::io("open", &log_path))?;
    let mut client = Client::over(ours, &setup.dir);
    // Before there is anybody to read it: the program needs it first of all.
    client.send(&Request::SetUp(Box::new(setup.clone())), &[])?;
    // What runs before a container's program must not be a way to overwrite this program's file.
    let file = runtime::read_only_program(program).map_err(|error| Error::Launch {
        program: program.to_owned(),
        reason: error.to_string(),
    })?;
    let status = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .arg0(program)
        .arg("supervise")
        .arg(&setup.id)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .map_err(Error::io("execute", program))?;
    if !status.success() {
        let reason = format!("{status} (see {})", log_path.display());
        return Err(Error::Launch {
            program: program.to_owned(),
            reason,
        });
    }
    match client.answer() {
        Ok(Response::Ready(info)) => Ok((client, info)),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => {
            remove_cgroup(setup, client);
            Err(error)
        }
    }
}

/// A supervisor that failed could not remove the cgroup that it was in.
fn remove_cgroup(setup: &PodSetup, mut client: Client) {
    let Some(path) = &setup.cgroup else { return };
    // Its end is the end of the connection.
    let _ = client.answer();
    if let Ok(cgroup) = Cgroup::open(path) {
        // The error that is on its way says why; the pod's removal tries again.
        let _ = cgroup.delete();
    }
}
