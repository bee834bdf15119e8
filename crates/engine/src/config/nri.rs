//! `[crio.nri]`: plugins of the Node Resource Interface.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tables::absolute;

/// `[crio.nri]`: who may change containers, and how long that may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nri {
    /// Plugins are asked.
    pub enable_nri: bool,
    /// The socket where they connect.
    pub nri_listen: PathBuf,
    /// Plugins that are started with the engine: programs `NN-NAME`.
    pub nri_plugin_dir: PathBuf,
    /// Their configurations: `NN-NAME.conf`, or `NAME.conf`.
    pub nri_plugin_config_dir: PathBuf,
    /// Nobody may connect: only those of `nri_plugin_dir` are asked.
    pub nri_disable_connections: bool,
    /// How long a plugin may take to register, as Go writes durations; empty or 0: 5s.
    pub nri_plugin_registration_timeout: String,
    /// How long it may take for an answer; empty or 0: 2s.
    pub nri_plugin_request_timeout: String,
    /// `[crio.nri.default_validator]`
    pub default_validator: DefaultValidator,
}

/// `[crio.nri.default_validator]`: what plugins may not do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultValidator {
    /// The rules hold.
    pub nri_enable_default_validator: bool,
    /// No plugin may add OCI hooks.
    pub nri_validator_reject_oci_hook_adjustment: bool,
    /// No plugin may replace the runtime's seccomp profile.
    pub nri_validator_reject_runtime_default_seccomp_adjustment: bool,
    /// No plugin may give a profile to a container that has none.
    pub nri_validator_reject_unconfined_seccomp_adjustment: bool,
    /// No plugin may replace a profile of the node's.
    pub nri_validator_reject_custom_seccomp_adjustment: bool,
    /// No plugin may change namespaces.
    pub nri_validator_reject_namespace_adjustment: bool,
    /// No plugin may set sysctls (not a key of CRI-O, whose NRI has the rule).
    pub nri_validator_reject_sysctl_adjustment: bool,
    /// Plugins without which no container is made, as `NAME` or `NN-NAME`.
    pub nri_validator_required_plugins: Vec<String>,
    /// The annotation of a pod that lets it do without them; empty: none does.
    pub nri_validator_tolerate_missing_plugins_annotation: String,
}

impl Default for Nri {
    fn default() -> Self {
        Self {
            enable_nri: true,
            nri_listen: "/var/run/nri/nri.sock".into(),
            nri_plugin_dir: "/opt/nri/plugins".into(),
            nri_plugin_config_dir: "/etc/nri/conf.d".into(),
            nri_disable_connections: false,
            nri_plugin_registration_timeout: "5s".to_owned(),
            nri_plugin_request_timeout: "2s".to_owned(),
            default_validator: DefaultValidator::default(),
        }
    }
}

/// A duration of one key; none and 0 are the default.
fn duration(key: &str, text: &str, default: Duration) -> Result<Duration, String> {
    let given = match text {
        "" => Duration::ZERO,
        text => base::time::go_duration(text)
            .ok_or_else(|| format!("crio.nri.{key}: {text:?} is no duration"))?,
    };
    Ok(if given.is_zero() { default } else { given })
}

impl Nri {
    /// What is empty has its default.
    pub(super) fn fill_empty(&mut self) {
        let Self {
            nri_listen,
            nri_plugin_dir,
            nri_plugin_config_dir,
            ..
        } = Self::default();
        for (path, default) in [
            (&mut self.nri_listen, nri_listen),
            (&mut self.nri_plugin_dir, nri_plugin_dir),
            (&mut self.nri_plugin_config_dir, nri_plugin_config_dir),
        ] {
            if path.as_os_str().is_empty() {
                *path = default;
            }
        }
    }

    /// Checks what types cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        for (key, path) in [
            ("crio.nri.nri_listen", &self.nri_listen),
            ("crio.nri.nri_plugin_dir", &self.nri_plugin_dir),
            (
                "crio.nri.nri_plugin_config_dir",
                &self.nri_plugin_config_dir,
            ),
        ] {
            absolute(key, path)?;
        }
        self.settings().map(drop)
    }

    /// As the plugins' crate takes it; `None`: no plugin is asked.
    ///
    /// # Errors
    /// What is no duration.
    pub(crate) fn settings(&self) -> Result<Option<nri::Settings>, String> {
        let registration = duration(
            "nri_plugin_registration_timeout",
            &self.nri_plugin_registration_timeout,
            Duration::from_secs(5),
        )?;
        let request = duration(
            "nri_plugin_request_timeout",
            &self.nri_plugin_request_timeout,
            Duration::from_secs(2),
        )?;
        let rules = &self.default_validator;
        let validator = || nri::Validator {
            reject_oci_hooks: rules.nri_validator_reject_oci_hook_adjustment,
            reject_runtime_default_seccomp: rules
                .nri_validator_reject_runtime_default_seccomp_adjustment,
            reject_unconfined_seccomp: rules.nri_validator_reject_unconfined_seccomp_adjustment,
            reject_custom_seccomp: rules.nri_validator_reject_custom_seccomp_adjustment,
            reject_namespaces: rules.nri_validator_reject_namespace_adjustment,
            reject_sysctls: rules.nri_validator_reject_sysctl_adjustment,
            required_plugins: rules.nri_validator_required_plugins.clone(),
            tolerate_missing_annotation: rules
                .nri_validator_tolerate_missing_plugins_annotation
                .clone(),
        };
        let settings = || nri::Settings {
            listen: (!self.nri_disable_connections).then(|| self.nri_listen.clone()),
            plugin_dir: self.nri_plugin_dir.clone(),
            config_dir: self.nri_plugin_config_dir.clone(),
            registration_timeout: registration,
            request_timeout: request,
            validator: rules.nri_enable_default_validator.then(validator),
            runtime_name: "floe".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(self.enable_nri.then(settings))
    }
}
