//! How plugins are found and what is expected of them.

use std::path::PathBuf;
use std::time::Duration;

/// See the fields; crio.conf's `[crio.nri]` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where plugins connect; `None`: they do not.
    pub listen: Option<PathBuf>,
    /// Programs `NN-NAME` that are started.
    pub plugin_dir: PathBuf,
    /// Their configurations: `NN-NAME.conf`, or `NAME.conf`.
    pub config_dir: PathBuf,
    /// How long a plugin may take from its connection to its registration.
    pub registration_timeout: Duration,
    /// How long it may take for an answer.
    pub request_timeout: Duration,
    /// The rules of the built-in validator; `None`: there is none.
    pub validator: Option<Validator>,
    /// What plugins are told of who asks them.
    pub runtime_name: String,
    /// Likewise.
    pub runtime_version: String,
}

/// The rules of the built-in validator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validator {
    /// No plugin may add hooks.
    pub reject_oci_hooks: bool,
    /// No plugin may replace the runtime's seccomp profile.
    pub reject_runtime_default_seccomp: bool,
    /// No plugin may give a profile to a container that has none.
    pub reject_unconfined_seccomp: bool,
    /// No plugin may replace a profile of the node's.
    pub reject_custom_seccomp: bool,
    /// No plugin may change namespaces.
    pub reject_namespaces: bool,
    /// No plugin may set sysctls.
    pub reject_sysctls: bool,
    /// Plugins without which no container is made, as `NAME` or `NN-NAME`.
    pub required_plugins: Vec<String>,
    /// The annotation of a pod that lets it do without them; empty: none does.
    pub tolerate_missing_annotation: String,
}
