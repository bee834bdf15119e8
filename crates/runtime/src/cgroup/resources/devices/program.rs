//! The eBPF program of a device policy (BPF_PROG_TYPE_CGROUP_DEVICE), assembled by hand: the
//! exceptions from the last to the first, then the default.
//!
//! The kernel calls it with the access, the type and the numbers of a node and refuses the access
//! if it returns 0 (`struct bpf_cgroup_dev_ctx`).

use super::rules::{Access, Policy, Rule};

/// `r2` to `r5` hold the type, the access, the major and the minor number; `r1` is scratch.
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 1;
const RESULT: u8 = 0;

/// `BPF_LDX | BPF_MEM | BPF_W`.
pub(super) const LOAD: u8 = 0x61;
/// `BPF_ALU | BPF_MOV | BPF_X`.
pub(super) const MOVE: u8 = 0xbc;
/// `BPF_ALU | BPF_MOV | BPF_K`.
pub(super) const SET: u8 = 0xb4;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u8 = 0x54;
/// `BPF_ALU | BPF_RSH | BPF_K`.
pub(super) const SHIFT: u8 = 0x74;
/// `BPF_JMP | BPF_JNE | BPF_K`.
pub(super) const JUMP_UNEQUAL: u8 = 0x55;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const JUMP_EQUAL: u8 = 0x15;
/// `BPF_JMP | BPF_EXIT`.
pub(super) const EXIT: u8 = 0x95;

/// `struct bpf_insn`: opcode, registers, offset, constant.
fn instruction(code: u8, destination: u8, source: u8, offset: u16, constant: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") {
        source << 4 | destination
    } else {
        destination << 4 | source
    };
    let mut bytes = [code, registers, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..8].copy_from_slice(&constant.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// Compiles a policy.
pub(super) fn compile(policy: &Policy) -> Vec<u64> {
    let mut program = vec![
        // The first word is the access above the type.
        instruction(LOAD, TYPE, SCRATCH, 0, 0),
        instruction(MOVE, ACCESS, TYPE, 0, 0),
        instruction(AND, TYPE, 0, 0, 0xffff),
        instruction(SHIFT, ACCESS, 0, 0, 16),
        instruction(LOAD, MAJOR, SCRATCH, 4, 0),
        instruction(LOAD, MINOR, SCRATCH, 8, 0),
    ];
    for rule in policy.exceptions.iter().rev() {
        program.extend(exception(rule));
    }
    program.extend(verdict(policy.default));
    program
}

fn verdict(allow: bool) -> [u64; 2] {
    [
        instruction(SET, RESULT, 0, 0, u32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// Returns the rule's verdict if it matches, else falls through to what follows.
fn exception(rule: &Rule) -> Vec<u64> {
    // (code, register, constant); the jumps leave the rule.
    let mut tests = vec![(JUMP_UNEQUAL, TYPE, rule.nodes.kind as u32)];
    if rule.access != Access::ALL {
        tests.push((MOVE, SCRATCH, 0));
        // An allowance must cover all of the access, a refusal only touch it.
        if rule.allow {
            tests.push((AND, SCRATCH, u32::from(Access::ALL.without(rule.access).0)));
            tests.push((JUMP_UNEQUAL, SCRATCH, 0));
        } else {
            tests.push((AND, SCRATCH, u32::from(rule.access.0)));
            tests.push((JUMP_EQUAL, SCRATCH, 0));
        }
    }
    tests.extend(rule.nodes.major.map(|major| (JUMP_UNEQUAL, MAJOR, major)));
    tests.extend(rule.nodes.minor.map(|minor| (JUMP_UNEQUAL, MINOR, minor)));
    let verdict = verdict(rule.allow);
    let end = tests.len() + verdict.len();
    let placed = tests
        .iter()
        .enumerate()
        .map(|(at, (code, register, constant))| match *code {
            MOVE => instruction(MOVE, *register, ACCESS, 0, 0),
            AND => instruction(AND, *register, 0, 0, *constant),
            // At most nine instructions a rule.
            jump => instruction(jump, *register, 0, (end - at - 1) as u16, *constant),
        });
    placed.chain(verdict).collect()
}
