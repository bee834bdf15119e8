//! runtime.md, life cycle: what each verb does, what it says when it cannot, and what it leaves.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{self, Lab, soon};
use serde_json::{Value, json};

#[test]
fn a_container_goes_from_created_over_running_to_stopped_and_is_gone_when_deleted() {
    needs_host!();
    let lab = Lab::sh("echo ran; exec sleep 1000");
    let created = lab.call(&["create", "--pid-file", "pid", "c"]);
    assert_eq!((created.code, lab.status("c").as_str()), (0, "created"));
    assert_eq!(created.by_now(), "", "nothing may run before start");
    let pid = std::fs::read_to_string(lab.dir.join("bundle/pid")).unwrap();
    assert_eq!(pid, lab.pid("c").to_string());
    lab.call(&["start", "c"]).ok();
    assert_eq!(lab.status("c"), "running");
    soon("output", || created.by_now() == "ran\n");
    lab.call(&["delete", "c"])
        .fails("cannot delete container c that is not stopped: running");
    lab.call(&["kill", "c", "KILL"]).ok();
    soon("its end", || lab.status("c") == "stopped");
    assert_eq!(lab.state("c")["pid"], 0);
    lab.call(&["delete", "c"]).ok();
    lab.call(&["state", "c"]).fails("container does not exist");
    lab.is_clean().unwrap();
}

#[test]
fn state_has_what_the_specification_asks_for() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["annotations"] = json!({ "org.example.key": "value" });
    lab.sleeper("c");
    let state = lab.state("c");
    assert_eq!(state["ociVersion"], "1.0.2");
    assert_eq!(state["id"], "c");
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], lab.dir.join("bundle").to_str().unwrap());
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert!(Path::new(&format!("/proc/{}", state["pid"])).exists());
}

#[test]
fn run_ends_with_the_programs_exit_code_and_leaves_nothing() {
    needs_host!();
    let lab = Lab::sh("echo out; echo err >&2; exit 7");
    let done = lab.run();
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (7, "out\n", "err\n")
    );
    lab.is_clean().unwrap();
    let lab = Lab::sh("kill -9 $$");
    assert_eq!(lab.run().code, 0, "init ignores its own signals");
    let mut lab = Lab::sh("kill -9 $$");
    lab.namespace("pid", None);
    lab.config["mounts"][0] =
        json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] });
    assert_eq!(lab.run().code, 137);
    lab.is_clean().unwrap();
}

#[test]
fn run_keep_leaves_a_stopped_container() {
    needs_host!();
    let lab = Lab::new();
    lab.call(&["run", "--keep", "c"]).ok();
    assert_eq!(lab.status("c"), "stopped");
    lab.call(&["delete", "c"]).ok();
}

#[test]
fn signals_to_run_go_on_to_the_container() {
    needs_host!();
    let lab = Lab::sh("trap 'exit 9' TERM; touch /tmp/ready; while :; do usleep 10000; done");
    let mut run = lab.spawn(&["run", "c"]);
    soon("the trap", || lab.rootfs("tmp/ready").exists());
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(9));
    lab.is_clean().unwrap();
}

#[test]
fn kill_takes_names_numbers_and_real_time_signals() {
    needs_host!();
    for (signal, code) in [("SIGUSR1", 10), ("usr2", 12), ("15", 15), ("RTMIN+3", 37)] {
        let mut lab = Lab::sh(
            "for s in 10 12 15 37; do trap \"exit $s\" $s; done; touch /tmp/ready; while :; do usleep 10000; done",
        );
        let mut run = lab.spawn(&["run", "c"]);
        soon("the trap", || lab.rootfs("tmp/ready").exists());
        lab.call(&["kill", "c", signal]).ok();
        assert_eq!(run.wait().unwrap().code(), Some(code), "{signal}");
        lab.script("");
    }
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["kill", "c", "SIGNOPE"]).fails("unknown signal");
    lab.call(&["kill", "c", "0"]).ok();
}

#[test]
fn what_is_stopped_cannot_be_killed_and_what_runs_cannot_be_started() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["start", "c"])
        .fails("cannot start an already running container");
    lab.call(&["kill", "c", "9"]).ok();
    soon("its end", || lab.status("c") == "stopped");
    lab.call(&["kill", "c"]).fails("container not running");
    lab.call(&["start", "c"])
        .fails("cannot start a container that has stopped");
}

#[test]
fn kill_all_reaches_every_process_of_the_container() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["exec", "-d", "c", "sleep", "1000"]).ok();
    lab.call(&["exec", "-d", "c", "sleep", "1000"]).ok();
    let ps = lab.call(&["ps", "-f", "json", "c"]).ok();
    let pids: Vec<i32> = serde_json::from_str(&ps).unwrap();
    assert_eq!(pids.len(), 3);
    lab.call(&["kill", "--all", "c", "KILL"]).ok();
    soon("their end", || pids.iter().all(|pid| !alive(*pid)));
}

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_created_container_is_deleted_without_force() {
    needs_host!();
    let lab = Lab::sh("echo never");
    lab.call(&["create", "c"]).ok();
    lab.call(&["delete", "c"]).ok();
    lab.is_clean().unwrap();
}

#[test]
fn unknown_taken_and_unsafe_ids_are_refused() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    for verb in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        lab.call(&[verb, "nobody"])
            .fails("container does not exist");
    }
    lab.call(&["delete", "--force", "nobody"]).ok();
    let pid = lab.pid("c");
    lab.call(&["run", "c"])
        .fails("container with given ID already exists");
    assert_eq!(lab.pid("c"), pid);
    for id in ["../c", "a/b", "", ".", "..", "a b", "ü"] {
        lab.call(&["create", id])
            .fails("invalid container ID format");
        lab.call(&["delete", "--force", id])
            .fails("invalid container ID format");
    }
}

#[test]
fn a_bundle_that_cannot_be_used_is_refused_with_its_reason_and_nothing_is_left() {
    needs_host!();
    type Change = fn(&mut Value);
    let broken: [(&str, Change); 13] = [
        ("root: is missing", |c| c["root"] = Value::Null),
        ("process.args: is empty", |c| {
            c["process"]["args"] = json!([])
        }),
        ("process.cwd", |c| c["process"]["cwd"] = json!("tmp")),
        ("ociVersion", |c| c["ociVersion"] = json!("2.0.0")),
        ("ociVersion", |c| c["ociVersion"] = json!("")),
        ("open rootfs", |c| c["root"]["path"] = json!("no-such")),
        ("linux.namespaces", |c| {
            c["linux"]["namespaces"] = json!([{ "type": "pid", "path": "relative" }])
        }),
        ("linux.maskedPaths: unable to restrict", |c| {
            c.as_object_mut().unwrap().remove("hostname");
            c["linux"]["namespaces"] = json!([{ "type": "pid" }]);
            c["linux"]["maskedPaths"] = json!(["/proc/kcore"]);
        }),
        ("Pid is there twice", |c| {
            c["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "type": "pid" }));
        }),
        ("config.json", |c| {
            c["linux"]["namespaces"] = json!([{ "type": "planet" }])
        }),
        ("hooks.poststop[0].path", |c| {
            c["hooks"] = json!({ "poststop": [{ "path": "true" }] })
        }),
        ("hooks.prestart[0].timeout", |c| {
            c["hooks"] = json!({ "prestart": [{ "path": "/bin/true", "timeout": 0 }] });
        }),
        ("open source", |c| {
            let mount = json!({ "destination": "/x", "type": "bind", "source": "no/such", "options": ["bind"] });
            c["mounts"].as_array_mut().unwrap().push(mount);
        }),
    ];
    for (words, change) in broken {
        let mut lab = Lab::new();
        change(&mut lab.config);
        lab.run().fails(words);
        lab.is_clean().unwrap();
    }
    let lab = Lab::new();
    let absent = lab.dir.join("absent").display().to_string();
    lab.call(&["run", "-b", &absent, "c"])
        .fails(&format!("bundle {absent}"));
    lab.call(&["run", "-b", "rootfs", "c"])
        .fails("JSON specification file config.json not found");
}

#[test]
fn a_create_killed_half_way_is_found_and_deleted_by_force() {
    needs_host!();
    let mut lab = Lab::new();
    // The hook holds create up behind the clone, with the cgroup made and init in it.
    let hook = lab.dir.join("hook");
    let script = format!(
        "echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000",
        hook.display()
    );
    lab.config["hooks"] =
        json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    let mut create = lab.spawn(&["create", "c"]);
    soon("the hook", || hook.exists());
    assert_eq!(lab.status("c"), "creating");
    lab.call(&["delete", "c"]).fails("creating");
    lab.call(&["start", "c"]).fails("being created");
    create.kill().unwrap();
    create.wait().unwrap();
    assert_eq!(lab.status("c"), "stopped");
    assert!(!lab.cgroups("c").is_empty());
    lab.call(&["delete", "--force", "c"]).ok();
    end_of(&hook);
    lab.is_clean().unwrap();
}

/// The killed runtime's hook is nobody's child now.
fn end_of(hook: &Path) {
    let pid = std::fs::read_to_string(hook).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_damaged_state_is_reported_and_deleted_by_force() {
    needs_host!();
    let lab = Lab::new();
    std::fs::create_dir_all(lab.dir.join("state/c")).unwrap();
    std::fs::write(lab.dir.join("state/c/state.json"), "{").unwrap();
    lab.call(&["state", "c"]).fails("is damaged");
    lab.call(&["delete", "c"]).fails("is damaged");
    lab.call(&["delete", "--force", "c"]).ok();
    lab.is_clean().unwrap();
}

#[test]
fn list_shows_all_as_table_json_and_ids() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("a");
    lab.sleeper("b");
    assert_eq!(lab.call(&["list", "-q"]).ok(), "a\nb\n");
    let json: Value = serde_json::from_str(&lab.call(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(
        (json[0]["id"].as_str(), json[1]["status"].as_str()),
        (Some("a"), Some("running"))
    );
    let table = lab.call(&["list"]).ok();
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    assert!(table.lines().nth(1).unwrap().starts_with("a "));
}

#[test]
fn list_of_a_root_that_is_not_there_fails_and_does_not_make_it() {
    needs_host!();
    let lab = Lab::new();
    lab.call(&["list"]).fails("no such file or directory");
    assert!(!lab.dir.join("state").exists());
}

#[test]
fn the_configuration_that_spec_writes_runs() {
    needs_host!();
    let mut lab = Lab::new();
    let bundle = lab.dir.join("bundle");
    std::fs::create_dir(bundle.join("new")).unwrap();
    lab.call(&["spec", "-b", "new"]).ok();
    lab.call(&["spec", "--bundle", "new"]).fails("exists");
    let text = std::fs::read_to_string(bundle.join("new/config.json")).unwrap();
    let written: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["process"]["terminal"], true);
    assert_eq!(written["process"]["args"], json!(["sh"]));
    assert_eq!(written["root"]["readonly"], true);
    let cgroup = lab.config["linux"]["cgroupsPath"].clone();
    lab.config = written;
    lab.config["process"]["terminal"] = json!(false);
    lab.config["linux"]["cgroupsPath"] = cgroup;
    assert_eq!(
        lab.prints("hostname; touch /x 2>/dev/null || echo read-only"),
        "floe\nread-only\n"
    );
}

#[test]
fn errors_go_to_the_log_in_the_format_asked_for() {
    needs_host!();
    let lab = Lab::new();
    let log = |format: &str| {
        let file = lab.dir.join(format);
        lab.call(&[
            "--log",
            file.to_str().unwrap(),
            "--log-format",
            format,
            "state",
            "nobody",
        ])
        .fails("does not exist");
        std::fs::read_to_string(file).unwrap()
    };
    let json: Value = serde_json::from_str(&log("json")).unwrap();
    assert_eq!(
        (json["level"].as_str(), json["msg"].as_str()),
        (Some("error"), Some("container does not exist"))
    );
    assert!(json["time"].as_str().unwrap().ends_with('Z'));
    let text = log("text");
    assert!(
        text.contains(" level=error msg=\"container does not exist\"")
            && text.starts_with("time=\""),
        "{text}"
    );
    lab.call(&["--log-format", "xml", "list"]).fails("xml");
}

#[test]
fn options_may_stand_after_the_id_and_help_is_no_error() {
    needs_host!();
    let lab = Lab::new();
    lab.call(&[
        "run",
        "c",
        "--bundle",
        lab.dir.join("bundle").to_str().unwrap(),
    ])
    .ok();
    assert!(lab.call(&["--help"]).ok().contains("create"));
    assert!(lab.call(&["run", "-h"]).ok().contains("--pid-file"));
    assert!(lab.call(&["--version"]).ok().starts_with("floe-runtime "));
    lab.call(&["fly"]).fails("fly");
}

#[test]
fn features_tells_only_of_what_is_built() {
    needs_host!();
    let mut lab = Lab::new();
    let features: Value = serde_json::from_str(&lab.call(&["features"]).ok()).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let list = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let linux = &features["linux"];
    assert!(list(&linux["capabilities"]).contains(&"CAP_SYS_ADMIN".into()));
    assert!(list(&features["mountOptions"]).contains(&"rro".into()));
    let cgroup = &linux["cgroup"];
    assert!(
        cgroup["systemd"] == true && cgroup["systemdUser"] == true,
        "{cgroup}"
    );
    let annotations = list(&features["potentiallyUnsafeConfigAnnotations"]);
    assert!(annotations.contains(&"org.systemd.property.".into()));
    let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    lab.config["linux"]["uidMappings"] = ids.clone();
    lab.config["linux"]["gidMappings"] = ids;
    for kind in list(&linux["namespaces"]) {
        lab.namespace(&kind, None);
        lab.config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "type": kind }));
    }
    let agent = lab.dir.join("agent.sock");
    let _listening = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    for action in list(&linux["seccomp"]["actions"]) {
        lab.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["acct"], "action": action }],
            "listenerPath": agent,
        });
        let done = lab.run();
        assert_eq!(done.code, 0, "{action}: {done:?}");
    }
}

#[test]
fn what_is_kept_of_a_container_is_for_the_owner_only() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    for dir in ["state", "state/c"] {
        let mode = lab.dir.join(dir).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{dir}");
    }
}

#[test]
fn a_paused_container_says_so_and_goes_on_when_resumed() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["resume", "c"]).fails("container not paused");
    lab.call(&["pause", "c"]).ok();
    assert_eq!(lab.status("c"), "paused");
    lab.call(&["pause", "c"])
        .fails("container not running or created");
    lab.call(&["resume", "c"]).ok();
    assert_eq!(lab.status("c"), "running");
    lab.call(&["pause", "c"]).ok();
    lab.call(&["delete", "--force", "c"]).ok();
    lab.is_clean().unwrap();
}

#[test]
fn a_container_cannot_overwrite_the_runtimes_program() {
    needs_host!();
    let mut lab = Lab::new();
    let before = std::fs::read(crate::support::program()).unwrap();
    // The container's program is the runtime itself, executed by its link in /proc (CVE-2019-5736).
    std::fs::write(lab.rootfs("bin/trap"), "#!/proc/self/exe --help\n").unwrap();
    std::fs::set_permissions(lab.rootfs("bin/trap"), PermissionsExt::from_mode(0o755)).unwrap();
    lab.config["process"]["args"] = json!(["trap"]);
    assert!(
        lab.run().ok().contains("USAGE"),
        "/proc/self/exe was not the runtime"
    );
    // Held open at the gate: init still is the runtime.
    for set in ["effective", "permitted", "bounding"] {
        let set = lab.config["process"]["capabilities"][set]
            .as_array_mut()
            .unwrap();
        set.push(json!("CAP_SYS_PTRACE"));
    }
    lab.call(&["create", "c"]).ok();
    let name = std::fs::read_to_string(format!("/proc/{}/comm", lab.pid("c"))).unwrap();
    assert_eq!(name, "floe-runtime\n", "init must still be the runtime");
    let attack = lab.call(&["exec", "c", "sh", "-c", "echo x 2>&1 >/proc/1/exe"]);
    assert!(
        format!("{}{}", attack.out, attack.err).contains("Read-only file system"),
        "{attack:#?}"
    );
    let after = std::fs::read(crate::support::program()).unwrap();
    assert!(before == after);
}

#[test]
fn a_kill_reaches_all_of_a_container_in_the_hosts_pid_namespace() {
    needs_host!();
    let mut lab = Lab::new();
    lab.namespace("pid", None);
    lab.sleeper("c");
    lab.call(&["exec", "-d", "c", "sleep", "1000"]).ok();
    let cgroup = lab.cgroups("c").remove(0);
    let pids = || std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    assert_eq!(pids().lines().count(), 2);
    lab.call(&["kill", "c", "KILL"]).ok();
    support::soon("the end of both", || pids().is_empty());
}

#[test]
fn a_created_container_ends_when_it_is_asked_to() {
    needs_host!();
    let lab = Lab::new();
    lab.call(&["create", "c"]).ok();
    lab.call(&["kill", "c", "TERM"]).ok();
    support::soon("its end", || lab.status("c") == "stopped");
}
