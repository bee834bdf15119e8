//! Memory and swap.

use super::files::{Files, Table};
use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};

/// Memory, in bytes unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, caches included.
    pub usage: u64,
    /// Most ever in use; `None` if the kernel does not count it.
    pub peak: Option<u64>,
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
    /// Page cache in use.
    pub active_file: u64,
    /// Page cache that is easy to drop.
    pub inactive_file: u64,
    /// The kernel's, for these processes; `None` if it does not count that.
    pub kernel: Option<u64>,
    /// Page faults, a number.
    pub page_faults: u64,
    /// Page faults that had to read, a number.
    pub major_page_faults: u64,
    /// Swap in use; `None` if it is not counted.
    pub swap: Option<u64>,
    /// The limit of swap alone; `None` is none.
    pub swap_limit: Option<u64>,
    /// Page faults of the cgroup itself, without those below it; v2 counts no such number.
    pub own_page_faults: Option<u64>,
    /// As `own_page_faults`, those that had to read.
    pub own_major_page_faults: Option<u64>,
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

/// `swap`: that of swap, too.
pub(super) fn read_basics(
    cgroup: &Cgroup,
    files: &mut Files,
    swap: bool,
) -> Result<Option<MemoryBasics>, Error> {
    Ok(read_with_table(cgroup, files, swap)?.map(|(_, _, basics)| basics))
}

type WithTable = (Dir<'static>, Table, MemoryBasics);

fn read_with_table(
    cgroup: &Cgroup,
    files: &mut Files,
    swap: bool,
) -> Result<Option<WithTable>, Error> {
    let Some(dir) = cgroup.dir_of(Controller::Memory) else {
        return Ok(None);
    };
    let Some(table) = files.table(&dir, "memory.stat")? else {
        return Ok(None);
    };
    let basics = match dir.version() {
        Version::V1 => v1(&dir, files, &table, swap)?,
        Version::V2 => v2(&dir, files, &table, swap)?,
    };
    Ok(Some((dir, table, basics)))
}

pub(super) fn read(cgroup: &Cgroup, files: &mut Files) -> Result<Option<MemoryStats>, Error> {
    let Some((dir, table, basics)) = read_with_table(cgroup, files, true)? else {
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
            stats.peak = files.number(&dir, "memory.max_usage_in_bytes")?;
            stats.cache = table.get("total_cache");
            stats.mapped_file = table.get("total_mapped_file");
            stats.active_file = table.get("total_active_file");
            stats.inactive_file = table.get("total_inactive_file");
            stats.kernel = files.number(&dir, "memory.kmem.usage_in_bytes")?;
            stats.own_page_faults = table.find("pgfault");
            stats.own_major_page_faults = table.find("pgmajfault");
            stats.limit_hits = files.number(&dir, "memory.failcnt")?.unwrap_or(0);
            let control = files.table(&dir, "memory.oom_control")?.unwrap_or_default();
            stats.oom_kills = control.get("oom_kill");
        }
        Version::V2 => {
            let events = files.table(&dir, "memory.events")?.unwrap_or_default();
            stats.peak = files.number(&dir, "memory.peak")?;
            stats.cache = table.get("file");
            stats.mapped_file = table.get("file_mapped");
            stats.active_file = table.get("active_file");
            stats.inactive_file = table.get("inactive_file");
            stats.kernel = table.find("kernel");
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

fn v1(
    dir: &Dir<'static>,
    files: &mut Files,
    table: &Table,
    swap: bool,
) -> Result<MemoryBasics, Error> {
    let usage = files.number(dir, "memory.usage_in_bytes")?.unwrap_or(0);
    let limit = v1_limit(files.number(dir, "memory.limit_in_bytes")?);
    // It counts memory and swap together, and is there with swap accounting.
    let both_limit = match swap {
        true => files.number(dir, "memory.memsw.limit_in_bytes")?,
        false => None,
    };
    Ok(MemoryBasics {
        usage,
        limit,
        working_set: usage.saturating_sub(table.get("total_inactive_file")),
        rss: table.get("total_rss"),
        page_faults: table.get("total_pgfault"),
        major_page_faults: table.get("total_pgmajfault"),
        swap: both_limit.and_then(|_| table.find("total_swap")),
        swap_limit: v1_limit(both_limit).map(|both| both.saturating_sub(limit.unwrap_or(0))),
    })
}

fn v2(
    dir: &Dir<'static>,
    files: &mut Files,
    table: &Table,
    swap: bool,
) -> Result<MemoryBasics, Error> {
    // The root has no memory.current: everything that is charged is in use.
    let usage = match files.number(dir, "memory.current")? {
        Some(usage) => usage,
        None => table.get("anon") + table.get("file"),
    };
    let mut number = |file| match swap {
        true => files.number(dir, file),
        false => Ok(None),
    };
    let (swap, swap_limit) = (number("memory.swap.current")?, number("memory.swap.max")?);
    Ok(MemoryBasics {
        usage,
        limit: files.number(dir, "memory.max")?,
        working_set: usage.saturating_sub(table.get("inactive_file")),
        rss: table.get("anon"),
        page_faults: table.get("pgfault"),
        major_page_faults: table.get("pgmajfault"),
        swap,
        swap_limit,
    })
}
