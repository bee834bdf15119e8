//! `floe logs`: what a container has written, from its CRI log file.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::time::Duration;

use engine::{Container, ContainerState, Engine};

use super::ps;
use crate::failure::Failure;
use crate::refused::{self, List, NotOffered, Takes};
use crate::{clock, names};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Options of `floe logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on until the container ends
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES", allow_hyphen_values = true)]
    tail: Option<i64>,
    /// Print the time of each line
    #[arg(long, short)]
    timestamps: bool,
    /// Only lines from this time on, such as 10m (ago) or 2024-01-02T15:04:05Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Only lines from before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
    /// Print the container's name before each line
    #[arg(long, short)]
    names: bool,
    /// Of the newest container of people
    #[arg(long, short, conflicts_with = "container")]
    latest: bool,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
    /// Name or id
    #[arg(required_unless_present = "latest")]
    container: Option<String>,
}

/// What podman's logs has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[(
        "color",
        Takes::Nothing,
        "lines are printed as they were written",
    )];
}

/// Seconds since 1970 of a point in the past.
fn time(text: &str) -> Result<i64, String> {
    clock::until(text).map_err(|failure| failure.message)
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let latest = ps::selected(engine, &[], args.latest)?.into_iter().next();
    let name = args.container.clone().or(latest);
    let name = name.ok_or_else(|| Failure::missing("there is no container"))?;
    let container = names::find(engine, &name)?;
    let path = container
        .log_path
        .clone()
        .ok_or_else(|| Failure::new(format!("container {name} keeps no log")))?;
    let mut log = Log::open(&path)?;
    let mut lines = log.read_all()?;
    lines.retain(|line| line.is_within(args));
    // A negative number means all of them.
    if let Some(tail) = args.tail.and_then(|tail| usize::try_from(tail).ok()) {
        lines.drain(..lines.len().saturating_sub(tail));
    }
    lines
        .iter()
        .try_for_each(|line| line.print(&container, args))?;
    if args.follow {
        follow(engine, &container, &mut log, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is written from now on, until the container has ended.
fn follow(
    engine: &Engine,
    container: &Container,
    log: &mut Log,
    args: &Args,
) -> Result<(), Failure> {
    loop {
        let ended = has_ended(engine, container);
        // The end was seen before this reading, so nothing can come after it.
        log.read_all()?
            .iter()
            .filter(|line| line.is_within(args))
            .try_for_each(|line| line.print(container, args))?;
        if ended {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

fn has_ended(engine: &Engine, container: &Container) -> bool {
    match engine.container(&container.id) {
        Ok(now) => matches!(
            now.state,
            ContainerState::Exited { .. } | ContainerState::Unknown
        ),
        Err(_) => true,
    }
}

struct Log {
    file: BufReader<File>,
    /// The beginning of a line whose end is not written yet.
    pending: Vec<u8>,
}

impl Log {
    fn open(path: &std::path::Path) -> Result<Self, Failure> {
        let wrong = |reason: String| Failure::new(format!("open log {}: {reason}", path.display()));
        // A container may be able to put a link, or a FIFO, in the place of its log.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(|e| wrong(e.to_string()))?;
        if !file.metadata()?.is_file() {
            return Err(wrong("it is not a plain file".to_owned()));
        }
        Ok(Self {
            file: BufReader::new(file),
            pending: Vec::new(),
        })
    }

    /// The whole lines that have been written since the last call.
    fn read_all(&mut self) -> Result<Vec<Line>, Failure> {
        let here = self.file.stream_position()?;
        if self.file.get_ref().metadata()?.len() < here {
            // Truncated: it starts anew.
            self.file.seek(SeekFrom::Start(0))?;
            self.pending.clear();
        }
        let mut lines = Vec::new();
        while self.file.read_until(b'\n', &mut self.pending)? > 0 && self.pending.ends_with(b"\n") {
            lines.extend(Line::parse(&self.pending[..self.pending.len() - 1]));
            self.pending.clear();
        }
        Ok(lines)
    }
}

/// One line of a CRI log: `TIME STREAM TAG TEXT`.
struct Line {
    time: String,
    stderr: bool,
    partial: bool,
    text: Vec<u8>,
}

impl Line {
    fn parse(raw: &[u8]) -> Option<Self> {
        let mut parts = raw.splitn(4, |byte| *byte == b' ');
        let time = String::from_utf8_lossy(parts.next()?).into_owned();
        let stderr = parts.next()? == b"stderr";
        let partial = parts.next()?.starts_with(b"P");
        Some(Self {
            time,
            stderr,
            partial,
            text: parts.next().unwrap_or_default().to_vec(),
        })
    }

    /// Was it written in the time that is asked for? One whose time cannot be read is shown.
    fn is_within(&self, args: &Args) -> bool {
        let Some(written) = clock::seconds(&self.time) else {
            return true;
        };
        args.since.is_none_or(|since| written >= since)
            && args.until.is_none_or(|until| written < until)
    }

    fn print(&self, container: &Container, args: &Args) -> std::io::Result<()> {
        let mut out = Vec::with_capacity(self.text.len() + 40);
        if args.names {
            out.extend_from_slice(container.spec.name.as_bytes());
            out.push(b' ');
        }
        if args.timestamps {
            out.extend_from_slice(self.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(&self.text);
        if !self.partial {
            out.push(b'\n');
        }
        if self.stderr {
            std::io::stderr().write_all(&out)
        } else {
            std::io::stdout().write_all(&out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_taken_apart_and_its_text_kept_byte_for_byte() {
        let line = Line::parse(b"2016-10-06T00:17:09.669794202Z stderr P  a b ").unwrap();
        assert!(line.stderr && line.partial);
        assert_eq!(line.text, b" a b ");
        assert!(Line::parse(b"2016 stdout F").unwrap().text.is_empty());
        assert!(Line::parse(b"broken").is_none());
    }
}
