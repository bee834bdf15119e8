//! config-linux.md, seccomp: the listener of a filter with SCMP_ACT_NOTIFY goes to the agent at
//! `listenerPath`, with the state of the process whose calls it decides.
//!
//! The process tells the number of its descriptor by write(2), the one call that no profile may
//! hand to an agent, and the runtime takes it from there: any other call could wait for an agent
//! that has no listener yet.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{ForeignRawFd, PidfdGetfdFlags, pidfd_getfd};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::hooks::HookState;
use crate::spec::{Seccomp, Spec};
use crate::sys;

/// config-linux.md, container process state.
#[derive(Serialize)]
struct ProcessState<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a HookState,
}

/// Takes the listener `number` from the process and gives it to the agent.
///
/// # Errors
/// No agent, or one that does not take it.
pub(crate) fn hand_over(
    spec: &Spec,
    state: &HookState,
    (pid, pidfd): (i32, &OwnedFd),
    number: ForeignRawFd,
) -> Result<()> {
    let seccomp = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let Some(seccomp) = seccomp else {
        return Err(Error::invalid("linux.seccomp", "is missing"));
    };
    let listener = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
        .map_err(Error::io("take", "the seccomp listener"))?;
    let told = ProcessState {
        oci_version: &spec.oci_version,
        fds: ["seccompFd"],
        pid,
        metadata: &seccomp.listener_metadata,
        state,
    };
    let bytes = serde_json::to_vec(&told).map_err(Error::Message)?;
    send(&seccomp.listener_path, &bytes, &listener).map_err(|errno| {
        let reason = crate::errno_text(errno.raw_os_error());
        Error::invalid(
            "linux.seccomp.listenerPath",
            format!(
                "failed to connect with seccomp agent {:?}: {reason}",
                seccomp.listener_path
            ),
        )
    })
}

fn send(path: &str, bytes: &[u8], listener: &OwnedFd) -> Result<(), Errno> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    sys::send(&socket, bytes, Some(listener.as_fd()))
}

/// What of the profile can be refused before anything is made: a listener needs somebody who
/// listens.
pub(crate) fn check(seccomp: &Seccomp, notifies: bool) -> Result<()> {
    match (seccomp.listener_path.is_empty(), notifies) {
        (true, true) => Err(Error::invalid(
            "linux.seccomp.listenerPath",
            "is missing: SCMP_ACT_NOTIFY needs an agent",
        )),
        (true, false) if !seccomp.listener_metadata.is_empty() => Err(Error::invalid(
            "linux.seccomp.listenerMetadata",
            "needs a listenerPath",
        )),
        _ => Ok(()),
    }
}
