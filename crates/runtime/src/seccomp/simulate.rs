//! What a compiled filter says to one system call, without loading it: seccomp(2) reads classic BPF,
//! of which [`super::assembler`] writes a handful of instructions. Never runs on a container's input.

use libc::sock_filter;

use super::{Filter, arch};
use crate::sys;

/// SECCOMP_RET_ALLOW.
const ALLOW: u32 = 0x7fff_0000;
/// SECCOMP_RET_LOG.
const LOG: u32 = 0x7ffc_0000;
/// SECCOMP_RET_ERRNO, without its errno.
const ERRNO: u32 = 0x0005_0000;
/// The action of a verdict; the rest is data.
const ACTION: u32 = 0xffff_0000;

/// What a run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: u32,
    /// Instructions executed.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests count the steps of a decision")
    )]
    pub(super) steps: usize,
}

impl Filter {
    /// May a process under this filter make its successor ([`sys::clone_sibling`])?
    pub(crate) fn allows_successor(&self) -> bool {
        let verdict = |call: libc::c_long, args| {
            let number = u32::try_from(call).ok()?;
            let outcome = run(&self.program, arch::Arch::NATIVE.audit(), number, args)?;
            Some(outcome.verdict)
        };
        let allowed = |verdict: Option<u32>| matches!(verdict, Some(ALLOW | LOG));
        let clone3 = verdict(libc::SYS_clone3, [0; 6]);
        let refused = clone3.is_some_and(|verdict| verdict & ACTION == ERRNO);
        let flags = [sys::SUCCESSOR_FLAGS, 0, 0, 0, 0, 0];
        allowed(clone3) || refused && allowed(verdict(libc::SYS_clone, flags))
    }
}

/// Runs a program on one call; `None` where the kernel would refuse to load it.
pub(super) fn run(
    program: &[sock_filter],
    arch: u32,
    number: u32,
    args: [u64; 6],
) -> Option<Outcome> {
    let mut data = [0u8; 64];
    data[0..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (field, arg) in data[16..].chunks_exact_mut(8).zip(args) {
        field.copy_from_slice(&arg.to_ne_bytes());
    }
    let (mut at, mut a, mut steps) = (0usize, 0u32, 0usize);
    loop {
        // Jumps only go forward: this ends with the program.
        let sock_filter { code, jt, jf, k } = *program.get(at)?;
        steps += 1;
        at += 1;
        let branch = |truth: bool| usize::from(if truth { jt } else { jf });
        match code {
            0x20 => {
                let from = usize::try_from(k).ok().filter(|from| from % 4 == 0)?;
                a = u32::from_ne_bytes(data.get(from..from + 4)?.try_into().ok()?);
            }
            0x54 => a &= k,
            0x05 => at += usize::try_from(k).ok()?,
            0x15 => at += branch(a == k),
            0x25 => at += branch(a > k),
            0x35 => at += branch(a >= k),
            0x06 => return Some(Outcome { verdict: k, steps }),
            _ => return None,
        }
    }
}
