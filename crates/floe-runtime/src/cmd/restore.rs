//! `restore`: a container from the images of `checkpoint`, by criu. It has a state as one that was
//! run; in the foreground it is waited for as by `run`.

use std::path::PathBuf;

use runtime::criu::Restore;
use runtime::spec::NamespaceKind;

use super::checkpoint::Shared;
use super::create::{Made, Options, Planned};
use super::{Failure, Outcome, run};
use crate::cli::Global;
use crate::signals::Signals;
use crate::terminal;

/// Options of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
    #[command(flatten)]
    shared: Shared,
    /// Directory of config.json
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    /// Socket that receives the master side of the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Where to write the process id
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Return once it runs
    #[arg(long, short)]
    detach: bool,
    /// Reap also what its processes leave behind (has no effect: there are no strays to reap here)
    #[arg(long)]
    no_subreaper: bool,
    /// Do not use pivot_root (has no effect: criu switches the root)
    #[arg(long)]
    no_pivot: bool,
    /// Another LSM profile than that of the images, TYPE:NAME
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Another LSM context of mounts than that of the images
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let signals = if args.detach {
        None
    } else {
        Some(Signals::catch()?)
    };
    let options = Options {
        bundle: args.bundle.clone(),
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        pidfd_socket: None,
        no_pivot: args.no_pivot,
        no_new_keyring: false,
        preserve_fds: 0,
    };
    let (state, console) = restore(global, args, &options)?.commit(&options)?;
    match signals {
        Some(signals) => {
            let status = terminal::accompany(state.init_process_pid, console, &signals, None);
            run::ended(global, &state, status, false)
        }
        None => Ok(0),
    }
}

fn restore(global: &Global, args: &Args, options: &Options) -> Result<Made, Failure> {
    let settings = args.shared.settings(global)?;
    let Planned { dir, mut state, .. } = Planned::new(global, &args.id, options, args.detach)?;
    // Noted before its processes go on: whatever ends this process then, the container is known.
    let mut running = state.clone();
    let mut noted = Ok(());
    let restored = Restore {
        settings: &settings,
        id: &args.id,
        bundle: &state.bundle,
        spec: &state.spec,
        rootfs: &state.rootfs,
        cgroup_manager: state.cgroup_manager(),
        lsm_profile: args.lsm_profile.as_deref(),
        lsm_mount_context: args.lsm_mount_context.as_deref(),
        held: false,
    }
    .run(&mut |pid| {
        running.init_process_pid = pid;
        running.init_process_start = base::process::start(pid).unwrap_or(0);
        noted = dir.note(&running);
        noted.is_ok()
    });
    noted?;
    let restored = restored?;
    if restored.time_namespace {
        state.add_namespace(NamespaceKind::Time);
    }
    state.resctrl = restored.resctrl;
    let process = (restored.pid, restored.pidfd);
    Ok(Made::of(
        dir,
        state,
        process,
        restored.cgroup,
        restored.console,
    ))
}
