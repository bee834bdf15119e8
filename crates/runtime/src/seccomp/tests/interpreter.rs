//! A seccomp program run on one call, as strict as the kernel's checker.

use libc::sock_filter;

use super::super::simulate;
pub(super) use super::super::simulate::Outcome;

/// Runs a program on one call; panics where the kernel would refuse to load it.
pub(super) fn run(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> Outcome {
    simulate::run(program, arch, number, args).expect("a program that the kernel takes")
}
