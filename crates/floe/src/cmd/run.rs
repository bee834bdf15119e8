//! `floe run`: a pod with one container, from options to exit code. Flag names, exit codes (125
//! floe failed, 126 not executable, 127 not found, else the command's own) and the order
//! "options, image, command" are podman's.

mod options;

use std::io::IsTerminal;
use std::process::ExitCode;

use engine::{ContainerState, Engine};

use crate::failure::Failure;
use crate::{attach, names, output, progress, terminal};

/// Options of `floe run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run in the background and print the container's id
    #[arg(long, short)]
    detach: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    /// Keep standard input open
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// When to pull: missing, always, never
    #[arg(long, default_value = "missing", value_parser = ["missing", "always", "never"])]
    pull: String,
    /// Do not show how the image is pulled
    #[arg(long, short)]
    quiet: bool,
    /// Name [default: two words at random]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    container: options::Options,
    /// Image
    image: String,
    /// Command and arguments instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: Args) -> Result<ExitCode, Failure> {
    let name = args.name.clone().map_or_else(names::invent, Ok)?;
    names::check(&name)?;
    // One that was invented is looked for where pods are made, which reads no other pod's record.
    if args.name.is_some() && is_taken(engine, &name)? {
        return Err(Failure::new(format!(
            "the container name {name:?} is already in use: remove that container first or choose another name"
        )));
    }
    let (pod, mut container) = args.container.specs(&name, &args.image)?;
    container.command = args.container.entrypoint_words();
    container.args = args.command.clone();
    container.stdin = args.interactive;
    container.stdin_once = args.interactive && !args.detach;
    container.tty = args.tty;
    // The program may ask for it before we could tell it by the attach.
    container.console_size = args.tty.then(terminal::size).flatten();
    container.image = image(engine, &args)?;
    let made = Made::new(engine, pod, container)?;
    if args.detach {
        made.detached(args.rm)
    } else {
        made.foreground(&args)
    }
}

/// Has a pod of a person's that name?
fn is_taken(engine: &Engine, name: &str) -> Result<bool, Failure> {
    let pods = engine.pods(&engine::PodFilter::default())?;
    let mut pods = pods.iter();
    Ok(pods.any(|pod| pod.spec.name == name && pod.spec.origin == engine::pod::Origin::Cli))
}

/// The id of the image, pulled if need be.
fn image(engine: &Engine, args: &Args) -> Result<String, Failure> {
    let stored = if args.pull == "always" {
        None
    } else {
        engine.find_image(&args.image)?
    };
    match stored {
        Some(image) => Ok(image.id),
        None if args.pull == "never" => {
            Err(Failure::new(format!("{}: image not known", args.image)))
        }
        None => progress::pull(engine, &args.image, args.quiet),
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

    fn detached(mut self, rm: bool) -> Result<ExitCode, Failure> {
        if rm {
            return Err(Failure::new(
                "--rm with --detach is not supported yet: remove it with floe rm -f",
            ));
        }
        self.start()?;
        self.keep = true;
        println!("{}", self.container);
        Ok(ExitCode::SUCCESS)
    }

    fn foreground(mut self, args: &Args) -> Result<ExitCode, Failure> {
        if args.tty && args.interactive && !std::io::stdin().is_terminal() {
            eprintln!("Warning: the input device is not a terminal");
        }
        let session =
            attach::Session::open(self.engine, &self.container, args.interactive, args.tty)?;
        self.start()?;
        let code = session.run()?;
        self.keep = !args.rm;
        if self.keep {
            self.engine.stop_pod(&self.pod)?;
        } else {
            self.engine.remove_pod(&self.pod)?;
            self.keep = true;
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
