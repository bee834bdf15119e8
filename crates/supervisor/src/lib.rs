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

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod address;
mod client;
mod error;
mod frame;
mod info;
pub mod protocol;
mod server;
mod setup;
mod shm;
mod state;
mod stream;
mod sys;

pub use client::{
    AttachEvent, AttachInput, AttachOutput, Attachment, Client, ExecSession, ExecStdio, Stream,
    clean_after_death, launch,
};
pub use error::{Error, Result};
pub use info::SupervisorInfo;
pub use protocol::{
    AttachOptions, CreateContainer, CreatedInfo, ExecExit, ExecRequest, LogTarget, RootfsSource,
};
pub use server::supervise;
pub use setup::PodSetup;
pub use state::{ContainerState, Status};
