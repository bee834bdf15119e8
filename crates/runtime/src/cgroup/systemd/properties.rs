//! Limits as properties of a unit (systemd.resource-control(5)): what systemd knows of, in its own
//! words, so that it keeps them when it looks after its cgroups again. What it does not know is left
//! to the control files.
//!
//! Writes no file and asks nothing but systemd's version. systemd older than 244 (2019) is older
//! than the kernels that this runtime runs on.

use super::marshal::Value;
use super::names::Property;
use crate::cgroup::error::Error;
use crate::cgroup::resources::{self, devices::Allowed};
use crate::spec::{Cpu, Resources};

/// systemd's "infinity".
const INFINITY: u64 = u64::MAX;
/// Of the CPU quota, in µs, where none is given.
const DEFAULT_PERIOD: u64 = 100_000;
/// systemd counts CPU time per second in steps of 1 %.
const STEP: u64 = 10_000;

/// The version that understands CPUWeight=idle.
const KNOWS_IDLE: u32 = 252;
/// The version whose scopes have OOMPolicy.
const KNOWS_OOM_POLICY: u32 = 253;

/// systemd's version, asked for where it matters.
pub(super) type Version<'a> = &'a mut dyn FnMut() -> Result<u32, Error>;

/// The limits that both versions of cgroups have, and those of one; devices are not among them.
pub(super) fn limits(
    resources: &Resources,
    unified: bool,
    version: Version<'_>,
) -> Result<Vec<Property>, Error> {
    let mut out = Vec::new();
    memory(resources, unified, &mut out)?;
    if let Some(cpu) = &resources.cpu {
        cpu_time(cpu, unified, version, &mut out)?;
        let lists = [
            ("AllowedCPUs", "linux.resources.cpu.cpus", &cpu.cpus),
            ("AllowedMemoryNodes", "linux.resources.cpu.mems", &cpu.mems),
        ];
        for (property, field, list) in lists {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                out.push((property.into(), bits(field, list)?));
            }
        }
    }
    if let Some(limit) = resources.pids.and_then(|pids| pids.limit) {
        // systemd takes no 0.
        add(&mut out, "TasksMax", infinite(limit.max(-1)).max(1));
    }
    let weight = resources.block_io.as_ref().and_then(|io| io.weight);
    if let Some(weight) = weight.filter(|weight| *weight != 0 && !unified) {
        add(&mut out, "BlockIOWeight", u64::from(weight));
    }
    if unified {
        files(resources, version, &mut out)?;
    }
    Ok(out)
}

fn add(out: &mut Vec<Property>, name: &'static str, value: u64) {
    out.push((name.into(), Value::u64(value)));
}

/// -1 is no limit.
fn infinite(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

fn memory(resources: &Resources, unified: bool, out: &mut Vec<Property>) -> Result<(), Error> {
    let Some(memory) = &resources.memory else {
        return Ok(());
    };
    let given = |limit: Option<i64>| limit.filter(|limit| *limit != 0).map(infinite);
    if !unified {
        given(memory.limit)
            .into_iter()
            .for_each(|limit| add(out, "MemoryLimit", limit));
        return Ok(());
    }
    let limits = [
        ("MemoryMax", given(memory.limit)),
        ("MemoryLow", given(memory.reservation)),
        (
            "MemorySwapMax",
            resources::memory::swap_alone(memory)?.map(infinite),
        ),
    ];
    for (name, limit) in limits {
        limit.into_iter().for_each(|limit| add(out, name, limit));
    }
    Ok(())
}

fn cpu_time(
    cpu: &Cpu,
    unified: bool,
    version: Version<'_>,
    out: &mut Vec<Property>,
) -> Result<(), Error> {
    let shares = cpu.shares.filter(|shares| *shares != 0);
    if unified && cpu.idle == Some(1) && version()? >= KNOWS_IDLE {
        add(out, "CPUWeight", 0);
    } else if let Some(shares) = shares {
        match unified {
            true => add(out, "CPUWeight", resources::cpu::weight(shares)),
            false => add(out, "CPUShares", shares),
        }
    }
    quota(out, cpu.quota.unwrap_or(0), cpu.period.unwrap_or(0));
    Ok(())
}

/// 0 stands for absent.
fn quota(out: &mut Vec<Property>, quota: i64, period: u64) {
    if period != 0 {
        add(out, "CPUQuotaPeriodUSec", period);
    }
    if quota != 0 || period != 0 {
        add(
            out,
            "CPUQuotaPerSecUSec",
            per_second(quota, period).unwrap_or(INFINITY),
        );
    }
}

/// The CPU time per second that a quota allows, in systemd's steps; `None` for no limit.
fn per_second(quota: i64, period: u64) -> Option<u64> {
    let quota = u64::try_from(quota).ok().filter(|quota| *quota != 0)?;
    let period = if period == 0 { DEFAULT_PERIOD } else { period };
    // Millions of CPUs, which none has, are as good as all.
    let exact = quota.checked_mul(1_000_000)? / period;
    exact.checked_next_multiple_of(STEP)
}

/// The quota that is left of one when systemd has rounded it up: the control file is to say the
/// same, or a cgroup below could not have what was asked for.
pub(super) fn rounded(cpu: &mut Cpu) {
    let Some(quota) = cpu.quota.filter(|quota| *quota > 0) else {
        return;
    };
    let period = cpu.period.filter(|period| *period != 0);
    let per_second = per_second(quota, period.unwrap_or(0));
    let exact = per_second.and_then(|time| time.checked_mul(period.unwrap_or(DEFAULT_PERIOD)));
    if let Some(exact) = exact.and_then(|exact| i64::try_from(exact / 1_000_000).ok()) {
        cpu.quota = Some(quota.max(exact));
    }
}

/// v2's control files by name, those that systemd has a property for.
fn files(
    resources: &Resources,
    version: Version<'_>,
    out: &mut Vec<Property>,
) -> Result<(), Error> {
    for (file, text) in &resources.unified {
        let text = text.trim();
        let number = || number(file, text);
        match file.as_str() {
            "cpu.idle" if text == "1" && version()? >= KNOWS_IDLE => add(out, "CPUWeight", 0),
            "cpu.weight" => {
                let idle = resources.unified.get("cpu.idle");
                if idle.is_none_or(|idle| idle.trim() != "1") {
                    add(out, "CPUWeight", number()?);
                }
            }
            "cpu.max" => {
                let mut words = text.split_ascii_whitespace();
                let limit = match words.next() {
                    Some("max") => 0,
                    Some(word) => i64::try_from(self::number(file, word)?).unwrap_or(i64::MAX),
                    None => return Err(unreadable(file, text)),
                };
                let period = words
                    .next()
                    .map(|word| self::number(file, word))
                    .transpose()?;
                quota(out, limit, period.unwrap_or(DEFAULT_PERIOD));
            }
            "cpuset.cpus" | "cpuset.mems" => {
                let property = match file.as_str() {
                    "cpuset.cpus" => "AllowedCPUs",
                    _ => "AllowedMemoryNodes",
                };
                out.push((property.into(), bits("linux.resources.unified", text)?));
            }
            "memory.high" => add(out, "MemoryHigh", number()?),
            "memory.low" => add(out, "MemoryLow", number()?),
            "memory.min" => add(out, "MemoryMin", number()?),
            "memory.max" => add(out, "MemoryMax", number()?),
            "memory.swap.max" => add(out, "MemorySwapMax", number()?),
            "pids.max" => add(out, "TasksMax", number()?.max(1)),
            _ => {}
        }
    }
    Ok(())
}

/// What can be said only at a unit's start: whether all of it goes when memory runs out.
pub(super) fn at_start(
    resources: &Resources,
    version: Version<'_>,
) -> Result<Option<Property>, Error> {
    let policy = match resources
        .unified
        .get("memory.oom.group")
        .map(|text| text.trim())
    {
        Some("0") => "continue",
        Some("1") => "kill",
        _ => return Ok(None),
    };
    let known = version()? >= KNOWS_OOM_POLICY;
    Ok(known.then(|| ("OOMPolicy".into(), Value::text(policy))))
}

/// The device rules; systemd's own words are an allow list, so what it cannot say is refused until
/// the control files (v1) or the program (v2) say it exactly.
pub(super) fn devices(resources: &Resources) -> Result<Vec<Property>, Error> {
    if resources.devices.is_empty() {
        return Ok(Vec::new());
    }
    let (policy, entries) = match resources::devices::allowed(&resources.devices)? {
        Allowed::Everything => ("auto", Vec::new()),
        Allowed::Only(entries) => ("strict", entries),
    };
    let pair = |(path, access): (String, String)| {
        Value::Struct(vec![Value::text(path), Value::text(access)])
    };
    let list = |entries: Vec<Value>| {
        let list = Value::Array("(ss)".to_owned(), entries);
        ("DeviceAllow".into(), list)
    };
    let policy = ("DevicePolicy".into(), Value::text(policy));
    // An empty list clears what a unit of this name may have.
    let entries = entries.into_iter().map(pair).collect();
    Ok(vec![policy, list(Vec::new()), list(entries)])
}

fn number(file: &str, text: &str) -> Result<u64, Error> {
    match text {
        "max" => Ok(INFINITY),
        text => text.parse().map_err(|_| unreadable(file, text)),
    }
}

fn unreadable(file: &str, text: &str) -> Error {
    Error::InvalidValue {
        field: "linux.resources.unified",
        value: format!("{file:?}: {text:?}"),
        reason: "it is not what this file holds".to_owned(),
    }
}

/// A list such as `0-3,7` as the bits of bytes, the lowest first.
fn bits(field: &'static str, list: &str) -> Result<Value, Error> {
    /// More than any machine has CPUs.
    const MOST: usize = 1 << 16;
    let wrong = || Error::InvalidValue {
        field,
        value: list.to_owned(),
        reason: "a list reads like 0-3,7".to_owned(),
    };
    let mut bytes: Vec<u8> = Vec::new();
    for range in list
        .split(',')
        .map(str::trim)
        .filter(|range| !range.is_empty())
    {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number < MOST);
        let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
        if first > last {
            return Err(wrong());
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    if bytes.is_empty() {
        return Err(wrong());
    }
    let bytes = bytes
        .into_iter()
        .map(|byte| Value::Fixed(b'y', u64::from(byte)));
    Ok(Value::Array("y".to_owned(), bytes.collect()))
}

#[cfg(test)]
mod tests;
