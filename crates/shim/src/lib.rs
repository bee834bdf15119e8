//! A client of containerd's shims (shim v2): programs that run containers their own way, as Kata
//! Containers runs them in virtual machines.
//!
//! ```text
//!  engine                      one process per pod, or per container
//!  ┌──────┐  SHIM start        ┌──────┐
//!  │ Shim ├───────────────────▶│ shim ├──▶ containers, in whatever holds them
//!  └──┬───┘  ttrpc, one call   └──┬───┘
//!     │      a connection         │ ttrpc: created, started, ended, out of memory
//!     └◀── events::serve ─────────┘
//! ```
//!
//! [`Program`] starts a shim and cleans up after a dead one. [`Shim`] asks it: the questions are made
//! in [`task`] (containers and the processes in them) and [`sandbox`] (pods, for shims that have
//! them), each with a limit. [`events`] takes what a shim tells by itself: a shortcut, as every state
//! and every exit code can be asked for as long as the container is not deleted, also by an engine
//! that was dead meanwhile.
//!
//! A shim is not trusted with more than its own containers: its frames are bounded, its answers are
//! checked, and one that hangs costs the caller its limit and nothing else.
//!
//! Protocol: <https://github.com/containerd/containerd/blob/main/docs/runtime-v2.md>

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod call;
mod error;
pub mod events;
mod program;
pub mod sandbox;
mod stats;
pub mod task;
mod value;
mod wire;

use std::path::{Path, PathBuf};

pub use call::Ask;
pub use error::{Error, Result};
pub use program::{Bootstrap, Invocation, PROGRAM_LIMIT, Program};
pub use stats::Stats;
pub use ttrpc::{Code, MAX_FRAME};
pub use value::{Exit, Mount, Options};

/// The version of the task service that a shim has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// containerd.task.v2
    V2,
    /// containerd.task.v3
    V3,
}

impl Version {
    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// The version of that number, if there is one.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }
}

/// A shim that listens somewhere. Holds no connection: each question has its own, so a shim may be
/// known before it lives and after it has died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shim {
    address: PathBuf,
    version: Version,
    namespace: String,
}

impl Shim {
    /// The shim that listens at the socket `address` and was started for `namespace`.
    #[must_use]
    pub fn new(address: PathBuf, version: Version, namespace: &str) -> Self {
        Self {
            address,
            version,
            namespace: namespace.to_owned(),
        }
    }

    /// Its socket.
    #[must_use]
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// The version of its task service.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The namespace of its containers' ids.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}
