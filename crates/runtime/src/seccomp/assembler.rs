//! Assembler for classic BPF: instructions are pushed last first, so that every jump target is
//! already placed when the jump is made, and long jumps take care of themselves.
//!
//! Knows nothing of seccomp profiles; see linux/Documentation/networking/filter.rst.

use libc::sock_filter;

/// Index of an instruction in the reversed program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Comparisons of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// `BPF_LD | BPF_W | BPF_ABS`.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
pub(super) const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

impl Test {
    /// `BPF_JMP | BPF_J.. | BPF_K`.
    pub(super) fn code(self) -> u16 {
        match self {
            Test::Equal => 0x15,
            Test::Greater => 0x25,
            Test::GreaterOrEqual => 0x35,
        }
    }
}

/// The farthest a conditional jump reaches.
const REACH: usize = u8::MAX as usize;

/// A program under construction, from its end to its beginning.
pub(super) struct Assembler {
    reversed: Vec<sock_filter>,
    /// The latest place of each return value, to be shared while it is in reach.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    /// One for a program of about so many instructions.
    pub(super) fn for_about(length: usize) -> Self {
        Self {
            reversed: Vec::with_capacity(length),
            returns: Vec::new(),
        }
    }

    /// `A = *(u32 *)(data + offset)`.
    pub(super) fn load(&mut self, offset: u32) -> Label {
        self.push(LOAD, 0, 0, offset)
    }

    /// `A &= mask`.
    pub(super) fn and(&mut self, mask: u32) -> Label {
        self.push(AND, 0, 0, mask)
    }

    /// `return value`, shared with an earlier one if a conditional jump from here reaches it.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        let near = |label: &Label| self.reversed.len() - label.0 < REACH - 1;
        if let Some((_, label)) = self
            .returns
            .iter()
            .find(|(v, label)| *v == value && near(label))
        {
            return *label;
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.retain(|(v, _)| *v != value);
        self.returns.push((value, label));
        label
    }

    /// `if A <test> k goto on_true else goto on_false`.
    pub(super) fn branch(&mut self, test: Test, k: u32, on_true: Label, on_false: Label) -> Label {
        // The second push moves everything one further, hence the margin of one on the first.
        let on_false = self.within(on_false, REACH - 1);
        let on_true = self.within(on_true, REACH);
        let (on_true, on_false) = (self.distance(on_true), self.distance(on_false));
        let short = |distance: usize| u8::try_from(distance).unwrap_or(u8::MAX);
        debug_assert!(on_true <= REACH && on_false <= REACH);
        self.push(test.code(), short(on_true), short(on_false), k)
    }

    /// A place that continues at `target` when control falls through from the instruction that is
    /// pushed next; nothing is emitted if `target` is that place already.
    pub(super) fn fall_to(&mut self, target: Label) -> Label {
        self.within(target, 0)
    }

    /// The finished program, first instruction first.
    pub(super) fn finish(mut self) -> Vec<sock_filter> {
        self.reversed.reverse();
        self.reversed
    }

    /// `target`, or an unconditional jump to it if it is farther than `reach`.
    fn within(&mut self, target: Label, reach: usize) -> Label {
        match self.distance(target) {
            distance if distance <= reach => target,
            distance => self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX)),
        }
    }

    /// Instructions between the one pushed next and `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target.0 - 1
    }

    fn push(&mut self, code: u16, on_true: u8, on_false: u8, k: u32) -> Label {
        self.reversed.push(sock_filter {
            code,
            jt: on_true,
            jf: on_false,
            k,
        });
        Label(self.reversed.len() - 1)
    }
}
