//! Tests against the kernel, in cgroups of their own, and against directories that look like a v2
//! hierarchy where this host has none.

mod devices;
mod fake;
mod life;
mod limits;
mod limits_v2;
mod oom;
mod room;
mod systemd;

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A path nobody else uses, removed with all below it at the end.
struct Scratch(String);

impl Scratch {
    fn new() -> Scratch {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        Scratch(format!("floe-test-{}-{count}", std::process::id()))
    }

    fn create(&self, resources: &Resources) -> Cgroup {
        Cgroup::create(&self.0, Some(resources)).expect("create")
    }

    fn left(&self) -> bool {
        Cgroup::open(&self.0).is_ok()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(cgroup) = Cgroup::open(&self.0) {
            let _ = cgroup.kill_all();
            let _ = cgroup.delete();
        }
    }
}

/// A process that is killed and reaped at the end.
struct Process(Child);

impl Process {
    /// Starts a shell script inside the cgroup's v1 hierarchies, joined by itself, and moved into
    /// the rest.
    fn start(cgroup: &Cgroup, script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let inside = cgroup.clone();
        // SAFETY: the hook only opens and writes files; it runs in a fork of a thread that holds
        // no lock the allocator would need.
        unsafe {
            command.pre_exec(move || inside.join_v1().map_err(std::io::Error::other));
        }
        let child = command.spawn().expect("spawn");
        if let Some(v2) = cgroup.dirs().find(|dir| dir.version() == Version::V2) {
            v2.put("cgroup.procs", &child.id().to_string())
                .expect("move");
        }
        Process(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("pid")
    }

    /// Waits for the end; returns the exit code or the negative signal, and what it printed.
    fn end(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        let mut said = String::new();
        drop(self.0.stdin.take());
        let stdout = self.0.stdout.as_mut().expect("stdout");
        std::io::Read::read_to_string(stdout, &mut said).expect("read");
        let status = self.0.wait().expect("wait");
        (
            status
                .code()
                .unwrap_or_else(|| -status.signal().unwrap_or(0)),
            said.trim().to_owned(),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a control file says.
fn value(cgroup: &Cgroup, controller: Controller, file: &str) -> String {
    cgroup
        .dir_of(controller)
        .expect("controller")
        .get(file)
        .expect(file)
        .trim()
        .to_owned()
}

/// The host's hierarchies, and the v2 one by itself where it is beside v1: there it can freeze,
/// kill and filter devices, so that much of v2 is tested on a v1 host too.
fn everywhere() -> Vec<&'static Hierarchies> {
    let host = Hierarchies::of_host().expect("cgroups");
    let alone = if host.only_unified() {
        None
    } else {
        Hierarchies::unified_alone()
    };
    if alone.is_none() && !host.only_unified() {
        eprintln!("SKIP: v2 is not mounted; only v1 is tested");
    }
    std::iter::once(host).chain(alone).collect()
}

/// Whether a controller lives in a v1 hierarchy here; says why not, for tests of v1's files.
fn on_v1(controllers: &[Controller]) -> bool {
    let host = Hierarchies::of_host().expect("cgroups");
    let v1 = |controller: &Controller| {
        host.home(*controller)
            .is_some_and(|home| host.all[home].version == Version::V1)
    };
    let all = controllers.iter().all(v1);
    if !all {
        eprintln!("SKIP: this host has no v1 hierarchies for {controllers:?}");
    }
    all
}
