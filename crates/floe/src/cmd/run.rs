//! `floe run`: a pod with one container, from options to exit code. Flag names, exit codes (125
//! floe failed, 126 not executable, 127 not found, else the command's own) and the order
//! "options, image, command" are podman's.

pub(crate) mod env;
mod health;
pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod mounts;
pub(crate) mod networks;
pub(crate) mod notify;
pub(crate) mod options;
mod ports;
mod refused;
pub(crate) mod request;
mod secrets;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgAction;
use engine::Engine;
use engine::container::RestartPolicy;

use super::{rm, rmi, start, stop};
use crate::detach::Keys;
use crate::failure::Failure;
use crate::global::Global;
use crate::{attach, output};
use request::{Asked, Place, Request, write};

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
    /// Keys that leave the container, such as ctrl-p,ctrl-q; '' for none
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Remove the image as well when the container has ended, unless others use it
    #[arg(long)]
    rmi: bool,
    /// Pass signals on to the command [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true")]
    sig_proxy: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    request: Request,
}

/// Files that say which processes there are.
#[derive(Debug, clap::Args)]
struct Files {
    /// Write the process id of the command to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Write the process id of the pod's supervisor to this file
    #[arg(long, value_name = "FILE")]
    conmon_pidfile: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, engine: &Engine, mut args: Args) -> Result<ExitCode, Failure> {
    args.request.take_defaults()?;
    let keys = Keys::parse(args.detach_keys.as_deref())?;
    let Asked {
        pod,
        mut container,
        id_file,
        volumes,
    } = args.request.asked(global, engine)?;
    let request = &args.request;
    // Who leaves a terminal by its keys comes back.
    container.stdin_once = request.interactive && !args.detach && !request.tty;
    let (used, extras) = (container.image.clone(), container.extras.clone());
    let extras = extras.unwrap_or_default();
    let made = Made::new(engine, pod, container)?;
    if !extras.remove {
        engine.keep_definition(&made.container)?;
    }
    volumes.keep();
    id_file.keep(&made.container)?;
    let ended = match args.detach {
        true => made.detached(&args),
        false => made.foreground(&args, keys, extras.restart),
    };
    if args.rmi && !args.detach {
        rmi::unless_used(engine, &used)?;
    }
    ended
}

/// A pod with its container, removed again unless it comes to be started or is kept.
struct Made<'a> {
    engine: &'a Engine,
    pod: String,
    /// Others are in it, too.
    shared: bool,
    container: String,
    keep: bool,
}

impl<'a> Made<'a> {
    fn new(
        engine: &'a Engine,
        place: Place,
        container: engine::ContainerSpec,
    ) -> Result<Self, Failure> {
        let (pod, shared) = match place {
            Place::Own(pod) => (engine.run_pod(*pod)?, false),
            Place::Shared(pod) => {
                engine.start_pod(&pod.id)?;
                (pod.id.clone(), true)
            }
        };
        let mut made = Self {
            engine,
            pod,
            shared,
            container: String::new(),
            keep: false,
        };
        made.container = engine.create_container(&made.pod, container)?;
        Ok(made)
    }

    /// Takes it back, and its own pod with it.
    fn remove(&self) -> Result<(), engine::Error> {
        match (self.shared, self.container.is_empty()) {
            (false, _) => self.engine.remove_pod(&self.pod),
            (true, true) => Ok(()),
            (true, false) => {
                self.engine.forget_definition(&self.pod, &self.container)?;
                self.engine.remove_container(&self.container)
            }
        }
    }

    fn start(&self) -> Result<(), Failure> {
        let started = self.engine.start_container(&self.container);
        started.map_err(|error| start::why(self.engine, &self.container, error))
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
        notify::started(self.engine, &self.container)?;
        self.keep = true;
        println!("{}", self.container);
        Ok(ExitCode::SUCCESS)
    }

    fn foreground(
        mut self,
        args: &Args,
        keys: Keys,
        restart: RestartPolicy,
    ) -> Result<ExitCode, Failure> {
        let request = &args.request;
        if request.tty && request.interactive && !std::io::stdin().is_terminal() {
            eprintln!("Warning: the input device is not a terminal");
        }
        let (engine, id) = (self.engine, self.container.clone());
        let session = attach::Session::open(engine, &id, request.interactive, request.tty)?;
        self.start()?;
        self.tell(&args.files)?;
        notify_beside(engine, &id);
        let code = match session.leave_by(keys).run(args.sig_proxy)? {
            attach::End::Exited(code) => code,
            attach::End::Left => {
                self.keep = true;
                return Ok(ExitCode::SUCCESS);
            }
        };
        if request.rm || args.rmi {
            let removed = engine.container(&id)?;
            self.remove()?;
            rm::remove_volumes(engine, &removed)?;
            if let Some(path) = &request.cidfile {
                let _ = std::fs::remove_file(path);
            }
        } else if restart == RestartPolicy::No {
            stop::finish(engine, &engine.container(&id)?)?;
        }
        self.keep = true;
        Ok(ExitCode::from(code))
    }
}

/// Tells who started floe of the container while its streams are carried.
fn notify_beside(engine: &Engine, id: &str) {
    let (engine, id) = (engine.clone(), id.to_owned());
    std::thread::spawn(move || {
        if let Err(failure) = notify::started(&engine, &id) {
            eprintln!("Warning: {}", output::lines(&failure.to_string()));
        }
    });
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = self.remove() {
            let words = error.to_string();
            let words = output::lines(&words);
            eprintln!("Warning: could not remove pod {}: {words}", self.pod);
        }
    }
}
