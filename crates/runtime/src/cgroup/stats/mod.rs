//! What a cgroup uses and may use, in the same units whichever version counts it: nanoseconds,
//! bytes, numbers.
//!
//! One file per controller. A controller that is missing, or off for this cgroup, leaves its part
//! empty: statistics are never a reason to fail.

mod blkio;
mod cpu;
pub(super) mod detail;
mod hugetlb;
mod memory;
mod pids;
mod pressure;

use std::collections::BTreeMap;

use super::Cgroup;
use super::dir::Dir;
use super::error::Error;

pub use blkio::IoStats;
pub use cpu::CpuStats;
pub use detail::{DetailedStats, MemoryUse};
pub use hugetlb::HugetlbStats;
pub use memory::{MemoryBasics, MemoryStats};
pub use pids::PidsStats;
pub use pressure::{Pressure, PressureLine, PressureStats};

/// One reading of a cgroup's counters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// CPU time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block devices that were used, by major and minor number.
    pub io: BTreeMap<(u32, u32), IoStats>,
    /// Huge pages, by page size (`2MB`).
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// How long tasks waited for what they lacked; needs v2 and a kernel that counts it.
    pub pressure: Option<PressureStats>,
}

/// The part of [`Stats`] that is wanted of many containers at a time: half a dozen files instead of two
/// dozen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Basics {
    /// CPU time in all, in nanoseconds.
    pub cpu_usage: Option<u64>,
    /// Memory.
    pub memory: Option<MemoryBasics>,
    /// How long tasks waited for what they lacked; needs v2 and a kernel that counts it.
    pub pressure: Option<PressureStats>,
}

impl Stats {
    /// The basics of it.
    pub fn basics(&self) -> Basics {
        Basics {
            cpu_usage: self.cpu.map(|cpu| cpu.usage),
            memory: self.memory.map(|memory| memory.basics()),
            pressure: self.pressure,
        }
    }
}

/// Reads the basics of a cgroup.
pub(super) fn read_basics(cgroup: &Cgroup) -> Result<Basics, Error> {
    Ok(Basics {
        cpu_usage: cpu::read_usage(cgroup)?,
        memory: memory::read_basics(cgroup)?,
        pressure: pressure::read(cgroup)?,
    })
}

/// Reads all of it.
pub(super) fn read(cgroup: &Cgroup) -> Result<Stats, Error> {
    Ok(Stats {
        cpu: cpu::read(cgroup)?,
        memory: memory::read(cgroup)?,
        pids: pids::read(cgroup)?,
        io: blkio::read(cgroup)?,
        hugetlb: hugetlb::read(cgroup)?,
        pressure: pressure::read(cgroup)?,
    })
}

/// A file that holds one number, `None` if it is missing; v2's "max" is no number.
fn number(dir: &Dir<'_>, file: &str) -> Result<Option<u64>, Error> {
    match dir.get_optional(file)? {
        None => Ok(None),
        Some(text) if text.trim() == "max" => Ok(None),
        Some(text) => text
            .trim()
            .parse()
            .map(Some)
            .map_err(|_| dir.parse_error(file, &text)),
    }
}

/// A file of lines `name value`.
#[derive(Debug, Default)]
struct Table(String);

impl Table {
    fn read(dir: &Dir<'_>, file: &str) -> Result<Option<Table>, Error> {
        Ok(dir.get_optional(file)?.map(Table))
    }

    /// The value of a name, 0 if it is not listed.
    fn get(&self, name: &str) -> u64 {
        self.find(name).unwrap_or(0)
    }

    fn find(&self, name: &str) -> Option<u64> {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value)
    }
}
