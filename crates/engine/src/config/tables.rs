//! One struct per table of the configuration, with its defaults and its checks. The names are
//! crio.conf's; a key that CRI-O does not have says so.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::checkpoint::CheckpointRestore;
use super::compat::Compat;
use super::metrics::{Metrics, Stats};
use super::nri::Nri;
use super::runtimes::{self, RuntimeEntry};
use super::tracing::Tracing;
use super::workload::Workload;

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `[crio]`
    #[serde(flatten)]
    pub root_table: Root,
    /// `[crio.api]`
    pub api: Api,
    /// `[crio.runtime]`
    pub runtime: Runtime,
    /// `[crio.image]`
    pub image: Image,
    /// `[crio.network]`
    pub network: Network,
    /// `[crio.stats]`
    pub stats: Stats,
    /// `[crio.metrics]`
    pub metrics: Metrics,
    /// `[crio.tracing]`
    pub tracing: Tracing,
    /// `[floe.compat]` (not a table of CRI-O)
    pub compat: Compat,
    /// `[crio.nri]`
    pub nri: Nri,
    /// `[crio.checkpoint_restore]`
    pub checkpoint_restore: CheckpointRestore,
}

/// `[crio]`: where things are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// The store: images and writable layers. Survives a reboot.
    pub root: PathBuf,
    /// State of pods and containers; on tmpfs.
    pub runroot: PathBuf,
    /// Where logs go when a pod gives no directory.
    pub log_dir: PathBuf,
    /// Roots of other stores of floe, whose images are seen and never written (floe's own key, as in
    /// storage.conf).
    pub additionalimagestores: Vec<PathBuf>,
}

impl Default for Root {
    fn default() -> Self {
        Self {
            root: "/var/lib/floe".into(),
            runroot: "/run/floe".into(),
            log_dir: "/var/log/floe/pods".into(),
            additionalimagestores: Vec::new(),
        }
    }
}

/// `[crio.api]`: the CRI socket, and where clients of Exec, Attach and PortForward come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Api {
    /// Path of the unix socket.
    pub listen: PathBuf,
    /// Largest request in bytes; 0 and less: the default.
    #[serde(deserialize_with = "size")]
    pub grpc_max_recv_msg_size: usize,
    /// Largest answer in bytes; 0 and less: the default.
    #[serde(deserialize_with = "size")]
    pub grpc_max_send_msg_size: usize,
    /// Where streams are served; empty or `localhost`: 127.0.0.1.
    pub stream_address: String,
    /// Their port; 0 or empty: any.
    pub stream_port: String,
    /// Streams are served over TLS.
    pub stream_enable_tls: bool,
    /// Their certificate with those between it and the CA, PEM; read again when it changes.
    pub stream_tls_cert: PathBuf,
    /// Its private key, PEM; likewise.
    pub stream_tls_key: PathBuf,
    /// CAs that must have signed each client's certificate, PEM; empty: clients show none.
    pub stream_tls_ca: PathBuf,
    /// The oldest version of TLS that they are served with: `VersionTLS12` or `VersionTLS13`.
    pub tls_min_version: String,
    /// The cipher suites of TLS 1.2, by the names that Go has for them; empty: all that are held for safe.
    pub tls_cipher_suites: Vec<String>,
    /// How long a stream may carry nothing, as Go writes durations; empty or 0: four hours.
    pub stream_idle_timeout: String,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: "/run/floe/floe.sock".into(),
            grpc_max_recv_msg_size: MESSAGE_MAX,
            grpc_max_send_msg_size: MESSAGE_MAX,
            stream_address: "127.0.0.1".to_owned(),
            stream_port: "0".to_owned(),
            stream_enable_tls: false,
            stream_tls_cert: PathBuf::new(),
            stream_tls_key: PathBuf::new(),
            stream_tls_ca: PathBuf::new(),
            tls_min_version: "VersionTLS12".to_owned(),
            tls_cipher_suites: Vec::new(),
            stream_idle_timeout: String::new(),
        }
    }
}

/// What kubelet's own streaming server has.
const STREAM_IDLE: Duration = Duration::from_secs(4 * 60 * 60);

impl Api {
    /// Where streams are served.
    ///
    /// # Errors
    /// No address, or no port.
    pub fn stream_socket(&self) -> Result<SocketAddr, String> {
        let address = match self.stream_address.as_str() {
            "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            address => address
                .parse()
                .map_err(|_| format!("crio.api.stream_address: {address:?} is no IP address"))?,
        };
        let port = match self.stream_port.as_str() {
            "" => 0,
            port => port
                .parse()
                .map_err(|_| format!("crio.api.stream_port: {port:?} is no port"))?,
        };
        Ok(SocketAddr::new(address, port))
    }

    /// Streams over TLS need a certificate and its key.
    fn check_tls(&self) -> Result<(), String> {
        if !self.stream_enable_tls {
            return Ok(());
        }
        for (key, path) in [
            ("crio.api.stream_tls_cert", &self.stream_tls_cert),
            ("crio.api.stream_tls_key", &self.stream_tls_key),
        ] {
            absolute(key, path)?;
        }
        Ok(())
    }

    /// How long a stream may carry nothing.
    ///
    /// # Errors
    /// What is no duration.
    pub fn stream_idle(&self) -> Result<Duration, String> {
        if self.stream_idle_timeout.is_empty() {
            return Ok(STREAM_IDLE);
        }
        let text = &self.stream_idle_timeout;
        let idle = base::time::go_duration(text)
            .ok_or_else(|| format!("crio.api.stream_idle_timeout: {text:?} is no duration"))?;
        Ok(if idle.is_zero() { STREAM_IDLE } else { idle })
    }
}

const MESSAGE_MAX: usize = 80 * 1024 * 1024;

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let size = usize::try_from(number).unwrap_or_default();
    Ok(if size == 0 { MESSAGE_MAX } else { size })
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// Not given.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// floe writes to the cgroup file system.
    Cgroupfs,
    /// systemd makes slices and scopes.
    Systemd,
}

/// What becomes of the volumes that an image declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageVolumes {
    /// They are directories of the container's root, made if they are missing.
    #[default]
    #[serde(alias = "")]
    Mkdir,
    /// Each is a directory of its own, empty at first, which goes with the container.
    Bind,
    /// Nothing.
    Ignore,
}

/// The least `log_limit`: a few lines of the longest, and what is said of others.
const LOG_LIMIT_LEAST: i64 = 64 << 10;

/// `[crio.runtime]`: how containers are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// Who makes cgroups; not given: systemd where that is the node's init, as with CRI-O, else `cgroupfs`.
    pub cgroup_manager: CgroupManager,
    /// Parent cgroup of pods that name none, a slice with systemd; empty: `/floe`, or `floe.slice` (not a
    /// key of CRI-O).
    pub cgroup_parent: String,
    /// Capabilities of a container that asks for nothing.
    pub default_capabilities: Vec<String>,
    /// `NAME=VALUE` for every container.
    pub default_env: Vec<String>,
    /// A container that asks for capabilities has them in its inheritable set, too.
    pub add_inheritable_capabilities: bool,
    /// `GOMAXPROCS` of containers of burstable and best-effort pods without a limit of processor time: twice what
    /// they ask for, and this at least; 0: it is not set.
    pub min_injected_gomaxprocs: i64,
    /// Devices of every container, `PATH[:PATH][:MODE]`.
    pub additional_devices: Vec<String>,
    /// Devices that a pod's annotation `devices.crio.io` may ask for.
    pub allowed_devices: Vec<PathBuf>,
    /// The device nodes that a container asks for belong to its `run_as_user` and `run_as_group`.
    pub device_ownership_from_security_context: bool,
    /// Lines `PATH:PATH` of mounts that every container gets, read-only: on the node and inside; empty:
    /// /etc/containers/mounts.conf, or else /usr/share/containers/mounts.conf.
    pub default_mounts_file: PathBuf,
    /// What comes before the paths of mounts on the node, where kubelet sees another root.
    pub bind_mount_prefix: PathBuf,
    /// Paths on the node that are never made where a mount asks for one that is missing; no path is, unless
    /// `make_mount_sources` of `[floe.compat]` is true.
    pub absent_mount_sources_to_reject: Vec<PathBuf>,
    /// seccomp profile (JSON) of privileged containers; empty or `unconfined`: none.
    pub privileged_seccomp_profile: String,
    /// Containers on the node's network get no SELinux label.
    pub hostnetwork_disable_selinux: bool,
    /// File (YAML) of classes of block I/O, which annotations give to containers; empty: none.
    pub blockio_config_file: PathBuf,
    /// Processors of the pods' supervisors, a list of ranges; empty: all.
    pub infra_ctr_cpuset: String,
    /// Directories of CDI files; a later one wins.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// `NAME=VALUE`, set in every pod that has the namespace for it.
    pub default_sysctls: Vec<String>,
    /// `NAME=SOFT:HARD`
    pub default_ulimits: Vec<String>,
    /// Greatest number of processes of a container; 0 and less: no limit.
    pub pids_limit: i64,
    /// seccomp profile (JSON) to use as RuntimeDefault; empty: floe's own.
    pub seccomp_profile: String,
    /// AppArmor profile to use as RuntimeDefault: `floe-default` and `crio-default` are floe's own, which it
    /// loads; any other must be loaded; `unconfined` is none.
    pub apparmor_profile: String,
    /// Every root file system read-only.
    pub read_only: bool,
    /// Greatest size of a container log in bytes; 0 and less: no limit.
    pub log_size_max: i64,
    /// Bytes that a container's log may have until it is rotated: what comes then is counted, and not kept; 0 and
    /// less: no limit (not a key of CRI-O).
    pub log_limit: i64,
    /// Bytes of its disk that no log uses up; 0 and less: none (not a key of CRI-O).
    pub log_disk_reserve: i64,
    /// What `floe serve` logs, if its command line does not say.
    pub log_level: String,
    /// Only lines of the log that this regular expression fits are written; empty: all.
    pub log_filter: String,
    /// Host ports of pods are not forwarded: something else does it.
    pub disable_hostport_mapping: bool,
    /// Checkpoints may be taken; false: whatever `[crio.checkpoint_restore]` says.
    pub enable_criu_support: bool,
    /// GetContainerEvents is served, and PodSandboxStatus has what kubelet needs with it (CRI-O's default is
    /// false: there, events cost something with nobody subscribed).
    pub enable_pod_events: bool,
    /// Directories of hooks (oci-hooks(5)): programs that run at stages of the containers that their files name.
    pub hooks_dir: Vec<PathBuf>,
    /// Time zone of containers that mount no /etc/localtime: a name such as `Europe/Berlin`, or `local` for the
    /// node's; empty: what the image has.
    pub timezone: String,
    /// Resources of containers of marked pods, by a name.
    pub workloads: BTreeMap<String, Workload>,
    /// Size of a pod's /dev/shm in bytes (not a key of CRI-O).
    pub shm_size: u64,
    /// The program `floe-runtime`; empty: beside the running program, then on PATH (not a key of CRI-O).
    pub runtime_path: PathBuf,
    /// The runtime handler of pods that choose none; empty: the built-in one.
    pub default_runtime: String,
    /// The runtime handlers by name, beside the built-in one.
    pub runtimes: BTreeMap<String, RuntimeEntry>,
}

impl Default for Runtime {
    fn default() -> Self {
        let capabilities = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "SETGID",
            "SETUID",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "KILL",
        ];
        Self {
            cgroup_manager: CgroupManager::default(),
            cgroup_parent: String::new(),
            default_capabilities: capabilities.map(String::from).to_vec(),
            default_env: Vec::new(),
            cdi_spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).into(),
            add_inheritable_capabilities: false,
            min_injected_gomaxprocs: 0,
            additional_devices: Vec::new(),
            allowed_devices: ["/dev/fuse", "/dev/net/tun"].map(PathBuf::from).into(),
            device_ownership_from_security_context: false,
            default_mounts_file: PathBuf::new(),
            bind_mount_prefix: PathBuf::new(),
            absent_mount_sources_to_reject: Vec::new(),
            privileged_seccomp_profile: String::new(),
            hostnetwork_disable_selinux: true,
            blockio_config_file: PathBuf::new(),
            infra_ctr_cpuset: String::new(),
            default_sysctls: Vec::new(),
            default_ulimits: Vec::new(),
            pids_limit: 0,
            seccomp_profile: String::new(),
            apparmor_profile: runtime::apparmor::DEFAULT_PROFILE.into(),
            read_only: false,
            log_size_max: 0,
            log_limit: 1 << 30,
            log_disk_reserve: 256 << 20,
            log_level: "info".into(),
            log_filter: String::new(),
            disable_hostport_mapping: false,
            enable_criu_support: true,
            enable_pod_events: true,
            hooks_dir: vec!["/usr/share/containers/oci/hooks.d".into()],
            timezone: String::new(),
            workloads: BTreeMap::new(),
            shm_size: 64 * 1024 * 1024,
            runtime_path: PathBuf::new(),
            default_runtime: String::new(),
            runtimes: BTreeMap::new(),
        }
    }
}

/// `[crio.image]`: where images come from and what is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// policy.json; empty: /etc/containers/policy.json.
    pub signature_policy: PathBuf,
    /// Policies of single Kubernetes namespaces, `NAMESPACE.json`, which hold instead of it there.
    pub signature_policy_dir: PathBuf,
    /// auth.json used when the request brings no credentials; empty: the usual places.
    pub global_auth_file: PathBuf,
    /// Where kubelet's credential provider leaves an auth.json for one pull of one namespace,
    /// `NAMESPACE-SHA256(IMAGE).json`; empty: nowhere.
    pub namespaced_auth_dir: PathBuf,
    /// registries.conf; empty: what `CONTAINERS_REGISTRIES_CONF` names, the user's, or the system's (not
    /// a key of CRI-O, which does that always).
    pub registries_conf: PathBuf,
    /// Drop-ins of registries.conf; empty: the system's and the user's (not a key of CRI-O).
    pub registries_conf_dir: PathBuf,
    /// Short names that a user has chosen, as other tools write them down; empty: the user's, or root's (not a key of
    /// CRI-O).
    pub short_name_alias_conf: PathBuf,
    /// Where signatures are; empty: the user's and the system's registries.d (not a key of CRI-O).
    pub registries_d_dir: PathBuf,
    /// certs.d (not a key of CRI-O).
    pub certs_dir: PathBuf,
    /// Images that kubelet's garbage collection leaves alone: names, beginnings (`quay.io/x*`), or words in them
    /// (`*x*`), whatever their case.
    pub pinned_images: Vec<String>,
    /// Volumes that images declare: `mkdir`: directories of the container's root, made for its user if they are
    /// missing; `bind`: each a directory of its own, empty at first, which goes with the container; `ignore`.
    pub image_volumes: ImageVolumes,
    /// Registries that may speak plain HTTP and show any certificate, beside those of registries.conf.
    pub insecure_registries: Vec<String>,
    /// Where archives and layouts of images are laid that are taken into the store, and pinned while they lie there;
    /// empty: nowhere (not a key of CRI-O).
    pub images_dir: PathBuf,
    /// Nodes that are asked for layers before the registry: `HOST[:PORT]`, where all addresses of a name count, which
    /// are looked up again and again; port 5001 if none is given (not a key of CRI-O).
    pub peers: Vec<String>,
    /// `IP:PORT` on which this node serves the layers of its images to its peers; empty: nowhere (not a key of CRI-O).
    pub peers_listen: String,
    /// Its certificate there, PEM; empty: plain HTTP (not a key of CRI-O).
    pub peers_tls_cert: PathBuf,
    /// Its private key, PEM (not a key of CRI-O).
    pub peers_tls_key: PathBuf,
    /// CAs that must have signed each peer's certificate, PEM; empty: peers show none (not a key of CRI-O).
    pub peers_tls_ca: PathBuf,
    /// Directory with the CAs of peers that are asked (`*.crt`), and this node's certificate to them (`*.cert`, `*.key`);
    /// empty: they speak plain HTTP (not a key of CRI-O).
    pub peers_certs_dir: PathBuf,
    /// How long the compressed blobs of layers are kept: `always`, `until-unpacked`, or a number of days such
    /// as `7d` (not a key of CRI-O).
    pub keep_blobs: String,
    /// How the layers lie that are pulled: `unpacked`, `erofs`, or `auto`, which is `erofs` where that can be had (not
    /// a key of CRI-O).
    pub layer_form: String,
    /// Images whose layers are unpacked whatever `layer_form` says, as `pinned_images` names them (not a key of
    /// CRI-O).
    pub unpacked_images: Vec<String>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            signature_policy: "/etc/containers/policy.json".into(),
            signature_policy_dir: "/etc/crio/policies".into(),
            global_auth_file: PathBuf::new(),
            namespaced_auth_dir: "/etc/crio/auth".into(),
            registries_conf: PathBuf::new(),
            registries_conf_dir: PathBuf::new(),
            short_name_alias_conf: PathBuf::new(),
            registries_d_dir: PathBuf::new(),
            certs_dir: "/etc/containers/certs.d".into(),
            pinned_images: Vec::new(),
            image_volumes: ImageVolumes::Mkdir,
            insecure_registries: Vec::new(),
            images_dir: PathBuf::new(),
            peers: Vec::new(),
            peers_listen: String::new(),
            peers_tls_cert: PathBuf::new(),
            peers_tls_key: PathBuf::new(),
            peers_tls_ca: PathBuf::new(),
            peers_certs_dir: PathBuf::new(),
            keep_blobs: "always".into(),
            layer_form: "auto".into(),
            unpacked_images: Vec::new(),
        }
    }
}

impl Image {
    /// Where layers are served to peers; `None`: nowhere.
    ///
    /// # Errors
    /// What is no address with a port, or a certificate without its key.
    pub fn peers_socket(&self) -> Result<Option<SocketAddr>, String> {
        let is_empty = |path: &Path| path.as_os_str().is_empty();
        if is_empty(&self.peers_tls_cert) != is_empty(&self.peers_tls_key) {
            return Err("crio.image.peers_tls_cert and peers_tls_key go together".to_owned());
        }
        let text = &self.peers_listen;
        if text.is_empty() {
            return Ok(None);
        }
        let parsed = text.parse().map(Some);
        parsed.map_err(|_| format!("crio.image.peers_listen: {text:?} is no IP:PORT"))
    }

    /// How long the compressed blobs of layers are kept.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn keep_blobs(&self) -> Result<store::KeepBlobs, String> {
        let parsed = self.keep_blobs.parse();
        parsed.map_err(|reason| format!("crio.image.keep_blobs: {reason}"))
    }

    /// The form that layers get which are pulled.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn layer_form(&self) -> Result<store::WantedForm, String> {
        let parsed = self.layer_form.parse();
        parsed.map_err(|reason| format!("crio.image.layer_form: {reason}"))
    }
}

/// `[crio.network]`: CNI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Directory of conflists.
    pub network_dir: PathBuf,
    /// Directories of external plugins.
    pub plugin_dirs: Vec<PathBuf>,
    /// One more: the older spelling.
    pub plugin_dir: PathBuf,
    /// Name of the conflist to use; empty: the first.
    pub cni_default_network: String,
    /// Where the program host-local has the addresses of conflists that name no `dataDir`: they are taken there
    /// too; empty: not (not a key of CRI-O).
    pub host_local_dir: PathBuf,
    /// Bridge of floe's own network, used when there is no conflist (not a key of CRI-O).
    pub bridge: String,
    /// Its address ranges, one of each family at most (not a key of CRI-O).
    pub subnets: Vec<String>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            network_dir: "/etc/cni/net.d".into(),
            plugin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            plugin_dir: PathBuf::new(),
            cni_default_network: String::new(),
            host_local_dir: "/var/lib/cni/networks".into(),
            bridge: "floe0".into(),
            subnets: vec!["10.85.0.0/16".into(), "fd00:f10e::/64".into()],
        }
    }
}

impl Config {
    /// What is empty has its default, as for CRI-O.
    pub(super) fn fill_empty(&mut self) {
        let Config {
            root_table,
            api,
            network,
            compat,
            ..
        } = Self::default();
        for (path, default) in [
            (&mut self.root_table.root, root_table.root),
            (&mut self.root_table.runroot, root_table.runroot),
            (&mut self.root_table.log_dir, root_table.log_dir),
            (&mut self.api.listen, api.listen),
            (&mut self.network.network_dir, network.network_dir),
        ] {
            if path.as_os_str().is_empty() {
                *path = default;
            }
        }
        for (name, default) in [
            (&mut self.compat.runtime_name, compat.runtime_name),
            (&mut self.compat.cgroup_prefix, compat.cgroup_prefix),
        ] {
            if name.is_empty() {
                *name = default;
            }
        }
        self.nri.fill_empty();
        let hooks = &mut self.runtime.hooks_dir;
        hooks.retain(|dir| !dir.as_os_str().is_empty());
        self.image.pinned_images.retain(|image| !image.is_empty());
        self.image.unpacked_images.retain(|image| !image.is_empty());
        let dirs = &mut self.network.plugin_dirs;
        dirs.retain(|dir| !dir.as_os_str().is_empty());
        if dirs.is_empty() {
            *dirs = network.plugin_dirs;
        }
        let more = std::mem::take(&mut self.network.plugin_dir);
        if !more.as_os_str().is_empty() {
            dirs.push(more);
        }
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// A sentence naming key and value.
    pub fn validate(&self) -> Result<(), String> {
        for (key, path) in [
            ("crio.root", &self.root_table.root),
            ("crio.runroot", &self.root_table.runroot),
            ("crio.api.listen", &self.api.listen),
            ("crio.log_dir", &self.root_table.log_dir),
        ] {
            absolute(key, path)?;
        }
        self.api.stream_socket()?;
        self.api.stream_idle()?;
        self.api.check_tls()?;
        self.image.keep_blobs()?;
        self.image.layer_form()?;
        self.image.peers_socket()?;
        if !self.image.images_dir.as_os_str().is_empty() {
            absolute("crio.image.images_dir", &self.image.images_dir)?;
        }
        self.stats.groups()?;
        self.metrics.check()?;
        self.tracing.check()?;
        self.compat.check()?;
        self.nri.check()?;
        if self.runtime.log_filter_of_level().is_none() {
            let level = &self.runtime.log_level;
            return Err(format!("crio.runtime.log_level: {level:?} is no level"));
        }
        for name in &self.runtime.default_capabilities {
            if runtime::capability::number(name).is_none() {
                return Err(format!(
                    "crio.runtime.default_capabilities: unknown capability {name:?}"
                ));
            }
        }
        for (key, list) in [
            ("crio.runtime.default_env", &self.runtime.default_env),
            (
                "crio.runtime.default_sysctls",
                &self.runtime.default_sysctls,
            ),
            (
                "crio.runtime.default_ulimits",
                &self.runtime.default_ulimits,
            ),
        ] {
            if let Some(bad) = list.iter().find(|entry| !entry.contains('=')) {
                return Err(format!("{key}: {bad:?} is not NAME=VALUE"));
            }
        }
        for ulimit in &self.runtime.default_ulimits {
            parse_ulimit(ulimit)?;
        }
        self.runtime.check_containers()?;
        if (1..LOG_LIMIT_LEAST).contains(&self.runtime.log_limit) {
            return Err(format!(
                "crio.runtime.log_limit: {} is less than {LOG_LIMIT_LEAST} bytes",
                self.runtime.log_limit
            ));
        }
        runtimes::validate(&self.runtime)?;
        self.runtime.check_timezone()?;
        for (name, workload) in &self.runtime.workloads {
            workload.validate(name)?;
        }
        for subnet in &self.network.subnets {
            subnet
                .parse::<ipnet::IpNet>()
                .map_err(|e| format!("crio.network.subnets: {subnet:?}: {e}"))?;
        }
        Ok(())
    }
}

pub(super) fn absolute(key: &str, path: &Path) -> Result<(), String> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(format!("{key}: {path:?} is not an absolute path"))
    }
}

/// `nofile=1024:2048` to (`RLIMIT_NOFILE`, soft, hard).
pub(crate) fn parse_ulimit(text: &str) -> Result<(String, u64, u64), String> {
    let wrong = || format!("crio.runtime.default_ulimits: {text:?} is not NAME=SOFT:HARD");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |s: &str| match s {
        "-1" | "unlimited" => Ok(u64::MAX),
        digits => digits.parse().map_err(|_| wrong()),
    };
    Ok((
        format!("RLIMIT_{}", name.to_uppercase()),
        number(soft)?,
        number(hard)?,
    ))
}
