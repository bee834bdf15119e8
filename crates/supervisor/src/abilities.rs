//! What a supervisor can be asked for: it says so itself, since whoever drives it may be of another floe.
//! A name that was given once is never taken away, nor given to something else.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The version of the protocol: raised only when nothing that was known before can be asked any more.
pub(crate) const VERSION: u32 = 1;

/// What supervisors could do that did not say so: those of before [`Abilities`] were.
const FIRST: &[&str] = &[
    "set_up",
    "create",
    "start",
    "signal",
    "stop",
    "delete",
    "exec",
    "attach",
    "wait",
    "reopen_log",
    "resize",
    "update",
    "pause",
    "resume",
    "shutdown",
    "rootfs.path",
    "rootfs.overlay",
];

/// What came later. Whoever adds a request, a form of one, or a field that must not be passed over,
/// gives it a name here; a request's is the one that it has on the wire.
const LATER: &[&str] = &[
    "subscribe",
    "companion",
    "carry",
    "tell",
    "create.program",
    "rootfs.mount",
    "set_up.netns",
    "set_up.users",
    "freeze",
    "dump",
    "thaw",
    "restore",
    "check",
];

/// What a supervisor can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Its version of the protocol.
    pub version: u32,
    /// The names of its requests, and of what else it can.
    pub names: Vec<Cow<'static, str>>,
}

impl Abilities {
    /// Those of this program.
    pub(crate) fn own() -> Self {
        let mut own = Self::default();
        own.names.extend(LATER.iter().copied().map(Cow::Borrowed));
        own
    }

    /// Is this one of them?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

impl Default for Abilities {
    /// Those of a supervisor that does not say.
    fn default() -> Self {
        Self {
            version: 1,
            names: FIRST.iter().copied().map(Cow::Borrowed).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;

    #[test]
    fn every_request_is_an_ability() {
        let error = serde_json::from_str::<Request>("\"no_such\"").unwrap_err();
        let text = error.to_string();
        let (_, known) = text.split_once("expected one of ").unwrap();
        let own = Abilities::own();
        for name in known
            .split('`')
            .filter(|name| name.starts_with(char::is_alphabetic))
        {
            assert!(own.has(name), "{name} is a request and no ability");
        }
        assert!(known.contains("`subscribe`") && !own.has("no_such"));
    }
}
