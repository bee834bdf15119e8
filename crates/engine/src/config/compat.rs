//! `[floe.compat]`: what tools and pods of a node that ran CRI-O are used to: names, and what is made for them.

use serde::{Deserialize, Serialize};

use crate::node::cgroups::{DEFAULT_PREFIX, OWN_PREFIX};

/// The longest of either name, in bytes: a cgroup's is 255, and an id 64 of them.
const MAX_NAME: usize = 63;

/// `[floe.compat]` (not a table of CRI-O).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compat {
    /// What Version calls the runtime, and with it kubelet the containers: `cri-o` keeps `cri-o://ID`.
    pub runtime_name: String,
    /// What the names of containers' cgroups begin with: `crio` is CRI-O's `crio-ID.scope`.
    pub cgroup_prefix: String,
    /// A mount's path on the node that is missing is made as a directory, as CRI-O does, unless it is one of
    /// `absent_mount_sources_to_reject`; false: it is an error, as CRI says.
    pub make_mount_sources: bool,
}

impl Default for Compat {
    fn default() -> Self {
        Self {
            runtime_name: "floe".into(),
            cgroup_prefix: DEFAULT_PREFIX.into(),
            make_mount_sources: false,
        }
    }
}

impl Compat {
    /// Both become parts of other names.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_short = |name: &str| (1..=MAX_NAME).contains(&name.len());
        let name = &self.runtime_name;
        let word = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if !is_short(name) || !name.chars().all(word) {
            return Err(format!(
                "crio.compat.runtime_name: {name:?} is not letters, digits, \"-\", \"_\" and \".\" ({MAX_NAME} at most)"
            ));
        }
        let prefix = &self.cgroup_prefix;
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !is_short(prefix) || !prefix.chars().all(word) {
            return Err(format!(
                "crio.compat.cgroup_prefix: {prefix:?} is not letters, digits and \"_\" ({MAX_NAME} at most)"
            ));
        }
        match prefix == OWN_PREFIX {
            false => Ok(()),
            true => Err(format!(
                "crio.compat.cgroup_prefix: {prefix:?} is what pods' own cgroups are called"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_be_another_path_or_a_pods_is_refused() {
        assert_eq!(Compat::default().check(), Ok(()));
        for prefix in ["", "a-b", "a/b", "..", "pod", "a:b", &"a".repeat(64)] {
            let cgroup_prefix = prefix.into();
            let compat = Compat {
                cgroup_prefix,
                ..Compat::default()
            };
            let reason = compat.check().unwrap_err();
            assert!(
                reason.starts_with("crio.compat.cgroup_prefix: "),
                "{reason}"
            );
        }
        for name in ["", "cri/o", "cri o", "a\n"] {
            let runtime_name = name.into();
            let compat = Compat {
                runtime_name,
                ..Compat::default()
            };
            let reason = compat.check().unwrap_err();
            assert!(reason.starts_with("crio.compat.runtime_name: "), "{reason}");
        }
    }
}
