//! Promise 8: pods outlive upgrades. The state directory of a pod that a former floe has made
//! (`golden/former`, of a real run of the floe of before records had versions) and a supervisor that
//! answers as that floe's did, and knows nothing more, meet the engine of today.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::common::{World, world};

const POD: &str = "cc7cf22d86257b30da799a5f589dd73e3a04dd5099425ad55b66e578039d32e9";
const WEB: &str = "448b5591d73e475c588d71e396f543e9ef49a88106ffb516299ea587c8a3d742";

/// A supervisor of the former floe.
struct Former {
    process: Arc<Mutex<Option<Child>>>,
    /// What it was asked, by name.
    asked: Arc<Mutex<Vec<String>>>,
    /// What it was asked and would not have understood.
    wrong: Arc<Mutex<Vec<String>>>,
}

/// What it was asked and answers; one for each connection.
struct Talk {
    pod_dir: PathBuf,
    turns: Arc<Vec<Value>>,
    process: Arc<Mutex<Option<Child>>>,
    asked: Arc<Mutex<Vec<String>>>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Former {
    /// Puts the pod's state directory in its place and listens there.
    fn start(world: &World) -> Self {
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = process.id();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/former");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let start = stat
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .nth(19)
            .unwrap()
            .to_owned();
        let places = [
            ("@NODE@", world.node.path("").display().to_string()),
            ("@CGROUP@", world.node.cgroup().to_owned()),
            ("@PID@", pid.to_string()),
            ("@START@", start),
        ];
        copy(&golden, &world.node.path("run"), &places);
        let pod_dir = world.node.path("run/pods").join(POD);
        std::fs::create_dir(pod_dir.join("shm")).unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = file.join("../supervisor/golden/conversation-1.0.json");
        let turns = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let talk = Talk {
            pod_dir: pod_dir.clone(),
            turns: Arc::new(turns),
            process: Arc::new(Mutex::new(Some(process))),
            asked: Arc::default(),
            wrong: Arc::default(),
        };
        let former = Self {
            process: talk.process.clone(),
            asked: talk.asked.clone(),
            wrong: talk.wrong.clone(),
        };
        // The path itself is longer than a socket's may be.
        let dir = std::fs::File::open(&pod_dir).unwrap();
        let short = format!("/proc/self/fd/{}/supervisor.sock", dir.as_raw_fd());
        let listener = UnixListener::bind(short).unwrap();
        let talk = Arc::new(talk);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let talk = talk.clone();
                std::thread::spawn(move || while talk.turn(&client) {});
            }
        });
        former
    }

    /// Was it asked that?
    fn was_asked(&self, name: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == name)
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Copies a tree of text files, with places and numbers put in.
fn copy(from: &Path, to: &Path, places: &[(&str, String)]) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to, places);
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let text = places
            .iter()
            .fold(text, |text, (name, value)| text.replace(name, value));
        std::fs::write(to, text).unwrap();
    }
}

fn name_of(value: &Value) -> &str {
    match value {
        Value::String(name) => name,
        Value::Object(fields) => fields.keys().next().unwrap(),
        other => panic!("{other}"),
    }
}

impl Talk {
    /// Takes a request and answers it; false once the client is gone.
    fn turn(&self, client: &UnixStream) -> bool {
        let Some((request, fds)) = receive(client) else {
            return false;
        };
        let name = name_of(&request).to_owned();
        self.asked.lock().unwrap().push(name.clone());
        let is_it = |turn: &&Value| {
            name_of(&turn["request"]) == name
                && (name != "exec"
                    || name_of(&turn["request"]["exec"]["stdio"])
                        == name_of(&request["exec"]["stdio"]))
        };
        let Some(turn) = self.turns.iter().find(is_it) else {
            // So the former supervisor said it, and went.
            let reason = format!("decode: unknown variant `{name}`, expected one of `set_up`");
            send(
                client,
                &json!({"failed": {"protocol": {"reason": reason}}}),
                &[],
            );
            return false;
        };
        if let Some(lacks) = lacks(&turn["request"], &request, "") {
            self.wrong
                .lock()
                .unwrap()
                .push(format!("{lacks} in {request}"));
        }
        let id = request[&name]["id"].as_str().unwrap_or_default().to_owned();
        let answers = turn["answers"].to_string().replace("@C@", &id);
        let answers: Vec<Value> = serde_json::from_str(&answers).unwrap();
        self.act(&name, &id, &answers, fds);
        for answer in answers {
            let end = (name == "shutdown").then(|| self.end());
            let end: Vec<BorrowedFd<'_>> = end.iter().map(AsFd::as_fd).collect();
            send(client, &answer["answer"], &end);
        }
        true
    }

    /// What the former supervisor did besides.
    fn act(&self, name: &str, id: &str, answers: &[Value], fds: Vec<OwnedFd>) {
        let state = self.pod_dir.join("containers").join(id).join("state.json");
        let write = |value: &Value| std::fs::write(&state, value.to_string()).unwrap();
        let pid = self.process.lock().unwrap().as_ref().map(Child::id);
        let fresh = |status: Value| json!({"version": 1, "id": id, "status": status, "pid": pid, "created_at_ns": 5, "cgroup": "x"});
        match name {
            "create" => write(&fresh(json!("created"))),
            "start" => write(&fresh(json!({"running": {"started_at": 6}}))),
            "stop" => write(&answers[0]["answer"]["state"]),
            "delete" => std::fs::remove_file(state).unwrap(),
            "exec" => {
                let mut stdout = std::fs::File::from(fds.into_iter().nth(1).unwrap());
                stdout.write_all(b"from the former\n").unwrap();
            }
            _ => {}
        }
    }

    /// Ends its process; readable once that has ended.
    fn end(&self) -> OwnedFd {
        let mut process = self.process.lock().unwrap().take().unwrap();
        let pid = Pid::from_child(&process);
        let end = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        for name in ["supervisor.json", "supervisor.sock"] {
            std::fs::remove_file(self.pod_dir.join(name)).unwrap();
        }
        end
    }
}

/// What a former supervisor needs and a request has not: it gave no field a default but those of `null`.
fn lacks(former: &Value, now: &Value, at: &str) -> Option<String> {
    let Value::Object(former) = former else {
        return None;
    };
    former
        .iter()
        .filter(|(key, _)| *key != "process")
        .find_map(|(key, value)| {
            let at = format!("{at}.{key}");
            match now.get(key) {
                None => Some(format!("no {at}")),
                Some(Value::Null) => None,
                Some(now) => lacks(value, now, &at),
            }
        })
}

fn receive(mut client: &UnixStream) -> Option<(Value, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut length)];
    let got = recvmsg(client, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    });
    let fds = fds.collect();
    if got.bytes != 4 {
        return None;
    }
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    client.read_exact(&mut body).ok()?;
    Some((serde_json::from_slice(&body).unwrap(), fds))
}

fn send(client: &UnixStream, frame: &Value, fds: &[BorrowedFd<'_>]) {
    let json = frame.to_string();
    let length = u32::try_from(json.len()).unwrap().to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let parts = [IoSlice::new(&length), IoSlice::new(json.as_bytes())];
    // A client that is gone is its own affair.
    let _ = sendmsg(client, &parts, &mut control, SendFlags::NOSIGNAL);
}

/// Its supervisor has no `subscribe`: the engine does not ask for it, and the records tell the steps.
#[test]
fn what_happens_in_a_pod_of_a_former_floe_is_told_by_its_records() {
    world(async |world| {
        world.node.kill().unwrap();
        let former = Former::start(world);
        world.serve_again().await;
        let sources = engine::config::Sources {
            file: Some(world.node.config()),
            dir: None,
        };
        let (config, _) = engine::Config::load(&sources).unwrap();
        let engine = engine::Engine::open(config).unwrap();
        let mut told = engine.subscribe().unwrap();
        let present = told.next().await.unwrap();
        assert!(matches!(present, engine::events::Notice::Present(pods) if pods.len() == 1));
        let adopted = engine.adopt_pod(POD).unwrap();
        assert!(adopted.sandbox.is_some());
        let started = engine::handler::Happened::Started;
        let of_records = adopted.events.iter().any(|event| event.happened == started);
        assert!(of_records, "{:?}", adopted.events);
        world.stop(WEB, 1).await.unwrap();
        let stopped = async {
            loop {
                // The pod itself is not whole while this supervisor writes in place.
                if let engine::events::Notice::Event(event) = told.next().await.unwrap()
                    && event.container_id.is_some()
                {
                    return event;
                }
            }
        };
        let limit = std::time::Duration::from_secs(60);
        let event = tokio::time::timeout(limit, stopped).await.unwrap();
        assert_eq!(event.what, engine::events::Happening::Stopped);
        assert_eq!(event.container_id.as_deref(), Some(WEB));
        assert!(!former.was_asked("subscribe"));
        world.remove_pod(POD).await.unwrap();
    });
}

#[test]
fn pods_of_a_former_floe_survive_the_upgrade() {
    world(async |world| {
        world.node.kill().unwrap();
        let former = Former::start(world);
        world.serve_again().await;
        let status = world.pod_status(POD).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
        assert_eq!(status.network.unwrap().ip, "10.85.0.2");
        assert_eq!(status.annotations["note"], "ä \" \\ \n");
        // kubelet, asking again for what it has asked the former engine for, gets the same pod.
        assert_eq!(*world.pod("golden").await, *POD);
        let web = world.status(WEB).await.unwrap();
        assert_eq!(web.state(), cri::ContainerState::ContainerRunning);
        assert_eq!(web.metadata.unwrap().name, "web");
        let said = world.exec(WEB, &["echo"], 5).await.unwrap();
        assert_eq!(
            (&*said.stdout, said.exit_code),
            (&b"from the former\n"[..], 0)
        );
        // A container of today in the pod of the former floe.
        let new = world
            .run(POD, world.config("new", &["sleep", "1000"]))
            .await;
        let state = world.status(&new).await.unwrap().state();
        assert_eq!(state, cri::ContainerState::ContainerRunning);
        world.stop(WEB, 1).await.unwrap();
        assert_eq!(world.ended(WEB).await.exit_code, 0);
        world.remove(WEB).await.unwrap();
        assert!(world.status(WEB).await.is_err());
        world.stop_pod(POD).await.unwrap();
        let state = world.pod_status(POD).await.unwrap().state();
        assert_eq!(state, cri::PodSandboxState::SandboxNotready);
        world.remove_pod(POD).await.unwrap();
        assert!(world.pod_status(POD).await.is_err());
        for name in ["exec", "create", "start", "stop", "delete", "shutdown"] {
            assert!(former.was_asked(name), "{name}");
        }
        assert_eq!(*former.wrong.lock().unwrap(), Vec::<String>::new());
        let run = world.node.path("run");
        for (place, left) in [("names", 0), ("pods", 0), ("network/results", 0)] {
            assert_eq!(
                std::fs::read_dir(run.join(place)).unwrap().count(),
                left,
                "{place}"
            );
        }
    });
}
