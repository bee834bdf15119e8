//! Hostile input made from good input: a small mutator whose runs can be repeated.
//!
//! `FLOE_FUZZ_ROUNDS` multiplies the rounds, `FLOE_FUZZ_SEED` chooses others. A round that panics
//! prints its input before it fails the test. Included by path where it is needed.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code"
)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Numbers that look random and are the same in each run (xorshift64*).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What parsers stumble over.
const MORSELS: &[&[u8]] = &[
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b"/",
    b"..",
    b"../",
    b"//",
    b":",
    b"@",
    b"@sha256:",
    b",",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"\"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"1e999",
    b"true",
    b"%",
    b"<",
    b">",
    b"\xff",
    b"\xc3\x28",
    "\u{202e}".as_bytes(),
    "İ".as_bytes(),
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
];

/// One or a few changes.
pub fn mutate(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = numbers.of(corpus).clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let end = (at + numbers.below(16)).min(bytes.len());
        match numbers.below(8) {
            0 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << numbers.below(8);
            }
            1 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] = u8::try_from(numbers.below(256)).unwrap();
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => bytes.truncate(at),
            5 => {
                let other = numbers.of(corpus);
                let from = numbers.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let morsel = numbers.of(MORSELS).to_vec();
                bytes.splice(at..at, morsel);
            }
        }
    }
    bytes
}

pub fn seed() -> u64 {
    let seed = std::env::var("FLOE_FUZZ_SEED").ok();
    seed.map_or(1, |seed| seed.parse().expect("FLOE_FUZZ_SEED is a number"))
}

pub fn rounds(usual: usize) -> usize {
    let times = std::env::var("FLOE_FUZZ_ROUNDS").ok();
    usual
        * times.map_or(1, |times| {
            times.parse().expect("FLOE_FUZZ_ROUNDS is a number")
        })
}

/// Tries `usual` mutations of the corpus, and the corpus itself first.
pub fn run(usual: usize, corpus: &[&[u8]], mut test: impl FnMut(&[u8])) {
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|bytes| bytes.to_vec()).collect();
    let mut numbers = Numbers::new(seed());
    let mut round = |bytes: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(bytes))) {
            eprintln!("input: {}", bytes.escape_ascii());
            resume_unwind(panic);
        }
    };
    corpus.iter().for_each(|bytes| round(bytes));
    for _ in 0..rounds(usual) {
        round(&mutate(&mut numbers, &corpus));
    }
}
