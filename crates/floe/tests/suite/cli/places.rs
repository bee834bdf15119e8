//! Images' places as copies name them, and Debian's skopeo to look at them with.

use std::process::Command;

use serde_json::Value;

use super::{Machine, Said};

/// skopeo on the test's registry.
pub(crate) fn skopeo(arguments: &[&str]) -> Said {
    let output = Command::new("skopeo")
        .args(["--insecure-policy"])
        .args(arguments)
        .output();
    output.expect("skopeo is installed").into()
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Machine {
    pub(crate) fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.registry.host())
    }

    /// A file or directory of this machine under a transport.
    pub(crate) fn at(&self, transport: &str, name: &str) -> String {
        format!("{transport}:{}", self.node.path(name).display())
    }

    pub(crate) fn digest(&self, place: &str) -> String {
        let format = ["inspect", "--no-tags", "--format", "{{.Digest}}", place];
        self.floe(&format).ok()
    }
}
