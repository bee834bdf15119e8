//! Filters loaded into real child processes: the kernel must take what the compiler makes.

use std::os::fd::AsRawFd;

use super::*;

/// Runs `child` in a forked process; returns its wait status.
fn in_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only makes system calls and computes on its copy of the memory; it
    // leaves by _exit, so no destructor or buffer of the parent runs twice.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let code = child();
        // SAFETY: ends the forked child without running anything else.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the write, and `pid` is our child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

/// The errno of a call without arguments, 0 if it succeeds.
fn errno_of(number: libc::c_long) -> i32 {
    // SAFETY: only calls that take no arguments are made here.
    let result = unsafe { libc::syscall(number) };
    if result < 0 {
        std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
    } else {
        0
    }
}

fn exited(status: i32) -> Option<i32> {
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

fn signalled(status: i32) -> Option<i32> {
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

#[test]
fn a_refused_call_fails_with_the_chosen_errno_and_others_work() {
    let rules = vec![returning(rule(&["getppid"], "SCMP_ACT_ERRNO"), 77)];
    let filter = Filter::compile(&profile("SCMP_ACT_ALLOW", &[], rules)).expect("compile");
    let status = in_child(|| match filter.load() {
        Ok(None) if errno_of(libc::SYS_getpid) == 0 => errno_of(libc::SYS_getppid),
        _ => 1,
    });
    assert_eq!(exited(status), Some(77));
}

#[test]
fn arguments_decide_in_the_kernel_as_in_the_interpreter() {
    let args = vec![arg(0, "MASKED_EQ", 0xff00_0000_0000, 0x4200_0000_0000)];
    let rules = vec![returning(
        with(rule(&["getppid"], "SCMP_ACT_ERRNO"), args),
        55,
    )];
    let filter = Filter::compile(&profile("SCMP_ACT_ALLOW", &[], rules)).expect("compile");
    let status = in_child(|| {
        if filter.load().is_err() {
            return 1;
        }
        // SAFETY: getppid(2) ignores its arguments.
        let call = |arg: u64| unsafe { libc::syscall(libc::SYS_getppid, arg) };
        i32::from(call(0x4200_0000_0001) != -1) + i32::from(call(0x4300_0000_0000) == -1) * 2
    });
    assert_eq!(exited(status), Some(0));
}

#[test]
fn kill_and_trap_end_the_process_with_sigsys() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let rules = vec![rule(&["getppid"], action)];
        let filter = Filter::compile(&profile("SCMP_ACT_ALLOW", &[], rules)).expect("compile");
        let status = in_child(|| match filter.load() {
            Ok(_) => errno_of(libc::SYS_getppid),
            Err(_) => 1,
        });
        assert_eq!(signalled(status), Some(libc::SIGSYS), "{action}");
    }
}

#[test]
fn the_default_and_a_scattered_profile_are_taken_by_the_kernel() {
    for profile in [
        default_profile(&["CAP_SYS_ADMIN".to_owned()]),
        default_profile(&[]),
        scattered(),
    ] {
        let filter = Filter::compile(&profile).expect("compile");
        let status = in_child(|| match filter.load() {
            Ok(None) => 0,
            Err(Error::Load { errno, .. }) => errno.raw_os_error(),
            _ => 200,
        });
        assert_eq!(exited(status), Some(0));
    }
}

#[test]
fn every_flag_is_taken_by_the_kernel() {
    let flags = Some(FLAGS.iter().map(|flag| (*flag).to_owned()).collect());
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"] {
        let profile = profile("SCMP_ACT_ALLOW", &[], vec![rule(&["getppid"], action)]);
        let filter = Filter::compile(&Seccomp {
            flags: flags.clone(),
            ..profile
        })
        .expect("compile");
        let status = in_child(|| match filter.load() {
            Ok(listener) => i32::from(listener.is_some() != filter.notifies()),
            Err(Error::Load { errno, .. }) => errno.raw_os_error(),
            Err(_) => 200,
        });
        assert_eq!(exited(status), Some(0), "{action}");
    }
}

#[test]
fn a_notified_call_gets_the_answer_of_whoever_holds_the_listener() {
    let rules = vec![rule(&["getppid"], "SCMP_ACT_NOTIFY")];
    let filter = Filter::compile(&profile("SCMP_ACT_ALLOW", &[], rules)).expect("compile");
    let status = in_child(|| {
        let Ok(Some(listener)) = filter.load() else {
            return 1;
        };
        // SAFETY: as in `in_child`; the grandchild makes one call and leaves.
        match unsafe { libc::fork() } {
            0 => {
                let errno = errno_of(libc::SYS_getppid);
                // SAFETY: ends the forked grandchild without running anything else.
                unsafe { libc::_exit(errno) }
            }
            grandchild => serve_one(&listener, grandchild),
        }
    });
    assert_eq!(exited(status), Some(99));
}

/// Answers one notification with errno 99; returns the exit code of the process that got it.
fn serve_one(listener: &std::os::fd::OwnedFd, caller: i32) -> i32 {
    const RECV: libc::c_ulong = 0xc050_2100;
    const SEND: libc::c_ulong = 0xc018_2101;
    // SAFETY: an all-zero seccomp_notif is what SECCOMP_IOCTL_NOTIF_RECV requires.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request is a seccomp_notif, valid for the kernel's write.
    if unsafe { libc::ioctl(listener.as_raw_fd(), RECV as _, &raw mut request) } != 0 {
        return 2;
    }
    let mut response = libc::seccomp_notif_resp {
        id: request.id,
        val: 0,
        error: -99,
        flags: 0,
    };
    // SAFETY: the response is a seccomp_notif_resp, valid for the kernel's read.
    if unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw mut response) } != 0 {
        return 3;
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the write, and the caller is our child.
    unsafe { libc::waitpid(caller, &raw mut status, 0) };
    exited(status).unwrap_or(4)
}
