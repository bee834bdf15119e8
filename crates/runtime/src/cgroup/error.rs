//! What can go wrong with a control group, in terms the writer of a configuration understands:
//! field, value, file and cause. Nothing here decides; messages are built where facts are known.

use std::path::PathBuf;

use rustix::io::Errno;

use super::hierarchy::Controller;

/// A control group operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mounted hierarchies cannot be read.
    #[error("find cgroup hierarchies: {path}: {errno}", path = .path.display())]
    Discover {
        /// What was read.
        path: PathBuf,
        /// The cause.
        #[source]
        errno: Errno,
    },
    /// Neither v1 nor v2 is mounted.
    #[error("no cgroup hierarchy is mounted on this host")]
    NoHierarchy,
    /// A path that could leave the hierarchy, or is none.
    #[error("cgroup path {path:?} is not valid: {reason}")]
    InvalidPath {
        /// As given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No v1 hierarchy has this controller.
    #[error("unknown controller {name}")]
    UnknownController {
        /// As given.
        name: String,
    },
    /// The cgroup exists in no hierarchy.
    #[error("cgroup {path:?} does not exist")]
    NotFound {
        /// Relative to the hierarchies' roots.
        path: String,
    },
    /// A limit is asked for that this host has no controller for.
    #[error(
        "{field} is set to {value}, but the {controller} cgroup controller is not available here"
    )]
    MissingController {
        /// Path of the field in config.json.
        field: &'static str,
        /// The value asked for.
        value: String,
        /// The controller.
        controller: Controller,
    },
    /// A limit is asked for that the cgroup version of this host does not have.
    #[error("{field} is set to {value}, but {reason}")]
    Unsupported {
        /// Path of the field in config.json.
        field: &'static str,
        /// The value asked for.
        value: String,
        /// What the host lacks.
        reason: &'static str,
    },
    /// A value that means nothing.
    #[error("{field} is set to {value}: {reason}")]
    InvalidValue {
        /// Path of the field in config.json.
        field: &'static str,
        /// The value asked for.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel refused a limit.
    #[error("set {field}: write {value:?} to {path}: {errno}", path = .path.display())]
    Set {
        /// Path of the field in config.json.
        field: &'static str,
        /// What was written.
        value: String,
        /// The control file.
        path: PathBuf,
        /// The cause.
        #[source]
        errno: Errno,
    },
    /// The memory limit is below what is used and cannot be reclaimed.
    #[error(
        "set {field} to {value}: {usage} bytes are in use and cannot be reclaimed (peak {peak})"
    )]
    MemoryInUse {
        /// Path of the field in config.json.
        field: &'static str,
        /// The limit asked for, in bytes.
        value: i64,
        /// Bytes in use now.
        usage: u64,
        /// Most bytes ever in use.
        peak: u64,
    },
    /// A file operation without a field of the configuration behind it.
    #[error("{operation} {path}: {errno}", path = .path.display())]
    Io {
        /// What was done: mkdir, rmdir, open, read, write "value" to.
        operation: String,
        /// The directory or control file.
        path: PathBuf,
        /// The cause.
        #[source]
        errno: Errno,
    },
    /// A control file does not say what the kernel documents.
    #[error("{path}: cannot understand {text:?}", path = .path.display())]
    Parse {
        /// The control file.
        path: PathBuf,
        /// What it said.
        text: String,
    },
    /// A new container must not share a cgroup with processes of others.
    #[error(
        "container's cgroup is not empty: {path} holds processes {pids:?}",
        path = .path.display()
    )]
    Occupied {
        /// Its directory.
        path: PathBuf,
        /// Who is in it.
        pids: Vec<i32>,
    },
    /// A new container would never start.
    #[error("container's cgroup unexpectedly frozen: {path}", path = .path.display())]
    Frozen {
        /// Its directory.
        path: PathBuf,
    },
    /// Processes that do not stop in time.
    #[error("cgroup {path} did not become {state} within {millis} ms", path = .path.display())]
    FreezeTimeout {
        /// Its directory.
        path: PathBuf,
        /// The state waited for.
        state: &'static str,
        /// How long was waited.
        millis: u64,
    },
    /// Processes are left that keep the cgroup from being removed.
    #[error("remove cgroup {path}: still busy with processes {pids:?}", path = .path.display())]
    Busy {
        /// Its directory.
        path: PathBuf,
        /// Who is in it or below it.
        pids: Vec<i32>,
    },
    /// A process cannot be signalled.
    #[error("cgroup {path}: send signal {signal} to process {pid}: {errno}")]
    Signal {
        /// The cgroup.
        path: String,
        /// The process.
        pid: i32,
        /// Number of the signal.
        signal: i32,
        /// The cause.
        #[source]
        errno: Errno,
    },
    /// systemd is asked for, and is not there.
    #[error("systemd not running on this host, cannot use systemd cgroups manager")]
    NoSystemd,
    /// systemd could not be asked.
    #[error("ask systemd over {address}: {reason}")]
    Bus {
        /// Of the bus.
        address: String,
        /// The cause.
        reason: String,
    },
    /// systemd refused, or failed.
    #[error("systemd: {operation} unit {unit:?}: {reason}")]
    Unit {
        /// start, stop, set properties of, reset.
        operation: &'static str,
        /// Its name.
        unit: String,
        /// systemd's words.
        reason: String,
    },
    /// A process that did it for the caller has failed.
    #[error("{reason}")]
    Aside {
        /// What it failed of, in its words.
        reason: String,
        /// [`Error::is_of_request`] of that.
        of_request: bool,
    },
    /// An annotation that names a property of a unit is none.
    #[error("annotation {name}={value}: {reason}")]
    Annotation {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The device program was refused by bpf(2).
    #[error("{operation} the device program of {length} instructions for {path}: {errno}", path = .path.display())]
    DeviceProgram {
        /// load, query, attach, replace or detach.
        operation: &'static str,
        /// Length of the program.
        length: usize,
        /// Directory of the cgroup.
        path: PathBuf,
        /// The cause.
        #[source]
        errno: Errno,
    },
}

impl Error {
    /// Is it a setting that cannot be had, rather than a fault of the host?
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        matches!(
            self,
            Self::InvalidPath { .. }
                | Self::MissingController { .. }
                | Self::Unsupported { .. }
                | Self::InvalidValue { .. }
                | Self::Set { .. }
                | Self::MemoryInUse { .. }
                | Self::Aside {
                    of_request: true,
                    ..
                }
        )
    }

    /// Whether the cause is that something does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        match self {
            Error::NotFound { .. } => true,
            Error::Io { errno, .. } => matches!(*errno, Errno::NOENT | Errno::NODEV),
            _ => false,
        }
    }
}
