//! What `floe serve` logs, to standard error: the level may follow the configuration while it runs.

use engine::Config;
use tracing_subscriber::EnvFilter;

use super::log_format::{Lines, Logrus};
use crate::failure::Failure;

/// Sets another filter; what is wrong in words.
type Set = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send>;

/// The log that was started.
pub(super) struct Log {
    set: Set,
    /// The level in force; `None`: the command line's, which stays.
    level: Option<String>,
    lines: Lines,
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
        let lines = Lines::default();
        lines
            .only(&config.runtime.log_filter)
            .map_err(|e| Failure::new(format!("crio.runtime.log_filter: {e}")))?;
        let set = start_with(level.unwrap_or(own), format, lines.clone())?;
        Ok(Self {
            set,
            lines,
            level: level.is_none().then(|| own.to_owned()),
        })
    }

    /// Takes the filter of a new configuration, and its level, unless the command line has said one.
    pub(super) fn follow(&mut self, config: &Config) {
        // It was checked with the configuration.
        if let Err(error) = self.lines.only(&config.runtime.log_filter) {
            tracing::warn!(error, "the filter of the log stays");
        }
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
    start_with(level, format, Lines::default())
}

fn start_with(level: &str, format: &str, lines: Lines) -> Result<Set, Failure> {
    let filter = EnvFilter::try_new(level)
        .map_err(|e| Failure::new(format!("--log-level {level:?}: {e}")))?;
    let log = tracing_subscriber::fmt().with_writer(lines);
    Ok(match format {
        "logrus" | "logrus-json" => {
            let format = match format {
                "logrus" => Logrus::Text,
                _ => Logrus::Json,
            };
            let log = log.event_format(format);
            let log = log.with_env_filter(filter).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()))
        }
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
