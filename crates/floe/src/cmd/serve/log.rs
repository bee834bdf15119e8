//! What `floe serve` logs, to standard error: the level may follow the configuration while it runs.

use engine::Config;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Sets another filter; what is wrong in words.
type Set = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send>;

/// The log that was started.
pub(super) struct Log {
    set: Set,
    /// The level in force; `None`: the command line's, which stays.
    level: Option<String>,
}

impl Log {
    /// Logs at the level of the command line, or else the configuration's.
    ///
    /// # Errors
    /// A level that is none.
    pub(super) fn start(
        config: &Config,
        level: Option<&str>,
        format: &str,
    ) -> Result<Self, Failure> {
        let own = configured(config);
        let set = start(level.unwrap_or(own), format)?;
        Ok(Self {
            set,
            level: level.is_none().then(|| own.to_owned()),
        })
    }

    /// Takes the level of a new configuration, unless the command line has said one.
    pub(super) fn follow(&mut self, config: &Config) {
        let new = configured(config);
        if self.level.as_deref().is_none_or(|level| level == new) {
            return;
        }
        match EnvFilter::try_new(new)
            .map_err(|e| e.to_string())
            .and_then(&self.set)
        {
            Ok(()) => self.level = Some(new.to_owned()),
            Err(error) => tracing::warn!(error, level = new, "the level of the log stays"),
        }
    }
}

fn configured(config: &Config) -> &'static str {
    config.runtime.log_filter_of_level().unwrap_or("info")
}

/// Sends the log to standard error; returns what sets another level.
///
/// # Errors
/// A level that is none.
pub(crate) fn start(level: &str, format: &str) -> Result<Set, Failure> {
    let filter = EnvFilter::try_new(level)
        .map_err(|e| Failure::new(format!("--log-level {level:?}: {e}")))?;
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
    Ok(match format {
        "json" => {
            let log = log.json().with_env_filter(filter).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()))
        }
        _ => {
            let log = log
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .with_target(false)
                .with_env_filter(filter)
                .with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()))
        }
    })
}
