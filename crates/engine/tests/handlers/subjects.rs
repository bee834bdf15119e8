//! The handlers under test.

use std::path::{Path, PathBuf};
use std::process::Command;

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
    /// What is to be removed afterwards.
    pub(crate) litter: Vec<PathBuf>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        for path in &self.litter {
            // A directory only if it is empty, as it must be.
            let removed = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path));
            if !std::thread::panicking() && path.symlink_metadata().is_ok() {
                panic!("{}: {removed:?}", path.display());
            }
        }
    }
}

/// floe's own.
pub(crate) fn built_in() -> Subject {
    Subject {
        name: "floe",
        config: entry("floe", ""),
        missing: None,
        lacks: Vec::new(),
        litter: Vec::new(),
    }
}

/// Debian's containerd-shim-runc-v2, which is a shim as Kata's is one.
pub(crate) fn shim() -> Subject {
    shim_of("shim", Path::new(RUNC_SHIM))
}

/// The same behind a program that has the sandbox service, which Debian's has not.
pub(crate) fn sandbox_shim() -> Subject {
    let tests = std::env::current_exe().unwrap();
    let examples = tests.parent().unwrap().with_file_name("examples");
    shim_of("sandbox-shim", &examples.join("sandbox-shim"))
}

const RUNC_SHIM: &str = "/usr/bin/containerd-shim-runc-v2";

fn shim_of(name: &'static str, program: &Path) -> Subject {
    let there = Path::new(RUNC_SHIM).exists() && program.exists();
    let more = format!("runtime_type = \"vm\"\nruntime_path = {program:?}");
    Subject {
        name,
        config: entry(name, &more),
        missing: (!there).then(|| "needs containerd-shim-runc-v2 (Debian: containerd)".to_owned()),
        lacks: vec![
            Ability::HostNetwork,
            Ability::HostIpc,
            Ability::HostPid,
            Ability::TargetPid,
            Ability::Propagation,
            Ability::RecursiveReadOnly,
            Ability::UserNamespaces,
            Ability::MappedMounts,
        ],
        litter: Vec::new(),
    }
}

/// runc, driven by the supervisor.
pub(crate) fn runc() -> Subject {
    program("runc", find("runc"))
}

/// crun, driven by the supervisor.
pub(crate) fn crun() -> Subject {
    let mut found = find("crun");
    // It takes a host with both kinds of cgroups only if v2 has no controllers.
    if found.is_some() && Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() {
        let script = "tests/handlers/crun-without-v2";
        found = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
    }
    program("crun", found)
}

/// floe-runtime as a program, driven by the supervisor.
pub(crate) fn floe_runtime() -> Subject {
    // Under its own name it would mean the built-in runtime.
    let link = format!("floe-as-program-{}", std::process::id());
    let link = std::env::temp_dir().join(link);
    std::os::unix::fs::symlink(testkit::program("floe-runtime").unwrap(), &link).unwrap();
    let mut subject = program("program", Some(link.clone()));
    subject.litter.push(link);
    subject
}

fn program(name: &'static str, found: Option<PathBuf>) -> Subject {
    let state = format!("floe-state-{name}-{}", std::process::id());
    let state = std::env::temp_dir().join(state);
    let path = found.clone().unwrap_or_else(|| "/none".into());
    let more =
        format!("runtime_type = \"oci\"\nruntime_path = {path:?}\nruntime_root = {state:?}\n");
    let says = |found: PathBuf| Command::new(found).arg("features").output();
    let features = found.clone().map(says).and_then(|output| output.ok());
    let features = features.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let features = features.unwrap_or_default();
    let mut lacks = Vec::new();
    for (word, abilities) in [
        ("\"rro\"", &[Ability::RecursiveReadOnly][..]),
        (
            "\"mountExtensions\"",
            &[Ability::UserNamespaces, Ability::MappedMounts],
        ),
    ] {
        if !features.contains(word) {
            lacks.extend_from_slice(abilities);
        }
    }
    Subject {
        name,
        config: entry(name, &more),
        missing: found
            .is_none()
            .then(|| format!("needs {name} (Debian: {name})")),
        lacks,
        litter: vec![state],
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let dirs = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let mut files = dirs.iter().map(|dir| Path::new(dir).join(name));
    files.find(|file| file.exists())
}

/// A handler's entry in the configuration, with what the suite asks of each.
fn entry(name: &str, more: &str) -> String {
    format!(
        "[crio.runtime.runtimes.{name}]\nallowed_annotations = [\"example.allowed/\"]\n\
         default_annotations = {{ \"example.default/x\" = \"of the entry\" }}\n{more}\n"
    )
}
