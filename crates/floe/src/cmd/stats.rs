//! `floe stats`: what containers use, once or again and again.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use engine::pod::Origin;
use engine::stats::Usage;
use engine::{Container, ContainerFilter, ContainerState, Engine};
use serde_json::{Value, json};

use super::ps;
use crate::failure::Failure;
use crate::{names, output, template};

/// How long a first look lasts, for what is counted over time.
const FIRST: Duration = Duration::from_millis(100);

/// Options of `floe stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those that do not run, too
    #[arg(long, short)]
    all: bool,
    /// json, or a Go template such as '{{.Name}} {{.CPUPerc}}'
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The newest container
    #[arg(long, short)]
    latest: bool,
    /// Look once
    #[arg(long)]
    no_stream: bool,
    /// Do not clear the terminal between looks
    #[arg(long)]
    no_reset: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Seconds between looks
    #[arg(long, short, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Names or ids [default: all that people made and that run]
    #[arg(value_name = "CONTAINER", conflicts_with_all = ["all", "latest"])]
    containers: Vec<String>,
}

/// CPU time so far, and when that was.
type Last = HashMap<String, (u64, Instant)>;

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut last = Last::new();
    for container in chosen(engine, args)? {
        look(engine, &container, &mut last);
    }
    std::thread::sleep(FIRST);
    loop {
        let chosen = chosen(engine, args)?;
        let lines = chosen.iter().map(|container| {
            let usage = look(engine, container, &mut last);
            line(container, usage.as_ref(), args)
        });
        let lines: Vec<Value> = lines.collect();
        let stream = !args.no_stream;
        if stream && !args.no_reset && std::io::stdout().is_terminal() {
            // Home, and away with what is below.
            print!("\x1b[H\x1b[J");
        }
        show(&lines, args)?;
        if !stream {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_secs(args.interval));
    }
}

/// Those that are looked at now.
fn chosen(engine: &Engine, args: &Args) -> Result<Vec<Container>, Failure> {
    let mut names = args.containers.clone();
    names.extend(ps::selected(engine, &[], args.latest)?);
    if !names.is_empty() {
        return names.iter().map(|name| names::find(engine, name)).collect();
    }
    let filter = ContainerFilter {
        origin: Some(Origin::Cli),
        ..ContainerFilter::default()
    };
    let all = engine.containers(&filter)?.into_iter();
    Ok(all
        .filter(|container| args.all || container.runs())
        .map(|container| (*container).clone())
        .collect())
}

/// What one uses, with the share of CPU time since the last look; none of one that has ended.
fn look(engine: &Engine, container: &Container, last: &mut Last) -> Option<(Usage, f64)> {
    let usage = engine.container_usage(&container.id).ok()?;
    let (now, used) = (Instant::now(), usage.cgroup.cpu.map_or(0, |cpu| cpu.usage));
    let before = last.insert(container.id.clone(), (used, now));
    let share = before.map_or(0.0, |(before, at)| {
        let passed = now.duration_since(at).as_nanos().max(1) as f64;
        100.0 * used.saturating_sub(before) as f64 / passed
    });
    Some((usage, share))
}

/// One container's, by podman's names.
fn line(container: &Container, usage: Option<&(Usage, f64)>, args: &Args) -> Value {
    let id = match args.no_trunc {
        true => container.id.clone(),
        false => output::short(&container.id),
    };
    let Some((usage, share)) = usage else {
        let nothing = "-- / --";
        return json!({
            "ID": id, "Name": container.spec.name, "CPUPerc": "--", "AvgCPU": "--", "CPUTime": "--",
            "MemUsage": nothing, "MemUsageBytes": nothing, "MemPerc": "--", "NetIO": nothing, "BlockIO": nothing,
            "PIDS": "--", "PIDs": "--",
        });
    };
    let (cpu, memory) = (usage.cgroup.cpu, usage.cgroup.memory);
    let started = match container.state {
        ContainerState::Running { started_at } => started_at,
        _ => 0,
    };
    let lived = base::time::now_ns().saturating_sub(started).max(1) as f64;
    let time = cpu.map_or(0, |cpu| cpu.usage);
    let used = memory.map_or(0, |memory| memory.working_set);
    let limit = memory.and_then(|memory| memory.limit).unwrap_or_else(whole);
    let (mut into, mut out) = (0, 0);
    for interface in usage.interfaces.iter().filter(|one| one.name != "lo") {
        into += interface.received.bytes;
        out += interface.sent.bytes;
    }
    let io = usage.cgroup.io.values();
    let (read, written) = io.fold((0, 0), |(read, written), one| {
        (read + one.read_bytes, written + one.write_bytes)
    });
    let pids = usage.cgroup.pids.map_or(0, |pids| pids.current);
    let pair = |a: u64, b: u64| format!("{} / {}", short(a), short(b));
    json!({
        "ID": id,
        "Name": container.spec.name,
        "CPUPerc": format!("{share:.2}%"),
        "AvgCPU": format!("{:.2}%", 100.0 * time as f64 / lived),
        "CPUTime": format!("{:.6}s", time as f64 / 1e9),
        "MemUsage": pair(used, limit),
        "MemUsageBytes": format!("{used} / {limit}"),
        "MemPerc": format!("{:.2}%", 100.0 * used as f64 / limit.max(1) as f64),
        "NetIO": pair(into, out),
        "BlockIO": pair(read, written),
        "PIDS": pids.to_string(),
        "PIDs": pids.to_string(),
    })
}

/// A size with four digits at the most, as podman prints it.
fn short(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 10.0 => 3,
        value if value < 100.0 => 2,
        _ => 1,
    };
    format!("{value:.digits$}{}", units[unit])
}

/// The memory of this node.
fn whole() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)))
}

const COLUMNS: [(&str, &str); 10] = [
    ("ID", "ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("PIDS", "PIDS"),
    ("CPUTime", "CPU TIME"),
    ("AvgCPU", "AVG CPU %"),
];

fn show(lines: &[Value], args: &Args) -> Result<(), Failure> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    match args.format.as_deref() {
        Some("json") => {
            let of = |line: &Value| {
                json!({
                    "id": text(line, "ID"), "name": text(line, "Name"), "cpu_time": text(line, "CPUTime"),
                    "cpu_percent": text(line, "CPUPerc"), "avg_cpu": text(line, "AvgCPU"),
                    "mem_usage": text(line, "MemUsage"), "mem_percent": text(line, "MemPerc"),
                    "net_io": text(line, "NetIO"), "block_io": text(line, "BlockIO"), "pids": text(line, "PIDS"),
                })
            };
            let all: Vec<Value> = lines.iter().map(of).collect();
            output::print_list(&all);
        }
        Some(format) if format != "table" => {
            let header = COLUMNS
                .iter()
                .map(|(key, title)| ((*key).to_owned(), (*title).into()));
            let header = Value::Object(header.collect());
            print!("{}", template::lines(format, &header, lines)?);
        }
        _ => {
            let titles = COLUMNS.map(|(_, title)| title);
            let row = |line: &Value| COLUMNS.map(|(key, _)| text(line, key)).to_vec();
            let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
            print!("{}", output::table(&titles, &rows));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn sizes_have_four_digits() {
        let shown = [0, 999, 1000, 45_670, 312_345, 16_760_000_000].map(short);
        assert_eq!(
            shown,
            ["0B", "999B", "1.000kB", "45.67kB", "312.3kB", "16.76GB"]
        );
    }
}
