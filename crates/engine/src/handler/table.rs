//! The handlers that there are, by name: the built-in one, and what `[crio.runtime.runtimes]` names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shim::{ShimConfig, ShimEvents, Shims};
use super::supervisor::{OciRuntime, Program, Supervisor};
use super::{Abilities, Ability, Handler, Overhead};
use crate::config::{BUILT_IN, Config, Meaning, RuntimeEntry};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// All handlers.
#[derive(Debug)]
pub(crate) struct Handlers {
    built_in: Arc<dyn Handler>,
    /// Taken for the pods of all shims.
    of_shims: Arc<ShimEvents>,
    /// The handler of each name; the default's is the empty one. Or why there is none.
    by_name: BTreeMap<String, Result<Arc<dyn Handler>, String>>,
    /// The entries of the configuration, the default's also under the empty name.
    entries: BTreeMap<String, RuntimeEntry>,
}

/// A runtime handler that a pod may choose (CRI RuntimeHandler).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeHandler {
    /// Its name; empty: the default.
    pub name: String,
    /// What it can do.
    pub abilities: Abilities,
    /// What a pod of it takes beside its containers.
    pub overhead: Overhead,
}

impl Handlers {
    /// Those that the configuration names, and the built-in one.
    pub(crate) fn new(config: &Config) -> Self {
        let program = Program::new(&config.runtime.runtime_path);
        let built_in = Arc::new(Supervisor::new(BUILT_IN, program));
        Self::with(built_in, Arc::default(), config)
    }

    /// Those of a configuration that has come: the built-in one stays, with the program that it has found,
    /// and what is heard of shims.
    pub(crate) fn again(&self, config: &Config) -> Self {
        let heard = Arc::clone(&self.of_shims);
        Self::with(Arc::clone(&self.built_in), heard, config)
    }

    fn with(built_in: Arc<dyn Handler>, of_shims: Arc<ShimEvents>, config: &Config) -> Self {
        let runtime = &config.runtime;
        let default_name = match runtime.default_runtime.as_str() {
            "" => BUILT_IN,
            name => name,
        };
        let default = runtime.runtimes.get(default_name);
        let mut all = Self {
            by_name: BTreeMap::new(),
            entries: BTreeMap::new(),
            built_in,
            of_shims,
        };
        all.by_name
            .insert(BUILT_IN.to_owned(), Ok(Arc::clone(&all.built_in)));
        for (name, entry) in &runtime.runtimes {
            let (entry, meaning) = match default {
                Some(default) if entry.inherit_default_runtime && name != default_name => (
                    entry.inheriting(default),
                    default.meaning_as_default(default_name),
                ),
                _ => (entry.clone(), entry.meaning(name)),
            };
            let made = all.make(name, meaning, &entry, config);
            all.by_name.insert(name.clone(), made);
            all.entries.insert(name.clone(), entry);
        }
        all.put_default(default_name, default);
        all
    }

    /// The default has the empty name, too; it is the very one that has a name, so that its pods are
    /// found again by that.
    fn put_default(&mut self, name: &str, entry: Option<&RuntimeEntry>) {
        let meaning = entry.map_or(Meaning::BuiltIn, |entry| entry.meaning_as_default(name));
        let named = match meaning {
            Meaning::BuiltIn => None,
            _ => self.by_name.get(name).cloned(),
        };
        let default = named.unwrap_or_else(|| Ok(Arc::clone(&self.built_in)));
        self.by_name.insert(String::new(), default);
        if let Some(entry) = self.entries.get(name).cloned() {
            self.entries.insert(String::new(), entry);
        }
    }

    /// The handler that an entry means, or what is not built.
    fn make(
        &self,
        name: &str,
        meaning: Meaning,
        entry: &RuntimeEntry,
        config: &Config,
    ) -> Result<Arc<dyn Handler>, String> {
        match meaning {
            Meaning::BuiltIn => Ok(Arc::clone(&self.built_in)),
            Meaning::Program(path) => {
                let program = Program::new(&config.runtime.runtime_path);
                let oci = OciRuntime::new(name, path, entry);
                Ok(Arc::new(Supervisor::of_program(name, program, oci)))
            }
            Meaning::Shim(program) => {
                let shim = ShimConfig {
                    program,
                    entry: entry.clone(),
                    runroot: config.root_table.runroot.clone(),
                };
                let pods = Supervisor::new(name, Program::new(&config.runtime.runtime_path));
                Ok(Arc::new(Shims::new(pods, shim, Arc::clone(&self.of_shims))))
            }
        }
    }

    /// The built-in one.
    pub(crate) fn built_in(&self) -> &dyn Handler {
        &*self.built_in
    }

    /// The handler of a new pod; empty: the default.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be had.
    pub(crate) fn chosen(&self, name: &str) -> Result<&dyn Handler> {
        match self.by_name.get(name) {
            Some(Ok(handler)) => Ok(&**handler),
            Some(Err(reason)) => Err(Error::Unsupported(reason.clone())),
            None => {
                let known = self.by_name.keys().filter(|name| !name.is_empty());
                let known: Vec<String> = known.map(|name| format!("{name:?}")).collect();
                Err(Error::invalid(
                    "runtime_handler",
                    format!(
                        "no runtime handler {name:?} is configured; known: {}",
                        known.join(", ")
                    ),
                ))
            }
        }
    }

    /// The handler of a pod that is there. A record without a name is of a time with one handler.
    ///
    /// # Errors
    /// It is not configured any more.
    pub(crate) fn of(&self, name: &str) -> Result<&dyn Handler> {
        if name.is_empty() || name == BUILT_IN {
            return Ok(self.built_in());
        }
        match self.by_name.get(name) {
            // An entry may come to mean another one.
            Some(Ok(handler)) if handler.name() == name => Ok(&**handler),
            _ => Err(Error::HandlerGone {
                handler: name.to_owned(),
            }),
        }
    }

    /// As [`Handlers::of`], for what only ends a pod: one whose handler is not there any more is ended
    /// by its cgroups.
    pub(crate) fn to_end(&self, name: &str) -> &dyn Handler {
        self.of(name).unwrap_or_else(|error| {
            tracing::warn!(%error, "the pod is ended by its cgroups");
            self.built_in()
        })
    }
}

impl Engine {
    /// The runtime handlers that pods may choose, the default first.
    #[must_use]
    pub fn runtime_handlers(&self) -> Vec<RuntimeHandler> {
        let all = self.handlers().by_name.iter();
        let no_users = self.node().kernel().mapped_roots(self.store()).is_err();
        let usable = all.filter_map(|(name, handler)| {
            let handler = handler.as_ref().ok()?;
            let abilities = handler.abilities().clone();
            Some(RuntimeHandler {
                name: name.clone(),
                abilities: match no_users {
                    true => abilities.without(Ability::UserNamespaces),
                    false => abilities,
                },
                overhead: handler.overhead(),
            })
        });
        usable.collect()
    }

    /// What the configuration says of the runtime handler that a pod has chosen, if anything.
    pub(crate) fn runtime_entry(&self, chosen: &str) -> Option<&RuntimeEntry> {
        self.handlers().entries.get(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handlers(default: &str, entries: &[(&str, &str)]) -> Handlers {
        let mut config = Config::default();
        config.runtime.default_runtime = default.into();
        for (name, path) in entries {
            let entry = RuntimeEntry {
                runtime_path: path.into(),
                ..RuntimeEntry::default()
            };
            config.runtime.runtimes.insert((*name).to_owned(), entry);
        }
        config.validate().unwrap();
        Handlers::new(&config)
    }

    #[test]
    fn a_cri_o_nodes_file_runs_pods_with_the_built_in_runtime() {
        let all = handlers("crun", &[("crun", "/usr/libexec/crio/crun")]);
        assert_eq!(all.chosen("").unwrap().name(), BUILT_IN);
        assert_eq!(all.chosen("floe").unwrap().name(), BUILT_IN);
        let all = handlers("runc", &[]);
        assert_eq!(all.chosen("").unwrap().name(), BUILT_IN);
    }

    #[test]
    fn a_pod_whose_handler_went_is_told_so_and_can_be_ended() {
        let all = handlers("", &[("runc", "")]);
        assert_eq!(all.of("").unwrap().name(), BUILT_IN);
        let error = all.of("kata").unwrap_err();
        assert_eq!(error.kind(), crate::Kind::FailedPrecondition);
        assert!(error.to_string().contains("kata"), "{error}");
        assert_eq!(all.to_end("kata").name(), BUILT_IN);
        // It was a program's name once, and is the built-in runtime's now.
        all.of("runc").unwrap_err();
    }

    #[test]
    fn an_unknown_handler_is_refused_with_those_that_are_known() {
        let error = handlers("", &[("runc", "")]).chosen("kata").unwrap_err();
        assert_eq!(error.kind(), crate::Kind::InvalidArgument);
        let words = error.to_string();
        assert!(words.contains("\"floe\", \"runc\""), "{words}");
    }
}
