//! The first process of a pod's shared PID namespace, forked from the supervisor: it reaps what is
//! orphaned in the pod, and does nothing else, for as long as the supervisor lives. When it dies,
//! the kernel kills every process of the pod.
//!
//! It can be seen from the containers (`/proc/1`), so it must give them nothing: it has an empty
//! read-only file system as its root, no user, no capability, no open file, and cannot be traced.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, IntoRawFd};

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, chdir, kill_process, pivot_root,
    set_dumpable_behavior, set_parent_process_death_signal, setsid, wait, waitpid,
};
use rustix::thread::set_name;

use super::users::Users;
use crate::error::{Error, Result};
use crate::sys::process::{
    Fork, become_user, close_inherited, exit_now, fork, fork_sibling, join_users,
};
use crate::sys::signal::wait_for_child_signal;

/// As Kubernetes' pause image: a user that owns nothing.
const NOBODY: u32 = 65_535;
/// What it has for itself.
const NAMESPACES: i32 = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
/// What it says when it stands; anything else is why it does not.
const STANDS: &[u8] = b"stands";

/// The pod's first process. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(super) struct PodInit {
    pid: Pid,
    reaped: bool,
}

/// A [`PodInit`] that does what it does first.
#[derive(Debug)]
#[must_use]
pub(super) struct Beginning(PipeReader);

impl PodInit {
    /// Forks it; it stands when that has been waited for. In the pod's own user namespace, if it has one.
    pub(super) fn start(users: Option<&Users>) -> Result<(Self, Beginning)> {
        let (ours, theirs) = std::io::pipe().map_err(failed("make a pipe to"))?;
        let pid = match users {
            Some(users) => in_users(users, &theirs)?,
            None => match fork(NAMESPACES, None).map_err(failed("fork"))? {
                Fork::Child => child(theirs, NOBODY),
                Fork::Parent(pid) => pid,
            },
        };
        drop(theirs);
        Ok((Self { pid, reaped: false }, Beginning(ours)))
    }

    /// Its pid as the host sees it.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The main loop has reaped it.
    pub(super) fn gone(&mut self) {
        self.reaped = true;
    }
}

impl Beginning {
    /// Waits until it stands.
    pub(super) fn wait(mut self) -> Result<()> {
        let mut said = Vec::new();
        let heard = self.0.read_to_end(&mut said);
        heard.map_err(failed("hear from"))?;
        if said == STANDS {
            return Ok(());
        }
        Err(Error::SetUp {
            part: "the pod's first process".into(),
            reason: String::from_utf8_lossy(&said).into_owned(),
        })
    }
}

impl Drop for PodInit {
    fn drop(&mut self) {
        if self.reaped || kill_process(self.pid, Signal::KILL).is_err() {
            return;
        }
        // The kernel kills whatever is left in the namespace with it, and it ends once all of them are
        // reaped: some by us, whose children they are (commands, and orphans of programs that made containers).
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, _))) if pid == self.pid => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
    }
}

fn failed(operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(operation, "the pod's first process")
}

/// Forks it in a user namespace, by a process that joins that one: the PID namespace belongs to it then. Its
/// parent is the supervisor all the same.
fn in_users(users: &Users, theirs: &PipeWriter) -> Result<Pid> {
    let (mut born, tells) = std::io::pipe().map_err(failed("make a pipe to"))?;
    let between = match fork(0, None).map_err(failed("fork"))? {
        Fork::Parent(between) => between,
        Fork::Child => {
            drop(born);
            join(users, theirs, tells)
        }
    };
    drop(tells);
    let mut said = Vec::new();
    let heard = born.read_to_end(&mut said);
    while let Err(Errno::INTR) = waitpid(Some(between), WaitOptions::empty()) {}
    heard.map_err(failed("hear of"))?;
    let text = String::from_utf8_lossy(&said);
    let pid = text.parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| Error::SetUp {
        part: "the pod's first process".into(),
        reason: text.into_owned(),
    })
}

/// The whole life of the process between.
fn join(users: &Users, theirs: &PipeWriter, mut tells: PipeWriter) -> ! {
    let made = join_users(users.namespace.as_fd())
        .and_then(|()| become_user(0))
        .and_then(|()| fork_sibling(NAMESPACES));
    let told = match made {
        Ok(Fork::Child) => match theirs.try_clone() {
            Ok(theirs) => child(theirs, users.nobody()),
            Err(_) => exit_now(1),
        },
        Ok(Fork::Parent(pid)) => write!(tells, "{}", pid.as_raw_nonzero()),
        Err(error) => write!(tells, "join the user namespace: {error}"),
    };
    exit_now(i32::from(told.is_err()))
}

/// The new process's whole life.
fn child(mut parent: PipeWriter, nobody: u32) -> ! {
    let said = match retire(nobody) {
        Ok(()) => parent.write_all(STANDS),
        Err((step, error)) => write!(parent, "{step}: {error}"),
    };
    // The pipe goes with all other files: its end tells the parent that everything is closed.
    let _ = parent.into_raw_fd();
    if said.is_err() || close_inherited(0).is_err() {
        exit_now(1);
    }
    reap_for_ever()
}

/// Gives up all that the supervisor had, but for the open files.
fn retire(nobody: u32) -> Result<(), (&'static str, std::io::Error)> {
    let step = |name: &'static str| move |error: Errno| (name, std::io::Error::from(error));
    set_name(c"floe-pod-init").map_err(step("set name"))?;
    setsid().map_err(step("start session"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(step("make mounts private"))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"none", c"/proc", c"tmpfs", flags, Some(c"mode=555"))
        .map_err(step("mount an empty root"))?;
    chdir("/proc").map_err(step("enter the empty root"))?;
    pivot_root(".", ".").map_err(step("pivot to the empty root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("leave the old root"))?;
    chdir("/").map_err(step("enter the new root"))?;
    become_user(nobody).map_err(|error| ("become nobody", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("forbid tracing"))?;
    // Last, since the kernel forgets it when the user changes.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("tie to the supervisor"))
}

fn reap_for_ever() -> ! {
    loop {
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_)) | Err(Errno::INTR)) {}
        wait_for_child_signal();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    use super::*;

    #[test]
    fn a_child_of_ours_in_the_namespace_that_nobody_has_reaped_holds_up_no_end() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: needs root");
            return;
        }
        let (init, beginning) = PodInit::start(None).unwrap();
        beginning.wait().unwrap();
        let namespace = std::fs::File::open(format!("/proc/{}/ns/pid", init.pid())).unwrap();
        let (done, ended) = channel();
        std::thread::spawn(move || {
            let kind = Some(LinkNameSpaceType::ProcessID);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            match fork(0, None).unwrap() {
                Fork::Child => exit_now(0),
                Fork::Parent(_) => {}
            }
            std::thread::sleep(Duration::from_millis(50));
            drop(init);
            done.send(()).unwrap();
        });
        let limit = Duration::from_secs(20);
        assert!(ended.recv_timeout(limit).is_ok(), "it waits for ever");
    }
}
