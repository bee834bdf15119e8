//! The handlers that there are, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Handler;
use super::supervisor::{Program, Supervisor};
use crate::config::Config;
use crate::error::{Error, Result};

/// The name of the built-in runtime.
pub(crate) const BUILT_IN: &str = "floe";

/// All handlers.
#[derive(Debug)]
pub(crate) struct Handlers {
    built_in: Arc<dyn Handler>,
    by_name: BTreeMap<String, Arc<dyn Handler>>,
}

impl Handlers {
    /// Those that the configuration names, and the built-in one.
    pub(crate) fn new(config: &Config) -> Self {
        let program = Program::new(&config.runtime.runtime_path);
        let built_in: Arc<dyn Handler> = Arc::new(Supervisor::new(BUILT_IN, program));
        Self {
            by_name: [(BUILT_IN.to_owned(), Arc::clone(&built_in))].into(),
            built_in,
        }
    }

    /// The built-in one.
    pub(crate) fn built_in(&self) -> &dyn Handler {
        &*self.built_in
    }

    /// The handler of a new pod; empty: the default.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) fn chosen(&self, name: &str) -> Result<&dyn Handler> {
        if name.is_empty() {
            return Ok(self.built_in());
        }
        let found = self.by_name.get(name).map(|handler| &**handler);
        found.ok_or_else(|| {
            let known: Vec<String> = self.names().map(|name| format!("{name:?}")).collect();
            Error::invalid(
                "runtime_handler",
                format!(
                    "no runtime handler {name:?} is configured; known: {}",
                    known.join(", ")
                ),
            )
        })
    }

    /// The handler of a pod that is there. A record without a name is of a time with one handler.
    ///
    /// # Errors
    /// It is not configured any more.
    pub(crate) fn of(&self, name: &str) -> Result<&dyn Handler> {
        let name = if name.is_empty() { BUILT_IN } else { name };
        let found = self.by_name.get(name).map(|handler| &**handler);
        found.ok_or_else(|| Error::HandlerGone {
            handler: name.to_owned(),
        })
    }

    /// As [`Handlers::of`], for what only ends a pod: one whose handler is not there any more is ended
    /// by its cgroups.
    pub(crate) fn to_end(&self, name: &str) -> &dyn Handler {
        self.of(name).unwrap_or_else(|error| {
            tracing::warn!(%error, "the pod is ended by its cgroups");
            self.built_in()
        })
    }

    /// The names, the default's own included.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}
