//! The words of a profile: actions, flags, and what is wrong with them.

use super::*;

#[test]
fn every_action_has_its_return_value() {
    let actions = [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", EPERM),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
    ];
    for (action, want) in actions {
        assert!(ACTIONS.contains(&action));
        let filter = compile(&profile(
            "SCMP_ACT_ALLOW",
            &[],
            vec![rule(&["getpid"], action)],
        ));
        assert_eq!(answer(&filter, X86_64, 39, [0; 6]), want, "{action}");
        assert_eq!(filter.notifies(), action == "SCMP_ACT_NOTIFY");
    }
    let chosen = returning(rule(&["getpid"], "SCMP_ACT_ERRNO"), 4095);
    assert_eq!(
        answer(
            &compile(&profile("SCMP_ACT_ALLOW", &[], vec![chosen])),
            X86_64,
            39,
            [0; 6]
        ),
        0x0005_0fff
    );
}

#[test]
fn what_cannot_be_meant_is_an_error_that_says_what() {
    let error = |profile: &Seccomp| Filter::compile(profile).expect_err("must fail").to_string();
    let allow = |rules| profile("SCMP_ACT_ALLOW", &[], rules);
    let getpid = |action| rule(&["getpid"], action);
    for (profile, want) in [
        (profile("ALLOW", &[], vec![]), "unknown action \"ALLOW\""),
        (
            profile("SCMP_ACT_NOTIFY", &[], vec![]),
            "cannot be used as default action",
        ),
        (
            profile("SCMP_ACT_ALLOW", &["amd64"], vec![]),
            "unknown architecture \"amd64\"",
        ),
        (
            allow(vec![rule(&["write"], "SCMP_ACT_NOTIFY")]),
            "cannot be used for the write syscall",
        ),
        (
            allow(vec![getpid("SCMP_ACT_NO")]),
            "unknown action \"SCMP_ACT_NO\"",
        ),
        (
            allow(vec![rule(&[], "SCMP_ACT_ERRNO")]),
            "rule 0 (from 0) names no system call",
        ),
        (
            allow(vec![returning(getpid("SCMP_ACT_KILL"), 1)]),
            "errnoRet 1 is given for SCMP_ACT_KILL",
        ),
        (
            allow(vec![returning(getpid("SCMP_ACT_ERRNO"), 4096)]),
            "errnoRet 4096 of SCMP_ACT_ERRNO is above 4095",
        ),
        (
            allow(vec![with(
                getpid("SCMP_ACT_KILL"),
                vec![arg(6, "EQ", 0, 0)],
            )]),
            "argument index 6",
        ),
        (
            allow(vec![with(
                getpid("SCMP_ACT_KILL"),
                vec![arg(0, "IS", 0, 0)],
            )]),
            "unknown operator \"SCMP_CMP_IS\"",
        ),
        (
            Seccomp {
                flags: Some(vec!["FLAG".into()]),
                ..allow(vec![])
            },
            "unknown flag \"FLAG\"",
        ),
    ] {
        let said = error(&profile);
        assert!(said.contains(want), "{said:?} should contain {want:?}");
    }
}

#[test]
fn flags_become_bits_and_none_means_spec_allow() {
    let flags = |flags: Option<&[&str]>, action: &str| {
        let flags = flags.map(|flags| {
            flags
                .iter()
                .map(|f| format!("SECCOMP_FILTER_FLAG_{f}"))
                .collect()
        });
        let rules = vec![rule(&["getpid"], action)];
        compile(&Seccomp {
            flags,
            ..profile("SCMP_ACT_ALLOW", &[], rules)
        })
        .flags
    };
    assert_eq!(flags(None, "SCMP_ACT_ERRNO"), 4);
    assert_eq!(flags(Some(&[]), "SCMP_ACT_ERRNO"), 0);
    assert_eq!(
        flags(Some(&["TSYNC", "LOG", "SPEC_ALLOW"]), "SCMP_ACT_ERRNO"),
        7
    );
    assert_eq!(flags(Some(&["WAIT_KILLABLE_RECV"]), "SCMP_ACT_ERRNO"), 0);
    assert_eq!(
        flags(Some(&["WAIT_KILLABLE_RECV"]), "SCMP_ACT_NOTIFY"),
        0x28
    );
    assert_eq!(flags(Some(&["TSYNC"]), "SCMP_ACT_NOTIFY"), 0x19);
}
