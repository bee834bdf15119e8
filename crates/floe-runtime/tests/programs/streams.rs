//! Commands, terminals and stdin.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::json;
use supervisor::{AttachEvent, AttachOptions, Error, ExecRequest, ExecStdio, Stream};

use crate::machine::{Program, nothing_is_left};
use crate::support::{Pod, code};

fn pipes() -> ([OwnedFd; 3], [std::fs::File; 3]) {
    let pipe = || {
        let (read, write) = std::io::pipe().unwrap();
        (OwnedFd::from(read), OwnedFd::from(write))
    };
    let ((in_read, in_write), (out_read, out_write), (err_read, err_write)) =
        (pipe(), pipe(), pipe());
    (
        [in_read, out_write, err_write],
        [in_write.into(), out_read.into(), err_read.into()],
    )
}

fn command(script: &str) -> ExecRequest {
    let process = json!({
        "args": ["/bin/sh", "-c", script],
        "cwd": "/",
        "env": ["PATH=/bin", "A=b"],
        "user": {"uid": 0, "gid": 0},
    });
    ExecRequest {
        process: serde_json::from_value(process).unwrap(),
        timeout: None,
    }
}

pub(crate) fn a_command_has_its_streams_code_and_limit(program: &Program) {
    let pod = Pod::new();
    program.running(&pod, "c", "sleep 1000");
    let (theirs, [mut stdin, mut stdout, mut stderr]) = pipes();
    let request = command("cat; echo $A; echo err >&2; exit 9");
    let session = pod
        .client()
        .exec("c", &request, ExecStdio::Fds(theirs))
        .unwrap();
    stdin.write_all(b"in\n").unwrap();
    drop(stdin);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "in\nb\n");
    text.clear();
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(text, "err\n");
    let exit = session.wait().unwrap();
    assert_eq!((exit.code, exit.timed_out), (9, false));
    for _ in 0..3 {
        let (theirs, _ours) = pipes();
        let session = pod
            .client()
            .exec("c", &command("exit 4"), ExecStdio::Fds(theirs));
        assert_eq!(session.unwrap().wait().unwrap().code, 4);
    }
    let (theirs, _ours) = pipes();
    let request = ExecRequest {
        timeout: Some(Duration::from_millis(300)),
        ..command("sleep 1000")
    };
    let session = pod.client().exec("c", &request, ExecStdio::Fds(theirs));
    match session.and_then(|session| session.wait()) {
        Ok(exit) => assert_eq!((exit.code, exit.timed_out), (137, true)),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn a_command_that_cannot_be_executed_says_why(program: &Program) {
    let pod = Pod::new();
    let container = program.running(&pod, "c", "sleep 1000");
    let (theirs, _ours) = pipes();
    let mut request = command("");
    request.process.args = vec!["/no/such/program".into()];
    match pod.client().exec("c", &request, ExecStdio::Fds(theirs)) {
        Err(Error::Start { message, exit_code }) => {
            assert!(message.contains("/no/such/program"), "{message}");
            assert_eq!(exit_code, 127);
        }
        other => panic!("{other:?}"),
    }
    pod.client().delete("c", true).unwrap();
    nothing_is_left(&pod, &container);
}

fn read_all(mut console: std::fs::File) -> String {
    let mut bytes = Vec::new();
    // EIO is how a terminal says that nobody has its other side open.
    let _ = console.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn a_command_has_a_terminal(program: &Program) {
    let pod = Pod::new();
    program.running(&pod, "c", "sleep 1000");
    let stdio = ExecStdio::Terminal(Some((24, 80)));
    let mut session = pod
        .client()
        .exec("c", &command("read line; stty size"), stdio)
        .unwrap();
    let mut console = std::fs::File::from(session.console.take().unwrap());
    console.write_all(b"go\n").unwrap();
    assert_eq!(session.wait().unwrap().code, 0);
    assert!(read_all(console).ends_with("24 80\r\n"));
}

pub(crate) fn a_container_has_a_terminal(program: &Program) {
    let pod = Pod::new();
    let mut container = program.container(&pod, "c", "read line; stty size; echo got $line");
    container.config["process"]["terminal"] = json!(true);
    container.request.terminal = true;
    container.request.stdin = true;
    container.create(&pod);
    let options = AttachOptions {
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let attached = pod.client().attach("c", options).unwrap();
    let (mut output, mut input) = attached.split();
    pod.client().resize("c", 11, 22).unwrap();
    pod.client().start("c").unwrap();
    input.send(b"word\n").unwrap();
    let mut text = String::new();
    loop {
        match output.read().unwrap() {
            AttachEvent::Output(Stream::Stdout, bytes) => {
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
            AttachEvent::Output(Stream::Stderr, _) => panic!("a terminal has no stderr"),
            AttachEvent::Exit(state) => {
                assert_eq!(code(&state), 0);
                break;
            }
        }
    }
    assert!(
        text.contains("11 22") && text.contains("got word"),
        "{text}"
    );
}

pub(crate) fn stdin_is_fed_and_closed(program: &Program) {
    let pod = Pod::new();
    let mut container = program.container(&pod, "c", "cat; echo end");
    container.request.stdin = true;
    container.request.stdin_once = true;
    container.create(&pod);
    let options = AttachOptions {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let attached = pod.client().attach("c", options).unwrap();
    let (_output, mut input) = attached.split();
    pod.client().start("c").unwrap();
    input.send(b"word\n").unwrap();
    input.close().unwrap();
    assert_eq!(code(&pod.client().wait("c").unwrap()), 0);
    assert_eq!(container.log_lines(), ["stdout F word", "stdout F end"]);
}
