//! What engines and scripts read and pass: output formats equal to those of Debian's runc, the
//! error log, and the options that only engines use.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::support::{Lab, soon};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// Debian's runc on the lab's bundle; its standard output.
fn runc(lab: &Lab, arguments: &[&str]) -> String {
    drop(lab.command(&[]));
    let out = lab.dir.join("out/runc");
    let status = Command::new("runc")
        .arg("--root")
        .arg(lab.dir.join("runc"))
        .args(arguments)
        .current_dir(lab.dir.join("bundle"))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let text = std::fs::read_to_string(out).unwrap();
    assert!(status.success(), "runc {arguments:?}: {text}");
    text
}

/// Replaces what differs between any two containers.
fn plain(text: &str, state: &Value) -> String {
    let mut text = text.to_owned();
    let pid = state["pid"].to_string();
    let (created, version) = (&state["created"], &state["ociVersion"]);
    for (value, name) in [
        (created.as_str().unwrap(), "CREATED_AT"),
        (version.as_str().unwrap(), "VERSION"),
        (pid.as_str(), "PID_NUMBER"),
    ] {
        text = text.replace(value, name);
    }
    // Columns are as wide as the longest cell.
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

#[test]
fn state_list_and_ps_print_what_runc_prints() {
    needs_host!();
    if Command::new("runc").arg("-v").output().is_err() {
        eprintln!("SKIP: needs runc (Debian: runc)");
        return;
    }
    let mut lab = Lab::new();
    lab.config["annotations"] = json!({ "org.example.key": "value" });
    assert_eq!(lab.call(&["list", "-f", "json"]).code, 1, "no root yet");
    lab.sleeper("c");
    lab.config["linux"]["cgroupsPath"] =
        json!(format!("/floe-runtime-test-runc-{}", std::process::id()));
    runc(&lab, &["run", "-d", "c"]);
    let theirs: Value = serde_json::from_str(&runc(&lab, &["state", "c"])).unwrap();
    let ours = lab.state("c");
    let verbs: [&[&str]; 5] = [
        &["state", "c"],
        &["list", "-f", "json"],
        &["list"],
        &["list", "-q"],
        &["ps", "-f", "json", "c"],
    ];
    let pairs: Vec<(String, String)> = verbs
        .iter()
        .map(|verb| (lab.call(verb).ok(), runc(&lab, verb)))
        .collect();
    runc(&lab, &["delete", "-f", "c"]);
    for (our, their) in &pairs {
        assert_eq!(plain(our, &ours), plain(their, &theirs));
    }
    // The widths too: a short and a long cell.
    let header = |text: &str| text.lines().next().unwrap().to_owned();
    assert_eq!(header(&pairs[2].0).find("BUNDLE"), Some(36));
    assert_eq!(
        header(&pairs[2].0).find("CREATED"),
        header(&pairs[2].1).find("CREATED")
    );
    lab.call(&["delete", "-f", "c"]).ok();
    assert_eq!(
        lab.call(&["list", "-f", "json"]).ok(),
        runc(&lab, &["list", "-f", "json"])
    );
}

/// The descriptor that somebody sends to a listening socket.
fn receive(listener: &UnixListener) -> (String, OwnedFd) {
    let (stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0_u8; 64];
    let message = recvmsg(
        &stream,
        &mut [IoSliceMut::new(&mut name)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let name = String::from_utf8_lossy(&name[..message.bytes]).into_owned();
    (name, fd.unwrap())
}

fn pid_of(pidfd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_pidfd_goes_to_the_pidfd_socket() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    let path = lab.dir.join("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = path.to_str().unwrap();
    lab.call(&["create", "--pidfd-socket", socket, "c"]).ok();
    let (name, pidfd) = receive(&listener);
    assert_eq!((name.as_str(), pid_of(&pidfd)), ("pidfd", lab.pid("c")));
    lab.call(&[
        "exec",
        "-d",
        "--pid-file",
        "pid",
        "--pidfd-socket",
        socket,
        "c",
        "sleep",
        "1000",
    ])
    .ok();
    let pid = std::fs::read_to_string(lab.dir.join("bundle/pid")).unwrap();
    assert_eq!(pid_of(&receive(&listener).1).to_string(), pid);
    drop(listener);
    let failed = lab.call(&["exec", "--pidfd-socket", socket, "c", "sleep", "1000"]);
    assert_eq!(failed.code, 255);
    failed.fails("pidfd socket");
    soon("the end of the exec that nobody knows", || {
        lab.call(&["ps", "-f", "json", "c"])
            .ok()
            .matches(',')
            .count()
            == 1
    });
}

#[test]
fn sockets_of_systemd_reach_the_container_with_their_variables() {
    needs_host!();
    let mut lab = Lab::sh("echo $LISTEN_FDS $LISTEN_PID; cat <&3; ls /proc/self/fd");
    std::fs::write(lab.dir.join("given"), "given\n").unwrap();
    let script = format!(
        "exec 3<{dir}/given 4<{dir}/given; export LISTEN_FDS=1 LISTEN_PID=${{WHOSE:-$$}}; \
         exec {program} --root {dir}/state run -b {dir}/bundle c",
        dir = lab.dir.display(),
        program = crate::support::program(),
    );
    let run = |whose: &str| {
        drop(lab.command(&[]));
        let output = Command::new("sh")
            .args(["-c", &script])
            .env("WHOSE", whose)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // 3 is the socket; 4, which ls opens for the directory, was free.
    assert_eq!(run(""), "1 1\ngiven\n0\n1\n2\n3\n4\n");
    // Meant for somebody else: neither variable nor descriptor.
    let other = run("1");
    assert!(
        other.starts_with("\n") && !other.contains("given"),
        "{other}"
    );
    lab.script("true").run().ok();
}

#[test]
fn exec_runs_in_a_cgroup_below_the_containers() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["exec", "--cgroup", "sub", "c", "true"])
        .fails("/sub: No such file or directory");
    lab.call(&["exec", "--cgroup", "whatever:/sub", "c", "true"])
        .fails("unknown controller whatever");
    lab.call(&["exec", "--cgroup", "../x", "c", "true"])
        .fails("bad sub cgroup path: ../x");
    for dir in lab.cgroups("c") {
        let sub = dir.join("sub");
        std::fs::create_dir(&sub).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = std::fs::read_to_string(dir.join(file))
                && !dir.join("cgroup.controllers").exists()
            {
                std::fs::write(sub.join(file), value).unwrap();
            }
        }
    }
    lab.call(&[
        "exec",
        "-d",
        "--pid-file",
        "pid",
        "--cgroup",
        "/sub",
        "c",
        "sleep",
        "1000",
    ])
    .ok();
    let pid = std::fs::read_to_string(lab.dir.join("bundle/pid")).unwrap();
    let mine = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(
        mine.lines()
            .filter(|line| line.contains("/c"))
            .all(|line| line.ends_with("/c/sub")),
        "{mine}"
    );
    assert!(mine.contains("/c/sub"), "{mine}");
    lab.call(&["delete", "--force", "c"]).ok();
}

#[test]
fn a_paused_container_takes_an_exec_only_when_told_so() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["pause", "c"]).ok();
    let refused = lab.call(&["exec", "c", "true"]);
    assert_eq!(refused.code, 255);
    refused.fails("cannot exec in a paused container (use --ignore-paused to override)");
    let (mut command, out, _) = lab.command(&["exec", "--ignore-paused", "c", "echo", "late"]);
    let mut exec = command.spawn().unwrap();
    lab.call(&["resume", "c"]).ok();
    assert!(exec.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(out).unwrap(), "late\n");
}

#[test]
fn kill_all_reaches_every_process_and_a_stopped_container() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["exec", "-d", "c", "sleep", "1000"]).ok();
    lab.call(&["kill", "--all", "c", "KILL"]).ok();
    soon("its end", || lab.status("c") == "stopped");
    soon("the end of all", || {
        lab.call(&["ps", "-f", "json", "c"]).ok() == "[]\n"
    });
    lab.call(&["kill", "-a", "c", "TERM"]).ok();
    lab.call(&["kill", "c", "TERM"])
        .fails("container not running");
}

#[test]
fn rootless_is_one_of_three_words() {
    needs_host!();
    let lab = Lab::new();
    lab.call(&["--rootless", "maybe", "run", "c"])
        .fails("maybe");
    for rootless in ["auto", "true", "false"] {
        lab.call(&["--rootless", rootless, "run", "c"]).ok();
    }
}

#[test]
fn debug_lines_and_errors_go_to_the_log_as_json() {
    needs_host!();
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let place = log.to_str().unwrap();
    let done = lab.call(&[
        "--debug",
        "--log",
        place,
        "--log-format",
        "json",
        "state",
        "nope",
    ]);
    assert_eq!(done.code, 1);
    done.fails("container does not exist");
    let text = std::fs::read_to_string(&log).unwrap();
    let levels: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["level"].take())
        .collect();
    assert_eq!(levels, ["debug", "error"]);
    lab.call(&["--log", place, "run", "c"]).ok();
    assert_eq!(
        std::fs::read_to_string(&log).unwrap(),
        text,
        "nothing without --debug"
    );
}

#[test]
fn the_session_keyring_is_new_unless_the_callers_is_wanted() {
    needs_host!();
    let mut lab = Lab::new();
    lab.script("cat /proc/keys");
    // /proc/keys shows those of other containers too, for a while also of ended ones.
    let (new, inherited) = (format!("{}-new", lab.name()), format!("{}-old", lab.name()));
    let keyring = |arguments: &[&str], id: &str| {
        let keys = lab.call(&[arguments, &[id]].concat()).ok();
        keys.contains(&format!("_ses.{id}"))
    };
    assert!(keyring(&["run"], &new), "one named after the container");
    assert!(!keyring(&["run", "--no-new-keyring"], &inherited));
}

#[test]
fn an_exec_gets_the_descriptors_asked_for() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    std::fs::write(lab.dir.join("given"), "given\n").unwrap();
    let script = format!(
        "exec 3<{dir}/given 4<{dir}/given; \
         exec {program} --root {dir}/state exec --preserve-fds 1 c sh -c 'cat <&3; cat <&4'",
        dir = lab.dir.display(),
        program = crate::support::program(),
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "given\n");
    assert!(!output.status.success(), "the second one does not get in");
}

#[test]
fn the_version_is_in_the_form_that_docker_reads() {
    needs_host!();
    let lab = Lab::new();
    for flag in ["--version", "-v"] {
        let said = lab.call(&[flag]).ok();
        let lines: Vec<&str> = said.lines().collect();
        let [name, commit, spec] = lines[..] else {
            panic!("{said}");
        };
        let version = concat!("floe-runtime version ", env!("CARGO_PKG_VERSION"));
        assert_eq!((name, spec), (version, "spec: 1.3.0"));
        assert!(commit.starts_with("commit: "), "{said}");
    }
}

#[test]
fn what_is_kept_of_a_container_has_the_fields_that_monitoring_tools_read() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    let text = std::fs::read(lab.dir.join("state/c/state.json")).unwrap();
    let kept: Value = serde_json::from_slice(&text).unwrap();
    let pid = lab.pid("c");
    assert_eq!(kept["id"], "c");
    assert_eq!(kept["init_process_pid"], pid);
    assert!(kept["init_process_start"].as_u64().unwrap() > 0);
    assert_eq!(kept["rootless"], false);
    assert_eq!(
        kept["namespace_paths"]["NEWNET"],
        format!("/proc/{pid}/ns/net")
    );
    for path in kept["namespace_paths"].as_object().unwrap().values() {
        assert!(std::fs::read_link(path.as_str().unwrap()).is_ok(), "{path}");
    }
    let cgroups = kept["cgroup_paths"].as_object().unwrap();
    assert!(!cgroups.is_empty());
    for path in cgroups.values() {
        let procs = std::path::Path::new(path.as_str().unwrap()).join("cgroup.procs");
        assert!(
            std::fs::read_to_string(procs)
                .unwrap()
                .contains(&pid.to_string()),
            "{path}"
        );
    }
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_before_anything_is_done() {
    needs_host!();
    let lab = Lab::sh("touch /ran");
    let missing = lab.dir.join("missing/log");
    let place = missing.to_str().unwrap();
    for verb in [
        &["run", "c"][..],
        &["create", "c"],
        &["list"],
        &["exec", "c", "true"],
    ] {
        let done = lab.call(&[&["--log", place], verb].concat());
        assert_eq!(done.code, 1, "{done:#?}");
        assert_eq!(
            done.err,
            format!("open {place}: no such file or directory\n")
        );
    }
    assert!(!lab.rootfs("ran").exists() && !missing.parent().unwrap().exists());
    lab.is_clean().unwrap();
}

/// Before the first container is made there is no directory; but one that is named should be there.
#[test]
fn a_list_without_a_state_directory_is_empty_unless_one_was_named() {
    needs_host!();
    let lab = Lab::new();
    let runtime = lab.dir.join("nobody");
    let program = crate::support::program();
    // As root of a user namespace: the usual directory is then below this one.
    let list = |extra: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--user", "--map-root-user", program])
            .args(extra)
            .args(["list", "--format", "json"])
            .env("XDG_RUNTIME_DIR", &runtime);
        command.output().unwrap()
    };
    let usual = list(&[]);
    assert!(usual.status.success(), "{usual:?}");
    assert_eq!(usual.stdout, b"null\n");
    assert!(!runtime.exists());
    let named = runtime.join("state");
    let named = list(&["--root", named.to_str().unwrap()]);
    assert_eq!(named.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&named.stderr).contains("no such file or directory"),
        "{named:?}"
    );
    assert!(!runtime.exists());
}

/// Engines show these words, and find in them which exit code to give.
#[test]
fn errors_have_the_words_that_engines_and_their_users_know_from_runc() {
    needs_host!();
    let mut lab = Lab::new();
    std::fs::write(lab.rootfs("etc/plain"), "").unwrap();
    let not_found = "exec: \"nope\": executable file not found in $PATH";
    let start = "unable to start container process: ";
    for (program, words) in [
        ("nope", not_found),
        (
            "/nope",
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        (
            "/etc",
            "exec: \"/etc\": permission denied (it is a directory)",
        ),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied"),
    ] {
        lab.config["process"]["args"] = json!([program]);
        let log = lab.dir.join("log");
        let place = log.to_str().unwrap();
        let done = lab.call(&["--log", place, "--log-format", "json", "create", "c"]);
        assert_eq!(done.code, 1);
        assert_eq!(
            done.err,
            format!("floe-runtime create failed: {start}{words}\n")
        );
        // One line, for podman reads the whole file as one.
        let logged: Value = serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap();
        assert_eq!(logged["level"], "error");
        assert_eq!(logged["msg"], done.err.trim_end());
        std::fs::remove_file(&log).unwrap();
        lab.run()
            .fails(&format!("floe-runtime run failed: {start}{words}"));
    }
    lab.mount("/x", "nosuchfs", "none", &[]);
    lab.run().fails(&format!(
        "run failed: {start}error during container init: mount /x (nosuchfs): mount: no such device"
    ));
    lab.config["mounts"].as_array_mut().unwrap().pop();
    lab.sleeper("c");
    let done = lab.call(&["exec", "c", "nope"]);
    assert_eq!(done.code, 255);
    done.fails(&format!("exec failed: {start}{not_found}"));
}
