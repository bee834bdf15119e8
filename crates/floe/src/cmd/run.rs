//! `floe run`: a pod with one container, from options to exit code. Flag names, exit codes (125
//! floe failed, 126 not executable, 127 not found, else the command's own) and the order
//! "options, image, command" are podman's.

pub(crate) mod env;
mod identity;
mod limits;
mod mounts;
pub(crate) mod options;
mod ports;
mod refused;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgAction;
use engine::{ContainerState, Engine};

use super::pull::{PullFlags, WHEN};
use super::{rm, rmi, stop};
use crate::failure::Failure;
use crate::global::Global;
use crate::{attach, names, output, terminal};

/// Options of `floe run`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Run in the background and print the container's id
    #[arg(long, short)]
    detach: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    /// Remove the image as well when the container has ended, unless others use it
    #[arg(long)]
    rmi: bool,
    /// Keep standard input open
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Pass signals on to the command [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// When to pull: missing, always, newer, never
    #[arg(long, default_value = "missing", value_parser = WHEN)]
    pull: String,
    #[command(flatten)]
    from: PullFlags,
    /// Do not show how the image is pulled
    #[arg(long, short)]
    quiet: bool,
    /// Name [default: two words at random]
    #[arg(long)]
    name: Option<String>,
    /// Remove a container that has the name
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    container: options::Options,
    /// Image
    image: String,
    /// Command and arguments instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Files that say what was made.
#[derive(Debug, clap::Args)]
struct Files {
    /// Write the container's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Write the process id of the command to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Write the process id of the pod's supervisor to this file
    #[arg(long, value_name = "FILE")]
    conmon_pidfile: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, engine: &Engine, args: Args) -> Result<ExitCode, Failure> {
    if args.rm && args.detach {
        return Err(Failure::new(
            "--rm with --detach is not supported yet: remove it with floe rm -f",
        ));
    }
    args.from.must_run_here()?;
    let name = args.name.clone().map_or_else(names::invent, Ok)?;
    names::check(&name)?;
    let id_file = args.files.reserve()?;
    let (mut pod, mut container) = args.container.specs(&name, &args.image)?;
    // One that was invented is looked for where pods are made, which reads no other pod's record.
    if args.name.is_some() {
        free_name(engine, &name, args.replace)?;
    }
    container.command = args.container.entrypoint_words();
    container.args = args.command.clone();
    container.stdin = args.interactive;
    container.stdin_once = args.interactive && !args.detach;
    container.tty = args.tty;
    // The program may ask for it before we could tell it by the attach.
    container.console_size = args.tty.then(terminal::size).flatten();
    container.image = image(global, engine, &args, &args.image)?;
    if args.container.publishes_all() {
        let config = engine.image_config(&engine.image(&container.image)?)?;
        let named = config.config.exposed_ports.into_keys();
        args.container.publish(&mut pod, named)?;
    }
    for volume in options::volume_images(&mut container) {
        volume.image = image(global, engine, &args, &volume.image)?;
    }
    let groups = args.container.identity().groups(engine, &container.image)?;
    container.security.supplemental_groups = groups;
    let used = container.image.clone();
    let made = Made::new(engine, pod, container)?;
    id_file.keep(&made.container)?;
    let ended = match args.detach {
        true => made.detached(&args),
        false => made.foreground(&args),
    };
    if args.rmi && !args.detach {
        rmi::unless_used(engine, &used)?;
    }
    ended
}

impl Files {
    /// Makes the file for the id, so that two commands do not take the same.
    fn reserve(&self) -> Result<IdFile, Failure> {
        let Some(path) = self.cidfile.clone() else {
            return Ok(IdFile(None));
        };
        let mut options = std::fs::OpenOptions::new();
        match options.write(true).create_new(true).open(&path) {
            Ok(_) => Ok(IdFile(Some(path))),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "container id file exists. Ensure another container is not using it or delete {}",
                path.display()
            ))),
            Err(e) => Err(Failure::new(format!("create {}: {e}", path.display()))),
        }
    }
}

/// The file of the container's id: gone again unless there is such a container.
struct IdFile(Option<PathBuf>);

impl IdFile {
    fn keep(mut self, id: &str) -> Result<(), Failure> {
        match self.0.take() {
            Some(path) => write(&path, id),
            None => Ok(()),
        }
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| Failure::new(format!("write {}: {e}", path.display())))
}

/// Sees to it that nobody has the name.
fn free_name(engine: &Engine, name: &str, replace: bool) -> Result<(), Failure> {
    if !is_taken(engine, name)? {
        return Ok(());
    }
    if !replace {
        return Err(Failure::new(format!(
            "the container name {name:?} is already in use: remove that container first, choose another name, \
             or use --replace"
        )));
    }
    let old = names::find(engine, name)?;
    if matches!(old.state, ContainerState::Running { .. }) {
        stop::stop(engine, &old, Duration::ZERO)?;
    }
    rm::remove(engine, &old)
}

/// Has a pod of a person's that name?
fn is_taken(engine: &Engine, name: &str) -> Result<bool, Failure> {
    let pods = engine.pods(&engine::PodFilter::default())?;
    let mut pods = pods.iter();
    Ok(pods.any(|pod| pod.spec.name == name && pod.spec.origin == engine::pod::Origin::Cli))
}

/// The id of an image, pulled if need be.
fn image(global: &Global, engine: &Engine, args: &Args, name: &str) -> Result<String, Failure> {
    let stored = match args.pull.as_str() {
        "always" => None,
        _ => engine.find_image(name)?,
    };
    let pull = || args.from.pull(global, engine, name, args.quiet);
    match (args.pull.as_str(), stored) {
        ("newer", Some(stored)) => Ok(pull().unwrap_or(stored.id)),
        (_, Some(stored)) => Ok(stored.id),
        ("never", None) => Err(Failure::new(format!("{name}: image not known"))),
        (_, None) => pull(),
    }
}

/// A pod with its container, removed again unless it comes to be started or is kept.
struct Made<'a> {
    engine: &'a Engine,
    pod: String,
    container: String,
    keep: bool,
}

impl<'a> Made<'a> {
    fn new(
        engine: &'a Engine,
        pod: engine::PodSpec,
        container: engine::ContainerSpec,
    ) -> Result<Self, Failure> {
        let pod = engine.run_pod(pod)?;
        let mut made = Self {
            engine,
            pod,
            container: String::new(),
            keep: false,
        };
        made.container = engine.create_container(&made.pod, container)?;
        Ok(made)
    }

    fn start(&self) -> Result<(), Failure> {
        self.engine
            .start_container(&self.container)
            .map_err(|error| {
                let code = match self
                    .engine
                    .container(&self.container)
                    .map(|container| container.state)
                {
                    Ok(ContainerState::Exited {
                        exit_code: code @ (126 | 127),
                        ..
                    }) => code as u8,
                    _ => crate::failure::FAILED,
                };
                Failure::from(error).with_code(code)
            })
    }

    /// Writes the ids of the processes that run now.
    fn tell(&self, files: &Files) -> Result<(), Failure> {
        if let Some(path) = &files.pidfile {
            let pid = self.engine.container(&self.container)?.pid;
            write(path, &pid.map(|pid| pid.to_string()).unwrap_or_default())?;
        }
        if let Some(path) = &files.conmon_pidfile {
            let pid = self.engine.pod(&self.pod)?.supervisor_pid;
            write(path, &pid.map(|pid| pid.to_string()).unwrap_or_default())?;
        }
        Ok(())
    }

    fn detached(mut self, args: &Args) -> Result<ExitCode, Failure> {
        self.start()?;
        self.tell(&args.files)?;
        self.keep = true;
        println!("{}", self.container);
        Ok(ExitCode::SUCCESS)
    }

    fn foreground(mut self, args: &Args) -> Result<ExitCode, Failure> {
        if args.tty && args.interactive && !std::io::stdin().is_terminal() {
            eprintln!("Warning: the input device is not a terminal");
        }
        let (engine, container) = (self.engine, self.container.clone());
        let session = attach::Session::open(engine, &container, args.interactive, args.tty)?;
        self.start()?;
        self.tell(&args.files)?;
        let code = session.run(args.sig_proxy)?;
        let removed = args.rm || args.rmi;
        self.keep = !removed;
        if self.keep {
            self.engine.stop_pod(&self.pod)?;
        } else {
            self.engine.remove_pod(&self.pod)?;
            self.keep = true;
            if let Some(path) = &args.files.cidfile {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(ExitCode::from(code))
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = self.engine.remove_pod(&self.pod) {
            let words = error.to_string();
            let words = output::lines(&words);
            eprintln!("Warning: could not remove pod {}: {words}", self.pod);
        }
    }
}
