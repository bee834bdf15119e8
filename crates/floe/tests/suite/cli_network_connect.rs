//! Containers come to networks and leave them while they run, find them again after a stop and a reboot, and get back
//! what somebody has taken from the host.

use crate::cli::{Machine, machine, until};
use crate::cli_network::{answers, get};

const STAY: &str = "sleep 1000";

impl Machine {
    fn links(&self, container: &str) -> Vec<String> {
        let links = self.floe(&["exec", container, "ls", "/sys/class/net"]).ok();
        links.split_whitespace().map(str::to_owned).collect()
    }

    fn networks_of(&self, container: &str) -> String {
        let filter = format!("name=^{container}$");
        self.floe(&["ps", "-a", "--filter", &filter, "--format", "{{.Networks}}"])
            .ok()
    }

    /// Does a name lead from one container to another?
    fn finds(&self, from: &str, name: &str) -> bool {
        let looked = self.floe(&["exec", from, "nslookup", name, "127.0.0.11"]);
        looked.code == 0 && looked.out.contains("Address") && !looked.out.contains("NXDOMAIN")
    }
}

#[test]
fn a_container_comes_to_a_network_and_leaves_it_while_it_runs() {
    machine(|floe| {
        floe.network(&["create", "one"]).ok();
        floe.network(&["create", "--subnet", "10.66.0.0/24", "two"])
            .ok();
        floe.on_network("a", &["--network", "one"], STAY);
        floe.on_network("plain", &[], STAY);
        let serve = "mkdir /w; echo b > /w/index.html; exec httpd -f -p 80 -h /w";
        floe.on_network("b", &["--network", "two"], serve);
        let connect = [
            "connect",
            "--ip",
            "10.66.0.66",
            "--mac-address",
            "02:00:00:00:00:66",
            "--alias",
            "friend",
            "two",
            "a",
        ];
        floe.network(&connect).ok();
        floe.network(&["connect", "two", "a"]).failed(
            125,
            &["is already connected to network two: network is already connected"],
        );
        assert_eq!(floe.links("a"), ["eth0", "eth1", "lo"]);
        assert_eq!(floe.address("a", "two"), "10.66.0.66");
        assert_eq!(floe.networks_of("a"), "one,two");
        let seen = floe.floe(&["exec", "a", "ip", "addr", "show", "eth1"]).ok();
        assert!(seen.contains("02:00:00:00:00:66"), "{seen}");
        assert!(floe.finds("b", "friend") && floe.finds("a", "b"));
        let ask = format!(
            "for i in 1 2 3 4 5 6; do {} && exit; sleep 0.2; done; exit 1",
            get(&floe.address("b", "two"))
        );
        assert_eq!(floe.floe(&["exec", "a", "sh", "-c", &ask]).ok(), "b");
        // The other one keeps its interface.
        floe.network(&["disconnect", "one", "a"]).ok();
        assert_eq!(floe.links("a"), ["eth1", "lo"]);
        floe.network(&["disconnect", "one", "a"])
            .failed(125, &["is not connected to network one"]);
        floe.network(&["rm", "one"]).ok();
        floe.floe(&["restart", "-t", "0", "a"]).ok();
        assert_eq!(floe.links("a"), ["eth1", "lo"]);
        assert_eq!(floe.address("a", "two"), "10.66.0.66");
        // From the configuration's, without names before.
        floe.network(&["connect", "two", "plain"]).ok();
        assert_eq!(floe.networks_of("plain"), "podman,two");
        let resolv = floe
            .floe(&["exec", "plain", "cat", "/etc/resolv.conf"])
            .ok();
        assert!(resolv.contains("nameserver 127.0.0.11"), "{resolv}");
        assert!(floe.finds("plain", "friend"));
        floe.network(&["disconnect", "-f", "podman", "plain"]).ok();
        assert_eq!(floe.links("plain"), ["eth1", "lo"]);
        floe.network(&["disconnect", "two", "plain"]).ok();
        assert_eq!(floe.links("plain"), ["lo"]);
        assert_eq!(floe.networks_of("plain"), "");
        floe.network(&["connect", "podman", "plain"]).ok();
        assert_eq!(floe.networks_of("plain"), "podman");
        assert_eq!(floe.links("plain"), ["eth0", "lo"]);
        // What fails leaves it as it was.
        floe.network(&["connect", "--ip", "10.66.0.66", "two", "plain"])
            .failed(
                125,
                &["requested ip address 10.66.0.66 is already allocated"],
            );
        assert_eq!(floe.networks_of("plain"), "podman");
        assert_eq!(floe.links("plain"), ["eth0", "lo"]);
        floe.network(&["connect", "nonet", "plain"])
            .failed(125, &["network not found"]);
        floe.network(&["connect", "two", "nobody"])
            .failed(125, &["no container with name or ID"]);
        floe.background("none", STAY);
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["prune", "-f"]).ok();
    });
}

#[test]
fn networks_and_their_containers_are_there_after_a_reboot() {
    machine(|floe| {
        floe.network(&["create", "--subnet", "10.67.0.0/24", "net"])
            .ok();
        let image = floe.image.clone();
        let create = [
            "create",
            "--name",
            "made",
            "--network",
            "net:ip=10.67.0.67,alias=m",
            "--network",
            "podman",
            &image,
            "sleep",
            "1000",
        ];
        floe.floe(&create).ok();
        floe.network(&["create", "late"]).ok();
        floe.network(&["connect", "late", "made"]).ok();
        // What a reboot leaves: memory is empty.
        std::fs::remove_dir_all(floe.node.path("run")).unwrap();
        assert_eq!(floe.network(&["ls", "-q"]).ok(), "late\nnet\npodman");
        floe.network(&["rm", "net"]).failed(2, &["being used"]);
        floe.floe(&["start", "made"]).ok();
        assert_eq!(floe.address("made", "net"), "10.67.0.67");
        assert_eq!(floe.networks_of("made"), "net,podman,late");
        assert_eq!(floe.links("made"), ["eth0", "eth1", "eth2", "lo"]);
        assert!(floe.finds("made", "m"));
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["prune", "-f"]).ok();
    });
}

#[test]
fn what_a_flush_of_all_rules_has_taken_comes_back_with_a_reload() {
    machine(|floe| {
        floe.network(&["create", "net"]).ok();
        floe.network(&["create", "other"]).ok();
        let serve = "mkdir /w; echo served > /w/index.html; exec httpd -f -p 80 -h /w";
        let id = floe.on_network("server", &["--network", "net", "-p", "18093:80"], serve);
        floe.on_network("away", &["--network", "other"], serve);
        until("the port answers", || answers(18093));
        let flushed = std::process::Command::new("nft")
            .args(["flush", "ruleset"])
            .status();
        assert!(flushed.unwrap().success());
        assert!(!answers(18093));
        assert_eq!(floe.network(&["reload", "server"]).ok(), id);
        until("the port answers again", || answers(18093));
        assert_eq!(floe.network(&["reload", "-a"]).ok().lines().count(), 2);
        let from = get(&floe.address("away", "other"));
        assert_ne!(floe.floe(&["exec", "server", "sh", "-c", &from]).code, 0);
        floe.network(&["update", "net", "--dns-add", "192.0.2.9,192.0.2.10"])
            .ok();
        floe.network(&["update", "net", "--dns-drop", "192.0.2.10"])
            .ok();
        assert_eq!(
            floe.inspected("net")["network_dns_servers"],
            serde_json::json!(["192.0.2.9"])
        );
        let told = floe.node.path("run/network/names/net/settings");
        assert_eq!(std::fs::read_to_string(told).unwrap(), "server 192.0.2.9\n");
        floe.network(&["update", "net", "--dns-add", "name"])
            .failed(125, &["unable to parse ip name"]);
        floe.floe(&["rm", "-f", "-t", "0", "-a"]).ok();
        floe.network(&["prune", "-f"]).ok();
    });
}
