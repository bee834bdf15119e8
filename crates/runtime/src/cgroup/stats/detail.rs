//! What monitoring tools read beyond [`super::Stats`]: time by CPU, the cpuset, all of memory.stat,
//! and each kind of memory with its limit. Numbers are the kernel's own, not converted.

use std::collections::BTreeMap;

use super::number;
use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};

/// One reading of what [`super::Stats`] leaves out. Parts that the host does not count are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DetailedStats {
    /// Time in all by CPU, in nanoseconds; v1 only.
    pub per_cpu: Vec<u64>,
    /// Time in user mode by CPU, in nanoseconds; v1 only.
    pub per_cpu_user: Vec<u64>,
    /// Time in the kernel by CPU, in nanoseconds; v1 only.
    pub per_cpu_kernel: Vec<u64>,
    /// CPUs that processes run on.
    pub cpus: Vec<u64>,
    /// NUMA nodes that memory comes from.
    pub mems: Vec<u64>,
    /// Switches of a v1 cpuset by their file's name without `cpuset.`; one may be negative.
    pub cpuset: BTreeMap<&'static str, i64>,
    /// memory.stat by name.
    pub memory_stat: BTreeMap<String, u64>,
    /// Memory, caches included.
    pub memory: MemoryUse,
    /// v1: memory and swap together; v2: swap alone.
    pub swap: MemoryUse,
    /// Of the kernel, for these processes; v1 only.
    pub kernel: MemoryUse,
    /// Of TCP buffers; v1 only.
    pub kernel_tcp: MemoryUse,
}

/// One kind of memory, in bytes unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use.
    pub usage: u64,
    /// Most ever in use; 0 if it is not counted.
    pub peak: u64,
    /// The limit, `u64::MAX` (v2) or v1's greatest number for none.
    pub limit: u64,
    /// Times the limit was hit, a number.
    pub limit_hits: u64,
}

/// Switches of a v1 cpuset that are told.
const SWITCHES: [&str; 8] = [
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
];

pub(in crate::cgroup) fn read(cgroup: &Cgroup) -> Result<DetailedStats, Error> {
    let mut all = DetailedStats::default();
    if let Some(dir) = cgroup.dir_of(Controller::Cpuacct)
        && dir.version() == Version::V1
    {
        all.per_cpu = numbers(&dir, "cpuacct.usage_percpu")?;
        all.per_cpu_user = numbers(&dir, "cpuacct.usage_percpu_user")?;
        all.per_cpu_kernel = numbers(&dir, "cpuacct.usage_percpu_sys")?;
    }
    if let Some(dir) = cgroup.dir_of(Controller::Cpuset) {
        cpuset(&dir, &mut all)?;
    }
    if let Some(dir) = cgroup.dir_of(Controller::Memory) {
        memory(&dir, &mut all)?;
    }
    Ok(all)
}

fn numbers(dir: &Dir<'_>, file: &str) -> Result<Vec<u64>, Error> {
    let text = dir.get_optional(file)?.unwrap_or_default();
    text.split_ascii_whitespace()
        .map(|word| word.parse().map_err(|_| dir.parse_error(file, &text)))
        .collect()
}

fn cpuset(dir: &Dir<'_>, all: &mut DetailedStats) -> Result<(), Error> {
    let list = |file: &str| -> Result<Vec<u64>, Error> {
        let text = dir.get_optional(file)?.unwrap_or_default();
        members(text.trim()).ok_or_else(|| dir.parse_error(file, &text))
    };
    if dir.version() == Version::V2 {
        all.cpus = list("cpuset.cpus.effective")?;
        all.mems = list("cpuset.mems.effective")?;
        return Ok(());
    }
    all.cpus = list("cpuset.cpus")?;
    all.mems = list("cpuset.mems")?;
    for switch in SWITCHES.into_iter().chain(["sched_relax_domain_level"]) {
        let file = format!("cpuset.{switch}");
        if let Some(text) = dir.get_optional(&file)? {
            let value = text.trim().parse();
            all.cpuset
                .insert(switch, value.map_err(|_| dir.parse_error(&file, &text))?);
        }
    }
    Ok(())
}

/// `0-2,7` is 0, 1, 2, 7.
fn members(list: &str) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    for range in list.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        all.extend(first.parse::<u64>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

fn memory(dir: &Dir<'static>, all: &mut DetailedStats) -> Result<(), Error> {
    let text = dir.get_optional("memory.stat")?.unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    all.memory_stat = text.lines().filter_map(pair).collect();
    match dir.version() {
        Version::V1 => {
            all.memory = v1(dir, "memory")?;
            all.swap = v1(dir, "memory.memsw")?;
            all.kernel = v1(dir, "memory.kmem")?;
            all.kernel_tcp = v1(dir, "memory.kmem.tcp")?;
        }
        Version::V2 => {
            all.memory = v2(dir, "memory")?;
            all.swap = v2(dir, "memory.swap")?;
        }
    }
    Ok(())
}

fn v1(dir: &Dir<'static>, kind: &str) -> Result<MemoryUse, Error> {
    let value =
        |name: &str| Ok(number(dir, &format!("{kind}.{name}"))?.unwrap_or(0)) as Result<u64, Error>;
    Ok(MemoryUse {
        usage: value("usage_in_bytes")?,
        peak: value("max_usage_in_bytes")?,
        limit: value("limit_in_bytes")?,
        limit_hits: value("failcnt")?,
    })
}

fn v2(dir: &Dir<'static>, kind: &str) -> Result<MemoryUse, Error> {
    let value = |name: &str| number(dir, &format!("{kind}.{name}"));
    Ok(MemoryUse {
        usage: value("current")?.unwrap_or(0),
        peak: value("peak")?.unwrap_or(0),
        limit: value("max")?.unwrap_or(u64::MAX),
        limit_hits: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::members;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(members("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(members(""), Some(Vec::new()));
        assert_eq!(members("a"), None);
    }
}
