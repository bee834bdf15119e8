//! From a parsed profile to a BPF program.
//!
//! The system call numbers of an architecture are cut into intervals with one answer each, and a
//! binary tree finds the interval: neighbours with the same answer cost nothing, so a profile of
//! 400 calls is about 7 comparisons deep. Arguments are loaded only in the answers that need
//! them, which lets the kernel cache the others in its own bitmap of always-allowed calls.

use super::arch::{Arch, X32_BIT};
use super::assembler::{Assembler, Label, Test};
use super::profile::{Compare, Condition, Profile, Rule, Verdict};
use super::{Error, Filter, load};

/// BPF_MAXINSNS.
const MAX_LENGTH: usize = 4096;
/// As many instructions, and calls of an architecture, as a profile such as the default has.
const TYPICAL: usize = 512;
/// Offset of `nr` in `struct seccomp_data`.
const NUMBER: u32 = 0;
/// Offset of `arch` in `struct seccomp_data`.
const ARCH: u32 = 4;
/// Offset of `args` in `struct seccomp_data`.
const ARGS: u32 = 16;

/// What the filter answers to one or more system call numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer<'p> {
    Plain(Verdict),
    /// Tried in order; the profile's default if none matches.
    Depends(Vec<Case<'p>>),
}

/// A rule that looks at arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case<'p> {
    When(&'p [Condition], Verdict),
    /// A multiplexer (i386 socketcall, ipc) called with this selector.
    Selected(u64, Verdict),
}

/// One rule that applies to one number.
struct Call<'p> {
    number: u32,
    rule: &'p Rule<'p>,
    selector: Option<u64>,
    /// Its place in the profile.
    place: u32,
}

/// Intervals by their first number, ascending; each ends where the next begins.
type Intervals<'p> = Vec<(u32, Answer<'p>)>;

/// Compiles a profile; see [`Filter::compile`].
pub(super) fn compile(profile: &Profile<'_>) -> Result<Filter, Error> {
    let mut out = Assembler::for_about(TYPICAL);
    let mut calls = Vec::with_capacity(TYPICAL);
    let mut next = out.ret(Verdict::KILL_PROCESS.0);
    // Emitted backwards: the native architecture, first in the list, is tested first.
    for arch in profile
        .architectures
        .iter()
        .rev()
        .filter(|arch| **arch != Arch::X32)
    {
        let intervals = intervals_of(profile, *arch, &mut calls);
        let entry = tree(&mut out, profile, *arch, &intervals);
        out.fall_to(entry);
        let body = out.load(NUMBER);
        next = out.branch(Test::Equal, arch.audit(), body, next);
    }
    out.fall_to(next);
    out.load(ARCH);
    let program = out.finish();
    if program.len() > MAX_LENGTH {
        return Err(Error::TooLong {
            length: program.len(),
            max: MAX_LENGTH,
        });
    }
    Ok(Filter {
        program,
        flags: load_flags(profile),
    })
}

/// The profile's flags, with those that notification needs and without those it alone allows.
fn load_flags(profile: &Profile<'_>) -> u64 {
    if !profile.rules.iter().any(Rule::notifies) {
        return profile.flags & !load::WAIT_KILLABLE_RECV;
    }
    let flags = profile.flags | load::NEW_LISTENER;
    // With a listener, TSYNC must report a failure by errno: the result is the descriptor.
    if flags & load::TSYNC != 0 {
        flags | load::TSYNC_ESRCH
    } else {
        flags
    }
}

/// The answers to every number of an audit architecture (x32 lives inside x86_64). What is in `calls` is
/// of another one, and its memory is used again.
fn intervals_of<'p>(
    profile: &'p Profile<'p>,
    arch: Arch,
    calls: &mut Vec<Call<'p>>,
) -> Intervals<'p> {
    let mut of = |arch| {
        let newest = calls_of(profile, arch, calls);
        overlay(&gaps(profile, arch, newest), answers(calls))
    };
    let mut intervals = of(arch);
    if arch == Arch::X86_64 {
        if profile.architectures.contains(&Arch::X32) {
            intervals.extend(of(Arch::X32));
        } else {
            intervals.push((X32_BIT, Answer::Plain(Verdict::KILL_PROCESS)));
        }
        // A tracer writes -1 to skip a call; that is no x32 call.
        push(&mut intervals, u32::MAX, Answer::Plain(profile.default));
    }
    intervals
}

/// The rules of a profile by the numbers they have on one architecture; rules for one number stay in the
/// profile's order. Returns the newest system call that the profile names, even if only to say what the
/// default says.
fn calls_of<'p>(profile: &'p Profile<'p>, arch: Arch, calls: &mut Vec<Call<'p>>) -> Option<u32> {
    calls.clear();
    let private = arch.private().unwrap_or(0..0);
    let mut newest = None;
    for (place, rule) in (0..).zip(&profile.rules) {
        // A rule that says what the default says would only be in the way of others.
        let counts = rule.verdict != profile.default;
        let call = |selector| {
            move |number| Call {
                number,
                rule,
                selector,
                place,
            }
        };
        for name in &rule.names {
            for number in arch.numbers(*name) {
                newest = newest.max(Some(number).filter(|number| !private.contains(number)));
            }
            if !counts {
                continue;
            }
            calls.extend(arch.numbers(*name).map(call(None)));
            // The selected call's arguments are behind a pointer: only plain rules carry over.
            if let Some((multiplexer, selector)) = arch.multiplexed(*name)
                && rule.alternatives.is_empty()
            {
                calls.extend(arch.numbers(multiplexer).map(call(Some(selector))));
            }
        }
    }
    calls.sort_unstable_by_key(|call| (call.number, call.place, call.selector));
    newest
}

/// One answer per number that a rule names: a rule without conditions wins over those with, the earlier
/// over the later.
fn answers<'p>(calls: &[Call<'p>]) -> impl Iterator<Item = (u32, Answer<'p>)> {
    let plain = |call: &&Call<'p>| call.selector.is_none() && call.rule.alternatives.is_empty();
    let answer = move |same: &[Call<'p>]| match same.iter().find(plain) {
        Some(call) => Answer::Plain(call.rule.verdict),
        None => Answer::Depends(same.iter().flat_map(cases).collect()),
    };
    let by_number = calls.chunk_by(|a, b| a.number == b.number);
    by_number.map(move |same| (same[0].number, answer(same)))
}

fn cases<'p>(call: &Call<'p>) -> impl Iterator<Item = Case<'p>> + use<'p> {
    let verdict = call.rule.verdict;
    let selected = call
        .selector
        .map(|selector| Case::Selected(selector, verdict));
    let when = call
        .rule
        .alternatives
        .iter()
        .map(move |all| Case::When(all, verdict));
    selected.into_iter().chain(when)
}

/// The answers to numbers that no rule names: the default, but ENOSYS for calls newer than any
/// the profile knows, if the default would refuse them in a way that programs take for final.
fn gaps(profile: &Profile<'_>, arch: Arch, newest: Option<u32>) -> Vec<(u32, Verdict)> {
    let mut gaps = vec![(arch.base(), profile.default)];
    let Some(newest) = newest.filter(|_| !profile.default.permissive()) else {
        return gaps;
    };
    gaps.push((newest + 1, Verdict::enosys()));
    if let Some(private) = arch.private() {
        gaps.push((private.start, profile.default));
        gaps.push((private.end, Verdict::enosys()));
    }
    gaps
}

/// Lays single answers over the gaps' answers and joins equal neighbours.
fn overlay<'p>(
    gaps: &[(u32, Verdict)],
    answers: impl Iterator<Item = (u32, Answer<'p>)>,
) -> Intervals<'p> {
    let mut out = Vec::with_capacity(TYPICAL / 4);
    let mut gaps = gaps.iter().copied().peekable();
    let mut current = None;
    for (number, answer) in answers {
        while let Some((start, verdict)) = gaps.next_if(|(start, _)| *start <= number) {
            current = Some(verdict);
            push(&mut out, start, Answer::Plain(verdict));
        }
        push(&mut out, number, answer);
        if let (Some(verdict), Some(after)) = (current, number.checked_add(1)) {
            push(&mut out, after, Answer::Plain(verdict));
        }
    }
    for (start, verdict) in gaps {
        push(&mut out, start, Answer::Plain(verdict));
    }
    out
}

/// Appends an interval; one that starts at the same number is replaced, an equal one continued.
fn push<'p>(intervals: &mut Intervals<'p>, start: u32, answer: Answer<'p>) {
    intervals.pop_if(|(last, _)| *last == start);
    if intervals.last().is_none_or(|(_, last)| *last != answer) {
        intervals.push((start, answer));
    }
}

/// A binary search over the intervals for the number in the accumulator.
fn tree(
    out: &mut Assembler,
    profile: &Profile<'_>,
    arch: Arch,
    intervals: &[(u32, Answer<'_>)],
) -> Label {
    if let [(_, answer)] = intervals {
        return match answer {
            Answer::Plain(verdict) => out.ret(verdict.0),
            Answer::Depends(cases) => decide(out, profile.default, arch, cases),
        };
    }
    let (left, right) = intervals.split_at(intervals.len() / 2);
    let start = right[0].0;
    let right = tree(out, profile, arch, right);
    let left = tree(out, profile, arch, left);
    out.branch(Test::GreaterOrEqual, start, right, left)
}

/// Tries the cases in order.
fn decide(out: &mut Assembler, default: Verdict, arch: Arch, cases: &[Case<'_>]) -> Label {
    let mut otherwise = out.ret(default.0);
    for case in cases.iter().rev() {
        let selector;
        let (conditions, verdict) = match case {
            Case::When(conditions, verdict) => (*conditions, verdict),
            Case::Selected(value, verdict) => {
                selector = [Condition {
                    argument: 0,
                    compare: Compare::Equal(*value),
                }];
                (selector.as_slice(), verdict)
            }
        };
        let mut entry = out.ret(verdict.0);
        for condition in conditions.iter().rev() {
            entry = test(out, arch, condition, entry, otherwise);
        }
        otherwise = entry;
    }
    otherwise
}

/// One comparison; continues at `yes` or `no`.
fn test(out: &mut Assembler, arch: Arch, condition: &Condition, yes: Label, no: Label) -> Label {
    let word = Word {
        offset: ARGS + 8 * condition.argument,
        wide: arch.wide(),
    };
    match condition.compare {
        Compare::Equal(value) => word.masked(out, u64::MAX, value, yes, no),
        Compare::NotEqual(value) => word.masked(out, u64::MAX, value, no, yes),
        Compare::Masked { mask, value } => word.masked(out, mask, value, yes, no),
        Compare::GreaterOrEqual(value) => word.ordered(out, Test::GreaterOrEqual, value, yes, no),
        Compare::Less(value) => word.ordered(out, Test::GreaterOrEqual, value, no, yes),
        Compare::Greater(value) => word.ordered(out, Test::Greater, value, yes, no),
        Compare::LessOrEqual(value) => word.ordered(out, Test::Greater, value, no, yes),
    }
}

/// An argument, of which a 32-bit architecture has only the low half.
struct Word {
    offset: u32,
    wide: bool,
}

impl Word {
    /// Offset of the low half; both architecture families are little-endian.
    fn low(&self) -> u32 {
        self.offset
    }

    fn high(&self) -> u32 {
        self.offset + 4
    }

    /// `(argument & mask) == value`.
    fn masked(&self, out: &mut Assembler, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let (mask_high, mask_low) = halves(mask);
        let (high, low) = halves(value);
        if low & !mask_low != 0 || (self.wide && high & !mask_high != 0) {
            return no;
        }
        let mut entry = yes;
        if mask_low != 0 {
            entry = half(out, self.low(), mask_low, low, entry, no);
        }
        if self.wide && mask_high != 0 {
            entry = half(out, self.high(), mask_high, high, entry, no);
        }
        entry
    }

    /// `argument > value` or `argument >= value`.
    fn ordered(&self, out: &mut Assembler, test: Test, value: u64, yes: Label, no: Label) -> Label {
        let (high, low) = halves(value);
        out.branch(test, low, yes, no);
        let entry = out.load(self.low());
        if !self.wide {
            return entry;
        }
        let same = out.branch(Test::Equal, high, entry, no);
        out.branch(Test::Greater, high, yes, same);
        out.load(self.high())
    }
}

/// `(half & mask) == value`, for a mask that is not 0.
fn half(out: &mut Assembler, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
    out.branch(Test::Equal, value, yes, no);
    if mask != u32::MAX {
        out.and(mask);
    }
    out.load(offset)
}

/// The high and the low half.
fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
