//! Prints how long putting a pod on the built-in network takes, and taking it off: without and with
//! host ports. Run as root in a network namespace of its own, so that nothing meets the machine's:
//! `cargo build --release -p network --example timing && unshare --net target/*/release/examples/timing`

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on has failed"
)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use network::{Attachment, Network, NetworkConfig, PortMapping, Protocol};
use rustix::thread::{UnshareFlags, unshare_unsafe};

const PODS: u16 = 100;

fn main() {
    let links = Network::interface_stats("/proc/self/ns/net".as_ref()).unwrap();
    assert!(
        links.is_empty(),
        "not in a fresh network namespace: {links:?}"
    );
    // A tmpfs, as the state directory's is in production.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let config = NetworkConfig {
        conf_dir: dir.path().join("conf"),
        state_dir: dir.path().join("state"),
        ..NetworkConfig::default()
    };
    let network = Network::new(config.clone());
    let fresh = |index| (Network::new(config.clone()), index);
    measure("first pod ever", 1, fresh, 0);
    measure("first pod of a process", 20, fresh, 0);
    measure("pod", PODS, |index| (&network, index), 0);
    measure(
        "pod with two host ports",
        PODS,
        |index| (&network, index),
        2,
    );
}

fn measure<N: std::borrow::Borrow<Network>>(
    what: &str,
    count: u16,
    network: impl Fn(u16) -> (N, u16),
    ports: u16,
) {
    let mut setups = Vec::new();
    let mut teardowns = Vec::new();
    for index in 0..count {
        let (network, index) = network(index);
        let netns = new_netns();
        let path = PathBuf::from(format!("/proc/self/fd/{}", netns.as_raw_fd()));
        let id = format!("{what}-{index}").replace(' ', "-");
        let port_mappings: Vec<PortMapping> = (0..ports)
            .map(|port| PortMapping {
                host_port: 1000 + index * ports + port,
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: None,
            })
            .collect();
        let wish = Attachment {
            netns: Some(&path),
            port_mappings: &port_mappings,
            ..Attachment::of(&id)
        };
        let start = Instant::now();
        network.borrow().setup(&wish).unwrap();
        setups.push(start.elapsed());
        let start = Instant::now();
        network.borrow().teardown(&wish).unwrap();
        teardowns.push(start.elapsed());
        drop(netns);
        // Let the kernel remove the namespace: it would hold up the next pod.
        std::thread::sleep(Duration::from_millis(60));
    }
    println!(
        "{what}: setup {}, teardown {}",
        summary(&mut setups),
        summary(&mut teardowns)
    );
}

fn summary(times: &mut [Duration]) -> String {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    format!("{:?} (p90 {:?})", at(50), at(90))
}

fn new_netns() -> File {
    let make = || {
        // SAFETY: only this thread's network namespace is replaced; the table of files stays shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    std::thread::spawn(make).join().unwrap()
}
