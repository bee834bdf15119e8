//! A former engine drives this supervisor, as after a rollback or with half of a package upgraded:
//! the requests that it sent once (`golden/conversation-1.0.json`, from a real run) are sent again, byte
//! for byte but for names and places, and the answers must say what it reads in them.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::support::{self, Pod};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};
use serde_json::{Value, json};
use supervisor::{Client, Error, SupervisorInfo};

/// The conversation, with the places of this pod in it.
fn conversation(pod: &str, dir: &Path) -> Vec<Value> {
    // Part of the program: it also runs where the sources are not.
    let text = include_str!("../../golden/conversation-1.0.json");
    let at = |name: &str| dir.join(name).display().to_string();
    let text = text
        .replace("@DIR@", &dir.display().to_string())
        .replace("@POD@", pod)
        .replace("@C@", "c")
        .replace("@LOWER@", &at("rootfs"))
        .replace("@UPPER@", &at("upper"))
        .replace("@WORK@", &at("work"))
        .replace("@CGROUP@", &format!("/{pod}/crio-{pod}"));
    serde_json::from_str(&text).unwrap()
}

fn name_of(value: &Value) -> &str {
    match value {
        Value::String(name) => name,
        Value::Object(fields) => fields.keys().next().unwrap(),
        other => panic!("{other}"),
    }
}

/// Sends a frame, with descriptors.
fn send(socket: &UnixStream, frame: &Value, fds: &[BorrowedFd<'_>]) {
    let json = frame.to_string();
    let length = u32::try_from(json.len()).unwrap().to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let parts = [IoSlice::new(&length)];
    sendmsg(socket, &parts, &mut control, SendFlags::empty()).unwrap();
    (&mut &*socket).write_all(json.as_bytes()).unwrap();
}

/// The next answer, and how many descriptors came with it.
fn answer(mut socket: &UnixStream) -> (Value, usize) {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut length)];
    let got = recvmsg(socket, &mut parts, &mut control, RecvFlags::empty()).unwrap();
    assert_eq!(got.bytes, 4, "the supervisor has closed the connection");
    let fds = control.drain().map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(fds) => fds.count(),
        _ => 0,
    });
    let fds = fds.sum();
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut body).unwrap();
    (serde_json::from_slice(&body).unwrap(), fds)
}

/// Has the answer all that was in the former one, as values of the same kind?
fn assert_says(former: &Value, now: &Value, at: &str) {
    match (former, now) {
        (Value::Object(former), Value::Object(now)) => {
            for (key, value) in former {
                let at = format!("{at}.{key}");
                let now = now
                    .get(key)
                    .unwrap_or_else(|| panic!("{at} is missing: {now:?}"));
                assert_says(value, now, &at);
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::String(former), Value::String(now)) if at.matches('.').count() < 2 => {
            assert_eq!(former, now, "{at}");
        }
        _ => assert_eq!(
            std::mem::discriminant(former),
            std::mem::discriminant(now),
            "{at}: {now}"
        ),
    }
}

/// Starts the program as a former engine did, and sends its first frame.
fn set_up(setup: &Value, dir: &Path) -> (UnixStream, Value) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let lock = std::fs::File::create(dir.join("supervisor.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let log = std::fs::File::create(dir.join("supervisor.log")).unwrap();
    let mut child = Command::new(support::program())
        .arg("supervise")
        .arg("former")
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(lock)
        .stderr(log)
        .spawn()
        .unwrap();
    send(&ours, setup, &[]);
    let (ready, _) = answer(&ours);
    assert!(child.wait().unwrap().success());
    (ours, ready)
}

#[test]
fn what_a_former_engine_asks_is_answered_as_it_was() {
    needs_host!();
    let made = Pod::setup(|_| {});
    let (id, dir) = (made.id.clone(), made.dir.clone());
    let turns = conversation(&id, &dir);
    let (first, ready) = set_up(&turns[0]["request"], &dir);
    assert_says(&turns[0]["answers"][0]["answer"], &ready, "");
    let info = SupervisorInfo::read(&dir).unwrap().unwrap();
    let pod = Pod::adopt(made, info);
    let ends_on_term = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
    pod.container("c", ends_on_term).write_config();
    for name in ["upper", "work"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let (mut said, says) = std::io::pipe().unwrap();
    for turn in &turns[1..] {
        let request = &turn["request"];
        let one = match name_of(request) {
            // These two change what their connection is.
            "exec" | "attach" => UnixStream::connect(dir.join("supervisor.sock")).unwrap(),
            _ => first.try_clone().unwrap(),
        };
        let fds: Vec<BorrowedFd<'_>> = match turn["fds"].as_u64() {
            Some(3) => vec![null.as_fd(), says.as_fd(), null.as_fd()],
            _ => Vec::new(),
        };
        send(&one, request, &fds);
        for former in turn["answers"].as_array().unwrap() {
            let (now, fds) = answer(&one);
            assert_says(&former["answer"], &now, "");
            assert_eq!(name_of(&former["answer"]), name_of(&now));
            assert_eq!(json!(fds), former["fds"], "{now}");
        }
    }
    drop(says);
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi\n");
}

#[test]
fn what_a_newer_engine_adds_is_passed_over_and_what_is_unknown_is_refused_by_name() {
    needs_host!();
    let pod = Pod::new();
    let connect = || UnixStream::connect(pod.dir().join("supervisor.sock")).unwrap();
    let socket = connect();
    send(
        &socket,
        &json!({"wait": {"id": "x", "patience": {"of": 1}}}),
        &[],
    );
    assert_eq!(
        answer(&socket).0,
        json!({"failed": {"not_found": {"id": "x"}}})
    );
    let version = &pod.info.version;
    for (request, name) in [
        (json!({"checkpoint": {"id": "x", "to": "/y"}}), "checkpoint"),
        (json!("hibernate"), "hibernate"),
    ] {
        let socket = connect();
        send(&socket, &request, &[]);
        let refused = json!({"failed": {"unsupported": {"ability": name, "version": version}}});
        assert_eq!(answer(&socket).0, refused);
    }
    assert!(pod.client().wait("nobody").unwrap_err().is_not_found());
}

#[test]
fn a_supervisor_is_not_asked_for_what_it_is_too_old_for() {
    needs_host!();
    let pod = Pod::new();
    let info = pod.dir().join("supervisor.json");
    let mut former: Value = serde_json::from_slice(&std::fs::read(&info).unwrap()).unwrap();
    former.as_object_mut().unwrap().remove("abilities");
    std::fs::write(&info, former.to_string()).unwrap();
    let error = pod.client().subscribe(None).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let mut container = pod.container("c", "true").request;
    let program = json!({"path": "/bin/true", "root": "/tmp"});
    container.program = Some(serde_json::from_value(program).unwrap());
    let error = pod.client().create(&container).unwrap_err().to_string();
    assert!(error.contains("cannot create.program"), "{error}");
    // It was not even told: what it does not know in a request it passes over.
    assert!(!pod.dir().join("containers/c/state.json").exists());
    container.program = None;
    pod.container("c", "true").write_config();
    let mut client = Client::connect(pod.dir()).unwrap();
    client.create(&container).unwrap();
}
