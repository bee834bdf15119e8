//! What the two sides say: one [`Request`], one [`Response`], for as long as the connection lives.
//!
//! A message is a frame of `frame.rs`: its length as u32 in little endian, then JSON. File
//! descriptors travel with the frame's first byte. One request at a time is under way on a
//! connection. Three requests change what the connection is:
//! - after `Exec` is answered by [`Response::ExecStarted`], exactly one more frame comes,
//!   [`Response::ExecExited`]; closing the connection before kills the command;
//! - after `Attach` is answered by [`Response::Done`], both directions carry `stream.rs`
//!   packets until the connection closes;
//! - after `Subscribe` is answered by [`Response::Subscribed`], [`Response::Event`]s follow until the
//!   connection closes, and another `Subscribed` where some are missing.
//!
//! The two sides may be of different floes: pods outlive upgrades of the engine, and rollbacks. So
//! both follow the rules of `docs/records.md`, and these:
//! - a supervisor says what it can ([`crate::Abilities`], in `supervisor.json` and in [`Response::Ready`]), and
//!   whoever drives it asks for nothing else. What it does not know all the same it refuses by name
//!   ([`Error::Unsupported`]), and ends the connection;
//! - fields are only ever added, with a default, and one that is not known is passed over. So what
//!   must not be passed over, as confinement must not, is an ability of its own, which is looked for
//!   before it is asked for;
//! - a new answer comes only to a new request; a failure or a state that is not known is one that
//!   says so, and no broken answer.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::{Event, Present};
use crate::health::{HealthCheck, HealthRecord};
use crate::info::SupervisorInfo;
use crate::setup::PodSetup;
use crate::state::ContainerState;

/// What a client may ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Set the pod up; only ever the first frame of a new supervisor's first connection.
    SetUp(Box<PodSetup>),
    /// Make a container up to the gate before its program.
    Create(Box<CreateContainer>),
    /// Open the gate.
    Start {
        /// The container.
        id: String,
    },
    /// Send a signal.
    Signal {
        /// The container.
        id: String,
        /// The signal's number.
        signal: i32,
        /// To all processes of its cgroup, not only the first.
        all: bool,
    },
    /// End it: the signal now, SIGKILL after the timeout. Answered when it has ended.
    Stop {
        /// The container.
        id: String,
        /// The signal's number.
        signal: i32,
        /// How long to wait before SIGKILL.
        timeout: Duration,
    },
    /// Forget it and remove its cgroup.
    Delete {
        /// The container.
        id: String,
        /// Kill it first if it lives.
        force: bool,
    },
    /// Run a command in it.
    Exec {
        /// The container.
        id: String,
        /// What to run and for how long.
        request: Box<ExecRequest>,
        /// What comes with the frame, or is wanted.
        stdio: ExecWire,
    },
    /// Join its streams.
    Attach {
        /// The container.
        id: String,
        /// Which streams.
        options: AttachOptions,
    },
    /// Answer when it has ended.
    Wait {
        /// The container.
        id: String,
    },
    /// Check its health now, or wait for the check that runs.
    Check {
        /// The container.
        id: String,
    },
    /// Open its log file anew.
    ReopenLog {
        /// The container.
        id: String,
    },
    /// Set the size of its terminal.
    Resize {
        /// The container.
        id: String,
        /// Height in characters.
        rows: u16,
        /// Width in characters.
        cols: u16,
    },
    /// Change its cgroup's limits.
    Update {
        /// The container.
        id: String,
        /// The new limits; what is absent stays.
        resources: Box<runtime::spec::Resources>,
    },
    /// Freeze it.
    Pause {
        /// The container.
        id: String,
    },
    /// Thaw it.
    Resume {
        /// The container.
        id: String,
    },
    /// Freeze running containers, without their records saying so. Answered when all stand still; they go on
    /// at [`Request::Thaw`], when this connection closes, when the time is over, or when one is stopped.
    Freeze {
        /// The containers, each once.
        ids: Vec<String>,
        /// How long they stand still at the most; an hour is.
        limit: Duration,
    },
    /// Have criu write down a container that is frozen for this connection. It is frozen afterwards, too.
    Dump(Box<Dump>),
    /// Let the containers go on that are frozen for this connection. An error if they went on before.
    Thaw,
    /// Make a container from criu's images. It stands as one that was created, its processes frozen before their
    /// next step, and `Start` lets them go on.
    Restore(Box<RestoreContainer>),
    /// Run a program beside the containers, in the pod's cgroup and namespaces, such as a shim's
    /// start. Answered when it has ended; what it leaves running stays, as the supervisor's child.
    Companion(Box<Companion>),
    /// Take part in a container that another program is to make and run: its streams, as the named
    /// pipes `stdin`, `stdout` and `stderr` in its directory, its log, clients and record.
    Carry(Box<CreateContainer>),
    /// What became of such a container.
    Tell {
        /// The container.
        id: String,
        /// What.
        became: Box<Became>,
    },
    /// Kill everything that is left and end the supervisor.
    Shutdown,
    /// Be told of what happens from now on.
    Subscribe {
        /// The number of the last event that the client has seen: those after it are told first.
        #[serde(default)]
        after: Option<u64>,
    },
}

impl Request {
    /// What a supervisor must be able to for this, where the first ones were not.
    pub(crate) fn needs(&self) -> Option<&'static str> {
        match self {
            Self::Create(container) => match (&container.check, &container.program) {
                (Some(_), _) => Some("check"),
                (None, program) => program.as_ref().map(|_| "create.program"),
            },
            Self::Check { .. } => Some("check"),
            Self::Subscribe { .. } => Some("subscribe"),
            Self::Companion(_) => Some("companion"),
            Self::Freeze { .. } => Some("freeze"),
            Self::Dump(_) => Some("dump"),
            Self::Thaw => Some("thaw"),
            Self::Restore(_) => Some("restore"),
            Self::Carry(_) => Some("carry"),
            Self::Tell { .. } => Some("tell"),
            Self::SetUp(_)
            | Self::Start { .. }
            | Self::Signal { .. }
            | Self::Stop { .. }
            | Self::Delete { .. }
            | Self::Exec { .. }
            | Self::Attach { .. }
            | Self::Wait { .. }
            | Self::ReopenLog { .. }
            | Self::Resize { .. }
            | Self::Update { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Shutdown => None,
        }
    }
}

/// What the supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To `SetUp`: the pod stands.
    Ready(SupervisorInfo),
    /// Done. To `Shutdown` it carries a pidfd of the supervisor, readable once it has ended.
    Done,
    /// To `Create`.
    Created(CreatedInfo),
    /// To `Stop` and `Wait`.
    State(ContainerState),
    /// To `Exec`: the program runs. Carries the terminal's master side if one was wanted.
    ExecStarted {
        /// The command's process id as the host sees it.
        pid: i32,
    },
    /// The exec'd command has ended.
    ExecExited(ExecExit),
    /// To `Subscribe`: how the pod is. Comes again when the subscriber has missed events.
    Subscribed(Present),
    /// To a subscriber: something has happened.
    Event(Event),
    /// To `Check`: what is known then.
    Checked(HealthRecord),
    /// To `Companion`.
    CompanionEnded(CompanionExit),
    /// It could not be done.
    Failed(#[serde(deserialize_with = "crate::error::of_any_floe")] Error),
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateContainer {
    /// The container's id, a plain file name.
    pub id: String,
    /// The container's directory, which holds `config.json`; `state.json` is written there.
    pub bundle: PathBuf,
    /// Where its root file system comes from.
    pub rootfs: RootfsSource,
    /// Where its output is logged; `None` drops it once no client is attached.
    pub log: Option<LogTarget>,
    /// A pseudo terminal as its stdin, stdout and stderr.
    pub terminal: bool,
    /// Keep its stdin open for clients; otherwise it is /dev/null.
    pub stdin: bool,
    /// Close its stdin when the first client that was attached to it leaves.
    pub stdin_once: bool,
    /// The program that makes it; `None`: the supervisor does, with the runtime library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<OciProgram>,
    /// What is to be done when it has ended; needs [`PodSetup::keeps_home`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exit: Option<Box<OnExit>>,
    /// It is killed when it has run for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_limit: Option<Duration>,
    /// How its health is checked. The ability `check`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Box<HealthCheck>>,
}

/// What is to be done when a container has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnExit {
    /// A program, absolute, and its first arguments. `--restart` or `--ended` and the container's id follow. It is
    /// executed in the namespaces and cgroups in which the pod's supervisor was started.
    pub argv: Vec<OsString>,
    /// All of its environment.
    pub env: Vec<(String, OsString)>,
    /// Whether the container is to run again, unless somebody has stopped it.
    pub restart: Restart,
}

/// When a container that has ended is to run again. The wait before that is doubled each time, from 100 ms to a
/// minute, until it has run for ten seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Whatever its code was.
    Always,
    /// When its code was not 0.
    OnFailure {
        /// So many times at the most.
        most: Option<u32>,
    },
}

/// A program with the command line of an OCI runtime (runc's): it makes a container, and is asked for
/// every verb of its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciProgram {
    /// The program's file, absolute.
    pub path: PathBuf,
    /// Where it keeps what it knows of its containers (`--root`), absolute.
    pub root: PathBuf,
    /// Further options before the verb.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// systemd makes the cgroup (`--systemd-cgroup`); `linux.cgroupsPath` is `slice:prefix:name` then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub systemd_cgroup: bool,
}

/// A container to be written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// The container's id.
    pub id: String,
    /// The directory for criu's images, which is made if it is missing.
    pub images: PathBuf,
    /// The directory for criu's log (`dump.log`) and figures (`stats-dump`).
    pub work: PathBuf,
    /// The path of criu; an OCI program finds its own.
    pub criu: PathBuf,
}

/// A container to be made from criu's images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreContainer {
    /// As one that is made anew: it has no terminal and no program.
    pub container: CreateContainer,
    /// The directory of the images, which is only read.
    pub images: PathBuf,
    /// A directory for criu's log (`restore.log`), which is made if it is missing.
    pub work: PathBuf,
    /// The path of criu.
    pub criu: PathBuf,
    /// How long it may take; an hour at the most.
    pub limit: Duration,
}

/// A program to be run beside the containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// All of its environment.
    pub env: Vec<(String, OsString)>,
    /// Where it runs.
    pub dir: PathBuf,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// When it is killed, with its process group; at most 75 s.
    pub limit: Duration,
}

/// How such a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompanionExit {
    /// Its code, or 128 and the number of the signal that killed it.
    pub code: i32,
    /// It was killed because its time was over.
    pub timed_out: bool,
    /// What it said, up to 64 KiB.
    pub stdout: Vec<u8>,
    /// What it said of what went wrong, up to 64 KiB.
    pub stderr: Vec<u8>,
}

/// What became of a container that another program runs. Times are nanoseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It is made.
    Made {
        /// Its first process, if it is on this host.
        pid: Option<i32>,
        /// Its cgroup below each hierarchy's root; it may be there or not.
        cgroup: String,
        /// Whom to ask how it ends; `None` if that was said before.
        watch: Option<Watch>,
    },
    /// Its program runs, or runs again.
    Running,
    /// It is frozen.
    Paused,
    /// The kernel killed a process of it for want of memory.
    OutOfMemory,
    /// It has ended.
    Ended {
        /// The program's code, or 128 and the number of the signal that killed it.
        code: i32,
        /// When; `None`: now.
        at: Option<i64>,
        /// Why nobody knows the true code, or why it was not started.
        message: Option<String>,
    },
}

/// A question that a program answers when a container of its has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The program's socket.
    pub socket: PathBuf,
    /// What is sent: ttrpc's frame with the Task service's Wait. Its answer has the code and the time.
    pub request: Vec<u8>,
    /// What is sent, on a connection of its own, when no more stdin will come (CloseIO): the program
    /// holds the pipe open itself. Empty: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub close_stdin: Vec<u8>,
}

/// Where a root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootfsSource {
    /// A directory that is there.
    Path(PathBuf),
    /// An overlay, mounted only inside the container's own mount namespace.
    Overlay {
        /// The image's layers, the topmost first.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlayfs's own directory beside it.
        work: PathBuf,
    },
    /// A mount that is in no mount namespace yet, whose descriptor comes with the frame. The ability
    /// `rootfs.mount`.
    Mount,
}

/// A container's log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTarget {
    /// The file; its directory must exist, and it must not be a symbolic link.
    pub path: PathBuf,
    /// A directory above it, below which no symbolic link is followed; `None`: only the file itself
    /// is not.
    #[serde(default)]
    pub beneath: Option<PathBuf>,
    /// Empty the file before it would grow past so many bytes.
    pub max_size: Option<u64>,
    /// Write no more than so many bytes to it until it is opened anew: what comes then is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Nor while less than so many bytes, or than a tenth, of its file system are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<u64>,
}

/// What `create` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedInfo {
    /// The container's first process as the host sees it.
    pub pid: i32,
}

/// A command to run in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The command with its user, environment and capabilities.
    pub process: runtime::spec::Process,
    /// Kill it after that time, with all of its process group.
    pub timeout: Option<Duration>,
}

/// How an exec's streams travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecWire {
    /// Three descriptors come with the request: stdin, stdout, stderr.
    Fds,
    /// A new terminal, whose master side comes with the answer.
    Terminal {
        /// Rows and columns, if known.
        size: Option<(u16, u16)>,
    },
}

/// How an exec ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    /// The command's code, or 128 and the number of the signal that killed it.
    pub code: i32,
    /// It was killed because its time was over.
    pub timed_out: bool,
    /// The kernel killed a process of the container for want of memory while it ran.
    pub oom: bool,
}

/// Which of a container's streams a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOptions {
    /// Send to its stdin.
    pub stdin: bool,
    /// Receive its stdout; all output of a terminal is stdout.
    pub stdout: bool,
    /// Receive its stderr.
    pub stderr: bool,
}
