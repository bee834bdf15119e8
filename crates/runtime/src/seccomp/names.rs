//! System call names to numbers, per architecture.
//!
//! The tables are hashed at compile time: a profile of 400 names is looked up for three
//! architectures at every container start, and a start has no time for 1200 searches.

use super::arch::Arch;

/// Twice the number of system calls of any architecture, rounded up to a power of two, so that
/// probes stay short.
const SLOTS: usize = 1024;

/// Open-addressed hash table; a slot holds a number plus one, 0 is free.
type Table = [u16; SLOTS];

/// A name with its hash: computed once, looked up in the tables of every architecture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    hash: usize,
}

impl<'a> Name<'a> {
    pub(super) fn new(text: &'a str) -> Name<'a> {
        Name {
            text,
            hash: hash(text.as_bytes()),
        }
    }
}

/// FNV-1a: short, good enough for names that are not hostile, and possible at compile time.
const fn hash(name: &[u8]) -> usize {
    let mut state: u32 = 0x811c_9dc5;
    let mut i = 0;
    while i < name.len() {
        state = (state ^ name[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (state ^ (state >> 15)) as usize
}

/// A short list of names, hashed at compile time as well.
#[derive(Debug)]
pub(super) struct List<const N: usize> {
    names: [&'static str; N],
    /// A slot holds an index plus one, 0 is free.
    slots: [u8; 256],
}

impl<const N: usize> List<N> {
    pub(super) const fn new(names: [&'static str; N]) -> List<N> {
        assert!(N < 128);
        let mut slots = [0; 256];
        let mut i = 0;
        while i < N {
            let mut slot = hash(names[i].as_bytes()) % 256;
            while slots[slot] != 0 {
                slot = (slot + 1) % 256;
            }
            slots[slot] = i as u8 + 1;
            i += 1;
        }
        List { names, slots }
    }

    /// The index of a name.
    pub(super) fn position(&self, name: Name<'_>) -> Option<usize> {
        let mut slot = name.hash % 256;
        while self.slots[slot] != 0 {
            let index = usize::from(self.slots[slot] - 1);
            if self.names[index] == name.text {
                return Some(index);
            }
            slot = (slot + 1) % 256;
        }
        None
    }
}

macro_rules! table {
    ($arch:ident) => {{
        const TABLE: Table = {
            let mut table = [0; SLOTS];
            let last = syscalls::$arch::Sysno::last().id() as usize;
            assert!(last < u16::MAX as usize);
            let mut number = 0;
            while number <= last {
                if let Some(call) = syscalls::$arch::Sysno::new(number) {
                    let mut slot = hash(call.name().as_bytes()) % SLOTS;
                    while table[slot] != 0 {
                        slot = (slot + 1) % SLOTS;
                    }
                    table[slot] = number as u16 + 1;
                }
                number += 1;
            }
            table
        };
        static STORED: Table = TABLE;
        (&STORED, |number| {
            syscalls::$arch::Sysno::new(number).map(|call| call.name())
        })
    }};
}

/// The table of an architecture and the way back from number to name.
fn table(arch: Arch) -> (&'static Table, fn(usize) -> Option<&'static str>) {
    match arch {
        Arch::X86_64 | Arch::X32 => table!(x86_64),
        Arch::X86 => table!(x86),
        Arch::Aarch64 => table!(aarch64),
        Arch::Arm => table!(arm),
    }
}

/// The number of `name` in the architecture's own table, without the additions of
/// [`Arch::numbers`].
pub(super) fn number(arch: Arch, name: Name<'_>) -> Option<u32> {
    let (table, name_of) = table(arch);
    let mut slot = name.hash % SLOTS;
    while table[slot] != 0 {
        let number = usize::from(table[slot] - 1);
        if name_of(number) == Some(name.text) {
            return u32::try_from(number).ok();
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

/// The name of a call of an architecture's own table.
pub(super) fn of_number(arch: Arch, number: u32) -> Option<&'static str> {
    let (_, name_of) = table(arch);
    name_of(usize::try_from(number).ok()?)
}

/// The name as the table of this program's architecture has it, if it is there.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    let number = number(Arch::NATIVE, Name::new(name))?;
    let (_, name_of) = table(Arch::NATIVE);
    name_of(usize::try_from(number).ok()?)
}
