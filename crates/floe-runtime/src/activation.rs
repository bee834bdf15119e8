//! Sockets that systemd opened for a container (sd_listen_fds(3)): the descriptors from 3 on go to
//! its process, which learns of them by LISTEN_FDS and LISTEN_PID. Believed only if LISTEN_PID is
//! this process: otherwise they were meant for somebody else.

use runtime::spec::Process;

/// What the caller's environment says of open sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activation {
    /// How many descriptors, from 3 on; 0 is none.
    pub(crate) fds: u32,
}

impl Activation {
    pub(crate) fn of_caller() -> Self {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        let ours = number("LISTEN_PID") == Some(std::process::id());
        Self {
            fds: number("LISTEN_FDS").filter(|_| ours).unwrap_or(0),
        }
    }

    pub(crate) fn tell(self, process: &mut Process) {
        if self.fds > 0 {
            // The container's first process is 1; what an exec gets cannot be known before.
            process.env.push(format!("LISTEN_FDS={}", self.fds));
            process.env.push("LISTEN_PID=1".to_owned());
        }
    }
}
