//! Shims that hang, lie, flood and hang up: each costs its caller an error, at the limit at the
//! latest, and a bounded amount of memory.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use shim::events::{self, What};
use shim::task;
use shim::{Code, Error, MAX_FRAME, Shim, Version};
use tempfile::TempDir;

/// What a hostile shim is given to answer within.
const LIMIT: Duration = Duration::from_millis(200);

/// A socket whose clients all meet the same behaviour.
struct Fake {
    shim: Shim,
    _dir: TempDir,
}

impl Fake {
    fn new(behave: impl Fn(UnixStream) + Send + Sync + 'static) -> Self {
        let dir = TempDir::new().unwrap();
        let address: PathBuf = dir.path().join("s");
        let listener = UnixListener::bind(&address).unwrap();
        std::thread::spawn(move || {
            // Ends with the test's process.
            for client in listener.incoming().flatten() {
                behave(client);
            }
        });
        Self {
            shim: Shim::new(address, Version::V2, "test"),
            _dir: dir,
        }
    }

    /// Answers with these bytes whatever was asked.
    fn answering(bytes: Vec<u8>) -> Self {
        Self::new(move |mut client| {
            let mut question = [0; 4096];
            let _ = client.read(&mut question);
            let _ = client.write_all(&bytes);
        })
    }

    fn state(&self) -> Error {
        let question = task::state(&self.shim, "c", None).within(Some(LIMIT));
        self.shim.ask(question).unwrap_err()
    }
}

fn frame(stream: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(body);
    bytes
}

/// A field of a message, of up to 127 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[number << 3 | 2, length][..], bytes].concat()
}

/// A successful answer with that payload.
fn answer(payload: &[u8]) -> Vec<u8> {
    frame(1, 2, &field(2, payload))
}

#[track_caller]
fn lies(answer: Vec<u8>, words: &str) {
    let error = Fake::answering(answer).state();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn one_that_hangs_is_given_up_at_the_limit() {
    let kept = std::sync::Mutex::new(Vec::new());
    let fake = Fake::new(move |client| kept.lock().unwrap().push(client));
    let error = fake.state();
    assert!(
        matches!(error, Error::Silent { limit: LIMIT, .. }),
        "{error}"
    );
}

#[test]
fn one_that_drips_is_given_up_at_the_limit() {
    let fake = Fake::new(|mut client| {
        let bytes = answer(&[0; 100]);
        for byte in bytes.iter().cycle() {
            std::thread::sleep(Duration::from_millis(20));
            if client.write_all(&[*byte]).is_err() {
                break;
            }
            // Never the whole: the first byte of the length says more than comes.
        }
    });
    let error = fake.state();
    let given_up = matches!(error, Error::Silent { .. } | Error::Protocol { .. });
    assert!(given_up, "{error}");
}

#[test]
fn one_that_takes_no_clients_is_given_up_at_the_limit() {
    let dir = TempDir::new().unwrap();
    let address = dir.path().join("s");
    let listener = UnixListener::bind(&address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(&address).unwrap();
    let shim = Shim::new(address, Version::V2, "test");
    let error = shim.ask(task::state(&shim, "c", None).within(Some(LIMIT)));
    assert!(matches!(error, Err(Error::Silent { .. })), "{error:?}");
}

#[test]
fn one_that_hangs_up_is_gone() {
    let error = Fake::new(drop).state();
    assert!(error.is_gone(), "{error}");
    let error = Fake::answering(answer(b"x")[..5].to_vec()).state();
    assert!(error.is_gone(), "{error}");
}

#[test]
fn nobody_there_is_gone() {
    let dir = TempDir::new().unwrap();
    let shim = Shim::new(dir.path().join("none"), Version::V3, "test");
    let error = shim.ask(task::state(&shim, "c", None)).unwrap_err();
    assert!(error.is_gone(), "{error}");
}

#[test]
fn a_huge_frame_is_refused_before_its_body() {
    let mut huge = frame(1, 2, b"");
    huge[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    lies(huge, "longer than");
    let mut over = frame(1, 2, b"");
    let over_limit = u32::try_from(MAX_FRAME).unwrap() + 1;
    over[..4].copy_from_slice(&over_limit.to_be_bytes());
    lies(over, "longer than");
}

#[test]
fn what_was_not_asked_for_is_refused() {
    lies(frame(3, 2, b""), "stream 3");
    lies(frame(1, 1, b""), "not asked for");
    lies(frame(1, 3, b""), "kind 3");
}

#[test]
fn what_is_no_message_is_refused() {
    lies(frame(1, 2, &[0xff; 20]), "no answer");
    lies(answer(&[0xff; 20]), "no such answer");
}

#[test]
fn answers_that_cannot_be_true_are_refused() {
    // Another container, a state that is none, a process id that is none.
    lies(
        answer(&[&field(1, b"other")[..], &[4 << 3, 2]].concat()),
        "other",
    );
    lies(answer(&[&field(1, b"c")[..], &[4 << 3, 99]].concat()), "99");
    let pid = [3 << 3, 0xff, 0xff, 0xff, 0xff, 0x0f];
    lies(
        answer(&[&field(1, b"c")[..], &[4 << 3, 2], &pid].concat()),
        "process id",
    );
}

#[test]
fn a_refusal_has_its_code_and_bounded_words() {
    let words = "x\x1b[31m".repeat(10);
    let status = [&[1 << 3, 5][..], &field(2, words.as_bytes())].concat();
    let error = Fake::answering(frame(1, 2, &field(1, &status))).state();
    assert!(error.is_not_found());
    let Error::Refused { code, message, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(code, Code::NotFound);
    assert!(!message.contains('\x1b'), "{message:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_for_who_waits_without_a_thread() {
    let kept = std::sync::Mutex::new(Vec::new());
    let hangs = Fake::new(move |client| kept.lock().unwrap().push(client));
    let question = task::wait(&hangs.shim, "c", None).within(Some(LIMIT));
    let error = hangs.shim.ask_async(question).await.unwrap_err();
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    let lies = Fake::answering(frame(9, 2, b""));
    let error = lies.shim.ask_async(task::wait(&lies.shim, "c", None)).await;
    assert!(matches!(error, Err(Error::Protocol { .. })), "{error:?}");
    let gone = Fake::new(drop);
    let error = gone.shim.ask_async(task::wait(&gone.shim, "c", None)).await;
    assert!(error.is_err_and(|error| error.is_gone()));
}

/// An event's bytes as a client with a hand of its own makes them.
fn event(container: &str) -> Vec<u8> {
    let any = [
        field(1, b"containerd.events.TaskOOM"),
        field(2, &field(1, container.as_bytes())),
    ];
    any.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_no_events_harms_nobody_elses() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("events");
    let (to, mut taken) = tokio::sync::mpsc::channel(4);
    let (_file, listener) = events::listen(&socket).unwrap().unwrap();
    let _serving = tokio::spawn(events::serve(listener, "ns".into(), to));
    let hostile: Vec<UnixStream> = (0..8)
        .map(|number| {
            let mut client = UnixStream::connect(&socket).unwrap();
            let bytes = match number % 4 {
                0 => vec![0xff; 10],
                1 => frame(1, 2, b""),
                2 => frame(1, 1, &[0xff; 9]),
                // One that never says the rest.
                _ => vec![0, 0, 0, 9],
            };
            client.write_all(&bytes).unwrap();
            client
        })
        .collect();
    let publish = |namespace: &'static str, container: &str| {
        let (socket, bytes) = (socket.clone(), event(container));
        tokio::task::spawn_blocking(move || {
            events::publish(&socket, namespace, "/tasks/oom", &bytes)
        })
    };
    publish("ns", "c").await.unwrap().unwrap();
    let event = taken.recv().await.unwrap();
    assert_eq!(
        (event.container.as_str(), event.what),
        ("c", What::OutOfMemory)
    );
    for (namespace, container) in [("other", "c"), ("ns", "../c")] {
        let error = publish(namespace, container).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    drop(hostile);
}
