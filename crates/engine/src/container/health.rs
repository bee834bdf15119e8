//! Health checks of containers: what a person asks for, in Docker's words, and what their supervisors have found out.

use std::time::Duration;

use supervisor::HealthRecord;
pub use supervisor::{Checked, Health, OnUnhealthy};

use super::Container;
use super::life::state_error;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, needs};

/// A command that says whether a container is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthCheck {
    /// `CMD` and a command, or `CMD-SHELL` and a line for the container's shell.
    pub test: Vec<String>,
    /// How long after one's end the next begins; `None`: only when somebody asks.
    pub interval: Option<Duration>,
    /// One that takes longer is killed, and has failed.
    pub timeout: Duration,
    /// So many that fail in a row make the container unhealthy.
    pub retries: u32,
    /// Those that fail so soon after its start count for nothing, until one has not.
    pub start_period: Duration,
    /// The interval within that time, if it is another.
    pub start_interval: Option<Duration>,
    /// What is checked before all of this.
    pub startup: Option<StartupCheck>,
    /// What follows when it is unhealthy.
    pub on_unhealthy: OnUnhealthy,
    /// How long a container that is stopped for that has before SIGKILL.
    pub stop_timeout: Duration,
    /// So many of the last are kept.
    pub log_entries: u32,
    /// So many bytes of what each says.
    pub log_bytes: u32,
}

/// A command that says whether a container has started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartupCheck {
    /// As [`HealthCheck::test`].
    pub test: Vec<String>,
    /// How long after one's end the next begins.
    pub interval: Duration,
    /// One that takes longer is killed, and has failed.
    pub timeout: Duration,
    /// The container is started again after so many that failed; 0: never.
    pub retries: u32,
    /// It has started after so many that did not fail.
    pub successes: u32,
}

impl HealthCheck {
    /// It, as a supervisor is asked for it.
    pub(crate) fn asked(&self, stop_signal: i32) -> supervisor::HealthCheck {
        supervisor::HealthCheck {
            args: words(&self.test),
            interval: self.interval,
            timeout: self.timeout,
            retries: self.retries,
            start_period: self.start_period,
            start_interval: self.start_interval,
            startup: self.startup.as_ref().map(|it| supervisor::StartupCheck {
                args: words(&it.test),
                interval: it.interval,
                timeout: it.timeout,
                retries: it.retries,
                successes: it.successes,
            }),
            on_unhealthy: self.on_unhealthy,
            stop_signal,
            stop_timeout: self.stop_timeout,
            log_entries: self.log_entries,
            log_bytes: self.log_bytes,
        }
    }
}

/// The command of a test in Docker's words.
fn words(test: &[String]) -> Vec<String> {
    match test {
        [kind, words @ ..] if kind == "CMD" => words.to_vec(),
        [kind, words @ ..] if kind == "CMD-SHELL" => {
            vec!["/bin/sh".into(), "-c".into(), words.join(" ")]
        }
        words => words.to_vec(),
    }
}

impl Container {
    /// What is known of its health; `None` if it is not checked, or has not been started since the node was.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn health(&self) -> Result<Option<HealthRecord>> {
        if self.health_check().is_none() {
            return Ok(None);
        }
        let read = HealthRecord::read(&self.bundle);
        read.map_err(|source| Error::Supervisor {
            verb: "read the health of container",
            id: self.id.clone(),
            source,
        })
    }

    /// How its health is checked, if it is.
    #[must_use]
    pub fn health_check(&self) -> Option<&HealthCheck> {
        self.spec.extras.as_ref()?.health.as_deref()
    }
}

impl Engine {
    /// Checks a container's health now, or waits for the check that runs.
    ///
    /// # Errors
    /// An unknown container, one that does not run or ends meanwhile, and one without a health check.
    pub fn check_health(&self, id: &str) -> Result<HealthRecord> {
        let container = self.container(id)?;
        let Some(check) = container.health_check() else {
            let reason = format!("has no defined healthcheck: container {id}");
            return Err(Error::invalid("container", reason));
        };
        if !container.runs() {
            return Err(state_error("check the health of", &container));
        }
        let startup = check.startup.as_ref().map(|startup| startup.timeout);
        let limit = startup.into_iter().chain([check.timeout]).max();
        self.with_handler(&container, |handler, at| {
            needs(handler, Ability::HealthChecks)?;
            handler.check_health(at, limit.unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_a_command_a_line_for_the_shell_or_as_it_is() {
        for (test, command) in [
            (&["CMD", "a", "b c"][..], &["a", "b c"][..]),
            (&["CMD-SHELL", "a b", "c"], &["/bin/sh", "-c", "a b c"]),
            (&["a", "b"], &["a", "b"]),
        ] {
            let test: Vec<String> = test.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(words(&test), command, "{test:?}");
        }
    }
}
