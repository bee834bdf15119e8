//! The engine: pods, containers and images, as a library. The CRI server and the command line
//! are two thin faces of it.
//!
//! State lives on disk and in the pod supervisors, never only here: any process may open an
//! [`Engine`] on the same roots, and may die at any instant. Calls block, but for as long only as
//! a supervisor may take to answer; each is idempotent and finishes its work or undoes it. What
//! waits for as long as a container or command lives is async, and so is [`Engine::pull_image`].
//!
//! One folder per noun, one file per verb: `pod/`, `container/`, `image/`; `oci/` turns a
//! container's specification into a runtime config.json; `node/` is what the engine runs on.

pub mod checkpoint;
pub mod config;
pub mod container;
#[doc(hidden)]
pub mod counted;
pub mod error;
pub mod events;
pub mod files;
pub mod handler;
pub mod image;
pub mod networks;
pub mod node;
pub mod pod;
pub mod secret;
pub mod stats;
pub mod steps;
pub mod volume;

mod annotations;
mod budget;
mod calls;
pub mod cdi;
mod choose;
mod disk;
mod engine;
mod hooks;
mod lock;
mod mount;
mod oci;
mod pipes;
mod plugins;
mod record;
mod recover;
mod reload;
mod user;
mod view;

/// Can AppArmor profiles be used on this node?
pub use ::runtime::apparmor::is_usable as has_apparmor;
pub use config::Config;
pub use container::exit_code;
pub use container::{Container, ContainerFilter, ContainerSpec, ContainerState};
pub use engine::{Engine, ExitProgram};
pub use error::{Error, Kind, Result};
pub use handler::{
    AttachEvent, AttachInput, AttachOptions, AttachOutput, Attachment, ExecSession, ExecStdio,
    Stream,
};
pub use image::PullRequest;
pub use node::Node;
pub use pod::{Pod, PodFilter, PodSpec, PodState};
pub use recover::Recovered;
pub use reload::Reloaded;
pub use supervisor::{keep_little_memory, raise_open_files, trim_memory, trim_program};
pub use user::resolve_user;

/// The crates whose types stand in signatures here, in the very version: whoever embeds the engine needs
/// no other crate of floe's.
pub mod crates {
    pub use ::{distribution, image, ipnet, network, runtime, store, transfer, trust};
}
