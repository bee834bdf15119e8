//! sched_setattr(2) of any process; sched_setaffinity(2), ioprio_set(2), personality(2) and
//! set_mempolicy(2), of the calling thread, which is its process's only one.

use rustix::io::Errno;

use super::process::last;

/// struct sched_attr without its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchedAttr {
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    /// ns
    pub(crate) runtime: u64,
    /// ns
    pub(crate) deadline: u64,
    /// ns
    pub(crate) period: u64,
}

/// The kernel's layout, first version.
#[repr(C)]
struct RawSchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Of the process `pid`, or of the caller for 0.
pub(crate) fn set_scheduler(pid: i32, wanted: &SchedAttr) -> Result<(), Errno> {
    let raw = RawSchedAttr {
        size: 48,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    };
    // SAFETY: the structure has the size that it states and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const raw, 0) })
}

pub(crate) fn set_affinity(mask: &[u64]) -> Result<(), Errno> {
    // SAFETY: the mask has that many bytes and outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr(),
        )
    })
}

/// Class and level as the kernel packs them.
pub(crate) fn set_io_priority(value: i32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: takes integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })
}

pub(crate) fn set_personality(domain: u64) -> Result<(), Errno> {
    // SAFETY: takes an integer; the calling program goes on to execve.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) })
}

pub(crate) fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<(), Errno> {
    let (pointer, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        // The kernel takes one bit less than it is told of.
        some => (some.as_ptr(), some.len() * 64 + 1),
    };
    // SAFETY: the mask, if any, has that many bits and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })
}

fn check(result: libc::c_long) -> Result<(), Errno> {
    if result < 0 { Err(last()) } else { Ok(()) }
}
