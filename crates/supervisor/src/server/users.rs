//! A pod's own user namespace, and the pod's other namespaces in it: a process that lives for a moment makes
//! them, so that they belong to it, and the supervisor joins all but the user namespace. Its rights are the
//! node's, so that it can be the parent of what is to have fewer.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::sysctl;
use crate::error::{Error, Result};
use crate::setup::{PodSetup, UserIds};
use crate::sys::process::{Fork, become_user, exit_now, fork, unshare};

/// The namespaces that a pod may have for itself, and the files of them in `/proc/PID/ns`.
const KINDS: [(UnshareFlags, LinkNameSpaceType, &str); 3] = [
    (UnshareFlags::NEWNET, LinkNameSpaceType::Network, "net"),
    (
        UnshareFlags::NEWIPC,
        LinkNameSpaceType::InterProcessCommunication,
        "ipc",
    ),
    (
        UnshareFlags::NEWUTS,
        LinkNameSpaceType::HostNameAndNISDomainName,
        "uts",
    ),
];

/// A pod's user namespace, and which parameters were set as its root.
#[derive(Debug)]
pub(super) struct Users {
    pub(super) namespace: OwnedFd,
    pub(super) set: Vec<String>,
    /// An id in it that has no rights.
    nobody: u32,
}

impl Users {
    /// Makes it and the namespaces of `flags` in it, and moves the supervisor into those.
    pub(super) fn enter(setup: &PodSetup, ids: &UserIds, flags: UnshareFlags) -> Result<Self> {
        let (theirs, ours) = std::io::pipe().map_err(failed("make a pipe to"))?;
        let (heard, said) = std::io::pipe().map_err(failed("make a pipe to"))?;
        let forked = fork(libc::CLONE_NEWUSER, None).map_err(failed("fork"))?;
        let Fork::Parent(pid) = forked else {
            drop((ours, heard));
            maker(setup, flags, theirs, said)
        };
        drop((theirs, said));
        let maker = Maker { pid, ours, heard };
        let entered = maker.enter(ids, flags);
        maker.end();
        entered
    }

    /// For a process that gives all rights up.
    pub(super) fn nobody(&self) -> u32 {
        self.nobody
    }

    /// Its descriptor's number, by which others find it.
    pub(super) fn number(&self) -> i32 {
        self.namespace.as_raw_fd()
    }
}

/// The process that makes the namespaces, seen from the supervisor.
struct Maker {
    pid: Pid,
    ours: PipeWriter,
    heard: PipeReader,
}

impl Maker {
    fn enter(&self, ids: &UserIds, flags: UnshareFlags) -> Result<Users> {
        let pid = self.pid.as_raw_nonzero().get();
        runtime::map_users(pid, &ids.uids, &ids.gids).map_err(|error| Error::SetUp {
            part: "user namespace".to_owned(),
            reason: error.to_string(),
        })?;
        let namespace = self.open("user")?;
        (&self.ours).write_all(b".").map_err(failed("write to"))?;
        let mut said = Vec::new();
        (&self.heard)
            .read_to_end(&mut said)
            .map_err(failed("hear from"))?;
        let answer: Result<Vec<String>, Error> =
            serde_json::from_slice(&said).map_err(|error| Error::SetUp {
                part: "namespaces in the user namespace".to_owned(),
                reason: format!("{error} ({} bytes)", said.len()),
            })?;
        let set = answer?;
        for (flag, kind, name) in KINDS {
            if flags.contains(flag) {
                let joined = self.open(name).and_then(|fd| {
                    let moved =
                        move_into_link_name_space(std::os::fd::AsFd::as_fd(&fd), Some(kind));
                    moved.map_err(|error| failed("join a namespace of")(error.into()))
                });
                joined?;
            }
        }
        Ok(Users {
            namespace,
            set,
            nobody: nobody(ids),
        })
    }

    fn open(&self, name: &str) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/{name}", self.pid.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        open(&path, flags, Mode::empty()).map_err(Error::io("open", path))
    }

    /// What it has made stays with those who are in it.
    fn end(self) {
        let _ = kill_process(self.pid, Signal::KILL);
        while let Err(Errno::INTR) = waitpid(Some(self.pid), WaitOptions::empty()) {}
    }
}

/// As Kubernetes' pause image, or the last id that there is: a user that owns nothing.
fn nobody(ids: &UserIds) -> u32 {
    const NOBODY: u32 = 65_535;
    let last = |map: &[runtime::spec::IdMapping]| {
        let first = map.iter().find(|one| one.container_id == 0);
        first.map_or(0, |one| one.size.saturating_sub(1))
    };
    NOBODY.min(last(&ids.uids)).min(last(&ids.gids))
}

/// The process's whole life: the namespaces, as root of the user namespace.
fn maker(setup: &PodSetup, flags: UnshareFlags, mut parent: PipeReader, mut says: PipeWriter) -> ! {
    let mut word = [0];
    if parent.read_exact(&mut word).is_err() {
        exit_now(1);
    }
    let failed = |step: &'static str| {
        move |error: std::io::Error| Error::SetUp {
            part: format!("user namespace: {step}"),
            reason: error.to_string(),
        }
    };
    let made = become_user(0)
        .map_err(failed("become its root"))
        .and_then(|()| unshare(flags).map_err(failed("make namespaces")))
        .and_then(|()| sysctl::apply_as_owner(setup));
    let said = serde_json::to_vec(&made).unwrap_or_default();
    let told = says.write_all(&said);
    drop(says);
    // Until the supervisor has what it needs, or is gone.
    let _ = told.and_then(|()| parent.read_exact(&mut word));
    exit_now(0)
}

fn failed(operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(operation, "the process that makes the pod's namespaces")
}
