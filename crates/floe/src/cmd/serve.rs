//! `floe serve`: the CRI engine. Opens the engine and serves until SIGTERM or SIGINT; what a killed one
//! left is cleared away beside that. Containers run on.

mod crio;
pub(crate) mod log;
mod log_format;
mod peers;
mod reload;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use std::os::fd::AsFd;

use engine::Engine;
use engine::config::{CgroupManager, UnusedKey};
use engine::node::Manager;
use reload::Reloader;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use server::ServeOptions;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info, warn};

use crate::failure::Failure;
use crate::global::{Global, path_or_empty};
use crio::CrioWords;
use log::Log;

/// Options of `floe serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The options of crio that are keys of its configuration are taken, too, and its variables \
        (CONTAINER_PIDS_LIMIT is --pids-limit): file < variable < option."
)]
pub(crate) struct Args {
    /// Configuration file (crio.conf's tables and keys) [default: /etc/floe/floe.toml, if it exists]
    #[arg(
        long,
        short = 'c',
        env = "CONTAINER_CONFIG",
        hide_env = true,
        value_name = "FILE"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Directory whose files are read after the configuration file, in lexical order; '' for none
    /// [default: the one beside the file: FILE.d, if it exists]
    #[arg(long, short = 'd', env = "CONTAINER_CONFIG_DIR", hide_env = true, value_name = "DIR", value_parser = path_or_empty())]
    pub(crate) config_dir: Option<PathBuf>,
    /// Path of the CRI socket, instead of the configuration's
    #[arg(long, value_name = "SOCKET")]
    pub(crate) listen: Option<PathBuf>,
    /// What is logged: error, warn, info, debug or trace; debug names the keys of the configuration
    /// that have no effect [default: the configuration's, or else info]
    #[arg(long, short = 'l', value_name = "LEVEL")]
    log_level: Option<String>,
    /// How it is logged; logrus and logrus-json: as CRI-O does, for tools that read its log
    #[arg(long, env = "CONTAINER_LOG_FORMAT", hide_env = true, default_value = "text", value_parser = ["text", "json", "logrus", "logrus-json"])]
    log_format: String,
    #[command(flatten)]
    pub(crate) crio: CrioWords,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    // Before there is another thread.
    join_mount_namespace()?;
    let loaded = reload::load(global)?;
    let config = loaded.config;
    let log = Log::start(&config, args.log_level.as_deref(), &args.log_format)?;
    tell(&loaded.unused);
    for name in crio::without_effect(crio::is_set) {
        warn!(name, "a variable of crio has no effect here");
    }
    let options = ServeOptions::from_config(&config);
    engine::keep_little_memory();
    if let Err(error) = engine::raise_open_files() {
        warn!(%error, "fewer calls can be under way at once");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(128)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("start the async runtime: {e}")))?;
    // From here on SIGHUP ends nothing, however long the start takes.
    let hang_ups = runtime.block_on(async { signal(SignalKind::hangup()).ok() });
    let asked = config.runtime.cgroup_manager;
    let engine = Engine::open(config)?;
    tell_of_cgroups(asked, engine.node().cgroups().manager());
    engine.prepare()?;
    if let Err(reason) = engine.network_status() {
        warn!(%reason, "pods cannot get a network yet");
    }
    let reloader = Reloader {
        global: global.clone(),
        engine: engine.clone(),
        log,
        files: loaded.files,
        told: engine::config::summary(&loaded.unused),
    };
    let served = runtime.block_on(async {
        // Caught before the socket is there: whoever sees it may end this process.
        let end = shutdown();
        tokio::spawn(reloader.run(hang_ups));
        peers::serve(&engine).await?;
        tokio::spawn(forget_start());
        let served = server::serve(engine, options, end).await;
        served.map_err(|e| Failure::new(e.to_string()))
    });
    // Work whose client has left is given up here: it is found half made at the next start.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    served.map(|()| ExitCode::SUCCESS)
}

/// What the start alone has run of the program is no memory of this process any more, once it is over.
async fn forget_start() {
    const OVER: std::time::Duration = std::time::Duration::from_secs(10);
    tokio::time::sleep(OVER).await;
    if let Err(error) = engine::trim_program() {
        debug!(%error, "what the start has run stays in memory");
    }
}

/// Joins the mount namespace that is pinned at the path that `KUBENSMNT` names, as CRI-O does: kubelet and its
/// runtime have one of their own there, so that pods' mounts trouble nobody else on the node.
fn join_mount_namespace() -> Result<(), Failure> {
    let Some(path) = std::env::var_os("KUBENSMNT").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let failed = |error: std::io::Error| {
        let path = path.display();
        Failure::new(format!(
            "KUBENSMNT: join the mount namespace {path}: {error}"
        ))
    };
    let namespace = std::fs::File::open(&path).map_err(failed)?;
    let kind = Some(LinkNameSpaceType::Mount);
    move_into_link_name_space(namespace.as_fd(), kind).map_err(|error| failed(error.into()))
}

/// Who makes the cgroups of pods, and why: kubelet must be told the same.
fn tell_of_cgroups(asked: CgroupManager, manager: Manager) {
    let why = match (asked, manager) {
        (CgroupManager::Unset, Manager::Systemd) => "systemd runs this node",
        (CgroupManager::Unset, Manager::Cgroupfs) => "systemd does not run this node",
        _ => "the configuration says so",
    };
    info!(
        manager = manager.name(),
        why, "who makes the cgroups of pods"
    );
}

/// One line for the keys of the configuration that somebody may wait for in vain; at debug, all.
fn tell(unused: &[UnusedKey]) {
    for key in unused {
        debug!("a key of the configuration has no effect: {key}");
    }
    if let Some(summary) = engine::config::summary(unused) {
        warn!("{summary}");
    }
}

/// Catches the signals that end this process from now on; completes when one has come.
fn shutdown() -> impl Future<Output = ()> {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    async {
        let (Ok(mut term), Ok(mut interrupt)) = signals else {
            warn!("signals cannot be caught: end this process with SIGKILL");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => info!("SIGTERM: ending; containers run on"),
            _ = interrupt.recv() => info!("SIGINT: ending; containers run on"),
        }
    }
}
