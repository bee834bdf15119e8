//! As whom this process runs and what that may do (capabilities(7), user_namespaces(7)).

use runtime::capability::{self, Set, Sets};
use serde_json::{Value, json};

/// See the module.
#[derive(Debug, Clone)]
pub struct Privileges {
    uid: u32,
    in_user_namespace: bool,
    effective: Set,
}

impl Privileges {
    /// Those of this process.
    pub(super) fn of_caller() -> Self {
        // A kernel that does not tell them is asked each time something is done.
        let sets = Sets::current().unwrap_or_default();
        Self {
            uid: rustix::process::geteuid().as_raw(),
            in_user_namespace: runtime::in_user_namespace(),
            effective: sets.effective,
        }
    }

    /// The effective user id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Is it root, of the node or of a user namespace?
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Is it in a user namespace that is not the first? Then root is somebody else outside.
    #[must_use]
    pub fn in_user_namespace(&self) -> bool {
        self.in_user_namespace
    }

    /// Is a capability effective, named without `CAP_`?
    #[must_use]
    pub fn has(&self, capability: &str) -> bool {
        capability::number(capability).is_some_and(|number| self.effective.contains(number))
    }

    pub(super) fn report(&self) -> Value {
        let names = |set: Set| -> Vec<&str> { set.iter().filter_map(capability::name).collect() };
        json!({
            "uid": self.uid,
            "user_namespace": self.in_user_namespace,
            "capabilities": names(self.effective),
            "missing_capabilities": names(Set::all().difference(self.effective)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_those_that_the_kernel_tells() {
        let found = Privileges::of_caller();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let effective = u64::from_str_radix(&line("CapEff:"), 16).unwrap();
        for name in ["SYS_ADMIN", "SYS_RESOURCE", "NET_ADMIN"] {
            let number = capability::number(name).unwrap();
            assert_eq!(found.has(name), effective & (1 << number) != 0, "{name}");
        }
        assert!(!found.has("NO_SUCH"));
        let uid = line("Uid:");
        let uid = uid.split_ascii_whitespace().nth(1).unwrap();
        assert_eq!(found.uid().to_string(), uid);
    }
}
