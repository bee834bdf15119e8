//! Memory and swap.

use super::{Table, number};
use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};

/// Memory, in bytes unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, caches included.
    pub usage: u64,
    /// Most ever in use; 0 if the kernel does not count it.
    pub peak: u64,
    /// The limit; `None` is none.
    pub limit: Option<u64>,
    /// In use without the caches that are easy to drop: what the kubelet counts.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Mapped files.
    pub mapped_file: u64,
    /// Page faults, a number.
    pub page_faults: u64,
    /// Page faults that had to read, a number.
    pub major_page_faults: u64,
    /// Swap in use; `None` if it is not counted.
    pub swap: Option<u64>,
    /// The limit of swap alone; `None` is none.
    pub swap_limit: Option<u64>,
    /// Times the limit was hit, a number.
    pub limit_hits: u64,
    /// Processes killed for lack of memory, a number.
    pub oom_kills: u64,
}

/// The part of [`MemoryStats`] that is wanted of many cgroups at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryBasics {
    /// In use, caches included.
    pub usage: u64,
    /// The limit; `None` is none.
    pub limit: Option<u64>,
    /// In use without the caches that are easy to drop: what the kubelet counts.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page faults, a number.
    pub page_faults: u64,
    /// Page faults that had to read, a number.
    pub major_page_faults: u64,
    /// Swap in use; `None` if it is not counted.
    pub swap: Option<u64>,
    /// The limit of swap alone; `None` is none.
    pub swap_limit: Option<u64>,
}

impl MemoryStats {
    /// The basics of it.
    pub fn basics(&self) -> MemoryBasics {
        MemoryBasics {
            usage: self.usage,
            limit: self.limit,
            working_set: self.working_set,
            rss: self.rss,
            page_faults: self.page_faults,
            major_page_faults: self.major_page_faults,
            swap: self.swap,
            swap_limit: self.swap_limit,
        }
    }
}

pub(super) fn read_basics(cgroup: &Cgroup) -> Result<Option<MemoryBasics>, Error> {
    Ok(read_with_table(cgroup)?.map(|(_, _, basics)| basics))
}

fn read_with_table(cgroup: &Cgroup) -> Result<Option<(Dir<'static>, Table, MemoryBasics)>, Error> {
    let Some(dir) = cgroup.dir_of(Controller::Memory) else {
        return Ok(None);
    };
    let Some(table) = Table::read(&dir, "memory.stat")? else {
        return Ok(None);
    };
    let basics = match dir.version() {
        Version::V1 => v1(&dir, &table)?,
        Version::V2 => v2(&dir, &table)?,
    };
    Ok(Some((dir, table, basics)))
}

pub(super) fn read(cgroup: &Cgroup) -> Result<Option<MemoryStats>, Error> {
    let Some((dir, table, basics)) = read_with_table(cgroup)? else {
        return Ok(None);
    };
    let mut stats = MemoryStats {
        usage: basics.usage,
        limit: basics.limit,
        working_set: basics.working_set,
        rss: basics.rss,
        page_faults: basics.page_faults,
        major_page_faults: basics.major_page_faults,
        swap: basics.swap,
        swap_limit: basics.swap_limit,
        ..MemoryStats::default()
    };
    match dir.version() {
        Version::V1 => {
            stats.peak = number(&dir, "memory.max_usage_in_bytes")?.unwrap_or(0);
            stats.cache = table.get("total_cache");
            stats.mapped_file = table.get("total_mapped_file");
            stats.limit_hits = number(&dir, "memory.failcnt")?.unwrap_or(0);
            let control = Table::read(&dir, "memory.oom_control")?.unwrap_or_default();
            stats.oom_kills = control.get("oom_kill");
        }
        Version::V2 => {
            let events = Table::read(&dir, "memory.events")?.unwrap_or_default();
            stats.peak = number(&dir, "memory.peak")?.unwrap_or(0);
            stats.cache = table.get("file");
            stats.mapped_file = table.get("file_mapped");
            stats.limit_hits = events.get("max");
            stats.oom_kills = events.get("oom_kill");
        }
    }
    Ok(Some(stats))
}

/// v1 writes "no limit" as the highest multiple of a page; nothing near it is a limit.
fn v1_limit(limit: Option<u64>) -> Option<u64> {
    limit.filter(|limit| *limit < u64::MAX >> 2)
}

fn v1(dir: &Dir<'_>, table: &Table) -> Result<MemoryBasics, Error> {
    let usage = number(dir, "memory.usage_in_bytes")?.unwrap_or(0);
    let limit = v1_limit(number(dir, "memory.limit_in_bytes")?);
    // With swap accounting, these count memory and swap together.
    let both = number(dir, "memory.memsw.usage_in_bytes")?;
    let both_limit = match both {
        Some(_) => v1_limit(number(dir, "memory.memsw.limit_in_bytes")?),
        None => None,
    };
    Ok(MemoryBasics {
        usage,
        limit,
        working_set: usage.saturating_sub(table.get("total_inactive_file")),
        rss: table.get("total_rss"),
        page_faults: table.get("total_pgfault"),
        major_page_faults: table.get("total_pgmajfault"),
        swap: both.map(|_| table.get("total_swap")),
        swap_limit: both_limit.map(|both| both.saturating_sub(limit.unwrap_or(0))),
    })
}

fn v2(dir: &Dir<'_>, table: &Table) -> Result<MemoryBasics, Error> {
    // The root has no memory.current: everything that is charged is in use.
    let usage = match number(dir, "memory.current")? {
        Some(usage) => usage,
        None => table.get("anon") + table.get("file"),
    };
    Ok(MemoryBasics {
        usage,
        limit: number(dir, "memory.max")?,
        working_set: usage.saturating_sub(table.get("inactive_file")),
        rss: table.get("anon"),
        page_faults: table.get("pgfault"),
        major_page_faults: table.get("pgmajfault"),
        swap: number(dir, "memory.swap.current")?,
        swap_limit: number(dir, "memory.swap.max")?,
    })
}
