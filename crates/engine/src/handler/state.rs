//! How a pod's sandbox and its containers are now, as their handler knows it.

use std::path::PathBuf;

/// A sandbox that lives. Everything in it is a fact that a handler may know or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The process on this node that is the sandbox, or holds it.
    pub pid: Option<i32>,
    /// How its end is told, to those who keep what they have read.
    pub end: End,
    /// Namespaces of this node that are the pod's own.
    pub namespaces: Namespaces,
    /// A container's root file system is taken as a mount descriptor.
    pub takes_mounts: bool,
}

/// What tells of a sandbox's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum End {
    /// Nothing: it is looked at each time.
    #[default]
    Untold,
    /// The end of the process alone.
    Process,
    /// The end of the process, or a change of a record in this directory.
    ProcessOrRecord(PathBuf),
}

/// Paths of the namespaces of this node in which a pod's containers are, such as `/proc/7/ns/net`;
/// `None`: of that kind they have none here, or each its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Network.
    pub network: Option<PathBuf>,
    /// Host name.
    pub uts: Option<PathBuf>,
    /// System V IPC and /dev/shm.
    pub ipc: Option<PathBuf>,
    /// Processes, if the pod's containers share them.
    pub pid: Option<PathBuf>,
    /// Users, if they are not the node's.
    pub users: Option<PathBuf>,
}

/// How a container is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Where it stands in its life.
    pub status: Status,
    /// Its first process on this node, while it has one there.
    pub pid: Option<i32>,
    /// What it wrote that is not in its log.
    pub log_loss: LogLoss,
    /// How often it has run again by its policy, since somebody started it.
    pub restarts: u32,
}

impl State {
    /// One of which nobody has made more than a record.
    pub(crate) const CREATED: Self = Self {
        status: Status::Created,
        pid: None,
        log_loss: LogLoss::NONE,
        restarts: 0,
    };
}

impl LogLoss {
    /// All that it wrote is in its log.
    pub(crate) const NONE: Self = Self {
        lines: 0,
        bytes: 0,
        why: None,
    };
}

/// What a container wrote that is not in its log, for the limits of that or of the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLoss {
    /// Lines, as of at most ten seconds ago.
    pub lines: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Why lines are lost now; `None`: they are not.
    pub why: Option<String>,
}

/// Where a container stands, with what is known only there. Times are nanoseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Made, not started.
    Created,
    /// Its program runs.
    Running {
        /// When the program was executed.
        started_at: i64,
    },
    /// It is frozen.
    Paused {
        /// When the program was executed.
        started_at: i64,
    },
    /// Its first process has ended.
    Exited {
        /// When the program was executed; `None` if it never was.
        started_at: Option<i64>,
        /// When it ended.
        finished_at: i64,
        /// The program's code, or 128 and the number of the signal that killed it.
        exit_code: i32,
        /// It, or a process of it, was killed for want of memory.
        oom_killed: bool,
        /// What is known beside the code.
        cause: Cause,
    },
    /// The sandbox is gone, a process of it may live, and nobody learns how it ends.
    Lost,
    /// The sandbox is of a newer floe, and has a name for this that is not known here.
    Other(String),
}

/// How it came that a container has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Its program ended, or was killed.
    Program,
    /// Its program could not be executed: why not.
    NotExecuted(String),
    /// Nobody saw it: why not. The code is a guess.
    Unseen(String),
}

impl Status {
    /// When the program was executed, if it was.
    #[must_use]
    pub fn started_at(&self) -> Option<i64> {
        match self {
            Self::Created | Self::Lost | Self::Other(_) => None,
            Self::Running { started_at } | Self::Paused { started_at } => Some(*started_at),
            Self::Exited { started_at, .. } => *started_at,
        }
    }
}
