//! Who owns a half-made thing: a process, told apart from later ones with the same number.
//!
//! Must never take a reused pid or a pid from before a reboot for the owner.

use std::fmt;
use std::fs;
use std::io;

use base::process;

use crate::error::{Error, Result};

/// A process: pid, start time in clock ticks since boot, and the boot it ran in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    start: u64,
    boot: String,
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Owner {
    /// This process.
    pub(crate) fn current() -> Result<Owner> {
        let boot = fs::read_to_string(BOOT_ID).map_err(Error::io("read", BOOT_ID))?;
        let pid = std::process::id();
        let start = start_time(pid)
            .and_then(|start| start.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
            .map_err(Error::io("read", format!("/proc/{pid}/stat")))?;
        Ok(Owner {
            pid,
            start,
            boot: boot.chars().take(8).collect(),
        })
    }

    /// The boot it ran in.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// Whether the process still runs. `now` is any owner of this boot, such as [`Owner::current`].
    pub(crate) fn is_alive(&self, now: &Owner) -> bool {
        // A process whose stat cannot be read for another reason than its absence counts as alive.
        self.boot == now.boot
            && start_time(self.pid).map_or(true, |start| start == Some(self.start))
    }

    /// Reads [`Display`](fmt::Display)'s form, followed by anything after a further `-`.
    pub(crate) fn parse(text: &str) -> Option<Owner> {
        let mut parts = text.splitn(4, '-');
        Some(Owner {
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            boot: parts.next().filter(|boot| boot.len() == 8)?.to_owned(),
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.pid, self.start, self.boot)
    }
}

/// `None` when there is no such process (a zombie is none).
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = process::stat(i32::try_from(pid).map_err(io::Error::other)?)?;
    Ok(stat.filter(|stat| stat.runs()).map(|stat| stat.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_survives_its_own_spelling() {
        let me = Owner::current().unwrap();
        assert!(me.is_alive(&me));
        assert_eq!(Owner::parse(&format!("{me}-17")).unwrap(), me);
    }

    #[test]
    fn a_reused_pid_and_an_earlier_boot_are_dead() {
        let me = Owner::current().unwrap();
        let reused = Owner {
            start: me.start + 1,
            ..me.clone()
        };
        let rebooted = Owner {
            boot: "00000000".to_owned(),
            ..me.clone()
        };
        assert!(!reused.is_alive(&me));
        assert!(!rebooted.is_alive(&me));
    }

    #[test]
    fn a_name_of_another_shape_has_no_owner() {
        assert_eq!(Owner::parse("lost+found"), None);
        assert_eq!(Owner::parse("12-x-abcdefgh"), None);
        assert_eq!(Owner::parse("12-3-abc"), None);
    }
}
