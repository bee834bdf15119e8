//! Tests of names and, in threads of their own (capabilities belong to threads), of the sets.

use super::*;

fn set(names: &[&str]) -> Set {
    Set::of(names.iter().map(|n| number(n).expect("known name")))
}

/// Runs `f` on a thread whose capabilities nobody else uses.
fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|s| s.spawn(f).join().expect("thread"))
}

fn may_drop() -> bool {
    let able = Sets::current().expect("capget").effective.contains(8);
    if !able {
        eprintln!("SKIP: needs CAP_SETPCAP");
    }
    able
}

#[test]
fn names_are_read_with_and_without_prefix_in_any_case() {
    for written in ["CAP_SYS_ADMIN", "SYS_ADMIN", "cap_sys_admin", "Sys_Admin"] {
        assert_eq!(number(written), Some(21), "{written}");
    }
    assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
    assert_eq!(number("CAP_CAP_KILL"), None);
    assert_eq!(number(""), None);
    assert_eq!(number("é_KILL"), None);
    assert_eq!(name(0), Some("CHOWN"));
    assert_eq!(name(41), None);
}

#[test]
fn the_last_capability_is_the_kernels() {
    let told = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("proc");
    assert_eq!(last(), told.trim().parse::<u8>().expect("number"));
    assert_eq!(Set::all().iter().count(), usize::from(last()) + 1);
}

#[test]
fn an_unknown_name_is_one_warning_and_no_error() {
    let names = vec!["CAP_KILL".to_owned(), "CAP_NO_SUCH".to_owned()];
    let capabilities = spec::Capabilities {
        bounding: names.clone(),
        effective: names,
        ..Default::default()
    };
    let (sets, warnings) = Sets::parse(&capabilities);
    assert_eq!(sets.bounding, set(&["KILL"]));
    assert_eq!(sets.permitted, Set::EMPTY);
    assert_eq!(
        warnings,
        [Warning::Unknown {
            name: "CAP_NO_SUCH".into()
        }]
    );
    assert_eq!(
        warnings[0].to_string(),
        "ignoring unknown capability \"CAP_NO_SUCH\""
    );
}

#[test]
fn a_thread_gets_exactly_the_sets_asked_for() {
    if !may_drop() {
        return;
    }
    let want = Sets {
        bounding: set(&["KILL", "CHOWN", "NET_BIND_SERVICE"]),
        effective: set(&["KILL"]),
        permitted: set(&["KILL", "NET_BIND_SERVICE"]),
        inheritable: set(&["KILL", "NET_BIND_SERVICE"]),
        ambient: set(&["NET_BIND_SERVICE"]),
    };
    let (got, warnings) = on_own_thread(|| {
        let mut warnings = want.drop_bounding().expect("bounding");
        warnings.extend(want.apply().expect("apply"));
        (Sets::current().expect("current"), warnings)
    });
    assert_eq!(got, want);
    assert_eq!(warnings, []);
}

#[test]
fn what_the_caller_lacks_is_left_out_with_a_warning() {
    if !may_drop() {
        return;
    }
    let all = Set::all();
    let wide = Sets {
        bounding: all,
        effective: all,
        permitted: all,
        inheritable: all,
        ambient: all,
    };
    let (got, warnings) = on_own_thread(|| {
        let narrow = Sets {
            bounding: Set::all().difference(set(&["SYS_BOOT"])),
            ..wide
        };
        narrow.drop_bounding().expect("bounding");
        narrow.apply().expect("apply narrow");
        let mut held = Sets::current().expect("current");
        held.permitted = held.permitted.difference(set(&["SYS_TIME"]));
        Sets {
            inheritable: held.permitted,
            ..held
        }
        .apply()
        .expect("drop SYS_TIME");
        let mut warnings = wide.drop_bounding().expect("again");
        warnings.extend(wide.apply().expect("apply wide"));
        (Sets::current().expect("current"), warnings)
    });
    let boot = number("SYS_BOOT").expect("known");
    let time = number("SYS_TIME").expect("known");
    assert!(
        !got.bounding.contains(boot)
            && !got.permitted.contains(time)
            && !got.ambient.contains(time)
    );
    assert!(warnings.contains(&Warning::Unavailable {
        kind: Kind::Bounding,
        number: boot
    }));
    assert!(warnings.contains(&Warning::Unavailable {
        kind: Kind::Permitted,
        number: time
    }));
    assert!(warnings.contains(&Warning::Unavailable {
        kind: Kind::Ambient,
        number: time
    }));
}

#[test]
fn ambient_needs_inheritable() {
    if !may_drop() {
        return;
    }
    let want = Sets {
        permitted: set(&["KILL"]),
        ambient: set(&["KILL"]),
        ..Sets::default()
    };
    let warnings = on_own_thread(|| want.apply().expect("apply"));
    let kill = number("KILL").expect("known");
    assert_eq!(
        warnings,
        [Warning::Unavailable {
            kind: Kind::Ambient,
            number: kill
        }]
    );
    assert_eq!(
        warnings[0].to_string(),
        "can't raise ambient capability CAP_KILL: it is not both permitted and inheritable"
    );
}
