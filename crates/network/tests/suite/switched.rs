//! A node whose network goes from the built-in plugins to Debian's programs and back, while pods run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use crate::common::{Lab, Netns, attachment, eventually};
use network::{Attached, Attachment, Network, NetworkConfig, PortMapping, Protocol};

/// The same network, bridge and subnet, by plugins of these names.
fn list(bridge: &str, host_local: &str, data_dir: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"net","plugins":[
            {{"type":"{bridge}","bridge":"cni7","isGateway":true,"ipMasq":true,
              "ipam":{{"type":"{host_local}","subnet":"10.93.0.0/24"{data_dir},
                       "routes":[{{"dst":"0.0.0.0/0"}}]}}}},
            {{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#
    )
}

struct Node {
    lab: Lab,
    network: Network,
}

impl Node {
    fn new() -> Option<Node> {
        let lab = Lab::new()?;
        if !(lab.install("a-bridge", "bridge") && lab.install("a-host-local", "host-local")) {
            return None;
        }
        let config = NetworkConfig {
            host_local_dir: Some(lab.dir.path().join("cni")),
            ..lab.config()
        };
        let network = Network::new(config);
        Some(Node { lab, network })
    }

    fn built_in(&self) {
        self.lab
            .conflist("10.conflist", &list("bridge", "host-local", ""));
    }

    /// The programs have no other way to be told of the lab's directory.
    fn programs(&self) {
        let dir = format!(r#","dataDir":"{}""#, self.shared().display());
        let text = list("a-bridge", "a-host-local", &dir);
        self.lab.conflist("10.conflist", &text);
    }

    fn shared(&self) -> std::path::PathBuf {
        self.lab.dir.path().join("cni")
    }

    fn add(&self, id: &str, pod: &Netns, port: u16) -> Attached {
        let path = pod.path();
        let ports = [PortMapping {
            host_port: port,
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
        }];
        let wish = Attachment {
            port_mappings: &ports,
            ..attachment(id, Some(&path))
        };
        let attached = self.lab.host.run(|| self.network.setup(&wish).unwrap());
        pod.serve("[::]:80");
        attached
    }

    fn remove(&self, id: &str, pod: Option<&Path>) {
        let wish = attachment(id, pod);
        self.lab.host.run(|| self.network.teardown(&wish).unwrap());
    }

    fn lease(&self, ip: &str) -> bool {
        self.shared().join("net").join(ip).exists()
    }
}

fn address(attached: &Attached) -> String {
    attached.ips[0].addr().to_string()
}

#[test]
fn pods_of_either_kind_have_addresses_of_their_own_reach_each_other_and_are_taken_off() {
    let Some(node) = Node::new() else { return };
    let pods = [(); 4].map(|()| Netns::new());
    let host = &node.lab.host;
    let mut all = Vec::new();
    for (index, pod) in pods.iter().enumerate() {
        match index % 2 {
            0 => node.built_in(),
            _ => node.programs(),
        }
        let index = u16::try_from(index).unwrap();
        all.push(address(&node.add(
            &format!("pod{index}"),
            pod,
            8000 + index,
        )));
    }
    let mut different = all.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 4, "{all:?}");
    for ip in &all {
        assert!(node.lease(ip), "{ip} is free for host-local");
        assert!(pods[0].ask(&format!("{ip}:80")).is_some(), "{ip}");
        assert!(pods[1].ask(&format!("{ip}:80")).is_some(), "{ip}");
    }
    for port in 8000..8004 {
        assert!(host.ask(&format!("127.0.0.1:{port}")).is_some(), "{port}");
    }
    // Each is taken off as it was put on, whatever the configuration says by then.
    for (index, pod) in pods.iter().enumerate() {
        let path = pod.path();
        node.remove(&format!("pod{index}"), Some(&path));
        assert!(!node.lease(&all[index]));
        eventually("the pod's link is deleted", || {
            !pod.sh("ip -br link").contains("eth0")
        });
    }
    eventually("the links are deleted", || node.lab.veths().is_empty());
    let rules = host.sh("nft list ruleset");
    assert!(!rules.contains("8000"), "{rules}");
}
