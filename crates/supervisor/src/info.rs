//! `supervisor.json`: which process supervises a pod. A pid alone can be another process after a
//! while, so the start time goes with it: the pair names a process for ever.

use std::path::Path;

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
    /// What it can be asked for.
    #[serde(default)]
    pub abilities: Abilities,
}

impl SupervisorInfo {
    /// The calling process as a supervisor.
    pub(crate) fn of_this_process(pod_init: Option<i32>) -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let Stat { start, .. } = stat(pid).ok_or_else(|| Error::Record {
            path: format!("/proc/{pid}/stat").into(),
            reason: "no state and start time in it".into(),
        })?;
        Ok(Self {
            pid,
            start_time: start,
            version: OWN.to_owned(),
            pod_init,
            abilities: Abilities::own(),
        })
    }

    /// A process that is known by its pid alone; `None` if it has ended.
    pub(crate) fn of_process(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_time: process_start(pid)?,
            version: String::new(),
            pod_init: None,
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
        lives(self.pid, self.start_time)
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

/// When a process started, in clock ticks since boot: together with its pid this names it for ever.
/// `None` if it has ended.
#[must_use]
pub fn process_start(pid: i32) -> Option<u64> {
    let Stat { state, start, .. } = stat(pid)?;
    (!matches!(state, b'Z' | b'X')).then_some(start)
}

/// Does the process live that has this pid and started then? Who cannot look, for want of files or
/// memory, takes it to live: nothing is cleared away on a guess.
#[must_use]
pub fn lives(pid: i32, start: u64) -> bool {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => parse_stat(&text)
            .is_some_and(|stat| stat.start == start && !matches!(stat.state, b'Z' | b'X')),
        Err(error) => {
            let gone = [Some(libc::ENOENT), Some(libc::ESRCH)];
            !gone.contains(&error.raw_os_error())
        }
    }
}

/// Of a process (proc(5), stat).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The letter of its state (field 3).
    pub(crate) state: u8,
    /// Its parent's process id (field 4).
    pub(crate) parent: i32,
    /// When it started, in clock ticks since boot (field 22).
    pub(crate) start: u64,
}

/// What the kernel says of a process, be it a zombie; `None` if there is none.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name is in parentheses and may hold anything, spaces and parentheses included.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let mut fields = text.split(' ');
    Some(Stat {
        state: *fields.next()?.as_bytes().first()?,
        parent: fields.next()?.parse().ok()?,
        start: fields.nth(17)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_move_the_fields() {
        let line = b"42 (a) Z 1) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2";
        let stat = Stat {
            state: b'S',
            parent: 1,
            start: 777,
        };
        assert_eq!(parse_stat(line), Some(stat));
    }

    #[test]
    fn this_process_is_alive_and_one_with_another_start_time_is_not() {
        let mut info = SupervisorInfo::of_this_process(None).unwrap();
        assert!(info.is_alive());
        info.start_time += 1;
        assert!(!info.is_alive());
    }
}
