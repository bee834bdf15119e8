//! What containers have written. It is read from the log's file, so the runtime must be on this machine.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{World, empty};
use crate::connection::Runtime;
use crate::failure::{Context, Failure, Outcome};
use crate::log::file::LogFile;
use crate::log::line::{self, Line, Stream};
use crate::{clock, say};

/// How often the runtime is asked whether the container still runs while its log is followed.
const ALIVE: Duration = Duration::from_secs(1);

/// Options of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on until the container has ended
    #[arg(long, short)]
    follow: bool,
    /// Of the container's attempt before this one
    #[arg(long, short)]
    previous: bool,
    /// Have the runtime open the file again first
    #[arg(long, short)]
    reopen: bool,
    /// So many lines from the end; negative: all
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    tail: Option<i64>,
    /// At most so many bytes; negative: all
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    limit_bytes: Option<i64>,
    /// Lines since a time, or for so long: 2026-01-02T13:23:37, 42m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show when each line was written
    #[arg(long, short)]
    timestamps: bool,
    /// stdout or stderr alone
    #[arg(long, short, value_name = "STREAM")]
    stream: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    container: Vec<String>,
}

pub(crate) async fn logs(world: &World, args: &LogsArgs) -> Outcome {
    let container = match args.container.as_slice() {
        [container] if !container.is_empty() => container,
        [_, _, ..] => return Err(Failure::Help),
        _ => return Err(empty()),
    };
    let runtime = world.runtime().await?;
    if args.reopen {
        let request = cri::ReopenContainerLogRequest {
            container_id: container.clone(),
        };
        runtime
            .call(async |mut client| client.reopen_container_log(request).await)
            .await
            .context("reopen container logs")?;
        say::info("Container logs reopened");
    }
    let mut printer = Printer::new(args)?;
    let status = status(&runtime, container).await?;
    let path = path(&status, args.previous)?;
    let tail = args.tail.and_then(|tail| u64::try_from(tail).ok());
    let failed = |error| Failure::new(format!("failed to open log file {path:?}: {error}"));
    let mut log = LogFile::open(&path, tail).map_err(failed)?;
    let read = async {
        if args.follow {
            return follow(&mut log, &mut printer, &runtime, &status.id).await;
        }
        // Of a log that grows, no more than was asked for.
        let mut left = tail.unwrap_or(u64::MAX);
        while left > 0 && !printer.is_full {
            match log.line()? {
                Some(line) => printer.print(&line),
                None => break,
            }
            left -= 1;
        }
        if left > 0 && !printer.is_full {
            printer.print(&log.rest());
        }
        Ok(())
    };
    read.await.context(format!("log file {path:?}"))
}

async fn status(runtime: &Runtime, container: &str) -> Outcome<cri::ContainerStatus> {
    let request = cri::ContainerStatusRequest {
        container_id: container.to_owned(),
        verbose: false,
    };
    let answer = runtime
        .call(async |mut client| client.container_status(request).await)
        .await?;
    Ok(answer.status.unwrap_or_default())
}

/// Where the log is: `…/ATTEMPT.log`.
fn path(status: &cri::ContainerStatus, is_previous: bool) -> Outcome<PathBuf> {
    if status.log_path.is_empty() {
        return Err(Failure::new("the container has not set log path"));
    }
    let path = PathBuf::from(&status.log_path);
    if !is_previous {
        return Ok(path);
    }
    let metadata = status.metadata.clone().unwrap_or_default();
    let Some(before) = metadata.attempt.checked_sub(1) else {
        let name = &metadata.name;
        let why = format!("previous terminated container {name} not found");
        return Err(Failure::new(why));
    };
    let mut name = std::ffi::OsString::from(before.to_string());
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    Ok(path.with_file_name(name))
}

/// Prints what comes until the container has ended and all is printed.
async fn follow(log: &mut LogFile, printer: &mut Printer, runtime: &Runtime, id: &str) -> Outcome {
    let mut watch = log.watch()?;
    let mut runs = true;
    loop {
        while let Some(line) = log.line()? {
            printer.print(&line);
            if printer.is_full {
                return Ok(());
            }
        }
        // The old file is at its end: what comes goes to the new one.
        if log.follow_rotation()? {
            continue;
        }
        if !runs {
            printer.print(&log.rest());
            return Ok(());
        }
        watch.wait(ALIVE).await?;
        runs = status(runtime, id).await.is_ok_and(|status| {
            matches!(
                status.state(),
                cri::ContainerState::ContainerRunning | cri::ContainerState::ContainerCreated
            )
        });
    }
}

/// What of the lines is printed, and how.
struct Printer {
    since: Option<i64>,
    timestamps: bool,
    only: Option<Stream>,
    /// Bytes that may still be printed.
    left: Option<u64>,
    /// Nothing more may be.
    is_full: bool,
    /// The last line was a whole one.
    begins: bool,
}

impl Printer {
    fn new(args: &LogsArgs) -> Outcome<Self> {
        let since = match args.since.as_deref() {
            None | Some("") => None,
            Some(text) => Some(clock::since(text).ok_or_else(|| {
                Failure::new(format!(
                    "failed to parse value as time or duration: {text:?}"
                ))
            })?),
        };
        let only = match args.stream.as_deref() {
            None | Some("") => None,
            Some("stdout") => Some(Stream::Stdout),
            Some("stderr") => Some(Stream::Stderr),
            Some(other) => {
                let why = format!(r#"invalid stream {other:?}, must be "stdout" or "stderr""#);
                return Err(Failure::new(why));
            }
        };
        if args.tail.is_some() && args.stream.is_some() {
            return Err(Failure::new("--tail and --stream are mutually exclusive"));
        }
        let left = args.limit_bytes.and_then(|most| u64::try_from(most).ok());
        Ok(Self {
            since,
            timestamps: args.timestamps,
            only,
            left,
            is_full: left == Some(0),
            begins: true,
        })
    }

    fn print(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let Some(line) = line::parse(line) else {
            let text = String::from_utf8_lossy(line);
            say::warning(&format!("no line of a log: {:?}", text.trim_end()));
            return;
        };
        let begins = self.begins;
        self.begins = line.text.is_empty() || line.text.ends_with(b"\n");
        let is_old = self.since.is_some_and(|since| line.at < since);
        if is_old || self.only.is_some_and(|only| only != line.stream) {
            return;
        }
        let text = self.text(&line, begins);
        match line.stream {
            Stream::Stdout => say::print_bytes(&text),
            Stream::Stderr => say::complain(&text),
        }
    }

    fn text(&mut self, line: &Line, begins: bool) -> Vec<u8> {
        let mut text = Vec::new();
        if self.timestamps && begins {
            text.extend_from_slice(line.time.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(&line.text);
        if let Some(left) = &mut self.left {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            text.truncate(most);
            *left -= text.len() as u64;
            self.is_full = *left == 0;
        }
        text
    }
}
