//! Configurations and plugins of every version of the specification, and which file of a directory that
//! others keep is taken.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::{Lab, Netns, attachment};
use network::Attachment;
use serde_json::Value;

/// Prints what stands in the file VERSION.result beside the plugins, and keeps its inputs.
const PLUGIN: &str = r#"#!/bin/sh
lab=$(dirname "$0")/..
cat > "$lab/$CNI_COMMAND.json"
echo "$CNI_NETNS" > "$lab/$CNI_COMMAND.netns"
[ "$CNI_COMMAND" = ADD ] && cat "$lab/result"
exit 0"#;

const OLD: &str = r#"{VERSION"ip4":{"ip":"10.93.0.7/24","gateway":"10.93.0.1",
    "routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd93::7/64"},"dns":{"nameservers":["10.93.0.1"]}}"#;

const MIDDLE: &str = r#"{VERSION"interfaces":[{"name":"eth0","sandbox":"/n"}],
    "ips":[{"version":"4","interface":0,"address":"10.93.0.7/24","gateway":"10.93.0.1"},
           {"version":"6","interface":0,"address":"fd93::7/64"}],"dns":{"nameservers":["10.93.0.1"]}}"#;

const NEW: &str = r#"{VERSION"interfaces":[{"name":"eth0","sandbox":"/n"}],
    "ips":[{"interface":0,"address":"10.93.0.7/24","gateway":"10.93.0.1"},
           {"interface":0,"address":"fd93::7/64"}],"dns":{"nameservers":["10.93.0.1"]}}"#;

#[test]
fn a_plugin_of_each_version_is_spoken_to_in_its_own_and_its_result_understood() {
    let Some(lab) = Lab::new() else { return };
    lab.script("old", PLUGIN);
    let pod = Netns::new();
    let path = pod.path();
    for (version, result) in [
        (None, OLD),
        (Some("0.1.0"), OLD),
        (Some("0.2.0"), OLD),
        (Some("0.3.0"), MIDDLE),
        (Some("0.3.1"), MIDDLE),
        (Some("0.4.0"), MIDDLE),
        (Some("1.0.0"), NEW),
        (Some("1.1.0"), NEW),
    ] {
        let line = version.map(|version| format!("\"cniVersion\":\"{version}\","));
        let line = line.unwrap_or_default();
        let wanted = version.unwrap_or("0.1.0");
        let result = result.replace("VERSION", &line);
        std::fs::write(lab.dir.path().join("result"), result).unwrap();
        lab.conflist(
            "10-old.conf",
            &format!(r#"{{{line}"name":"old","type":"old"}}"#),
        );
        let network = lab.network();
        let attached = lab
            .host
            .run(|| network.setup(&attachment("pod", Some(&path))).unwrap());
        let ips: Vec<String> = attached.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.93.0.7/24", "fd93::7/64"], "{wanted}");
        assert_eq!(
            attached.gateways,
            ["10.93.0.1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(attached.dns.nameservers, ["10.93.0.1"]);
        // The namespace is gone, and with it the file at its path.
        let gone = lab.dir.path().join("gone");
        lab.host.run(|| {
            let gone = Attachment {
                netns: Some(&gone),
                ..attachment("pod", None)
            };
            network.teardown(&gone).unwrap();
        });
        let read = |name: &str| std::fs::read_to_string(lab.dir.path().join(name)).unwrap();
        let add: Value = serde_json::from_str(&read("ADD.json")).unwrap();
        let del: Value = serde_json::from_str(&read("DEL.json")).unwrap();
        assert_eq!(
            (&add["cniVersion"], &del["cniVersion"]),
            (&wanted.into(), &wanted.into())
        );
        assert_eq!(read("DEL.netns"), "\n");
        let told = del
            .get("prevResult")
            .map(|result| &result["ips"][0]["address"]);
        let since_0_4 = !matches!(wanted, "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1");
        assert_eq!(told.is_some(), since_0_4, "{wanted}: {del}");
    }
}

#[test]
fn an_old_chain_hands_its_result_on_in_the_old_form() {
    let Some(lab) = Lab::new() else { return };
    lab.script("first", PLUGIN);
    lab.script(
        "second",
        "#!/bin/sh\n[ $CNI_COMMAND = ADD ] && { cat > \"$(dirname \"$0\")/../second.json\"; cat \"$(dirname \"$0\")/../result\"; }\nexit 0",
    );
    std::fs::write(
        lab.dir.path().join("result"),
        OLD.replace("VERSION", r#""cniVersion":"0.2.0","#),
    )
    .unwrap();
    lab.conflist(
        "10-old.conflist",
        r#"{"cniVersion":"0.2.0","name":"old","plugins":[{"type":"first"},{"type":"second"}]}"#,
    );
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    lab.host
        .run(|| network.setup(&attachment("pod", Some(&path))).unwrap());
    let second = std::fs::read_to_string(lab.dir.path().join("second.json")).unwrap();
    let second: Value = serde_json::from_str(&second).unwrap();
    assert_eq!(second["prevResult"]["ip4"]["ip"], "10.93.0.7/24");
    assert_eq!(second["prevResult"]["cniVersion"], "0.2.0");
    assert_eq!(second["prevResult"].get("ips"), None);
}

fn plain(name: &str) -> String {
    format!(
        r#"{{"name":"{name}","type":"bridge","bridge":"br-lab","isGateway":true,
            "ipam":{{"type":"host-local","subnet":"10.92.0.0/24"}}}}"#
    )
}

#[test]
fn the_first_name_wins_whatever_its_extension() {
    let Some(lab) = Lab::new() else { return };
    let list = |name: &str| format!(r#"{{"name":"{name}","plugins":[{}]}}"#, plain(name));
    lab.conflist("10-calico.conflist", &list("calico"));
    lab.conflist("05-flannel.json", &plain("flannel"));
    lab.conflist("00-multus.conf", &plain("multus"));
    lab.conflist("00-a.conf.bak", &plain("backup"));
    let taken = || {
        let pod = Netns::new();
        let path = pod.path();
        lab.host.run(|| {
            let network = lab.network();
            let attached = network.setup(&attachment("pod", Some(&path))).unwrap();
            network.teardown(&attachment("pod", Some(&path))).unwrap();
            attached.network
        })
    };
    for (file, name) in [
        ("00-multus.conf", "multus"),
        ("05-flannel.json", "flannel"),
        ("10-calico.conflist", "calico"),
    ] {
        assert_eq!(taken(), name);
        std::fs::remove_file(lab.dir.path().join("conf").join(file)).unwrap();
    }
}

#[test]
fn a_directory_that_is_removed_and_made_again_is_read_again() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.network();
    let conf = lab.dir.path().join("conf");
    let taken = |id: &str| {
        let pod = Netns::new();
        let path = pod.path();
        lab.host.run(|| {
            let attached = network.setup(&attachment(id, Some(&path))).unwrap();
            network.teardown(&attachment(id, Some(&path))).unwrap();
            attached.network
        })
    };
    lab.conflist("10.conf", &plain("one"));
    assert_eq!(taken("a"), "one");
    std::fs::remove_dir_all(&conf).unwrap();
    assert_eq!(taken("b"), "floe");
    std::fs::create_dir(&conf).unwrap();
    lab.conflist("10.conf", &plain("two"));
    assert_eq!(taken("c"), "two");
    // Replaced by a file of the same length and time, as a copy keeps them.
    let time = std::fs::metadata(conf.join("10.conf"))
        .unwrap()
        .modified()
        .unwrap();
    std::fs::write(conf.join("new"), plain("six")).unwrap();
    let new = std::fs::File::options()
        .write(true)
        .open(conf.join("new"))
        .unwrap();
    new.set_modified(time).unwrap();
    std::fs::rename(conf.join("new"), conf.join("10.conf")).unwrap();
    assert_eq!(taken("d"), "six");
}
