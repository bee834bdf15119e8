//! The RuntimeDefault profile, by what it lets through.

use super::*;

fn filter(capabilities: &[&str]) -> Filter {
    let names: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
    compile(&default_profile(&names))
}

fn number(name: &str) -> u32 {
    Arch::X86_64.numbers(Name::new(name)).next().expect(name)
}

fn plain(filter: &Filter, name: &str) -> u32 {
    answer(filter, X86_64, number(name), [0; 6])
}

#[test]
fn ordinary_calls_are_allowed_on_every_architecture() {
    let filter = filter(&[]);
    for name in [
        "read",
        "execve",
        "futex",
        "openat2",
        "mmap",
        "ptrace",
        "seccomp",
        "epoll_pwait2",
        "exit_group",
    ] {
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            for number in arch.numbers(Name::new(name)) {
                assert_eq!(
                    answer(&filter, arch.audit(), number, [0; 6]),
                    ALLOW,
                    "{name} {arch:?}"
                );
            }
        }
    }
    let arm = compile_on(
        Arch::Aarch64,
        &Seccomp {
            architectures: vec!["SCMP_ARCH_ARM".into()],
            ..default_profile(&[])
        },
    );
    assert_eq!(answer(&arm, AARCH64, 63, [0; 6]), ALLOW);
    assert_eq!(answer(&arm, ARM, 0xf0005, [0; 6]), ALLOW);
}

#[test]
fn dangerous_calls_answer_eperm_until_their_capability_is_given() {
    for (name, capability) in [
        ("mount", "CAP_SYS_ADMIN"),
        ("unshare", "CAP_SYS_ADMIN"),
        ("setns", "CAP_SYS_ADMIN"),
        ("pivot_root", "CAP_SYS_ADMIN"),
        ("sethostname", "CAP_SYS_ADMIN"),
        ("bpf", "CAP_BPF"),
        ("perf_event_open", "CAP_PERFMON"),
        ("syslog", "CAP_SYSLOG"),
        ("reboot", "CAP_SYS_BOOT"),
        ("chroot", "CAP_SYS_CHROOT"),
        ("init_module", "CAP_SYS_MODULE"),
        ("clock_settime", "CAP_SYS_TIME"),
        ("open_by_handle_at", "CAP_DAC_READ_SEARCH"),
        ("iopl", "CAP_SYS_RAWIO"),
    ] {
        assert_eq!(plain(&filter(&["CAP_KILL"]), name), EPERM, "{name}");
        assert_eq!(
            plain(&filter(&[capability]), name),
            ALLOW,
            "{name} with {capability}"
        );
    }
    for name in ["kexec_load", "add_key", "keyctl", "swapon", "userfaultfd"] {
        assert_eq!(plain(&filter(&["CAP_SYS_ADMIN"]), name), EPERM, "{name}");
    }
}

#[test]
fn clone_makes_threads_but_no_namespaces() {
    let filter_without = filter(&[]);
    let clone = |flags| {
        answer(
            &filter_without,
            X86_64,
            number("clone"),
            [flags, 0, 0, 0, 0, 0],
        )
    };
    assert_eq!(clone(0x003d_0f00), ALLOW);
    assert_eq!(clone(17), ALLOW);
    for flag in [
        0x0002_0000,
        0x0200_0000,
        0x0400_0000,
        0x0800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
    ] {
        assert_eq!(clone(flag | 17), EPERM, "{flag:#x}");
    }
    assert_eq!(plain(&filter_without, "clone3"), ENOSYS);
    let filter_with = filter(&["SYS_ADMIN"]);
    assert_eq!(
        answer(
            &filter_with,
            X86_64,
            number("clone"),
            [0x1000_0000, 0, 0, 0, 0, 0]
        ),
        ALLOW
    );
    assert_eq!(plain(&filter_with, "clone3"), ALLOW);
}

#[test]
fn unknown_calls_and_io_uring_answer_enosys() {
    let filter = filter(&[]);
    assert_eq!(answer(&filter, X86_64, 1000, [0; 6]), ENOSYS);
    assert_eq!(plain(&filter, "io_uring_setup"), ENOSYS);
}

#[test]
fn sockets_of_the_hypervisor_and_of_the_kernels_ciphers_are_kept_out() {
    const AFNOSUPPORT: u32 = 0x0005_0000 | 97;
    let socket = |filter: &Filter, arch: Arch, family| {
        let number = arch.numbers(Name::new("socket")).next().expect("socket");
        answer(filter, arch.audit(), number, [family, 0, 0, 0, 0, 0])
    };
    for capabilities in [&[][..], &["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]] {
        let filter = filter(capabilities);
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            for family in [1, 2, 10, 16, 17, 37, 39, 41, 0xffff_ffff] {
                assert_eq!(socket(&filter, arch, family), ALLOW, "{arch:?} {family}");
            }
            assert_eq!(socket(&filter, arch, 38), AFNOSUPPORT, "{arch:?}");
            assert_eq!(socket(&filter, arch, 40), EPERM, "{arch:?}");
        }
        // The kernel takes an int: what stands above it hides nothing.
        assert_eq!(socket(&filter, Arch::X86_64, 1 << 32 | 38), AFNOSUPPORT);
        assert_eq!(socket(&filter, Arch::X86_64, 1 << 63 | 40), EPERM);
        // i386's multiplexer: 1 is socket(2), 3 connect(2).
        let multiplexer = Arch::X86.numbers(Name::new("socketcall")).next();
        let selected = |call| {
            let number = multiplexer.expect("socketcall");
            answer(&filter, Arch::X86.audit(), number, [call, 0, 0, 0, 0, 0])
        };
        assert_eq!((selected(1), selected(3)), (ENOSYS, ALLOW));
    }
}

#[test]
fn libseccomp_finds_one_answer_for_sockets_and_the_same_families_are_kept_out() {
    let profile = default_profile_for_libseccomp(&[]);
    let rules = profile.syscalls.iter();
    let mut sockets = rules.filter(|rule| rule.names.iter().any(|name| name == "socket"));
    assert!(sockets.all(|rule| rule.action == "SCMP_ACT_ALLOW"));
    let filter = compile(&profile);
    let socket = |family| {
        let family = [family, 0, 0, 0, 0, 0];
        answer(&filter, X86_64, number("socket"), family)
    };
    for family in 0..64 {
        let expected = if [38, 40].contains(&family) {
            ENOSYS
        } else {
            ALLOW
        };
        assert_eq!(socket(family), expected, "{family}");
        assert_eq!(socket(1 << 32 | family), expected, "{family}");
    }
}

#[test]
fn odd_personalities_are_kept_out() {
    let filter = filter(&[]);
    let first = |name, value| answer(&filter, X86_64, number(name), [value, 0, 0, 0, 0, 0]);
    assert_eq!(
        (
            first("personality", 0xffff_ffff),
            first("personality", 0x0040_0000)
        ),
        (ALLOW, ENOSYS)
    );
}

#[test]
fn every_name_in_the_profile_is_a_system_call_somewhere() {
    let profile = default_profile(&[]);
    let known = |name: &&std::borrow::Cow<'static, str>| {
        Arch::ALL
            .iter()
            .any(|arch| arch.numbers(Name::new(name)).next().is_some())
    };
    let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
    let unknown: Vec<_> = names.filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
