//! `events`: runc's document of figures, at an interval or once, and a line for each process that
//! was killed for lack of memory.

use crate::support::{Lab, soon};
use serde_json::{Value, json};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn stats_are_one_line_with_runcs_fields() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["linux"]["resources"] = json!({
        "memory": { "limit": 67_108_864 }, "pids": { "limit": 11 } });
    lab.sleeper("c");
    let all = lines(&lab.call(&["events", "--stats", "c"]).ok());
    assert_eq!(all.len(), 1);
    let event = &all[0];
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!("c"))
    );
    let data = &event["data"];
    assert_eq!(data["pids"], json!({ "current": 1, "limit": 11 }));
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(data["memory"]["raw"]["pgfault"].is_u64());
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert_eq!(data["cpuset"]["mems"], json!([0]));
}

/// The names in a document, with their place; the parts that depend on the machine's kernel or on
/// what a container did by then left out.
fn names(value: &Value, place: &str, found: &mut Vec<String>) {
    if let Value::Object(fields) = value
        && !place.ends_with("raw")
    {
        for (name, value) in fields {
            names(value, &format!("{place}.{name}"), found);
        }
    } else {
        found.push(place.to_owned());
    }
}

#[test]
fn stats_have_every_field_that_runc_prints() {
    needs_host!();
    if std::process::Command::new("runc")
        .arg("-v")
        .output()
        .is_err()
    {
        eprintln!("SKIP: needs runc (Debian: runc)");
        return;
    }
    let mut lab = Lab::new();
    lab.sleeper("c");
    let ours = lines(&lab.call(&["events", "--stats", "c"]).ok()).remove(0);
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    let path = format!("/floe-runtime-test-runc-{}", std::process::id());
    lab.config["linux"]["cgroupsPath"] = json!(path);
    drop(lab.command(&[]));
    let runc = |arguments: &[&str]| {
        std::process::Command::new("runc")
            .arg("--root")
            .arg(lab.dir.join("runc"))
            .args(arguments)
            .current_dir(lab.dir.join("bundle"))
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .stdout(std::fs::File::create(lab.dir.join("runc.out")).unwrap())
            .status()
            .unwrap()
            .success()
    };
    let started = runc(&["run", "-d", "r"]);
    let told = started && runc(&["events", "--stats", "r"]);
    let text = std::fs::read_to_string(lab.dir.join("runc.out")).unwrap();
    runc(&["delete", "-f", "r"]);
    assert!(told);
    let theirs = lines(&text).remove(0);
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    names(&ours, "", &mut of_ours);
    names(&theirs, "", &mut of_theirs);
    of_theirs.retain(|place| !of_ours.contains(place));
    assert_eq!(of_theirs, Vec::<String>::new());
}

#[test]
fn figures_come_at_the_interval_until_the_container_ends() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    let (mut command, out, _) = lab.command(&["events", "--interval", "50ms", "c"]);
    let mut events = command.spawn().unwrap();
    soon("three lines", || {
        std::fs::read_to_string(&out).unwrap().lines().count() >= 3
    });
    lab.call(&["kill", "c", "KILL"]).ok();
    assert!(events.wait().unwrap().success());
    let all = lines(&std::fs::read_to_string(&out).unwrap());
    assert!(all.iter().all(|event| event["type"] == "stats"), "{all:?}");
}

#[test]
fn a_process_killed_for_lack_of_memory_is_told() {
    needs_host!();
    // A tmpfs counts as the memory of whoever writes to it.
    let mut lab = Lab::sh(
        "until test -e /go; do usleep 10000; done; dd if=/dev/zero of=/dev/shm/x bs=1M count=40; exec sleep 1000",
    );
    lab.config["linux"]["resources"] =
        json!({ "memory": { "limit": 16_777_216, "swap": 16_777_216 } });
    lab.call(&["run", "-d", "c"]).ok();
    let (mut command, out, _) = lab.command(&["events", "--interval", "1h", "c"]);
    let mut events = command.spawn().unwrap();
    // It is watching once its registration shows; a kill before that would not be told.
    soon("events watches", || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", events.id())).unwrap();
        let mut links = fds
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.any(|link| {
            let link = link.to_string_lossy().into_owned();
            link.contains("eventfd") || link.contains("inotify")
        })
    });
    std::fs::write(lab.rootfs("go"), "").unwrap();
    soon("the event", || {
        std::fs::read_to_string(&out).unwrap() == "{\"type\":\"oom\",\"id\":\"c\"}\n"
    });
    lab.call(&["kill", "c", "KILL"]).ok();
    assert!(events.wait().unwrap().success());
}

#[test]
fn what_cannot_be_watched_is_an_error() {
    needs_host!();
    let mut lab = Lab::new();
    lab.call(&["events", "nope"])
        .fails("container does not exist");
    lab.sleeper("c");
    lab.call(&["events", "--interval", "0s", "c"])
        .fails("duration interval must be greater than 0");
    lab.call(&["events", "--interval", "5 apples", "c"])
        .fails("invalid duration");
    lab.call(&["kill", "c", "KILL"]).ok();
    soon("its end", || lab.status("c") == "stopped");
    lab.call(&["events", "--stats", "c"])
        .fails("container with id c is not running");
}
