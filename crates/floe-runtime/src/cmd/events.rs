//! `events`: what a container uses, again and again, and that it ran out of memory; one JSON
//! document per line, in runc's form.

use std::io::Write;
use std::time::{Duration, Instant};

use runtime::cgroup::{Cgroup, HugetlbStats, IoStats, OomWatch, Stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::state::{State, Status};

/// Options of `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Time between two lines of statistics, such as 500ms, 5s, 1m
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = interval)]
    interval: Duration,
    /// Print the statistics once and end
    #[arg(long)]
    stats: bool,
    /// Container id
    id: String,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    if matches!(state.status(global), Status::Stopped | Status::Creating) {
        return Err(Failure::new(format!(
            "container with id {} is not running",
            args.id
        )));
    }
    let cgroup = Cgroup::open(&state.cgroup)?;
    if args.stats {
        print(&args.id, "stats", Some(stats(&cgroup.stats()?)))?;
        return Ok(0);
    }
    follow(&state, &cgroup, args)
}

/// Prints until the container's first process has ended.
fn follow(state: &State, cgroup: &Cgroup, args: &Args) -> Outcome {
    let failed = |errno: Errno| Failure::new(format!("watch container {}: {errno}", args.id));
    let pid = Pid::from_raw(state.init_process_pid)
        .ok_or_else(|| Failure::new("container not running"))?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    let oom: OomWatch = cgroup.oom_events()?;
    let mut told = false;
    let mut next = Instant::now() + args.interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let left =
            Timespec::try_from(left).map_err(|_| Failure::new("the interval is too long"))?;
        let mut fds = [
            PollFd::new(&process, PollFlags::IN),
            PollFd::new(&oom, PollFlags::IN),
        ];
        match poll(&mut fds, Some(&left)) {
            Err(Errno::INTR) => continue,
            other => other.map_err(failed)?,
        };
        let (ended, news) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if news {
            oom.clear();
        }
        // The descriptor also tells of kills further up; only the container's own are counted.
        if !told && oom.oom_killed() {
            told = true;
            print(&args.id, "oom", None)?;
        }
        if ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            next += args.interval;
            print(&args.id, "stats", Some(stats(&cgroup.stats()?)))?;
        }
    }
}

fn print(id: &str, kind: &str, data: Option<Value>) -> Result<(), Failure> {
    let mut event = json!({ "type": kind, "id": id });
    if let Some(data) = data {
        event["data"] = data;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{event}")
        .and_then(|()| out.flush())
        .map_err(Failure::at("write"))
}

/// runc's form of the statistics. No limit is the greatest number, as there.
fn stats(stats: &Stats) -> Value {
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let pids = stats.pids.unwrap_or_default();
    json!({
        "cpu": {
            "usage": { "total": cpu.usage, "user": cpu.user, "kernel": cpu.system },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled,
            },
        },
        "memory": {
            "cache": memory.cache,
            "usage": {
                "limit": memory.limit.unwrap_or(u64::MAX),
                "usage": memory.usage,
                "max": memory.peak,
                "failcnt": memory.limit_hits,
            },
            "swap": {
                "limit": memory.swap_limit.unwrap_or(u64::MAX),
                "usage": memory.swap.unwrap_or(0),
            },
            "raw": {
                "rss": memory.rss,
                "cache": memory.cache,
                "mapped_file": memory.mapped_file,
                "pgfault": memory.page_faults,
                "pgmajfault": memory.major_page_faults,
            },
        },
        "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
        "blkio": {
            "ioServiceBytesRecursive": operations(stats, |io| [io.read_bytes, io.write_bytes, io.discard_bytes]),
            "ioServicedRecursive": operations(stats, |io| [io.reads, io.writes, io.discards]),
        },
        "hugetlb": stats.hugetlb.iter().map(huge).collect::<serde_json::Map<_, _>>(),
    })
}

fn operations(stats: &Stats, values: impl Fn(&IoStats) -> [u64; 3]) -> Vec<Value> {
    let line = |(&(major, minor), io): (&(u32, u32), &IoStats)| {
        let named = ["Read", "Write", "Discard"].into_iter().zip(values(io));
        named
            .map(|(op, value)| json!({ "major": major, "minor": minor, "op": op, "value": value }))
            .collect::<Vec<_>>()
    };
    stats.io.iter().flat_map(line).collect()
}

fn huge((size, stats): (&String, &HugetlbStats)) -> (String, Value) {
    let value = json!({ "usage": stats.usage, "max": stats.peak, "failcnt": stats.limit_hits });
    (size.clone(), value)
}

/// `500ms`, `5s`, `1m`, `1h`.
fn interval(text: &str) -> Result<Duration, String> {
    let flawed = || format!("{text:?} is not a time such as 5s");
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| flawed())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(flawed()),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "the interval must be greater than 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_gos() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(interval("1m"), Ok(Duration::from_secs(60)));
        for bad in ["", "5", "0s", "-1s", "1d", "s"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
