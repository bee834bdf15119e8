//! Clients that misbehave: what they send must neither end the supervisor nor hold up others.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::support::{Pod, eventually};
use supervisor::Client;

fn raw(pod: &Pod) -> UnixStream {
    UnixStream::connect(pod.dir().join("supervisor.sock")).unwrap()
}

fn frame(json: &str) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap().to_le_bytes();
    [&length[..], json.as_bytes()].concat()
}

fn is_well(pod: &Pod) {
    assert!(pod.client().wait("nobody").unwrap_err().is_not_found());
}

#[test]
fn malformed_frames_are_answered_with_the_reason_and_end_the_connection() {
    needs_host!();
    let pod = Pod::new();
    let cases: [(Vec<u8>, &str); 3] = [
        (frame("not json"), "decode"),
        (frame(r#"{"stop":{"id":"c"}}"#), "missing field"),
        (u32::MAX.to_le_bytes().to_vec(), "longer than"),
    ];
    for (bytes, reason) in cases {
        let mut socket = raw(&pod);
        socket.write_all(&bytes).unwrap();
        let mut answer = String::new();
        // The first four bytes are the length; what follows is text.
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        socket.read_to_string(&mut answer).unwrap();
        assert!(
            answer.contains("protocol") && answer.contains(reason),
            "{answer}"
        );
    }
    is_well(&pod);
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_understood() {
    needs_host!();
    let pod = Pod::new();
    let mut socket = raw(&pod);
    for byte in frame(r#"{"wait":{"id":"x"}}"#) {
        socket.write_all(&[byte]).unwrap();
    }
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut answer).unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("not_found"));
}

#[test]
fn requests_sent_at_once_are_answered_one_after_the_other() {
    needs_host!();
    let pod = Pod::new();
    let mut socket = raw(&pod);
    let many: Vec<u8> = (0..100)
        .flat_map(|_| frame(r#"{"wait":{"id":"x"}}"#))
        .collect();
    socket.write_all(&many).unwrap();
    for _ in 0..100 {
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        socket.read_exact(&mut answer).unwrap();
        assert!(String::from_utf8(answer).unwrap().contains("not_found"));
    }
}

#[test]
fn clients_that_vanish_in_the_middle_of_a_frame_are_forgotten() {
    needs_host!();
    let pod = Pod::new();
    let fds = || {
        std::fs::read_dir(format!("/proc/{}/fd", pod.info.pid))
            .unwrap()
            .count()
    };
    let before = fds();
    for _ in 0..100 {
        let mut socket = raw(&pod);
        socket.write_all(&1000_u32.to_le_bytes()).unwrap();
        socket.write_all(b"{\"create\":").unwrap();
    }
    eventually("all of them forgotten", || fds() <= before);
    is_well(&pod);
}

#[test]
fn a_thousand_idle_clients_do_not_keep_another_out_for_ever() {
    needs_host!();
    let pod = Pod::new();
    let mut idle: Vec<Client> = Vec::new();
    let path = pod.dir().to_owned();
    let others = std::thread::spawn(move || {
        // More than the supervisor takes: the last ones wait in the socket's queue.
        for _ in 0..1000 {
            match Client::connect(&path) {
                Ok(client) => idle.push(client),
                Err(_) => break,
            }
            if idle.len() > 600 {
                idle.drain(..300);
            }
        }
        drop(idle);
    });
    others.join().unwrap();
    is_well(&pod);
}

#[test]
fn another_user_is_not_listened_to() {
    needs_host!();
    let pod = Pod::new();
    let socket = pod.dir().join("supervisor.sock");
    for path in [pod.dir(), &socket] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
    }
    let answer = std::thread::spawn(move || {
        // The uid of this thread alone.
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let mut socket = UnixStream::connect(socket).unwrap();
        // Refused before or after it is sent.
        let _ = socket.write_all(&frame(r#"{"wait":{"id":"x"}}"#));
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        answer
    });
    assert!(answer.join().unwrap().is_empty());
    assert!(
        pod.log().contains("refused a client of user 65534"),
        "{}",
        pod.log()
    );
    is_well(&pod);
}

#[test]
fn requests_about_unknown_containers_name_them() {
    needs_host!();
    let pod = Pod::new();
    let error = pod.client().start("ghost").unwrap_err();
    assert!(error.is_not_found());
    assert!(error.to_string().contains("ghost"), "{error}");
}
