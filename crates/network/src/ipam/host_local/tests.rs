//! host-local against a real directory.

use std::ffi::CString;
use std::time::Duration;

use super::*;

fn local(dir: &Path, ipam: &str) -> HostLocal {
    parse(dir, None, ipam).unwrap()
}

fn parse(dir: &Path, host_local: Option<&Path>, ipam: &str) -> Result<HostLocal> {
    let ipam: Map<String, Value> = serde_json::from_str(ipam).unwrap();
    let places = Places {
        leases: dir.to_owned(),
        host_local: host_local.map(Path::to_owned),
        plugin_dirs: Vec::new(),
        plugin_timeout: Duration::from_secs(1),
    };
    HostLocal::parse(&ipam, "net", &places)
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
    let leases = dir.path().join("net");
    assert_eq!(
        error.to_string(),
        format!(
            "network \"net\": no free address in 10.1.0.1-10.1.0.2: {} has a file for each one in use",
            leases.display()
        )
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

/// Another tool, a power cut, a full disk, an administrator.
#[test]
fn files_that_are_no_leases_cost_their_address_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let local = local(
        dir.path(),
        r#"{"type":"host-local","subnet":"10.1.0.0/29"}"#,
    );
    let net = dir.path().join("net");
    fs::create_dir(&net).unwrap();
    fs::create_dir(net.join("10.1.0.2")).unwrap();
    fs::write(net.join("10.1.0.3"), [0xff, 0xfe, 0]).unwrap();
    let pipe = CString::new(net.join("10.1.0.4").into_os_string().into_encoded_bytes()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        pipe,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    fs::write(net.join("last_reserved_ip.0"), "nonsense").unwrap();
    fs::write(net.join("README"), "mine").unwrap();
    let result = local.add("a", "eth0").unwrap();
    assert_eq!(addresses(&result), ["10.1.0.5/29"]);
    let owners = local.leases.leases().unwrap();
    assert!(
        owners
            .iter()
            .any(|(ip, owner)| ip.to_string() == "10.1.0.5" && owner == "a")
    );
    local.del("a", None).unwrap();
    assert!(!net.join("10.1.0.5").exists());
    assert!(net.join("10.1.0.2").exists() && net.join("README").exists());
}

#[test]
fn an_address_whose_owner_died_before_it_wrote_its_id_is_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let local = local(
        dir.path(),
        r#"{"type":"host-local","subnet":"10.1.0.0/30"}"#,
    );
    fs::create_dir(dir.path().join("net")).unwrap();
    fs::write(dir.path().join("net/10.1.0.2"), "").unwrap();
    assert_eq!(addresses(&local.add("a", "eth0").unwrap()), ["10.1.0.2/30"]);
    assert!(matches!(
        local.add("b", "eth0"),
        Err(Error::Exhausted { .. })
    ));
    assert_eq!(local.leases.leases().unwrap().len(), 1);
}

/// Set for the process of [`a_kill_at_the_first_byte_leaves_no_address_of_nobodys`] that is killed.
const KILLED_IN: &str = "FLOE_TEST_KILLED_IN";

#[test]
fn a_kill_at_the_first_byte_leaves_no_address_of_nobodys() {
    let ipam = r#"{"type":"host-local","subnet":"10.1.0.0/24"}"#;
    if let Some(dir) = std::env::var_os(KILLED_IN) {
        local(Path::new(&dir), ipam).add("a", "eth0").unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (program, test) = (std::env::current_exe().unwrap(), std::thread::current());
    // SIGXFSZ comes with the first byte that is written to a file.
    let killed = std::process::Command::new("prlimit")
        .args(["--core=0", "--fsize=0"])
        .arg(program)
        .args(["--exact", test.name().unwrap()])
        .env(KILLED_IN, dir.path())
        .output()
        .unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&killed.status);
    assert_eq!(signal, Some(libc::SIGXFSZ), "{killed:?}");
    let net = dir.path().join("net");
    let names = || {
        fs::read_dir(&net)
            .unwrap()
            .map(|one| one.unwrap().file_name())
    };
    let address = |name: &std::ffi::OsString| name.to_str()?.parse::<IpAddr>().ok();
    assert_eq!(names().find_map(|name| address(&name)), None);
    let local = local(dir.path(), ipam);
    let result = local.add("b", "eth0").unwrap();
    assert_eq!(addresses(&result), ["10.1.0.2/24"]);
    local.del("b", None).unwrap();
    assert_eq!(names().find_map(|name| address(&name)), None);
}

/// A file system of a few pages; gone with this value.
struct Small(PathBuf);

impl Small {
    fn mount(dir: &Path) -> Option<Small> {
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("tmpfs", dir, "tmpfs", flags, Some(c"size=64k")) {
            Ok(()) => Some(Small(dir.to_owned())),
            Err(errno) => {
                eprintln!("SKIP: a tmpfs cannot be mounted: {errno}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn on_a_full_disk_addresses_are_refused_with_the_reason_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_small) = Small::mount(dir.path()) else {
        return;
    };
    let local = local(
        dir.path(),
        r#"{"type":"host-local","subnet":"10.1.0.0/24"}"#,
    );
    let first = local.add("a", "eth0").unwrap();
    let mut full = fs::File::create(dir.path().join("full")).unwrap();
    while std::io::Write::write(&mut full, &[0; 4096]).is_ok() {}
    let error = local.add("b", "eth0").unwrap_err();
    assert!(
        matches!(&error, Error::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{error}"
    );
    assert!(error.to_string().contains("/net/10.1.0.3"), "{error}");
    assert!(
        !dir.path().join("net/10.1.0.3").exists(),
        "nothing is left of it"
    );
    local.del("a", Some(&first)).unwrap();
    assert_eq!(local.leases.leases().unwrap(), []);
    drop(full);
    fs::remove_file(dir.path().join("full")).unwrap();
    local.add("b", "eth0").unwrap();
}

/// Two engines, or an engine and the plugin of the same name.
#[test]
fn two_that_share_a_directory_never_give_one_address_twice() {
    let dir = tempfile::tempdir().unwrap();
    let both = [(); 2].map(|()| {
        local(
            dir.path(),
            r#"{"type":"host-local","subnet":"10.1.0.0/24"}"#,
        )
    });
    let mut all: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = both
            .iter()
            .enumerate()
            .map(|(who, local)| {
                let add = move |n| addresses(&local.add(&format!("{who}-{n}"), "eth0").unwrap());
                scope.spawn(move || (0..60).flat_map(add).collect::<Vec<_>>())
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 120);
}

#[test]
fn what_another_engines_pods_have_is_not_given_out_and_ours_is_seen_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let (own, shared) = (dir.path().join("own"), dir.path().join("shared"));
    let ipam = r#"{"type":"host-local","subnet":"10.1.0.0/29"}"#;
    fs::create_dir_all(shared.join("net")).unwrap();
    fs::write(shared.join("net/10.1.0.2"), "theirs\r\neth0").unwrap();
    let here = parse(&own, Some(&shared), ipam).unwrap();
    let result = here.add("a", "eth0").unwrap();
    assert_eq!(addresses(&result), ["10.1.0.3/29"]);
    let seen = fs::read_to_string(shared.join("net/10.1.0.3")).unwrap();
    assert!(seen.starts_with("a\r\neth0\r\nfloe "), "{seen}");
    // Another engine of floe's, with a place of its own.
    let other = parse(&dir.path().join("other"), Some(&shared), ipam).unwrap();
    assert_eq!(addresses(&other.add("b", "eth0").unwrap()), ["10.1.0.4/29"]);
    here.del("a", Some(&result)).unwrap();
    assert!(!shared.join("net/10.1.0.3").exists());
    here.del("theirs", None).unwrap();
    assert!(shared.join("net/10.1.0.2").exists());
}

#[test]
fn addresses_of_pods_before_the_last_boot_are_free() {
    let dir = tempfile::tempdir().unwrap();
    let (own, shared) = (dir.path().join("own"), dir.path().join("shared"));
    let ipam = r#"{"type":"host-local","subnet":"10.1.0.0/30"}"#;
    let here = parse(&own, Some(&shared), ipam).unwrap();
    here.add("a", "eth0").unwrap();
    here.add("b", "eth0").unwrap_err();
    // A reboot leaves what is not on a tmpfs.
    fs::remove_dir_all(&own).unwrap();
    assert_eq!(addresses(&here.add("b", "eth0").unwrap()), ["10.1.0.2/30"]);
    let seen = fs::read_to_string(shared.join("net/10.1.0.2")).unwrap();
    assert!(seen.starts_with("b\r\n"), "{seen}");
}
