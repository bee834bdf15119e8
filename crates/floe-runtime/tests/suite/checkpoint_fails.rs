//! checkpoint and restore that cannot be: one clear error, and things are as they were.

use std::fs::File;
use std::os::fd::AsRawFd;

use crate::support::criu::{checkpoint, counting, is_gone, restore};
use crate::support::{Lab, soon};
use serde_json::json;

#[test]
fn a_checkpoint_that_fails_names_criu_s_log_and_leaves_the_container_as_it_was() {
    needs_criu!();
    // A file of the host that nothing inside leads to.
    let lab = Lab::sh("exec </dev/null; touch /tmp/ready; sleep 1000");
    lab.call(&["run", "-d", "c"]).ok();
    soon("it is ready", || lab.rootfs("tmp/ready").exists());
    let pid = lab.pid("c");
    let said = checkpoint(&lab, &[]).fails("criu failed to dump");
    let log = lab.dir.join("bundle/checkpoint/dump.log");
    assert!(
        said.contains(&format!("(log: {})", log.display())),
        "{said}"
    );
    assert!(said.contains("Error (criu/"), "{said}");
    assert!(
        !said.trim().contains('\n') && !said.contains("\\n"),
        "{said}"
    );
    assert_eq!((lab.pid("c"), lab.status("c")), (pid, "running".into()));
    lab.call(&["exec", "c", "true"]).ok();
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    needs_criu!();
    let mut lab = counting();
    checkpoint(&lab, &[]).ok();
    let images = lab.dir.join("bundle/checkpoint");
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] }]);
    lab.config["hooks"] = json!({ "createRuntime": hook });
    restore(&lab, &[]).fails("error running createRuntime hook #0");
    is_gone(&lab);
    lab.config.as_object_mut().unwrap().remove("hooks");
    let absent = lab.dir.join("no/file").display().to_string();
    restore(&lab, &["--pid-file", &absent]).fails(&format!("write pid file {absent}"));
    is_gone(&lab);
    restore(&lab, &["--lsm-profile", "nonsense"]).fails("criu failed to restore");
    is_gone(&lab);
    let core = std::fs::read_dir(&images)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let mut core = core.filter(|path| path.to_str().unwrap().contains("/core-"));
    std::fs::write(core.next().unwrap(), "nonsense").unwrap();
    let said = restore(&lab, &[]).fails("criu failed to restore");
    assert!(said.contains("restore.log)"), "{said}");
    is_gone(&lab);
    assert_eq!(lab.processes(), Vec::<String>::new());
}

#[test]
fn only_what_runs_can_be_checkpointed_and_only_a_free_id_restored() {
    needs_host!();
    let lab = Lab::sh("sleep 1000");
    checkpoint(&lab, &[]).fails("container does not exist");
    lab.call(&["create", "c"]).ok();
    checkpoint(&lab, &[]).fails("Container cannot be checkpointed in created state");
    restore(&lab, &[]).fails("container with given ID already exists: c");
    lab.call(&["start", "c"]).ok();
    lab.call(&["kill", "c", "KILL"]).ok();
    soon("its end", || lab.status("c") == "stopped");
    checkpoint(&lab, &[]).fails("Container cannot be checkpointed in stopped state");
    lab.call(&["delete", "c"]).ok();
    let none = lab.dir.join("none");
    let none = none.to_str().unwrap();
    restore(&lab, &["--image-path", none]).fails(&format!("open directory {none}: no such file"));
    std::fs::create_dir(none).unwrap();
    restore(&lab, &["--image-path", none]).fails("descriptors.json: no such file");
    is_gone(&lab);
}

#[test]
fn a_criu_that_is_missing_or_no_criu_is_named() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    let pid = lab.pid("c");
    let absent = lab.dir.join("no/criu").display().to_string();
    lab.call(&["--criu", &absent, "checkpoint", "c"])
        .fails(&format!("criu is not installed: {absent} is not found"));
    let program = lab.dir.join("criu");
    std::fs::write(
        &program,
        "#!/bin/sh\necho 'Error: out of order' >&2\nexit 3\n",
    )
    .unwrap();
    let mut permissions = std::fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&program, permissions).unwrap();
    lab.call(&["--criu", program.to_str().unwrap(), "checkpoint", "c"])
        .fails("it ended without an answer (exit status: 3): Error: out of order");
    assert_eq!((lab.pid("c"), lab.status("c")), (pid, "running".into()));
    std::fs::write(lab.dir.join("bundle/checkpoint/descriptors.json"), "[]").unwrap();
    let run = ["--criu", program.to_str().unwrap(), "restore", "-d", "d"];
    lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/d", lab.name()));
    lab.call(&run)
        .fails("it ended without an answer (exit status: 3)");
    lab.call(&["state", "d"]).fails("container does not exist");
    assert_eq!(lab.cgroups("d"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn options_that_cannot_be_are_refused_by_name() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    for (options, words) in [
        (
            &["--manage-cgroups-mode", "loose"][..],
            "invalid manage-cgroups-mode value \"loose\"",
        ),
        (
            &["--empty-ns", "pid"],
            "--empty-ns: namespace \"pid\" is not supported",
        ),
        (&["--page-server", "host"], "Use --page-server ADDRESS:PORT"),
        (
            &["--page-server", "host:none"],
            "invalid port number \"none\"",
        ),
        (
            &["--parent-path", "/absolute"],
            "--parent-path must be relative",
        ),
        (&["--parent-path", "../none"], "invalid --parent-path: "),
        (
            &["--status-fd", "77"],
            "--status-fd: invalid argument 77: bad file descriptor",
        ),
    ] {
        checkpoint(&lab, options).fails(words);
    }
    restore(&lab, &["--empty-ns", "user"]).fails("namespace \"user\" is not supported");
    let read_only = File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&read_only, rustix::io::FdFlags::empty()).unwrap();
    let number = read_only.as_raw_fd().to_string();
    checkpoint(&lab, &["--status-fd", &number]).fails("not writable");
    assert_eq!(lab.status("c"), "running");
}
