//! `floe buildah`, and floe by the name buildah: images that a person builds by hand, in working containers. Flags,
//! output and words of errors are buildah's; what podman has as well is the same file as there.

mod commit;
mod config;
mod containers;
mod from;
mod info;
mod inspect;
mod mount;
mod prune;
mod put;
mod remove;
mod run;

use std::collections::BTreeSet;
use std::process::ExitCode;

use build::working::{self, Working};
use clap::Subcommand;
use engine::Engine;

use crate::cmd;
use crate::failure::{FAILED, Failure};
use crate::global::Global;

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a working container of an image, or of nothing (scratch)
    From(Box<from::Args>),
    /// Run a command in a working container
    Run(Box<run::Args>),
    /// Copy files, directories and URLs into a working container
    Copy(Box<put::CopyArgs>),
    /// The same, and archives are unpacked
    Add(Box<put::AddArgs>),
    /// Say what containers of the image start with
    Config(Box<config::Args>),
    /// Make an image of a working container
    Commit(Box<commit::Args>),
    /// Mount the root file systems of working containers, for reading and writing
    Mount(mount::Args),
    /// Take such mounts back
    #[command(visible_alias = "unmount")]
    Umount(mount::UmountArgs),
    /// List working containers
    #[command(visible_aliases = ["list", "ls", "ps"])]
    Containers(containers::Args),
    /// Show all that is known of a working container, or an image
    Inspect(inspect::Args),
    /// Give a working container another name
    Rename(remove::RenameArgs),
    /// Remove working containers
    #[command(visible_alias = "delete")]
    Rm(remove::Args),
    /// Remove images without a name, and what builds would find again
    Prune(prune::Args),
    /// Build an image of a Containerfile
    #[command(visible_aliases = ["bud", "build-using-dockerfile"])]
    Build(Box<cmd::build::Args>),
    /// List images
    Images(cmd::images::Args),
    /// Remove images
    Rmi(cmd::rmi::Args),
    /// Give an image further names
    Tag(cmd::stored::TagArgs),
    /// Send an image to a registry, or another place
    Push(Box<cmd::stored::PushArgs>),
    /// Fetch images from registries
    Pull(Box<cmd::pull::Args>),
    /// Put indexes for several platforms together
    #[command(subcommand)]
    Manifest(Box<cmd::manifest::Command>),
    /// Store a login for a registry
    Login(cmd::login::LoginArgs),
    /// Forget a login for a registry
    Logout(cmd::login::LogoutArgs),
    /// Show what this node is
    Info(info::Args),
    /// Print what this program is
    Version(cmd::version::Args),
    /// Refused
    #[command(hide = true)]
    Unshare(cmd::layers::Any),
}

pub(crate) fn run(global: &Global, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Login(args) => cmd::login::login(global, &args),
        Command::Logout(args) => cmd::login::logout(global, &args),
        Command::Version(args) => cmd::version::run(&args),
        Command::Unshare(_) => Err(Failure::new(
            "please use unshare with rootless: whoever may use floe's store needs no further namespace",
        )),
        command => on_node(global, &global.open_for_build()?, command),
    }
}

fn on_node(global: &Global, engine: &Engine, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::From(args) => from::run(global, engine, &args),
        Command::Run(args) => run::run(engine, &args),
        Command::Copy(args) => put::copy(global, engine, &args),
        Command::Add(args) => put::add(global, engine, &args),
        Command::Config(args) => config::run(engine, &args),
        Command::Commit(args) => commit::run(global, engine, &args),
        Command::Mount(args) => mount::mount(engine, &args),
        Command::Umount(args) => mount::umount(engine, &args),
        Command::Containers(args) => containers::run(engine, &args),
        Command::Inspect(args) => inspect::run(engine, &args),
        Command::Rename(args) => remove::rename(engine, &args),
        Command::Rm(args) => remove::run(engine, &args),
        Command::Prune(args) => prune::run(engine, &args),
        Command::Build(args) => cmd::build::run(global, engine, &args),
        Command::Images(args) => cmd::images::run(engine, &args),
        // podman's codes say why; buildah has one for all failures.
        Command::Rmi(args) => {
            cmd::rmi::run(engine, &args).map_err(|failure| failure.with_code(FAILED))
        }
        Command::Tag(args) => cmd::stored::tag(engine, &args),
        Command::Push(args) => cmd::stored::push(global, engine, &args),
        Command::Pull(args) => cmd::pull::run(global, engine, &args),
        Command::Manifest(command) => cmd::manifest::run(global, engine, *command),
        Command::Info(args) => info::run(engine, &args),
        // Those need no engine, and were done before.
        Command::Login(_) | Command::Logout(_) | Command::Version(_) | Command::Unshare(_) => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The images that working containers stand on, by their ids.
pub(crate) fn bases(engine: &Engine) -> Result<BTreeSet<String>, Failure> {
    let all = working::list(engine)?.into_iter();
    let bases = all.filter_map(|one| Some(one.record.ok()?.image?.id));
    Ok(bases.collect())
}

/// Removes all working containers.
pub(crate) fn remove_all(engine: &Engine) -> Result<(), Failure> {
    for one in working::list(engine)? {
        working::remove(engine, &one.id)?;
    }
    Ok(())
}

/// A name that says that it is of the store, of which there is one.
fn in_store(name: &str) -> &str {
    match name.strip_prefix("containers-storage:") {
        Some(rest) if !rest.starts_with('[') => rest,
        _ => name,
    }
}

/// Opens a working container.
fn open(engine: &Engine, name: &str) -> Result<Working, Failure> {
    if name.is_empty() {
        return Err(Failure::new("container ID must be specified"));
    }
    Ok(working::open(engine, name)?)
}

/// `BUILDAH_HISTORY`: whether steps are remembered that say nothing of it.
fn history(said: Option<bool>) -> bool {
    let usual = || {
        let variable = std::env::var("BUILDAH_HISTORY").unwrap_or_default();
        matches!(variable.to_ascii_lowercase().as_str(), "true" | "1" | "t")
    };
    said.unwrap_or_else(usual)
}

/// Something that a person should know.
fn warn(words: &str) {
    eprintln!("Warning: {}", crate::output::lines(words));
}
