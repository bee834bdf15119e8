//! Plugins that are programs: Debian's own, and scripts that record how they were called or fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{Lab, Netns, attachment};
use network::{Attachment, Error, PortMapping, Protocol};
use serde_json::Value;

/// Writes its environment and input to NAME.COMMAND beside itself and passes the result on.
const RECORDER: &str = r#"#!/bin/sh
dir=$(dirname "$0")/../calls; mkdir -p "$dir"
cat > "$dir/$CNI_COMMAND.json"
env | grep ^CNI_ | sort > "$dir/$CNI_COMMAND.env"
[ "$CNI_COMMAND" = ADD ] && sed 's/.*"prevResult":\({.*}\),"r.*/\1/' "$dir/ADD.json"
exit 0"#;

fn bridge_then(plugin: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"mixed","plugins":[
            {{"type":"bridge","bridge":"br-lab","isGateway":true,
              "ipam":{{"type":"host-local","subnet":"10.96.0.0/24"}}}},
            {plugin}]}}"#
    )
}

#[test]
fn debians_bridge_and_host_local_work_as_programs_under_other_names() {
    let Some(lab) = Lab::new() else { return };
    if !(lab.install("my-bridge", "bridge") && lab.install("my-ipam", "host-local")) {
        return;
    }
    let leases = lab.dir.path().join("leases");
    lab.conflist(
        "10.conflist",
        &format!(
            r#"{{"cniVersion":"1.0.0","name":"ext","plugins":[
                {{"type":"my-bridge","bridge":"cni9","isDefaultGateway":true,
                  "ipam":{{"type":"my-ipam","dataDir":"{}","subnet":"10.95.0.0/24"}}}},
                {{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#,
            leases.display()
        ),
    );
    let network = lab.network();
    let outside = lab.outside();
    let pod = Netns::new();
    let path = pod.path();
    let ports = [PortMapping {
        host_port: 8080,
        container_port: 80,
        protocol: Protocol::Tcp,
        host_ip: None,
    }];
    let wish = Attachment {
        port_mappings: &ports,
        ..attachment("pod", Some(&path))
    };
    let attached = lab.host.run(|| network.setup(&wish).unwrap());
    assert_eq!(attached.ips[0].to_string(), "10.95.0.2/24");
    assert!(attached.mac.is_some());
    pod.serve("[::]:80");
    assert!(lab.host.ask("10.95.0.2:80").is_some());
    // The built-in portmap took the external bridge's result.
    assert!(outside.ask("192.0.2.2:8080").is_some());
    assert!(lab.host.ask("127.0.0.1:8080").is_some());
    lab.host.run(|| {
        network.check(&attachment("pod", Some(&path))).unwrap();
        network.teardown(&attachment("pod", Some(&path))).unwrap();
        network.teardown(&attachment("pod", None)).unwrap();
    });
    assert!(!leases.join("ext/10.95.0.2").exists());
    assert!(!pod.sh("ip -br link").contains("eth0"));
}

#[test]
fn a_built_in_bridge_takes_addresses_from_an_external_manager() {
    let Some(lab) = Lab::new() else { return };
    if !lab.install("static", "static") {
        return;
    }
    lab.conflist(
        "10.conflist",
        r#"{"cniVersion":"0.4.0","name":"st","plugins":[{"type":"bridge","bridge":"br-lab","isGateway":true,
            "ipam":{"type":"static","addresses":[{"address":"10.94.0.7/24","gateway":"10.94.0.1"}],
                    "routes":[{"dst":"0.0.0.0/0"}]}}]}"#,
    );
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    let attached = lab
        .host
        .run(|| network.setup(&attachment("pod", Some(&path))).unwrap());
    assert_eq!(attached.ips[0].to_string(), "10.94.0.7/24");
    assert!(pod.sh("ip route").contains("default via 10.94.0.1"));
    lab.host
        .run(|| network.teardown(&attachment("pod", Some(&path))).unwrap());
}

#[test]
fn debians_tuning_and_bandwidth_follow_the_built_in_bridge() {
    let Some(lab) = Lab::new() else { return };
    if !(lab.install("tuning", "tuning") && lab.install("bandwidth", "bandwidth")) {
        return;
    }
    lab.conflist(
        "10.conflist",
        &bridge_then(
            r#"{"type":"tuning","sysctl":{"net.ipv4.conf.eth0.arp_filter":"1"}},
               {"type":"bandwidth","capabilities":{"bandwidth":true}}"#,
        ),
    );
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    let annotations = BTreeMap::from([(
        "kubernetes.io/ingress-bandwidth".to_owned(),
        "10M".to_owned(),
    )]);
    let wish = Attachment {
        annotations: &annotations,
        ..attachment("pod", Some(&path))
    };
    lab.host.run(|| match network.setup(&wish) {
        Ok(_) => {
            assert_eq!(pod.sh("cat /proc/sys/net/ipv4/conf/eth0/arp_filter"), "1\n");
            assert!(crate::common::sh("tc qdisc show").contains("tbf"));
            network.teardown(&wish).unwrap();
        }
        Err(Error::PluginFailed {
            plugin, message, ..
        }) if plugin == "bandwidth" => {
            eprintln!("SKIP: this kernel has no token bucket filter: {message}");
        }
        Err(error) => panic!("{error}"),
    });
    assert_eq!(
        lab.state("networks/mixed").len(),
        2,
        "lock and last_reserved_ip only"
    );
}

#[test]
fn a_plugin_is_called_as_the_specification_says() {
    let Some(lab) = Lab::new() else { return };
    lab.script("recorder", RECORDER);
    lab.conflist(
        "10.conflist",
        &bridge_then(
            r#"{"type":"recorder","key":"value",
                "capabilities":{"portMappings":true,"bandwidth":true,"io.kubernetes.cri.pod-annotations":true}}"#,
        ),
    );
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    let ports = [PortMapping {
        host_port: 8080,
        container_port: 80,
        protocol: Protocol::Sctp,
        host_ip: None,
    }];
    let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let wish = Attachment {
        port_mappings: &ports,
        annotations: &annotations,
        ..attachment("pod", Some(&path))
    };
    let attached = lab.host.run(|| network.setup(&wish).unwrap());
    assert_eq!(
        attached.ips[0].to_string(),
        "10.96.0.2/24",
        "the result passed through"
    );
    drop(pod);
    // The id alone: everything else was remembered.
    lab.host
        .run(|| network.teardown(&Attachment::of("pod")).unwrap());

    let read =
        |name: &str| std::fs::read_to_string(lab.dir.path().join("calls").join(name)).unwrap();
    let add: Value = serde_json::from_str(&read("ADD.json")).unwrap();
    assert_eq!(add["name"], "mixed");
    assert_eq!(add["cniVersion"], "1.0.0");
    assert_eq!(add["key"], "value");
    assert_eq!(add["prevResult"]["ips"][0]["address"], "10.96.0.2/24");
    assert_eq!(add["runtimeConfig"]["portMappings"][0]["protocol"], "sctp");
    assert_eq!(
        add["runtimeConfig"]["io.kubernetes.cri.pod-annotations"]["a"],
        "b"
    );
    assert_eq!(add["runtimeConfig"].get("bandwidth"), None);
    let environment = read("ADD.env");
    for line in [
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=pod;K8S_POD_UID=uid-1",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=pod",
        "CNI_IFNAME=eth0",
        &format!("CNI_NETNS={}", path.display()),
        &format!("CNI_PATH={}", lab.dir.path().join("plugins").display()),
    ] {
        assert!(
            environment.lines().any(|found| found == line),
            "{line} is not in\n{environment}"
        );
    }
    let del: Value = serde_json::from_str(&read("DEL.json")).unwrap();
    assert_eq!(del["prevResult"]["ips"][0]["address"], "10.96.0.2/24");
    assert_eq!(del["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
    assert!(
        read("DEL.env").contains("CNI_NETNS=\n"),
        "the namespace is gone"
    );
    assert!(read("DEL.env").contains("K8S_POD_NAME=pod"));
}

#[test]
fn a_failing_plugin_undoes_what_was_done_before_it_and_its_error_is_told() {
    let Some(lab) = Lab::new() else { return };
    lab.script("recorder", RECORDER);
    lab.script(
        "failing",
        r#"#!/bin/sh
        echo "$CNI_COMMAND" >> "$(dirname "$0")/../failing.log"
        [ "$CNI_COMMAND" = DEL ] && exit 0
        echo '{"cniVersion":"1.0.0","code":11,"msg":"no luck today","details":"try tomorrow"}'
        exit 1"#,
    );
    lab.conflist(
        "10.conflist",
        &bridge_then(r#"{"type":"recorder"},{"type":"failing"},{"type":"recorder-never-reached"}"#),
    );
    lab.script(
        "recorder-never-reached",
        "#!/bin/sh\ntouch \"$(dirname \"$0\")/../reached\"",
    );
    // The recorder's result extraction needs a runtimeConfig; give it a plain one here.
    lab.script(
        "recorder",
        "#!/bin/sh\necho $CNI_COMMAND >> \"$(dirname \"$0\")/../recorder.log\"\n\
         [ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\",\"ips\":[]}'\nexit 0",
    );
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    let error = lab
        .host
        .run(|| network.setup(&attachment("pod", Some(&path))).unwrap_err());
    assert_eq!(
        error.to_string(),
        "network \"mixed\": plugin \"failing\" ADD failed (code 11): no luck today (try tomorrow)"
    );
    let log = |name: &str| std::fs::read_to_string(lab.dir.path().join(name)).unwrap();
    assert_eq!(log("failing.log"), "ADD\nDEL\n");
    assert_eq!(log("recorder.log"), "ADD\nDEL\n");
    assert!(!lab.dir.path().join("reached").exists());
    lab.host
        .run(|| assert_eq!(network.attachments().unwrap(), Vec::<String>::new()));
    assert_eq!(lab.state("results"), Vec::<String>::new());
    crate::common::eventually("the link is deleted", || lab.veths().is_empty());
}

#[test]
fn a_teardown_that_fails_is_told_and_can_be_repeated() {
    let Some(lab) = Lab::new() else { return };
    lab.script(
        "stubborn",
        r#"#!/bin/sh
        [ "$CNI_COMMAND" = ADD ] && { echo '{"cniVersion":"1.0.0","ips":[{"address":"10.96.0.2/24"}]}'; exit 0; }
        [ -e "$(dirname "$0")/../soft" ] && exit 0
        echo "not yet" >&2; exit 7"#,
    );
    lab.conflist("10.conflist", &bridge_then(r#"{"type":"stubborn"}"#));
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    lab.host.run(|| {
        network.setup(&attachment("pod", Some(&path))).unwrap();
        let error = network
            .teardown(&attachment("pod", Some(&path)))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "1 part(s) of the network of pod \"pod\" could not be removed: \
             network \"mixed\": plugin \"stubborn\" DEL failed (code 7): not yet"
        );
        assert_eq!(network.attachments().unwrap(), ["pod"]);
        assert!(
            !lab.dir
                .path()
                .join("state/networks/mixed/10.96.0.2")
                .exists(),
            "went on"
        );
        std::fs::write(lab.dir.path().join("soft"), "").unwrap();
        network.teardown(&attachment("pod", None)).unwrap();
        assert_eq!(network.attachments().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_plugin_that_misbehaves_is_an_error_with_its_name_and_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    lab.script("odd", "#!/bin/sh\n[ \"$CNI_COMMAND\" = DEL ] || MODE");
    let network = lab
        .network()
        .with_plugin_timeout(Duration::from_millis(700));
    lab.conflist("10.conflist", &bridge_then(r#"{"type":"odd"}"#));
    for (mode, wanted) in [
        (
            "sleep 1000",
            "network \"mixed\": plugin \"odd\" ADD: no answer within",
        ),
        (
            "echo nonsense",
            "network \"mixed\": plugin \"odd\" ADD: cannot read its result",
        ),
        (
            "true",
            "network \"mixed\": plugin \"odd\" ADD: cannot read its result",
        ),
        (
            "yes >&2 & yes",
            "network \"mixed\": plugin \"odd\" ADD: take a result above 1 MiB from",
        ),
        (
            "yes >&2",
            "network \"mixed\": plugin \"odd\" ADD: no answer within",
        ),
        (
            r"{ printf 'a\033[31mb\nc' >&2; exit 3; }",
            "network \"mixed\": plugin \"odd\" ADD failed (code 3): a\\u{1b}[31mb c",
        ),
        (
            r#"echo '{"cniVersion":"1.0.0","interfaces":[]}'"#,
            "network \"mixed\": its plugins gave the pod no IP address",
        ),
        (
            r#"echo '{"cniVersion":"1.9.0","ips":[{"address":"10.96.0.2/24"}]}'"#,
            "\"1.9.0\" is not a known cniVersion",
        ),
        (
            "kill -9 $$",
            "network \"mixed\": plugin \"odd\" ADD failed (killed): signal: 9",
        ),
    ] {
        lab.script(
            "odd",
            &format!("#!/bin/sh\n[ \"$CNI_COMMAND\" = DEL ] || {{ {mode}\n}}"),
        );
        let pod = Netns::new();
        let path = pod.path();
        let error = lab
            .host
            .run(|| network.setup(&attachment("pod", Some(&path))).unwrap_err());
        assert!(
            error.to_string().contains(wanted),
            "{error} does not contain {wanted}"
        );
        lab.host
            .run(|| assert_eq!(network.attachments().unwrap(), Vec::<String>::new()));
    }
}

#[test]
fn a_process_that_a_plugin_leaves_behind_with_its_output_is_not_waited_for() {
    let Some(lab) = Lab::new() else { return };
    let note = lab.dir.path().join("pid");
    let note = note.display();
    lab.script(
        "parent",
        &format!(
            r#"#!/bin/sh
            [ "$CNI_COMMAND" = DEL ] && exit 0
            setsid sleep 1000 & echo $! > {note}
            echo '{{"cniVersion":"1.0.0","ips":[{{"address":"10.96.0.2/24"}}]}}'"#
        ),
    );
    lab.conflist("10.conflist", &bridge_then(r#"{"type":"parent"}"#));
    let network = lab.network().with_plugin_timeout(Duration::from_secs(600));
    let pod = Netns::new();
    let path = pod.path();
    lab.host.run(|| {
        network.setup(&attachment("pod", Some(&path))).unwrap();
        network.teardown(&attachment("pod", None)).unwrap();
    });
    // It was never floe's to kill: it may be what the plugin is for.
    let pid = std::fs::read_to_string(lab.dir.path().join("pid")).unwrap();
    crate::common::sh(&format!("kill -9 {pid}"));
}

#[test]
fn a_name_cannot_become_another_argument_of_a_plugin() {
    let Some(lab) = Lab::new() else { return };
    lab.script("recorder", RECORDER);
    lab.conflist("10.conflist", &bridge_then(r#"{"type":"recorder"}"#));
    let network = lab.network();
    let pod = Netns::new();
    let path = pod.path();
    let wish = Attachment {
        name: "a;IP=10.96.0.99",
        ..attachment("pod", Some(&path))
    };
    let error = lab.host.run(|| network.setup(&wish).unwrap_err());
    assert!(error.is_request(), "{error}");
    assert!(!lab.dir.path().join("calls").exists());
}

/// As [`RECORDER`], for a plugin that asks for nothing of the runtime.
fn recorder() -> String {
    RECORDER.replace(r#","r.*"#, r#","type".*"#)
}

fn recorder_of_1_1(more: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.1.0","name":"new"{more},"plugins":[
            {{"type":"bridge","bridge":"br-lab","isGateway":true,
              "ipam":{{"type":"host-local","subnet":"10.97.0.0/24"}}}},
            {{"type":"recorder","key":"value"}}]}}"#
    )
}

/// What a plugin was called with, and whether that happened.
fn called(lab: &Lab, what: &str) -> Option<String> {
    let file = lab.dir.path().join("calls").join(what);
    std::fs::read_to_string(file).ok()
}

#[test]
fn a_plugin_that_is_not_ready_makes_the_network_not_ready_until_it_is() {
    let Some(lab) = Lab::new() else { return };
    lab.script(
        "recorder",
        r#"#!/bin/sh
dir=$(dirname "$0")/../calls; mkdir -p "$dir"
[ "$CNI_COMMAND" = STATUS ] || exit 0
echo x >> "$dir/asked"; cat > "$dir/STATUS.json"; env | grep ^CNI_ | sort > "$dir/STATUS.env"
[ -e "$dir/ready" ] && exit 0
echo '{"cniVersion":"1.1.0","code":50,"msg":"the agent is not up"}'; exit 1"#,
    );
    lab.conflist("10.conflist", &recorder_of_1_1(""));
    let network = lab.network();
    let refused = network.status().unwrap_err();
    assert!(
        refused.reason.contains("the agent is not up"),
        "{}",
        refused.reason
    );
    // Who asks again at once gets the same answer, and the plugin is left in peace.
    (0..50).for_each(|_| assert_eq!(network.status().unwrap_err().reason, refused.reason));
    assert_eq!(called(&lab, "asked").unwrap().lines().count(), 1);
    let environment = called(&lab, "STATUS.env").unwrap();
    let names: Vec<_> = environment
        .lines()
        .map(|line| line.split('=').next().unwrap())
        .collect();
    assert_eq!(names, ["CNI_COMMAND", "CNI_PATH"]);
    let config: Value = serde_json::from_str(&called(&lab, "STATUS.json").unwrap()).unwrap();
    assert_eq!(
        (&config["name"], &config["key"]),
        (&"new".into(), &"value".into())
    );
    assert_eq!(config["cniVersion"], "1.1.0");
    std::fs::write(lab.dir.path().join("calls/ready"), "").unwrap();
    crate::common::eventually("the plugin is ready", || network.status().is_ok());
    // Plugins of older versions are never asked.
    lab.conflist(
        "10.conflist",
        &recorder_of_1_1("").replace("1.1.0", "1.0.0"),
    );
    std::fs::remove_file(lab.dir.path().join("calls/ready")).unwrap();
    network.status().unwrap();
}

#[test]
fn plugins_are_told_which_attachments_there_are_and_collect_the_rest() {
    let Some(lab) = Lab::new() else { return };
    lab.script("recorder", &recorder());
    lab.conflist("10.conflist", &recorder_of_1_1(""));
    let network = lab.network();
    let (one, two) = (Netns::new(), Netns::new());
    lab.host.run(|| {
        for (id, pod) in [("one", &one), ("two", &two)] {
            network.setup(&attachment(id, Some(&pod.path()))).unwrap();
        }
        network.teardown(&attachment("one", None)).unwrap();
        let failed = network.collect_garbage().unwrap();
        assert!(failed.is_empty(), "{failed:?}");
    });
    let config: Value = serde_json::from_str(&called(&lab, "GC.json").unwrap()).unwrap();
    let valid = serde_json::json!([{ "containerID": "two", "ifname": "eth0" }]);
    assert_eq!(config["cni.dev/valid-attachments"], valid);
    assert!(config.get("prevResult").is_none() && config["key"] == "value");
    let environment = called(&lab, "GC.env").unwrap();
    assert!(!environment.contains("CNI_CONTAINERID"), "{environment}");
    // Where it is switched off, and for older versions, there is none.
    std::fs::remove_file(lab.dir.path().join("calls/GC.json")).unwrap();
    for list in [
        recorder_of_1_1(r#","disableGC":true"#),
        recorder_of_1_1("").replace("1.1.0", "1.0.0"),
    ] {
        lab.conflist("10.conflist", &list);
        network.collect_garbage().unwrap();
    }
    assert_eq!(called(&lab, "GC.json"), None);
    lab.host
        .run(|| network.teardown(&attachment("two", None)).unwrap());
}

#[test]
fn no_pod_is_put_on_the_network_while_garbage_is_collected() {
    let Some(lab) = Lab::new() else { return };
    // Its GC waits to be let go, and says if anything else of it ran meanwhile.
    lab.script(
        "recorder",
        r#"#!/bin/sh
dir=$(dirname "$0")/../calls; mkdir -p "$dir"
[ "$CNI_COMMAND" = GC ] || { [ -e "$dir/collecting" ] && touch "$dir/beside"; }
cat > "$dir/$CNI_COMMAND.json"
[ "$CNI_COMMAND" = ADD ] && sed 's/.*"prevResult":\({.*}\),"type".*/\1/' "$dir/ADD.json"
[ "$CNI_COMMAND" = GC ] || exit 0
touch "$dir/collecting"; until [ -e "$dir/go" ]; do sleep 0.02; done; rm "$dir/collecting""#,
    );
    lab.conflist("10.conflist", &recorder_of_1_1(""));
    let network = lab.network();
    let calls = lab.dir.path().join("calls");
    let pod = Netns::new();
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| network.collect_garbage().unwrap());
        crate::common::eventually("garbage is collected", || calls.join("collecting").exists());
        let setup = scope.spawn(|| {
            let wish = pod.path();
            lab.host
                .run(|| network.setup(&attachment("pod", Some(&wish))).map(drop))
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(!setup.is_finished());
        std::fs::write(calls.join("go"), "").unwrap();
        assert!(collecting.join().unwrap().is_empty());
        setup.join().unwrap().unwrap();
    });
    assert!(calls.join("ADD.json").exists() && !calls.join("beside").exists());
    lab.host
        .run(|| network.teardown(&attachment("pod", None)).unwrap());
}

#[test]
fn a_networks_folder_has_further_plugins_unless_the_list_says_not() {
    let Some(lab) = Lab::new() else { return };
    lab.script("recorder", &recorder());
    lab.script(
        "first",
        "#!/bin/sh\ncat > $(dirname \"$0\")/../first; exit 0",
    );
    let list = |more: &str| {
        format!(
            r#"{{"cniVersion":"1.1.0","name":"folded"{more},"plugins":[
                {{"type":"bridge","bridge":"br-lab","isGateway":true,
                  "ipam":{{"type":"host-local","subnet":"10.98.0.0/24"}}}}]}}"#
        )
    };
    lab.conflist("10.conflist", &list(""));
    let network = lab.network();
    let setup = |id: &str| {
        let pod = Netns::new();
        lab.host.run(|| {
            network.setup(&attachment(id, Some(&pod.path()))).unwrap();
            network.teardown(&attachment(id, None)).unwrap();
        });
    };
    setup("a");
    assert_eq!(called(&lab, "ADD.json"), None);
    let folder = lab.config().conf_dir.join("folded");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("20-recorder.conf"),
        r#"{"type":"recorder","of":"folder"}"#,
    )
    .unwrap();
    std::fs::write(folder.join("ignored.txt"), "no plugin").unwrap();
    setup("b");
    let config: Value = serde_json::from_str(&called(&lab, "ADD.json").unwrap()).unwrap();
    assert_eq!(config["of"], "folder");
    // A file there that is damaged is the list's damage.
    std::fs::write(folder.join("10.conf"), "{").unwrap();
    let refused = network.status().unwrap_err().reason;
    assert!(
        refused.contains("folded") && refused.contains("10.conf"),
        "{refused}"
    );
    std::fs::remove_file(lab.dir.path().join("calls/ADD.json")).unwrap();
    lab.conflist("10.conflist", &list(r#","loadOnlyInlinedPlugins":true"#));
    setup("c");
    assert_eq!(called(&lab, "ADD.json"), None);
}
