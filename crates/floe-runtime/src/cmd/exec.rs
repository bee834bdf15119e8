//! `exec`: a further process in a container. 255 if it cannot be started.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use runtime::cgroup::Cgroup;
use runtime::spec::{Capabilities, Process};
use runtime::{NewExec, Started, Stdio};

use super::create::write_pid;
use super::{Failure, Outcome, run};
use crate::activation::Activation;
use crate::cli::Global;
use crate::signals::Signals;
use crate::state::{State, Status};
use crate::{log, terminal};

/// Options of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Socket that receives the master side of the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// NAME=VALUE
    #[arg(long, short, value_name = "ENV")]
    env: Vec<String>,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// UID[:GID]
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Further group
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File with the process as JSON
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return once it runs
    #[arg(long, short)]
    detach: bool,
    /// Where to write the process id
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Add a capability
    #[arg(long, short, value_name = "CAP")]
    cap: Vec<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// How many descriptors after 2 it gets
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    preserve_fds: u32,
    /// Socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Run in this cgroup below the container's, which must exist; on v1 also for some controllers
    #[arg(long, value_name = "[CONTROLLER[,…]:]PATH")]
    cgroup: Vec<String>,
    /// Exec in a paused container: the process runs once it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Profile of AppArmor
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Label of SELinux
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Container id
    id: String,
    /// Command and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The container's first process, if the container takes a command now.
fn target(global: &Global, args: &Args, state: &State) -> Result<OwnedFd, Failure> {
    let stopped = || Failure::new("cannot exec in a stopped container");
    match state.status(global) {
        Status::Created | Status::Running => {}
        Status::Creating => {
            return Err(Failure::new(
                "cannot exec in a container that is being created",
            ));
        }
        Status::Paused if args.ignore_paused => {}
        Status::Paused => {
            return Err(Failure::new(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        Status::Stopped => return Err(stopped()),
    }
    state.init().ok_or_else(stopped)
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    let init = target(global, args, &state)?;
    let mut process = process(args, &state)?;
    if args.apparmor.is_some() {
        process.apparmor_profile.clone_from(&args.apparmor);
    }
    if args.process_label.is_some() {
        process.selinux_label.clone_from(&args.process_label);
    }
    let activation = Activation::of_caller();
    activation.tell(&mut process);
    if process.terminal && args.detach && args.console_socket.is_none() {
        return Err(Failure::new(
            "cannot allocate tty if runc will detach without setting console socket",
        ));
    }
    let signals = if args.detach {
        None
    } else {
        Some(Signals::catch()?)
    };
    let started = NewExec {
        id: &state.id,
        bundle: &state.bundle,
        container_pid: state.init_process_pid,
        container: init.as_fd(),
        spec: &state.spec,
        process: &process,
        cgroup: &cgroup(&state, &args.cgroup)?,
        resctrl: state.resctrl.as_ref(),
        stdio: if process.terminal {
            Stdio::Terminal {
                size: terminal::size(),
                raw_output: args.console_socket.is_none(),
            }
        } else {
            Stdio::Inherit
        },
        preserve_fds: args.preserve_fds + activation.fds,
    }
    .start()?;
    started
        .warnings
        .iter()
        .for_each(|warning| log::warn(global, warning));
    let pid = started.pid;
    let console = hand_over(args, started).inspect_err(|_| {
        // Nobody could find it. What led here is what the caller hears of.
        let _ = run::kill(pid);
    })?;
    match signals {
        Some(signals) => Ok(run::exit_code(terminal::accompany(
            pid, console, &signals, None,
        )?)),
        None => Ok(0),
    }
}

/// Tells whoever wants to know of the process; returns the terminal if nobody took it.
fn hand_over(args: &Args, started: Started) -> Result<Option<OwnedFd>, Failure> {
    if let Some(socket) = &args.pidfd_socket {
        terminal::send_pidfd(socket, &started.pidfd)?;
    }
    if let Some(path) = &args.pid_file {
        write_pid(path, started.pid)?;
    }
    match (&args.console_socket, started.console) {
        (Some(socket), Some(master)) => terminal::send(socket, &master).map(|()| None),
        (_, console) => Ok(console),
    }
}

/// The container's cgroup, or those below it that are asked for.
fn cgroup(state: &State, below: &[String]) -> Result<Cgroup, Failure> {
    let cgroup = state.cgroup()?;
    let mut cgroup = cgroup.ok_or_else(|| Failure::new("cannot exec in a stopped container"))?;
    for asked in below {
        let (controllers, path) = asked.split_once(':').unwrap_or(("", asked));
        if path.split('/').any(|name| name == "..") {
            return Err(Failure::new(format!("bad sub cgroup path: {path}")));
        }
        let names: Vec<&str> = controllers
            .split(',')
            .filter(|name| !name.is_empty())
            .collect();
        cgroup = cgroup.below(&names, path)?;
    }
    Ok(cgroup)
}

/// The container's own process with what the options change, or the one in a file.
fn process(args: &Args, state: &State) -> Result<Process, Failure> {
    if let Some(path) = &args.process {
        let bytes =
            std::fs::read(path).map_err(Failure::at(format_args!("read {}", path.display())))?;
        return serde_json::from_slice(&bytes)
            .map_err(|e| Failure::new(format!("{}: {e}", path.display())));
    }
    if args.command.is_empty() {
        return Err(Failure::new("exec: process args cannot be empty"));
    }
    let mut process = state.spec.process.clone().unwrap_or_default();
    process.args.clone_from(&args.command);
    process.terminal = args.tty;
    process.console_size = None;
    process.env.extend(args.env.iter().cloned());
    process.no_new_privileges |= args.no_new_privs;
    if let Some(cwd) = &args.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &args.user {
        let (uid, gid) = parse_user(user)?;
        process.user.uid = uid;
        // As with runc the group stays that of the container unless one is named.
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(&args.additional_gids);
    if !args.cap.is_empty() {
        add_capabilities(process.capabilities.get_or_insert_default(), &args.cap);
    }
    Ok(process)
}

/// `UID[:GID]`, in digits. A name would have to be looked up in the container, and anything else that looks
/// like a number may be another one to whoever wrote it.
fn parse_user(text: &str) -> Result<(u32, Option<u32>), Failure> {
    let refused =
        |what: &str, reason: &str| Failure::new(format!("--user {text:?}: {what:?} is {reason}"));
    let number = |word: &str| {
        if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused(word, "not a number"));
        }
        // The last one means "no change" to the kernel.
        let id = word.parse().ok().filter(|id| *id != u32::MAX);
        id.ok_or_else(|| refused(word, "above the highest id, 4294967294"))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

fn add_capabilities(capabilities: &mut Capabilities, names: &[String]) {
    let add = |set: &mut Vec<String>, name: &String| {
        if !set.contains(name) {
            set.push(name.clone());
        }
    };
    for name in names {
        add(&mut capabilities.bounding, name);
        add(&mut capabilities.effective, name);
        add(&mut capabilities.permitted, name);
        // Only what is inheritable can be ambient.
        if capabilities.inheritable.contains(name) {
            add(&mut capabilities.ambient, name);
        }
    }
}
