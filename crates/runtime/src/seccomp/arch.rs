//! The architectures a process on this kernel can make system calls with: their audit numbers,
//! their numbering quirks (x32's bit, Arm's private calls, i386's multiplexers).
//!
//! A kernel runs one family only, so a profile's entries for other families can never match and
//! are not compiled (runtime-spec config-linux.md, "seccomp.architectures").

use super::Error;
use super::names::{self, List, Name};

/// Set in every x32 system call number.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// First of the x32 calls that differ from x86_64 (`linux/arch/x86/entry/syscalls`).
const X32_PRIVATE: u32 = 512;
/// How many of them there are.
const X32_COUNT: u32 = 36;
/// First of Arm's private calls (`__ARM_NR_BASE`).
const ARM_PRIVATE: u32 = 0x000f_0000;

/// The x32 calls with numbers of their own, in order from [`X32_PRIVATE`].
static X32_NAMES: List<36> = List::new([
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
]);

const ARM_NAMES: [(&str, u32); 6] = [
    ("breakpoint", ARM_PRIVATE + 1),
    ("cacheflush", ARM_PRIVATE + 2),
    ("usr26", ARM_PRIVATE + 3),
    ("usr32", ARM_PRIVATE + 4),
    ("set_tls", ARM_PRIVATE + 5),
    ("get_tls", ARM_PRIVATE + 6),
];

/// i386 calls that can also be made through `socketcall`, whose selectors count from 1, and then
/// those that can be made through `ipc`.
static MULTIPLEXED: List<32> = List::new([
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
    "semop",
    "semget",
    "semctl",
    "semtimedop",
    "msgsnd",
    "msgrcv",
    "msgget",
    "msgctl",
    "shmat",
    "shmdt",
    "shmget",
    "shmctl",
]);
/// How many of [`MULTIPLEXED`] are socket calls.
const SOCKET_CALLS: usize = 20;
/// The selectors of the others.
const IPC_SELECTORS: [u64; 12] = [1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24];

/// The architectures the specification names that belong to families not compiled in.
const FOREIGN: [&str; 15] = [
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390X",
];

/// A system call interface with numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
}

impl Arch {
    /// Every architecture of the specification that has a number table here.
    pub(super) const ALL: [Arch; 5] =
        [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm];

    /// The architecture this program runs on.
    #[cfg(target_arch = "x86_64")]
    pub(super) const NATIVE: Arch = Arch::X86_64;
    /// The architecture this program runs on.
    #[cfg(target_arch = "aarch64")]
    pub(super) const NATIVE: Arch = Arch::Aarch64;

    /// Name in the specification.
    pub(super) fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// Reads a name of the specification; `None` for one whose calls this kernel cannot receive.
    pub(super) fn parse(name: &str) -> Result<Option<Arch>, Error> {
        if let Some(arch) = Arch::ALL.into_iter().find(|arch| arch.name() == name) {
            return Ok(Some(arch));
        }
        if FOREIGN.contains(&name) || name == "SCMP_ARCH_S390" {
            return Ok(None);
        }
        Err(Error::UnknownArchitecture {
            name: name.to_owned(),
        })
    }

    /// The architectures that a process of a kernel running `self` can use, itself first.
    pub(super) fn family(self) -> &'static [Arch] {
        match self {
            Arch::X86_64 | Arch::X32 | Arch::X86 => &[Arch::X86_64, Arch::X32, Arch::X86],
            Arch::Aarch64 | Arch::Arm => &[Arch::Aarch64, Arch::Arm],
        }
    }

    /// `seccomp_data.arch` (AUDIT_ARCH_*). x32 shares x86_64's.
    pub(super) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits that matter.
    pub(super) fn wide(self) -> bool {
        !matches!(self, Arch::X86 | Arch::Arm)
    }

    /// The numbers `name` has. Two on x32: a kernel may answer a call by its x86_64 number with
    /// the bit as well, so a rule must hold for both.
    pub(super) fn numbers(self, name: Name<'_>) -> impl Iterator<Item = u32> {
        let common = names::number(self, name);
        let (first, second) = match self {
            Arch::X32 => {
                let private = X32_NAMES.position(name);
                let private = private
                    .and_then(|i| u32::try_from(i).ok())
                    .map(|i| X32_PRIVATE + i);
                (common.map(|n| n | X32_BIT), private.map(|n| n | X32_BIT))
            }
            Arch::Arm => {
                let private = ARM_NAMES.iter().find(|(known, _)| *known == name.text);
                (common, private.map(|(_, number)| *number))
            }
            Arch::X86_64 | Arch::X86 | Arch::Aarch64 => (common, None),
        };
        first.into_iter().chain(second)
    }

    /// The multiplexer through which `name` can be called as well, and its selector (argument 0).
    pub(super) fn multiplexed(self, name: Name<'_>) -> Option<(Name<'static>, u64)> {
        if self != Arch::X86 {
            return None;
        }
        let index = MULTIPLEXED.position(name)?;
        match index.checked_sub(SOCKET_CALLS) {
            None => Some((Name::new("socketcall"), index as u64 + 1)),
            Some(index) => Some((Name::new("ipc"), IPC_SELECTORS[index])),
        }
    }

    /// The first number of this architecture.
    pub(super) fn base(self) -> u32 {
        if self == Arch::X32 { X32_BIT } else { 0 }
    }

    /// The range of numbers outside the growing common table: new system calls never land there.
    pub(super) fn private(self) -> Option<std::ops::Range<u32>> {
        match self {
            Arch::X32 => Some(X32_BIT + X32_PRIVATE..X32_BIT + X32_PRIVATE + X32_COUNT),
            Arch::Arm => Some(ARM_PRIVATE..ARM_PRIVATE + 0x1_0000),
            Arch::X86_64 | Arch::X86 | Arch::Aarch64 => None,
        }
    }
}
