//! `update`: other limits for a container that runs, by runc's flags or a document of resources.
//!
//! Only what is named changes, in the cgroup first and then in the state, so that the state never
//! says what the kernel refused.

use std::io::Read;
use std::path::{Path, PathBuf};

use runtime::cgroup::Cgroup;
use runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources};
use serde_json::Value;

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::state::{State, Status};

/// Options of `update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read the limits from a file in JSON (- for standard input); all other options are ignored
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Length of a period of CPU time in µs
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CPU time per period in µs; -1 for no limit
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// CPU time that may be saved up in µs
    #[arg(long, value_name = "US")]
    cpu_burst: Option<u64>,
    /// Weight of CPU time
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Length of a period of real-time scheduling in µs
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// Real-time scheduling per period in µs
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1: run only when nothing else does
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// CPUs to run on, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use, a list
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Greatest memory, with b, k, m, g; -1 for no limit
    #[arg(long, short, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory: Option<i64>,
    /// Soft limit of memory
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// Greatest number of processes; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Intel RDT's share of the cache (not supported yet)
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Intel RDT's memory bandwidth (not supported yet)
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Container id
    id: String,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let mut state = State::load(global, &args.id)?;
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        return Err(Failure::new(
            "Intel RDT is not supported by this version of floe-runtime",
        ));
    }
    if matches!(state.status(global), Status::Stopped | Status::Creating) {
        return Err(Failure::new("container not running"));
    }
    let change = match &args.resources {
        Some(file) => read(file)?,
        None => args.resources(),
    };
    Cgroup::open(&state.cgroup)?.update(&change)?;
    let linux = state.spec.linux.get_or_insert_default();
    linux.resources = Some(merged(linux.resources.as_ref(), &change)?);
    state.save(global)?;
    Ok(0)
}

impl Args {
    fn resources(&self) -> Resources {
        let memory = Memory {
            limit: self.memory,
            reservation: self.memory_reservation,
            // Memory without limit and swap with one would not fit together.
            swap: self
                .memory_swap
                .or(self.memory.filter(|limit| *limit == -1)),
            ..Memory::default()
        };
        let cpu = Cpu {
            shares: self.cpu_share,
            quota: self.cpu_quota,
            burst: self.cpu_burst,
            period: self.cpu_period,
            realtime_runtime: self.cpu_rt_runtime,
            realtime_period: self.cpu_rt_period,
            cpus: self.cpuset_cpus.clone(),
            mems: self.cpuset_mems.clone(),
            idle: self.cpu_idle,
        };
        Resources {
            memory: Some(memory).filter(|memory| *memory != Memory::default()),
            cpu: Some(cpu).filter(|cpu| *cpu != Cpu::default()),
            pids: self.pids_limit.map(|limit| Pids { limit: Some(limit) }),
            block_io: self.blkio_weight.map(|weight| BlockIo {
                weight: Some(weight),
                ..BlockIo::default()
            }),
            ..Resources::default()
        }
    }
}

fn read(file: &Path) -> Result<Resources, Failure> {
    let shown = file.display();
    let mut text = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut text)
            .map_err(Failure::at("read standard input"))?;
    } else {
        text = std::fs::read(file).map_err(Failure::at(format_args!("open {shown}")))?;
    }
    serde_json::from_slice(&text).map_err(|e| Failure::new(format!("resources of {shown}: {e}")))
}

/// What is there, with what changes.
fn merged(old: Option<&Resources>, change: &Resources) -> Result<Resources, Failure> {
    let failed = |e: serde_json::Error| Failure::new(format!("merge the resources: {e}"));
    let mut whole = serde_json::to_value(old.cloned().unwrap_or_default()).map_err(failed)?;
    lay_over(&mut whole, serde_json::to_value(change).map_err(failed)?);
    serde_json::from_value(whole).map_err(failed)
}

fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// Bytes from a number with a unit, in powers of 1024 (Docker's way): `512`, `64k`, `1.5g`, `-1`.
fn size(text: &str) -> Result<i64, String> {
    let flawed = || format!("{text:?} is not a size such as 64m");
    if text == "-1" {
        return Ok(-1);
    }
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches('i');
    let unit = number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let shift = match unit.trim() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(flawed()),
    };
    let number = &number[..number.len() - unit.len()];
    let value: f64 = number.trim().parse().map_err(|_| flawed())?;
    let bytes = value * (1_i64 << shift) as f64;
    match bytes <= i64::MAX as f64 {
        true => Ok(bytes as i64),
        false => Err(flawed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, bytes) in [
            ("-1", -1),
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("64k", 65536),
            ("64KiB", 65536),
            ("1.5M", 1_572_864),
            ("2gb", 2_147_483_648),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "x", "-2", "1x", "1.2.3k", "9999999p"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_lies_over_what_was_there() {
        let old = Resources {
            memory: Some(Memory {
                limit: Some(1),
                swap: Some(2),
                ..Memory::default()
            }),
            pids: Some(Pids { limit: Some(7) }),
            ..Resources::default()
        };
        let change = Resources {
            memory: Some(Memory {
                limit: Some(3),
                ..Memory::default()
            }),
            ..Resources::default()
        };
        let memory = merged(Some(&old), &change).unwrap().memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (Some(3), Some(2)));
        assert_eq!(merged(Some(&old), &change).unwrap().pids, old.pids);
    }
}
