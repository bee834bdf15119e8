//! Platforms (OCI image-spec image-index.md, "platform"): what this host runs, and what of an index fits it.
//!
//! Names are Go's (`amd64`, `arm64`); must never take an image that the host cannot execute.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::manifest::null_default;

/// Operating system and architecture of an image or a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture by Go's name, as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Operating system by Go's name, as `linux`.
    #[serde(default)]
    pub os: String,
    /// Variant of the CPU, as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of the operating system (Windows).
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features that the operating system must have (Windows).
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
}

/// Variants of an architecture, newest first: each can run those after it.
fn variants(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "arm" => &["v8", "v7", "v6", "v5"],
        "arm64" => &["v8"],
        _ => &[],
    }
}

impl Platform {
    /// A platform without variant.
    pub fn new(os: &str, architecture: &str) -> Platform {
        Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            ..Platform::default()
        }
    }

    /// The platform of this program. The variant of a 32-bit ARM is read from `/proc/cpuinfo`.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        let mut host = Platform::new(std::env::consts::OS, architecture);
        if architecture == "arm" {
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            host.variant = arm_variant(&cpuinfo);
        }
        host
    }

    /// Parses `os/architecture[/variant]`, as `--platform` takes it.
    pub fn parse(text: &str) -> Option<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return None,
        };
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        let mut platform = Platform::new(os, normal_architecture(architecture));
        platform.variant = variant.map(|variant| (*variant).to_owned());
        Some(platform)
    }

    /// What a host of this platform runs, best first. A host of a known variant runs this and
    /// older variants and images that state none; a host of unknown variant prefers the latter.
    pub fn candidates(&self) -> Vec<Platform> {
        let known = variants(&self.architecture);
        let of = |variant: Option<&str>| Platform {
            variant: variant.map(str::to_owned),
            ..Platform::new(&self.os, &self.architecture)
        };
        match self.variant.as_deref() {
            None => std::iter::once(of(None))
                .chain(known.iter().map(|v| of(Some(v))))
                .collect(),
            Some(variant) => {
                let newest = known.iter().position(|v| *v == variant);
                let own = newest.map_or_else(
                    || vec![of(Some(variant))],
                    |at| known[at..].iter().map(|v| of(Some(v))).collect(),
                );
                own.into_iter().chain(std::iter::once(of(None))).collect()
            }
        }
    }

    /// Whether everything that `entry` needs of the operating system is here.
    pub(crate) fn has_features_of(&self, entry: &Platform) -> bool {
        let mut needed = entry.os_features.iter();
        needed.all(|feature| self.os_features.contains(feature))
    }

    /// Whether `entry` is exactly this operating system, architecture and variant.
    pub(crate) fn accepts(&self, entry: &Platform) -> bool {
        let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
        self.os == entry.os
            && self.architecture == normal_architecture(&entry.architecture)
            && variant(self) == variant(entry)
    }
}

/// The names that `uname` and users have for Go's.
fn normal_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        "armhf" | "armel" => "arm",
        other => other,
    }
}

fn arm_variant(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("CPU architecture"))?;
    let version: u32 = line
        .split(':')
        .nth(1)?
        .trim()
        .trim_end_matches("TEJ")
        .parse()
        .ok()?;
    Some(format!("v{}", version.clamp(5, 8)))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(platform: &str) -> Vec<String> {
        let platform = Platform::parse(platform).unwrap();
        platform
            .candidates()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_host_runs_its_variant_and_older_ones() {
        assert_eq!(names("linux/amd64"), ["linux/amd64"]);
        assert_eq!(
            names("linux/arm/v6"),
            ["linux/arm/v6", "linux/arm/v5", "linux/arm"]
        );
        assert_eq!(names("linux/arm64"), ["linux/arm64", "linux/arm64/v8"]);
        assert_eq!(names("linux/arm64/v8"), ["linux/arm64/v8", "linux/arm64"]);
        assert_eq!(names("linux/amd64/v3"), ["linux/amd64/v3", "linux/amd64"]);
    }

    #[test]
    fn platforms_are_parsed_and_shown() {
        assert_eq!(
            Platform::parse("linux/x86_64").unwrap().to_string(),
            "linux/amd64"
        );
        for bad in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/arm/v7/x",
            "linux//v7",
        ] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_arm_variant_comes_from_the_cpu() {
        assert_eq!(
            arm_variant("a: b\nCPU architecture: 7\n").as_deref(),
            Some("v7")
        );
        assert_eq!(
            arm_variant("CPU architecture: 5TEJ\n").as_deref(),
            Some("v5")
        );
        assert_eq!(arm_variant("model name: x\n"), None);
    }

    #[test]
    fn the_host_is_linux() {
        assert_eq!(Platform::host().os, "linux");
        assert!(!Platform::host().architecture.is_empty());
    }
}
