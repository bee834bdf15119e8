//! checkpoint and restore by criu: what a container is made of comes back, what is the host's comes
//! from its config.json, and whatever fails leaves things as they were. criu does not start on every
//! kernel; `make test-vm` has one on which it does.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::criu::{COUNTING, checkpoint, count, counting, counts_on, is_gone, restore};
use crate::support::{Lab, read_until, receive, soon};
use serde_json::json;

#[test]
fn a_container_goes_on_where_it_was_in_every_mode_of_cgroups() {
    needs_criu!();
    let lab = counting();
    let pid_file = lab.dir.join("pid");
    for mode in ["", "full", "ignore"] {
        checkpoint(&lab, &["--manage-cgroups-mode", mode]).ok();
        is_gone(&lab);
        let reached = count(&lab);
        let options = ["--manage-cgroups-mode", mode, "--pid-file"];
        restore(
            &lab,
            &[&options[..], &[pid_file.to_str().unwrap()]].concat(),
        )
        .ok();
        assert_eq!(lab.status("c"), "running");
        counts_on(&lab, reached);
        let pid = lab.pid("c").to_string();
        assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), pid);
        assert!(lab.call(&["ps", "c"]).ok().contains("/tmp/count"));
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(cgroup.contains(&format!("/{}/c\n", lab.name())), "{cgroup}");
    }
    lab.call(&["pause", "c"]).ok();
    assert_eq!(lab.status("c"), "paused");
    lab.call(&["resume", "c"]).ok();
    lab.call(&["kill", "c", "KILL"]).ok();
    soon("its end", || lab.status("c") == "stopped");
    lab.call(&["delete", "c"]).ok();
    lab.is_clean().unwrap();
}

#[test]
fn an_exec_joins_a_restored_container_and_what_an_exec_left_is_restored() {
    needs_criu!();
    let lab = counting();
    let script = "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!";
    let child = lab.call(&["exec", "c", "sh", "-c", script]).ok();
    for _ in 0..2 {
        checkpoint(&lab, &[]).ok();
        restore(&lab, &[]).ok();
        let uptime = "read up rest </proc/uptime; echo $up; cat /proc/$0/cmdline | tr '\\0' ' '";
        let said = lab
            .call(&["exec", "c", "sh", "-c", uptime, child.trim()])
            .ok();
        assert!(said.contains("sleep 1000"), "{said}");
        // In the container's own time namespace, as its processes are.
        let time = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
        let inside = lab
            .call(&["exec", "c", "readlink", "/proc/self/ns/time"])
            .ok();
        assert_eq!(Path::new(inside.trim()), time(&lab.pid("c").to_string()));
    }
}

#[test]
fn a_container_left_running_runs_on_with_its_images_written() {
    needs_criu!();
    let lab = counting();
    let pid = lab.pid("c");
    let images = lab.dir.join("images");
    checkpoint(
        &lab,
        &["--leave-running", "--image-path", images.to_str().unwrap()],
    )
    .ok();
    counts_on(&lab, count(&lab));
    assert_eq!((lab.pid("c"), lab.status("c")), (pid, "running".into()));
    for file in ["inventory.img", "descriptors.json", "dump.log"] {
        assert!(images.join(file).exists(), "{file}");
    }
}

#[test]
fn a_paused_container_can_be_checkpointed() {
    needs_criu!();
    let lab = counting();
    lab.call(&["pause", "c"]).ok();
    let reached = count(&lab);
    checkpoint(&lab, &[]).ok();
    is_gone(&lab);
    restore(&lab, &[]).ok();
    assert_eq!(lab.status("c"), "running");
    counts_on(&lab, reached);
}

#[test]
fn logs_go_to_the_work_path() {
    needs_criu!();
    let lab = counting();
    let work = lab.dir.join("work");
    checkpoint(&lab, &["--work-path", work.to_str().unwrap()]).ok();
    restore(&lab, &["--work-path", work.to_str().unwrap()]).ok();
    for log in ["dump.log", "restore.log"] {
        assert!(work.join(log).exists(), "{log}");
        assert!(
            !lab.dir.join("bundle/checkpoint").join(log).exists(),
            "{log}"
        );
    }
}

/// `run` or `restore` with pipes; the caller's ends.
fn piped(lab: &Lab, arguments: &[&str]) -> (Child, impl Write, impl BufRead) {
    let (mut command, ..) = lab.command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut errors = String::new();
    if !child.wait().unwrap().success() {
        drop(child.stderr.take().unwrap().read_to_string(&mut errors));
    }
    assert_eq!(errors, "");
    (child, input, BufReader::new(output))
}

#[test]
fn pipes_are_those_of_the_restore() {
    needs_criu!();
    let lab = Lab::sh("while read line; do echo got $line; done");
    let (_run, mut input, mut output) = piped(&lab, &["run", "-d", "c"]);
    let mut line = String::new();
    input.write_all(b"one\n").unwrap();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "got one\n");
    checkpoint(&lab, &[]).ok();
    for word in ["two", "three"] {
        let (_restore, mut input, mut output) = piped(&lab, &["restore", "-d", "c"]);
        line.clear();
        writeln!(input, "{word}").unwrap();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("got {word}\n"));
        checkpoint(&lab, &[]).ok();
    }
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    needs_criu!();
    let mut lab = Lab::sh("echo ready; while read line; do echo got $line; done");
    lab.config["process"]["terminal"] = json!(true);
    let path = lab.dir.join("console.sock");
    let socket = ["--console-socket", path.to_str().unwrap()];
    let listener = UnixListener::bind(&path).unwrap();
    lab.call(&[&["run", "-d"][..], &socket, &["c"]].concat())
        .ok();
    let (mut master, _) = receive(&listener);
    read_until(&mut master, "ready");
    restore(&lab, &[]).fails("cannot allocate tty");
    checkpoint(&lab, &[]).ok();
    drop(master);
    restore(&lab, &socket).ok();
    let (mut master, name) = receive(&listener);
    assert!(!name.is_empty());
    master.write_all(b"word\n").unwrap();
    assert!(read_until(&mut master, "got word").contains("got word"));
}

#[test]
fn in_the_foreground_the_exit_code_is_the_containers() {
    needs_criu!();
    let lab = Lab::sh(
        "exec </dev/null >/dev/null 2>&1; touch /tmp/ready; \
         while [ ! -e /tmp/end ]; do usleep 50000; done; exit 7",
    );
    lab.call(&["run", "-d", "c"]).ok();
    soon("it is ready", || lab.rootfs("tmp/ready").exists());
    checkpoint(&lab, &[]).ok();
    let mut restored = lab.spawn(&["restore", "c"]);
    soon("it runs", || {
        lab.call(&["state", "c"]).out.contains("\"running\"")
    });
    File::create(lab.rootfs("tmp/end")).unwrap();
    assert_eq!(restored.wait().unwrap().code(), Some(7));
    is_gone(&lab);
}

#[test]
fn binds_come_from_the_configuration_and_hidden_paths_stay_hidden() {
    needs_criu!();
    let mut lab = Lab::sh(COUNTING);
    std::os::unix::fs::symlink("busybox", lab.rootfs("bin/mv")).unwrap();
    std::fs::create_dir_all(lab.rootfs("real/conf")).unwrap();
    std::os::unix::fs::symlink("/real/conf", lab.rootfs("conf")).unwrap();
    std::fs::write(lab.rootfs("etc/secret"), "secret").unwrap();
    for source in ["one", "two", "inner"] {
        std::fs::create_dir(lab.dir.join(source)).unwrap();
        std::fs::write(lab.dir.join(source).join("name"), source).unwrap();
    }
    lab.mount("/conf", "none", "../one", &["bind", "ro"]);
    lab.mount("/data", "none", "../one", &["bind"]);
    lab.mount("/data/for/inner", "none", "../inner", &["rbind"]);
    lab.mount("/dev/note", "none", "../inner/name", &["bind"]);
    lab.mount("/sys", "sysfs", "sysfs", &["ro"]);
    lab.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    lab.config["linux"]["maskedPaths"] =
        json!(["/etc/secret", "/proc/kcore", "/sys/firmware", "/proc/scsi"]);
    lab.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    lab.call(&["run", "-d", "c"]).ok();
    let look = "cat /conf/name /data/name /data/for/inner/name /dev/note /etc/secret; \
                touch /conf/x 2>/dev/null; touch /data/x; ls /proc/scsi | wc -l; \
                cat /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/cgroup.procs 2>/dev/null | head -n 1; \
                echo 1 2>/dev/null >/proc/sys/kernel/hostname || echo read-only";
    let seen = |lab: &Lab| lab.call(&["exec", "c", "sh", "-c", look]).ok();
    assert_eq!(seen(&lab), "oneoneinnerinner0\n1\nread-only\n");
    checkpoint(&lab, &[]).ok();
    // Other sources, and places to mount on that are made anew.
    std::fs::remove_dir_all(lab.dir.join("one")).unwrap();
    for mount in lab.config["mounts"].as_array_mut().unwrap() {
        if mount["source"] == "../one" {
            mount["source"] = json!("../two");
        }
    }
    restore(&lab, &[]).ok();
    assert_eq!(seen(&lab), "twotwoinnerinner0\n1\nread-only\n");
    assert!(lab.dir.join("two/x").exists());
}

#[test]
fn a_cgroup_mount_without_a_cgroup_namespace_comes_back() {
    needs_criu!();
    let mut lab = Lab::sh(COUNTING);
    std::os::unix::fs::symlink("busybox", lab.rootfs("bin/mv")).unwrap();
    lab.namespace("cgroup", None);
    lab.mount("/sys", "sysfs", "sysfs", &["ro"]);
    lab.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    lab.call(&["run", "-d", "c"]).ok();
    let look = ["exec", "c", "ls", "/sys/fs/cgroup"];
    let seen = lab.call(&look).ok();
    checkpoint(&lab, &[]).ok();
    restore(&lab, &[]).ok();
    assert_eq!(lab.call(&look).ok(), seen);
}

#[test]
fn joined_namespaces_are_joined_again() {
    needs_criu!();
    let mut lab = Lab::new();
    lab.sleeper("holder");
    let holder = lab.pid("holder");
    for (kind, file) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
        lab.namespace(kind, Some(&format!("/proc/{holder}/ns/{file}")));
    }
    lab.config.as_object_mut().unwrap().remove("hostname");
    lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/c", lab.name()));
    std::os::unix::fs::symlink("busybox", lab.rootfs("bin/mv")).unwrap();
    lab.script(COUNTING).call(&["run", "-d", "c"]).ok();
    for _ in 0..2 {
        soon("its first number", || count(&lab) > 2);
        checkpoint(&lab, &[]).ok();
        let reached = count(&lab);
        restore(&lab, &[]).ok();
        counts_on(&lab, reached);
        for file in ["net", "uts", "ipc"] {
            let of = |pid| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
            assert_eq!(of(lab.pid("c")), of(holder), "{file}");
        }
    }
    assert_eq!(lab.status("holder"), "running");
}

#[test]
fn hooks_run_before_a_restored_container_goes_on() {
    needs_criu!();
    let lab = &mut counting();
    checkpoint(lab, &[]).ok();
    let reached = count(lab);
    let log = lab.dir.join("log");
    let note = |word: &str| {
        let script = format!(
            "echo {word} $(cat {}) >>{}; cat >>{1}",
            lab.rootfs("tmp/count").display(),
            log.display()
        );
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }])
    };
    lab.config["hooks"] =
        json!({ "prestart": note("prestart"), "createRuntime": note("createRuntime") });
    restore(lab, &[]).ok();
    let said = std::fs::read_to_string(&log).unwrap();
    let (first, second) = said.split_once("createRuntime").unwrap();
    assert!(
        first.starts_with(&format!("prestart {reached}\n")),
        "{said}"
    );
    assert!(
        second.contains(&format!("\"pid\":{}", lab.pid("c"))),
        "{said}"
    );
    counts_on(lab, reached);
}

#[test]
fn a_memory_image_is_the_parent_of_the_checkpoint() {
    needs_criu!();
    let lab = counting();
    let (parent, images) = (lab.dir.join("parent"), lab.dir.join("images"));
    let to = |path: &Path| path.to_str().unwrap().to_owned();
    checkpoint(&lab, &["--pre-dump", "--image-path", &to(&parent)]).ok();
    assert_eq!(lab.status("c"), "running");
    counts_on(&lab, count(&lab));
    checkpoint(
        &lab,
        &["--parent-path", "../parent", "--image-path", &to(&images)],
    )
    .ok();
    assert!(images.join("parent").exists());
    let reached = count(&lab);
    restore(&lab, &["--image-path", &to(&images)]).ok();
    counts_on(&lab, reached);
}

#[test]
fn memory_can_be_asked_for_once_the_status_descriptor_says_so() {
    needs_criu!();
    let mut lab = counting();
    let images = lab.dir.join("images");
    let images = images.to_str().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (mut ready, status) = std::io::pipe().unwrap();
    let number = status.as_raw_fd().to_string();
    rustix::io::fcntl_setfd(&status, rustix::io::FdFlags::empty()).unwrap();
    let server = format!("127.0.0.1:{port}");
    let mut dump = lab.spawn(&[
        "checkpoint",
        "--lazy-pages",
        "--page-server",
        &server,
        "--status-fd",
        &number,
        "--image-path",
        images,
        "c",
    ]);
    drop(status);
    let mut told = Vec::new();
    ready.read_to_end(&mut told).unwrap();
    assert_eq!(told, [0]);
    let reached = count(&lab);
    let mut pages = Command::new("criu")
        .args([
            "lazy-pages",
            "--page-server",
            "--address",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "-D",
            images,
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/d", lab.name()));
    let options = [
        "restore",
        "-d",
        "--lazy-pages",
        "--image-path",
        images,
        "--work-path",
        images,
    ];
    lab.call(&[&options[..], &["d"]].concat()).ok();
    assert!(dump.wait().unwrap().success());
    assert!(pages.wait().unwrap().success());
    counts_on(&lab, reached);
    assert_eq!(lab.status("d"), "running");
    lab.call(&["state", "c"]).fails("container does not exist");
}

/// The network namespace of a container that only holds it; packets can go round in it.
fn network(lab: &mut Lab, holder: &str) -> String {
    lab.sleeper(holder);
    let pid = lab.pid(holder).to_string();
    let up = ["ip", "link", "set", "lo", "up"];
    let mut enter = Command::new("/bin/busybox");
    enter
        .args(["nsenter", "-n", "-t", &pid, "/bin/busybox"])
        .args(up);
    assert!(enter.status().unwrap().success());
    format!("/proc/{pid}/ns/net")
}

#[test]
fn established_connections_come_back_if_that_is_asked_for() {
    needs_criu!();
    let mut lab = Lab::new();
    for applet in ["nc", "mkfifo"] {
        std::os::unix::fs::symlink("busybox", lab.rootfs("bin").join(applet)).unwrap();
    }
    let first = network(&mut lab, "first");
    let second = network(&mut lab, "second");
    lab.namespace("network", Some(&first));
    lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/c", lab.name()));
    lab.script(
        "exec </dev/null >/dev/null 2>&1; mkfifo /tmp/in; exec 5<>/tmp/in; nc -l -p 99 -e cat & \
         until nc 127.0.0.1 99 </tmp/in >/tmp/out; do usleep 50000; done",
    )
    .call(&["run", "-d", "c"])
    .ok();
    let out = lab.rootfs("tmp/out");
    let echoed = |lab: &Lab, word: &str| {
        let mut input = File::options()
            .write(true)
            .open(lab.rootfs("tmp/in"))
            .unwrap();
        writeln!(input, "{word}").unwrap();
        soon(&format!("{word} comes back"), || {
            std::fs::read_to_string(&out).is_ok_and(|text| text.ends_with(&format!("{word}\n")))
        });
    };
    soon("it is ready", || out.exists());
    echoed(&lab, "one");
    checkpoint(&lab, &[]).fails("tcp-established");
    echoed(&lab, "two");
    checkpoint(&lab, &["--tcp-established", "--leave-running"]).ok();
    echoed(&lab, "three");
    checkpoint(&lab, &["--tcp-established"]).ok();
    lab.namespace("network", Some(&second));
    restore(&lab, &["--tcp-established"]).ok();
    echoed(&lab, "four");
}

#[test]
fn limits_of_the_configuration_hold_after_a_restore() {
    needs_criu!();
    let mut lab = counting();
    checkpoint(&lab, &["--manage-cgroups-mode", "ignore"]).ok();
    lab.config["linux"]["resources"] = json!({ "pids": { "limit": 77 } });
    lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/other", lab.name()));
    restore(&lab, &["--manage-cgroups-mode", "ignore"]).ok();
    let mut cgroups = lab.cgroups("other").into_iter();
    let cgroup = cgroups.find(|one| one.join("pids.max").exists()).unwrap();
    assert_eq!(
        std::fs::read_to_string(cgroup.join("pids.max")).unwrap(),
        "77\n"
    );
    let processes = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    assert!(processes.contains(&lab.pid("c").to_string()), "{processes}");
    assert_eq!(lab.cgroups("c"), Vec::<std::path::PathBuf>::new());
}
