//! `update`: new limits for a container that exists, from options or a file. What is not given
//! stays; what the kernel refuses leaves the limits as they were, or says which could not be put
//! back. Never touches device rules: engines hand over the whole resources with every update.

use std::io::Read;

use runtime::cgroup::Cgroup;
use runtime::resctrl::Group;
use runtime::spec::{IntelRdt, Resources};
use serde_json::{Map, Value, json};

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::log;
use crate::state::{State, Status};

/// Options of `update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File of limits as JSON (linux.resources of config.json), - is standard input; it stands
    /// instead of all other options
    #[arg(long, short, value_name = "FILE")]
    resources: Option<String>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<String>,
    /// Period of the CPU quota, in µs
    #[arg(long, value_name = "NUMBER")]
    cpu_period: Option<String>,
    /// CPU time per period, in µs; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// CPU time that may be saved up, in µs
    #[arg(long, value_name = "NUMBER")]
    cpu_burst: Option<String>,
    /// Weight of CPU time against other containers
    #[arg(long, value_name = "NUMBER")]
    cpu_share: Option<String>,
    /// Period of real-time scheduling, in µs
    #[arg(long, value_name = "NUMBER")]
    cpu_rt_period: Option<String>,
    /// Real-time scheduling per period, in µs
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<String>,
    /// 1: only CPU time that nobody else wants
    #[arg(long, value_name = "NUMBER")]
    cpu_idle: Option<String>,
    /// CPUs, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// NUMA nodes, such as 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory (bytes, or with k, m, g, t); -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory that is protected or a soft limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Processes; negative is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// Share of the L3 cache (Intel RDT), such as L3:0=f;1=f
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Share of memory bandwidth (Intel RDT), such as MB:0=50;1=70
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Container id
    id: String,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let mut state = State::load(global, &args.id)?;
    if matches!(state.status(global), Status::Creating | Status::Stopped) {
        return Err(Failure::new("container not running"));
    }
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        resctrl(args, &mut state)?;
    }
    let given = match &args.resources {
        Some(file) => from_file(file)?,
        None => from_options(args)?,
    };
    let wanted = as_value(&typed(given)?)?;
    let old = as_value(&state.resources())?;
    let cgroup = state.cgroup()?;
    let cgroup = cgroup.ok_or_else(|| Failure::new("container not running"))?;
    if let Err(error) = cgroup.update(&typed(wanted.clone())?) {
        put_back(global, &cgroup, &old, &wanted);
        return Err(error.into());
    }
    let mut all = old;
    merge(&mut all, &wanted);
    state.set_resources(typed(all)?);
    state.save(global)?;
    Ok(0)
}

/// Shares of cache and memory bandwidth: a container that has none of its own gets a group now.
fn resctrl(args: &Args, state: &mut State) -> Result<(), Failure> {
    let rdt = IntelRdt {
        l3_cache_schema: args.l3_cache_schema.clone(),
        mem_bw_schema: args.mem_bw_schema.clone(),
        ..IntelRdt::default()
    };
    if let Some(group) = &state.resctrl {
        return Ok(group.update(&rdt)?);
    }
    let group = Group::make(&state.id, &rdt)?;
    let pids = Cgroup::open(&state.cgroup)?.processes()?;
    if let Err(error) = pids.into_iter().try_for_each(|pid| group.add(pid)) {
        // Why it could not be used is what the caller hears of.
        let _ = group.remove();
        return Err(error.into());
    }
    state.resctrl = Some(group);
    Ok(())
}

fn from_file(file: &str) -> Result<Value, Failure> {
    let mut text = Vec::new();
    if file == "-" {
        std::io::stdin()
            .read_to_end(&mut text)
            .map_err(Failure::at("read standard input"))?;
    } else {
        text = std::fs::read(file).map_err(Failure::at(format_args!("open {file}")))?;
    }
    let mut value: Value =
        serde_json::from_slice(&text).map_err(|e| Failure::new(format!("{file}: {e}")))?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("devices");
    }
    if value.pointer("/pids/limit") == Some(&json!(0)) {
        // In this file, as runc reads it, 0 is "unchanged".
        value["pids"] = json!({});
    }
    Ok(value)
}

fn from_options(args: &Args) -> Result<Value, Failure> {
    let mut fields = json!({});
    let numbers = [
        ("blockIO", "weight", "blkio-weight", &args.blkio_weight),
        ("cpu", "period", "cpu-period", &args.cpu_period),
        ("cpu", "quota", "cpu-quota", &args.cpu_quota),
        ("cpu", "burst", "cpu-burst", &args.cpu_burst),
        ("cpu", "shares", "cpu-share", &args.cpu_share),
        (
            "cpu",
            "realtimePeriod",
            "cpu-rt-period",
            &args.cpu_rt_period,
        ),
        (
            "cpu",
            "realtimeRuntime",
            "cpu-rt-runtime",
            &args.cpu_rt_runtime,
        ),
        ("cpu", "idle", "cpu-idle", &args.cpu_idle),
        ("pids", "limit", "pids-limit", &args.pids_limit),
    ];
    for (group, field, option, text) in numbers {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            let number: i64 = text.parse().map_err(|_| {
                Failure::new(format!(
                    "invalid value for {option}: {text:?} is not a number"
                ))
            })?;
            fields[group][field] = json!(number);
        }
    }
    let sizes = [
        ("limit", "memory", &args.memory),
        (
            "reservation",
            "memory-reservation",
            &args.memory_reservation,
        ),
        ("swap", "memory-swap", &args.memory_swap),
    ];
    for (field, option, text) in sizes {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            let bytes = size(text).ok_or_else(|| {
                Failure::new(format!(
                    "invalid value for {option}: invalid size: '{text}'"
                ))
            })?;
            fields["memory"][field] = json!(bytes);
        }
    }
    for (field, text) in [("cpus", &args.cpuset_cpus), ("mems", &args.cpuset_mems)] {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            fields["cpu"][field] = json!(text);
        }
    }
    Ok(fields)
}

/// `-1`, or bytes.
fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    base::size::parse(text)
}

/// Sets the limits that were wanted back to what they were. What was never configured goes to the
/// kernel's default; a cpuset has none, so that is said.
fn put_back(global: &Global, cgroup: &Cgroup, old: &Value, wanted: &Value) {
    let mut before = json!({
        "memory": { "limit": -1, "swap": -1, "reservation": -1 },
        "cpu": { "shares": 1024, "quota": -1, "period": 100_000, "burst": 0, "idle": 0 },
        "pids": { "limit": -1 },
    });
    merge(&mut before, old);
    let (mut touched, mut unknown) = (json!({}), Vec::new());
    for (group, fields) in wanted.as_object().unwrap_or(&Map::new()) {
        for name in fields.as_object().unwrap_or(&Map::new()).keys() {
            match before[group].get(name) {
                Some(value) => touched[group][name] = value.clone(),
                None => unknown.push(format!("{group}.{name}")),
            }
        }
    }
    if !unknown.is_empty() {
        log::warn(
            global,
            &format!(
                "limits that may have changed and have no former value: {}",
                unknown.join(", ")
            ),
        );
    }
    let result = typed(touched).and_then(|limits| Ok(cgroup.update(&limits)?));
    if let Err(error) = result {
        log::warn(
            global,
            &format!("the former limits could not be set again: {error}"),
        );
    }
}

fn typed(value: Value) -> Result<Resources, Failure> {
    serde_json::from_value(value).map_err(|e| Failure::new(format!("resources: {e}")))
}

fn as_value(resources: &Resources) -> Result<Value, Failure> {
    serde_json::to_value(resources).map_err(|e| Failure::new(format!("resources: {e}")))
}

/// Objects field by field; anything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => into.clone_from(from),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_as_by_runc() {
        for (text, bytes) in [
            ("-1", -1),
            ("0", 0),
            ("1048576", 1 << 20),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2 k", 2048),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["abc", "", "1x", "-2", "1..2m"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
