//! `floe cri bench` against floe, against a runtime that fails and one that falls silent.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tonic::Status;

use crate::cli::crictl::Crictl;
use crate::cli::proxy::Deed;
use crate::cli::xml::elements;
use crate::cli::{Machine, Said, machine, signal, until};

const RPCS: [&str; 11] = [
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "ExecSync",
    "ListPodSandbox",
    "ListContainers",
    "ListContainerStats",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

/// Runs it as JSON against a socket, on three pods.
fn measured(floe: &Machine, crictl: &Crictl, words: &[&str]) -> (Said, Value) {
    let usual = ["--image", &floe.image, "--pods", "3", "-o", "json"];
    let said = crictl.run(&[&["bench"], &usual[..], words].concat());
    let value = serde_json::from_str(&said.out);
    let value = value.unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    (said, value)
}

/// What was measured of a call.
fn of<'v>(value: &'v Value, rpc: &str) -> &'v Value {
    let mut all = value["rpcs"].as_array().expect("calls").iter();
    all.find(|one| one["rpc"] == rpc).expect("the call")
}

fn is_clean(crictl: &Crictl) {
    assert_eq!(crictl.ok(&["pods", "-q"]), "");
    assert_eq!(crictl.ok(&["ps", "-a", "-q"]), "");
}

/// A picture that is whole: how many dots it has, and whether each call has a name in it.
fn dots(file: &str) -> usize {
    let text = std::fs::read_to_string(file).expect("read");
    let all = elements(&text);
    assert_eq!(all[0].0, "svg");
    for rpc in RPCS {
        assert!(text.contains(&format!(">{rpc}</text>")), "{rpc}");
    }
    assert!(text.contains("prefers-color-scheme: dark"));
    all.iter().filter(|(name, _)| name == "circle").count()
}

#[test]
fn every_call_is_measured_and_nothing_stays() {
    machine(|floe| {
        floe.node.serve().expect("serve");
        let crictl = floe.crictl(&floe.node.socket());
        let picture = crictl.file("bench.svg", "");
        let (said, value) = measured(floe, &crictl, &["--svg", &picture, "--parallel", "2"]);
        assert_eq!(said.code, 0, "{}", said.err);
        for rpc in RPCS {
            let one = of(&value, rpc);
            assert_eq!(
                (&one["calls"], &one["failed"]),
                (&3.into(), &0.into()),
                "{one}"
            );
            let names = ["minimum", "median", "p90", "p99", "maximum"];
            let figures = names.map(|name| one["seconds"][name].as_f64().expect("a figure"));
            assert!(figures.is_sorted() && figures[0] > 0.0, "{one}");
        }
        assert_eq!(dots(&picture), 3 * RPCS.len());
        is_clean(&crictl);
        // It was pulled for this.
        assert_eq!(crictl.ok(&["images", "-q"]), "");
        let text = crictl.ok(&["bench", "--image", &floe.image, "--pods", "1"]);
        let mut lines = text.lines();
        assert!(
            lines.next().is_some_and(|line| line.starts_with("floe ")),
            "{text}"
        );
        let first: Vec<&str> = lines.next().expect("a head").split_whitespace().collect();
        let head = [
            "MILLISECONDS",
            "CALLS",
            "FAILED",
            "MINIMUM",
            "MEDIAN",
            "P90",
            "P99",
            "MAXIMUM",
        ];
        assert_eq!(first, head);
        assert_eq!(
            lines
                .filter(|line| line.split_whitespace().nth(1) == Some("1"))
                .count(),
            RPCS.len()
        );
    });
}

#[test]
fn what_fails_is_counted_and_a_silent_runtime_ends_it() {
    machine(|floe| {
        floe.node.serve().expect("serve");
        let crictl = floe.crictl(&floe.node.socket());
        let picture = crictl.file("bench.svg", "");
        let hostile = "</text>\u{1b}[2J<script>&";
        let refuses = floe.wrong("refuses.sock", move |name| match name {
            "StartContainer" => Deed::Fail(Status::internal(hostile)),
            _ => Deed::Pass,
        });
        let endpoint = |socket: &std::path::Path| format!("unix://{}", socket.display());
        let run = |socket: &std::path::Path, words: &[&str]| {
            let mut command = crictl.bare();
            command.args(["-r", &endpoint(socket)]).args(words);
            command.args(["--image", &floe.image, "--pods", "3", "-o", "json"]);
            let said = Said::from(command.output().expect("run"));
            let value: Value = serde_json::from_str(&said.out).unwrap_or_default();
            (said, value)
        };
        let (said, value) = run(&refuses, &["-t", "60s", "bench", "--svg", &picture]);
        said.ended(1, "StartContainer: code = Internal");
        assert!(
            !said.err.contains('\u{1b}') && !said.out.contains('\u{1b}'),
            "{}",
            said.err
        );
        assert_eq!(of(&value, "StartContainer")["failed"], 3);
        assert_eq!(of(&value, "RunPodSandbox")["calls"], 3);
        assert!(dots(&picture) >= 6 * 3);
        is_clean(&crictl);

        let mute = floe.wrong("mute.sock", |name| match name {
            "StopContainer" => Deed::Hang,
            _ => Deed::Pass,
        });
        let (said, value) = run(&mute, &["-t", "3s", "bench"]);
        said.ended(2, "StopContainer has no answer within 3s");
        assert_eq!(of(&value, "StopContainer")["failed"], 1);
        is_clean(&crictl);

        let missing = floe.image.replace("busybox:1", "missing:1");
        let said = crictl.run(&["bench", "--image", &missing]);
        said.ended(2, "give --image");
        let said = crictl.run(&["bench", "--svg", "/no/such/dir/x"]);
        said.ended(2, "write /no/such/dir/x");
    });
}

#[test]
fn whoever_interrupts_it_finds_nothing_left() {
    machine(|floe| {
        floe.node.serve().expect("serve");
        let crictl = floe.crictl(&floe.node.socket());
        let words = ["bench", "--image", &floe.image, "--pods", "400"];
        let mut command = crictl.command(&words);
        let child = command.stdout(Stdio::piped()).spawn().expect("start");
        until("pods are made", || {
            crictl.ok(&["pods", "-q"]).lines().count() >= 3
        });
        signal(&child, Signal::TERM);
        let said = Said::from(child.wait_with_output().expect("wait"));
        said.ended(2, "interrupted");
        is_clean(&crictl);
        assert_eq!(crictl.ok(&["images", "-q"]), "");
    });
}
