//! `floe-runtime hold`: the program of the container that stands for a pod in a shim's sandbox. It does
//! nothing until it is told to end, and reaps what is orphaned to it. Like `supervise` it is for floe
//! alone. It may run in a virtual machine: it needs no file and no argument.

use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, wait};

use crate::signals::Signals;

/// Holds until a signal to end comes.
pub(crate) fn hold() -> ExitCode {
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    loop {
        while let Some(signal) = signals.next() {
            match signal {
                libc::SIGTERM | libc::SIGINT => return ExitCode::SUCCESS,
                libc::SIGCHLD => while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {},
                _ => {}
            }
        }
        // Whatever ends the wait, signals are looked for again.
        let _ = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
    }
}
