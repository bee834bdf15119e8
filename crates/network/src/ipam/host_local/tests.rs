//! host-local against a real directory.

use super::*;

fn local(dir: &Path, ipam: &str) -> HostLocal {
    let ipam: Map<String, Value> = serde_json::from_str(ipam).unwrap();
    HostLocal::parse(&ipam, "net", dir).unwrap()
}

fn addresses(result: &CniResult) -> Vec<String> {
    result.ips.iter().map(|ip| ip.address.to_string()).collect()
}

#[test]
fn a_pod_gets_one_address_of_each_family_and_files_as_host_local_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let local = local(
        dir.path(),
        r#"{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]],
            "routes":[{"dst":"0.0.0.0/0"}]}"#,
    );
    let result = local.add("pod-a", "eth0").unwrap();
    assert_eq!(addresses(&result), ["10.1.0.2/24", "fd00::2/64"]);
    assert_eq!(result.routes.len(), 1);
    let file = |name: &str| fs::read_to_string(dir.path().join("net").join(name)).unwrap();
    assert_eq!(file("10.1.0.2"), "pod-a\r\neth0");
    assert_eq!(file("fd00::2"), "pod-a\r\neth0");
    assert_eq!(file("last_reserved_ip.0"), "10.1.0.2");
}

#[test]
fn a_released_address_is_not_reused_before_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let local = local(
        dir.path(),
        r#"{"type":"host-local","subnet":"10.1.0.0/29"}"#,
    );
    let first = local.add("a", "eth0").unwrap();
    local.del("a", Some(&first)).unwrap();
    assert_eq!(addresses(&local.add("b", "eth0").unwrap()), ["10.1.0.3/29"]);
}

#[test]
fn exhaustion_is_a_clear_error_and_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let local = local(
        dir.path(),
        r#"{"type":"host-local","ranges":[[{"subnet":"fd00::/64"}],[{"subnet":"10.1.0.0/30"}]]}"#,
    );
    local.add("a", "eth0").unwrap();
    let error = local.add("b", "eth0").unwrap_err();
    assert_eq!(
        error.to_string(),
        "network \"net\": no free address in 10.1.0.1-10.1.0.2"
    );
    let owners: Vec<_> = local
        .leases
        .leases()
        .unwrap()
        .into_iter()
        .map(|lease| lease.1)
        .collect();
    assert_eq!(owners, ["a", "a"], "the IPv6 address of b was given back");
}

#[test]
fn an_owner_without_result_is_released_by_id_and_others_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let local = local(
        dir.path(),
        r#"{"type":"host-local","subnet":"10.1.0.0/24"}"#,
    );
    local.add("a", "eth0").unwrap();
    local.add("b", "eth0").unwrap();
    local.del("a", None).unwrap();
    local.del("a", None).unwrap();
    let owners: Vec<_> = local
        .leases
        .leases()
        .unwrap()
        .into_iter()
        .map(|lease| lease.1)
        .collect();
    assert_eq!(owners, ["b"]);
}

#[test]
fn an_address_of_another_pod_is_never_released() {
    let dir = tempfile::tempdir().unwrap();
    let local = local(
        dir.path(),
        r#"{"type":"host-local","subnet":"10.1.0.0/24"}"#,
    );
    let result = local.add("a", "eth0").unwrap();
    local.del("b", Some(&result)).unwrap();
    assert_eq!(local.leases.leases().unwrap().len(), 1);
}

#[test]
fn concurrent_pods_never_share_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let local = local(
        dir.path(),
        r#"{"type":"host-local","subnet":"10.1.0.0/24"}"#,
    );
    let mut all: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let local = &local;
                scope.spawn(move || {
                    let add = |n| addresses(&local.add(&format!("{thread}-{n}"), "eth0").unwrap());
                    (0..20).flat_map(add).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 160);
}

#[test]
fn data_dir_and_resolv_conf_of_the_configuration_are_honoured() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let resolv = dir.path().join("resolv.conf");
    fs::write(
        &resolv,
        "# x\nnameserver 10.0.0.53\nsearch a.example b.example\noptions ndots:2\n",
    )
    .unwrap();
    let ipam = serde_json::json!({
        "type": "host-local", "subnet": "10.1.0.0/24", "dataDir": data, "resolvConf": resolv,
    });
    let local = local(&dir.path().join("other"), &ipam.to_string());
    let result = local.add("a", "eth0").unwrap();
    assert!(data.join("net/10.1.0.2").exists());
    assert!(!dir.path().join("other").exists());
    assert_eq!(result.dns.nameservers, ["10.0.0.53"]);
    assert_eq!(result.dns.search, ["a.example", "b.example"]);
    assert_eq!(result.dns.options, ["ndots:2"]);
}
