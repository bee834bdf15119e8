//! config-linux.md, seccomp, as a container's program meets it. The compiler itself is tested in
//! the runtime library.

use crate::support::Lab;
use serde_json::{Value, json};

fn lab(profile: Value) -> Lab {
    let mut lab = Lab::new();
    lab.config["linux"]["seccomp"] = profile;
    lab
}

/// Denies what engines deny by default, by a list of what is allowed that busybox needs.
fn default_like() -> Value {
    let allowed = [
        "access",
        "arch_prctl",
        "brk",
        "capget",
        "capset",
        "chdir",
        "chmod",
        "clone",
        "clone3",
        "close",
        "close_range",
        "connect",
        "dup",
        "dup2",
        "dup3",
        "execve",
        "exit",
        "exit_group",
        "faccessat",
        "faccessat2",
        "fchdir",
        "fchown",
        "fcntl",
        "fork",
        "fstat",
        "fstatfs",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getpgrp",
        "getpid",
        "getppid",
        "getrandom",
        "gettid",
        "getuid",
        "ioctl",
        "kill",
        "lseek",
        "lstat",
        "mkdir",
        "mmap",
        "mprotect",
        "munmap",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "pipe",
        "pipe2",
        "poll",
        "prctl",
        "prlimit64",
        "read",
        "readlink",
        "readlinkat",
        "recvfrom",
        "recvmsg",
        "accept",
        "accept4",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "seccomp",
        "sendmsg",
        "sendto",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setresgid",
        "setresuid",
        "setuid",
        "sigaltstack",
        "stat",
        "statx",
        "umask",
        "uname",
        "unlink",
        "vfork",
        "wait4",
        "write",
        "writev",
        "getsockname",
        "setsid",
        "fadvise64",
        "nanosleep",
        "clock_nanosleep",
        "pread64",
    ];
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{ "names": allowed.as_slice(), "action": "SCMP_ACT_ALLOW" }],
    })
}

#[test]
fn under_a_profile_like_the_engines_default_programs_run_and_the_rest_is_denied() {
    needs_host!();
    for no_new_privileges in [true, false] {
        let mut lab = lab(default_like());
        lab.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let out = lab
            .prints("ls / | head -1; mount -t tmpfs x /tmp 2>&1; grep ^Seccomp: /proc/self/status");
        let want = "bin\nmount: permission denied (are you root?)\nSeccomp:\t2\n";
        assert_eq!(out, want, "no_new_privs {no_new_privileges}");
        lab.sleeper("c");
        assert_eq!(lab.call(&["exec", "c", "sh", "-c", "echo in"]).ok(), "in\n");
    }
}

#[test]
fn a_denied_call_gets_the_errno_asked_for() {
    needs_host!();
    let mut lab = lab(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }],
    }));
    assert_eq!(
        lab.prints("mkdir /x 2>&1; true"),
        "mkdir: can't create directory '/x': No space left on device\n"
    );
}

#[test]
fn a_call_may_cost_the_process_its_life() {
    needs_host!();
    let mut lab = lab(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }],
    }));
    assert_eq!(lab.prints("mkdir /x; echo $?"), "159\n");
    lab.config["process"]["args"] = json!(["mkdir", "/x"]);
    assert_eq!(lab.run().code, 159);
}

#[test]
fn arguments_of_a_call_decide_too() {
    needs_host!();
    // kill(2) with signal 10 only.
    let mut lab = lab(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
            "args": [{ "index": 1, "value": 10, "op": "SCMP_CMP_EQ" }],
        }],
    }));
    let out = lab.prints(
        "sleep 100 & kill -0 $! && echo zero; kill -10 $! 2>/dev/null || echo denied; kill $!",
    );
    assert_eq!(out, "zero\ndenied\n");
}

#[test]
fn a_call_that_the_profile_does_not_know_of_yet_does_not_exist() {
    needs_host!();
    let mut lab = lab(default_like());
    // busybox's own calls are all known; the filter's answer for new ones is the library's to test.
    assert_eq!(lab.prints("echo works"), "works\n");
    lab.config["linux"]["seccomp"]["syscalls"][0]["names"]
        .as_array_mut()
        .unwrap()
        .push(json!("no_such_call_yet"));
    assert_eq!(lab.prints("echo works"), "works\n");
}

#[test]
fn a_profile_that_is_none_is_refused_by_name() {
    needs_host!();
    for (profile, words) in [
        (
            json!({ "defaultAction": "SCMP_ACT_SHRUG" }),
            "SCMP_ACT_SHRUG",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"] }),
            "SCMP_ARCH_PDP11",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "linux.seccomp",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] }),
            "linux.seccomp",
        ),
    ] {
        let lab = lab(profile);
        lab.run().fails(words);
        lab.is_clean().unwrap();
    }
}
