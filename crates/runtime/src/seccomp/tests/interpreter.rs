//! A classic BPF interpreter for seccomp programs, as strict as the kernel's checker.

use libc::sock_filter;

/// What a run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: u32,
    /// Instructions executed.
    pub(super) steps: usize,
}

/// Runs a program on one call; panics where the kernel would refuse to load it.
pub(super) fn run(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> Outcome {
    let mut data = [0u8; 64];
    data[0..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (i, arg) in args.iter().enumerate() {
        data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_ne_bytes());
    }
    let (mut at, mut a, mut steps) = (0usize, 0u32, 0usize);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        steps += 1;
        at += 1;
        let branch = |truth: bool| usize::from(if truth { jt } else { jf });
        match code {
            0x20 => {
                assert!(k % 4 == 0 && k < 64, "load at {k}");
                let k = k as usize;
                a = u32::from_ne_bytes(data[k..k + 4].try_into().expect("four bytes"));
            }
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(a == k),
            0x25 => at += branch(a > k),
            0x35 => at += branch(a >= k),
            0x06 => return Outcome { verdict: k, steps },
            code => panic!("instruction {code:#x}"),
        }
    }
}
