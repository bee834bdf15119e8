//! The built-in bridge network: what a pod gets, what it can reach, and that nothing is left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use crate::common::{Lab, Netns, attachment, eventually};
use network::{Error, Network};

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn two_pods_and_the_host_reach_each_other_over_both_families() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let (a, b) = (Netns::new(), Netns::new());
    let setup = |id, pod: &Netns| {
        let path = pod.path();
        lab.host
            .run(|| network.setup(&attachment(id, Some(&path))).unwrap())
    };
    let attached = setup("pod-a", &a);
    let ips: Vec<String> = attached.ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.99.0.2/24", "fd99::2/64"]);
    assert_eq!(
        attached.gateways,
        ["10.99.0.1", "fd99::1"].map(|ip| ip.parse::<IpAddr>().unwrap())
    );
    assert_eq!(attached.network, "floe");
    assert_eq!(attached.interfaces.len(), 3);
    setup("pod-b", &b);

    let mac = attached.mac.unwrap().to_string();
    assert!(a.sh("ip link show eth0").contains(&mac));
    a.serve("[::]:80");
    b.serve("127.0.0.1:80");
    assert_eq!(b.ask("10.99.0.2:80"), ip("10.99.0.3"));
    assert_eq!(b.ask("[fd99::2]:80"), ip("fd99::3"));
    assert_eq!(b.ask("127.0.0.1:80"), ip("127.0.0.1"), "lo is up");
    assert_eq!(lab.host.ask("10.99.0.2:80"), ip("10.99.0.1"));
    assert_eq!(lab.host.ask("[fd99::2]:80"), ip("fd99::1"));
    lab.host.serve("[::]:81");
    assert_eq!(a.ask("10.99.0.1:81"), ip("10.99.0.2"));
    assert_eq!(a.ask("[fd99::1]:81"), ip("fd99::2"));
}

#[test]
fn a_new_pod_asks_the_others_nothing_unless_it_was_told_to() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let (quiet, asking) = (Netns::new(), Netns::new());
    asking.sh("echo 2 > /proc/sys/net/ipv6/conf/default/accept_ra");
    for (id, pod) in [("quiet", &quiet), ("asking", &asking)] {
        let path = pod.path();
        lab.host
            .run(|| network.setup(&attachment(id, Some(&path))).unwrap());
    }
    let setting = |pod: &Netns, link: &str, key: &str| {
        let text = pod.sh(&format!("cat /proc/sys/net/ipv6/conf/{link}/{key}"));
        text.trim().to_owned()
    };
    assert_eq!(setting(&quiet, "eth0", "accept_ra"), "0");
    assert_eq!(setting(&quiet, "eth0", "accept_dad"), "0");
    assert_eq!(
        setting(&quiet, "default", "accept_ra"),
        "1",
        "of later links"
    );
    assert_eq!(setting(&asking, "eth0", "accept_ra"), "2");
    let addresses = quiet.sh("ip -6 addr show dev eth0");
    assert!(addresses.contains("fe80::"), "{addresses}");
    assert!(!addresses.contains("tentative"), "{addresses}");
    let sent = quiet.sh("cat /proc/net/snmp6");
    let solicits = |line: &&str| line.starts_with("Icmp6Out") && line.contains("Solicits");
    for line in sent.lines().filter(solicits) {
        assert!(line.ends_with(" 0") || line.ends_with("\t0"), "{line}");
    }
}

/// Counts reports where they come from pods, go to other ports, and go to the host.
const COUNTERS: &str = "table bridge probe {
    counter sent {}
    counter forwarded {}
    counter told {}
    chain a { type filter hook prerouting priority 0; icmpv6 type 143 counter name sent; }
    chain b { type filter hook forward priority 0; icmpv6 type 143 counter name forwarded; }
    chain c { type filter hook input priority 0; icmpv6 type 143 counter name told; }
}";

/// Among 500 pods this was what a new pod cost most: docs/performance.md.
#[test]
fn the_hosts_table_of_routes_does_not_grow_with_the_pods() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let routes = || lab.host.number("ip -6 route show table all | wc -l");
    let pods = [(); 3].map(|()| Netns::new());
    let mut counts = Vec::new();
    for (index, pod) in pods.iter().enumerate() {
        let path = pod.path();
        let id = format!("pod{index}");
        lab.host
            .run(|| network.setup(&attachment(&id, Some(&path))).unwrap());
        counts.push(routes());
    }
    assert_eq!(counts[1], counts[2], "{counts:?}");
    assert!(pods[2].sh("ip -6 route").contains("fd99::/64"));
}

#[test]
fn a_new_pod_sends_its_reports_to_the_host_alone() {
    let Some(lab) = Lab::new() else { return };
    if !lab.host.can(&format!("echo '{COUNTERS}' | nft -f -")) {
        eprintln!("skipped: the kernel has no nftables for bridges");
        return;
    }
    let network = lab.network();
    let (others, new) = ([Netns::new(), Netns::new()], Netns::new());
    let setup = |id: &str, pod: &Netns| {
        let path = pod.path();
        lab.host
            .run(|| network.setup(&attachment(id, Some(&path))).unwrap());
    };
    for (number, pod) in others.iter().enumerate() {
        setup(&format!("other-{number}"), pod);
    }
    setup("new", &new);
    let count = |name: &str| {
        let list = format!("nft list counter bridge probe {name} | awk '/packets/ {{print $2}}'");
        lab.host.number(&list)
    };
    eventually("all reports are sent", || count("sent") >= 3 * 4);
    assert!(count("told") >= 3 * 4);
    assert_eq!(count("forwarded"), 0);

    // Neighbours ask by multicast, and nobody has asked yet.
    new.serve("[fd99::4]:80");
    assert_eq!(others[0].ask("[fd99::4]:80"), ip("fd99::2"));
    assert_eq!(lab.host.ask("[fd99::4]:80"), ip("fd99::1"));
    new.sh("ip -6 neigh flush all");
    others[1].serve("[::]:80");
    assert_eq!(new.ask("[fd99::3]:80"), ip("fd99::4"));
}

#[test]
fn what_is_remembered_of_a_pod_goes_with_its_teardown() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    assert!(!network.remembers("pod").unwrap());
    lab.host.run(|| {
        network.setup(&attachment("pod", Some(&path))).unwrap();
        assert!(network.remembers("pod").unwrap());
        network.teardown(&attachment("pod", None)).unwrap();
    });
    assert!(!network.remembers("pod").unwrap());
}

#[test]
fn the_outside_sees_the_hosts_address() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let outside = lab.outside();
    let pod = Netns::new();
    let path = pod.path();
    lab.host
        .run(|| network.setup(&attachment("pod", Some(&path))).unwrap());
    outside.serve("[::]:80");
    outside.serve_udp("[::]:53");
    assert_eq!(pod.ask("192.0.2.1:80"), ip("192.0.2.2"));
    assert_eq!(pod.ask("[2001:db8::1]:80"), ip("2001:db8::2"));
    assert_eq!(pod.ask_udp("192.0.2.1:53"), ip("192.0.2.2"));
}

#[test]
fn a_pod_is_gone_after_teardown_however_often_and_whatever_is_left_of_it() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    lab.host.run(|| {
        network.setup(&attachment("kept", Some(&path))).unwrap();
        network.teardown(&attachment("kept", Some(&path))).unwrap();
        network.teardown(&attachment("kept", Some(&path))).unwrap();
        network.teardown(&attachment("never-there", None)).unwrap();
    });
    assert_eq!(lab.leases(), Vec::<String>::new());
    assert_eq!(lab.state("results"), Vec::<String>::new());
    assert!(pod.sh("ip -br link").contains("eth0@"), "cut off first");
    assert_eq!(lab.host.ask("10.99.0.2:80"), None);
    eventually("the link is deleted", || lab.veths().is_empty());

    let dead = Netns::new();
    let path = dead.path();
    lab.host
        .run(|| network.setup(&attachment("dead", Some(&path))).unwrap());
    assert_eq!(lab.leases().len(), 2);
    drop(dead);
    lab.host
        .run(|| network.teardown(&attachment("dead", Some(&path))).unwrap());
    assert_eq!(lab.leases(), Vec::<String>::new());
    eventually("the link is deleted", || lab.veths().is_empty());
}

#[test]
fn exhaustion_is_a_clear_error_and_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut config = lab.config();
    config.subnets = vec![
        "fd99::/64".parse().unwrap(),
        "10.99.0.0/30".parse().unwrap(),
    ];
    let network = Network::new(config);
    let (a, b) = (Netns::new(), Netns::new());
    let (path_a, path_b) = (a.path(), b.path());
    lab.host.run(|| {
        network.setup(&attachment("a", Some(&path_a))).unwrap();
        let error = network.setup(&attachment("b", Some(&path_b))).unwrap_err();
        assert!(matches!(error, Error::Exhausted { .. }), "{error}");
        assert_eq!(network.attachments().unwrap(), ["a"]);
    });
    assert_eq!(lab.veths().len(), 1);
    assert!(!b.sh("ip -br link").contains("eth0"));
    // The address comes back with the pod that has it.
    lab.host.run(|| {
        network.teardown(&attachment("a", None)).unwrap();
        network.setup(&attachment("b", Some(&path_b))).unwrap();
    });
}

#[test]
fn a_setup_that_crashed_is_cleared_by_the_next_one_and_found_by_a_restarted_engine() {
    let Some(lab) = Lab::new() else { return };
    let pod = Netns::new();
    let path = pod.path();
    let other = Netns::new();
    let other_path = other.path();
    lab.host.run(|| {
        lab.network()
            .setup(&attachment("pod", Some(&path)))
            .unwrap()
    });
    // As if the engine had died before it could write down the result.
    let record = lab.dir.path().join("state/results/pod.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["result"] = serde_json::Value::Null;
    std::fs::write(&record, value.to_string()).unwrap();

    let network = lab.network();
    assert_eq!(network.attached("pod").unwrap(), None);
    assert_eq!(network.attachments().unwrap(), ["pod"]);
    lab.host.run(|| {
        let attached = network
            .setup(&attachment("pod", Some(&other_path)))
            .unwrap();
        assert_eq!(lab.network().attached("pod").unwrap(), Some(attached));
    });
    assert_eq!(lab.leases().len(), 2, "{:?}", lab.leases());
    eventually("one link is left", || lab.veths().len() == 1);

    // A record that is lost or damaged: the id alone finds what is there.
    for damage in ["", "{"] {
        std::fs::write(&record, damage).unwrap();
        lab.host.run(|| {
            network.teardown(&attachment("pod", None)).unwrap();
            assert_eq!(network.attachments().unwrap(), Vec::<String>::new());
            network
                .setup(&attachment("pod", Some(&Netns::new().path())))
                .unwrap();
        });
    }
}

#[test]
fn a_pod_that_comes_back_under_its_id_keeps_its_new_link() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let (first, second) = (Netns::new(), Netns::new());
    let (first_path, second_path) = (first.path(), second.path());
    lab.host.run(|| {
        network
            .setup(&attachment("pod", Some(&first_path)))
            .unwrap();
        network
            .teardown(&attachment("pod", Some(&first_path)))
            .unwrap();
        network
            .setup(&attachment("pod", Some(&second_path)))
            .unwrap();
    });
    // The deletion of the first link, which waits for its namespace to go, must not hit the second.
    eventually("the first link is deleted", || {
        !first.sh("ip -br link").contains("eth0")
    });
    std::thread::sleep(std::time::Duration::from_millis(400));
    lab.host.serve("[::]:80");
    assert!(second.ask("10.99.0.1:80").is_some());
}

#[test]
fn what_an_operator_removed_is_made_again_for_the_next_pod() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let outside = lab.outside();
    outside.serve("[::]:80");
    let (a, b) = (Netns::new(), Netns::new());
    let (path_a, path_b) = (a.path(), b.path());
    lab.host
        .run(|| network.setup(&attachment("a", Some(&path_a))).unwrap());
    lab.host.sh("nft flush ruleset; ip link del br-lab");
    lab.host
        .run(|| network.setup(&attachment("b", Some(&path_b))).unwrap());
    assert_eq!(b.ask("192.0.2.1:80"), ip("192.0.2.2"));
}

#[test]
fn destroy_waits_for_the_last_pod_and_then_removes_bridge_and_table() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    lab.host.run(|| {
        network.setup(&attachment("pod", Some(&path))).unwrap();
        let error = network.destroy().unwrap_err();
        assert!(
            matches!(&error, Error::InUse { pods } if pods == &["pod"]),
            "{error}"
        );
    });
    assert!(
        lab.host
            .sh("nft list tables")
            .contains("table inet floe-br-lab")
    );
    lab.host.run(|| {
        network.teardown(&attachment("pod", Some(&path))).unwrap();
        network.destroy().unwrap();
        network.destroy().unwrap();
    });
    assert_eq!(lab.host.sh("nft list tables"), "");
    assert!(!lab.host.sh("ip -br link").contains("br-lab"));
    lab.host
        .run(|| network.setup(&attachment("again", Some(&path))).unwrap());
}

#[test]
fn pods_set_up_at_the_same_time_all_work() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pods: Vec<Netns> = (0..8).map(|_| Netns::new()).collect();
    std::thread::scope(|scope| {
        for (index, pod) in pods.iter().enumerate() {
            let (lab, network) = (&lab, &network);
            scope.spawn(move || {
                let (id, path) = (format!("pod-{index}"), pod.path());
                lab.host
                    .run(|| network.setup(&attachment(&id, Some(&path))).unwrap());
            });
        }
    });
    lab.host.serve("[::]:80");
    let mut seen: Vec<_> = pods
        .iter()
        .map(|pod| pod.ask("10.99.0.1:80").unwrap())
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8);
}

#[test]
fn counters_are_those_of_the_pods_interfaces() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    lab.host
        .run(|| network.setup(&attachment("pod", Some(&path))).unwrap());
    lab.host.serve("[::]:80");
    let before = Network::interface_stats(&path).unwrap();
    assert!(pod.ask("10.99.0.1:80").is_some());
    let after = Network::interface_stats(&path).unwrap();
    let names: Vec<_> = after.iter().map(|one| one.name.as_str()).collect();
    assert!(
        names.contains(&"eth0") && !names.contains(&"lo"),
        "{names:?}"
    );
    let of = |stats: &[network::InterfaceStats]| {
        stats
            .iter()
            .find(|one| one.name == "eth0")
            .cloned()
            .unwrap()
    };
    assert!(of(&after).tx_packets >= of(&before).tx_packets + 3);
    assert!(of(&after).rx_bytes > of(&before).rx_bytes);
    assert!(matches!(
        Network::interface_stats(std::path::Path::new("/proc/self/ns/none")),
        Err(Error::Netns { .. })
    ));
}

#[test]
fn the_callers_thread_stays_in_its_namespace() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    // The namespace is gone when this is used: the error path is the dangerous one.
    let gone = Netns::new().path();
    let inode = || std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    lab.host.run(|| {
        let before = inode();
        assert!(network.setup(&attachment("gone", Some(&gone))).is_err());
        let pod = Netns::new();
        network
            .setup(&attachment("pod", Some(&pod.path())))
            .unwrap();
        assert_eq!(inode(), before);
    });
}

#[test]
fn requests_that_make_no_sense_are_refused_before_anything_is_touched() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    let file = lab.dir.path().join("plain-file");
    std::fs::write(&file, "").unwrap();
    lab.host.run(|| {
        for id in ["", "../x", "a/b", ".hidden", "a b"] {
            let error = network.setup(&attachment(id, Some(&path))).unwrap_err();
            assert!(matches!(error, Error::Request { .. }), "{id}: {error}");
        }
        assert!(matches!(
            network.setup(&attachment("a", None)),
            Err(Error::Request { .. })
        ));
        assert!(matches!(
            network.setup(&attachment("a", Some(&file))),
            Err(Error::Netns { .. })
        ));
    });
    assert!(!lab.dir.path().join("state").exists());
}
