//! config.md process.scheduler, ioPriority and execCPUAffinity; config-linux.md personality and
//! memoryPolicy: how the kernel schedules a process and gives it memory.
//!
//! Each is read completely before anything is made ([`check`]), and set by the process itself,
//! while it still has its capabilities.

use rustix::io::Errno;

use crate::error::{Error, InitFailure, Result};
use crate::spec::{IoPriority, Linux, MemoryPolicy, Personality, Process, Scheduler};
use crate::sys::{self, SchedAttr};

const POLICIES: [(&str, u32); 6] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
const SCHED_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
const IO_CLASSES: [(&str, i32); 3] = [
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];
const DOMAINS: [(&str, u64); 2] = [("LINUX", 0), ("LINUX32", 8)];
const MEMORY_MODES: [(&str, i32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];
const MEMORY_FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];
/// The greatest number in a list of CPUs or nodes: the kernel's own limit is lower.
const MAX_NUMBER: usize = 8191;

/// A set of CPUs or nodes as the kernel takes it.
type Mask = Vec<u64>;

fn named<T: Copy>(field: &str, table: &[(&str, T)], name: &str) -> Result<T> {
    let found = table.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| Error::invalid(field, format!("{name:?} is not known")))
}

fn sched_attr(scheduler: &Scheduler) -> Result<SchedAttr> {
    let field = "process.scheduler";
    let policy = named(field, &POLICIES, &scheduler.policy)?;
    let flags = scheduler.flags.iter();
    let flags = flags.map(|flag| named(field, &SCHED_FLAGS, flag));
    let priority = u32::try_from(scheduler.priority.unwrap_or(0))
        .map_err(|_| Error::invalid(field, "priority is negative"))?;
    Ok(SchedAttr {
        policy,
        flags: flags.sum::<Result<u64>>()?,
        nice: scheduler.nice.unwrap_or(0),
        priority,
        runtime: scheduler.runtime.unwrap_or(0),
        deadline: scheduler.deadline.unwrap_or(0),
        period: scheduler.period.unwrap_or(0),
    })
}

fn io_priority(wanted: &IoPriority) -> Result<i32> {
    let field = "process.ioPriority";
    let class = named(field, &IO_CLASSES, &wanted.class)?;
    if !(0..=7).contains(&wanted.priority) {
        return Err(Error::invalid(
            field,
            format!("priority {} is not between 0 and 7", wanted.priority),
        ));
    }
    Ok(class << 13 | wanted.priority)
}

fn domain(personality: &Personality) -> Result<u64> {
    let field = "linux.personality";
    if let Some(flag) = personality.flags.first() {
        return Err(Error::invalid(
            field,
            format!("flag {flag:?}: the specification defines none"),
        ));
    }
    named(field, &DOMAINS, &personality.domain)
}

fn memory_policy(policy: &MemoryPolicy) -> Result<(i32, Mask)> {
    let invalid = |what: &str, value: &str| {
        let reason = format!("invalid memory policy {what} {value:?}");
        Error::invalid("linux.memoryPolicy", reason)
    };
    let mut mode =
        named("", &MEMORY_MODES, &policy.mode).map_err(|_| invalid("mode", &policy.mode))?;
    let takes_none = ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&policy.mode.as_str());
    for flag in &policy.flags {
        mode |= named("", &MEMORY_FLAGS, flag).map_err(|_| invalid("flag", flag))?;
    }
    let nodes = list("", &policy.nodes).map_err(|_| invalid("node list", &policy.nodes))?;
    let count: u32 = nodes.iter().map(|word| word.count_ones()).sum();
    if takes_none && count > 0 {
        let reason = format!("{} mode requires 0 nodes but got {count}", policy.mode);
        return Err(Error::invalid("linux.memoryPolicy", reason));
    }
    Ok((mode, nodes))
}

/// `0-3,7` as a mask; nothing is the empty mask.
fn list(field: &str, text: &str) -> Result<Mask> {
    let flawed = || Error::invalid(field, format!("{text:?} is not a list such as 0-3,7"));
    let number = |text: &str| -> Result<usize> {
        let number = text.trim().parse().ok();
        number
            .filter(|number| *number <= MAX_NUMBER)
            .ok_or_else(flawed)
    };
    let mut mask = Mask::new();
    for part in text.split(',').filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(flawed());
        }
        mask.resize(mask.len().max(last / 64 + 1), 0);
        for bit in first..=last {
            mask[bit / 64] |= 1 << (bit % 64);
        }
    }
    Ok(mask)
}

/// Refuses what cannot be meant, by field.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    process.scheduler.as_ref().map(sched_attr).transpose()?;
    process.io_priority.as_ref().map(io_priority).transpose()?;
    if let Some(affinity) = &process.exec_cpu_affinity {
        for wanted in [&affinity.initial, &affinity.final_].into_iter().flatten() {
            if list("process.execCPUAffinity", wanted)?.is_empty() {
                return Err(Error::invalid("process.execCPUAffinity", "is empty"));
            }
        }
    }
    Ok(())
}

/// The same for what belongs to the container.
pub(crate) fn check(linux: &Linux) -> Result<()> {
    linux.personality.as_ref().map(domain).transpose()?;
    linux
        .memory_policy
        .as_ref()
        .map(memory_policy)
        .transpose()?;
    Ok(())
}

/// Gives the process `pid` (0: the caller) its scheduler. Its children need not have it: a policy may
/// be reset by a fork, or not allow one.
pub(crate) fn schedule(pid: i32, scheduler: Option<&Scheduler>) -> Result<(), InitFailure> {
    let Some(scheduler) = scheduler else {
        return Ok(());
    };
    let attributes = sched_attr(scheduler).map_err(|e| InitFailure::because(e.to_string()))?;
    sys::set_scheduler(pid, &attributes).map_err(InitFailure::at("set process.scheduler"))
}

/// Sets all that is asked for but the scheduler. `linux` is the container's, which an exec shares.
pub(crate) fn apply(process: &Process, linux: Option<&Linux>) -> Result<(), InitFailure> {
    let checked = |error: Error| InitFailure::because(error.to_string());
    if let Some(wanted) = &process.io_priority {
        let value = io_priority(wanted).map_err(checked)?;
        sys::set_io_priority(value).map_err(InitFailure::at("set process.ioPriority"))?;
    }
    let Some(linux) = linux else { return Ok(()) };
    if let Some(personality) = &linux.personality {
        let domain = domain(personality).map_err(checked)?;
        sys::set_personality(domain).map_err(InitFailure::at("set linux.personality"))?;
    }
    if let Some(policy) = &linux.memory_policy {
        let (mode, nodes) = memory_policy(policy).map_err(checked)?;
        sys::set_memory_policy(mode, &nodes).map_err(InitFailure::at("set linux.memoryPolicy"))?;
    }
    Ok(())
}

/// The CPUs of an exec before it joins its cgroup. One that is born in it needs none.
pub(crate) fn initial_affinity(process: &Process) -> Result<(), InitFailure> {
    affinity(process, |affinity| affinity.initial.as_deref())
}

/// The CPUs of an exec from then on: without a word in the configuration all of its cgroup.
pub(crate) fn final_affinity(process: &Process) -> Result<(), InitFailure> {
    if process.exec_cpu_affinity.is_none() {
        all_cpus();
    }
    affinity(process, |affinity| affinity.final_.as_deref())
}

/// All CPUs that the cgroup has, whichever the caller was confined to.
pub(crate) fn all_cpus() {
    const ALL: [u64; 128] = [u64::MAX; 128];
    // A filter of the caller's own may forbid it: then it keeps those of the caller.
    let _ = sys::set_affinity(&ALL);
}

fn affinity<'a>(
    process: &'a Process,
    which: impl Fn(&'a crate::spec::ExecCpuAffinity) -> Option<&'a str>,
) -> Result<(), InitFailure> {
    let Some(wanted) = process.exec_cpu_affinity.as_ref().and_then(which) else {
        return Ok(());
    };
    let field = "process.execCPUAffinity";
    let mask = list(field, wanted).map_err(|error| InitFailure::because(error.to_string()))?;
    sys::set_affinity(&mask)
        .map_err(|errno: Errno| InitFailure::new(format_args!("set {field} {wanted:?}"), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_the_kernels() {
        assert_eq!(list("f", "0-2,5").unwrap(), [0b10_0111]);
        assert_eq!(list("f", "64, 1").unwrap(), [2, 1]);
        assert_eq!(list("f", "").unwrap(), [0; 0]);
        for bad in ["x", "2-1", "1,,2", "-1", "99999"] {
            assert!(list("f", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_words_are_refused_by_field() {
        let process = |scheduler: &str, class: &str, priority| Process {
            scheduler: Some(Scheduler {
                policy: scheduler.into(),
                ..Scheduler::default()
            }),
            io_priority: Some(IoPriority {
                class: class.into(),
                priority,
            }),
            ..Process::default()
        };
        assert!(check_process(&process("SCHED_BATCH", "IOPRIO_CLASS_BE", 3)).is_ok());
        for (bad, field) in [
            (
                process("SCHED_ISO", "IOPRIO_CLASS_BE", 0),
                "process.scheduler",
            ),
            (
                process("SCHED_RR", "IOPRIO_CLASS_NONE", 0),
                "process.ioPriority",
            ),
            (
                process("SCHED_RR", "IOPRIO_CLASS_BE", 8),
                "process.ioPriority",
            ),
        ] {
            let error = check_process(&bad).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        let linux = Linux {
            personality: Some(Personality {
                domain: "LINUX64".into(),
                ..Personality::default()
            }),
            ..Linux::default()
        };
        assert!(check(&linux).is_err());
    }
}
