//! Clients on a container's streams: nothing is lost, nothing piles up, and who leaves is gone.

use std::thread;
use std::time::Duration;

use crate::support::{Container, Pod, code, eventually};
use supervisor::{AttachEvent, AttachOptions, Attachment, Client, Error, Stream};

const ALL: AttachOptions = AttachOptions {
    stdin: true,
    stdout: true,
    stderr: true,
};
const OUTPUT: AttachOptions = AttachOptions {
    stdin: false,
    stdout: true,
    stderr: true,
};

fn attach(pod: &Pod, id: &str, options: AttachOptions) -> Attachment {
    pod.client().attach(id, options).unwrap()
}

/// All output until the container's end, by stream, and its exit code.
fn to_the_end(attachment: &mut Attachment) -> (Vec<u8>, Vec<u8>, i32) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match attachment.read().unwrap() {
            AttachEvent::Output(Stream::Stdout, bytes) => stdout.extend(bytes),
            AttachEvent::Output(Stream::Stderr, bytes) => stderr.extend(bytes),
            AttachEvent::Exit(state) => return (stdout, stderr, code(&state)),
        }
    }
}

fn read_until(attachment: &mut Attachment, text: &str) -> String {
    let mut output = String::new();
    while !output.contains(text) {
        match attachment.read().unwrap() {
            AttachEvent::Output(_, bytes) => output.push_str(&String::from_utf8_lossy(&bytes)),
            AttachEvent::Exit(state) => panic!("ended before {text:?}: {output:?} {state:?}"),
        }
    }
    output
}

fn with_stdin(pod: &Pod, script: &str, once: bool) -> Container {
    let mut container = pod.container("c", script);
    container.request.stdin = true;
    container.request.stdin_once = once;
    container.create(pod);
    container
}

#[test]
fn attached_before_start_a_client_misses_nothing() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.container("c", "echo out; echo err >&2; exit 5");
    container.create(&pod);
    let mut attachment = attach(&pod, "c", OUTPUT);
    let mut stdout_only = attach(
        &pod,
        "c",
        AttachOptions {
            stdout: true,
            ..AttachOptions::default()
        },
    );
    pod.client().start("c").unwrap();
    assert_eq!(
        to_the_end(&mut attachment),
        (b"out\n".to_vec(), b"err\n".to_vec(), 5)
    );
    assert_eq!(
        to_the_end(&mut stdout_only),
        (b"out\n".to_vec(), Vec::new(), 5)
    );
    assert!(
        attachment.read().unwrap_err().is_gone(),
        "nothing comes after the exit"
    );
    assert_eq!(container.log_lines().len(), 2, "it is logged as well");
}

#[test]
fn stdin_that_is_open_once_ends_with_its_first_client() {
    needs_host!();
    let pod = Pod::new();
    with_stdin(&pod, "cat; echo end", true);
    let mut attachment = attach(&pod, "c", ALL);
    let mut watcher = attach(&pod, "c", OUTPUT);
    pod.client().start("c").unwrap();
    attachment.write(b"hello ").unwrap();
    read_until(&mut watcher, "hello ");
    drop(attachment);
    assert_eq!(to_the_end(&mut watcher), (b"end\n".to_vec(), Vec::new(), 0));
}

#[test]
fn close_stdin_ends_it_while_the_client_stays() {
    needs_host!();
    let pod = Pod::new();
    with_stdin(&pod, "cat; echo end", true);
    let mut attachment = attach(&pod, "c", ALL);
    pod.client().start("c").unwrap();
    attachment.write(b"x").unwrap();
    attachment.close_stdin().unwrap();
    assert_eq!(
        to_the_end(&mut attachment),
        (b"xend\n".to_vec(), Vec::new(), 0)
    );
}

#[test]
fn stdin_that_stays_open_takes_one_client_after_the_other() {
    needs_host!();
    let pod = Pod::new();
    with_stdin(&pod, "read a; echo got $a; read b; echo got $b", false);
    pod.client().start("c").unwrap();
    for word in ["one", "two"] {
        let mut attachment = attach(&pod, "c", ALL);
        attachment.write(format!("{word}\n").as_bytes()).unwrap();
        read_until(&mut attachment, &format!("got {word}"));
        if word == "one" {
            attachment.close_stdin().unwrap();
        }
    }
    assert_eq!(code(&pod.client().wait("c").unwrap()), 0);
}

#[test]
fn without_stdin_a_container_reads_an_end_at_once() {
    needs_host!();
    let pod = Pod::new();
    let (container, state) = pod.run("c", "cat; echo end");
    assert_eq!(code(&state), 0);
    assert_eq!(container.log_lines(), ["stdout F end"]);
}

#[test]
fn more_stdin_than_a_pipe_holds_arrives_whole() {
    needs_host!();
    let pod = Pod::new();
    with_stdin(&pod, "sleep 0.2; cat", true);
    let (mut output, mut input) = attach(&pod, "c", ALL).split();
    pod.client().start("c").unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let sent = bytes.clone();
    let writer = thread::spawn(move || {
        input.send(&sent).unwrap();
        input.close().unwrap();
    });
    let mut got = Vec::new();
    while let AttachEvent::Output(_, bytes) = output.read().unwrap() {
        got.extend(bytes);
    }
    writer.join().unwrap();
    assert!(got == bytes);
}

#[test]
fn a_terminal_echoes_takes_a_size_and_its_control_characters() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container(
        "c",
        "trap 'echo int; exit 8' INT; stty size; while read x; do echo got $x; stty size; done",
    );
    container.request.terminal = true;
    container.request.stdin = true;
    container.config["process"]["consoleSize"] = serde_json::json!({"height": 11, "width": 22});
    container.create(&pod);
    let mut attachment = attach(&pod, "c", ALL);
    pod.client().start("c").unwrap();
    read_until(&mut attachment, "11 22\r\n");
    attachment.resize(33, 44).unwrap();
    attachment.write(b"word\n").unwrap();
    let output = read_until(&mut attachment, "33 44\r\n");
    assert!(output.contains("got word\r\n"), "{output:?}");
    pod.client().resize("c", 55, 66).unwrap();
    attachment.write(b"again\n").unwrap();
    read_until(&mut attachment, "55 66\r\n");
    attachment.write(&[3]).unwrap();
    let (stdout, _, exit) = to_the_end(&mut attachment);
    assert!(String::from_utf8_lossy(&stdout).contains("int"));
    assert_eq!(exit, 8);
}

#[test]
fn resize_without_a_terminal_is_an_error() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    assert!(matches!(
        pod.client().resize("c", 1, 1),
        Err(Error::Invalid { .. })
    ));
}

#[test]
fn a_slow_client_holds_the_container_up_and_gets_everything() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container("c", "seq 1 1000000; echo end >&2");
    container.request.log = None;
    container.create(&pod);
    let mut slow = attach(&pod, "c", OUTPUT);
    pod.client().start("c").unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(
        !container.state().status.is_exited(),
        "7 MB do not fit into what may wait for a client"
    );
    let rss = std::fs::read_to_string(format!("/proc/{}/status", pod.info.pid)).unwrap();
    let rss = rss
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap()
        .trim()
        .split(' ')
        .next()
        .unwrap();
    assert!(
        rss.parse::<u32>().unwrap() < 12_000,
        "the supervisor holds {rss} kB"
    );
    let (stdout, stderr, exit) = to_the_end(&mut slow);
    let expected: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
    assert!(stdout == expected.as_bytes());
    assert_eq!((stderr.as_slice(), exit), (&b"end\n"[..], 0));
}

#[test]
fn a_client_that_vanishes_holds_nobody_up() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.container("c", "seq 1 1000000");
    container.create(&pod);
    let gone = attach(&pod, "c", OUTPUT);
    let mut reader = attach(&pod, "c", OUTPUT);
    pod.client().start("c").unwrap();
    thread::sleep(Duration::from_millis(100));
    drop(gone);
    let (stdout, _, exit) = to_the_end(&mut reader);
    assert_eq!((stdout.len(), exit), (6_888_896, 0));
}

#[test]
fn attach_to_what_has_ended_or_never_was_is_an_error() {
    needs_host!();
    let pod = Pod::new();
    pod.run("c", "true");
    assert!(matches!(
        pod.client().attach("c", OUTPUT),
        Err(Error::State { .. })
    ));
    assert!(
        pod.client()
            .attach("ghost", OUTPUT)
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn a_client_that_sends_nonsense_is_dropped_and_the_container_runs_on() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running("c", "sleep 1000");
    let mut socket =
        std::os::unix::net::UnixStream::connect(pod.dir().join("supervisor.sock")).unwrap();
    let json = r#"{"attach":{"id":"c","options":{"stdin":true,"stdout":true,"stderr":true}}}"#;
    let frame = [
        &u32::try_from(json.len()).unwrap().to_le_bytes()[..],
        json.as_bytes(),
    ]
    .concat();
    std::io::Write::write_all(&mut socket, &[&frame[..], &[99; 50]].concat()).unwrap();
    let mut rest = Vec::new();
    // Reset or end, as the nonsense was read or not.
    let _ = std::io::Read::read_to_end(&mut socket, &mut rest);
    assert!(!container.state().status.is_exited());
    eventually("an answer to others", || Client::connect(pod.dir()).is_ok());
}
