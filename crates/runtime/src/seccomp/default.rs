//! The RuntimeDefault profile: what a container may call when nobody says otherwise.
//!
//! An allow-list of what ordinary programs need and the kernel guards well, in the spirit of what
//! Docker and containerd have shipped for years. What it refuses on purpose answers EPERM; all
//! else, calls yet to be invented included, answers ENOSYS, so that a C library falls back to an
//! older call. It must never allow what can change the mounts, namespaces, clock, keys or modules
//! of the host unless the container was given the capability that the kernel asks for.

use std::borrow::Cow;

use rustix::io::Errno;

use super::architectures;
use crate::capability::{self, Set};
use crate::spec::{Seccomp, SeccompArg, SeccompSyscall};

/// Allowed to everybody. Names of all architectures; those without such a call skip the name.
const ALLOWED: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64
    arm_sync_file_range bind breakpoint brk cachestat cacheflush capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod
    fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr
    file_setattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv
    futex_wake futimesat get_robust_list get_thread_area get_tls getcpu getcwd getdents getdents64
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
    io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules
    lsm_set_self_attr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
    mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
    pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6
    pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv
    recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename
    renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid
    setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid
    setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat
    uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
    writev";

/// Refused with EPERM whatever the capabilities: no container has business with these.
const REFUSED: &str = "
    _sysctl add_key bdflush get_kernel_syms kexec_file_load kexec_load keyctl
    migrate_pages move_pages nfsservctl oldfstat oldlstat oldolduname oldstat olduname
    request_key sgetmask ssetmask swapoff swapon sysfs uselib userfaultfd ustat vm86 vm86old";

/// Allowed with any one of the capabilities, else refused with EPERM.
const GUARDED: [(&[&str], &str); 14] = [
    (
        &["SYS_ADMIN"],
        "fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
         open_tree open_tree_attr pivot_root quotactl quotactl_fd setdomainname sethostname setns
         umount umount2 unshare",
    ),
    (&["SYS_ADMIN", "BPF"], "bpf"),
    (&["SYS_ADMIN", "PERFMON"], "perf_event_open"),
    (&["SYS_ADMIN", "SYSLOG"], "syslog"),
    (&["DAC_READ_SEARCH"], "open_by_handle_at"),
    (&["SYS_BOOT"], "reboot"),
    (&["SYS_CHROOT"], "chroot"),
    (
        &["SYS_MODULE"],
        "create_module delete_module finit_module init_module query_module",
    ),
    (
        &["SYS_NICE"],
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (&["SYS_PACCT"], "acct"),
    (&["SYS_PTRACE"], "kcmp pidfd_getfd process_madvise"),
    (&["SYS_RAWIO"], "ioperm iopl"),
    (
        &["SYS_TIME"],
        "clock_settime clock_settime64 settimeofday stime",
    ),
    (&["SYS_TTY_CONFIG"], "vhangup"),
];

/// Namespace flags of clone(2): CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET.
const NAMESPACE_FLAGS: [u64; 7] = [
    0x0002_0000,
    0x0200_0000,
    0x0400_0000,
    0x0800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
];

/// personality(2) values that only change what uname(2) and the address layout say; the last asks
/// for the present one.
const PERSONALITIES: [u64; 5] = [0, 8, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// Sockets of these families reach past every namespace: to the hypervisor, and to the kernel's ciphers,
/// by which containers have come to write to each other's files (CVE-2026-31431). A library without ciphers
/// of the kernel has its own. i386's `socketcall` hides the family behind a pointer, so no socket is made
/// by it.
const REFUSED_FAMILIES: [(u64, Errno); 2] = [(AF_VSOCK, Errno::PERM), (AF_ALG, Errno::AFNOSUPPORT)];
const AF_VSOCK: u64 = 40;
const AF_ALG: u64 = 38;

/// Masks and values: every family of which there is one, but for those that are refused, has one of them.
const OTHER_FAMILIES: [(u64, u64); 7] = [
    (0b10_0000, 0),
    (0b00_0001, 0b00_0001),
    (0b01_0000, 0b01_0000),
    (0b00_1100, 0),
    (0b00_1100, 0b00_1100),
    (0b00_0110, 0b00_0010),
    (0b00_0110, 0b00_0100),
];

/// The kernel looks at the low half of an argument that is an int.
const INT: u64 = 0xffff_ffff;

const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";
const EQUAL: &str = "SCMP_CMP_EQ";
const MASKED: &str = "SCMP_CMP_MASKED_EQ";

/// The RuntimeDefault profile for a container whose bounding set holds `capabilities` (names as
/// the specification or CRI writes them; unknown ones grant nothing).
pub fn default_profile(capabilities: &[String]) -> Seccomp {
    let held = Set::of(
        capabilities
            .iter()
            .filter_map(|name| capability::number(name)),
    );
    let holds = |names: &[&str]| {
        names
            .iter()
            .filter_map(|n| capability::number(n))
            .any(|n| held.contains(n))
    };
    let mut allowed = words(ALLOWED);
    let mut refused = words(REFUSED);
    for (needed, calls) in GUARDED {
        if holds(needed) {
            &mut allowed
        } else {
            &mut refused
        }
        .extend(words(calls));
    }
    let mut rules = Vec::new();
    if holds(&["SYS_ADMIN"]) {
        allowed.extend(words("clone clone3"));
    } else {
        // clone3 passes its flags behind a pointer: it answers ENOSYS and libc takes clone.
        rules.extend(clone_without_namespaces());
    }
    rules.extend(PERSONALITIES.map(|value| when("personality", ALLOW, (0, EQUAL, value, 0))));
    let refused_families = REFUSED_FAMILIES.map(|(family, code)| SeccompSyscall {
        errno_ret: Some(errno(code)),
        ..when("socket", ERRNO, (0, MASKED, INT, family))
    });
    rules.extend(refused_families);
    // All others; a rule without a condition would win over those before.
    rules.push(when("socket", ALLOW, (0, MASKED, 0, 0)));
    let plain = |names, action: &str, errno_ret| SeccompSyscall {
        names,
        action: action.to_owned(),
        errno_ret,
        ..SeccompSyscall::default()
    };
    let lists = [
        plain(allowed, ALLOW, None),
        plain(refused, ERRNO, Some(errno(Errno::PERM))),
    ];
    Seccomp {
        default_action: ERRNO.to_owned(),
        default_errno_ret: Some(errno(Errno::NOSYS)),
        architectures: architectures().map(str::to_owned).collect(),
        syscalls: lists.into_iter().chain(rules).collect(),
        ..Seccomp::default()
    }
}

/// The same for a program that compiles profiles by libseccomp, as runc and crun do. That takes i386's `socketcall`
/// for socket(2) itself, and refuses a profile that has two answers to it (EEXIST). So the refused families have no
/// rule there, and are answered as what is not known (ENOSYS); what `socketcall` hides it lets through.
pub fn default_profile_for_libseccomp(capabilities: &[String]) -> Seccomp {
    let mut profile = default_profile(capabilities);
    profile
        .syscalls
        .retain(|rule| !rule.names.iter().any(|name| name == "socket"));
    let others =
        OTHER_FAMILIES.map(|(mask, value)| when("socket", ALLOW, (0, MASKED, mask, value)));
    profile.syscalls.extend(others);
    profile
}

/// clone(2) is allowed without any namespace flag and refused with one.
fn clone_without_namespaces() -> impl Iterator<Item = SeccompSyscall> {
    let all = NAMESPACE_FLAGS.iter().fold(0, |all, flag| all | flag);
    let refusals = NAMESPACE_FLAGS.map(|flag| refuse_when("clone", (0, MASKED, flag, flag)));
    std::iter::once(when("clone", ALLOW, (0, MASKED, all, 0))).chain(refusals)
}

/// Argument index, operator, value, second value.
type Arg = (u32, &'static str, u64, u64);

fn when(name: &'static str, action: &str, (index, op, value, value_two): Arg) -> SeccompSyscall {
    SeccompSyscall {
        names: vec![Cow::Borrowed(name)],
        action: action.to_owned(),
        args: vec![SeccompArg {
            index,
            value,
            value_two,
            op: op.to_owned(),
        }],
        ..SeccompSyscall::default()
    }
}

fn refuse_when(name: &'static str, arg: Arg) -> SeccompSyscall {
    SeccompSyscall {
        errno_ret: Some(errno(Errno::PERM)),
        ..when(name, ERRNO, arg)
    }
}

fn errno(errno: Errno) -> u32 {
    errno.raw_os_error().unsigned_abs()
}

fn words(text: &'static str) -> Vec<Cow<'static, str>> {
    text.split_ascii_whitespace().map(Cow::Borrowed).collect()
}
