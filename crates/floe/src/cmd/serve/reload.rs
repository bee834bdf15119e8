//! The configuration again, while the engine serves: at SIGHUP, and when one of its files has changed. A bad
//! file leaves everything as it was, and says so with file and line.

use engine::config::{Sources, UnusedKey};
use engine::{Config, Engine, Reloaded};
use tokio::signal::unix::Signal;
use tracing::{info, warn};

use super::log::Log;
use super::watch::Files;
use crate::failure::Failure;
use crate::global::Global;

/// A configuration, and the files that it comes from as they were just before they were read.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) unused: Vec<UnusedKey>,
    pub(super) files: Files,
}

/// Reads the configuration; `more` are looked at, too. On failure the files alone.
fn read(global: &Global) -> (Files, Result<(Config, Vec<UnusedKey>), Failure>) {
    let mut files = Files::default();
    files.look_at(places(&global.sources()));
    let read = global.configured();
    if let Ok((config, _)) = &read {
        files.look_at(config.read_at_reload());
    }
    (files, read)
}

fn places(sources: &Sources) -> Vec<std::path::PathBuf> {
    let mut places = vec![sources.main_file().to_owned()];
    places.extend(sources.drop_ins());
    places
}

/// The first time.
///
/// # Errors
/// A file or value that cannot be used.
pub(super) fn load(global: &Global) -> Result<Loaded, Failure> {
    let (files, read) = read(global);
    let (config, unused) = read?;
    Ok(Loaded {
        config,
        unused,
        files,
    })
}

/// Who reads the configuration again.
pub(super) struct Reloader {
    pub(super) global: Global,
    pub(super) engine: Engine,
    pub(super) log: Log,
    /// As they were when they were read.
    pub(super) files: Files,
    /// What was told of keys without effect.
    pub(super) told: Option<String>,
}

impl Reloader {
    /// Reads it at each signal and each change, for ever.
    pub(super) async fn run(mut self, mut hang_ups: Option<Signal>) {
        let mut is_watching = true;
        loop {
            let why = tokio::select! {
                Some(()) = next(&mut hang_ups) => "SIGHUP",
                changed = self.files.changed(), if is_watching => match changed {
                    Ok(()) => "a file has changed",
                    Err(error) => {
                        warn!(%error, "the files of the configuration are not watched: SIGHUP reads them again");
                        is_watching = false;
                        continue;
                    }
                },
            };
            server::notify_reloading();
            let reload = tokio::task::spawn_blocking(move || {
                self.reload(why);
                self
            });
            match reload.await {
                Ok(reloader) => self = reloader,
                Err(error) => {
                    warn!(%error, "the configuration is read again at the next start only");
                    return server::notify_ready();
                }
            }
            server::notify_ready();
        }
    }

    fn reload(&mut self, why: &str) {
        // Looked at before they are read: what is mended meanwhile has changed.
        let same = self.files.now();
        let (files, read) = read(&self.global);
        // Files that a configuration that cannot be read would name stay those of the one in force.
        self.files = match read {
            Ok(_) => files,
            Err(_) => same,
        };
        let taken = read.and_then(|(config, unused)| {
            let reloaded = self.engine.reload(&config)?;
            Ok((config, unused, reloaded))
        });
        match taken {
            Ok((config, unused, reloaded)) => {
                self.log.follow(&config);
                say(why, &reloaded);
                self.tell(&unused);
            }
            Err(error) => {
                warn!(why, "the configuration stays as it was: {}", error.message);
            }
        }
    }

    /// Tells of keys without effect, if it is not what was told last.
    fn tell(&mut self, unused: &[UnusedKey]) {
        let summary = engine::config::summary(unused);
        if summary != self.told {
            super::tell(unused);
            self.told = summary;
        }
    }
}

async fn next(hang_ups: &mut Option<Signal>) -> Option<()> {
    match hang_ups {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

fn say(why: &str, reloaded: &Reloaded) {
    info!(why, changed = ?reloaded.changed, "configuration reloaded");
    if !reloaded.needs_restart.is_empty() {
        warn!(
            keys = ?reloaded.needs_restart,
            "needs a restart: these keys keep their value until then"
        );
    }
}
