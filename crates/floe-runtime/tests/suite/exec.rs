//! exec: a further process in a container, in all of its namespaces and its cgroup.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Lab, soon};
use serde_json::json;

/// A lab with a container `c` that sleeps.
fn running() -> Lab {
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab
}

#[test]
fn an_exec_has_the_programs_exit_code_and_output() {
    needs_host!();
    let lab = running();
    let done = lab.call(&["exec", "c", "sh", "-c", "echo out; echo err >&2; exit 9"]);
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (9, "out\n", "err\n")
    );
    assert_eq!(
        lab.call(&["exec", "c", "sh", "-c", "kill -15 $$"]).code,
        143
    );
    assert_eq!(lab.call(&["exec", "c", "true"]).code, 0);
}

#[test]
fn what_the_runtime_cannot_do_is_255() {
    needs_host!();
    let mut lab = running();
    let absent = lab.dir.join("absent").display().to_string();
    for (arguments, words) in [
        (
            &["exec", "c", "nope"][..],
            "exec: \"nope\": executable file not found in $PATH",
        ),
        (&["exec", "c", "/etc"], "is a directory"),
        (&["exec", "c"], "process args cannot be empty"),
        (&["exec", "nobody", "true"], "container does not exist"),
        (&["exec", "--cwd", "relative", "c", "true"], "process.cwd"),
        (
            &["exec", "--cwd", "/not/there", "c", "true"],
            "chdir to cwd (\"/not/there\") set in config.json failed: no such file or directory",
        ),
        (
            &["exec", "--user", "me", "c", "true"],
            "--user \"me\": \"me\" is not a number",
        ),
        (&["exec", "-p", &absent, "c"], &format!("read {absent}")),
        (&["exec", "-d", "-t", "c", "true"], "cannot allocate tty"),
    ] {
        let done = lab.call(arguments);
        assert_eq!(done.code, 255, "{done:#?}");
        done.fails(words);
    }
    lab.call(&["kill", "c", "9"]).ok();
    soon("its end", || lab.status("c") == "stopped");
    let done = lab.call(&["exec", "c", "true"]);
    assert_eq!(done.code, 255);
    done.fails("cannot exec in a stopped container");
    lab.script("");
}

#[test]
fn all_namespaces_and_the_cgroup_are_the_containers() {
    needs_host!();
    let lab = running();
    let pid = lab.pid("c");
    for kind in ["mnt", "net", "ipc", "uts", "pid", "cgroup"] {
        let inside = lab
            .call(&["exec", "c", "readlink", &format!("/proc/self/ns/{kind}")])
            .ok();
        let of_init = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(inside.trim_end(), of_init.to_str().unwrap());
    }
    lab.call(&["exec", "-d", "--pid-file", "exec-pid", "c", "sleep", "1000"])
        .ok();
    let exec: i32 = std::fs::read_to_string(lab.dir.join("bundle/exec-pid"))
        .unwrap()
        .parse()
        .unwrap();
    let cgroup = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroup(exec), cgroup(pid));
    let ps = lab.call(&["ps", "c"]).ok();
    assert_eq!(
        ps.lines()
            .filter(|line| line.contains("sleep 1000"))
            .count(),
        2,
        "{ps}"
    );
}

#[test]
fn options_change_the_containers_process() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["env"] = json!(["PATH=/bin", "A=1", "B=2"]);
    std::fs::write(lab.rootfs("etc/passwd"), "u:x:1000:1000::/home/u:/bin/sh\n").unwrap();
    lab.sleeper("c");
    let script = "grep -E '^(Uid|Gid|Groups)' /proc/self/status; pwd; echo $A $B $HOME";
    let out = lab
        .call(&[
            "exec",
            "--user",
            "1000:1001",
            "-g",
            "5",
            "--cwd",
            "/tmp",
            "-e",
            "A=9",
            "--env",
            "C=3",
            "c",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let want = "Uid:\t1000\t1000\t1000\t1000\nGid:\t1001\t1001\t1001\t1001\nGroups:\t5 \n/tmp\n9 2 /home/u\n";
    assert_eq!(out, want);
    let status = lab
        .call(&[
            "exec",
            "--cap",
            "CAP_SYSLOG",
            "c",
            "grep",
            "CapBnd",
            "/proc/self/status",
        ])
        .ok();
    let bits = u64::from_str_radix(status.split_whitespace().last().unwrap(), 16).unwrap();
    assert_ne!(bits & (1 << 34), 0, "CAP_SYSLOG");
}

/// A number is that user, whatever passwd calls by it (crun's CVE-2026-30892); what is none is refused, and
/// above all what the kernel would take for "no change", which is root.
#[test]
fn the_user_of_an_exec_is_the_number_given_or_it_is_refused() {
    needs_host!();
    let mut lab = Lab::new();
    let passwd = "1:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\nu:x:7:8::/:/bin/sh\n";
    std::fs::write(lab.rootfs("etc/passwd"), passwd).unwrap();
    std::fs::write(lab.rootfs("etc/group"), "1:x:0:\nusers:x:100:\n").unwrap();
    lab.config["process"]["user"] = json!({ "uid": 3, "gid": 4 });
    lab.sleeper("c");
    let ids = "echo $(id -u) $(id -g)";
    for (user, want) in [
        ("1", "1 4"),
        ("0", "0 4"),
        ("1:1", "1 1"),
        ("01:002", "1 2"),
        ("4294967294:4294967294", "4294967294 4294967294"),
    ] {
        let seen = lab.call(&["exec", "--user", user, "c", "sh", "-c", ids]);
        assert_eq!(seen.ok(), format!("{want}\n"), "{user}");
    }
    for user in [
        "",
        ":",
        "1:",
        ":1",
        "+1",
        "-1",
        "1:+1",
        "1:-1",
        "1:users",
        "u",
        "1:2:3",
        " 1",
        "1 ",
        "0x1",
        "1.0",
        "4294967295",
        "1:4294967295",
        "4294967296",
        "99999999999999999999999",
    ] {
        let done = lab.call(&["exec", &format!("--user={user}"), "c", "sh", "-c", ids]);
        assert_eq!(
            (done.code, done.out.as_str()),
            (255, ""),
            "{user:?}: {done:#?}"
        );
        assert!(done.err.contains("--user"), "{user:?}: {done:#?}");
    }
}

#[test]
fn a_process_can_come_from_a_file() {
    needs_host!();
    let lab = running();
    let process = json!({ "args": ["/bin/sh", "-c", "pwd; id -u; echo ${PATH-unset}"], "cwd": "/tmp", "user": { "uid": 7, "gid": 7 } });
    std::fs::write(lab.dir.join("process.json"), process.to_string()).unwrap();
    let file = lab.dir.join("process.json");
    let out = lab
        .call(&["exec", "--process", file.to_str().unwrap(), "c"])
        .ok();
    assert!(out.starts_with("/tmp\n7\n"), "{out}");
}

#[test]
fn a_created_container_takes_execs_before_it_is_started() {
    needs_host!();
    let lab = Lab::sh("echo started");
    let created = lab.call(&["create", "c"]);
    assert_eq!(lab.call(&["exec", "c", "hostname"]).ok(), "lab\n");
    assert_eq!(lab.status("c"), "created");
    lab.call(&["start", "c"]).ok();
    soon("output", || created.by_now() == "started\n");
}

#[test]
fn a_paused_container_refuses_at_once_also_before_it_is_started() {
    needs_host!();
    let lab = Lab::new();
    lab.call(&["create", "c"]).ok();
    for _ in 0..2 {
        lab.call(&["pause", "c"]).ok();
        let done = lab.call(&["exec", "c", "true"]);
        assert_eq!(done.code, 255);
        done.fails("cannot exec in a paused container");
        lab.call(&["resume", "c"]).ok();
    }
}

#[test]
fn an_exec_ends_with_its_container() {
    needs_host!();
    let lab = running();
    let mut exec = lab.spawn(&["exec", "c", "sh", "-c", "touch /tmp/ready; sleep 1000"]);
    soon("the exec", || lab.rootfs("tmp/ready").exists());
    lab.call(&["kill", "c", "KILL"]).ok();
    assert_eq!(exec.wait().unwrap().code(), Some(137));
}

#[test]
fn signals_to_exec_go_on_to_its_process() {
    needs_host!();
    let lab = running();
    let mut exec = lab.spawn(&[
        "exec",
        "c",
        "sh",
        "-c",
        "trap 'exit 6' HUP; touch /tmp/ready; while :; do usleep 10000; done",
    ]);
    soon("the trap", || lab.rootfs("tmp/ready").exists());
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&exec),
        rustix::process::Signal::HUP,
    )
    .unwrap();
    assert_eq!(exec.wait().unwrap().code(), Some(6));
}

#[test]
fn an_exec_keeps_the_containers_limits_and_filter() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 99 }]);
    lab.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
    });
    lab.sleeper("c");
    let out = lab.call(&[
        "exec",
        "c",
        "sh",
        "-c",
        "ulimit -n; mkdir /tmp/x 2>&1; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status",
    ]);
    let want = "99\nmkdir: can't create directory '/tmp/x': Function not implemented\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    assert_eq!(out.out, want);
}

#[test]
fn a_directory_that_leads_outside_is_no_working_directory() {
    needs_host!();
    let lab = running();
    // The way of CVE-2024-21626: a descriptor of the host that the runtime left open.
    for number in 3..12 {
        let done = lab.call(&[
            "exec",
            "--cwd",
            &format!("/proc/self/fd/{number}"),
            "c",
            "pwd",
        ]);
        assert_ne!(done.code, 0, "{done:#?}");
    }
}

#[test]
fn a_program_without_permission_to_execute_is_refused() {
    needs_host!();
    let lab = running();
    std::fs::write(lab.rootfs("bin/tool"), "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(lab.rootfs("bin/tool"), PermissionsExt::from_mode(0o644)).unwrap();
    lab.call(&["exec", "c", "tool"])
        .fails("exec: \"tool\": permission denied");
}
