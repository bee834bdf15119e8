//! The agent of a container's seccomp filters, from the side of the runtimes that bring them.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::{Container, Pod};
use serde_json::json;
use supervisor::AGENT;

/// A container that waits, whose supervisor is its agent, and the agent's socket.
fn with_agent(pod: &Pod) -> (Container, std::path::PathBuf) {
    let socket = pod.dir().join("agent");
    let mut container = pod.container("a", "exec sleep 1000");
    container.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket,
        "listenerMetadata": format!("{AGENT}log"),
        "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
    });
    container.create(pod);
    pod.client().start("a").unwrap();
    (container, socket)
}

/// What came on a connection, or why nothing.
fn heard(client: &mut UnixStream) -> std::io::Result<usize> {
    client.read(&mut [0; 16])
}

#[test]
fn a_runtime_that_is_slow_to_bring_its_listener_is_waited_for() {
    needs_host!();
    let pod = Pod::new();
    let (_container, socket) = with_agent(&pod);
    let mut slow = UnixStream::connect(&socket).unwrap();
    // The supervisor has seen it: a later client has its second answer.
    let mut client = pod.client();
    for _ in 0..2 {
        let unknown = client.resize("nobody", 1, 1);
        assert!(unknown.unwrap_err().is_not_found());
    }
    slow.set_nonblocking(true).unwrap();
    assert_eq!(heard(&mut slow).unwrap_err().kind(), ErrorKind::WouldBlock);
    slow.set_nonblocking(false).unwrap();
    // One that has said something is done with.
    slow.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    slow.write_all(b"{}").unwrap();
    assert_eq!(heard(&mut slow).unwrap(), 0);
}

#[test]
fn runtimes_that_never_say_anything_keep_no_other_out() {
    needs_host!();
    let pod = Pod::new();
    let (_container, socket) = with_agent(&pod);
    let mut silent: Vec<UnixStream> = (0..200)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    let mut last = UnixStream::connect(&socket).unwrap();
    last.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    last.write_all(b"{}").unwrap();
    assert_eq!(heard(&mut last).unwrap(), 0);
    // The oldest had to go.
    let first = silent.first_mut().unwrap();
    first
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert_eq!(heard(first).unwrap(), 0);
}
