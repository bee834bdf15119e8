//! CNI configuration files: which one is used, what the built-in plugins make of it, and what is
//! said when none can be used.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::IpAddr;

use crate::common::{Lab, Netns, attachment, eventually};
use network::{Error, Network};

const BRIDGE: &str = r#"{"cniVersion":"1.0.0","name":"NAME","plugins":[
    {"type":"bridge","bridge":"cni-lab","isDefaultGateway":true,"ipMasq":true,"hairpinMode":true,
     "mtu":1400,"ipam":{"type":"host-local","dataDir":"DATA","ranges":[[
        {"subnet":"10.98.0.0/24","rangeStart":"10.98.0.20","rangeEnd":"10.98.0.22",
         "gateway":"10.98.0.254"}]],"routes":[{"dst":"10.50.0.0/16"}]}},
    {"type":"loopback"},
    {"type":"firewall"},
    {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}"#;

fn bridge(lab: &Lab, name: &str) -> String {
    let data = lab.dir.path().join("leases").display().to_string();
    BRIDGE.replace("NAME", name).replace("DATA", &data)
}

fn setup(
    lab: &Lab,
    network: &Network,
    id: &str,
    pod: &Netns,
) -> network::Result<network::Attached> {
    let path = pod.path();
    lab.host.run(|| network.setup(&attachment(id, Some(&path))))
}

#[test]
fn a_bridge_list_is_honoured_to_the_letter() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    lab.conflist("10-bridge.conflist", &bridge(&lab, "crio"));
    let pod = Netns::new();
    let attached = setup(&lab, &network, "pod", &pod).unwrap();
    assert_eq!(attached.network, "crio");
    assert_eq!(attached.ips[0].to_string(), "10.98.0.20/24");
    assert_eq!(
        attached.gateways,
        ["10.98.0.254".parse::<IpAddr>().unwrap()]
    );
    let data = lab.dir.path().join("leases/crio");
    assert_eq!(
        std::fs::read_to_string(data.join("10.98.0.20")).unwrap(),
        "pod\r\neth0"
    );
    assert!(pod.sh("ip link show eth0").contains("mtu 1400"));
    let routes = pod.sh("ip route");
    assert!(routes.contains("default via 10.98.0.254"), "{routes}");
    assert!(routes.contains("10.50.0.0/16 via 10.98.0.254"), "{routes}");
    assert!(lab.host.sh("bridge -d link").contains("hairpin on"));
    lab.host.serve("[::]:80");
    assert!(pod.ask("10.98.0.254:80").is_some());

    // The configuration may be gone when the pod is: it was remembered.
    std::fs::remove_file(lab.dir.path().join("conf/10-bridge.conflist")).unwrap();
    lab.host
        .run(|| network.teardown(&attachment("pod", None)).unwrap());
    assert!(!data.join("10.98.0.20").exists());
    eventually("the link is deleted", || lab.veths().is_empty());
}

#[test]
fn ptp_routes_each_pod_without_a_bridge() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let outside = lab.outside();
    lab.conflist(
        "10-ptp.conf",
        r#"{"cniVersion":"0.4.0","name":"p2p","type":"ptp","ipMasq":true,"mtu":1450,
            "ipam":{"type":"host-local","ranges":[[{"subnet":"10.97.0.0/24"}],[{"subnet":"fd97::/64"}]],
                    "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}"#,
    );
    let (a, b) = (Netns::new(), Netns::new());
    setup(&lab, &network, "a", &a).unwrap();
    setup(&lab, &network, "b", &b).unwrap();
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    a.serve("[::]:80");
    outside.serve("[::]:80");
    assert_eq!(b.ask("10.97.0.2:80"), ip("10.97.0.3"));
    assert_eq!(b.ask("[fd97::2]:80"), ip("fd97::3"));
    assert_eq!(b.ask("192.0.2.1:80"), ip("192.0.2.2"));
    assert!(lab.host.ask("10.97.0.2:80").is_some());
    assert!(
        !lab.host
            .sh("ip -br link show type bridge")
            .contains("br-lab"),
        "no bridge"
    );
    lab.host
        .run(|| network.teardown(&attachment("a", None)).unwrap());
    eventually("one link is left", || lab.veths().len() == 1);
}

#[test]
fn the_first_valid_file_wins_unless_one_is_asked_for_by_name() {
    let Some(lab) = Lab::new() else { return };
    lab.conflist("00-broken.conflist", "{");
    lab.conflist(
        "05-missing-plugin.conflist",
        r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"no-such"}]}"#,
    );
    lab.conflist("09-other.txt", "ignored");
    lab.conflist("10-first.conflist", &bridge(&lab, "first"));
    lab.conflist("20-second.conflist", &bridge(&lab, "second"));
    let pods = [Netns::new(), Netns::new(), Netns::new()];
    let first = setup(&lab, &lab.network(), "a", &pods[0]).unwrap();
    assert_eq!(first.network, "first");
    let named = |name: &str| {
        let mut config = lab.config();
        config.default_network = Some(name.to_owned());
        Network::new(config)
    };
    assert_eq!(
        setup(&lab, &named("second"), "b", &pods[1])
            .unwrap()
            .network,
        "second"
    );
    assert_eq!(
        setup(&lab, &named("floe"), "c", &pods[2]).unwrap().network,
        "floe"
    );
    let reason = named("absent").status().unwrap_err().reason;
    assert!(
        reason.starts_with("no valid CNI network \"absent\" found in "),
        "{reason}"
    );
}

#[test]
fn a_wrong_configuration_is_not_ready_and_says_why_and_is_read_again_when_it_changes() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    assert!(
        network.status().is_ok(),
        "the built-in network needs nothing"
    );
    for (text, wanted) in [
        ("{", "EOF while parsing"),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"calico"}]}"#,
            "\"calico\" is not built in",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","vlan":5}]}"#,
            "(\"vlan\" is not built in)",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","ipam":{"type":"host-local"}}]}"#,
            "ipam.ranges: is missing",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"firewall","ingressPolicy":"isolated"}]}"#,
            "ingressPolicy",
        ),
        (
            r#"{"cniVersion":"7.0.0","name":"n","plugins":[{"type":"bridge"}]}"#,
            "7.0.0",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"../sh"}]}"#,
            "not a plugin's name",
        ),
    ] {
        lab.conflist("10-net.conflist", text);
        let reason = network.status().unwrap_err().reason;
        assert!(
            reason.contains(wanted),
            "{reason} does not contain {wanted}"
        );
        assert!(reason.contains("10-net.conflist"), "{reason}");
        let pod = Netns::new();
        let error = setup(&lab, &network, "pod", &pod).unwrap_err();
        assert!(
            matches!(error, Error::NotReady(_)),
            "no silent fall-back: {error}"
        );
    }
    lab.conflist("10-net.conflist", &bridge(&lab, "good"));
    network.status().unwrap();
}

#[test]
fn a_foreign_policy_that_drops_forwarded_packets_is_named() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    lab.conflist("10-bridge.conflist", &bridge(&lab, "crio"));
    lab.host.sh("nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'");
    let pod = Netns::new();
    let error = setup(&lab, &network, "pod", &pod).unwrap_err().to_string();
    assert!(
        error.contains("filter/FORWARD drops forwarded packets"),
        "{error}"
    );
    assert_eq!(
        lab.host.run(|| network.attachments().unwrap()),
        Vec::<String>::new()
    );
    eventually("nothing is left", || lab.veths().is_empty());
    lab.host.sh("nft delete table ip filter");
    setup(&lab, &network, "pod", &pod).unwrap();
}

#[test]
fn check_tells_whether_the_pod_is_as_it_was_set_up() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    setup(&lab, &network, "pod", &pod).unwrap();
    lab.host.run(|| {
        network.check(&attachment("pod", Some(&path))).unwrap();
        assert!(matches!(
            network.check(&attachment("other", None)),
            Err(Error::Request { .. })
        ));
    });
    pod.sh("ip link del eth0");
    let error = lab
        .host
        .run(|| network.check(&attachment("pod", Some(&path))).unwrap_err());
    assert!(error.to_string().contains("it is not there"), "{error}");
}
