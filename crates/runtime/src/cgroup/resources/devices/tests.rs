//! Device policies by what they allow, and their programs run by a small interpreter and taken by
//! the kernel.

use super::program::{AND, EXIT, JUMP_EQUAL, JUMP_UNEQUAL, LOAD, MOVE, SET, SHIFT, compile};
use super::rules::{Access, Kind, Nodes, Policy, Rule};
use super::*;

fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceCgroup {
    DeviceCgroup {
        allow,
        kind: Some(kind.into()),
        major: Some(major),
        minor: Some(minor),
        access: Some(access.into()),
    }
}

fn policy(rules: &[DeviceCgroup]) -> Policy {
    Policy::of(rules.iter()).expect("valid rules")
}

/// Runs a program on one access, as the kernel would.
fn allowed(program: &[u64], kind: Kind, access: Access, major: u32, minor: u32) -> bool {
    let context = [u32::from(access.0) << 16 | kind as u32, major, minor];
    let mut registers = [0u64; 11];
    let mut at = 0;
    loop {
        let bytes = program[at].to_le_bytes();
        let (code, destination, source) = (
            bytes[0],
            usize::from(bytes[1] & 15),
            usize::from(bytes[1] >> 4),
        );
        let offset = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        let constant = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        at += 1;
        match code {
            LOAD => registers[destination] = u64::from(context[offset / 4]),
            MOVE => registers[destination] = registers[source] & 0xffff_ffff,
            SET => registers[destination] = u64::from(constant),
            AND => registers[destination] &= u64::from(constant),
            SHIFT => registers[destination] = (registers[destination] & 0xffff_ffff) >> constant,
            JUMP_UNEQUAL if registers[destination] != u64::from(constant) => at += offset,
            JUMP_EQUAL if registers[destination] == u64::from(constant) => at += offset,
            JUMP_UNEQUAL | JUMP_EQUAL => {}
            EXIT => return registers[0] == 1,
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn lists() -> Vec<Vec<DeviceCgroup>> {
    let everything = |allow| DeviceCgroup {
        allow,
        ..Default::default()
    };
    vec![
        vec![everything(false)],
        vec![everything(true)],
        default_rules(),
        vec![
            everything(true),
            rule(false, "c", 1, 3, "w"),
            rule(true, "c", 1, 3, "w"),
            rule(false, "b", -1, -1, "rwm"),
        ],
        vec![
            everything(false),
            rule(true, "c", 1, -1, "rw"),
            rule(false, "c", 1, 5, "r"),
            rule(true, "c", 1, 5, "m"),
        ],
        vec![
            rule(true, "a", 7, -1, "r"),
            rule(true, "c", 7, 3, "w"),
            rule(true, "c", 7, 3, "r"),
        ],
        vec![
            rule(true, "c", 1, 3, "rwm"),
            everything(true),
            everything(false),
            rule(true, "b", 8, 0, "r"),
        ],
    ]
}

/// The answer by the definition: the last matching rule decides, one access letter at a time.
fn expected(rules: &[DeviceCgroup], kind: Kind, access: Access, major: u32, minor: u32) -> bool {
    let number =
        |rule: Option<i64>, have: u32| rule.is_none_or(|n| n == -1 || n == i64::from(have));
    let letter = |bit: u8| {
        let last = rules.iter().rev().find(|rule| {
            let of_kind = match rule.kind.as_deref() {
                Some("c") => kind == Kind::Char,
                Some("b") => kind == Kind::Block,
                _ => true,
            };
            let of_access = Access::parse(rule.access.as_deref().unwrap_or("rwm"))
                .expect("letters")
                .0
                & bit
                != 0;
            of_kind && of_access && number(rule.major, major) && number(rule.minor, minor)
        });
        last.is_some_and(|rule| rule.allow)
    };
    [1, 2, 4]
        .iter()
        .filter(|bit| access.0 & **bit != 0)
        .all(|bit| letter(*bit))
}

#[test]
fn a_program_allows_exactly_what_the_rules_say() {
    for rules in lists() {
        let program = compile(&policy(&rules));
        for kind in [Kind::Char, Kind::Block] {
            for (major, minor) in [
                (1, 3),
                (1, 5),
                (1, 11),
                (5, 2),
                (7, 3),
                (7, 4),
                (8, 0),
                (136, 9),
            ] {
                for access in [Access::READ, Access::WRITE, Access::MKNOD] {
                    let want = expected(&rules, kind, access, major, minor);
                    let got = allowed(&program, kind, access, major, minor);
                    assert_eq!(got, want, "{rules:?} {kind:?} {access:?} {major}:{minor}");
                }
            }
        }
    }
}

#[test]
fn opening_for_reading_and_writing_needs_both() {
    let both = Access(Access::READ.0 | Access::WRITE.0);
    let apart = compile(&policy(&[
        rule(true, "c", 1, 3, "r"),
        rule(true, "c", 1, 3, "w"),
    ]));
    assert!(allowed(&apart, Kind::Char, both, 1, 3));
    let one = compile(&policy(&[rule(true, "c", 1, 3, "r")]));
    assert!(!allowed(&one, Kind::Char, both, 1, 3));
    let refused = compile(&policy(&[
        DeviceCgroup {
            allow: true,
            ..Default::default()
        },
        rule(false, "c", 1, 3, "w"),
    ]));
    assert!(
        !allowed(&refused, Kind::Char, both, 1, 3)
            && allowed(&refused, Kind::Char, Access::READ, 1, 3)
    );
}

#[test]
fn rules_without_effect_are_left_out() {
    let everything = DeviceCgroup {
        allow: true,
        ..Default::default()
    };
    let privileged = policy(&[&[everything], default_rules().as_slice()].concat());
    assert!(privileged.allows_everything());
    let nodes = Nodes {
        kind: Kind::Char,
        major: Some(1),
        minor: Some(3),
    };
    let merged = policy(&[
        rule(false, "c", 9, 9, "r"),
        rule(true, "c", 1, 3, "r"),
        rule(true, "c", 1, 3, "w"),
    ]);
    let access = Access(Access::READ.0 | Access::WRITE.0);
    assert_eq!(
        merged,
        Policy {
            default: false,
            exceptions: vec![Rule {
                allow: true,
                nodes,
                access
            }]
        }
    );
    assert_eq!(
        (nodes.text(), access.letters()),
        ("c 1:3".to_owned(), "rw".to_owned())
    );
}

#[test]
fn a_rule_that_means_nothing_is_an_error_that_shows_it() {
    for (rule, want) in [
        (
            rule(true, "x", 1, 3, "r"),
            "allow x 1:3 r: the type must be a, b or c",
        ),
        (
            rule(false, "c", 1, 3, "x"),
            "deny c 1:3 x: the access must be some of r, w and m",
        ),
        (
            rule(true, "c", -2, 3, "r"),
            "allow c -2:3 r: a device number is out of range",
        ),
    ] {
        let said = Policy::of([&rule].into_iter()).expect_err(want).to_string();
        assert_eq!(said, format!("linux.resources.devices is set to {want}"));
    }
}

#[test]
fn the_kernel_takes_every_program() {
    for rules in lists() {
        let program = compile(&policy(&rules));
        match sys::load_device_program(&program) {
            Ok(_) => {}
            Err(Errno::PERM | Errno::NOSYS) => {
                eprintln!("SKIP: bpf(2) is not permitted here");
                return;
            }
            Err(errno) => panic!("{errno}: {rules:?}"),
        }
    }
}
