//! Clients that are not Kubernetes' own of this day: the socket's path as `:authority`, in the forms
//! that grpc-core, Java and Swift send it, and fields that the schema does not have. The client here is hand-made bytes of HTTP/2 (RFC 9113).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::common::http2::{DATA, HEADERS, SETTINGS, field, frame, named};
use crate::common::world;

/// A call of Version with a message: its first headers, or the same by their places in the table.
fn call(stream: u8, authority: Option<&str>, message: &[u8]) -> Vec<u8> {
    let length = u8::try_from(message.len()).unwrap();
    let data = [&[0, 0, 0, 0, length][..], message].concat();
    let block = match authority {
        Some(authority) => [
            vec![0x83, 0x86],
            field(&[0x44], "/runtime.v1.RuntimeService/Version"),
            field(&[0x41], authority),
            field(&[0x5f], "application/grpc"),
            field(&named("te"), "trailers"),
        ]
        .concat(),
        // The newest is number 62: te, content-type, :authority, :path.
        None => vec![0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe],
    };
    [
        frame(HEADERS, 0x4, stream, &block),
        frame(DATA, 0x1, stream, &data),
    ]
    .concat()
}

/// The kinds of frames that answer on a stream, and its data, up to its end.
fn answer(socket: &mut UnixStream, stream: u8) -> (Vec<u8>, Vec<u8>) {
    let (mut kinds, mut data) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; 9];
        socket.read_exact(&mut header).unwrap();
        let [a, b, c, kind, flags, _, _, _, of] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        socket.read_exact(&mut payload).unwrap();
        if of != stream {
            continue;
        }
        kinds.push(kind);
        if kind == DATA {
            data.extend(payload);
        }
        let reset = kind == 3;
        if reset || flags & 1 != 0 {
            return (kinds, data);
        }
    }
}

fn talk(socket: &Path, authority: &str, message: &[u8]) {
    let mut socket = UnixStream::connect(socket).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(call(1, Some(authority), message));
    socket.write_all(&bytes).unwrap();
    let (kinds, data) = answer(&mut socket, 1);
    assert_eq!(kinds, [HEADERS, DATA, HEADERS], "{authority:?}");
    assert!(data.windows(4).any(|part| part == b"floe"), "{authority:?}");
    // The table is as the client thinks: the second call is all numbers.
    socket.write_all(&call(3, None, message)).unwrap();
    let (kinds, _) = answer(&mut socket, 3);
    assert_eq!(kinds, [HEADERS, DATA, HEADERS], "{authority:?}");
}

#[test]
fn a_client_may_send_any_authority() {
    world(async |world| {
        let path = world.node.socket();
        let raw = path.to_str().unwrap();
        let encoded = raw.trim_start_matches('/').replace('/', "%2F");
        for authority in [raw, &encoded, "run%2Ffloe.sock", "localhost", "a b", "::"] {
            talk(&path, authority, &[]);
        }
    });
}

#[test]
fn a_field_of_a_newer_client_does_no_harm_and_is_told_once() {
    world(async |world| {
        let socket = world.node.socket();
        // Field 1000 of VersionRequest, a text, in two calls on each of two connections.
        let message = [0xc2, 0x3e, 3, b'n', b'e', b'w'];
        talk(&socket, "localhost", &message);
        talk(&socket, "localhost", &message);
        let log = world.node.log();
        let told: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("VersionRequest"))
            .collect();
        assert_eq!(told.len(), 1, "{log}");
        assert!(
            told[0].contains("WARN") && told[0].contains("1000"),
            "{told:?}"
        );
    });
}
