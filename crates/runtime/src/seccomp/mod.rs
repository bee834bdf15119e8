//! Seccomp: compiles the profile of a container (runtime-spec config-linux.md, "seccomp") to one
//! classic BPF program and loads it into the calling thread.
//!
//! The compiler is floe's own: it costs microseconds at start and gives a program that decides a
//! call in about ten instructions by binary search over ranges of system call numbers. It must
//! never loosen a profile: what it cannot express is an error, except for system calls that this
//! kernel cannot have (foreign architectures, unknown names).
//!
//! - `profile`: reading the specification's words; - `arch`, `names`: numbers;
//! - `compile`, `assembler`: the program; - `load`: the kernel; - `default`: RuntimeDefault;
//! - `notifications`: calls that a filter hands to somebody else;
//! - `simulate`: what a program says to a call.

mod arch;
mod assembler;
mod compile;
mod default;
mod load;
mod names;
mod notifications;
mod profile;
mod simulate;

pub use default::{default_profile, default_profile_for_libseccomp};
pub(crate) use names::known as known_name;
pub use notifications::{Heard, Listener, Notification};
pub use profile::{ACTIONS, FLAGS, OPERATORS};

use std::fmt;

use libc::sock_filter;
use rustix::io::Errno;

use crate::{notify, spec};

/// A profile that cannot be compiled, or a kernel that does not take it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an action of the specification.
    #[error("seccomp: unknown action {name:?}")]
    UnknownAction {
        /// As written in the profile.
        name: String,
    },
    /// Not a comparison of the specification.
    #[error("seccomp: unknown operator {name:?} in a rule for {syscall}")]
    UnknownOperator {
        /// As written in the profile.
        name: String,
        /// First system call of the rule.
        syscall: String,
    },
    /// Not an architecture of the specification.
    #[error("seccomp: unknown architecture {name:?}")]
    UnknownArchitecture {
        /// As written in the profile.
        name: String,
    },
    /// Not a flag of the specification.
    #[error("seccomp: unknown flag {name:?}")]
    UnknownFlag {
        /// As written in the profile.
        name: String,
    },
    /// An errno with an action that returns none.
    #[error("seccomp: errnoRet {errno} is given for {action}, which returns no errno")]
    ErrnoWithoutUse {
        /// The errno of the profile.
        errno: u32,
        /// The action of the profile.
        action: String,
    },
    /// An errno that a system call cannot return.
    #[error("seccomp: errnoRet {errno} of {action} is above {max}")]
    ErrnoTooLarge {
        /// The errno of the profile.
        errno: u32,
        /// The action of the profile.
        action: String,
        /// The highest value that can be returned.
        max: u32,
    },
    /// A comparison of an argument that system calls do not have.
    #[error(
        "seccomp: argument index {index} in a rule for {syscall}: there are 6 arguments, 0 to 5"
    )]
    ArgumentIndex {
        /// As written in the profile.
        index: u32,
        /// First system call of the rule.
        syscall: String,
    },
    /// A rule for no system call.
    #[error("seccomp: rule {index} (from 0) names no system call, or an empty one")]
    NoNames {
        /// Position in `syscalls`.
        index: usize,
    },
    /// Notify as the default would stop the runtime itself before the agent is there.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyByDefault,
    /// The runtime hands the listener over by write(2), which would wait for the agent.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyOnWrite,
    /// More rules than a kernel program holds.
    #[error("seccomp: the profile compiles to {length} instructions, the kernel takes {max}")]
    TooLong {
        /// Length of the program.
        length: usize,
        /// BPF_MAXINSNS.
        max: usize,
    },
    /// seccomp(2) failed.
    #[error("seccomp: load a filter of {length} instructions with flags {flags:#x}: {errno}")]
    Load {
        /// Length of the program.
        length: usize,
        /// SECCOMP_FILTER_FLAG_*.
        flags: u64,
        /// The cause.
        #[source]
        errno: Errno,
    },
    /// TSYNC found a thread whose filters differ.
    #[error("seccomp: thread {thread} has filters of its own and cannot be synchronised")]
    OtherThread {
        /// Its id.
        thread: i32,
    },
}

/// A compiled profile, ready to be loaded any number of times.
#[derive(Clone)]
pub struct Filter {
    program: Vec<sock_filter>,
    flags: u64,
}

impl Filter {
    /// Compiles a profile for the architecture this program runs on and those it can run beside.
    ///
    /// Where several rules name one system call, a rule without arguments wins over rules with,
    /// and an earlier one over a later one.
    pub fn compile(profile: &spec::Seccomp) -> Result<Filter, Error> {
        compile::compile(&profile::Profile::parse(profile, arch::Arch::NATIVE)?)
    }

    /// Number of BPF instructions.
    pub fn length(&self) -> usize {
        self.program.len()
    }

    /// Whether a rule hands calls to an agent, so that [`Filter::load`] returns a listener.
    pub fn notifies(&self) -> bool {
        self.flags & load::NEW_LISTENER != 0
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Filter({} instructions, flags {:#x})",
            self.program.len(),
            self.flags
        )
    }
}

/// Names of the architectures for which profiles are compiled, as the specification writes them.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    arch::Arch::NATIVE.family().iter().map(|arch| arch.name())
}

/// The filter of the configuration, if it has one.
pub(crate) fn of_config(linux: &spec::Linux) -> crate::error::Result<Option<Filter>> {
    let Some(seccomp) = &linux.seccomp else {
        return Ok(None);
    };
    let filter = Filter::compile(seccomp)?;
    notify::check(seccomp, filter.notifies())?;
    Ok(Some(filter))
}

#[cfg(test)]
mod tests;
