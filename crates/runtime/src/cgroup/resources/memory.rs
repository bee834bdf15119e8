//! Memory and swap.

use rustix::io::Errno;

use super::{Field, limit, nonzero};
use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};
use crate::spec::Memory;

const fn field(name: &'static str) -> Field {
    Field {
        name,
        controller: Controller::Memory,
    }
}

pub(super) const LIMIT: Field = field("linux.resources.memory.limit");
const SWAP: Field = field("linux.resources.memory.swap");
const RESERVATION: Field = field("linux.resources.memory.reservation");
const KERNEL_TCP: Field = field("linux.resources.memory.kernelTCP");
const SWAPPINESS: Field = field("linux.resources.memory.swappiness");
const DISABLE_OOM: Field = field("linux.resources.memory.disableOOMKiller");

/// v1's file of the memory limit.
const V1_LIMIT: &str = "memory.limit_in_bytes";
/// v1's file of memory and swap together.
const V1_SWAP: &str = "memory.memsw.limit_in_bytes";

/// Sets what is given. `kernel` and `useHierarchy` mean nothing to the kernels of this decade.
pub(super) fn apply(cgroup: &Cgroup, memory: &Memory) -> Result<(), Error> {
    let given = nonzero(memory.limit).map(|limit| (LIMIT, limit));
    if let Some((field, value)) = given.or(nonzero(memory.swap).map(|swap| (SWAP, swap))) {
        let dir = field.dir(cgroup, value)?;
        check_usage(&dir, memory)?;
        match dir.version() {
            Version::V1 => v1_limits(&dir, nonzero(memory.limit), nonzero(memory.swap))?,
            Version::V2 => v2_limits(&dir, memory)?,
        }
    }
    if let Some(reservation) = nonzero(memory.reservation) {
        let dir = RESERVATION.dir(cgroup, reservation)?;
        let file = match dir.version() {
            Version::V1 => "memory.soft_limit_in_bytes",
            Version::V2 => "memory.low",
        };
        RESERVATION.write(&dir, file, limit(dir.version(), reservation))?;
    }
    only_v1(cgroup, memory)
}

/// What has to be checked before anybody sets a limit.
pub(in crate::cgroup) fn check(cgroup: &Cgroup, memory: &Memory) -> Result<(), Error> {
    match cgroup.dir_of(LIMIT.controller) {
        Some(dir) => check_usage(&dir, memory),
        None => Ok(()),
    }
}

/// With `checkBeforeUpdate`, a limit below the present use fails before anything is tried.
fn check_usage(dir: &Dir<'_>, memory: &Memory) -> Result<(), Error> {
    let Some(value) = memory
        .limit
        .filter(|limit| memory.check_before_update == Some(true) && *limit > 0)
    else {
        return Ok(());
    };
    match in_use(dir, value)? {
        Error::MemoryInUse { usage, .. } if usage <= value.unsigned_abs() => Ok(()),
        error => Err(error),
    }
}

/// The error that a limit is below what is in use, with the figures.
pub(super) fn in_use(dir: &Dir<'_>, value: i64) -> Result<Error, Error> {
    let (usage, peak) = match dir.version() {
        Version::V1 => ("memory.usage_in_bytes", "memory.max_usage_in_bytes"),
        Version::V2 => ("memory.current", "memory.peak"),
    };
    let read = |file: &str| -> Result<Option<u64>, Error> {
        let text = dir.get_optional(file)?;
        text.map(|text| {
            text.trim()
                .parse()
                .map_err(|_| dir.parse_error(file, &text))
        })
        .transpose()
    };
    let usage = read(usage)?.unwrap_or(0);
    // memory.peak came with Linux 5.19.
    let peak = read(peak)?.unwrap_or(usage);
    Ok(Error::MemoryInUse {
        field: LIMIT.name,
        value,
        usage,
        peak,
    })
}

/// v1 refuses a limit above that of memory and swap together, so whichever grows is set first.
fn v1_limits(dir: &Dir<'_>, memory: Option<i64>, swap: Option<i64>) -> Result<(), Error> {
    let implied = memory == Some(-1) && swap.is_none();
    let swap = if implied { Some(-1) } else { swap };
    let set_memory = || memory.map_or(Ok(()), |value| v1_limit(dir, value));
    let set_swap =
        || match swap.map(|value| (value, dir.write(V1_SWAP, &limit(Version::V1, value)))) {
            None | Some((_, Ok(()))) => Ok(()),
            // Without swap accounting there is no limit to lift.
            Some((..0, Err(Errno::NOENT))) => Ok(()),
            Some((value, Err(Errno::NOENT))) => Err(SWAP.unsupported(
                value,
                "the kernel does not account for swap (swapaccount=1 enables it)",
            )),
            Some((value, Err(errno))) => Err(SWAP.refused(dir, V1_SWAP, value.to_string(), errno)),
        };
    let grows = match (memory, swap) {
        (Some(_), Some(..0)) => true,
        (Some(_), Some(swap)) => {
            let present = dir.get(V1_LIMIT)?;
            let present: u64 = present
                .trim()
                .parse()
                .map_err(|_| dir.parse_error(V1_LIMIT, &present))?;
            present < swap.unsigned_abs()
        }
        _ => false,
    };
    if grows {
        set_swap()?;
        set_memory()
    } else {
        set_memory()?;
        set_swap()
    }
}

fn v1_limit(dir: &Dir<'_>, value: i64) -> Result<(), Error> {
    match dir.write(V1_LIMIT, &limit(Version::V1, value)) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(in_use(dir, value)?),
        Err(errno) => Err(LIMIT.refused(dir, V1_LIMIT, value.to_string(), errno)),
    }
}

fn v2_limits(dir: &Dir<'_>, memory: &Memory) -> Result<(), Error> {
    if let Some(swap) = swap_alone(memory)? {
        let value = limit(Version::V2, swap);
        match dir.write("memory.swap.max", &value) {
            Ok(()) => {}
            // A kernel without swap neither limits nor uses it.
            Err(Errno::NOENT) if swap <= 0 => {}
            Err(errno) => return Err(SWAP.refused(dir, "memory.swap.max", value, errno)),
        }
    }
    match nonzero(memory.limit) {
        Some(value) => LIMIT.write(dir, "memory.max", limit(Version::V2, value)),
        None => Ok(()),
    }
}

/// v2's limit of swap alone for v1's of memory and swap together; `None` leaves it as it is.
pub(in crate::cgroup) fn swap_alone(memory: &Memory) -> Result<Option<i64>, Error> {
    match (nonzero(memory.limit), nonzero(memory.swap)) {
        // No limit of memory has always meant none of swap either.
        (Some(..0), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(..0)) => Ok(Some(-1)),
        (Some(..0), Some(swap)) => Ok(Some(swap)),
        (None, Some(swap)) => Err(SWAP.invalid(
            swap,
            "a limit of memory and swap together needs a limit of memory",
        )),
        (Some(limit), Some(swap)) if swap < limit => Err(SWAP.invalid(
            swap,
            format!("it includes memory and must not be below its limit of {limit}"),
        )),
        (Some(limit), Some(swap)) => Ok(Some(swap - limit)),
    }
}

/// What v2 does not have.
fn only_v1(cgroup: &Cgroup, memory: &Memory) -> Result<(), Error> {
    let write = |field: Field, file: &str, value: String| {
        let dir = field.dir(cgroup, &value)?;
        match dir.version() {
            Version::V1 => field.write(&dir, file, value),
            Version::V2 => Err(field.unsupported(value, "cgroup v2 has no such setting")),
        }
    };
    if let Some(tcp) = nonzero(memory.kernel_tcp) {
        write(
            KERNEL_TCP,
            "memory.kmem.tcp.limit_in_bytes",
            limit(Version::V1, tcp),
        )?;
    }
    match memory.swappiness {
        // -1 as Go programs write it.
        None | Some(u64::MAX) => {}
        Some(percent @ ..=100) => write(SWAPPINESS, "memory.swappiness", percent.to_string())?,
        Some(percent) => return Err(SWAPPINESS.invalid(percent, "the range is 0 to 100")),
    }
    if memory.disable_oom_killer == Some(true) {
        write(DISABLE_OOM, "memory.oom_control", "1".to_owned())?;
    }
    Ok(())
}
