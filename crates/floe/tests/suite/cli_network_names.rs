//! Names of containers on the networks that they share: who is answered what, what is asked elsewhere, and what a
//! container may send without harm to anybody.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cli::{Machine, machine, until};

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const RESOLVER: &str = "127.0.0.11:53";
const NO_SUCH_NAME: u8 = 3;

/// A question in a message.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

/// The code of an answer, and the data of its records.
fn read(question: &[u8], answer: &[u8]) -> (u8, Vec<Vec<u8>>) {
    assert_eq!(answer[..2], question[..2], "{answer:?}");
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    let mut rest = &answer[question.len()..];
    let mut records = Vec::new();
    for _ in 0..count {
        let length = usize::from(u16::from_be_bytes([rest[10], rest[11]]));
        records.push(rest[12..12 + length].to_vec());
        rest = &rest[12 + length..];
    }
    (answer[3] & 15, records)
}

fn addresses(records: &[Vec<u8>]) -> Vec<String> {
    let ip = |data: &Vec<u8>| match data.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(&data[..]).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(&data[..]).unwrap()),
    };
    let mut all: Vec<String> = records.iter().map(|data| ip(data).to_string()).collect();
    all.sort();
    all
}

impl Machine {
    /// Does something in the network of a container.
    fn within<T: Send>(&self, container: &str, work: impl FnOnce() -> T + Send) -> T {
        let format = "{{.NetworkSettings.SandboxKey}}";
        let netns = File::open(self.floe(&["inspect", "-f", format, container]).ok()).unwrap();
        std::thread::scope(|scope| {
            let inside = || {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(netns.as_fd(), network).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap()
        })
    }

    /// What a container is answered over UDP; `None`: nothing.
    fn asked(&self, container: &str, name: &str, kind: u16) -> Option<(u8, Vec<Vec<u8>>)> {
        let question = question(name, kind);
        let answer = self.within(container, || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(8)))
                .unwrap();
            socket.send_to(&question, RESOLVER).unwrap();
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).ok()?;
            Some(buffer[..length].to_vec())
        });
        Some(read(&question, &answer?))
    }

    fn resolved(&self, container: &str, name: &str) -> Vec<String> {
        let (code, records) = self.asked(container, name, A).expect("an answer");
        match code {
            0 => addresses(&records),
            code => vec![format!("code {code}")],
        }
    }
}

/// A server of the host's: says 192.0.2.1 to everything, but nothing to what begins with `silent`.
fn server() {
    let answer = |question: &[u8]| {
        let mut answer = question.to_vec();
        answer[2] |= 0x80;
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        answer
    };
    let udp = UdpSocket::bind("127.0.0.1:53").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let question = &buffer[..length];
            if !question[13..].starts_with(b"silent") {
                // What was not asked for first.
                let _ = udp.send_to(&[0; 40], from);
                let _ = udp.send_to(&answer(question), from);
            }
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question).unwrap();
            let answer = answer(&question);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).unwrap();
        }
    });
}

/// Asks over TCP, in the caller's network, byte by byte.
fn over_tcp(question: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(RESOLVER).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(8)))
        .unwrap();
    let length = u16::try_from(question.len()).unwrap().to_be_bytes();
    for byte in [&length[..], question].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    answer
}

#[test]
fn containers_know_each_other_by_name_alias_and_id_on_networks_that_they_share() {
    machine(|floe| {
        floe.network(&["create", "--ipv6", "red"]).ok();
        floe.network(&["create", "blue"]).ok();
        floe.network(&["create", "--disable-dns", "mute"]).ok();
        let stay = "sleep 1000";
        let web = floe.on_network("web", &["--network", "red:alias=www,alias=both"], stay);
        floe.on_network(
            "two",
            &["--network", "red:alias=both", "--network", "blue"],
            stay,
        );
        floe.on_network(
            "db",
            &["--network", "blue", "--network-alias", "Store"],
            stay,
        );
        floe.on_network("quiet", &["--network", "mute"], stay);
        let ip = |name: &str, network: &str| floe.address(name, network);
        let resolv = floe.floe(&["exec", "web", "cat", "/etc/resolv.conf"]).ok();
        assert!(
            resolv.lines().any(|line| line == "nameserver 127.0.0.11"),
            "{resolv}"
        );
        let resolv = floe
            .floe(&["exec", "quiet", "cat", "/etc/resolv.conf"])
            .ok();
        assert!(!resolv.contains("127.0.0.11"), "{resolv}");
        assert!(!floe.node.path("run/network/names/mute").exists());

        let of_web = ip("web", "red");
        for name in ["web", "WEB", "www", "web.dns.podman", &web[..12]] {
            assert_eq!(floe.resolved("two", name), [of_web.as_str()], "{name}");
        }
        let mut both = vec![of_web.clone(), ip("two", "red")];
        both.sort();
        assert_eq!(floe.resolved("web", "both"), both);
        assert_eq!(floe.resolved("two", "store"), [ip("db", "blue")]);
        // Who shares no network does not exist.
        assert_eq!(floe.resolved("web", "db.dns.podman"), ["code 3"]);
        assert_eq!(floe.resolved("db", "web.dns.podman"), ["code 3"]);
        let (code, six) = floe.asked("two", "web", AAAA).unwrap();
        assert_eq!((code, six.len()), (0, 1));
        assert!(addresses(&six)[0].starts_with("fd"));
        assert_eq!(floe.asked("two", "store", AAAA).unwrap(), (0, vec![]));
        let mut backwards: Vec<&str> = of_web.split('.').collect();
        backwards.reverse();
        let (_, names) = floe
            .asked("two", &format!("{}.in-addr.arpa", backwards.join(".")), PTR)
            .unwrap();
        assert_eq!(names[0], b"\x03web\x00");
        let seen = floe.floe(&["exec", "two", "nslookup", "web"]).ok();
        assert!(seen.contains(&of_web), "{seen}");

        // Names follow whoever has them.
        floe.floe(&["rename", "web", "page"]).ok();
        assert_eq!(floe.resolved("two", "web.dns.podman"), ["code 3"]);
        assert_eq!(floe.resolved("two", "page"), [of_web.as_str()]);
        floe.floe(&["stop", "-t", "0", "page"]).ok();
        assert_eq!(floe.resolved("two", "page.dns.podman"), ["code 3"]);
        floe.floe(&["start", "page"]).ok();
        assert_eq!(floe.resolved("two", "www"), [ip("page", "red")]);
        // What ends by itself gives its names back by itself, and a supervisor that is killed takes its resolver along.
        let image = floe.image.clone();
        let run = [
            "run",
            "-d",
            "--rm",
            "--network",
            "red",
            "--name",
            "short",
            &image,
            "true",
        ];
        floe.floe(&run).ok();
        until("its name is given back", || {
            floe.resolved("two", "short.dns.podman") == ["code 3"]
        });
        floe.floe(&["restart", "-t", "0", "page"]).ok();
        assert_eq!(floe.resolved("page", "two"), [ip("two", "red")]);
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["prune", "-f"]).ok();
        assert!(!floe.node.path("run/network/names/red").exists());
    });
}

#[test]
fn other_names_are_asked_of_the_servers_and_not_by_networks_that_lead_nowhere() {
    machine(|floe| {
        server();
        floe.network(&["create", "out"]).ok();
        floe.network(&["create", "--internal", "shut"]).ok();
        let stay = "sleep 1000";
        let dns = ["--dns", "127.0.0.1"];
        floe.on_network("a", &[&["--network", "out"], &dns[..]].concat(), stay);
        floe.on_network("b", &[&["--network", "shut"], &dns[..]].concat(), stay);
        assert_eq!(floe.resolved("a", "example.com"), ["192.0.2.1"]);
        assert_eq!(floe.asked("b", "example.com", A).unwrap().0, NO_SUCH_NAME);
        assert_eq!(floe.resolved("b", "b").len(), 1);
        let asked = question("example.org", A);
        let answer = floe.within("a", || over_tcp(&asked));
        assert_eq!(addresses(&read(&asked, &answer).1), ["192.0.2.1"]);
        let asked = question("a", A);
        let answer = floe.within("a", || over_tcp(&asked));
        assert_eq!(
            addresses(&read(&asked, &answer).1),
            [floe.address("a", "out")]
        );
        // A server that says nothing is given up, and holds up nobody else.
        let silent = question("silent.example", A);
        floe.within("a", || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            socket.send_to(&silent, RESOLVER).unwrap();
            let other = UdpSocket::bind("127.0.0.1:0").unwrap();
            other
                .set_read_timeout(Some(Duration::from_secs(8)))
                .unwrap();
            other.send_to(&asked, RESOLVER).unwrap();
            let mut buffer = [0; 512];
            assert!(other.recv(&mut buffer).is_ok());
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(read(&silent, &buffer[..length]).0, 2);
        });
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["prune", "-f"]).ok();
    });
}

#[test]
fn what_a_container_sends_to_its_resolver_harms_nobody() {
    machine(|floe| {
        floe.network(&["create", "net"]).ok();
        let stay = "sleep 1000";
        floe.on_network("a", &["--network", "net", "--dns", "127.0.0.9"], stay);
        floe.on_network("b", &["--network", "net"], stay);
        floe.within("a", || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to: SocketAddr = RESOLVER.parse().unwrap();
            let good = question("b", A);
            let looped = [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
            let long = [&good[..12], &[63; 4000][..]].concat();
            let way_out = question("../../../pods", A);
            for packet in [
                &[][..],
                &good[..5],
                &good[..14],
                &looped,
                &long,
                &way_out,
                &[0xff; 600],
            ] {
                let _ = socket.send_to(packet, to);
            }
            // More at a time than are asked elsewhere, of a server that there is not.
            for number in 0..2000 {
                let _ = socket.send_to(&question(&format!("n{number}.example"), A), to);
            }
            // More connections than there are, which say nothing.
            let _idle: Vec<TcpStream> = (0..80)
                .filter_map(|_| TcpStream::connect_timeout(&to, Duration::from_millis(200)).ok())
                .collect();
        });
        until("it answers again", || {
            floe.asked("a", "b", A)
                .is_some_and(|(code, ips)| code == 0 && ips.len() == 1)
        });
        assert_eq!(floe.resolved("b", "a").len(), 1);
        // Names that are none of DNS are not told, and names of files least of all.
        for alias in ["a b", "..", "x/y", "-", "UPPER"] {
            let network = format!("net:alias={alias}");
            let image = floe.image.clone();
            floe.floe(&["run", "--rm", "--network", &network, &image, "true"])
                .ok();
        }
        let told = std::fs::read_dir(floe.node.path("run/network/names/net/names")).unwrap();
        assert!(told.count() >= 2);
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["rm", "net"]).ok();
    });
}

#[test]
fn names_are_right_while_containers_come_and_go() {
    machine(|floe| {
        floe.network(&["create", "net"]).ok();
        let stay = "sleep 1000";
        floe.on_network("asker", &["--network", "net"], stay);
        floe.on_network("fixed", &["--network", "net:alias=x"], stay);
        let fixed = floe.address("fixed", "net");
        let image = floe.image.clone();
        std::thread::scope(|scope| {
            let coming = scope.spawn(|| {
                for _ in 0..8 {
                    let run = [
                        "run",
                        "--rm",
                        "--network",
                        "net:alias=x",
                        "--name",
                        "comes",
                        &image,
                        "true",
                    ];
                    floe.floe(&run).ok();
                }
            });
            while !coming.is_finished() {
                let ips = floe.resolved("asker", "x");
                assert!(ips.contains(&fixed), "{ips:?}");
                assert_eq!(floe.resolved("asker", "fixed"), [fixed.as_str()]);
            }
        });
        assert_eq!(floe.resolved("asker", "x"), [fixed.as_str()]);
        assert_eq!(floe.resolved("asker", "comes.dns.podman"), ["code 3"]);
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["rm", "net"]).ok();
    });
}
