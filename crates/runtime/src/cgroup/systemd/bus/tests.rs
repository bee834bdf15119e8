//! A conversation with something that behaves like a bus, byte by byte where it matters.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use super::super::EXISTS;
use super::super::marshal::{ERROR_NAME, MEMBER, REPLY_SERIAL, message};
use super::*;

/// The other side of one connection, in a thread.
struct Peer {
    path: std::path::PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn new(behave: impl FnOnce(UnixStream) + Send + 'static) -> Peer {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("floe bus {}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || behave(listener.accept().unwrap().0));
        Peer {
            path,
            thread: Some(thread),
        }
    }

    fn address(&self) -> String {
        let path = self.path.to_str().unwrap().replace(' ', "%20");
        format!("tcp:host=localhost;unix:path={path},guid=0")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let joined = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            joined.unwrap();
        }
    }
}

fn greet(stream: &mut UnixStream) {
    let greeting = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
    let mut said = vec![0; greeting.len()];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(said, greeting);
    stream.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
}

/// Reads a call; returns its serial.
fn read_call(stream: &mut UnixStream) -> u32 {
    let mut bytes = vec![0; PREFIX];
    stream.read_exact(&mut bytes).unwrap();
    let length = Message::length(&bytes).unwrap();
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[PREFIX..]).unwrap();
    u32::from_ne_bytes(bytes[8..12].try_into().unwrap())
}

/// An answer of this side.
fn answer(kind: u8, reply_to: u32, body: &[Value]) -> Vec<u8> {
    let fields = vec![
        (REPLY_SERIAL, Value::Fixed(b'u', u64::from(reply_to))),
        (ERROR_NAME, Value::text(EXISTS)),
    ];
    message(kind, 1, fields, body)
}

fn removed(job: &str, result: &str) -> Vec<u8> {
    let body = [
        Value::Fixed(b'u', 1),
        Value::Text(b'o', job.into()),
        Value::text("x.scope"),
        Value::text(result),
    ];
    message(SIGNAL, 1, vec![(MEMBER, Value::text("JobRemoved"))], &body)
}

#[test]
fn a_call_is_answered_and_a_job_that_ended_before_is_remembered() {
    let peer = Peer::new(|mut stream| {
        greet(&mut stream);
        let serial = read_call(&mut stream);
        stream.write_all(&removed("/job/1", "failed")).unwrap();
        stream.write_all(&removed("/job/2", "done")).unwrap();
        let job = [Value::Text(b'o', "/job/2".into())];
        stream
            .write_all(&answer(METHOD_RETURN, serial + 7, &job))
            .unwrap();
        stream
            .write_all(&answer(METHOD_RETURN, serial, &job))
            .unwrap();
        stream.write_all(&removed("/job/3", "canceled")).unwrap();
    });
    let mut bus = Bus::open(&peer.address(), false).unwrap();
    let answer = bus.manager("StartTransientUnit", &[Value::text("x.scope")]);
    let job = answer.unwrap().unwrap().body().text().unwrap();
    assert_eq!(job, "/job/2");
    assert_eq!(bus.ended(&job).unwrap(), "done");
    assert_eq!(bus.ended("/job/3").unwrap(), "canceled");
}

#[test]
fn a_refusal_has_the_other_sides_words() {
    let peer = Peer::new(|mut stream| {
        greet(&mut stream);
        let serial = read_call(&mut stream);
        let words = [Value::text("Unit x.scope already exists.")];
        stream.write_all(&answer(ERROR, serial, &words)).unwrap();
    });
    let mut bus = Bus::open(&peer.address(), false).unwrap();
    let refusal = bus.manager("StopUnit", &[]).unwrap().unwrap_err();
    assert_eq!(refusal.words, "Unit x.scope already exists.");
    assert_eq!(refusal.name, EXISTS);
}

#[test]
fn who_is_away_for_a_moment_is_asked_again() {
    let peer = Peer::new(|mut stream| {
        greet(&mut stream);
        for name in AWAY {
            let fields = |serial: u32| {
                vec![
                    (REPLY_SERIAL, Value::Fixed(b'u', u64::from(serial))),
                    (ERROR_NAME, Value::text(name)),
                ]
            };
            let serial = read_call(&mut stream);
            let words = [Value::text("Message recipient disconnected")];
            let away = message(ERROR, 1, fields(serial), &words);
            stream.write_all(&away).unwrap();
        }
        let serial = read_call(&mut stream);
        let job = [Value::Text(b'o', "/job/2".into())];
        let done = answer(METHOD_RETURN, serial, &job);
        stream.write_all(&done).unwrap();
    });
    let mut bus = Bus::open(&peer.address(), false).unwrap();
    assert!(!bus.asked_again);
    let done = bus.manager("StopUnit", &[]).unwrap().unwrap();
    assert_eq!(done.body().text().as_deref(), Some("/job/2"));
    assert!(bus.asked_again);
}

#[test]
fn an_end_in_the_middle_and_what_is_no_message_are_errors_with_the_address() {
    for (sent, words) in [
        (&b""[..], "it has closed the connection"),
        (b"l\x02\0\x01", "it has closed the connection"),
        (&[b'?'; 64], "no message of D-Bus"),
    ] {
        let peer = Peer::new(move |mut stream| {
            greet(&mut stream);
            read_call(&mut stream);
            stream.write_all(sent).unwrap();
        });
        let mut bus = Bus::open(&peer.address(), false).unwrap();
        let error = bus.manager("StopUnit", &[]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains("unix:path="), "{error}");
    }
}

#[test]
fn who_is_not_let_in_is_told_so() {
    let peer = Peer::new(|mut stream| {
        stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        let _ = stream.read(&mut [0; 64]);
    });
    let error = Bus::open(&peer.address(), true).unwrap_err().to_string();
    assert!(
        error.contains("it answers \"REJECTED EXTERNAL\""),
        "{error}"
    );
}

#[test]
fn addresses_that_lead_nowhere_say_why() {
    for (address, words) in [
        ("tcp:host=localhost", "not an address unix:path="),
        ("unix:tmpdir=/tmp", "not an address unix:path="),
        (
            "unix:path=/proc/self/no-such-bus",
            "no such file or directory",
        ),
        ("unix:abstract=floe-nobody-listens", "connection refused"),
    ] {
        let error = Bus::open(address, true).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(address), "{error}");
    }
    assert_eq!(unescape("/a%20b%zz%"), b"/a b%zz%");
}
