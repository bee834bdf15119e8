//! What the tests of the systemd manager share: a container that is a scope, and systemd's and the
//! kernel's view of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Done, Lab, first_of};

/// Ends a test that cannot run on this host, with its reason.
#[macro_export]
macro_rules! needs_systemd {
    () => {
        testkit::needs_host!();
        if !std::path::Path::new("/run/systemd/system").is_dir() {
            eprintln!("SKIP: systemd is not this host's init");
            return;
        }
    };
}

/// A lab whose container is the scope `floe-NAME.scope` of `system.slice`.
pub struct Scope {
    pub lab: Lab,
    pub unit: String,
    /// Below the hierarchies' roots.
    pub path: String,
}

impl Scope {
    pub fn new() -> Scope {
        let mut scope = Scope {
            lab: Lab::new(),
            unit: String::new(),
            path: String::new(),
        };
        let name = scope.lab.name().to_owned();
        scope.at("system.slice", "system.slice", &name);
        scope.lab.config["process"]["args"] = json!(["sleep", "1000"]);
        scope
    }

    /// Puts it elsewhere: the slice, where that is, and the name.
    pub fn at(&mut self, slice: &str, slice_path: &str, name: &str) {
        self.lab.config["linux"]["cgroupsPath"] = json!(format!("{slice}:floe:{name}"));
        self.unit = format!("floe-{name}.scope");
        self.path = format!("{slice_path}/{}", self.unit);
    }

    pub fn limits(&mut self, resources: Value) {
        self.lab.config["linux"]["resources"] = resources;
    }

    /// The program with `--systemd-cgroup`.
    pub fn call(&self, arguments: &[&str]) -> Done {
        self.lab.call(&[&["--systemd-cgroup"], arguments].concat())
    }

    pub fn run(&self) {
        self.call(&["run", "-d", "c"]).ok();
    }

    pub fn delete(&self) {
        self.lab.call(&["delete", "--force", "c"]).ok();
        self.is_gone();
    }

    /// systemd and the kernel have forgotten it. (A slice that is asked for is there, inactive.)
    #[track_caller]
    pub fn is_gone(&self) {
        match self.unit.ends_with(".slice") {
            true => shows(&self.unit, &[("ActiveState", "inactive")]),
            false => shows(&self.unit, &[("LoadState", "not-found")]),
        }
        assert_eq!(directories(&self.path), Vec::<PathBuf>::new());
        self.lab.is_clean().unwrap();
    }

    /// What a file of its cgroup says, in whichever hierarchy has it.
    pub fn file(&self, names: &[&str]) -> String {
        file(&self.path, names)
    }
}

pub fn file(path: &str, names: &[&str]) -> String {
    first_of(&directories(path), names)
}

/// Where a cgroup is in the hierarchies that have it.
pub fn directories(path: &str) -> Vec<PathBuf> {
    let below = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let mounts = below.map(|entry| entry.path());
    // What v2's root has below it are no hierarchies.
    let mounts: Vec<PathBuf> = match is_v2() {
        true => vec!["/sys/fs/cgroup".into()],
        // cpu and cpuacct are links to the same.
        false => mounts.filter(|mount| !mount.is_symlink()).collect(),
    };
    let dirs = mounts.iter().map(|mount| mount.join(path));
    dirs.filter(|dir| dir.exists()).collect()
}

pub fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// One of two, for v2 or for v1.
pub fn either<T>(v2: T, v1: T) -> T {
    if is_v2() { v2 } else { v1 }
}

pub fn systemctl(arguments: &[&str]) -> String {
    for _ in 0..50 {
        let output = Command::new("systemctl").args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let gone = [
            "endpoint is not connected",
            "disconnected from message bus",
            "Connection reset by peer",
            "Connection refused",
        ];
        if gone.iter().any(|words| error.contains(words)) {
            // Another test has systemd executed anew.
            std::thread::sleep(std::time::Duration::from_millis(200));
            continue;
        }
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        return String::from_utf8(output.stdout).unwrap().trim().to_owned();
    }
    panic!("systemd does not come back: {arguments:?}");
}

/// Starts a service of somebody else's in system.slice.
pub fn systemd_run(arguments: &[&str]) {
    let output = Command::new("systemd-run")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// A property of a unit as systemd has it.
pub fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "-p", property, unit])
}

#[track_caller]
pub fn shows(unit: &str, properties: &[(&str, &str)]) {
    for (property, value) in properties {
        assert_eq!(show(unit, property), *value, "{property}");
    }
}
