//! Signals to all processes of a cgroup.
//!
//! v2 kills atomically (cgroup.kill). Elsewhere the list of processes is read and signalled until
//! it holds nobody new; processes that fork faster than that are frozen first. Whoever was frozen
//! is thawed after SIGKILL, for a frozen process does not die.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::HashSet;

use super::Cgroup;
use super::error::Error;
use super::hierarchy::{Controller, Version};
use super::sys;
use crate::sys as processes;
use crate::sys::Forked;

/// Rounds of listing and killing before the cgroup is frozen for it.
const FREE_ROUNDS: usize = 3;
/// Rounds in all; only processes that cannot be frozen and fork without end need so many.
const ROUNDS: usize = 100;
/// As many descriptors are held at a time.
const AT_ONCE: usize = 256;

/// See [`Cgroup::kill_all`].
pub(super) fn kill_all(cgroup: &Cgroup) -> Result<(), Error> {
    let mut dirs = cgroup.dirs();
    if let Some(unified) = dirs.find(|dir| dir.version() == Version::V2) {
        match unified.write("cgroup.kill", "1") {
            Ok(()) if cgroup.hierarchies.only_unified() => return Ok(()),
            // Beside v1 the processes may be elsewhere in v2; before Linux 5.14 there is no file.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(errno) => return Err(unified.error("write \"1\" to", "cgroup.kill", errno)),
        }
    }
    let killed = kill_listed(cgroup);
    let thawed = match cgroup.dir_of(Controller::Freezer) {
        Some(_) => cgroup.thaw(),
        None => Ok(()),
    };
    match thawed {
        // Removed meanwhile: nobody is left in it.
        Err(error) if error.is_not_found() => killed,
        thawed => killed.and(thawed),
    }
}

/// Kills whoever is listed until nobody new is.
fn kill_listed(cgroup: &Cgroup) -> Result<(), Error> {
    // On a host with both, v2 was dealt with; v1 has the last word on who is in.
    let freezer = cgroup.dir_of(Controller::Freezer);
    let Some(dir) = freezer.or_else(|| cgroup.dirs().next()) else {
        return Ok(());
    };
    let mut done = HashSet::new();
    for round in 0..ROUNDS {
        if round == FREE_ROUNDS {
            // Failing to stop them all is no reason to kill none.
            let _ = cgroup.freeze();
        }
        let pids = dir.processes()?;
        let fresh: Vec<i32> = pids.into_iter().filter(|pid| done.insert(*pid)).collect();
        if fresh.is_empty() {
            break;
        }
        signal(cgroup, &fresh, libc::SIGKILL, || dir.processes())?;
    }
    Ok(())
}

/// See [`Cgroup::signal_all`].
pub(super) fn signal_all(cgroup: &Cgroup, number: i32) -> Result<(), Error> {
    if number == libc::SIGKILL {
        return kill_all(cgroup);
    }
    let pids = cgroup.processes()?;
    if pids.len() < 2 {
        return signal(cgroup, &pids, number, || cgroup.processes());
    }
    // While they stand still no child can be born past the signal.
    let ours = !cgroup.is_frozen()? && cgroup.freeze().is_ok();
    let pids = cgroup.processes();
    let result = pids.and_then(|pids| signal(cgroup, &pids, number, || cgroup.processes()));
    if ours {
        result.and(cgroup.thaw())
    } else {
        result
    }
}

/// Signals processes that were listed; one that has ended meanwhile needs no signal. Its number may be
/// another's by then, of the host too: so each is held by a pidfd first, and must still be listed after
/// that.
fn signal(
    cgroup: &Cgroup,
    pids: &[i32],
    number: i32,
    listed: impl Fn() -> Result<Vec<i32>, Error>,
) -> Result<(), Error> {
    for some in pids.chunks(AT_ONCE) {
        let failed = |pid| {
            let path = cgroup.path.clone();
            move |errno| Error::Signal {
                path,
                pid,
                signal: number,
                errno,
            }
        };
        let (mut held, mut threads) = (Vec::with_capacity(some.len()), Vec::new());
        for pid in some {
            // 0 is listed for a process outside our pid namespace, which kill(2) would take for ourselves.
            let Some(process) = Pid::from_raw(*pid).filter(|_| *pid > 0) else {
                continue;
            };
            match pidfd_open(process, PidfdFlags::empty()) {
                Ok(pidfd) => held.push((*pid, pidfd)),
                Err(Errno::SRCH) => {}
                // A thread, as threaded cgroups list them: kill(2) reaches its process.
                Err(Errno::INVAL | Errno::NOENT) => threads.push(*pid),
                Err(errno) => return Err(failed(*pid)(errno)),
            }
        }
        let still: HashSet<i32> = match listed() {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?.into_iter().collect(),
        };
        let sent = held
            .iter()
            .filter(|(pid, _)| still.contains(pid))
            .map(|(pid, pidfd)| (*pid, sys::send_signal(pidfd, number)));
        let threads = threads.iter().filter(|thread| still.contains(thread));
        let sent = sent.chain(threads.map(|thread| (*thread, sys::kill(*thread, number))));
        for (pid, result) in sent {
            match result {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(failed(pid)(errno)),
            }
        }
    }
    Ok(())
}

/// See [`Cgroup::kill_all_aside`].
pub(super) fn kill_all_aside(cgroup: &Cgroup) -> Result<(), Error> {
    if super::is_unified() {
        return cgroup.kill_all();
    }
    if cgroup.processes()?.is_empty() {
        return Ok(());
    }
    let roots = super::descriptors();
    match processes::clone_process(0, None) {
        Ok(Forked::Child) => {
            processes::close_all_but(&roots);
            // Who asked sees by the processes that are left how it went.
            let _ = cgroup.kill_all();
            processes::exit(0)
        }
        Ok(Forked::Parent { .. }) => Ok(()),
        Err(errno) => Err(Error::Io {
            operation: "clone to kill".into(),
            path: cgroup.path.clone().into(),
            errno,
        }),
    }
}
