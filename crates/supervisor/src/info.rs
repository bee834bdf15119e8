//! `supervisor.json`: which process supervises a pod. A pid alone can be another process after a
//! while, so the start time goes with it: the pair names a process for ever.

use std::path::Path;

use base::process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::abilities::{self, Abilities};
use crate::error::{Error, Result};
use crate::state::{read_json, write_json};

/// The file's name in the pod's directory.
pub(crate) const INFO_FILE: &str = "supervisor.json";
/// The socket's name in the pod's directory.
pub(crate) const SOCKET_FILE: &str = "supervisor.sock";
/// Locked by the supervisor's process for all of its life, in the pod's directory.
pub(crate) const LOCK_FILE: &str = "supervisor.lock";
/// What the supervisor has to say to an operator, in the pod's directory.
pub(crate) const LOG_FILE: &str = "supervisor.log";
/// The directory that becomes the containers' /dev/shm, in the pod's directory.
pub(crate) const SHM_DIR: &str = "shm";

/// The version of this program.
pub(crate) const OWN: &str = env!("CARGO_PKG_VERSION");

/// A pod's supervisor. How this record may change: `docs/records.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorInfo {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (proc(5), stat field 22).
    pub start_time: u64,
    /// The version of the program.
    pub version: String,
    /// The first process of the pod's shared PID namespace, if the pod has one.
    pub pod_init: Option<i32>,
    /// The descriptor by which it keeps the pod's own user namespace, if the pod has one:
    /// `/proc/PID/fd/NUMBER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<i32>,
    /// What it can be asked for.
    #[serde(default)]
    pub abilities: Abilities,
}

impl SupervisorInfo {
    /// The calling process as a supervisor.
    pub(crate) fn of_this_process(pod_init: Option<i32>, users: Option<i32>) -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let start_time = process::start(pid).ok_or_else(|| Error::Record {
            path: format!("/proc/{pid}/stat").into(),
            reason: "no state and start time in it".into(),
        })?;
        Ok(Self {
            pid,
            start_time,
            version: OWN.to_owned(),
            pod_init,
            users,
            abilities: Abilities::own(),
        })
    }

    /// A process that is known by its pid alone; `None` if it has ended.
    pub(crate) fn of_process(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_time: process::start(pid)?,
            version: String::new(),
            pod_init: None,
            users: None,
            abilities: Abilities::default(),
        })
    }

    /// The supervisor recorded in a pod's directory; `None` if none was ready there, or it has
    /// shut down.
    ///
    /// # Errors
    /// A file that cannot be read or is not such a record.
    pub fn read(pod_dir: &Path) -> Result<Option<Self>> {
        let path = pod_dir.join(INFO_FILE);
        let Some(info) = read_json::<Self>(&path)? else {
            return Ok(None);
        };
        match info.abilities.version {
            ..=abilities::VERSION => Ok(Some(info)),
            newer => {
                let known = abilities::VERSION;
                let reason = format!(
                    "the supervisor, of floe {}, speaks version {newer} of the protocol, which needs a \
                     newer floe: this one speaks {known}",
                    info.version
                );
                Err(Error::Record { path, reason })
            }
        }
    }

    /// Can it be asked for this? By the names of [`Abilities`].
    ///
    /// # Errors
    /// [`Error::Unsupported`], which says of which floe it is.
    pub fn can(&self, ability: &str) -> Result<()> {
        match self.abilities.has(ability) {
            true => Ok(()),
            false => Err(Error::Unsupported {
                ability: ability.to_owned(),
                version: self.version.clone(),
            }),
        }
    }

    pub(crate) fn write(&self, pod_dir: &Path) -> Result<()> {
        write_json(&pod_dir.join(INFO_FILE), self)
    }

    /// Does that very process live? A zombie does not, nor does another process with its pid.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        process::lives(self.pid, self.start_time)
    }

    /// Kills the supervisor (SIGKILL), and never another process; one that is gone is fine.
    /// Its containers' processes are left to whoever owns their cgroups.
    ///
    /// # Errors
    /// A process that may not be killed.
    pub fn kill(&self) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        // Asked after the pidfd is held: from here on the pid cannot become another process's.
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::io("kill", format!("process {}", self.pid))(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_with_another_start_time_is_not() {
        let mut info = SupervisorInfo::of_this_process(None, None).unwrap();
        assert!(info.is_alive());
        info.start_time += 1;
        assert!(!info.is_alive());
    }
}
