//! `floe image`: podman's second way to write the commands for images, and the first for `prune`.

use std::process::ExitCode;

use clap::Subcommand;
use engine::Engine;

use super::{history, images, import, inspect, mount, pull, rmi, stored, untag};
use crate::failure::Failure;
use crate::global::Global;

mod prune;
mod tree;

/// What can be done to images.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Is there an image of that name or id? The exit code says it: 0 or 1
    Exists(Name),
    /// Show how an image came to be
    History(history::Args),
    /// Make an image of a tar file
    Import(import::Args),
    /// Show what images are
    Inspect(inspect::Args),
    /// List images
    #[command(visible_alias = "ls")]
    List(images::Args),
    /// Read images from an archive
    Load(stored::LoadArgs),
    /// Mount the root file systems of images, to look into them
    Mount(mount::ImageArgs),
    /// Remove images that nothing uses
    Prune(prune::Args),
    /// Fetch images from registries
    Pull(pull::Args),
    /// Send an image to a registry
    Push(stored::PushArgs),
    /// Remove images
    Rm(rmi::Args),
    /// Write images to an archive
    Save(stored::SaveArgs),
    /// Give an image further names
    Tag(stored::TagArgs),
    /// Show the layers of an image, and what stands on them
    Tree(tree::Args),
    /// Take mounts of images back
    #[command(visible_alias = "umount")]
    Unmount(mount::ImageUnmountArgs),
    /// Take names from an image, which stays
    Untag(untag::Args),
}

/// What is looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name or id
    name: String,
}

pub(crate) fn run(global: &Global, engine: &Engine, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Exists(args) => Ok(match engine.find_image(&args.name)? {
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::from(1),
        }),
        Command::History(args) => history::run(engine, &args),
        Command::Import(args) => import::run(global, engine, &args),
        Command::Inspect(args) => inspect::stored::run(engine, &args.of_images()),
        Command::Mount(args) => mount::images(engine, &args),
        Command::Tree(args) => tree::run(engine, &args),
        Command::Unmount(args) => mount::unmount_images(engine, &args),
        Command::Untag(args) => untag::run(engine, &args),
        Command::List(args) => images::run(engine, &args),
        Command::Load(args) => stored::load(global, engine, &args),
        Command::Prune(args) => prune::run(engine, &args),
        Command::Pull(args) => pull::run(global, engine, &args),
        Command::Push(args) => stored::push(global, engine, &args),
        Command::Rm(args) => rmi::run(engine, &args),
        Command::Save(args) => stored::save(global, engine, &args),
        Command::Tag(args) => stored::tag(engine, &args),
    }
}
