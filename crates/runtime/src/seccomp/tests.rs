//! Tests of the compiler: programs are run by a small interpreter and compared with what the
//! profile says; `real` loads them into child processes.

mod default;
mod interpreter;
mod profile_words;
mod real;

use super::arch::Arch;
use super::names::Name;
use super::profile::Profile;
use super::*;
use crate::spec::{Seccomp, SeccompArg, SeccompSyscall};
use interpreter::{Outcome, run};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;
const X32: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL_PROCESS: u32 = 0x8000_0000;

fn profile(default: &str, architectures: &[&str], syscalls: Vec<SeccompSyscall>) -> Seccomp {
    Seccomp {
        default_action: default.to_owned(),
        architectures: architectures
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        syscalls,
        ..Seccomp::default()
    }
}

fn rule(names: &[&str], action: &str) -> SeccompSyscall {
    SeccompSyscall {
        names: names.iter().map(|name| (*name).to_owned().into()).collect(),
        action: action.to_owned(),
        ..SeccompSyscall::default()
    }
}

fn arg(index: u32, op: &str, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    }
}

fn with(rule: SeccompSyscall, args: Vec<SeccompArg>) -> SeccompSyscall {
    SeccompSyscall { args, ..rule }
}

fn returning(rule: SeccompSyscall, errno: u32) -> SeccompSyscall {
    SeccompSyscall {
        errno_ret: Some(errno),
        ..rule
    }
}

fn compile_on(native: Arch, profile: &Seccomp) -> Filter {
    compile::compile(&Profile::parse(profile, native).expect("valid profile"))
        .expect("short enough")
}

fn compile(profile: &Seccomp) -> Filter {
    compile_on(Arch::X86_64, profile)
}

fn answer(filter: &Filter, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    run(&filter.program, arch, number, args).verdict
}

#[test]
fn listed_calls_are_allowed_and_others_get_the_default() {
    let filter = compile(&profile(
        "SCMP_ACT_ERRNO",
        &[],
        vec![rule(&["read", "close", "openat2"], "SCMP_ACT_ALLOW")],
    ));
    for (number, want) in [
        (0, ALLOW),
        (1, EPERM),
        (2, EPERM),
        (3, ALLOW),
        (4, EPERM),
        (437, ALLOW),
        (438, ENOSYS),
    ] {
        assert_eq!(answer(&filter, X86_64, number, [0; 6]), want, "{number}");
    }
}

#[test]
fn architectures_not_listed_are_killed_and_minus_one_is_left_to_the_tracer() {
    let rules = vec![rule(&["read"], "SCMP_ACT_ERRNO")];
    let filter = compile(&profile(
        "SCMP_ACT_ALLOW",
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"],
        rules,
    ));
    for (arch, number, want) in [
        (X86_64, 0, EPERM),
        (X86_64, 1, ALLOW),
        (X86_64, X32, KILL_PROCESS),
        (X86_64, X32 + 5000, KILL_PROCESS),
        (X86_64, u32::MAX, ALLOW),
        (I386, 3, KILL_PROCESS),
        (AARCH64, 63, KILL_PROCESS),
    ] {
        assert_eq!(
            answer(&filter, arch, number, [0; 6]),
            want,
            "{arch:#x} {number}"
        );
    }
}

#[test]
fn every_architecture_has_its_own_numbers() {
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let rules = vec![rule(&["ptrace", "write"], "SCMP_ACT_ERRNO")];
    let filter = compile(&profile("SCMP_ACT_ALLOW", &all, rules));
    for (arch, number, want) in [
        (X86_64, 1, EPERM),
        (X86_64, 101, EPERM),
        (X86_64, 26, ALLOW),
        (I386, 4, EPERM),
        (I386, 26, EPERM),
        (I386, 101, ALLOW),
        (X86_64, X32 + 1, EPERM),
        (X86_64, X32 + 101, EPERM),
        (X86_64, X32 + 521, EPERM),
        (X86_64, X32 + 520, ALLOW),
        (X86_64, 521, ALLOW),
    ] {
        assert_eq!(
            answer(&filter, arch, number, [0; 6]),
            want,
            "{arch:#x} {number}"
        );
    }
    let arms = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
    let rules = vec![rule(&["ptrace", "set_tls"], "SCMP_ACT_ERRNO")];
    let filter = compile_on(Arch::Aarch64, &profile("SCMP_ACT_ALLOW", &arms, rules));
    for (arch, number, want) in [
        (AARCH64, 117, EPERM),
        (ARM, 26, EPERM),
        (ARM, 0xf0005, EPERM),
        (ARM, 117, ALLOW),
        (X86_64, 101, KILL_PROCESS),
    ] {
        assert_eq!(
            answer(&filter, arch, number, [0; 6]),
            want,
            "{arch:#x} {number}"
        );
    }
}

#[test]
fn calls_newer_than_the_profile_answer_enosys_unless_the_default_is_permissive() {
    let names = ["rt_sigreturn", "statx", "no_such_call", "set_tls"];
    let all = ["SCMP_ARCH_X32", "SCMP_ARCH_ARM"];
    let made = |native, default: &str| {
        compile_on(
            native,
            &profile(default, &all, vec![rule(&names, "SCMP_ACT_ALLOW")]),
        )
    };
    let filter = made(Arch::X86_64, "SCMP_ACT_KILL_PROCESS");
    for (number, want) in [
        (331, KILL_PROCESS),
        (332, ALLOW),
        (333, ENOSYS),
        (0x3fff_ffff, ENOSYS),
        (X32 + 332, ALLOW),
        (X32 + 333, ENOSYS),
        (X32 + 511, ENOSYS),
        (X32 + 512, KILL_PROCESS),
        (X32 + 513, ALLOW),
        (X32 + 547, KILL_PROCESS),
        (X32 + 548, ENOSYS),
        (u32::MAX, KILL_PROCESS),
    ] {
        assert_eq!(answer(&filter, X86_64, number, [0; 6]), want, "{number:#x}");
    }
    let filter = made(Arch::Aarch64, "SCMP_ACT_ERRNO");
    for (number, want) in [
        (398, ENOSYS),
        (397, ALLOW),
        (0xeffff, ENOSYS),
        (0xf0001, EPERM),
        (0xf0005, ALLOW),
    ] {
        assert_eq!(answer(&filter, ARM, number, [0; 6]), want, "{number:#x}");
    }
    for (default, want) in [
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
    ] {
        assert_eq!(
            answer(&made(Arch::X86_64, default), X86_64, 333, [0; 6]),
            want,
            "{default}"
        );
    }
}

/// What the specification says an operator means.
fn holds(op: &str, argument: u64, value: u64, value_two: u64) -> bool {
    match op {
        "EQ" => argument == value,
        "NE" => argument != value,
        "LT" => argument < value,
        "LE" => argument <= value,
        "GT" => argument > value,
        "GE" => argument >= value,
        _ => argument & value == value_two,
    }
}

#[test]
fn comparisons_are_exact_in_all_64_bits() {
    let samples = [
        0,
        1,
        2,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x2_0000_0000,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        u64::MAX - 1,
        u64::MAX,
    ];
    for op in OPERATORS.map(|op| op.trim_start_matches("SCMP_CMP_")) {
        for value in samples {
            for value_two in if op == "MASKED_EQ" {
                &samples[..]
            } else {
                &samples[..1]
            } {
                let args = vec![arg(5, op, value, *value_two)];
                let rules = vec![with(rule(&["getpid"], "SCMP_ACT_ERRNO"), args)];
                let filter = compile(&profile("SCMP_ACT_ALLOW", &["SCMP_ARCH_X86"], rules));
                for argument in samples {
                    let verdict = |truth| if truth { EPERM } else { ALLOW };
                    let args = [7, 7, 7, 7, 7, argument];
                    let want = verdict(holds(op, argument, value, *value_two));
                    let said = format!("{argument:#x} {op} {value:#x} {value_two:#x}");
                    assert_eq!(answer(&filter, X86_64, 39, args), want, "{said}");
                    let low = |n: u64| n & 0xffff_ffff;
                    let want = verdict(holds(op, low(argument), low(value), low(*value_two)));
                    assert_eq!(
                        answer(&filter, I386, 20, [0, 0, 0, 0, 0, low(argument)]),
                        want,
                        "i386 {said}"
                    );
                }
            }
        }
    }
}

#[test]
fn all_conditions_must_hold_but_two_on_one_argument_are_alternatives() {
    let both = vec![arg(0, "EQ", 1, 0), arg(2, "GE", 10, 0)];
    let filter = compile(&profile(
        "SCMP_ACT_ERRNO",
        &[],
        vec![with(rule(&["getpid"], "SCMP_ACT_ALLOW"), both)],
    ));
    for (args, want) in [([1, 0, 10], ALLOW), ([1, 0, 9], EPERM), ([2, 0, 10], EPERM)] {
        assert_eq!(
            answer(&filter, X86_64, 39, [args[0], args[1], args[2], 0, 0, 0]),
            want,
            "{args:?}"
        );
    }
    let either = vec![arg(0, "EQ", 1, 0), arg(0, "EQ", 2, 0), arg(1, "EQ", 9, 0)];
    let filter = compile(&profile(
        "SCMP_ACT_ERRNO",
        &[],
        vec![with(rule(&["getpid"], "SCMP_ACT_ALLOW"), either)],
    ));
    for (args, want) in [
        ([1, 0], ALLOW),
        ([2, 0], ALLOW),
        ([3, 9], ALLOW),
        ([3, 0], EPERM),
    ] {
        assert_eq!(
            answer(&filter, X86_64, 39, [args[0], args[1], 0, 0, 0, 0]),
            want,
            "{args:?}"
        );
    }
}

#[test]
fn a_rule_without_arguments_wins_and_else_the_earlier() {
    let when = |value, errno| {
        returning(
            with(
                rule(&["getpid"], "SCMP_ACT_ERRNO"),
                vec![arg(0, "GE", value, 0)],
            ),
            errno,
        )
    };
    let filter = compile(&profile(
        "SCMP_ACT_ALLOW",
        &[],
        vec![when(10, 10), when(5, 5), when(20, 20)],
    ));
    for (argument, want) in [
        (4, ALLOW),
        (5, 0x0005_0005),
        (10, 0x0005_000a),
        (25, 0x0005_000a),
    ] {
        assert_eq!(
            answer(&filter, X86_64, 39, [argument, 0, 0, 0, 0, 0]),
            want,
            "{argument}"
        );
    }
    let plain = returning(rule(&["getpid"], "SCMP_ACT_ERRNO"), 30);
    let later = returning(rule(&["getpid"], "SCMP_ACT_ERRNO"), 31);
    let filter = compile(&profile(
        "SCMP_ACT_ALLOW",
        &[],
        vec![when(10, 10), plain, later],
    ));
    assert_eq!(
        answer(&filter, X86_64, 39, [10, 0, 0, 0, 0, 0]),
        0x0005_001e
    );
}

#[test]
fn a_refused_call_is_refused_through_the_i386_multiplexers_too() {
    let rules = vec![rule(&["bind", "semget"], "SCMP_ACT_ERRNO")];
    let filter = compile(&profile("SCMP_ACT_ALLOW", &["SCMP_ARCH_X86"], rules));
    let call = |number, selector| answer(&filter, I386, number, [selector, 0, 0, 0, 0, 0]);
    assert_eq!(
        (call(102, 2), call(102, 1), call(117, 2), call(117, 1)),
        (EPERM, ALLOW, EPERM, ALLOW)
    );
    assert_eq!((call(361, 0), call(393, 0)), (EPERM, EPERM));
}

/// A profile in which every second call of an architecture has an answer of its own, some of them
/// long, so that jumps go everywhere.
fn scattered() -> Seccomp {
    let names: Vec<_> = (0..470)
        .filter_map(syscalls::x86_64::Sysno::new)
        .map(|call| call.name())
        .collect();
    let rules = names
        .iter()
        .enumerate()
        .filter(|(i, _)| i % 2 == 0)
        .map(|(i, name)| {
            let errno = u32::try_from(i % 17 + 1).expect("small");
            let one = returning(rule(&[*name], "SCMP_ACT_ERRNO"), errno);
            if i % 8 == 0 {
                with(one, vec![arg(1, "GT", 1 << 40, 0), arg(3, "NE", 3, 0)])
            } else {
                one
            }
        });
    profile(
        "SCMP_ACT_ALLOW",
        &["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        rules.collect(),
    )
}

/// The answer by the definition, without any compiling.
fn expected(profile: &Seccomp, arch: Arch, number: u32, args: [u64; 6]) -> u32 {
    let hit = profile.syscalls.iter().find(|rule| {
        let named = rule
            .names
            .iter()
            .any(|name| arch.numbers(Name::new(name)).any(|n| n == number));
        let low = |n: u64| if arch.wide() { n } else { n & 0xffff_ffff };
        let truth = |a: &SeccompArg| {
            let op = a.op.trim_start_matches("SCMP_CMP_");
            holds(
                op,
                low(args[a.index as usize]),
                low(a.value),
                low(a.value_two),
            )
        };
        named && rule.args.iter().all(truth)
    });
    hit.map_or(ALLOW, |rule| 0x0005_0000 | rule.errno_ret.unwrap_or(1))
}

#[test]
fn a_scattered_profile_is_exact_for_every_number_and_architecture() {
    let profile = scattered();
    let filter = compile(&profile);
    let arguments = [
        [0; 6],
        [0, 1 << 40 | 1, 0, 0, 0, 0],
        [0, 1 << 41, 0, 3, 0, 0],
        [u64::MAX; 6],
    ];
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        for number in (0..700).map(|n| n + arch.base()) {
            for args in arguments {
                let want = expected(&profile, arch, number, args);
                let got = answer(&filter, arch.audit(), number, args);
                assert_eq!(got, want, "{arch:?} {number:#x} {args:x?}");
            }
        }
    }
}

#[test]
fn a_call_is_decided_in_few_instructions() {
    let most = |filter: &Filter, arch: u32| {
        let steps = |number| -> Outcome { run(&filter.program, arch, number, [0; 6]) };
        (0..600)
            .map(|number| steps(number).steps)
            .max()
            .expect("numbers")
    };
    let filter = compile(&default_profile(&[]));
    assert!(filter.length() < 700, "{filter:?}");
    assert!(most(&filter, X86_64) <= 24, "{}", most(&filter, X86_64));
    // 235 answers for each of three architectures: two loads, the architecture, 9 or 10 branches.
    assert!(most(&compile(&scattered()), X86_64) <= 30);
}

#[test]
fn a_profile_that_is_too_long_for_the_kernel_is_an_error() {
    let many = (0..2000).map(|value| {
        with(
            rule(&["getpid"], "SCMP_ACT_ERRNO"),
            vec![arg(0, "EQ", value, 0)],
        )
    });
    let error =
        Filter::compile(&profile("SCMP_ACT_ALLOW", &[], many.collect())).expect_err("too long");
    assert!(
        matches!(
            error,
            Error::TooLong {
                length: 8000..,
                max: 4096
            }
        ),
        "{error}"
    );
}
