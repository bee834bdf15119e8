//! Golden files: each record and each frame that a floe has ever written is understood by this one, and
//! says what it said. The files are in `golden/`, and their rules in `docs/records.md`; those of
//! version 1.0 are from a real run of the floe of before that page.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::spec::IdMapping;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::abilities::Abilities;
use crate::protocol::{ExecWire, Request, Response};
use crate::{
    Became, ContainerState, CreateContainer, Error, ExecRequest, HealthCheck, LogTarget,
    OciProgram, OnExit, OnUnhealthy, PodSetup, Restart, RootfsSource, StartupCheck, SupervisorInfo,
    UserIds, Watch,
};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The golden files of a kind, by name.
fn golden(kind: &str) -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(dir()).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| name.starts_with(kind))
        .map(|(name, path)| {
            let text = std::fs::read(path).unwrap();
            (name, serde_json::from_slice(&text).unwrap())
        })
        .collect();
    found.sort_by(|a: &(String, Value), b| a.0.cmp(&b.0));
    assert!(!found.is_empty(), "no golden file of {kind}");
    found
}

/// The value as this program would write it.
fn again<T: DeserializeOwned + Serialize>(value: &Value, name: &str) -> Value {
    let read: T =
        serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{name}: {e}: {value}"));
    serde_json::to_value(read).unwrap()
}

/// Is all of `small` in `large`, at the same places?
fn assert_within(small: &Value, large: &Value, at: &str) {
    match (small, large) {
        (Value::Object(small), Value::Object(large)) => {
            for (key, value) in small {
                let at = format!("{at}.{key}");
                let other = large.get(key).unwrap_or_else(|| panic!("{at} is lost"));
                assert_within(value, other, &at);
            }
        }
        (Value::Array(small), Value::Array(large)) if small.len() == large.len() => {
            for (value, other) in small.iter().zip(large) {
                assert_within(value, other, at);
            }
        }
        _ => assert_eq!(small, large, "{at}"),
    }
}

#[test]
fn every_state_json_says_what_it_said() {
    for (name, state) in golden("state-") {
        let again = again::<ContainerState>(&state, &name);
        assert_eq!(
            again, state,
            "{name}: what is written has changed: docs/records.md"
        );
    }
}

#[test]
fn every_supervisor_json_is_read_and_the_last_is_what_is_written() {
    let all = golden("supervisor-");
    for (name, info) in &all {
        assert_within(info, &again::<SupervisorInfo>(info, name), name);
    }
    let (name, last) = all.last().unwrap();
    let mut info: SupervisorInfo = serde_json::from_value(last.clone()).unwrap();
    info.abilities = Abilities::own();
    let written = serde_json::to_value(info).unwrap();
    let pretty = serde_json::to_string_pretty(&written).unwrap();
    assert!(
        written == *last,
        "{name}: what is written has changed. Add the golden file of it, with the next number (see \
         docs/records.md):\n{pretty}"
    );
}

#[test]
fn a_supervisor_that_does_not_say_what_it_can_can_what_its_first_ones_could() {
    let (_, first) = golden("supervisor-1.0").remove(0);
    let info: SupervisorInfo = serde_json::from_value(first).unwrap();
    for (_, conversation) in golden("conversation-1.0") {
        for turn in conversation.as_array().unwrap() {
            info.can(&name_of(&turn["request"])).unwrap();
        }
    }
    let error = info.can("subscribe").unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("cannot subscribe"), "{error}");
}

/// The name of an enum's value.
fn name_of(value: &Value) -> String {
    match value {
        Value::String(name) => name.clone(),
        Value::Object(fields) => fields.keys().next().unwrap().clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_frame_that_was_ever_sent_is_understood_and_is_sent_as_it_was() {
    let all = golden("conversation-");
    let turns: Vec<&Value> = all
        .iter()
        .flat_map(|(_, it)| it.as_array().unwrap())
        .collect();
    let answers = |turn: &'_ Value| -> Vec<Value> {
        let answers = turn["answers"].as_array().unwrap().iter();
        answers.map(|answer| answer["answer"].clone()).collect()
    };
    let sent: Vec<Value> = turns.iter().map(|turn| turn["request"].clone()).collect();
    let got: Vec<Value> = turns.iter().flat_map(|turn| answers(turn)).collect();
    let is_kept = |frame: &Value, again: Value, known: &[Value]| {
        assert_within(frame, &again, &name_of(frame));
        let pretty = serde_json::to_string_pretty(&again).unwrap();
        assert!(
            known.contains(&again),
            "what is sent has changed: add it to the conversation of the next revision (see \
             docs/records.md):\n{pretty}"
        );
    };
    for frame in &sent {
        is_kept(frame, again::<Request>(frame, "request"), &sent);
    }
    // What a supervisor says of itself is in the golden files of `supervisor.json`.
    for frame in got.iter().filter(|frame| name_of(frame) != "ready") {
        is_kept(frame, again::<Response>(frame, "answer"), &got);
    }
    let named: Vec<String> = sent.iter().map(name_of).collect();
    for ability in Abilities::own()
        .names
        .iter()
        .filter(|name| !name.contains('.'))
    {
        assert!(
            named.iter().any(|name| name == ability),
            "no conversation has {ability}: add one with it (see docs/records.md)"
        );
    }
}

/// Requests with all that they may lack: a new field does not compile until it is named here, and is then
/// missing in the conversations.
fn fullest() -> Vec<Request> {
    let id = || "@C@".to_owned();
    let path = |name: &str| std::path::PathBuf::from(format!("@DIR@/{name}"));
    let tell = |became| Request::Tell {
        id: id(),
        became: Box::new(became),
    };
    let program = OciProgram {
        path: "/usr/sbin/runc".into(),
        root: "/run/runc".into(),
        args: vec!["--debug".into()],
        systemd_cgroup: true,
    };
    let on_exit = OnExit {
        argv: vec!["/usr/bin/floe".into(), "container".into()],
        env: vec![("PATH".to_owned(), "/usr/bin".into())],
        restart: Restart::OnFailure { most: Some(3) },
    };
    let check = HealthCheck {
        args: vec!["true".into()],
        interval: Some(Duration::from_secs(30)),
        timeout: Duration::from_secs(5),
        retries: 3,
        start_period: Duration::from_secs(10),
        start_interval: Some(Duration::from_secs(1)),
        startup: Some(StartupCheck {
            args: vec!["test".into(), "-e".into(), "/up".into()],
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            retries: 9,
            successes: 1,
        }),
        on_unhealthy: OnUnhealthy::Restart,
        stop_signal: 15,
        stop_timeout: Duration::from_secs(10),
        log_entries: 5,
        log_bytes: 500,
    };
    let log = LogTarget {
        path: path("c.log"),
        beneath: Some("@DIR@".into()),
        max_size: Some(1 << 20),
        limit: Some(1 << 30),
        reserve: Some(1 << 28),
    };
    let create = CreateContainer {
        id: id(),
        bundle: path("containers/@C@"),
        rootfs: RootfsSource::Mount,
        log: Some(log),
        terminal: false,
        stdin: false,
        stdin_once: false,
        program: Some(program),
        on_exit: Some(Box::new(on_exit)),
        run_limit: Some(Duration::new(60, 0)),
        check: Some(Box::new(check)),
    };
    let process = serde_json::json!({"cwd": "/", "args": ["true"]});
    let command = ExecRequest {
        process: serde_json::from_value(process).unwrap(),
        timeout: Some(Duration::new(1, 500)),
    };
    let watch = Watch {
        socket: path("shim.sock"),
        request: vec![0],
        close_stdin: vec![1],
    };
    let set_ups = set_ups().map(|set_up| Request::SetUp(Box::new(set_up)));
    let mut all = vec![
        Request::Create(Box::new(create)),
        Request::Signal {
            id: id(),
            signal: 9,
            all: true,
        },
        Request::Check { id: id() },
        Request::ReopenLog { id: id() },
        Request::Exec {
            id: id(),
            request: Box::new(command),
            stdio: ExecWire::Fds,
        },
        Request::Subscribe { after: Some(7) },
        tell(Became::Made {
            pid: Some(77),
            cgroup: "/g/crio-c".into(),
            watch: Some(watch),
        }),
        tell(Became::Paused),
        tell(Became::OutOfMemory),
        tell(Became::Ended {
            code: 255,
            at: Some(6),
            message: Some("lost".into()),
        }),
    ];
    all.extend(set_ups);
    all
}

/// Pods with all that they may have: a network namespace that was given excludes users of their own.
fn set_ups() -> [PodSetup; 2] {
    let given = PodSetup {
        dir: "@DIR@".into(),
        id: "@POD@".into(),
        hostname: Some("@POD@".into()),
        new_net: true,
        netns_given: true,
        new_ipc: true,
        new_uts: true,
        shared_pid: true,
        sysctls: [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into(),
        shm_size: 1 << 26,
        cgroup: Some("@CGROUP@".into()),
        open_files: Some(1 << 20),
        users: None,
        keeps_home: true,
    };
    let map = vec![IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65_536,
    }];
    let users = PodSetup {
        netns_given: false,
        users: Some(UserIds {
            uids: map.clone(),
            gids: map,
        }),
        ..given.clone()
    };
    [given, users]
}

#[test]
fn every_field_that_may_be_missing_has_been_said_once() {
    let all = golden("conversation-");
    let turns = all.iter().flat_map(|(_, it)| it.as_array().unwrap());
    let known: Vec<&Value> = turns.map(|turn| &turn["request"]).collect();
    for request in fullest() {
        let frame = serde_json::to_value(&request).unwrap();
        let pretty = serde_json::to_string_pretty(&frame).unwrap();
        assert!(
            known.contains(&&frame),
            "no conversation has this: add it to that of the next revision (see docs/records.md):\n{pretty}"
        );
    }
}
