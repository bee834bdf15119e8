//! Programs that are started with a descriptor of ours, and programs that do not outlive the engine.
//! prctl(2) PR_SET_PDEATHSIG, dup2(2).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Lets the program be killed when the calling thread ends, which has to wait for it: what a plugin still
/// did after the next engine's start would stay for good.
pub fn die_with_caller(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    let before_exec = move || die_with(parent);
    // SAFETY: between fork and exec only two system calls are made, which allocate nothing and take
    // no lock.
    unsafe { command.pre_exec(before_exec) }
}

/// Lets the program have a descriptor under that number. It is closed here with the command.
///
/// # Errors
/// As fcntl(2).
pub fn hand_over(command: &mut Command, descriptor: OwnedFd, number: RawFd) -> io::Result<()> {
    // The number is taken until then: the pipe by which spawn hears of a failure does not get it.
    let place = fcntl_dupfd_cloexec(&descriptor, number)?;
    let before_exec = move || put(&descriptor, &place, number);
    // SAFETY: between fork and exec one system call is made, which allocates nothing and takes no lock.
    unsafe { command.pre_exec(before_exec) };
    Ok(())
}

fn put(descriptor: &OwnedFd, place: &OwnedFd, number: RawFd) -> io::Result<()> {
    for known in [descriptor, place] {
        if known.as_raw_fd() == number {
            return Ok(fcntl_setfd(known, FdFlags::empty())?);
        }
    }
    // SAFETY: what had the number was this process's alone, which is about to execute a program, and
    // that program is told that the number is the descriptor's.
    match unsafe { libc::dup2(descriptor.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match getppid() == Some(parent) {
        true => Ok(()),
        // It died before the signal was asked for.
        false => Err(io::Error::from(rustix::io::Errno::SRCH)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_program_has_the_descriptor_by_its_number() {
        for number in [3, 9] {
            let (mut read, write) = io::pipe().unwrap();
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("echo $0 >&{number}"), "said"]);
            hand_over(&mut command, write.into(), number).unwrap();
            assert!(command.status().unwrap().success());
            // Its end here goes with the command: the pipe has one.
            drop(command);
            let mut said = String::new();
            read.read_to_string(&mut said).unwrap();
            assert_eq!(said, "said\n");
        }
    }
}
