//! Programs that do not outlive the engine: what one of them still did after the next engine's DEL would
//! stay for good. prctl(2) PR_SET_PDEATHSIG.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Lets the program be killed when the calling thread ends, which has to wait for it.
pub(crate) fn die_with_caller(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    let before_exec = move || die_with(parent);
    // SAFETY: between fork and exec only two system calls are made, which allocate nothing and take
    // no lock.
    unsafe { command.pre_exec(before_exec) }
}

fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match getppid() == Some(parent) {
        true => Ok(()),
        // It died before the signal was asked for.
        false => Err(io::Error::from(rustix::io::Errno::SRCH)),
    }
}
