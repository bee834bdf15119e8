//! `events`: statistics of a container at an interval, and a line whenever memory ran out, each
//! as one line of JSON; ends with the container. `--stats` prints once. Changes nothing.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use runtime::cgroup::{Cgroup, OomWatch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::events_data::data;
use super::{Failure, Outcome};
use crate::cli::Global;
use crate::log;
use crate::state::{State, Status};

/// Options of `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often statistics come, such as 500ms or 1m30s
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = duration)]
    interval: Duration,
    /// Print statistics once
    #[arg(long)]
    stats: bool,
    /// Container id
    id: String,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    if args.interval.is_zero() {
        return Err(Failure::new("duration interval must be greater than 0"));
    }
    if matches!(state.status(global), Status::Creating | Status::Stopped) {
        return Err(Failure::new(format!(
            "container with id {} is not running",
            args.id
        )));
    }
    let cgroup = Cgroup::open(&state.cgroup)?;
    if args.stats {
        print("stats", &args.id, Some(data(&cgroup)?))?;
    } else {
        follow(global, args, &state, &cgroup)?;
    }
    Ok(0)
}

/// Until the container ends.
fn follow(global: &Global, args: &Args, state: &State, cgroup: &Cgroup) -> Result<(), Failure> {
    let failed = |errno: rustix::io::Errno| Failure::new(format!("watch {}: {errno}", state.id));
    let pid = Pid::from_raw(state.init_process_pid)
        .ok_or_else(|| Failure::new("container not running"))?;
    let init = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    let watch = cgroup
        .oom_events()
        .map_err(|error| log::warn(global, &error.to_string()))
        .ok();
    let mut told = watch.as_ref().map_or(0, OomWatch::kills);
    let mut next = Instant::now() + args.interval;
    // v1 tells before it kills and counts: after news, the count is read again for a while.
    let mut alert = Instant::now();
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(init.as_fd(), PollFlags::IN)];
        fds.extend(
            watch
                .as_ref()
                .map(|watch| PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)),
        );
        let mut left = next.saturating_duration_since(Instant::now());
        if Instant::now() < alert {
            left = left.min(Duration::from_millis(20));
        }
        let left = Timespec::try_from(left).map_err(|e| Failure::new(e.to_string()))?;
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let ended = !fds[0].revents().is_empty();
        if let Some(watch) = &watch {
            if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
                alert = Instant::now() + Duration::from_secs(1);
                watch.clear();
            }
            let kills = watch.kills();
            (told..kills).try_for_each(|_| print("oom", &args.id, None))?;
            told = kills;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            next += args.interval;
            match data(cgroup) {
                Ok(data) => print("stats", &args.id, Some(data))?,
                // It may be going at this moment.
                Err(error) => log::warn(global, &error.to_string()),
            }
        }
    }
}

/// What is printed, in runc's order.
#[derive(serde::Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// One line. Fails if nobody reads any more.
fn print(kind: &str, id: &str, data: Option<Value>) -> Result<(), Failure> {
    let event = Event { kind, id, data };
    let text = serde_json::to_string(&event).map_err(|e| Failure::new(e.to_string()))?;
    writeln!(std::io::stdout(), "{text}").map_err(Failure::at("write to standard output"))
}

/// Go's durations: `300ms`, `1.5h`, `2h45m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration {text:?}");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() && rest != "0" {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(digits);
        let end = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        let scale = match &unit[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = &unit[end..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let millis = |text: &str| duration(text).map(|d| d.as_millis());
        assert_eq!(millis("5s"), Ok(5000));
        assert_eq!(millis("1m30s"), Ok(90_000));
        assert_eq!(millis("1.5h"), Ok(5_400_000));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("0"), Ok(0));
        for wrong in ["", "5", "s", "-5s", "5x"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
