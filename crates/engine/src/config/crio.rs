//! The keys of crio.conf that floe does not act on, and why. CRI-O 1.18 to 1.36, crio.conf(5).
//!
//! A key belongs here or in `tables`, so that nobody is warned of a file that says what floe does
//! anyway. What stands in neither is a mistake, or newer than this list.

use super::runtimes;
use super::workload::Workload;

/// Why floe does not act on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No key of CRI-O and none of floe's.
    Unknown,
    /// Set so that floe does the same, or about something that floe does not have.
    Moot(&'static str),
    /// CRI-O would act on this value, and floe does not.
    Ignored(&'static str),
}

/// A key, why it is not used, and the values (as TOML) with which that changes nothing; none: any.
type Entry = (&'static str, &'static str, &'static [&'static str]);

const STORE: &str = "floe has a store of its own";
const MONITOR: &str = "floe has no monitor beside its supervisors";
const PAUSE: &str = "floe's pods have no pause container";
const STATE: &str = "floe keeps its state elsewhere and clears it by itself";
const HOST_IP: &str = "kubelet knows the addresses of the node";
const NAMESPACES: &str = "namespaces live in the pods' supervisors";
const LABELS: &str = "floe sets labels and profiles only where a pod asks for one";
const USERS: &str = "a pod has a user namespace where its request or the annotation userns-mode.crio.io asks for one";
const IRQ: &str = "interrupts are left as the node has them";
const NOT_BUILT: &str = "not built";

const ENTRIES: &[Entry] = &[
    ("imagestore", STORE, &["''"]),
    ("storage_driver", STORE, &[]),
    ("storage_option", STORE, &[]),
    ("version_file", STATE, &[]),
    ("version_file_persist", STATE, &[]),
    ("clean_shutdown_file", STATE, &[]),
    ("internal_wipe", STATE, &[]),
    ("internal_repair", STATE, &[]),
    ("api.host_ip", HOST_IP, &[]),
    ("runtime.no_pivot", "floe-runtime always pivots", &["false"]),
    ("runtime.selinux", LABELS, &["false"]),
    ("runtime.seccomp_use_default_when_empty", LABELS, &[]),
    (
        "runtime.log_to_journald",
        "container logs are files, which kubelet and collectors read",
        &["false"],
    ),
    ("runtime.drop_infra_ctr", PAUSE, &[]),
    ("runtime.conmon", MONITOR, &[]),
    ("runtime.conmon_cgroup", MONITOR, &[]),
    ("runtime.conmon_env", MONITOR, &[]),
    ("runtime.container_exits_dir", STATE, &[]),
    ("runtime.container_attach_socket_dir", STATE, &[]),
    ("runtime.namespaces_dir", NAMESPACES, &[]),
    ("runtime.pinns_path", NAMESPACES, &[]),
    ("runtime.manage_ns_lifecycle", NAMESPACES, &[]),
    ("runtime.manage_network_ns_lifecycle", NAMESPACES, &[]),
    (
        "runtime.decryption_keys_path",
        "encrypted layers are not read: such an image is refused",
        &["''", "'/etc/crio/keys/'"],
    ),
    ("runtime.additional_artifact_stores", NOT_BUILT, &["[]"]),
    (
        "runtime.blockio_reload",
        "blockio_config_file is read at each use",
        &[],
    ),
    (
        "runtime.rdt_config_file",
        "no classes are made in resctrl: CDI devices may name those that are there",
        &["''"],
    ),
    (
        "runtime.irqbalance_config_file",
        IRQ,
        &["''", "'/etc/sysconfig/irqbalance'"],
    ),
    (
        "runtime.irqbalance_config_restore_file",
        IRQ,
        &["''", "'disable'", "'/etc/sysconfig/orig_irq_banned_cpus'"],
    ),
    (
        "runtime.default_mounts",
        "the file that default_mounts_file names has them",
        &["[]"],
    ),
    ("runtime.uid_mappings", USERS, &["''"]),
    ("runtime.gid_mappings", USERS, &["''"]),
    ("runtime.minimum_mappable_uid", USERS, &["-1"]),
    ("runtime.minimum_mappable_gid", USERS, &["-1"]),
    (
        "runtime.ctr_stop_timeout",
        "a client says how long a stop may take",
        &[],
    ),
    (
        "runtime.separate_pull_cgroup",
        "images are pulled in the engine's own cgroup",
        &["''"],
    ),
    (
        "runtime.shared_cpuset",
        "a container with processors of its own has those alone",
        &["''"],
    ),
    (
        "image.default_transport",
        "images come from registries",
        &["''", "'docker://'"],
    ),
    ("image.pause_image", PAUSE, &[]),
    ("image.pause_image_auth_file", PAUSE, &[]),
    ("image.pause_command", PAUSE, &[]),
    (
        "image.registries",
        "registries.conf has the registries of short names",
        &["[]"],
    ),
    (
        "image.big_files_temporary_dir",
        "nothing is staged outside the store",
        &[],
    ),
    (
        "image.auto_reload_registries",
        "registries.conf is read again whenever it changes",
        &[],
    ),
    (
        "image.pull_progress_timeout",
        "stalled downloads are given up and resumed anyway",
        &[],
    ),
    (
        "image.oci_artifact_mount_support",
        "artifacts can be volumes in any case",
        &["true"],
    ),
    (
        "image.short_name_mode",
        "registries.conf has the mode of short names",
        &["''", "'enforcing'"],
    ),
    (
        "network.cni_status_grace_period",
        "a plugin that is not ready makes the network not ready at once",
        &["0", "''", "'0s'"],
    ),
];

/// Why floe does not act on this key with this value; `None`: it does.
pub(super) fn why(key: &str, value: &toml::Value) -> Option<Why> {
    if let Some(workload) = key.strip_prefix("runtime.workloads.") {
        return of_workload(workload);
    }
    let entry = key.strip_prefix("runtime.runtimes.");
    match entry.and_then(|entry| entry.split_once('.')) {
        Some((_name, key)) => runtimes::why(key, value),
        None => Some(of_table(key, value)),
    }
}

/// `key` begins with the workload's name.
fn of_workload(key: &str) -> Option<Why> {
    let used = toml::Table::try_from(Workload::default()).unwrap_or_default();
    let field = key.split('.').skip(1).find(|part| used.contains_key(*part));
    field.is_none().then_some(Why::Unknown)
}

fn of_table(key: &str, value: &toml::Value) -> Why {
    let entry = ENTRIES.iter().find(|(name, ..)| *name == key);
    let Some((_, reason, same)) = entry else {
        return Why::Unknown;
    };
    let is_same = |text: &&str| read(text).is_some_and(|same| same == *value);
    match same.is_empty() || same.iter().any(is_same) {
        true => Why::Moot(reason),
        false => Why::Ignored(reason),
    }
}

fn read(text: &str) -> Option<toml::Value> {
    let mut table: toml::Table = format!("x = {text}").parse().ok()?;
    table.remove("x")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn the_list_reads_well_and_holds_no_key_that_is_used() {
        let used = Config::known_keys();
        for (index, (key, _, same)) in ENTRIES.iter().enumerate() {
            assert!(!used.contains(*key), "{key} is used");
            assert!(
                ENTRIES[..index].iter().all(|(other, ..)| other != key),
                "{key} twice"
            );
            for text in *same {
                assert!(read(text).is_some(), "{key}: {text}");
            }
        }
    }
}
