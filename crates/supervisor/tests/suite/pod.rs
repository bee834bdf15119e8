//! The pod around the containers: how its supervisor begins and ends, its namespaces, /dev/shm,
//! and the first process of a shared PID namespace.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{self, Pod, eventually, lives, program};
use supervisor::{ANSWER_LIMIT, Client, Error, Netns, SupervisorInfo, launch};

#[test]
fn a_supervisor_is_ready_when_launch_returns_and_gone_when_shutdown_returns() {
    needs_host!();
    let pod = Pod::new();
    assert_eq!(
        SupervisorInfo::read(pod.dir()).unwrap().as_ref(),
        Some(&pod.info)
    );
    assert!(pod.info.is_alive());
    pod.client().shutdown().unwrap();
    assert!(!pod.info.is_alive());
    assert_eq!(SupervisorInfo::read(pod.dir()).unwrap(), None);
    assert!(Client::connect(pod.dir()).unwrap_err().is_gone());
    assert!(!is_mounted(&pod.dir().join("shm")));
}

#[test]
fn a_supervisor_is_no_child_of_its_starter_and_holds_nothing_of_it() {
    needs_host!();
    let leaked = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let pod = Pod::new();
    let proc = format!("/proc/{}", pod.info.pid);
    let stat = std::fs::read_to_string(format!("{proc}/stat")).unwrap();
    let parent: u32 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(parent, std::process::id());
    assert_eq!(
        std::fs::read_link(format!("{proc}/cwd")).unwrap(),
        Path::new("/")
    );
    assert_eq!(
        std::fs::read_to_string(format!("{proc}/comm"))
            .unwrap()
            .trim(),
        "floe-supervisor"
    );
    for fd in std::fs::read_dir(format!("{proc}/fd")).unwrap() {
        // It may close one meanwhile: the connection that it answered on.
        if let Ok(target) = std::fs::read_link(fd.unwrap().path()) {
            assert_ne!(target, Path::new("/etc/passwd"));
        }
    }
}

#[test]
fn a_supervisor_outlives_its_starter_and_ignores_its_signals_while_a_container_runs() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    for signal in ["TERM", "HUP", "INT"] {
        let done = Command::new("kill")
            .args([format!("-{signal}"), pod.info.pid.to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }
    eventually("three notes", || pod.log().matches("ignored").count() == 3);
    assert!(pod.info.is_alive());
}

#[test]
fn a_supervisor_without_containers_ends_at_sigterm_and_leaves_nothing() {
    needs_host!();
    let pod = Pod::new();
    Command::new("kill")
        .arg(pod.info.pid.to_string())
        .status()
        .unwrap();
    eventually("its end", || !pod.info.is_alive());
    assert!(!pod.dir().join("supervisor.json").exists());
    assert!(!pod.dir().join("supervisor.sock").exists());
    assert!(!is_mounted(&pod.dir().join("shm")));
}

#[test]
fn after_sigkill_the_record_is_there_but_not_alive_and_can_be_cleaned_away() {
    needs_host!();
    let pod = Pod::with(|setup| setup.shared_pid = true);
    let init = pod.info.pod_init.unwrap();
    pod.info.kill().unwrap();
    eventually("its end", || !pod.info.is_alive());
    assert!(!SupervisorInfo::read(pod.dir()).unwrap().unwrap().is_alive());
    assert!(Client::connect(pod.dir()).unwrap_err().is_gone());
    eventually("the end of the pod's first process", || !lives(init));
    assert!(is_mounted(&pod.dir().join("shm")));
    supervisor::clean_after_death(pod.dir()).unwrap();
    supervisor::clean_after_death(pod.dir()).unwrap();
    assert!(!is_mounted(&pod.dir().join("shm")));
    assert!(!pod.dir().join("supervisor.json").exists());
}

#[test]
fn the_namespaces_asked_for_are_new_and_the_others_are_the_nodes() {
    needs_host!();
    let pod = Pod::with(|setup| setup.new_ipc = false);
    let of = |pid: &str, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let supervisor = pod.info.pid.to_string();
    for kind in ["net", "uts"] {
        assert_ne!(of(&supervisor, kind), of("self", kind), "{kind}");
    }
    for kind in ["ipc", "pid", "mnt", "user"] {
        assert_eq!(of(&supervisor, kind), of("self", kind), "{kind}");
    }
    assert!(!is_mounted(&pod.dir().join("shm")));
}

#[test]
fn hostname_and_sysctls_are_the_pods_and_not_the_nodes() {
    needs_host!();
    let pod = Pod::with(|setup| {
        setup.hostname = Some("a-pod".to_owned());
        setup
            .sysctls
            .insert("kernel.shm_rmid_forced".into(), "1".into());
        setup
            .sysctls
            .insert("net/ipv4/ip_unprivileged_port_start".into(), "77".into());
    });
    let (container, state) = pod.run(
        "c",
        "hostname; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    assert_eq!(support::code(&state), 0);
    assert_eq!(
        container.log_lines(),
        ["stdout F a-pod", "stdout F 1", "stdout F 77"]
    );
    assert_ne!(
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap()
            .trim(),
        "a-pod"
    );
}

#[test]
fn a_pod_that_cannot_be_set_up_says_why_and_leaves_nothing() {
    needs_host!();
    let cases: [(&str, &str, &str); 3] = [
        ("vm.swappiness", "1", "sysctl vm.swappiness"),
        ("net.ipv4.no_such_thing", "1", "No such file"),
        ("net.ipv4.ip_forward", "maybe", "Invalid argument"),
    ];
    for (name, value, expected) in cases {
        let setup = Pod::setup(|setup| {
            setup.shared_pid = true;
            setup.sysctls.insert(name.into(), value.into());
        });
        let error = launch(&program(), &setup, None, ANSWER_LIMIT).unwrap_err();
        let mut left: Vec<_> = std::fs::read_dir(&setup.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        std::fs::remove_dir_all(&setup.dir).unwrap();
        assert!(
            matches!(&error, Error::Sysctl { name: named, .. } if named == name),
            "{error:?}"
        );
        assert!(error.to_string().contains(expected), "{error}");
        left.sort();
        assert_eq!(left, ["supervisor.lock", "supervisor.log"]);
    }
}

#[test]
fn a_network_namespace_that_is_given_is_the_pods_own() {
    needs_host!();
    let given = Netns::new(|| {
        // A thread's own, which outlives it as an open file.
        let made = std::thread::spawn(|| -> std::io::Result<OwnedFd> {
            let flags = rustix::thread::UnshareFlags::NEWNET;
            // SAFETY: the thread shares nothing but its network with others, and ends.
            unsafe { rustix::thread::unshare_unsafe(flags) }?;
            Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
        });
        made.join().unwrap()
    });
    let setup = Pod::setup(|setup| setup.shared_pid = true);
    let (_client, info) = launch(&program(), &setup, Some(&given), ANSWER_LIMIT).unwrap();
    let pod = Pod::adopt(setup, info);
    let number = |path: String| std::fs::metadata(path).unwrap().ino();
    let fd = given.as_ref().unwrap().as_raw_fd();
    let own = number(format!("/proc/{}/ns/net", pod.info.pid));
    assert_eq!(own, number(format!("/proc/self/fd/{fd}")));
    assert_ne!(own, number("/proc/self/ns/net".into()));
    assert!(pod.info.abilities.has("set_up.netns"));
}

#[test]
fn a_network_namespace_that_cannot_be_made_is_told_and_leaves_no_pod() {
    needs_host!();
    let none = Netns::new(|| Err(std::io::Error::other("no room for networks")));
    let setup = Pod::setup(|_| {});
    let error = launch(&program(), &setup, Some(&none), ANSWER_LIMIT).unwrap_err();
    let found = supervisor::find(&setup.dir, Duration::from_secs(30)).unwrap();
    std::fs::remove_dir_all(&setup.dir).unwrap();
    assert!(
        error.to_string().contains("no room for networks"),
        "{error}"
    );
    assert!(found.is_none(), "{found:?}");
}

#[test]
fn a_program_that_is_no_supervisor_is_an_error() {
    needs_host!();
    let setup = Pod::setup(|_| {});
    let absent = setup.dir.join("program");
    let missing = launch(&absent, &setup, None, ANSWER_LIMIT).unwrap_err();
    let failing = launch(Path::new("/bin/false"), &setup, None, ANSWER_LIMIT).unwrap_err();
    let silent = launch(Path::new("/bin/true"), &setup, None, ANSWER_LIMIT).unwrap_err();
    std::fs::remove_dir_all(&setup.dir).unwrap();
    assert!(
        missing.to_string().contains(absent.to_str().unwrap()),
        "{missing}"
    );
    assert!(matches!(failing, Error::Launch { .. }), "{failing:?}");
    assert!(silent.is_gone(), "{silent:?}");
}

#[test]
fn a_program_that_does_not_answer_is_given_up_at_the_limit_and_killed() {
    needs_host!();
    let program = Path::new("/usr/bin/xargs");
    if !program.exists() {
        eprintln!(
            "SKIP: needs a program that only reads ({})",
            program.display()
        );
        return;
    }
    let setup = Pod::setup(|_| {});
    // It reads its stdin, which is the connection, and answers nothing.
    let error = launch(program, &setup, None, Duration::from_secs(1)).unwrap_err();
    assert!(
        matches!(error, Error::Silent { seconds: 1, .. }),
        "{error:?}"
    );
    // Whoever clears up finds nobody, as what was started has ended.
    let found = supervisor::find(&setup.dir, Duration::from_secs(30)).unwrap();
    assert!(found.is_none(), "{found:?}");
    std::fs::remove_dir_all(&setup.dir).unwrap();
}

#[test]
fn shm_has_its_size_and_is_writable_for_all() {
    needs_host!();
    let pod = Pod::with(|setup| setup.shm_size = 3 << 20);
    let shm = pod.dir().join("shm");
    let stat = rustix::fs::statvfs(&shm).unwrap();
    assert_eq!(stat.f_blocks * stat.f_frsize, 3 << 20);
    assert_eq!(rustix::fs::stat(&shm).unwrap().st_mode & 0o7777, 0o1777);
}

#[test]
fn the_first_process_of_a_shared_pid_namespace_has_nothing_to_give_away() {
    needs_host!();
    let pod = Pod::with(|setup| setup.shared_pid = true);
    let proc = format!("/proc/{}", pod.info.pod_init.unwrap());
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    assert!(
        status.contains("Uid:\t65535\t65535\t65535\t65535"),
        "{status}"
    );
    assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
    assert_eq!(
        std::fs::read_dir(format!("{proc}/root/")).unwrap().count(),
        0
    );
    assert_eq!(std::fs::read_dir(format!("{proc}/fd")).unwrap().count(), 0);
}

#[test]
fn containers_of_a_shared_pid_namespace_see_each_other_and_orphans_are_reaped() {
    needs_host!();
    let pod = Pod::with(|setup| setup.shared_pid = true);
    pod.running("one", "sleep 1000");
    let (container, state) = pod.run(
        "two",
        "cat /proc/1/comm; (sleep 0.01 &); sleep 0.1; cat /proc/[0-9]*/comm",
    );
    assert_eq!(support::code(&state), 0);
    let lines = container.log_lines();
    assert_eq!(lines[0], "stdout F floe-pod-init");
    assert_eq!(
        lines.iter().filter(|line| line.ends_with("sleep")).count(),
        1,
        "{lines:?}"
    );
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == path.to_str())
}

#[test]
fn a_request_and_a_refusal_longer_than_the_sockets_buffer_hang_nobody() {
    needs_host!();
    let setup = Pod::setup(|setup| setup.hostname = Some("long".repeat(300_000)));
    let error = launch(&program(), &setup, None, ANSWER_LIMIT).unwrap_err();
    assert!(
        error.to_string().starts_with("hostname: "),
        "refused for its name"
    );
    std::fs::remove_dir_all(&setup.dir).unwrap();
}
