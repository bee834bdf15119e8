//! `floe network`: networks that people make, how they are shown, what is refused, and their end.

use std::io::{Read, Write};

use serde_json::Value;

use crate::cli::{Machine, Said, machine};

impl Machine {
    pub(crate) fn network(&self, arguments: &[&str]) -> Said {
        self.floe(&[&["network"], arguments].concat())
    }

    pub(crate) fn inspected(&self, network: &str) -> Value {
        let text = self.network(&["inspect", network]).ok();
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list[0].clone()
    }

    /// Starts a container on networks, with these options, that goes on until it is stopped.
    pub(crate) fn on_network(&self, name: &str, options: &[&str], script: &str) -> String {
        let head = ["run", "-d", "--name", name, "--stop-timeout", "0"];
        let tail = [self.image.as_str(), "sh", "-c", script];
        self.floe(&[&head[..], options, &tail[..]].concat()).ok()
    }

    pub(crate) fn address(&self, container: &str, network: &str) -> String {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        self.floe(&["inspect", "-f", &format, container]).ok()
    }
}

fn host(script: &str) -> (bool, String) {
    let output = std::process::Command::new("sh")
        .args(["-ec", script])
        .output()
        .expect("run sh");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

/// Prints what a server says in a container, and fails where it says nothing.
pub(crate) fn get(ip: &str) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {ip} 80 | tail -n 1 | grep .")
}

/// Does the server behind a port of the host say what it serves?
pub(crate) fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let limit = std::time::Duration::from_secs(1);
        let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = std::net::TcpStream::connect_timeout(&at, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.contains("served"))
}

fn has_link(name: &str) -> bool {
    std::fs::read_to_string("/proc/thread-self/net/dev")
        .expect("read")
        .lines()
        .any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

#[test]
fn networks_are_made_listed_inspected_and_removed() {
    machine(|floe| {
        assert_eq!(
            floe.network(&["create", "one", "--label", "a=1"]).ok(),
            "one"
        );
        floe.network(&["create", "one"]).failed(
            125,
            &["network name one already used: network already exists"],
        );
        assert_eq!(floe.network(&["create", "--ignore", "one"]).ok(), "one");
        let nameless = floe.network(&["create"]).ok();
        let one = floe.inspected("one");
        assert_eq!(one["name"], "one");
        assert_eq!(one["driver"], "bridge");
        assert_eq!(one["dns_enabled"], true);
        assert_eq!(one["internal"], false);
        assert_eq!(one["labels"]["a"], "1");
        let subnet = one["subnets"][0]["subnet"].as_str().unwrap().to_owned();
        assert!(
            subnet.starts_with("10.") && subnet.ends_with(".0/24"),
            "{subnet}"
        );
        let other = floe.inspected(&nameless);
        assert_eq!(other["network_interface"], Value::from(nameless.as_str()));
        assert_ne!(other["subnets"][0]["subnet"], Value::from(subnet));
        assert_eq!(one["id"].as_str().unwrap().len(), 64);
        let by_id = &one["id"].as_str().unwrap()[..12];
        assert_eq!(floe.inspected(by_id)["name"], "one");

        let listed = floe.network(&["ls", "-q"]).ok();
        let mut names: Vec<&str> = listed.lines().collect();
        assert!(names.contains(&"podman"), "{listed}");
        names.retain(|name| *name == "one" || *name == nameless);
        assert_eq!(names.len(), 2, "{listed}");
        let table = floe.network(&["ls"]).ok();
        assert!(table.starts_with("NETWORK ID"), "{table}");
        assert_eq!(floe.network(&["ls", "-q", "-f", "label=a=1"]).ok(), "one");
        assert_eq!(floe.network(&["ls", "-q", "-f", "name=^on"]).ok(), "one");
        let line = floe.network(&[
            "ls",
            "-f",
            "name=^one$",
            "--format",
            "{{.Name}} {{.Driver}} {{.Labels}}",
        ]);
        assert_eq!(line.ok(), "one bridge a=1");
        let format = "{{range .Subnets}}{{.Gateway}}{{end}} {{.DNSEnabled}}";
        let shown = floe.network(&["inspect", "-f", format, "one"]).ok();
        assert!(shown.ends_with(".1 true"), "{shown}");

        assert_eq!(floe.network(&["exists", "one"]).code, 0);
        assert_eq!(floe.network(&["exists", "two"]).code, 1);
        floe.network(&["inspect", "two"]).failed(
            125,
            &["network two: unable to find network with name or ID two: network not found"],
        );
        floe.network(&["rm", "two"])
            .failed(1, &["network not found"]);
        assert_eq!(floe.network(&["rm", "-f", "two"]).ok(), "");
        floe.network(&["rm", "podman"])
            .failed(125, &["default network podman cannot be removed"]);
        floe.network(&["rm", "-t", "1", "one"]).failed(
            125,
            &["--force option must be specified to use the --time option"],
        );
        assert_eq!(floe.network(&["rm", "one"]).ok(), "one");
        assert_eq!(floe.network(&["prune", "-f"]).ok(), nameless);
        assert_eq!(floe.network(&["ls", "-q"]).ok(), "podman");
    });
}

#[test]
fn what_a_network_cannot_be_is_refused_and_nothing_is_made() {
    machine(|floe| {
        let refused = |arguments: &[&str], words: &str| {
            floe.network(&[&["create"], arguments].concat())
                .failed(125, &[words]);
        };
        let long = "n".repeat(300);
        for name in ["a/b", "..", "-x", ".hidden", "a b", "\u{1b}[31m", &long] {
            refused(&["--", name], "names must match");
        }
        refused(&["--subnet", "10.1.0.0/33"], "invalid CIDR address");
        refused(&["--subnet", "10.1.0.0/31"], "too small");
        refused(
            &["--gateway", "10.1.0.1"],
            "cannot set gateway or range without subnet",
        );
        refused(
            &["--subnet", "10.1.0.0/24", "--gateway", "10.2.0.1"],
            "gateway 10.2.0.1 not in subnet 10.1.0.0/24",
        );
        refused(
            &["--subnet", "10.1.0.0/24", "--ip-range", "10.2.0.0/28"],
            "not in subnet 10.1.0.0/24",
        );
        refused(
            &["--subnet", "10.1.0.0/24", "--subnet", "10.1.0.0/24"],
            "duplicate subnets detected: 10.1.0.0/24",
        );
        refused(
            &["--subnet", "10.1.0.0/16", "--subnet", "10.1.3.0/24"],
            "overlapping subnets detected",
        );
        refused(
            &["--interface-name", "a/b"],
            "network interface name a/b invalid",
        );
        refused(
            &["--interface-name", "far-too-long-name"],
            "15 characters or less",
        );
        refused(&["-d", "ipvlan"], "not offered");
        refused(&["-d", "macvlan"], "--opt parent=LINK");
        refused(
            &["-d", "macvlan", "-o", "parent=nolink"],
            "parent interface nolink does not exist",
        );
        refused(&["-d", "macvlan", "-o", "parent=lo"], "--subnet");
        refused(
            &["-d", "macvlan", "-o", "parent=lo", "-o", "mode=x"],
            "unknown macvlan mode",
        );
        refused(
            &["-d", "macvlan", "-o", "parent=lo", "-o", "isolate=true"],
            "unsupported macvlan network option isolate",
        );
        refused(
            &["-d", "nothing"],
            "failed to find driver or plugin \"nothing\"",
        );
        refused(
            &["-o", "unknown=1"],
            "unsupported bridge network option unknown",
        );
        refused(&["-o", "isolate=perhaps"], "isolate");
        refused(&["-o", "vlan=5"], "vlan");
        refused(&["--ipam-driver", "dhcp"], "not offered");
        refused(&["--route", "10.5.0.0/16"], "invalid route");
        refused(
            &["--disable-dns", "--dns", "1.1.1.1"],
            "cannot set NetworkDNSServers",
        );
        refused(&["--dns", "name"], "unable to parse ip name");
        // What the host has itself, and what another network has.
        let (done, _) = host(
            "ip link add taken type bridge; ip addr add 10.7.7.1/24 dev taken; ip link set taken up",
        );
        assert!(done);
        let used = "is already used on the host or by another config";
        refused(&["--subnet", "10.7.7.128/25"], used);
        floe.network(&[
            "create",
            "--subnet",
            "10.8.0.0/24",
            "--interface-name",
            "mine",
            "first",
        ])
        .ok();
        refused(&["--subnet", "10.8.0.0/16"], used);
        refused(
            &["--interface-name", "mine"],
            "bridge name mine already in use",
        );
        assert_eq!(
            floe.network(&["ls", "-q", "-f", "dangling=true"]).ok(),
            "first"
        );
        floe.network(&["rm", "first"]).ok();
        host("ip link del taken");
    });
}

#[test]
fn containers_of_one_network_reach_each_other_and_no_other_network() {
    machine(|floe| {
        floe.network(&["create", "red"]).ok();
        floe.network(&["create", "blue"]).ok();
        floe.network(&["create", "-o", "isolate=false", "open"])
            .ok();
        floe.network(&["create", "-o", "isolate=0", "ajar"]).ok();
        let serve = "mkdir /w; echo $NAME > /w/index.html; exec httpd -f -p 80 -h /w";
        for (name, network) in [
            ("r1", "red"),
            ("r2", "red"),
            ("b1", "blue"),
            ("o1", "open"),
            ("a1", "ajar"),
        ] {
            let env = format!("NAME={name}");
            floe.on_network(name, &["--network", network, "-e", &env], serve);
        }
        let ask = |from: &str, ip: &str| {
            let script = format!(
                "for i in 1 2 3 4 5 6 7 8 9; do {} && exit; sleep 0.2; done; exit 1",
                get(ip)
            );
            floe.floe(&["exec", from, "sh", "-c", &script])
        };
        let once = |from: &str, ip: &str| floe.floe(&["exec", from, "sh", "-c", &get(ip)]).code;
        let (r2, b1, o1) = (
            floe.address("r2", "red"),
            floe.address("b1", "blue"),
            floe.address("o1", "open"),
        );
        assert_eq!(ask("r1", &r2).ok(), "r2");
        assert_eq!(ask("b1", &b1).ok(), "b1");
        assert_ne!(once("r1", &b1), 0, "red reaches blue");
        assert_ne!(once("r1", &o1), 0, "a strict network reaches an open one");
        assert_eq!(ask("o1", &floe.address("a1", "ajar")).ok(), "a1");
        // One that is on both has an address and an interface of each.
        floe.on_network(
            "both",
            &["--network", "red", "--network", "blue:interface_name=blue0"],
            "sleep 1000",
        );
        assert_eq!(ask("both", &r2).ok(), "r2");
        assert_eq!(ask("both", &b1).ok(), "b1");
        let links = floe.floe(&["exec", "both", "ls", "/sys/class/net"]).ok();
        let links: Vec<&str> = links.split_whitespace().collect();
        assert_eq!(links, ["blue0", "eth0", "lo"]);
        assert_eq!(
            floe.floe(&["ps", "--filter", "name=both", "--format", "{{.Networks}}"])
                .ok(),
            "red,blue"
        );
        // Whoever is on a network keeps it.
        floe.network(&["rm", "red"]).failed(
            2,
            &[
                "\"red\" has associated containers with it",
                "network is being used",
            ],
        );
        let on_red = floe.inspected("red");
        assert_eq!(on_red["containers"].as_object().unwrap().len(), 3);
        let bridge = on_red["network_interface"].as_str().unwrap().to_owned();
        assert!(has_link(&bridge));
        assert_eq!(floe.network(&["rm", "-f", "-t", "0", "red"]).ok(), "red");
        assert!(!has_link(&bridge));
        assert_eq!(floe.listed(&["-a"]).len(), 3);
        floe.floe(&["rm", "-f", "-t", "0", "b1", "o1", "a1"]).ok();
        floe.network(&["prune", "-f"]).ok();
        let (_, rules) = host("nft list ruleset");
        assert!(!rules.contains("apart_"), "{rules}");
    });
}

#[test]
fn addresses_are_those_that_are_asked_for_and_nobody_elses() {
    machine(|floe| {
        floe.network(&[
            "create",
            "--subnet",
            "10.44.0.0/24",
            "--ip-range",
            "10.44.0.8/30",
            "--subnet",
            "fd44::/64",
            "net",
        ])
        .ok();
        let options = [
            "--network",
            "net",
            "--ip",
            "10.44.0.77",
            "--ip6",
            "fd44::77",
            "--mac-address",
            "02:00:00:00:00:77",
        ];
        let id = floe.on_network("fixed", &options, "sleep 1000");
        assert_eq!(floe.address("fixed", "net"), "10.44.0.77");
        let seen = floe
            .floe(&["exec", "fixed", "ip", "addr", "show", "eth0"])
            .ok();
        for part in ["10.44.0.77/24", "fd44::77/64", "02:00:00:00:00:77"] {
            assert!(seen.contains(part), "{seen}");
        }
        let image = floe.image.clone();
        let run = |options: &[&str]| {
            let all = [&["run", "--rm"], options, &[image.as_str(), "true"]].concat();
            floe.floe(&all)
        };
        let taken = format!(
            "requested ip address 10.44.0.77 is already allocated to container ID {}",
            &pod_of(floe, &id)
        );
        run(&["--network", "net:ip=10.44.0.77"]).failed(125, &[&taken]);
        run(&["--network", "net", "--ip", "10.45.0.1"]).failed(
            125,
            &["requested static ip 10.45.0.1 not in any subnet on network net"],
        );
        run(&["--network", "net", "--ip", "10.44.0.1"]).failed(125, &["10.44.0.1"]);
        run(&["--network", "host", "--ip", "10.44.0.9"]).failed(
            125,
            &["--ip can only be set when the network mode is bridge"],
        );
        run(&["--network", "nonet"]).failed(
            125,
            &["unable to find network with name or ID nonet: network not found"],
        );
        run(&["--network", "net", "--network", "net"]).failed(125, &["twice"]);
        run(&["--network", "net:interface_name=a/b"]).failed(125, &["interface name"]);
        run(&["--network", "container:fixed"]).failed(125, &["not offered"]);
        // Of the range there are two, and then no more.
        floe.on_network("a", &["--network", "net"], "sleep 1000");
        floe.on_network("b", &["--network", "net"], "sleep 1000");
        let mut ips = [floe.address("a", "net"), floe.address("b", "net")];
        ips.sort();
        assert_eq!(ips, ["10.44.0.10", "10.44.0.9"]);
        run(&["--network", "net"]).failed(125, &["no free address in 10.44.0.9-10.44.0.10"]);
        // A stopped one comes back with the same, and gives it back with its end.
        floe.floe(&["stop", "-t", "0", "fixed"]).ok();
        floe.floe(&["start", "fixed"]).ok();
        assert_eq!(floe.address("fixed", "net"), "10.44.0.77");
        floe.floe(&["rm", "-f", "-t", "0", "fixed"]).ok();
        run(&["--network", "net:ip=10.44.0.77"]).ok();
        // Also of the network that all get.
        let default = floe.inspected("podman")["subnets"][0]["subnet"]
            .as_str()
            .unwrap()
            .to_owned();
        let ip = default.replace(".0.0/16", ".9.9").replace(".0/24", ".99");
        floe.on_network("plain", &["--ip", &ip], "sleep 1000");
        assert_eq!(floe.address("plain", "podman"), ip);
        floe.floe(&["rm", "-f", "-t", "0", "a", "b", "plain"]).ok();
        floe.network(&["rm", "net"]).ok();
    });
}

/// The pod of a container, whose id stands for it on the network.
fn pod_of(floe: &Machine, container: &str) -> String {
    floe.floe(&["inspect", "-f", "{{.Pod}}", container]).ok()
}

#[test]
fn an_internal_network_leads_nowhere_and_ports_lead_in_where_they_can() {
    machine(|floe| {
        floe.network(&["create", "--internal", "inside"]).ok();
        floe.network(&["create", "outside"]).ok();
        let serve = "mkdir /w; echo served > /w/index.html; exec httpd -f -p 80 -h /w";
        floe.on_network(
            "server",
            &["--network", "outside", "-p", "18090-18091:80-81"],
            serve,
        );
        floe.on_network("shut", &["--network", "inside"], "sleep 1000");
        floe.on_network(
            "two",
            &[
                "--network",
                "inside",
                "--network",
                "outside",
                "-p",
                "127.0.0.1:18092:80",
            ],
            serve,
        );
        let (routes, default) = ("ip route", "default");
        assert!(
            !floe
                .floe(&["exec", "shut", "sh", "-c", routes])
                .ok()
                .contains(default)
        );
        assert!(
            floe.floe(&["exec", "two", "sh", "-c", routes])
                .ok()
                .contains(default)
        );
        let ip = floe.address("server", "outside");
        let out = floe.floe(&[
            "exec",
            "shut",
            "sh",
            "-c",
            &format!(
                "ip route add default via $(ip route | cut -d' ' -f1 | cut -d. -f1-3).1; {}",
                get(&ip)
            ),
        ]);
        assert_ne!(out.code, 0, "an internal network leads out");
        for port in [18090, 18092] {
            crate::cli::until("the port answers", || answers(port));
        }
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["prune", "-f"]).ok();
    });
}

#[test]
fn a_pod_of_its_own_is_on_networks_and_a_network_with_a_pod_is_cleared_by_force() {
    machine(|floe| {
        floe.network(&["create", "net"]).ok();
        floe.floe(&["pod", "create", "--name", "p", "--network", "net"])
            .ok();
        let image = floe.image.clone();
        floe.floe(&[
            "run", "-d", "--pod", "p", "--name", "in", &image, "sleep", "1000",
        ])
        .ok();
        assert!(floe.address("in", "net").starts_with("10."));
        floe.floe(&["run", "--pod", "p", "--ip", "10.0.0.1", &image, "true"])
            .failed(
                125,
                &["network cannot be configured when it is shared with a pod"],
            );
        floe.network(&["rm", "net"]).failed(2, &["being used"]);
        floe.network(&["rm", "-f", "-t", "0", "net"]).ok();
        assert_eq!(floe.floe(&["pod", "ps", "-q"]).ok(), "");
    });
}

#[test]
fn a_macvlan_network_is_beside_a_link_of_the_host() {
    machine(|floe| {
        let (made, _) = host(
            "ip link add wire type veth peer name far; ip link set wire up; ip link set far up; ip addr add 10.71.0.1/24 dev far",
        );
        assert!(made);
        let create = [
            "create",
            "-d",
            "macvlan",
            "-o",
            "parent=wire",
            "--subnet",
            "10.71.0.0/24",
            "--ip-range",
            "10.71.0.8/29",
            "lan",
        ];
        floe.network(&create).ok();
        let shown = floe.inspected("lan");
        assert_eq!(
            (&shown["driver"], &shown["network_interface"]),
            (&"macvlan".into(), &"wire".into())
        );
        assert_eq!(shown["dns_enabled"], false);
        let serve = "mkdir /w; echo served > /w/index.html; exec httpd -f -p 80 -h /w";
        floe.on_network(
            "a",
            &["--network", "lan", "--mac-address", "02:00:00:00:00:71"],
            serve,
        );
        floe.on_network(
            "b",
            &["--network", "lan:ip=10.71.0.99", "--network", "podman"],
            "sleep 1000",
        );
        let a = floe.address("a", "lan");
        assert_eq!(a, "10.71.0.9");
        let seen = floe.floe(&["exec", "a", "ip", "addr", "show", "eth0"]).ok();
        assert!(seen.contains("02:00:00:00:00:71"), "{seen}");
        let ask = format!(
            "for i in 1 2 3 4 5 6; do {} && exit; sleep 0.2; done; exit 1",
            get(&a)
        );
        assert_eq!(floe.floe(&["exec", "b", "sh", "-c", &ask]).ok(), "served");
        floe.network(&["disconnect", "lan", "b"]).ok();
        assert_eq!(
            floe.floe(&["exec", "b", "ls", "/sys/class/net"]).ok(),
            "eth1\nlo"
        );
        floe.network(&["connect", "lan", "b"]).ok();
        assert_eq!(floe.floe(&["exec", "b", "sh", "-c", &ask]).ok(), "served");
        assert_eq!(floe.listed(&["--filter", "network=lan"]).len(), 2);
        assert_eq!(floe.listed(&["--filter", "network=podman"]), ["b"]);
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["rm", "lan"]).ok();
        assert!(
            has_link("wire"),
            "the host's own link went with the network"
        );
        host("ip link del wire");
    });
}
