//! The image config (OCI image-spec config.md): what a container of this image starts with.
//!
//! Reads Docker's dialect too: `null` for an empty list or map, a bare string for a one-word list.
//! Unknown fields are ignored. Nothing in here is trusted: paths, users and names are only text.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::null_default;
use crate::platform::Platform;

/// An image config document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// CPU architecture by Go's name.
    #[serde(deserialize_with = "null_default")]
    pub architecture: String,
    /// Variant of the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system by Go's name.
    #[serde(deserialize_with = "null_default")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the operating system must have (Windows).
    #[serde(
        rename = "os.features",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// What a container starts with.
    #[serde(deserialize_with = "null_default")]
    pub config: ContainerConfig,
    /// The layers by the digests of their uncompressed content.
    #[serde(deserialize_with = "null_default")]
    pub rootfs: RootFs,
    /// How each layer came to be, lowest first.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
}

impl ImageConfig {
    /// Reads a config blob. Errors with [`Error::Json`].
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        serde_json::from_slice(bytes).map_err(Error::json("image config"))
    }

    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone().filter(|variant| !variant.is_empty()),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }
}

/// What a container of the image starts with, unless it is told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// User, as `user`, `uid`, `user:group`, `uid:gid` … ; empty is root.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports that the image listens on, as `80/tcp`; the values are empty objects.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Value>,
    /// Environment, each `NAME=value`.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default arguments, or the program when there is no entry point.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories that hold data to be kept; the values are empty objects.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Value>,
    /// Directory to start in; empty is `/`.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end, as `SIGTERM` or `15`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Windows only: the command line is already escaped.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// Docker's health check, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// The shell of shell-form commands, for builds.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Instructions for builds on top of this image.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// Docker's seconds to wait before it kills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
}

/// The layers of an image, uncompressed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", deserialize_with = "null_default")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

/// How one layer came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step changed no file and has no layer.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// A list of words; Docker also wrote one bare string, and `null`.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Option::<Words>::deserialize(deserializer)? {
        Some(Words::Many(words)) => words,
        Some(Words::One(word)) => vec![word],
        None => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_full_docker_config_is_read() {
        let text = r#"{
            "architecture":"arm","variant":"v7","os":"linux","created":"2024-01-02T03:04:05.6Z",
            "container":"0123","container_config":{"Cmd":["x"]},"docker_version":"20.10",
            "config":{"Hostname":"","User":"1000:50","Env":["A=b=c","PATH=/bin"],"Cmd":["sh","-c"],
                "Entrypoint":"/entry","Volumes":{"/data":{}},"WorkingDir":"/w","Labels":{"k":"v"},
                "ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT","ArgsEscaped":true,
                "Healthcheck":{"Test":["CMD","true"],"Interval":5},"OnBuild":["RUN x"],"Shell":["/bin/ash"]},
            "rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
            "history":[{"created_by":"ADD x","empty_layer":true}]}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm/v7");
        assert_eq!(config.config.entrypoint, ["/entry"]);
        assert_eq!(config.config.volumes.keys().collect::<Vec<_>>(), ["/data"]);
        assert_eq!(
            config.config.exposed_ports.keys().collect::<Vec<_>>(),
            ["80/tcp"]
        );
        assert_eq!(config.config.healthcheck.as_ref().unwrap()["Interval"], 5);
        assert_eq!(config.config.on_build, ["RUN x"]);
        assert_eq!(config.rootfs.diff_ids.len(), 1);
        assert!(config.history[0].empty_layer);
        let again = serde_json::to_vec(&config).unwrap();
        assert_eq!(ImageConfig::parse(&again).unwrap(), config);
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let text = r#"{"architecture":"amd64","os":"linux","history":null,"rootfs":{"type":"layers","diff_ids":null},
            "config":{"Env":null,"Cmd":null,"Entrypoint":null,"Volumes":null,"Labels":null,"OnBuild":null,
            "ExposedPorts":null,"WorkingDir":null,"User":null,"Healthcheck":null,"Shell":null,"ArgsEscaped":null}}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config, ContainerConfig::default());
        let bare = ImageConfig::parse(br#"{"config":null}"#).unwrap();
        assert_eq!(bare, ImageConfig::default());
    }

    #[test]
    fn a_diff_id_that_is_no_digest_is_refused() {
        let text = r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../../etc"]}}"#;
        let result = ImageConfig::parse(text.as_bytes());
        assert!(
            matches!(
                result,
                Err(Error::Json {
                    document: "image config",
                    ..
                })
            ),
            "{result:?}"
        );
    }
}
