//! systemd's protocol: ready once the socket is there, a word for the watchdog as long as the socket answers.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use testkit::{Node, NodeOptions};

/// Killed when dropped.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next words, until one is this; false: they do not come.
fn hears(manager: &UnixDatagram, word: &str, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    let mut buffer = [0; 256];
    while Instant::now() < until {
        if let Ok(length) = manager.recv(&mut buffer)
            && buffer[..length] == *word.as_bytes()
        {
            return true;
        }
    }
    false
}

#[test]
fn the_watchdog_hears_of_an_engine_that_answers_and_of_no_other() {
    let node = Node::prepare(&NodeOptions::default()).unwrap();
    let path = node.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let short = Duration::from_millis(50);
    manager.set_read_timeout(Some(short)).unwrap();
    let mut command = node.floe(&["serve"]).unwrap();
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "900000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _engine = Engine(command.spawn().unwrap());
    let long = Duration::from_secs(30);
    assert!(hears(&manager, "READY=1", long));
    assert!(hears(&manager, "WATCHDOG=1", long) && hears(&manager, "WATCHDOG=1", long));
    // Nobody can reach it any more, though its process lives.
    let (socket, away) = (node.socket(), node.path("away"));
    std::fs::rename(&socket, &away).unwrap();
    let quiet = || !hears(&manager, "WATCHDOG=1", Duration::from_millis(1500));
    // One that was asked before may still be on its way.
    assert!(quiet() || quiet());
    std::fs::rename(&away, &socket).unwrap();
    assert!(hears(&manager, "WATCHDOG=1", long));
}
