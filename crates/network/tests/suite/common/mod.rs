//! A laboratory for network tests: a fresh network namespace plays the host, others the pods, so
//! that nothing touches the machine's own network. Needs root.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use network::{Attachment, Network, NetworkConfig};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Long enough for any packet here, short enough for a test that wants silence.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);

fn unshare_net() {
    // SAFETY: only the network namespace of this thread is replaced; the table of files stays shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
}

/// A network namespace that lives as long as this value.
pub(crate) struct Netns(OwnedFd);

impl Netns {
    /// A new, empty one.
    pub(crate) fn new() -> Netns {
        thread::spawn(|| {
            unshare_net();
            Netns(File::open("/proc/thread-self/ns/net").unwrap().into())
        })
        .join()
        .unwrap()
    }

    /// A path by which other processes find it too.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.0.as_raw_fd()
        ))
    }

    /// Does something inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs a shell command inside and returns its output.
    pub(crate) fn sh(&self, script: &str) -> String {
        self.run(|| sh(script))
    }

    /// Whether a shell command succeeds inside.
    pub(crate) fn can(&self, script: &str) -> bool {
        let run = || Command::new("sh").args(["-ec", script]).output().unwrap();
        self.run(run).status.success()
    }

    /// The number that a shell command prints inside; 0 if it prints nothing.
    pub(crate) fn number(&self, script: &str) -> u64 {
        match self.sh(script).trim() {
            "" => 0,
            text => text.parse().unwrap(),
        }
    }

    /// A TCP server inside that tells each client the address it was seen with.
    pub(crate) fn serve(&self, address: &str) {
        let listener = self.run(|| TcpListener::bind(address).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                let _ = stream.write_all(peer.to_string().as_bytes());
            }
        });
    }

    /// The same over UDP: answers each datagram.
    pub(crate) fn serve_udp(&self, address: &str) {
        let socket = self.run(|| UdpSocket::bind(address).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let text = peer.ip().to_canonical().to_string();
                let _ = socket.send_to(text.as_bytes(), peer);
            }
        });
    }

    /// Asks such a server from inside; `None` when there is no answer.
    pub(crate) fn ask(&self, address: &str) -> Option<IpAddr> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            text.parse().ok()
        })
    }

    /// The same over UDP.
    pub(crate) fn ask_udp(&self, address: &str) -> Option<IpAddr> {
        self.ask_udp_from(0, address)
    }

    /// The same from a port that stays the same.
    pub(crate) fn ask_udp_from(&self, port: u16, address: &str) -> Option<IpAddr> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| {
            let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = UdpSocket::bind((any, port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(b"?", address).ok()?;
            let mut buffer = [0; 64];
            let (length, _) = socket.recv_from(&mut buffer).ok()?;
            String::from_utf8_lossy(&buffer[..length]).parse().ok()
        })
    }
}

/// Runs a shell command in the calling thread's namespace.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A host with a network of its own and a directory for its state.
pub(crate) struct Lab {
    pub(crate) host: Netns,
    pub(crate) dir: tempfile::TempDir,
}

impl Lab {
    /// `None`, with the reason printed, where network namespaces cannot be made.
    pub(crate) fn new() -> Option<Lab> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: needs root to make network namespaces");
            return None;
        }
        let lab = Lab {
            host: Netns::new(),
            dir: tempfile::tempdir().unwrap(),
        };
        for dir in ["conf", "plugins"] {
            std::fs::create_dir(lab.dir.path().join(dir)).unwrap();
        }
        lab.host.sh("ip link set lo up");
        Some(lab)
    }

    /// The settings of this lab's network.
    pub(crate) fn config(&self) -> NetworkConfig {
        NetworkConfig {
            conf_dir: self.dir.path().join("conf"),
            plugin_dirs: vec![self.dir.path().join("plugins")],
            state_dir: self.dir.path().join("state"),
            host_local_dir: None,
            bridge: "br-lab".to_owned(),
            subnets: vec![
                "10.99.0.0/24".parse().unwrap(),
                "fd99::/64".parse().unwrap(),
            ],
            default_network: None,
        }
    }

    /// The network with these settings.
    pub(crate) fn network(&self) -> Network {
        Network::new(self.config())
    }

    /// Writes a configuration file.
    pub(crate) fn conflist(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join("conf").join(name), text).unwrap();
    }

    /// Installs a plugin script.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let path = self.dir.path().join("plugins").join(name);
        // By another process, so that no fork of a parallel test can hold it open for writing.
        sh(&format!(
            "cat > {0} <<'END_OF_SCRIPT'\n{text}\nEND_OF_SCRIPT\nchmod +x {0}",
            path.display()
        ));
    }

    /// Makes one of Debian's plugins available under a name; false, with the reason printed, when it
    /// is not installed.
    pub(crate) fn install(&self, name: &str, debian: &str) -> bool {
        let program = PathBuf::from("/usr/lib/cni").join(debian);
        if !program.exists() {
            eprintln!(
                "SKIP: {} is not installed (containernetworking-plugins)",
                program.display()
            );
            return false;
        }
        std::os::unix::fs::symlink(program, self.dir.path().join("plugins").join(name)).unwrap();
        true
    }

    /// A namespace outside, linked to the host: 192.0.2.1 and 2001:db8::1 there, .2 and ::2 here.
    pub(crate) fn outside(&self) -> Netns {
        let outside = Netns::new();
        self.host.sh(&format!(
            "ip link add out0 type veth peer name up0 netns {}
             ip addr add 192.0.2.2/24 dev out0
             ip -6 addr add 2001:db8::2/64 dev out0 nodad
             ip link set out0 up",
            outside.path().display()
        ));
        outside.sh("ip link set lo up
             ip addr add 192.0.2.1/24 dev up0
             ip -6 addr add 2001:db8::1/64 dev up0 nodad
             ip link set up0 up");
        outside
    }

    /// Paths below the state directory, for "nothing is left" assertions.
    pub(crate) fn leases(&self) -> Vec<String> {
        self.state("networks/floe")
            .into_iter()
            .filter(|name| name != "lock" && !name.starts_with("last_reserved_ip"))
            .collect()
    }

    /// Names in a directory of the state.
    pub(crate) fn state(&self, dir: &str) -> Vec<String> {
        let path = self.dir.path().join("state").join(dir);
        let Ok(entries) = std::fs::read_dir(path) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Names of the host's veth links.
    pub(crate) fn veths(&self) -> Vec<String> {
        let links = self.host.sh("ip -br link show type veth");
        links
            .lines()
            .filter_map(|line| line.split(['@', ' ']).next())
            .filter(|name| name.starts_with("veth"))
            .map(str::to_owned)
            .collect()
    }
}

/// A pod's wish with nothing special.
pub(crate) fn attachment<'a>(id: &'a str, netns: Option<&'a std::path::Path>) -> Attachment<'a> {
    Attachment {
        netns,
        name: id,
        namespace: "default",
        uid: "uid-1",
        ..Attachment::of(id)
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("still not so: {what}");
}
