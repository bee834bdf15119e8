//! The example runs a pod with the engine that is in it, and nothing is left of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

use testkit::{Registry, images, leftovers, net};

/// Runs the example beside the floe-runtime of this build; what it says, and its process id.
fn embed(directory: &std::path::Path, image: &str, command: &[&str]) -> (Output, u32) {
    let programs = testkit::program("floe-runtime").unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_embed"))
        .arg(directory)
        .arg(image)
        .args(command)
        .env("PATH", programs.parent().unwrap())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    (child.wait_with_output().unwrap(), id)
}

fn pushed(registry: &Registry) -> String {
    let image = format!("{}/embedded/busybox:1", registry.host());
    let client = images::client(&[&registry.host()]).unwrap();
    let config = serde_json::json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
    let layers = [images::busybox().unwrap()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(images::push(&client, &image, &layers, config))
        .unwrap();
    image
}

#[test]
fn a_program_with_the_engine_inside_runs_a_pod_and_leaves_nothing() {
    net::isolate().unwrap();
    let registry = Registry::start().unwrap();
    let image = pushed(&registry);
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let script = "echo said by $(hostname); echo and wrong >&2; exit 7";
    let (output, pid) = embed(&home, &image, &["sh", "-c", script]);
    let said = String::from_utf8(output.stdout).unwrap();
    let wrong = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{said}{wrong}");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(said.contains(" stdout F said by "), "{said}");
    assert!(said.contains(" stderr F and wrong\n"), "{said}");
    assert!(said.ends_with("exit code 7\n"), "{said}");
    assert_eq!(leftovers::find(&home, &format!("embed-{pid}")), [""; 0]);
    assert!(!home.exists());
}

#[test]
fn what_fails_on_the_way_is_said_and_leaves_nothing_either() {
    net::isolate().unwrap();
    let registry = Registry::start().unwrap();
    let image = pushed(&registry);
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    for (image, command, why) in [
        (image.as_str(), "no-such-program", "no-such-program"),
        (&image.replace(":1", ":2"), "sh", ":2"),
    ] {
        let (output, pid) = embed(&home, image, &[command]);
        let wrong = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{wrong}");
        assert!(
            wrong.starts_with("embed: ") && wrong.contains(why),
            "{wrong}"
        );
        assert_eq!(leftovers::find(&home, &format!("embed-{pid}")), [""; 0]);
        assert!(!home.exists());
    }
}
