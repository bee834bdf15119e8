//! Commands in a running container: their streams, their end, and what ends them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::support::{Pod, eventually, lives};
use rustix::event::{PollFd, PollFlags, poll};
use supervisor::{Error, ExecRequest, ExecSession, ExecStdio};

fn request(script: &str) -> ExecRequest {
    let process = serde_json::from_value(serde_json::json!({
        "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
    }));
    ExecRequest {
        process: process.unwrap(),
        timeout: None,
    }
}

/// Starts a command with pipes; returns what to write to and to read from.
fn start(pod: &Pod, id: &str, request: &ExecRequest) -> Result<(ExecSession, File, File), Error> {
    let (stdin, our_stdin) = std::io::pipe().unwrap();
    let (our_stdout, stdout) = std::io::pipe().unwrap();
    let stderr = stdout.try_clone().unwrap();
    let stdio = ExecStdio::Fds([stdin.into(), stdout.into(), stderr.into()]);
    let session = pod.client().exec(id, request, stdio)?;
    Ok((
        session,
        OwnedFd::from(our_stdin).into(),
        OwnedFd::from(our_stdout).into(),
    ))
}

#[test]
fn a_command_has_its_own_streams_and_its_own_code() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running("c", "sleep 1000");
    let (session, mut stdin, mut stdout) =
        start(&pod, "c", &request("cat; echo bad >&2; exit 6")).unwrap();
    stdin.write_all(b"in").unwrap();
    drop(stdin);
    let mut output = String::new();
    stdout.read_to_string(&mut output).unwrap();
    assert_eq!(output, "inbad\n");
    let exit = session.wait().unwrap();
    assert_eq!((exit.code, exit.timed_out, exit.oom), (6, false, false));
    assert_eq!(
        session.wait().unwrap(),
        exit,
        "the answer can be asked for again"
    );
    assert!(
        container.log_lines().is_empty(),
        "nothing of it is in the container's log"
    );
}

#[test]
fn a_session_polls_readable_when_its_command_has_ended() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let (session, stdin, _stdout) = start(&pod, "c", &request("cat")).unwrap();
    let ready = |timeout| {
        let timeout = rustix::time::Timespec {
            tv_sec: timeout,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(&session, PollFlags::IN)], Some(&timeout)).unwrap()
    };
    assert_eq!(ready(0), 0);
    drop(stdin);
    assert_eq!(ready(30), 1);
    assert_eq!(session.wait().unwrap().code, 0);
}

#[test]
fn a_command_that_cannot_be_executed_is_told_apart() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    std::fs::write(pod.dir().join("rootfs/tmp/plain"), "text").unwrap();
    for (program, expected) in [("/no/such/program", 127), ("/tmp/plain", 126)] {
        let mut request = request("");
        request.process.args = vec![program.to_owned()];
        match start(&pod, "c", &request) {
            Err(Error::Start { exit_code, message }) => {
                assert_eq!(exit_code, expected);
                assert!(message.contains(program), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_command_whose_time_is_over_is_killed_with_its_children() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let mut request = request("sleep 1000 & sleep 1000");
    request.timeout = Some(Duration::from_millis(100));
    let (session, _stdin, mut stdout) = start(&pod, "c", &request).unwrap();
    let exit = session.wait().unwrap();
    assert_eq!((exit.code, exit.timed_out), (137, true));
    let mut nothing = Vec::new();
    // Ends only when no child holds it any longer.
    stdout.read_to_end(&mut nothing).unwrap();
}

#[test]
fn a_child_that_keeps_the_streams_does_not_hold_up_the_exit() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let (session, _stdin, _stdout) = start(&pod, "c", &request("sleep 1000 & exit 2")).unwrap();
    assert_eq!(session.wait().unwrap().code, 2);
}

#[test]
fn a_client_that_leaves_takes_its_command_with_it() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let (session, _stdin, _stdout) = start(&pod, "c", &request("sleep 1000")).unwrap();
    let pid = session.pid;
    assert!(lives(pid));
    drop(session);
    eventually("its end", || !lives(pid));
}

#[test]
fn a_terminal_has_its_size_and_can_be_resized() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let request = request("stty size; read line; stty size; test -t 0 && test -t 2 && echo tty");
    let session = pod
        .client()
        .exec("c", &request, ExecStdio::Terminal(Some((33, 77))))
        .unwrap();
    let mut console = File::from(session.console.as_ref().unwrap().try_clone().unwrap());
    let mut output = Vec::new();
    let mut read_until = |text: &str, console: &mut File| {
        while !String::from_utf8_lossy(&output).contains(text) {
            let mut buffer = [0; 100];
            let count = console.read(&mut buffer).unwrap();
            output.extend_from_slice(&buffer[..count]);
        }
    };
    read_until("33 77", &mut console);
    session.resize(44, 88).unwrap();
    console.write_all(b"\n").unwrap();
    read_until("44 88", &mut console);
    read_until("tty", &mut console);
    assert_eq!(session.wait().unwrap().code, 0);
}

#[test]
fn commands_are_refused_where_none_can_run() {
    needs_host!();
    let pod = Pod::new();
    let refused = |id: &str, why: &str| match start(&pod, id, &request("true")) {
        Err(Error::State { state, .. }) => assert!(state.contains(why), "{state}"),
        other => panic!("{other:?}"),
    };
    pod.container("created", "true").create(&pod);
    refused("created", "created");
    pod.run("exited", "true");
    refused("exited", "exited");
    pod.running("paused", "sleep 1000");
    pod.client().pause("paused").unwrap();
    refused("paused", "paused");
    assert!(
        start(&pod, "ghost", &request("true"))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn commands_end_with_their_container() {
    needs_host!();
    for shared_pid in [false, true] {
        let pod = Pod::with(|setup| setup.shared_pid = shared_pid);
        pod.running("c", "sleep 1000");
        let (session, _stdin, _stdout) = start(&pod, "c", &request("sleep 1000")).unwrap();
        pod.client().delete("c", true).unwrap();
        assert_eq!(session.wait().unwrap().code, 137);
        assert!(!lives(session.pid));
    }
}

#[test]
fn many_commands_run_at_once() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let sessions: Vec<_> = (0..20)
        .map(|n| start(&pod, "c", &request(&format!("read x; exit {n}"))).unwrap())
        .collect();
    for (n, (session, stdin, _stdout)) in sessions.into_iter().enumerate() {
        drop(stdin);
        assert_eq!(session.wait().unwrap().code, i32::try_from(n).unwrap());
    }
}

#[test]
fn an_exec_without_its_descriptors_is_refused() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let mut socket =
        std::os::unix::net::UnixStream::connect(pod.dir().join("supervisor.sock")).unwrap();
    let json = r#"{"exec":{"id":"c","request":{"process":{"args":["true"],"cwd":"/","user":{}},"timeout":null},"stdio":"fds"}}"#;
    socket
        .write_all(
            &[
                &u32::try_from(json.len()).unwrap().to_le_bytes()[..],
                json.as_bytes(),
            ]
            .concat(),
        )
        .unwrap();
    let mut answer = vec![0; 200];
    let count = socket.read(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..count]).contains("three file descriptors"));
}
