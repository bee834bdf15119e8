//! Host ports: who reaches the pod through them, who does not, and that they go with the pod.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::IpAddr;

use crate::common::{Lab, Netns, attachment};
use network::{Attached, Attachment, Error, Network, PortMapping, Protocol};

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn port(host_port: u16, container_port: u16) -> PortMapping {
    PortMapping {
        host_port,
        container_port,
        protocol: Protocol::Tcp,
        host_ip: None,
    }
}

fn setup(
    lab: &Lab,
    network: &Network,
    id: &str,
    pod: &Netns,
    ports: &[PortMapping],
) -> network::Result<Attached> {
    let path = pod.path();
    lab.host.run(|| {
        network.setup(&Attachment {
            port_mappings: ports,
            ..attachment(id, Some(&path))
        })
    })
}

#[test]
fn a_host_port_leads_to_the_pod_from_everywhere_and_goes_with_it() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let outside = lab.outside();
    let (pod, other) = (Netns::new(), Netns::new());
    let udp = PortMapping {
        protocol: Protocol::Udp,
        ..port(8053, 53)
    };
    setup(
        &lab,
        &network,
        "pod",
        &pod,
        &[port(8080, 80), udp, port(0, 81)],
    )
    .unwrap();
    setup(&lab, &network, "other", &other, &[]).unwrap();
    pod.serve("[::]:80");
    pod.serve_udp("[::]:53");

    // From outside, with the client's own address.
    assert_eq!(outside.ask("192.0.2.2:8080"), ip("192.0.2.1"));
    assert_eq!(outside.ask("[2001:db8::2]:8080"), ip("2001:db8::1"));
    assert_eq!(outside.ask_udp("192.0.2.2:8053"), ip("192.0.2.1"));
    // From the host, by its address and through loopback.
    assert!(lab.host.ask("192.0.2.2:8080").is_some());
    assert_eq!(lab.host.ask("127.0.0.1:8080"), ip("10.99.0.1"));
    assert!(lab.host.ask_udp("127.0.0.1:8053").is_some());
    assert!(lab.host.ask("[2001:db8::2]:8080").is_some());
    // From another pod, and from the pod itself.
    assert!(other.ask("192.0.2.2:8080").is_some());
    assert!(other.ask("10.99.0.1:8080").is_some());
    assert!(pod.ask("192.0.2.2:8080").is_some());
    assert!(pod.ask("[2001:db8::2]:8080").is_some());

    lab.host
        .run(|| network.teardown(&Attachment::of("pod")).unwrap());
    assert_eq!(outside.ask("192.0.2.2:8080"), None);
    assert!(!lab.host.sh("nft list ruleset").contains("8080"));
}

#[test]
fn a_host_address_limits_the_port_to_it() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let outside = lab.outside();
    lab.host.sh("ip addr add 192.0.2.3/24 dev out0");
    let pod = Netns::new();
    let at = |text: &str, host_port| PortMapping {
        host_ip: ip(text),
        ..port(host_port, 80)
    };
    let ports = [
        at("192.0.2.2", 8080),
        at("127.0.0.1", 8081),
        at("0.0.0.0", 8082),
        at("2001:db8::2", 8083),
        at("::", 8084),
    ];
    setup(&lab, &network, "pod", &pod, &ports).unwrap();
    pod.serve("[::]:80");
    assert!(outside.ask("192.0.2.2:8080").is_some());
    assert_eq!(outside.ask("192.0.2.3:8080"), None);
    assert_eq!(lab.host.ask("127.0.0.1:8080"), None);
    assert!(lab.host.ask("127.0.0.1:8081").is_some());
    assert_eq!(outside.ask("192.0.2.2:8081"), None);
    assert!(outside.ask("192.0.2.3:8082").is_some());
    assert_eq!(
        outside.ask("[2001:db8::2]:8082"),
        None,
        "0.0.0.0 is IPv4 only"
    );
    assert!(outside.ask("[2001:db8::2]:8083").is_some());
    assert_eq!(outside.ask("192.0.2.2:8084"), None, ":: is IPv6 only");
    assert!(outside.ask("[2001:db8::2]:8084").is_some());
}

#[test]
fn a_taken_port_names_its_owner_and_the_owner_keeps_it() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let outside = lab.outside();
    let (first, second) = (Netns::new(), Netns::new());
    setup(&lab, &network, "first", &first, &[port(8080, 80)]).unwrap();
    let error = setup(
        &lab,
        &network,
        "second",
        &second,
        &[port(9090, 80), port(8080, 80)],
    );
    let error = error.unwrap_err();
    assert_eq!(
        error.to_string(),
        "host port 8080/tcp is already in use by pod \"first\""
    );
    assert!(matches!(error, Error::PortTaken { .. }));
    first.serve("[::]:80");
    assert!(outside.ask("192.0.2.2:8080").is_some());
    assert!(
        !lab.host.sh("nft list ruleset").contains("9090"),
        "all or nothing"
    );
    assert_eq!(network.attachments().unwrap(), ["first"]);
    // Another protocol's port of the same number is another port.
    let udp = PortMapping {
        protocol: Protocol::Udp,
        ..port(8080, 80)
    };
    setup(&lab, &network, "second", &second, &[udp]).unwrap();
}

#[test]
fn ports_of_a_pod_without_record_are_released_by_its_id() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    setup(&lab, &network, "pod", &pod, &[port(8080, 80)]).unwrap();
    std::fs::remove_file(lab.dir.path().join("state/results/pod.json")).unwrap();
    lab.host
        .run(|| network.teardown(&Attachment::of("pod")).unwrap());
    assert!(!lab.host.sh("nft list ruleset").contains("8080"));
    assert_eq!(lab.leases(), Vec::<String>::new());
}

/// `route_localnet`, which 127.0.0.1 as a host port's address needs, must not open the host's
/// loopback to pods (CVE-2020-8558).
#[test]
fn a_pod_cannot_reach_the_hosts_loopback() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    setup(&lab, &network, "pod", &pod, &[port(8080, 80)]).unwrap();
    lab.host.serve("127.0.0.1:7000");
    pod.sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
         ip addr flush dev lo scope host
         ip route del local 127.0.0.0/8 table local 2>/dev/null || true
         ip route add 127.0.0.0/8 via 10.99.0.1 src 10.99.0.2");
    assert_eq!(pod.ask("127.0.0.1:7000"), None);
    // The same attack works without the guard: the test would notice if it were not there.
    lab.host.sh("nft flush chain inet floe-br-lab guard");
    assert_eq!(pod.ask("127.0.0.1:7000"), ip("10.99.0.2"));
}

/// A DNS client that never stops asking must reach the pod that has the port now.
#[test]
fn udp_clients_follow_the_port_from_pod_to_pod() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let outside = lab.outside();
    let (first, second) = (Netns::new(), Netns::new());
    let udp = PortMapping {
        protocol: Protocol::Udp,
        ..port(8053, 53)
    };
    // The table is there, and so connections are tracked before the port is mapped.
    setup(&lab, &network, "other", &Netns::new(), &[port(1, 1)]).unwrap();
    assert_eq!(outside.ask_udp_from(5555, "192.0.2.2:8053"), None);
    setup(&lab, &network, "first", &first, &[udp]).unwrap();
    first.serve_udp("0.0.0.0:53");
    assert!(outside.ask_udp_from(5555, "192.0.2.2:8053").is_some());
    lab.host
        .run(|| network.teardown(&Attachment::of("first")).unwrap());
    setup(&lab, &network, "second", &second, &[udp]).unwrap();
    second.serve_udp("0.0.0.0:53");
    assert!(outside.ask_udp_from(5555, "192.0.2.2:8053").is_some());
}

#[test]
fn the_table_reads_well_in_nft() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    let at = PortMapping {
        host_ip: ip("127.0.0.1"),
        ..port(8081, 80)
    };
    let sctp = PortMapping {
        protocol: Protocol::Sctp,
        ..port(8132, 132)
    };
    setup(&lab, &network, "pod-1", &pod, &[port(8080, 80), at, sctp]).unwrap();
    let table = lab.host.sh("nft -n list table inet floe-br-lab");
    for line in [
        "6 . 8080 comment \"pod-1\" : 10.99.0.2 . 80",
        "6 . 127.0.0.1 . 8081 comment \"pod-1\" : 10.99.0.2 . 80",
        "132 . 8132 comment \"pod-1\" : 10.99.0.2 . 132",
        "ip saddr 10.99.0.0/24 ip daddr != 10.99.0.0/24",
        "ip6 saddr fd99::/64",
        "jump host_ports",
    ] {
        assert!(table.contains(line), "{line} is not in\n{table}");
    }
}

/// More than a datagram, a message and the queue of acknowledgements hold at once.
#[test]
fn a_pod_may_have_thousands_of_host_ports_all_of_them_or_none() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let outside = lab.outside();
    let (pod, late) = (Netns::new(), Netns::new());
    let many: Vec<PortMapping> = (10_001..=30_000).map(|number| port(number, 80)).collect();
    setup(&lab, &network, "pod", &pod, &many).unwrap();
    pod.serve("[::]:80");
    for number in [10_001, 11_600, 30_000] {
        let address = format!("192.0.2.2:{number}");
        assert_eq!(outside.ask(&address), ip("192.0.2.1"), "{number}");
    }
    assert!(outside.ask("[2001:db8::2]:30000").is_some());
    lab.host.run(|| {
        let path = pod.path();
        let whole = Attachment {
            port_mappings: &many,
            ..attachment("pod", Some(&path))
        };
        network.check(&whole).unwrap();
    });

    // The last of 1,600 is taken: none of the others is.
    let clash: Vec<PortMapping> = (28_401..=30_000)
        .map(|number| {
            port(
                if number == 30_000 {
                    30_000
                } else {
                    number + 2_000
                },
                80,
            )
        })
        .collect();
    let error = setup(&lab, &network, "late", &late, &clash).unwrap_err();
    assert_eq!(
        error.to_string(),
        "host port 30000/tcp is already in use by pod \"pod\""
    );
    assert!(!lab.host.sh("nft list ruleset").contains("\"late\""));

    lab.host
        .run(|| network.teardown(&Attachment::of("pod")).unwrap());
    assert!(!lab.host.sh("nft list ruleset").contains("\"pod\""));
    assert_eq!(lab.leases(), Vec::<String>::new());
    setup(&lab, &network, "late", &late, &clash).unwrap();
}

#[test]
fn a_host_port_that_is_asked_for_twice_is_named_and_nothing_is_made() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    let at = |text: &str, host_port| PortMapping {
        host_ip: ip(text),
        ..port(host_port, 80)
    };
    for (ports, named) in [
        (vec![port(8080, 80), port(8080, 81)], "8080/tcp"),
        (vec![port(8080, 80), port(8080, 80)], "8080/tcp"),
        (
            vec![port(8080, 80), at("0.0.0.0", 8080)],
            "0.0.0.0:8080/tcp",
        ),
        (vec![at("::", 8080), port(8080, 80)], "8080/tcp"),
        (
            vec![at("192.0.2.2", 1), at("192.0.2.2", 1)],
            "192.0.2.2:1/tcp",
        ),
    ] {
        let error = setup(&lab, &network, "pod", &pod, &ports).unwrap_err();
        assert!(error.is_request());
        let wanted = format!("pod \"pod\": host port {named} is asked for twice");
        assert_eq!(error.to_string(), wanted);
    }
    let absurd = vec![port(0, 80); 3 * 65_535 + 1];
    let error = setup(&lab, &network, "pod", &pod, &absurd).unwrap_err();
    assert!(error.is_request());
    assert!(error.to_string().contains("196606 host ports"), "{error}");
    assert_eq!(lab.state("results"), Vec::<String>::new());
    assert_eq!(lab.veths(), Vec::<String>::new());
    // What is only declared may stand there as often as it likes, and addresses differ.
    let ports = [
        port(0, 80),
        port(0, 80),
        at("0.0.0.0", 8080),
        at("::", 8080),
        at("127.0.0.1", 8080),
    ];
    setup(&lab, &network, "pod", &pod, &ports).unwrap();
}
