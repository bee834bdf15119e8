//! `floe commit`: an image of what a container has written, and what it was started with.

use std::path::PathBuf;
use std::process::ExitCode;

use build::{Commit, Format};
use engine::{Container, Engine};
use image::config::ContainerConfig;

use super::import::change;
use crate::failure::Failure;
use crate::names;
use crate::refused::{List, NotOffered, Refused, Takes};

/// Options of `floe commit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who made it
    #[arg(long, short, value_name = "NAME")]
    author: Option<String>,
    /// An instruction of a Containerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME or WORKDIR
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// oci or docker
    #[arg(long, short, value_name = "FORMAT", default_value = "oci", value_parser = ["oci", "docker"])]
    format: String,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// A remark for the image's history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Stop the container's processes meanwhile
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, hide_default_value = true)]
    pause: bool,
    /// Print only the id
    #[arg(long, short)]
    quiet: bool,
    /// One layer, with what is in the image
    #[arg(long, short)]
    squash: bool,
    #[command(flatten)]
    _refused: NotOffered<NotInCommit>,
    /// Name or id
    container: String,
    /// Name to give the image
    image: Option<String>,
}

/// What podman's commit has besides.
#[derive(Debug)]
pub(crate) struct NotInCommit;

impl List for NotInCommit {
    const OPTIONS: &'static [Refused] = &[
        (
            "config",
            Takes::Value,
            "write single instructions with --change",
        ),
        (
            "include-volumes",
            Takes::Nothing,
            "volumes are not the container's own: copy what is in them with floe cp",
        ),
    ];
}

/// A container that goes on when this is gone.
struct Paused<'a>(&'a Engine, &'a str);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.resume_container(self.1) {
            eprintln!("Warning: the container stays paused: {error}");
        }
    }
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if args.message.is_some() && args.format == "oci" {
        return Err(Failure::new(
            "messages are only compatible with the docker image format (-f docker)",
        ));
    }
    let name = args.image.as_deref().map(names::local).transpose()?;
    let container = names::find(engine, &args.container)?;
    let base = engine.image(&container.image_id)?;
    let mut config = config(&container, engine.image_config(&base)?.config);
    for instruction in &args.change {
        change::apply(&mut config, instruction)?;
    }
    let root = engine.store().container_root(&container.id);
    let root = root.map_err(|e| Failure::new(e.to_string()))?;
    let root =
        root.ok_or_else(|| Failure::new("the container has nothing that it could write to"))?;
    let runs = container.runs();
    let paused = match args.pause && runs {
        true => {
            engine.pause_container(&container.id)?;
            Some(Paused(engine, &container.id))
        }
        false => None,
    };
    let commit = Commit {
        root: &root,
        base: &base,
        config,
        author: args.author.clone(),
        created_by: container.args.join(" "),
        comment: args.message.clone(),
        squash: args.squash,
        format: match args.format.as_str() {
            "docker" => Format::Docker,
            _ => Format::Oci,
        },
        names: name.iter().map(ToString::to_string).collect(),
    };
    let made = build::commit(engine, commit);
    drop(paused);
    let image = made.map_err(|e| Failure::new(e.to_string()))?;
    println!("{}", image.id);
    if let Some(file) = &args.iidfile {
        let written = std::fs::write(file, format!("sha256:{}", image.id));
        written.map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the image says, with what the container was started with.
fn config(container: &Container, mut config: ContainerConfig) -> ContainerConfig {
    let spec = &container.spec;
    for (name, value) in &spec.env {
        let begin = format!("{name}=");
        config.env.retain(|entry| !entry.starts_with(&begin));
        config.env.push(begin + value);
    }
    if !spec.command.is_empty() {
        config.entrypoint.clone_from(&spec.command);
        config.cmd.clear();
    }
    if !spec.args.is_empty() {
        config.cmd.clone_from(&spec.args);
    }
    if !spec.working_dir.is_empty() {
        config.working_dir.clone_from(&spec.working_dir);
    }
    if !spec.security.user.is_empty() {
        config.user.clone_from(&spec.security.user);
    }
    config.labels.extend(spec.labels.clone());
    config
}
