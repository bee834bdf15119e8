//! The system calls of cgroups that rustix does not have: bpf(2) for device programs, kill(2)
//! with any signal number. The only unsafe code of the module.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// BPF_PROG_TYPE_CGROUP_DEVICE.
const PROGRAM_TYPE: u32 = 15;
/// BPF_CGROUP_DEVICE.
const ATTACH_TYPE: u32 = 6;
/// BPF_F_ALLOW_MULTI: programs of cgroups above keep their say.
const ALLOW_MULTI: u32 = 1 << 1;
/// BPF_F_REPLACE.
const REPLACE: u32 = 1 << 2;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;

/// Programs a cgroup can have attached (BPF_CGROUP_MAX_PROGS).
const MAX_PROGRAMS: usize = 64;

/// `union bpf_attr` for BPF_PROG_LOAD, as far as it is needed; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// `union bpf_attr` for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// `union bpf_attr` for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `union bpf_attr` for BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// # Safety
/// `attr` must be the attributes of `command`, and the addresses in it valid for what the command
/// reads and writes.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: attr is valid for its size; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(result)
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn own(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(result).map_err(|_| Errno::BADF)?;
    // SAFETY: bpf(2) has just returned this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a device program of eBPF instructions (`struct bpf_insn`, 8 bytes each).
pub(super) fn load_device_program(instructions: &[u64]) -> Result<OwnedFd, Errno> {
    let mut prog_name = [0; 16];
    prog_name[..13].copy_from_slice(b"floe_devices_");
    let mut attr = LoadAttr {
        prog_type: PROGRAM_TYPE,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        insns: instructions.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        prog_name,
        ..LoadAttr::default()
    };
    // SAFETY: `insns` points to insn_cnt instructions and `license` to a C string; both outlive
    // the call, and the kernel only reads them.
    unsafe { bpf(BPF_PROG_LOAD, &mut attr) }.and_then(own)
}

/// Attaches a device program to a cgroup, in the place of `replaced` if that is given.
pub(super) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: fd_number(cgroup),
        attach_bpf_fd: fd_number(program),
        attach_type: ATTACH_TYPE,
        attach_flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replace_bpf_fd: replaced.map_or(0, fd_number),
    };
    // SAFETY: the attributes of BPF_PROG_ATTACH hold no addresses.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attr) }.map(drop)
}

/// Detaches a device program from a cgroup.
pub(super) fn detach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: fd_number(cgroup),
        attach_bpf_fd: fd_number(program),
        attach_type: ATTACH_TYPE,
        ..AttachAttr::default()
    };
    // SAFETY: the attributes of BPF_PROG_DETACH hold no addresses.
    unsafe { bpf(BPF_PROG_DETACH, &mut attr) }.map(drop)
}

/// The device programs attached to this cgroup itself.
pub(super) fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: fd_number(cgroup),
        attach_type: ATTACH_TYPE,
        prog_ids: ids.as_mut_ptr().addr() as u64,
        prog_cnt: ids.len() as u32,
        ..QueryAttr::default()
    };
    // SAFETY: `prog_ids` points to prog_cnt numbers that outlive the call, valid for writes.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    let count = usize::try_from(attr.prog_cnt).unwrap_or(0).min(ids.len());
    let mut programs = Vec::with_capacity(count);
    for id in &ids[..count] {
        let mut attr = IdAttr {
            id: *id,
            ..IdAttr::default()
        };
        // SAFETY: the attributes of BPF_PROG_GET_FD_BY_ID hold no addresses.
        match unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) } {
            Ok(fd) => programs.push(own(fd)?),
            // Detached since the query.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}

/// pidfd_send_signal(2), with real-time signals too.
pub(super) fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the call takes integers and no siginfo.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) };
    if sent == 0 { Ok(()) } else { Err(last_errno()) }
}

/// kill(2), with real-time signals too.
pub(super) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) touches no memory of this process.
    if unsafe { libc::kill(pid, signal) } == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}
