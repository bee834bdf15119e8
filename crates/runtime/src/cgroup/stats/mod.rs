//! What a cgroup uses and may use, in the same units whichever version counts it: nanoseconds,
//! bytes, numbers.
//!
//! One file per controller. A controller that is missing, or off for this cgroup, leaves its part
//! empty: statistics are never a reason to fail.

mod blkio;
mod cpu;
pub(super) mod detail;
mod files;
mod hugetlb;
mod memory;
mod meter;
mod pids;
mod pressure;

use std::collections::BTreeMap;

use super::Cgroup;
use super::dir::Dir;
use super::error::Error;
use files::Files;

pub use blkio::IoStats;
pub use cpu::CpuStats;
pub use detail::{DetailedStats, MemoryUse};
pub use hugetlb::HugetlbStats;
pub use memory::{MemoryBasics, MemoryStats};
pub use meter::{Meter, Of};
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
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Basics {
    /// CPU time in all, in nanoseconds.
    pub cpu_usage: Option<u64>,
    /// Memory.
    pub memory: Option<MemoryBasics>,
    /// Processes and threads; only of a pod ([`Of::Pod`]).
    pub tasks: Option<u64>,
    /// How long tasks waited for what they lacked; needs v2 and a kernel that counts it.
    pub pressure: Option<PressureStats>,
}

impl Stats {
    /// The basics of it.
    pub fn basics(&self) -> Basics {
        Basics {
            cpu_usage: self.cpu.map(|cpu| cpu.usage),
            memory: self.memory.map(|memory| memory.basics()),
            tasks: None,
            pressure: self.pressure,
        }
    }
}

/// Reads all of it.
pub(super) fn read(cgroup: &Cgroup) -> Result<Stats, Error> {
    let files = &mut Files::default();
    Ok(Stats {
        cpu: cpu::read(cgroup, files)?,
        memory: memory::read(cgroup, files)?,
        pids: pids::read(cgroup, files)?,
        io: blkio::read(cgroup, files)?,
        hugetlb: hugetlb::read(cgroup, files)?,
        pressure: pressure::read(cgroup, files)?,
    })
}

/// A file that holds one number, `None` if it is missing; v2's "max" is no number.
fn number(dir: &Dir<'static>, file: &str) -> Result<Option<u64>, Error> {
    Files::default().number(dir, file)
}
