//! What holds for every verb: crictl's global options, crictl.yaml, and which of them counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::clock;
use crate::failure::{Context, Failure, Outcome};
use crate::file::Config;
use crate::say;

/// crictl's default.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The file that is read when none is named.
pub(crate) const FILE: &str = "/etc/crictl.yaml";

/// Sockets that are tried when none is named: crictl's, in its order, and floe's.
pub(crate) const ENDPOINTS: [&str; 4] = [
    "unix:///run/containerd/containerd.sock",
    "unix:///run/crio/crio.sock",
    "unix:///var/run/cri-dockerd.sock",
    "unix:///run/floe/floe.sock",
];

/// Options of every verb, before it.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Configuration file [default: /etc/crictl.yaml, or crictl.yaml beside this program]
    #[arg(long, short = 'c', env = "CRI_CONFIG_FILE", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// CRI socket of pods and containers [default: the first that answers of containerd's, CRI-O's, cri-dockerd's
    /// and floe's]
    #[arg(
        long,
        short = 'r',
        env = "CONTAINER_RUNTIME_ENDPOINT",
        value_name = "ENDPOINT"
    )]
    pub(crate) runtime_endpoint: Option<String>,
    /// CRI socket of images [default: that of pods and containers]
    #[arg(
        long,
        short = 'i',
        env = "IMAGE_SERVICE_ENDPOINT",
        value_name = "ENDPOINT"
    )]
    pub(crate) image_endpoint: Option<String>,
    /// How long a call may take [default: 2s]
    #[arg(long, short = 't', value_name = "DURATION", value_parser = clock::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Say what is asked of the socket
    #[arg(long, short = 'D')]
    pub(crate) debug: bool,
    /// Further tries to reach a socket that was named; negative: without end [default: 3]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub(crate) max_retries: Option<i64>,
}

/// What counts.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The configuration file that was named, or the usual one.
    pub(crate) file: PathBuf,
    /// `None`: none was named.
    pub(crate) runtime_endpoint: Option<String>,
    pub(crate) image_endpoint: Option<String>,
    pub(crate) timeout: Duration,
    /// What the option says, where it was given.
    pub(crate) asked_timeout: Option<Duration>,
    /// `None`: without end.
    pub(crate) retries: Option<u32>,
    pub(crate) pull_image_on_create: bool,
    pub(crate) disable_pull_on_run: bool,
}

impl Settings {
    /// Reads the file, and lets options count before it. `is_config`: the verb that makes a file that is missing.
    pub(crate) fn new(flags: &Flags, is_config: bool) -> Outcome<Self> {
        let file = flags.config.clone().unwrap_or_else(|| FILE.into());
        let config = match read(&file) {
            Ok(Some(config)) => Some(config),
            Ok(None) if flags.config.is_some() && !is_config => {
                return Err(Failure::new(format!(
                    "get server config: load config file: stat {}: no such file or directory",
                    file.display()
                )));
            }
            Ok(None) => None,
            Err(error) if flags.config.is_some() => {
                return Err(error).context("get server config: load config file");
            }
            Err(Failure::Said(why)) => {
                say::warning(&format!("{}: {why}: it has no effect", file.display()));
                None
            }
            Err(other) => return Err(other),
        };
        let is_file = config.is_some();
        let config = config.unwrap_or_default();
        if flags.debug || config.debug {
            say::show_debug();
        }
        let named = |flag: &Option<String>, file: &str| {
            let file = (!file.is_empty()).then(|| file.to_owned());
            flag.clone().or(file)
        };
        let usual = match config.timeout {
            seconds if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
            _ => TIMEOUT,
        };
        // A file without the key says 0, with crictl.
        let retries = flags.max_retries.unwrap_or(match is_file {
            true => config.max_retries,
            false => 3,
        });
        let asked_timeout = flags.timeout.filter(|one| !one.is_zero());
        Ok(Self {
            file,
            runtime_endpoint: named(&flags.runtime_endpoint, &config.runtime_endpoint),
            image_endpoint: named(&flags.image_endpoint, &config.image_endpoint),
            timeout: asked_timeout.unwrap_or(usual),
            asked_timeout,
            retries: (retries >= 0).then(|| u32::try_from(retries).unwrap_or(u32::MAX)),
            pull_image_on_create: config.pull_image_on_create,
            disable_pull_on_run: config.disable_pull_on_run,
        })
    }
}

/// The file, or that of the same kind beside the program.
fn read(file: &Path) -> Outcome<Option<Config>> {
    if let Some(config) = Config::read(file)? {
        return Ok(Some(config));
    }
    let program = std::env::current_exe().unwrap_or_default();
    match program.parent() {
        Some(dir) => Config::read(&dir.join("crictl.yaml")),
        None => Ok(None),
    }
}
