//! NOTIFY_SOCKET (sd_notify(3)): a service manager hears that a container is ready, and nothing else.

use std::os::unix::net::UnixDatagram;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{Lab, soon};

/// busybox's logger writes datagrams to /dev/log, with a line of its own before the words.
const READY: &str =
    "ln -s $NOTIFY_SOCKET /dev/log; logger STATUS=secret; logger \"$(printf 'x\\nREADY=1')\"";

/// A manager that reads this many datagrams. A barrier's descriptor is closed as nobody takes it.
fn manager(lab: &Lab, datagrams: usize) -> (String, JoinHandle<Vec<String>>) {
    let path = lab.dir.join("manager.sock").to_str().unwrap().to_owned();
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let read = move || {
        let mut buffer = [0; 256];
        let mut next = || {
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        (0..datagrams).map(|_| next()).collect()
    };
    (path, std::thread::spawn(read))
}

#[test]
fn run_in_the_foreground_tells_that_the_container_is_ready_and_whom_to_watch() {
    needs_host!();
    let mut lab = Lab::new();
    lab.applet("logger");
    lab.script(&format!("{READY}; cat /proc/mounts | grep /run/notify"));
    let (path, manager) = manager(&lab, 3);
    let (mut command, out, err) = lab.command(&["run", "c"]);
    let mut run = command.env("NOTIFY_SOCKET", &path).spawn().unwrap();
    let pid = run.id();
    assert!(run.wait().unwrap().success(), "{:?}", std::fs::read(err));
    let told = manager.join().unwrap();
    assert_eq!(
        told,
        [
            "READY=1\n".to_owned(),
            format!("MAINPID={pid}\n"),
            "BARRIER=1".to_owned()
        ]
    );
    let mounts = std::fs::read_to_string(out).unwrap();
    assert!(mounts.contains(" ro,nosuid,nodev,noexec,"), "{mounts}");
}

#[test]
fn start_and_run_detached_return_once_the_container_is_ready_or_gone() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["args"] = serde_json::json!(["sleep", "1000"]);
    let (path, told) = manager(&lab, 3);
    let (mut create, ..) = lab.command(&["create", "c"]);
    let created = create.env("NOTIFY_SOCKET", &path).status().unwrap();
    assert!(created.success());
    let pid = lab.pid("c");
    let (mut start, ..) = lab.command(&["start", "c"]);
    let mut start = start.env("NOTIFY_SOCKET", &path).spawn().unwrap();
    let inside = format!("/proc/{pid}/root/run/notify/notify.sock");
    let container = UnixDatagram::unbound().unwrap();
    soon("a socket in the container", || {
        container.send_to(b"RELOADING=1", &inside).is_ok()
    });
    assert!(start.try_wait().unwrap().is_none(), "it is not ready yet");
    container.send_to(b"READY=1", &inside).unwrap();
    assert!(start.wait().unwrap().success());
    let told = told.join().unwrap();
    assert_eq!(told[1], format!("MAINPID={pid}\n"));
    let env = lab.call(&["exec", "c", "env"]).ok();
    assert!(!env.contains("NOTIFY_SOCKET"), "{env}");
    lab.call(&["delete", "--force", "c"]).ok();
    // One that ends without a word.
    lab.script("true");
    let (mut run, ..) = lab.command(&["run", "-d", "d"]);
    let nobody = lab.dir.join("nobody");
    let gone = run.env("NOTIFY_SOCKET", nobody).status().unwrap();
    assert!(gone.success());
}
