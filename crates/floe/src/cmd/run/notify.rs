//! `--sdnotify`: tells who started floe that a container runs, or is well (sd_notify(3), systemd's `Type=notify`). The
//! service's main process is the pod's supervisor. Must never wait for the listener.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use clap::ValueEnum;
use engine::container::Health;
use engine::{Container, Engine};

use crate::cmd::{ps, start};
use crate::failure::Failure;

/// The annotation that keeps when it is told.
const WHEN: &str = "io.floe.sdnotify";
/// The variable with the listener's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// When it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// Never
    Ignore,
    /// As soon as the container's program runs
    Conmon,
    /// As soon as its health check says so
    Healthy,
}

impl When {
    /// The annotation of a container that keeps it.
    pub(super) fn annotation(self) -> Option<(String, String)> {
        let value = match self {
            Self::Ignore => return None,
            Self::Conmon => "conmon",
            Self::Healthy => "healthy",
        };
        Some((WHEN.to_owned(), value.to_owned()))
    }
}

/// podman's further value is none of floe's.
pub(super) fn parse(text: &str) -> Result<When, String> {
    match text {
        "container" => Err(
            "a container's own messages are not carried to systemd: write conmon or healthy".into(),
        ),
        text => When::from_str(text, false).map_err(|_| "write ignore, conmon or healthy".into()),
    }
}

/// Tells that a container runs that was just started, if that is wanted and somebody listens. For one that must
/// be well first it waits for that, or for the container's end.
pub(crate) fn started(engine: &Engine, id: &str) -> Result<(), Failure> {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else {
        return Ok(());
    };
    let container = engine.container(id)?;
    match container.spec.annotations.get(WHEN).map(String::as_str) {
        Some("healthy") if !gets_well(engine, id)? => return Ok(()),
        Some(_) => {}
        None => return Ok(()),
    }
    let pid = engine.pod(&container.pod_id)?.supervisor_pid;
    let main = pid
        .map(|pid| format!("MAINPID={pid}\n"))
        .unwrap_or_default();
    send(&socket, &format!("{main}READY=1")).map_err(|error| {
        Failure::new(format!(
            "{SOCKET} {}: {error}: systemd was not told that the container runs",
            socket.display()
        ))
    })
}

fn gets_well(engine: &Engine, id: &str) -> Result<bool, Failure> {
    let is_well = |container: &Container| ps::health(container) == Some(Health::Healthy);
    loop {
        let container = engine.container(id)?;
        if !container.runs() || is_well(&container) {
            return Ok(container.runs());
        }
        std::thread::sleep(start::LOOK);
    }
}

/// Sends without waiting; `@` begins a name that is no file's.
fn send(socket: &OsStr, text: &str) -> std::io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.connect_addr(&address)?;
    sender.send(text.as_bytes()).map(|_| ())
}
