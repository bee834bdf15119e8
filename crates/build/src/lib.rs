//! Building images: a Containerfile's stages on the engine and its store. No daemon, no copy of the store: what is
//! built is at once what pods of the node use.
//!
//! ```text
//! Containerfile ─▶ plan (which stages) ─▶ each stage: FROM, steps ─▶ layers and a configuration ─▶ image
//!                                            │ RUN: a container on the stage's working layer
//!                                            └ COPY, ADD: files, every path below the root of its tree
//! ```
//! A stage writes to a working layer of the store (`store::WorkingLayer`), which becomes a layer as it lies. Whatever
//! a build has made goes with its process: what a kill leaves is removed by [`clear`], which every build begins with. What a
//! person builds by hand goes on between commands: [`working`].
//!
//! Whoever writes Containerfiles, contexts and images is hostile: no link and no `..` leads out of the context, a
//! stage or an image (`tree.rs`), and commands see nothing of the node but what they are given.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod archive;
mod commit;
mod copy;
mod error;
mod image_of;
mod mode;
mod plan;
mod pods;
mod put;
mod run;
mod select;
mod source;
mod stage;
mod staging;
mod state;
mod tree;
mod variables;
pub mod working;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use containerfile::{Containerfile, Ignore};
use engine::Engine;
use engine::container::{Mount, Resources, Rlimit, Security};
use image::Platform;
use store::{ImageRecord, Times};

pub use commit::{Commit, commit};
pub use error::{Error, Result};
pub use pods::clear;

/// What is to be built.
#[derive(Debug)]
pub struct Request {
    /// The Containerfile.
    pub file: Containerfile,
    /// The directory whose files are copied; `None`: there is none.
    pub context: Option<OwnedFd>,
    /// What of it is not seen.
    pub ignore: Ignore,
    /// Further contexts by their names.
    pub contexts: BTreeMap<String, Context>,
    /// Arguments (`--build-arg`).
    pub arguments: BTreeMap<String, String>,
    /// The stage to build, by name or number; `None`: the last one.
    pub target: Option<String>,
    /// What it is for.
    pub platform: Platform,
    /// How layers come to be.
    pub layers: Layers,
    /// The form of the manifest.
    pub format: Format,
    /// References with a tag.
    pub names: Vec<String>,
    /// Labels that are added.
    pub labels: Vec<(String, String)>,
    /// Variables that are added.
    pub environment: Vec<(String, String)>,
    /// Variables that are taken away at the end.
    pub unset: Vec<String>,
    /// Annotations of the manifest that are added.
    pub annotations: BTreeMap<String, String>,
    /// The image has no history.
    pub omit_history: bool,
    /// Do every step again.
    pub no_cache: bool,
    /// Find only steps again that were done within this time; no time: none.
    pub cache_ttl: Option<Duration>,
    /// What `RUN --mount=type=secret` shows, by its id.
    pub secrets: BTreeMap<String, Secret>,
    /// When the image is made, in seconds since 1970; `None`: now.
    pub created: Option<i64>,
    /// Times of the files of its layers.
    pub times: Times,
    /// What commands are run with.
    pub commands: Commands,
}

impl Request {
    /// Whether steps may be found again.
    pub(crate) fn finds_steps(&self) -> bool {
        !self.no_cache && self.cache_ttl != Some(Duration::ZERO)
    }
}

/// A secret, which is in no message.
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A further context.
#[derive(Debug)]
pub enum Context {
    /// A directory.
    Directory(OwnedFd),
    /// An image, by its name.
    Image(String),
}

/// How layers come to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layers {
    /// One of each step that changes files.
    #[default]
    Steps,
    /// One of each stage.
    Stages,
    /// One in all, with what is in the base.
    One,
}

/// The form of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// OCI image-spec: it has no health check, no `ONBUILD` and no shell.
    #[default]
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

/// The network of commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// One of the build's own, with a way out.
    #[default]
    Bridge,
    /// The node's.
    Host,
    /// None.
    None,
}

/// What commands are run with.
#[derive(Debug, Clone, Default)]
pub struct Commands {
    /// Where none is asked for by a step.
    pub network: Network,
    /// Capabilities and profiles.
    pub security: Security,
    /// Limits.
    pub resources: Resources,
    /// Limits of processes.
    pub rlimits: Vec<Rlimit>,
    /// Size of /dev/shm in bytes.
    pub shm_size: Option<u64>,
    /// Further lines of /etc/hosts.
    pub hosts: Vec<(IpAddr, String)>,
    /// Directories of the node that all commands see.
    pub mounts: Vec<Mount>,
    /// The cgroup below which theirs are made.
    pub cgroup_parent: Option<String>,
    /// Variables that no image keeps, as for proxies.
    pub environment: Vec<(String, String)>,
}

/// What a build asks of whoever runs it.
pub trait Surroundings {
    /// The image of a name, fetched if it has to be.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> std::result::Result<ImageRecord, String>;

    /// Writes what is at a URL to a file; when it was changed, in seconds since 1970, if that is known.
    ///
    /// # Errors
    /// Why it cannot be had, in words.
    fn fetch(&self, url: &str, to: &mut File) -> std::result::Result<Option<i64>, String>;
}

/// Which stream of a command something was written to.
pub use engine::Stream;

/// Sees how a build goes on.
pub trait Watch {
    /// A step begins: of which stage (from 1 on, and of how many), which it is, of how many, and its text.
    fn step(&self, stage: (usize, usize), step: (usize, usize), text: &str);
    /// A command has written something.
    fn output(&self, stream: Stream, bytes: &[u8]);
    /// A step's layer was there already.
    fn cached(&self, stage: (usize, usize), id: &str);
    /// A step has made a layer, or a stage an image.
    fn made(&self, stage: (usize, usize), id: &str);
    /// An image is put together, under these names.
    fn commit(&self, stage: (usize, usize), names: &[String]);
    /// Something that a person should know.
    fn warn(&self, words: &str);
}

/// Stops a build from elsewhere.
#[derive(Debug, Default)]
pub struct Cancel {
    stopped: AtomicBool,
    /// The container whose command runs.
    running: Mutex<Option<String>>,
}

impl Cancel {
    /// Ends the build soon: the command that runs is killed.
    pub fn stop(&self, engine: &Engine) {
        self.stopped.store(true, Ordering::SeqCst);
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(container) = running {
            // It may have ended by itself.
            let _ = engine.signal_container(&container, 9);
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn runs(&self, container: Option<&str>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = container.map(str::to_owned);
    }
}

/// A file below a directory that is a root: its links lead nowhere outside. `None`: there is none; of a longer one
/// the first `max` bytes.
///
/// # Errors
/// What cannot be opened or read.
pub fn read_below(root: &OwnedFd, path: &str, max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let tree = tree::Tree::new(root.try_clone()?);
    match tree.stat(path)? {
        Some(_) => tree.read(path, max).map(Some),
        None => Ok(None),
    }
}

/// Builds an image.
///
/// # Errors
/// A flaw of the Containerfile, a step that failed, or what the store and the engine say. Nothing is left then.
pub fn build(
    engine: &Engine,
    request: &Request,
    around: &dyn Surroundings,
    watch: &dyn Watch,
    cancel: &Cancel,
) -> Result<ImageRecord> {
    clear(engine)?;
    plan::Build::new(engine, request, around, watch, cancel)?.run()
}
