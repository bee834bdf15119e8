//! The Node Resource Interface: plugins that see what happens to pods and containers, change containers
//! that are being made, and change the limits of others.
//!
//! ```text
//!  engine ──Nri: one call per step──▶ adaptation.rs ──each plugin in turn──▶ plugin.rs ─▶ connection.rs
//!     ▲                                 merge/: whose change holds                          │ mux.rs, ttrpc
//!     └──Runtime: what there is, other limits, evictions────────── unasked ◀────────────────┘ one unix socket
//! ```
//!
//! Knows no engine: what a pod or a container is stands in [`api`], and [`Runtime`] is all that is asked of
//! who has them. Blocks, with a thread for each plugin that reads what it says.
//!
//! A plugin is a program of the node's administrator, and still bounded: every call has a limit, one that does
//! not answer is hung up on and costs nobody else anything after that; frames, answers and what waits to be
//! done have limits; nothing is believed before it is checked.
//!
//! Protocol: <https://github.com/containerd/nri/blob/main/pkg/api/api.proto>

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod adaptation;
pub mod api;
mod connection;
mod error;
mod gate;
mod launch;
mod listen;
mod merge;
mod mux;
mod plugin;
mod settings;
mod validator;

pub use adaptation::{Created, Nri, Updated};
pub use api::Event;
pub use error::{Error, Result};
pub use gate::InFlight;
pub use settings::{Settings, Validator};

/// Who has the pods and containers.
pub trait Runtime: Send + Sync + 'static {
    /// All pods that are made, and all containers that have not ended.
    ///
    /// # Errors
    /// In words: they cannot be listed now.
    fn present(&self) -> Result<(Vec<api::PodSandbox>, Vec<api::Container>), String>;

    /// Gives a container other limits; one that does not exist or has ended is fine. Called also while a call
    /// of [`Nri`] is under way: it must wait for none.
    ///
    /// # Errors
    /// In words: what the limits cannot be.
    fn update(&self, update: &api::ContainerUpdate) -> Result<(), String>;

    /// Ends a container; one that does not exist or has ended is fine.
    ///
    /// # Errors
    /// In words.
    fn evict(&self, eviction: &api::ContainerEviction) -> Result<(), String>;

    /// A plugin has joined: it is to hear of what happens from now on.
    fn joined(&self);
}
