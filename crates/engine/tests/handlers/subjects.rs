//! The handlers under test.

use engine::handler::Ability;

/// A handler under test.
pub(crate) struct Subject {
    /// Its name as pods choose it.
    pub(crate) name: &'static str,
    /// Lines of TOML that make it known.
    pub(crate) config: String,
    /// Why it cannot be tested here.
    pub(crate) missing: Option<String>,
    /// What it is known to lack: tests of that are not run, and the handler must say so itself.
    pub(crate) lacks: Vec<Ability>,
}

/// floe's own.
pub(crate) fn built_in() -> Subject {
    Subject {
        name: "floe",
        config: entry("floe", ""),
        missing: None,
        lacks: Vec::new(),
    }
}

/// A handler's entry in the configuration, with what the suite asks of each.
fn entry(name: &str, more: &str) -> String {
    format!(
        "[crio.runtime.runtimes.{name}]\nallowed_annotations = [\"example.allowed/\"]\n\
         default_annotations = {{ \"example.default/x\" = \"of the entry\" }}\n{more}\n"
    )
}
