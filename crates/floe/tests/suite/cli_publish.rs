//! `floe publish`, as a shim executes it that has no client for its events.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use shim::events::{self, What};

/// A field of a message, of up to 127 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[number << 3 | 2, length][..], bytes].concat()
}

/// Of a container that the kernel has killed for want of memory, as a shim gives it: google.protobuf.Any.
fn out_of_memory(container: &str) -> Vec<u8> {
    let kind = field(1, b"containerd.events.TaskOOM");
    [kind, field(2, &field(1, container.as_bytes()))].concat()
}

fn publish(socket: &Path, namespace: &str, event: &[u8]) -> Output {
    let mut child = Command::new(testkit::program("floe").unwrap())
        .arg("--address")
        .arg(socket)
        .args(["publish", "--topic", "/tasks/oom", "--namespace", namespace])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever refuses it early is not told the rest.
    let _ = child.stdin.take().unwrap().write_all(event);
    child.wait_with_output().unwrap()
}

#[test]
fn an_event_on_stdin_reaches_whoever_takes_the_pods_events() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("events");
    let (to, mut taken) = tokio::sync::mpsc::channel(4);
    let (_file, listener) = {
        let _within = runtime.enter();
        events::listen(&socket).unwrap().unwrap()
    };
    runtime.spawn(events::serve(listener, "floe".into(), to));
    let done = publish(&socket, "floe", &out_of_memory("c"));
    assert!(done.status.success(), "{done:?}");
    let event = taken.blocking_recv().unwrap();
    assert_eq!((&*event.container, event.what), ("c", What::OutOfMemory));
    let refused = [
        publish(&socket, "other", &out_of_memory("c")),
        publish(&socket, "floe", &out_of_memory("../c")),
        publish(&socket, "floe", &[0xff; 9]),
        publish(&socket, "floe", &vec![0; 1 << 20]),
        publish(&dir.path().join("nobody"), "floe", &out_of_memory("c")),
    ];
    for refused in refused {
        assert_eq!(refused.status.code(), Some(125), "{refused:?}");
        assert!(!refused.stderr.is_empty());
    }
    assert!(taken.try_recv().is_err());
}
