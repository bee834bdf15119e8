//! What crio's command line and environment say: each option is a key of the configuration, and so is each
//! variable (`--pids-limit`, `CONTAINER_PIDS_LIMIT`). Names and keys are CRI-O 1.37's.

use std::path::PathBuf;

use toml::Value;

use super::files::{Key, Layer};
use crate::error::{Error, Result};

/// How the text of an option becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// A number.
    Number,
    /// `true` or `false`; the option alone is `true`.
    Switch,
    /// Texts with commas between them; an option may be given again.
    List,
}

/// An option of crio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// The option, without its dashes.
    pub option: &'static str,
    /// What its text becomes.
    pub kind: Kind,
    /// The table of its key; empty: `crio` itself.
    table: &'static str,
    /// Its key there, where that is not the option with underscores.
    key: Option<&'static str>,
    /// Its variable, where that is not `CONTAINER_` and the option; empty: none.
    variable: Option<&'static str>,
}

/// An option or a variable that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which.
    pub word: Word,
    /// As the person wrote it: `--pids-limit`, `CONTAINER_PIDS_LIMIT`.
    pub name: String,
    /// With which texts.
    pub values: Vec<String>,
}

const fn word(table: &'static str, option: &'static str, kind: Kind) -> Word {
    Word {
        option,
        kind,
        table,
        key: None,
        variable: None,
    }
}

impl Word {
    const fn key(self, key: &'static str) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    const fn variable(self, variable: &'static str) -> Self {
        Self {
            variable: Some(variable),
            ..self
        }
    }

    /// The variable that says the same; none: there is none.
    #[must_use]
    pub fn environment(&self) -> Option<String> {
        match self.variable {
            Some("") => None,
            Some(name) => Some(name.to_owned()),
            None => {
                let name = self.option.replace('-', "_").to_ascii_uppercase();
                Some(format!("CONTAINER_{name}"))
            }
        }
    }

    /// The dotted key that it sets.
    #[must_use]
    pub fn dotted(&self) -> String {
        let key = match self.key {
            Some(key) => key.to_owned(),
            None => self.option.replace('-', "_"),
        };
        match self.table {
            "" => key,
            table => format!("{table}.{key}"),
        }
    }

    fn value(&self, texts: &[String]) -> std::result::Result<Value, String> {
        let last = texts.last().map_or("", String::as_str);
        match self.kind {
            Kind::Text => Ok(Value::from(last)),
            Kind::Number => {
                let number = last.parse::<i64>();
                number
                    .map(Value::from)
                    .map_err(|_| format!("{last:?} is no number"))
            }
            Kind::Switch => match last {
                "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(Value::from(true)),
                "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(Value::from(false)),
                _ => Err(format!("{last:?} is neither true nor false")),
            },
            Kind::List => {
                let parts = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
                let parts = parts.filter(|part| !part.is_empty());
                Ok(parts.map(Value::from).collect::<Vec<_>>().into())
            }
        }
    }
}

impl Said {
    /// As a file would say it.
    ///
    /// # Errors
    /// A text that is no such value, by the name of the option or variable.
    pub(super) fn layer(&self) -> Result<Layer> {
        let value = self
            .word
            .value(&self.values)
            .map_err(|reason| Error::Config {
                origin: self.name.clone(),
                reason,
            })?;
        let name = self.word.dotted();
        let mut table = value.clone();
        for part in name.split('.').rev().chain(["crio"]) {
            table = toml::Table::from_iter([(part.to_owned(), table)]).into();
        }
        Ok(Layer {
            path: PathBuf::from(&self.name),
            table: table.as_table().cloned().unwrap_or_default(),
            keys: vec![Key {
                name,
                line: 0,
                value,
            }],
        })
    }
}

use Kind::{List, Number, Switch, Text};

/// Every option of crio that is a key of crio.conf, but for `--runtimes`, which is a table.
pub const WORDS: &[Word] = &[
    word("", "root", Text),
    word("", "runroot", Text),
    word("", "imagestore", Text),
    word("", "storage-driver", Text),
    word("", "storage-opt", List).key("storage_option"),
    word("", "log-dir", Text),
    word("", "version-file", Text),
    word("", "version-file-persist", Text),
    word("", "clean-shutdown-file", Text),
    word("", "internal-wipe", Switch),
    word("", "internal-repair", Switch),
    word("api", "listen", Text),
    word("api", "stream-address", Text),
    word("api", "stream-port", Text),
    word("api", "stream-enable-tls", Switch).variable("CONTAINER_ENABLE_TLS"),
    word("api", "stream-tls-ca", Text).variable("CONTAINER_TLS_CA"),
    word("api", "stream-tls-cert", Text).variable("CONTAINER_TLS_CERT"),
    word("api", "stream-tls-key", Text).variable("CONTAINER_TLS_KEY"),
    word("api", "stream-idle-timeout", Text).variable("STREAM_IDLE_TIMEOUT"),
    word("api", "tls-min-version", Text),
    word("api", "tls-cipher-suites", List),
    word("api", "grpc-max-recv-msg-size", Number),
    word("api", "grpc-max-send-msg-size", Number),
    word("runtime", "conmon", Text),
    word("runtime", "conmon-cgroup", Text),
    word("runtime", "conmon-env", List),
    word("runtime", "log-level", Text),
    word("runtime", "log-filter", Text),
    word("runtime", "log-size-max", Number),
    word("runtime", "log-journald", Switch).key("log_to_journald"),
    word("runtime", "separate-pull-cgroup", Text).variable("PULL_IN_A_CGROUP"),
    word("runtime", "decryption-keys-path", Text).variable(""),
    word("runtime", "additional-artifact-stores", List).variable(""),
    word("runtime", "default-runtime", Text),
    word("runtime", "seccomp-profile", Text),
    word("runtime", "privileged-seccomp-profile", Text),
    word("runtime", "apparmor-profile", Text),
    word("runtime", "blockio-config-file", Text).variable(""),
    word("runtime", "blockio-reload", Switch).variable(""),
    word("runtime", "irqbalance-config-file", Text).variable(""),
    word("runtime", "irqbalance-config-restore-file", Text).variable(""),
    word("runtime", "rdt-config-file", Text).variable(""),
    word("runtime", "selinux", Switch),
    word("runtime", "cgroup-manager", Text),
    word("runtime", "pids-limit", Number),
    word("runtime", "hooks-dir", List),
    word("runtime", "default-mounts-file", Text),
    word("runtime", "default-capabilities", List),
    word("runtime", "add-inheritable-capabilities", Switch),
    word("runtime", "default-sysctls", List),
    word("runtime", "default-ulimits", List),
    word("runtime", "default-env", List),
    word("runtime", "read-only", Switch),
    word("runtime", "bind-mount-prefix", Text),
    word("runtime", "uid-mappings", Text),
    word("runtime", "gid-mappings", Text),
    word("runtime", "minimum-mappable-uid", Number),
    word("runtime", "minimum-mappable-gid", Number),
    word("runtime", "allowed-devices", List),
    word("runtime", "additional-devices", List),
    word("runtime", "cdi-spec-dirs", List),
    word("runtime", "device-ownership-from-security-context", Switch).variable(""),
    word("runtime", "min-injected-gomaxprocs", Number).variable("CONTAINER_INJECT_GOMAXPROCS"),
    word("runtime", "container-attach-socket-dir", Text).variable("CONTAINER_ATTACH_SOCKET_DIR"),
    word("runtime", "container-exits-dir", Text).variable("CONTAINER_EXITS_DIR"),
    word("runtime", "ctr-stop-timeout", Number).variable("CONTAINER_STOP_TIMEOUT"),
    word("runtime", "drop-infra-ctr", Switch),
    word("runtime", "pinns-path", Text),
    word("runtime", "namespaces-dir", Text),
    word("runtime", "no-pivot", Switch),
    word("runtime", "infra-ctr-cpuset", Text),
    word("runtime", "shared-cpuset", Text),
    word("runtime", "absent-mount-sources-to-reject", List),
    word("runtime", "enable-criu-support", Switch),
    word("runtime", "enable-pod-events", Switch).variable("ENABLE_POD_EVENTS"),
    word("runtime", "hostnetwork-disable-selinux", Switch),
    word("runtime", "disable-hostport-mapping", Switch).variable("DISABLE_HOSTPORT_MAPPING"),
    word("runtime", "timezone", Text).variable("CONTAINER_TIME_ZONE"),
    word("image", "pause-command", Text),
    word("image", "pause-image", Text),
    word("image", "pause-image-auth-file", Text),
    word("image", "global-auth-file", Text),
    word("image", "namespaced-auth-dir", Text),
    word("image", "signature-policy", Text),
    word("image", "signature-policy-dir", Text),
    word("image", "insecure-registry", List).key("insecure_registries"),
    word("image", "default-transport", Text),
    word("image", "image-volumes", Text),
    word("image", "big-files-temporary-dir", Text),
    word("image", "auto-reload-registries", Switch).variable("AUTO_RELOAD_REGISTRIES"),
    word("image", "pull-progress-timeout", Text),
    word("image", "oci-artifact-mount-support", Switch).variable("CONTAINER_OCI_ARTIFACT_SUPPORT"),
    word("image", "registries-conf", Text),
    word("image", "registries-conf-dir", Text),
    word("image", "pinned-images", List),
    word("image", "short-name-mode", Text),
    word("network", "cni-default-network", Text),
    word("network", "cni-config-dir", Text).key("network_dir"),
    word("network", "cni-plugin-dir", List).key("plugin_dirs"),
    word("network", "cni-status-grace-period", Text).variable("CNI_STATUS_GRACE_PERIOD"),
    word("metrics", "enable-metrics", Switch),
    word("metrics", "metrics-host", Text),
    word("metrics", "metrics-port", Number),
    word("metrics", "metrics-socket", Text),
    word("metrics", "metrics-cert", Text),
    word("metrics", "metrics-key", Text),
    word("metrics", "metrics-collectors", List),
    word("tracing", "enable-tracing", Switch),
    word("tracing", "tracing-endpoint", Text),
    word("tracing", "tracing-sampling-rate-per-million", Number),
    word("stats", "stats-collection-period", Number),
    word("stats", "collection-period", Number).variable("COLLECTION_PERIOD"),
    word("stats", "included-pod-metrics", List).variable(""),
    word(
        "checkpoint_restore",
        "checkpoint-restore-container-level-enabled",
        Text,
    )
    .key("container_level_enabled"),
    word("nri", "enable-nri", Switch).variable(""),
    word("nri", "nri-listen", Text).variable(""),
    word("nri", "nri-plugin-dir", Text).variable(""),
    word("nri", "nri-plugin-config-dir", Text).variable(""),
    word("nri", "nri-disable-connections", Switch).variable(""),
    word("nri", "nri-plugin-registration-timeout", Text).variable(""),
    word("nri", "nri-plugin-request-timeout", Text).variable(""),
    word(
        "nri.default_validator",
        "nri-enable-default-validator",
        Switch,
    )
    .variable(""),
    word(
        "nri.default_validator",
        "nri-validator-reject-oci-hook-adjustment",
        Switch,
    )
    .variable(""),
    word(
        "nri.default_validator",
        "nri-validator-reject-runtime-default-seccomp-adjustment",
        Switch,
    )
    .variable(""),
    word(
        "nri.default_validator",
        "nri-validator-reject-unconfined-seccomp-adjustment",
        Switch,
    )
    .variable(""),
    word(
        "nri.default_validator",
        "nri-validator-reject-custom-seccomp-adjustment",
        Switch,
    )
    .variable(""),
    word(
        "nri.default_validator",
        "nri-validator-reject-namespace-adjustment",
        Switch,
    )
    .variable(""),
    word(
        "nri.default_validator",
        "nri-validator-required-plugins",
        List,
    )
    .variable(""),
    word(
        "nri.default_validator",
        "nri-validator-tolerate-missing-plugins-annotation",
        Text,
    )
    .variable(""),
];
