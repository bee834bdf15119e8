//! The pod supervisor: the one small process per pod that is the parent of all its containers,
//! and the blocking client that the engine and the command line talk to it with.
//!
//! ```text
//!  engine, floe run/exec/attach            one per pod
//!  ┌────────┐  supervisor.sock   ┌────────────────────────┐ fork  ┌────────────┐
//!  │ Client ├───────────────────▶│ floe-runtime supervise ├──────▶│ containers │
//!  └────────┘  frames, fds       │ one thread, epoll      │◀──────┤ (runtime)  │
//!       ▲                        └───┬──────────┬─────────┘ pipes └────────────┘
//!       └── state.json ◀─────────────┘          └──▶ CRI log files
//! ```
//!
//! The supervisor outlives whoever started it; it is killed only on purpose. See [`launch`] for
//! how it begins, [`Client`] for what it can be asked, [`ContainerState`] for what any process
//! can read of it without asking.
//!
//! # When the supervisor is killed
//! [`SupervisorInfo::is_alive`] says so. A pod's shared PID namespace dies with it, and every
//! process in there. Containers with a PID namespace of their own live on without anybody who
//! reads their output or learns their exit code: whoever finds the supervisor dead kills the
//! containers' cgroups (their paths are in `state.json`) and then calls [`clean_after_death`]. A
//! `state.json` that says `running` under a dead supervisor tells no more than that.
//!
//! # What waits, and what does not
//! Every request that waits (create, start, stop, wait, delete, exec) holds up its own connection and
//! nothing else, and what it waits for has a limit. The disk under a log holds up the pod's supervisor for
//! as long as it takes; other pods have their own.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod abilities;
mod address;
mod client;
mod error;
mod event;
mod frame;
#[cfg(test)]
mod golden;
mod health;
mod info;
mod oci_program;
pub mod protocol;
mod seccomp;
mod server;
mod setup;
mod shm;
mod state;
mod stream;
mod sys;

pub use abilities::Abilities;
pub use client::{
    ANSWER_LIMIT, AttachEvent, AttachInput, AttachOutput, Attachment, Call, Client, ExecSession,
    ExecStdio, HangUp, Netns, News, Stream, Subscription, clean_after_death, find, launch,
    raise_open_files,
};
pub use error::{Error, Result};
pub use event::{Event, Happening, Present};
pub use health::{Checked, Health, HealthCheck, HealthRecord, OnUnhealthy, StartupCheck};
pub use info::SupervisorInfo;
pub use oci_program::{clean_container, features};
pub use protocol::{
    AttachOptions, Became, Companion, CompanionExit, CreateContainer, CreatedInfo, Dump, ExecExit,
    ExecRequest, LogTarget, OciProgram, OnExit, Restart, RestoreContainer, RootfsSource, Watch,
};
pub use seccomp::{AGENT, SeccompRecord};
pub use server::supervise;
pub use setup::{PodSetup, UserIds};
pub use state::{ContainerState, LogLoss, Status};
pub use sys::memory::{keep_little_memory, trim_memory, trim_program};
