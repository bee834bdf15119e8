//! CPU time: v1's cpuacct and cpu, v2's cpu.stat.

use super::files::Files;
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// In all.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Periods with a quota in force.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent waiting for quota.
    pub throttled: u64,
}

/// The time in all; `None` if the cgroup is not there, or nobody counts.
pub(super) fn read_usage(cgroup: &Cgroup, files: &mut Files) -> Result<Option<u64>, Error> {
    let Some(dir) = cgroup.dir_of(Controller::Cpuacct) else {
        return Ok(None);
    };
    match dir.version() {
        Version::V1 => files.number(&dir, "cpuacct.usage"),
        Version::V2 => {
            let table = files.table(&dir, "cpu.stat")?;
            Ok(table.map(|table| table.get("usage_usec") * 1000))
        }
    }
}

pub(super) fn read(cgroup: &Cgroup, files: &mut Files) -> Result<Option<CpuStats>, Error> {
    let Some(dir) = cgroup.dir_of(Controller::Cpuacct) else {
        return Ok(None);
    };
    let mut stats = CpuStats::default();
    let bandwidth = match dir.version() {
        Version::V1 => {
            stats.usage = files.number(&dir, "cpuacct.usage")?.unwrap_or(0);
            stats.user = files.number(&dir, "cpuacct.usage_user")?.unwrap_or(0);
            stats.system = files.number(&dir, "cpuacct.usage_sys")?.unwrap_or(0);
            let cpu = cgroup.dir_of(Controller::Cpu);
            cpu.map_or(Ok(None), |cpu| files.table(&cpu, "cpu.stat"))?
                .unwrap_or_default()
        }
        Version::V2 => {
            let table = files.table(&dir, "cpu.stat")?.unwrap_or_default();
            stats.usage = table.get("usage_usec") * 1000;
            stats.user = table.get("user_usec") * 1000;
            stats.system = table.get("system_usec") * 1000;
            table
        }
    };
    stats.periods = bandwidth.get("nr_periods");
    stats.throttled_periods = bandwidth.get("nr_throttled");
    // v1 counts it in ns, v2 in µs, and the name says which.
    let micros = bandwidth.get("throttled_usec") * 1000;
    stats.throttled = bandwidth.find("throttled_time").unwrap_or(micros);
    Ok(Some(stats))
}
