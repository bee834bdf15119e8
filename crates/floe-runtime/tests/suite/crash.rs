//! Crash safety: create, run and delete are stopped by ptrace(2) before and after their system
//! calls and killed there. Whatever was half done: `list` works, `delete --force` takes it away,
//! and the id can be used again.

use crate::support::{Lab, soon};
use serde_json::json;
use testkit::kill::{End, Stops, kill_at};

/// After a kill: whatever it was, it goes.
fn clears_up(lab: &Lab, stop: usize) {
    for verb in [&["list"][..], &["list", "-f", "json"]] {
        let listed = lab.call(verb);
        // Killed before it made the state directory.
        assert!(
            listed.code == 0 || !lab.dir.join("state").exists(),
            "{stop}: {listed:?}"
        );
    }
    let deleted = lab.call(&["delete", "--force", "c"]);
    assert_eq!(deleted.code, 0, "killed at stop {stop}: {deleted:?}");
    // An init that was just born ends by itself when its maker is gone.
    let mut left = Ok(());
    for _ in 0..200 {
        left = lab.is_clean();
        if left.is_ok() && lab.processes().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(
        (left, lab.processes()),
        (Ok(()), Vec::new()),
        "killed at stop {stop}"
    );
}

/// Kills a verb at every `stride`-th stop, until it gets through. `prepare` makes what it needs.
fn killed_everywhere(arguments: &[&str], stride: usize, prepare: fn(&mut Lab)) {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    let (mut stop, mut kills) = (0, 0);
    loop {
        prepare(&mut lab);
        let (mut command, _, _) = lab.command(arguments);
        let end = kill_at(&mut command, Stops::Calls, stop).unwrap();
        clears_up(&lab, stop);
        match end {
            End::Killed => kills += 1,
            End::Finished { .. } => break,
        }
        // Different strides meet entries and exits alike.
        stop += stride;
    }
    assert!(
        kills > 20,
        "only {kills} kills: {arguments:?} was hardly traced"
    );
    // And the id is free.
    lab.call(&["run", "-d", "c"]).ok();
    lab.call(&["delete", "-f", "c"]).ok();
}

#[test]
fn create_killed_at_any_system_call_leaves_nothing_that_force_cannot_delete() {
    killed_everywhere(&["create", "--pid-file", "pid", "c"], 3, |_| {});
}

#[test]
fn run_killed_at_any_system_call_leaves_nothing_that_force_cannot_delete() {
    killed_everywhere(&["run", "-d", "c"], 3, |_| {});
}

#[test]
fn delete_killed_at_any_system_call_can_be_done_again() {
    killed_everywhere(&["delete", "--force", "c"], 3, |lab| {
        lab.call(&["run", "-d", "c"]).ok();
    });
}

#[test]
fn start_killed_at_any_system_call_leaves_a_container_that_can_be_deleted() {
    killed_everywhere(&["start", "c"], 3, |lab| {
        lab.call(&["create", "c"]).ok();
    });
}

#[test]
fn a_foreground_run_that_is_killed_leaves_its_container_to_delete() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    let mut run = lab.spawn(&["run", "c"]);
    soon("it runs", || {
        lab.dir.join("state/c/state.json").exists() && lab.status("c") == "running"
    });
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(lab.status("c"), "running");
    clears_up(&lab, 0);
}
