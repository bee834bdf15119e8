//! config-linux.md, network devices. Each test is in a network namespace of its own, which stands for
//! the host's.

use std::process::Command;

use crate::support::Lab;
use rustix::thread::UnshareFlags;
use serde_json::json;

fn ip(words: &str) -> Result<String, String> {
    let mut command = Command::new("/bin/busybox");
    let out = command.arg("ip").args(words.split(' ')).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match out.status.success() {
        true => Ok(text(&out.stdout)),
        false => Err(format!("ip {words}: {}", text(&out.stderr))),
    }
}

/// This thread, and what it starts, in a new network namespace with a device of this name. The reason
/// if this kernel makes none.
fn host_with_device(name: &str) -> Option<String> {
    // SAFETY: a new network namespace changes only what this thread sees of the network.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    let made = ip(&format!("link add {name} type dummy"))
        .or_else(|_| ip(&format!("link add {name} type veth")));
    made.err()
}

macro_rules! needs_device {
    ($name:expr) => {
        needs_host!();
        if let Some(reason) = host_with_device($name) {
            eprintln!("SKIP: no device can be made: {reason}");
            return;
        }
    };
}

fn lab(devices: serde_json::Value) -> Lab {
    let mut lab = Lab::sh("ip address show");
    lab.config["linux"]["netDevices"] = devices;
    lab
}

#[test]
fn a_device_moves_in_with_name_addresses_mtu_and_hardware_address_and_comes_up() {
    needs_device!("dev0");
    ip("link set dev0 mtu 1400").unwrap();
    ip("link set dev0 address 02:11:22:33:44:55").unwrap();
    ip("addr add 192.0.2.7/24 broadcast 192.0.2.255 dev dev0").unwrap();
    ip("addr add 2001:db8::7/64 dev dev0").unwrap();
    ip("addr add 198.51.100.9/24 dev dev0 scope link").unwrap();
    let lab = lab(json!({ "dev0": { "name": "inside0" } }));
    let seen = lab.run().ok();
    for words in [
        "inside0",
        "mtu 1400",
        "02:11:22:33:44:55",
        "inet 192.0.2.7/24 brd 192.0.2.255",
        "inet6 2001:db8::7/64",
    ] {
        assert!(seen.contains(words), "{words} is not in {seen}");
    }
    let up = seen.lines().find(|line| line.contains("inside0")).unwrap();
    assert!(up.contains("UP"), "{up}");
    assert!(
        !seen.contains("198.51.100.9"),
        "not of global scope: {seen}"
    );
    assert!(ip("link show dev0").is_err(), "it has gone");
}

#[test]
fn a_container_that_fails_gives_the_device_back_as_it_was() {
    needs_device!("dev0");
    ip("addr add 192.0.2.7/24 dev dev0").unwrap();
    ip("link set dev0 up").unwrap();
    let mut lab = lab(json!({ "dev0": { "name": "inside0" } }));
    lab.config["process"]["args"] = json!(["/no/such/program"]);
    lab.run().fails("/no/such/program");
    let back = ip("addr show dev0").unwrap();
    assert!(back.contains("192.0.2.7/24"), "{back}");
    assert!(back.contains(",UP"), "{back}");
}

#[test]
fn devices_that_cannot_be_moved_are_refused_by_name() {
    needs_device!("dev0");
    lab(json!({ "dev1": {} }))
        .run()
        .fails("linux.netDevices: \"dev1\": link not found on runtime namespace");
    lab(json!({ "dev0": { "name": "a/b" } }))
        .run()
        .fails("linux.netDevices: invalid network device name \"a/b\"");
    lab(json!({ "dev0": { "name": "lo" } }))
        .run()
        .fails("linux.netDevices: move link dev0 to the namespace as lo");
    let mut shared = lab(json!({ "dev0": {} }));
    shared.namespace("network", None);
    shared
        .run()
        .fails("linux.netDevices: unable to move network devices without a private NET namespace");
    assert!(ip("link show dev0").is_ok(), "it has stayed");
}

#[test]
fn a_device_stays_in_a_namespace_that_was_joined() {
    needs_device!("dev0");
    let mut lab = lab(json!({ "dev0": {} }));
    let devices = lab.config["linux"]["netDevices"].take();
    lab.config["linux"]
        .as_object_mut()
        .unwrap()
        .remove("netDevices");
    lab.sleeper("holder");
    let netns = format!("/proc/{}/ns/net", lab.pid("holder"));
    lab.config["linux"]["netDevices"] = devices;
    lab.namespace("network", Some(&netns));
    lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/c", lab.name()));
    let seen = lab.prints("ip link show dev0");
    assert!(seen.contains("dev0"), "{seen}");
    let seen = lab.call(&["exec", "holder", "ip", "link", "show", "dev0"]);
    assert!(seen.ok().contains("dev0"));
}
