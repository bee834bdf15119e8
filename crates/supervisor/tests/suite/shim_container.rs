//! Containers that another program runs, and programs beside the containers: the supervisor has the
//! streams, logs and records of the former, whatever becomes of their program or of an engine, and is the
//! parent of what the latter leave behind.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::support::{Container, Pod, code, eventually, lives};
use supervisor::{
    AttachEvent, AttachOptions, Became, Companion, CompanionExit, Error, Status, Stream, Watch,
};

/// A program that runs a container, played by the test.
struct Shim {
    socket: PathBuf,
    listener: UnixListener,
}

impl Shim {
    fn new(pod: &Pod) -> Self {
        let socket = pod.dir().join("shim");
        let listener = UnixListener::bind(&socket).unwrap();
        Self { socket, listener }
    }

    /// Has the supervisor carry a container, whose end is asked of this program.
    fn carry(&self, pod: &Pod, container: &Container) -> UnixStream {
        let id = &container.request.id;
        pod.client().carry(&container.request).unwrap();
        let watch = Watch {
            socket: self.socket.clone(),
            request: b"how does it end?".to_vec(),
            close_stdin: b"no more".to_vec(),
        };
        let made = Became::Made {
            pid: None,
            cgroup: String::new(),
            watch: Some(watch),
        };
        pod.client().tell(id, made).unwrap();
        pod.client().tell(id, Became::Running).unwrap();
        let mut asked = self.listener.accept().unwrap().0;
        let mut question = [0; 16];
        asked.read_exact(&mut question).unwrap();
        assert_eq!(&question, b"how does it end?");
        asked
    }
}

fn pipe(container: &Container, name: &str) -> File {
    let path = container.dir.join(name);
    File::options().write(true).open(path).unwrap()
}

/// The answer that a process ended with that code.
fn ended(code: u8) -> Vec<u8> {
    vec![0, 0, 0, 4, 0, 0, 0, 1, 2, 0, 2 << 3 | 2, 2, 8, code]
}

#[test]
fn what_it_says_is_logged_before_its_end_is_told() {
    needs_host!();
    let pod = Pod::new();
    let shim = Shim::new(&pod);
    let container = pod.container("c", "");
    let mut asked = shim.carry(&pod, &container);
    assert!(matches!(container.state().status, Status::Running { .. }));
    let (mut out, mut err) = (pipe(&container, "stdout"), pipe(&container, "stderr"));
    out.write_all(b"one\n").unwrap();
    asked.write_all(&ended(7)).unwrap();
    // The program copies on after it has said that it ended.
    err.write_all(b"two\n").unwrap();
    out.write_all(b"three\n").unwrap();
    drop((out, err));
    let state = pod.client().wait("c").unwrap();
    assert_eq!(code(&state), 7);
    let mut lines = container.log_lines();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F two", "stdout F one", "stdout F three"]);
    assert_eq!(container.state(), state);
    pod.client().delete("c", false).unwrap();
    assert!(pod.client().wait("c").unwrap_err().is_not_found());
}

#[test]
fn a_stream_that_nobody_ends_does_not_hold_up_the_end() {
    needs_host!();
    let pod = Pod::new();
    let shim = Shim::new(&pod);
    let container = pod.container("c", "");
    let mut asked = shim.carry(&pod, &container);
    let _held = pipe(&container, "stdout");
    asked.write_all(&ended(0)).unwrap();
    assert_eq!(code(&pod.client().wait("c").unwrap()), 0);
}

#[test]
fn the_death_of_the_program_is_the_containers_end() {
    needs_host!();
    let pod = Pod::new();
    let shim = Shim::new(&pod);
    for (id, answer) in [("a", &b""[..]), ("b", &[0xff; 64]), ("c", &[0; 9000])] {
        let container = pod.container(id, "");
        let mut asked = shim.carry(&pod, &container);
        let _ = asked.write_all(answer);
        drop(asked);
        let state = pod.client().wait(id).unwrap();
        assert_eq!(code(&state), 137, "{id}");
        let Status::Exited { message, .. } = state.status else {
            panic!("{id}");
        };
        assert!(message.unwrap().contains("shim"), "{id}");
    }
}

#[test]
fn clients_are_attached_as_to_any_other() {
    needs_host!();
    let pod = Pod::new();
    let shim = Shim::new(&pod);
    let mut container = pod.container("c", "");
    container.request.stdin = true;
    container.request.stdin_once = true;
    let mut asked = shim.carry(&pod, &container);
    let all = AttachOptions {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let (mut output, mut input) = pod.client().attach("c", all).unwrap().split();
    input.send(b"words").unwrap();
    let mut said = [0; 5];
    let mut stdin = File::open(container.dir.join("stdin")).unwrap();
    stdin.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"words");
    // The program holds the pipe: it is told that no more comes.
    input.close().unwrap();
    let mut closed = shim.listener.accept().unwrap().0;
    let mut said = [0; 7];
    closed.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"no more");
    pipe(&container, "stdout").write_all(b"echo").unwrap();
    let echo = AttachEvent::Output(Stream::Stdout, b"echo".to_vec());
    assert_eq!(output.read().unwrap(), echo);
    asked.write_all(&ended(3)).unwrap();
    let AttachEvent::Exit(state) = output.read().unwrap() else {
        panic!("no end");
    };
    assert_eq!(code(&state), 3);
}

#[test]
fn what_the_engine_tells_is_recorded_and_nothing_else_is_done_to_it() {
    needs_host!();
    let pod = Pod::new();
    let shim = Shim::new(&pod);
    let container = pod.container("c", "");
    let _asked = shim.carry(&pod, &container);
    let mut client = pod.client();
    client.tell("c", Became::Paused).unwrap();
    assert!(matches!(container.state().status, Status::Paused { .. }));
    for refused in [
        client.start("c"),
        client.signal("c", libc::SIGTERM, false),
        client.pause("c"),
        client.resume("c"),
    ] {
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
    }
    client.tell("c", Became::OutOfMemory).unwrap();
    let after = container.state().status.started_at().unwrap() + 5;
    let end = Became::Ended {
        code: 137,
        at: Some(after),
        message: None,
    };
    client.tell("c", end.clone()).unwrap();
    let Status::Exited {
        oom_killed,
        finished_at,
        ..
    } = client.wait("c").unwrap().status
    else {
        panic!("no end");
    };
    assert_eq!((oom_killed, finished_at), (true, after));
    // Told twice it is still one end.
    client.tell("c", end).unwrap();
    let own = pod.running("own", "sleep 100");
    let error = client.tell("own", Became::Running).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    drop(own);
}

#[test]
fn a_removal_waits_for_no_program() {
    needs_host!();
    let pod = Pod::new();
    let shim = Shim::new(&pod);
    let container = pod.container("c", "");
    let _asked = shim.carry(&pod, &container);
    let mut client = pod.client();
    assert!(client.delete("c", false).is_err());
    client.delete("c", true).unwrap();
    let other = pod.container("d", "");
    let _asked = shim.carry(&pod, &other);
    client.shutdown().unwrap();
    assert_eq!(code(&other.state()), 137);
}

fn shell(script: &str, limit: Duration) -> Companion {
    Companion {
        argv: ["/bin/sh", "-c", script].map(OsString::from).into(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        dir: "/".into(),
        stdin: b"asked\n".to_vec(),
        limit,
    }
}

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn what_a_companion_leaves_behind_is_the_supervisors_child() {
    needs_host!();
    let pod = Pod::with(|setup| setup.cgroup = Some(format!("{}/pod", setup.id)));
    let script = "cat; echo wrong >&2; setsid sleep 1000 & echo $!; exit 3";
    let exit = pod.client().run_companion(&shell(script, LIMIT)).unwrap();
    assert_eq!((exit.code, exit.timed_out), (3, false));
    assert_eq!(exit.stderr, b"wrong\n");
    let said = String::from_utf8(exit.stdout).unwrap();
    let left: i32 = said
        .strip_prefix("asked\n")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let of = |pid: i32, what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap();
    let parent = format!("PPid:\t{}\n", pod.info.pid);
    assert!(of(left, "status").contains(&parent));
    // The supervisor blocks all signals; what it executes does not.
    assert!(of(left, "status").contains("SigBlk:\t0000000000000000"));
    assert_eq!(of(left, "cgroup"), of(pod.info.pid, "cgroup"));
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(namespace(left), namespace(pod.info.pid));
    let process = rustix::process::Pid::from_raw(left).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    eventually("its end", || !lives(left));
}

#[test]
fn a_companion_that_hangs_or_floods_harms_nobody() {
    needs_host!();
    let pod = Pod::new();
    let hangs = shell("sleep 1000", Duration::from_millis(50));
    let exit = pod.client().run_companion(&hangs).unwrap();
    assert_eq!((exit.code, exit.timed_out), (137, true));
    let floods = shell("head -c 1000000 /dev/zero", LIMIT);
    let CompanionExit { stdout, .. } = pod.client().run_companion(&floods).unwrap();
    assert!(stdout.len() <= 64 << 10);
    let mut none = shell("", LIMIT);
    none.argv = vec!["/no/such/program".into()];
    let exit = pod.client().run_companion(&none).unwrap();
    assert_eq!(exit.code, 127);
    let words = String::from_utf8(exit.stderr).unwrap();
    assert!(words.contains("/no/such/program"), "{words}");
    assert_eq!(code(&pod.run("c", "exit 4").1), 4);
}
