//! runc's `update` and `events`: other limits for what runs, and what it uses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};
use support::Lab;

/// What a file says in whichever hierarchy has it.
fn value(lab: &Lab, names: &[&str]) -> String {
    let dirs = lab.cgroups("c");
    let files = dirs
        .iter()
        .flat_map(|dir| names.iter().map(move |name| dir.join(name)));
    let mut texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    texts.next().unwrap_or_default().trim().to_owned()
}

fn memory(lab: &Lab) -> String {
    value(lab, &["memory.limit_in_bytes", "memory.max"])
}

fn limited() -> Lab {
    let mut lab = Lab::new();
    lab.config["linux"]["resources"] = json!({
        "memory": { "limit": 67_108_864 },
        "pids": { "limit": 11 },
    });
    lab.sleeper("c");
    lab
}

#[test]
fn what_is_named_changes_and_the_rest_stays() {
    needs_host!();
    let lab = limited();
    lab.call(&["update", "--memory", "32m", "c"]).ok();
    assert_eq!(
        (memory(&lab), value(&lab, &["pids.max"])),
        ("33554432".into(), "11".into())
    );
    let flags = [
        "--pids-limit",
        "20",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
    ];
    lab.call(&[&["update"], &flags[..], &["c"]].concat()).ok();
    assert_eq!(value(&lab, &["pids.max"]), "20");
    let quota = value(&lab, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(
        ["50000", "50000 100000"].contains(&quota.as_str()),
        "{quota}"
    );
    assert_eq!(memory(&lab), "33554432");
    lab.call(&["update", "--memory", "-1", "--cpu-quota", "-1", "c"])
        .ok();
    assert!(["9223372036854771712", "max"].contains(&memory(&lab).as_str()));
    lab.call(&["delete", "--force", "c"]).ok();
}

#[test]
fn a_document_of_resources_is_read_from_a_file_or_standard_input() {
    needs_host!();
    let lab = limited();
    let file = lab.dir.join("resources.json");
    std::fs::write(
        &file,
        r#"{"memory": {"limit": 50331648}, "pids": {"limit": 5}}"#,
    )
    .unwrap();
    lab.call(&["update", "--resources", file.to_str().unwrap(), "c"])
        .ok();
    assert_eq!(
        (memory(&lab), value(&lab, &["pids.max"])),
        ("50331648".into(), "5".into())
    );
    let (mut command, ..) = lab.command(&["update", "-r", "-", "c"]);
    std::fs::write(&file, r#"{"pids": {"limit": 6}}"#).unwrap();
    command.stdin(std::fs::File::open(&file).unwrap());
    assert!(command.status().unwrap().success());
    assert_eq!(
        (memory(&lab), value(&lab, &["pids.max"])),
        ("50331648".into(), "6".into())
    );
    lab.call(&["delete", "--force", "c"]).ok();
}

#[test]
fn what_the_kernel_refuses_is_an_error_and_not_kept() {
    needs_host!();
    let lab = limited();
    lab.call(&["update", "--cpuset-cpus", "4000", "c"])
        .fails("cpuset");
    lab.call(&["update", "--memory", "many", "c"]).fails("many");
    lab.call(&["update", "--pids-limit", "3", "nobody"])
        .fails("container does not exist");
    let state = std::fs::read(lab.dir.join("state/c/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(
        state["spec"]["linux"]["resources"]["pids"]["limit"], 11,
        "{state}"
    );
    lab.call(&["kill", "c", "KILL"]).ok();
    support::soon("it has ended", || lab.status("c") == "stopped");
    lab.call(&["update", "--pids-limit", "3", "c"])
        .fails("container not running");
    lab.call(&["events", "--stats", "c"])
        .fails("is not running");
    lab.call(&["delete", "c"]).ok();
}

#[test]
fn statistics_are_one_document_in_runcs_form() {
    needs_host!();
    let lab = limited();
    let text = lab.call(&["events", "--stats", "c"]).ok();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!("c"))
    );
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert!(
        data["memory"]["usage"]["usage"].as_u64().unwrap() > 0,
        "{data}"
    );
    assert_eq!(data["pids"], json!({ "current": 1, "limit": 11 }));
    assert!(
        data["cpu"]["usage"]["total"].as_u64().unwrap() > 0,
        "{data}"
    );
    lab.call(&["events", "--interval", "0s", "c"])
        .fails("interval");
    lab.call(&["delete", "--force", "c"]).ok();
}

#[test]
fn events_follow_until_the_container_ends_and_tell_of_lack_of_memory() {
    needs_host!();
    let mut lab = Lab::new();
    // The shell stays; its child dies of the lack of memory.
    let script = "sleep 1; tail -c 200000000 /dev/zero > /dev/null; sleep 1000";
    lab.script(script);
    lab.config["linux"]["resources"] =
        json!({ "memory": { "limit": 16_777_216, "swap": 16_777_216 } });
    lab.call(&["run", "-d", "c"]).ok();
    let (mut command, ..) = lab.command(&["events", "--interval", "100ms", "c"]);
    let mut events = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let mut seen = (0, 0);
    for line in lines {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match event["type"].as_str().unwrap() {
            "stats" => seen.0 += 1,
            "oom" => {
                seen.1 += 1;
                lab.call(&["kill", "c", "KILL"]).ok();
            }
            other => panic!("{other}"),
        }
    }
    assert!(events.wait().unwrap().success());
    assert!(seen.0 > 0, "statistics came");
    assert_eq!(seen.1, 1, "lack of memory is told once");
    lab.call(&["delete", "--force", "c"]).ok();
}
