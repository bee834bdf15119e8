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

/// Debian's containerd-shim-runc-v2, which is a shim as Kata's is one.
pub(crate) fn shim() -> Subject {
    const PROGRAM: &str = "/usr/bin/containerd-shim-runc-v2";
    let there = std::path::Path::new(PROGRAM).exists();
    let more = format!("runtime_type = \"vm\"\nruntime_path = \"{PROGRAM}\"");
    Subject {
        name: "shim",
        config: entry("shim", &more),
        missing: (!there).then(|| "needs containerd-shim-runc-v2 (Debian: containerd)".to_owned()),
        lacks: vec![
            Ability::HostNetwork,
            Ability::HostIpc,
            Ability::HostPid,
            Ability::TargetPid,
            Ability::Propagation,
            Ability::RecursiveReadOnly,
        ],
    }
}

/// A handler's entry in the configuration, with what the suite asks of each.
fn entry(name: &str, more: &str) -> String {
    format!(
        "[crio.runtime.runtimes.{name}]\nallowed_annotations = [\"example.allowed/\"]\n\
         default_annotations = {{ \"example.default/x\" = \"of the entry\" }}\n{more}\n"
    )
}
