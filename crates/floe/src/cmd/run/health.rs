//! Health checks in podman's words: options of `floe run` and `floe create`, and what the image declares.

use std::time::Duration;

use clap::ValueEnum;
use engine::container::{HealthCheck, OnUnhealthy, StartupCheck};
use serde::Deserialize;
use serde_json::Value;

use crate::clock;
use crate::failure::Failure;

/// What holds where neither the command line nor the image says something.
const USUAL: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// Options of health checks.
#[derive(Debug, clap::Args)]
pub(super) struct HealthOptions {
    /// Command that says with its code whether the container is well: a line for its shell, a JSON list, or none
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_healthcheck")]
    health_cmd: Option<String>,
    /// How long after one check the next begins, or disable [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    health_interval: Option<Interval>,
    /// So many that fail in a row make it unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    health_retries: Option<u32>,
    /// Those that fail so soon after its start count for nothing [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    health_start_period: Option<Duration>,
    /// A check that takes longer has failed [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = at_least_a_second)]
    health_timeout: Option<Duration>,
    /// What follows when it is unhealthy
    #[arg(long, value_name = "ACTION", default_value = "none")]
    health_on_failure: Action,
    /// Command that says whether it has started; its health is checked from then on
    #[arg(long, value_name = "COMMAND")]
    health_startup_cmd: Option<String>,
    /// How long after one check of the start the next begins [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = clock::duration, requires = "health_startup_cmd")]
    health_startup_interval: Option<Duration>,
    /// It is started again after so many that failed; 0 for never
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        requires = "health_startup_cmd"
    )]
    health_startup_retries: u32,
    /// It has started after so many that did not fail; 0 is 1
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        requires = "health_startup_cmd"
    )]
    health_startup_success: u32,
    /// A check of the start that takes longer has failed [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = at_least_a_second, requires = "health_startup_cmd")]
    health_startup_timeout: Option<Duration>,
    /// local: what checks have said is kept beside the container
    #[arg(long, value_name = "PLACE", default_value = "local", value_parser = ["local"])]
    health_log_destination: String,
    /// So many of the last checks are kept; 0 for as many as there is room for
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    health_max_log_count: u32,
    /// So many bytes of what each says; 0 for as many as there is room for
    #[arg(long, value_name = "BYTES", default_value_t = 500)]
    health_max_log_size: u32,
    /// Run no health check, though the image declares one
    #[arg(long)]
    no_healthcheck: bool,
}

/// An interval, or none.
#[derive(Debug, Clone, Copy)]
struct Interval(Option<Duration>);

/// What follows, in podman's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    None,
    Kill,
    Restart,
    Stop,
}

/// `Healthcheck` of an image's configuration (Docker's; OCI's has none). Times are nanoseconds, and 0 is what
/// is usual.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OfImage {
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    start_interval: u64,
    retries: u32,
}

impl HealthOptions {
    /// The check that is asked for or that the image declares, if there is one.
    pub(super) fn check(
        &self,
        of_image: Option<&Value>,
        stop_timeout: u64,
    ) -> Result<Option<HealthCheck>, Failure> {
        let declared = declared(of_image)?;
        let test = match &self.health_cmd {
            Some(text) => self::test("--health-cmd", text)?,
            None if self.no_healthcheck => Vec::new(),
            None => declared.test.unwrap_or_default(),
        };
        if test.first().is_none_or(|word| word == "NONE") {
            return self.nothing_else().map(|()| None);
        }
        let given =
            |nanoseconds| Some(Duration::from_nanos(nanoseconds)).filter(|it| !it.is_zero());
        let all = |number: u32| if number == 0 { u32::MAX } else { number };
        let interval = self.health_interval.unwrap_or_else(|| {
            let declared = given(declared.interval);
            Interval(Some(declared.unwrap_or(USUAL)))
        });
        Ok(Some(HealthCheck {
            test,
            interval: interval.0,
            timeout: self
                .health_timeout
                .or(given(declared.timeout))
                .unwrap_or(USUAL),
            retries: self
                .health_retries
                .or(Some(declared.retries).filter(|retries| *retries > 0))
                .unwrap_or(RETRIES),
            start_period: self
                .health_start_period
                .or(given(declared.start_period))
                .unwrap_or_default(),
            start_interval: given(declared.start_interval),
            startup: self.startup()?,
            on_unhealthy: match self.health_on_failure {
                Action::None => OnUnhealthy::Nothing,
                Action::Kill => OnUnhealthy::Kill,
                Action::Restart => OnUnhealthy::Restart,
                Action::Stop => OnUnhealthy::Stop,
            },
            stop_timeout: Duration::from_secs(stop_timeout),
            log_entries: all(self.health_max_log_count),
            log_bytes: all(self.health_max_log_size),
        }))
    }

    /// Without a check there is nothing that could follow from it.
    fn nothing_else(&self) -> Result<(), Failure> {
        let wrong = match (&self.health_startup_cmd, self.health_on_failure) {
            (Some(_), _) => "cannot set a startup healthcheck when there is no regular healthcheck",
            (None, Action::None) => return Ok(()),
            (None, _) => "cannot set on-failure action without a health check: give --health-cmd",
        };
        Err(Failure::new(wrong))
    }

    fn startup(&self) -> Result<Option<StartupCheck>, Failure> {
        let Some(text) = &self.health_startup_cmd else {
            return Ok(None);
        };
        Ok(Some(StartupCheck {
            test: test("--health-startup-cmd", text)?,
            interval: self.health_startup_interval.unwrap_or(USUAL),
            timeout: self.health_startup_timeout.unwrap_or(USUAL),
            retries: self.health_startup_retries,
            successes: self.health_startup_success,
        }))
    }
}

/// What an image declares; one that declares it wrongly is named.
fn declared(of_image: Option<&Value>) -> Result<OfImage, Failure> {
    let Some(value) = of_image else {
        return Ok(OfImage::default());
    };
    let read: Option<OfImage> = serde_json::from_value(value.clone()).map_err(|error| {
        Failure::new(format!(
            "the image's health check cannot be read: {error}; run it with --no-healthcheck, or give --health-cmd"
        ))
    })?;
    Ok(read.unwrap_or_default())
}

/// A test in Docker's words, of a line or a JSON list, as podman reads them.
fn test(option: &str, text: &str) -> Result<Vec<String>, Failure> {
    let listed = serde_json::from_str::<Vec<String>>(text).ok();
    let first = match &listed {
        Some(list) => list.first().map(String::as_str),
        None => text.split(' ').next(),
    };
    let kind = first.unwrap_or_default().to_ascii_uppercase();
    let test = match (kind.as_str(), listed) {
        ("", _) => Vec::new(),
        ("NONE", _) => vec!["NONE".to_owned()],
        ("CMD" | "CMD-SHELL", Some(mut list)) => {
            list[0] = kind;
            list
        }
        ("CMD", None) => {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words[0] = kind;
            words
        }
        ("CMD-SHELL", None) => {
            let line = text.split_once(' ').map_or("", |(_, line)| line);
            vec![kind, line.to_owned()]
        }
        (_, Some(mut list)) if list.len() > 1 => {
            list.insert(0, "CMD".to_owned());
            list
        }
        (_, Some(list)) => vec!["CMD-SHELL".to_owned(), list.join(" ")],
        (_, None) => vec!["CMD-SHELL".to_owned(), text.to_owned()],
    };
    let has_command = test.len() > 1 && test[1..].iter().any(|word| !word.trim().is_empty());
    match has_command || test.first().is_some_and(|word| word == "NONE") {
        true => Ok(test),
        false => Err(Failure::new(format!(
            "{option} {text:?} has no command: write a line for the container's shell, a JSON list, or none"
        ))),
    }
}

fn interval(text: &str) -> Result<Interval, String> {
    match text {
        "disable" => Ok(Interval(None)),
        text => clock::duration(text)
            .map(|time| Interval(Some(time).filter(|time| !time.is_zero())))
            .map_err(|why| format!("{why}, or disable")),
    }
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    let time = clock::duration(text)?;
    match time < Duration::from_secs(1) {
        true => Err("must be at least 1 second".to_owned()),
        false => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_read_as_podman_reads_it() {
        for (text, wanted) in [
            (
                "curl -f x || exit 1",
                &["CMD-SHELL", "curl -f x || exit 1"][..],
            ),
            ("CMD-SHELL curl  x", &["CMD-SHELL", "curl  x"]),
            ("cmd curl  x", &["CMD", "curl", "x"]),
            (r#"["curl", "x y"]"#, &["CMD", "curl", "x y"]),
            (r#"["CMD", "curl", "x"]"#, &["CMD", "curl", "x"]),
            (r#"["cmd-shell", "a b"]"#, &["CMD-SHELL", "a b"]),
            (r#"["curl x"]"#, &["CMD-SHELL", "curl x"]),
            ("none", &["NONE"]),
            (r#"["NONE"]"#, &["NONE"]),
        ] {
            assert_eq!(test("--x", text).unwrap(), wanted, "{text}");
        }
        for text in ["", " ", "[]", "CMD", "CMD-SHELL", r#"["CMD"]"#, r#"[""]"#] {
            let error = test("--x", text).unwrap_err().to_string();
            assert!(error.contains("no command"), "{text}: {error}");
        }
    }

    #[test]
    fn what_an_image_declares_is_read_and_a_broken_one_named() {
        let json = r#"{"Test":["CMD","true"],"Interval":5000000000,"Retries":2,"Future":1}"#;
        let value: Value = serde_json::from_str(json).unwrap();
        let read = declared(Some(&value)).unwrap();
        assert_eq!((read.interval, read.retries), (5_000_000_000, 2));
        assert!(declared(Some(&Value::Null)).unwrap().test.is_none());
        for wrong in [r#"{"Test":"true"}"#, r#"{"Interval":-1}"#, "7"] {
            let value: Value = serde_json::from_str(wrong).unwrap();
            let error = declared(Some(&value)).unwrap_err().to_string();
            assert!(error.contains("--no-healthcheck"), "{error}");
        }
    }
}
