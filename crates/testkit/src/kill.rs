//! A command that is killed in the middle, at a place of the test's choice: before and after each
//! system call, or before each one that changes a file.
//!
//! By ptrace(2), so that each place is met, however short it is. Must never leave a traced process
//! behind.

use std::collections::HashSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Where a command may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    /// Before and after each system call of the command itself, whatever it clones.
    Calls,
    /// Before each call, by any of its threads and children, that changes a file or directory or waits
    /// for the disk.
    Writes,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was killed where that was asked for.
    Killed,
    /// There were no more stops than this.
    Finished {
        /// How many there were.
        stops: usize,
    },
}

/// Runs a command and kills it with SIGKILL at its `stop`-th stop, counted from 0. It gets a process
/// group of its own.
///
/// # Errors
/// The command cannot be started or traced.
pub fn kill_at(command: &mut Command, stops: Stops, stop: usize) -> io::Result<End> {
    let filter = (stops == Stops::Writes).then(filter);
    // SAFETY: between fork and exec only system calls are made, on memory that was taken before.
    unsafe {
        command.process_group(0).pre_exec(move || {
            checked(libc::ptrace(libc::PTRACE_TRACEME, 0, 0_usize, 0_usize))?;
            if let Some(filter) = &filter {
                let program = libc::sock_fprog {
                    len: filter.len() as u16,
                    filter: filter.as_ptr().cast_mut(),
                };
                let mode = libc::SECCOMP_MODE_FILTER;
                let set = libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program);
                checked(set.into())?;
            }
            Ok(())
        });
    }
    // A child that stops at its execve is no failure of spawn: its pipe closes there.
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let end = trace(pid, stops, stop);
    // One that has ended was reaped already.
    let _ = child.kill();
    while wait(pid).is_ok() {}
    end
}

fn trace(pid: i32, stops: Stops, stop: usize) -> io::Result<End> {
    let mut count = 0;
    let mut known = HashSet::new();
    loop {
        let (thread, status) = wait(pid)?;
        if !libc::WIFSTOPPED(status) {
            if thread == pid {
                return Ok(End::Finished { stops: count });
            }
            continue;
        }
        let fresh = known.insert(thread);
        if fresh && thread == pid && stops == Stops::Writes {
            let follow = libc::PTRACE_O_TRACESECCOMP
                | libc::PTRACE_O_TRACECLONE
                | libc::PTRACE_O_TRACEFORK
                | libc::PTRACE_O_TRACEVFORK;
            ask(libc::PTRACE_SETOPTIONS, thread, follow as usize)?;
        }
        let counts = match stops {
            Stops::Calls => true,
            Stops::Writes => {
                status >> 16 == libc::PTRACE_EVENT_SECCOMP && changes_a_file(pid, thread)?
            }
        };
        if counts {
            if count == stop {
                return Ok(End::Killed);
            }
            count += 1;
        }
        let signal = match libc::WSTOPSIG(status) {
            // ptrace's own; and each thread begins with a stop.
            libc::SIGTRAP => 0,
            libc::SIGSTOP if fresh => 0,
            signal => signal,
        };
        let go = match stops {
            Stops::Calls => libc::PTRACE_SYSCALL,
            Stops::Writes => libc::PTRACE_CONT,
        };
        ask(go, thread, signal as usize)?;
    }
}

/// The next of the command's threads that stops or ends.
fn wait(pid: i32) -> io::Result<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call; only our child and what we trace of it is waited for.
    let found = unsafe { libc::waitpid(-pid, &raw mut status, libc::__WALL) };
    checked(found.into())?;
    Ok((found, status))
}

fn ask(request: libc::c_uint, thread: i32, data: usize) -> io::Result<()> {
    // SAFETY: these requests take numbers; the kernel checks that the thread is stopped and ours.
    match checked(unsafe { libc::ptrace(request, thread, 0_usize, data) }) {
        // Another thread has ended the process meanwhile: that is reported next.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

fn checked(result: libc::c_long) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Calls whose first argument is the file.
const BY_FILE: [libc::c_long; 15] = [
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fsetxattr,
    libc::SYS_sendfile,
    libc::SYS_utimensat,
];

/// Calls on names.
const BY_NAME: [libc::c_long; 11] = [
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_mknodat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
];

/// Calls on names that newer machines do not have.
#[cfg(target_arch = "x86_64")]
const BY_OLD_NAME: [libc::c_long; 8] = [
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_mkdir,
    libc::SYS_symlink,
    libc::SYS_link,
    libc::SYS_chmod,
    libc::SYS_chown,
];
#[cfg(not(target_arch = "x86_64"))]
const BY_OLD_NAME: [libc::c_long; 0] = [];

/// Stops before these calls and lets all others through.
fn filter() -> Vec<libc::sock_filter> {
    let step = |code: u32, jump_if: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_if,
        jf: 0,
        k: value,
    };
    let (load, equal, give) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let calls: Vec<_> = BY_FILE.iter().chain(&BY_NAME).chain(&BY_OLD_NAME).collect();
    // The number of the call is the first word of what a filter sees.
    let mut program = vec![step(load, 0, 0)];
    for (number, call) in calls.iter().enumerate() {
        let to_the_end = u8::try_from(calls.len() - number).expect("a short list");
        program.push(step(equal, to_the_end, **call as u32));
    }
    program.push(step(give, 0, libc::SECCOMP_RET_ALLOW));
    program.push(step(give, 0, libc::SECCOMP_RET_TRACE));
    program
}

/// Whether the call that a thread has been stopped before is about a file: a pipe, socket or device
/// has nothing to lose.
fn changes_a_file(pid: i32, thread: i32) -> io::Result<bool> {
    // SAFETY: the structure is plain data, for which zeros are valid.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = std::mem::size_of_val(&info);
    // SAFETY: the kernel writes at most `size` bytes to `info`, which outlives the call.
    let asked = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, &raw mut info) };
    checked(asked)?;
    // SAFETY: at this kind of stop the kernel fills this member.
    let (call, file) = unsafe { (info.u.seccomp.nr, info.u.seccomp.args[0]) };
    if !BY_FILE.iter().any(|known| *known as u64 == call) {
        return Ok(true);
    }
    let target = std::fs::read_link(format!("/proc/{pid}/fd/{file}")).unwrap_or_default();
    Ok(target.is_absolute() && !target.starts_with("/dev") && target != Path::new("/"))
}
