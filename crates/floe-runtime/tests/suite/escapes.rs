//! Known ways out of a container, tried here, and seen to fail. The overwriting of the runtime's
//! program (CVE-2019-5736) is tried in `lifecycle.rs`.

use std::os::unix::fs::symlink;

use crate::support::{self, Lab};
use serde_json::json;

/// CVE-2024-21626: a working directory behind a descriptor that leads to the host.
#[test]
fn no_descriptor_of_the_host_is_a_working_directory() {
    needs_host!();
    let mut lab = Lab::new();
    for number in 3..16 {
        lab.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let done = lab.script("ls; pwd").run();
        assert_ne!(done.code, 0, "{done:#?}");
    }
    lab.config["process"]["cwd"] = json!("/");
    lab.sleeper("c");
    for number in 3..16 {
        let cwd = format!("/proc/self/fd/{number}");
        let done = lab.call(&["exec", "--cwd", &cwd, "c", "ls"]);
        assert_eq!(done.code, 255, "{done:#?}");
    }
}

/// The same from inside: what a program inherits.
#[test]
fn a_program_has_its_streams_and_no_other_descriptor() {
    needs_host!();
    let mut lab = Lab::new();
    // 3 is the directory that ls itself reads.
    assert_eq!(lab.prints("exec ls /proc/self/fd"), "0\n1\n2\n3\n");
    lab.sleeper("c");
    let seen = lab.call(&["exec", "c", "ls", "/proc/self/fd"]).ok();
    assert_eq!(seen, "0\n1\n2\n3\n");
}

/// CVE-2022-29162: capabilities that a program with file capabilities would inherit.
#[test]
fn nothing_is_inheritable_unless_config_json_says_so() {
    needs_host!();
    let mut lab = Lab::new();
    let inherited = "grep -E 'Cap(Inh|Amb)' /proc/self/status | cut -f2";
    let none = "0000000000000000\n0000000000000000\n";
    assert_eq!(lab.prints(inherited), none);
    lab.sleeper("c");
    let exec = ["exec", "--cap", "CAP_SYS_ADMIN", "c", "sh", "-c", inherited];
    assert_eq!(lab.call(&exec).ok(), none);
}

/// CVE-2021-30465, CVE-2023-27561: links of the image where mounts are to be made.
#[test]
fn links_of_the_image_lead_no_mount_and_no_directory_outside() {
    needs_host!();
    let mut lab = Lab::new();
    let outside = lab.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("{}{}", "/..".repeat(12), outside.display());
    symlink(&up, lab.rootfs("link")).unwrap();
    symlink(&outside, lab.rootfs("absolute")).unwrap();
    lab.mount("/link/made", "tmpfs", "tmpfs", &[]);
    lab.mount("/absolute/made", "tmpfs", "tmpfs", &[]);
    lab.config["linux"]["maskedPaths"] = json!(["/link", "/absolute/made"]);
    lab.config["linux"]["devices"] =
        json!([{ "path": "/link/node", "type": "c", "major": 1, "minor": 3 }]);
    assert_eq!(lab.prints("echo ran"), "ran\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

/// CVE-2025-31133: the image's own /dev/null, which is none, in the place of what is masked.
#[test]
fn what_is_masked_does_not_become_what_the_image_calls_dev_null() {
    needs_host!();
    let mut lab = Lab::new();
    let mounts = lab.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] == "/proc");
    symlink("/proc/sys/kernel/core_pattern", lab.rootfs("dev/null")).unwrap();
    std::fs::write(lab.rootfs("secret"), "told").unwrap();
    lab.config["linux"]["maskedPaths"] = json!(["/secret"]);
    let before = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    // Refused, for /dev/null is there and is no device; or hidden behind the host's own.
    let done = lab.script("echo x > /secret; cat /secret").run();
    assert!(done.code != 0 || done.out.is_empty(), "{done:#?}");
    assert_eq!(
        std::fs::read("/proc/sys/kernel/core_pattern").unwrap(),
        before
    );
}

/// CVE-2022-0492 and its like: a hierarchy of v1 whose release_agent the host would run.
#[test]
fn no_hierarchy_can_be_mounted_or_written_to() {
    needs_host!();
    let mut lab = Lab::new();
    let options = ["nosuid", "noexec", "nodev", "ro"];
    lab.mount("/sys/fs/cgroup", "cgroup", "cgroup", &options);
    let out = lab.prints(
        "mount -t cgroup -o memory none /tmp 2>/dev/null || echo refused; \
         for file in $(ls -d /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent 2>/dev/null); do echo $file; done; \
         mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused",
    );
    assert_eq!(out, "refused\nrefused\n");
}

/// An exec goes where the container is, not where its first process went.
#[test]
fn an_exec_does_not_follow_the_container_into_a_root_of_its_own_making() {
    needs_host!();
    let mut lab = Lab::new();
    std::fs::create_dir_all(lab.rootfs("jail/bin")).unwrap();
    std::fs::copy("/bin/busybox", lab.rootfs("jail/bin/sleep")).unwrap();
    std::fs::copy("/bin/busybox", lab.rootfs("bin/chroot")).unwrap();
    lab.config["process"]["args"] = json!(["chroot", "/jail", "/bin/sleep", "1000"]);
    lab.call(&["run", "-d", "c"]).ok();
    let root = format!("/proc/{}/root", lab.pid("c"));
    support::soon("its chroot", || {
        std::fs::read_link(&root).is_ok_and(|root| root.ends_with("jail"))
    });
    assert_eq!(
        lab.call(&["exec", "c", "ls", "-d", "/jail"]).ok(),
        "/jail\n"
    );
}

/// A container that may trace its processes sees its first one before it is its own program: then it
/// must not hold the environment of whoever called the runtime.
#[test]
fn the_callers_environment_is_out_of_reach_even_with_the_right_to_trace() {
    needs_host!();
    let mut lab = Lab::new();
    for set in ["effective", "permitted", "bounding"] {
        lab.config["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE"]);
    }
    let look = "tr '\\0' '\\n' < /proc/1/environ > /tmp/seen; echo looked >> /tmp/seen";
    lab.config["hooks"] = json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", look], "env": ["PATH=/bin"] }] });
    let (mut command, ..) = lab.command(&["run", "c"]);
    let status = command.env("OF_THE_CALLER", "secret").status().unwrap();
    assert!(status.success());
    let seen = std::fs::read_to_string(lab.rootfs("tmp/seen")).unwrap();
    assert!(
        seen.ends_with("looked\n") && !seen.contains("OF_THE_CALLER"),
        "{seen}"
    );
}

/// CVE-2025-52565, CVE-2026-41579: the image's /dev/console, or its /dev, is a link, and the terminal would be
/// mounted on what that leads to.
#[test]
fn the_terminal_is_mounted_on_no_link_of_the_image() {
    needs_host!();
    let mut lab = Lab::new();
    let outside = lab.dir.join("outside");
    std::fs::write(&outside, "the host's").unwrap();
    // /dev is the image's own.
    let mounts = lab.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] == "/proc" || mount["destination"] == "/dev/pts");
    std::fs::create_dir(lab.rootfs("dev/pts")).unwrap();
    symlink("pts/ptmx", lab.rootfs("dev/ptmx")).unwrap();
    std::fs::write(lab.rootfs("etc/victim"), "of the image").unwrap();
    lab.config["process"]["terminal"] = json!(true);
    for to in [
        outside.to_str().unwrap(),
        "/etc/victim",
        "../proc/sys/kernel/core_pattern",
        "none",
    ] {
        symlink(to, lab.rootfs("dev/console")).unwrap();
        lab.script("cat /etc/victim")
            .run()
            .fails("mount /dev/console: it is a symbolic link of the image");
        std::fs::remove_file(lab.rootfs("dev/console")).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "the host's");
    // What is no link is covered.
    std::fs::write(lab.rootfs("dev/console"), "").unwrap();
    let out = lab.prints("stat -Lc %F /dev/console");
    assert!(out.starts_with("character special file"), "{out}");
    std::fs::rename(lab.rootfs("dev"), lab.rootfs("real")).unwrap();
    symlink("real", lab.rootfs("dev")).unwrap();
    lab.run().fails("/dev must be an ordinary directory");
}

/// CVE-2025-52881: parameters and labels are written to the host's /proc, not to what the image or a
/// mount puts in its place.
#[test]
fn parameters_are_set_in_the_real_proc_whatever_is_mounted_there() {
    needs_host!();
    let mut lab = Lab::new();
    let name = "net/ipv4/ip_default_ttl";
    let host = std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    lab.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "77" });
    // A false /proc of the image, which has the file.
    let fake = lab.rootfs("fake/sys/net/ipv4");
    std::fs::create_dir_all(&fake).unwrap();
    std::fs::write(fake.join("ip_default_ttl"), "fake").unwrap();
    std::fs::create_dir(lab.rootfs("real")).unwrap();
    let source = lab.rootfs("fake").to_str().unwrap().to_owned();
    let mounts = lab.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/proc");
    lab.mount("/real", "proc", "proc", &[]);
    lab.mount("/proc", "bind", &source, &["bind"]);
    let seen = lab.prints(&format!("cat /real/sys/{name} /proc/sys/{name}"));
    assert_eq!(seen, "77\nfake");
    assert_eq!(
        std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap(),
        host
    );
}

/// A process of the container, root as well, looks into what joins it. (With CAP_SYS_PTRACE and without
/// a user namespace the kernel lets it: then there is no environment to be
/// found, see above.)
#[test]
fn the_memory_of_a_process_that_joins_is_out_of_reach() {
    needs_host!();
    let mut lab = Lab::new();
    // Every program of the image is busybox: any other file that is mapped is the runtime's.
    lab.script(
        "touch /tmp/ready; while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do
            grep / $p/maps | grep -v /bin/busybox >>/tmp/read
         done; done 2>/dev/null",
    );
    lab.call(&["run", "-d", "c"]).ok();
    support::soon("the reader", || lab.rootfs("tmp/ready").exists());
    for _ in 0..40 {
        lab.call(&["exec", "c", "true"]).ok();
    }
    std::fs::write(lab.rootfs("tmp/stop"), "").unwrap();
    support::soon("its end", || lab.status("c") == "stopped");
    let read = std::fs::read_to_string(lab.rootfs("tmp/read")).unwrap();
    assert_eq!(
        read.lines().next(),
        None,
        "a process of the runtime was read"
    );
}

/// Names the host's file that the hunter looks for, in a container that hunts.
const PREY: &str = "FLOE_TEST_PREY";

/// What a container with CAP_SYS_PTRACE may do to all it sees, as fast as it can: this test's own program,
/// run inside. It writes what it found to /tmp/hits, and all processes that it saw to /tmp/seen.
#[test]
fn the_hunter_inside() {
    let Ok(prey) = std::env::var(PREY) else {
        return;
    };
    let capabilities = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
    };
    let own = capabilities(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap();
    let up = "/..".repeat(12);
    let mut seen = std::collections::BTreeSet::new();
    std::fs::write("/tmp/ready", "").unwrap();
    while !std::path::Path::new("/tmp/stop").exists() {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let process = format!("/proc/{name}");
            let mut ways = vec![
                format!("{process}/root{prey}"),
                format!("{process}/cwd{up}{prey}"),
            ];
            let fds = std::fs::read_dir(format!("{process}/fd"));
            for fd in fds.into_iter().flatten().flatten() {
                ways.push(format!("{}{up}{prey}", fd.path().display()));
            }
            let hit = |what: &str| {
                let mut hits = std::fs::read_to_string("/tmp/hits").unwrap_or_default();
                hits.push_str(what);
                std::fs::write("/tmp/hits", hits + "\n").unwrap();
            };
            for way in &ways {
                if std::fs::read(way).is_ok() {
                    hit(way);
                }
            }
            // Rights in a user namespace of its own are none here.
            let users = |of: &str| std::fs::read_link(format!("{of}/ns/user")).ok();
            let ours = users(&process).is_some_and(|it| Some(it) == users("/proc/self"));
            let status = std::fs::read_to_string(format!("{process}/status"));
            let more = |status: &String| capabilities(status).is_some_and(|all| all & !own != 0);
            if ours && status.as_ref().is_ok_and(more) {
                hit(&format!("capabilities of {process}"));
            }
            seen.insert(name);
        }
    }
    let seen: Vec<String> = seen.into_iter().collect();
    std::fs::write("/tmp/seen", seen.join("\n")).unwrap();
}

/// A container that hunts, with CAP_SYS_PTRACE.
fn hunter() -> Lab {
    let mut lab = Lab::new();
    let prey = lab.dir.join("prey");
    std::fs::write(&prey, "of the host").unwrap();
    let own = std::env::current_exe().unwrap();
    std::fs::copy(own, lab.rootfs("bin/hunter")).unwrap();
    for set in ["effective", "permitted", "bounding"] {
        lab.config["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE"]);
    }
    lab.config["process"]["args"] = json!(["/bin/hunter", "--exact", "escapes::the_hunter_inside"]);
    let prey = format!("{PREY}={}", prey.display());
    lab.config["process"]["env"] = json!(["PATH=/bin", prey]);
    lab.call(&["run", "-d", "hunter"]).ok();
    support::soon("the hunt", || lab.rootfs("tmp/ready").exists());
    lab
}

fn has_caught_nothing(lab: &Lab) {
    std::fs::write(lab.rootfs("tmp/stop"), "").unwrap();
    support::soon("the end of the hunt", || {
        lab.rootfs("tmp/seen").exists() && lab.status("hunter") == "stopped"
    });
    let hits = std::fs::read_to_string(lab.rootfs("tmp/hits")).unwrap_or_default();
    assert_eq!(hits, "", "the host was reached");
    let seen = std::fs::read_to_string(lab.rootfs("tmp/seen")).unwrap();
    // Itself, and some of those that came: else nothing was tried.
    assert!(seen.lines().count() > 1, "{seen}");
}

/// A command that joins a container is seen there only below the container's root, and with no more
/// rights than it was asked to have.
#[test]
fn the_host_is_not_reached_through_what_joins_a_container_that_may_trace() {
    needs_host!();
    let lab = hunter();
    for _ in 0..40 {
        lab.call(&["exec", "hunter", "busybox", "true"]).ok();
    }
    has_caught_nothing(&lab);
}

/// The same for a container that is made in another's PID namespace.
#[test]
fn the_host_is_not_reached_through_a_container_made_beside_one_that_may_trace() {
    needs_host!();
    let lab = hunter();
    let mut beside = Lab::sh("sleep 0.01");
    let processes = format!("/proc/{}/ns/pid", lab.pid("hunter"));
    beside.namespace("pid", Some(&processes));
    for set in ["effective", "permitted", "bounding"] {
        beside.config["process"]["capabilities"][set] = json!([]);
    }
    for _ in 0..20 {
        assert_eq!(beside.run().code, 0);
    }
    has_caught_nothing(&lab);
}
