//! The sandbox service and the third version of the task service, against a shim that writes down what
//! it was asked and answers as the protocol has it: Debian has no shim with either.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use shim::{Options, Shim, Version, sandbox, task};
use tempfile::TempDir;

struct Recorder {
    shim: Shim,
    asked: Receiver<Vec<u8>>,
    _dir: TempDir,
}

/// A field of a message, of up to 127 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[number << 3 | 2, length][..], bytes].concat()
}

impl Recorder {
    fn answering(payload: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        let address = dir.path().join("s");
        let listener = UnixListener::bind(&address).unwrap();
        let (tell, asked) = channel();
        let body = field(2, payload);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let question = read(&mut client);
                let length = u32::try_from(body.len()).unwrap();
                let mut answer = length.to_be_bytes().to_vec();
                answer.extend([0, 0, 0, 1, 2, 0]);
                answer.extend(&body);
                client.write_all(&answer).unwrap();
                if tell.send(question).is_err() {
                    return;
                }
            }
        });
        Self {
            shim: Shim::new(address, Version::V3, "ns"),
            asked,
            _dir: dir,
        }
    }

    /// Was the last question to that method, and did it have these words?
    #[track_caller]
    fn was_asked(&self, service: &str, method: &str, words: &[&str]) {
        let question = self.asked.recv().unwrap();
        let begin = [field(1, service.as_bytes()), field(2, method.as_bytes())].concat();
        assert!(question.starts_with(&begin), "{question:?}");
        for word in words.iter().chain(&["containerd-namespace-ttrpc", "ns"]) {
            let found = question.windows(word.len()).any(|it| it == word.as_bytes());
            assert!(found, "{word} is not in {question:?}");
        }
    }
}

fn read(client: &mut UnixStream) -> Vec<u8> {
    let mut header = [0; 10];
    client.read_exact(&mut header).unwrap();
    assert_eq!(header[4..], [0, 0, 0, 1, 1, 0]);
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let mut body = vec![0; length as usize];
    client.read_exact(&mut body).unwrap();
    body
}

const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";

#[test]
fn a_sandbox_lives_through_every_verb() {
    let nothing = Recorder::answering(b"");
    let create = sandbox::Create {
        id: "p".into(),
        bundle: "/bundle".into(),
        netns: Some("/proc/7/ns/net".into()),
        options: Some(Options::ConfigFile("/etc/kata/configuration.toml".into())),
        annotations: [("io.katacontainers.config.x".to_owned(), "1".to_owned())].into(),
    };
    nothing.shim.ask(sandbox::create(create)).unwrap();
    let words = [
        "/bundle",
        "/proc/7/ns/net",
        "runtimeoptions.v1.Options",
        "/etc/kata/configuration.toml",
        "io.katacontainers.config.x",
    ];
    nothing.was_asked(SANDBOX, "CreateSandbox", &words);
    nothing.shim.ask(sandbox::ping("p")).unwrap();
    nothing.was_asked(SANDBOX, "PingSandbox", &["p"]);
    let grace = Duration::from_secs(10);
    nothing.shim.ask(sandbox::stop("p", grace)).unwrap();
    nothing.was_asked(SANDBOX, "StopSandbox", &["p"]);
    nothing.shim.ask(sandbox::shutdown("p")).unwrap();
    nothing.was_asked(SANDBOX, "ShutdownSandbox", &["p"]);

    let pid = Recorder::answering(&[1 << 3, 42]);
    let started = pid.shim.ask(sandbox::start("p")).unwrap();
    assert_eq!((started.pid, started.at), (Some(42), None));
    pid.was_asked(SANDBOX, "StartSandbox", &["p"]);
    let exit = pid.shim.ask(sandbox::wait("p")).unwrap();
    assert_eq!(exit.code, 42);
    pid.was_asked(SANDBOX, "WaitSandbox", &["p"]);
}

#[test]
fn what_a_sandbox_says_of_itself_is_checked() {
    let platform = field(1, &[field(1, b"linux"), field(2, b"amd64")].concat());
    let platform = Recorder::answering(&platform);
    let (system, machine) = platform.shim.ask(sandbox::platform("p")).unwrap();
    assert_eq!((&*system, &*machine), ("linux", "amd64"));
    platform.was_asked(SANDBOX, "Platform", &["p"]);

    let status = [field(1, b"p"), field(3, b"SANDBOX_READY")].concat();
    let status = Recorder::answering(&status);
    assert!(status.shim.ask(sandbox::status("p")).unwrap().ready);
    let other = status.shim.ask(sandbox::status("q")).unwrap_err();
    assert!(other.to_string().contains("not asked for"), "{other}");

    let figures = Recorder::answering(b"");
    let error = figures.shim.ask(sandbox::metrics("p")).unwrap_err();
    assert!(error.to_string().contains("no figures"), "{error}");
}

#[test]
fn a_shim_of_version_3_is_asked_in_version_3() {
    let shim = Recorder::answering(b"");
    shim.shim.ask(task::pause(&shim.shim, "c")).unwrap();
    shim.was_asked("containerd.task.v3.Task", "Pause", &["c"]);
}
