//! What restored processes may do, as the kernel says, before they do anything: criu gives them what they had
//! when they were written down, and config.json says what they may have now. More than that is refused.

use std::path::{Path, PathBuf};

use base::file::read_bounded;
use runtime::capability::Sets;
use runtime::cgroup::Cgroup;
use runtime::spec::{Process, Spec};
use rustix::io::Errno;
use rustix::process::{Rlimit, prlimit};

/// /proc/PID/status is shorter.
const STATUS: u64 = 64 << 10;
/// `Seccomp:` of a process with filters.
const FILTERED: u64 = 2;

/// Looks at every thread of every process in a cgroup, and gives the processes what is set from outside.
///
/// # Errors
/// What one may do and config.json does not allow, in words.
pub(super) fn check(cgroup: &Cgroup, first: i32, spec: &Spec) -> Result<(), String> {
    let processes = cgroup.processes().map_err(|error| error.to_string())?;
    if !processes.contains(&first) {
        return Err(format!("its first process {first} is not in its cgroup"));
    }
    namespaces(first, spec)?;
    let process = spec.process.clone().unwrap_or_default();
    for pid in processes {
        let tasks = PathBuf::from(format!("/proc/{pid}/task"));
        let entries = std::fs::read_dir(&tasks).map_err(|error| format!("{tasks:?}: {error}"))?;
        for entry in entries.flatten() {
            let path = entry.path().join("status");
            let status = read_bounded(&path, STATUS)
                .ok()
                .flatten()
                .unwrap_or_default();
            let status = String::from_utf8_lossy(&status).into_owned();
            allowed(&Status(&status), &process, spec)
                .map_err(|reason| format!("restored process {pid}: {reason}"))?;
        }
        apply(pid, &process)?;
    }
    Ok(())
}

/// The lines of /proc/PID/status.
struct Status<'a>(&'a str);

impl Status<'_> {
    fn words(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.words(name)?.trim().parse().ok()
    }

    fn set(&self, name: &str) -> Result<u64, String> {
        let text = self.words(name).map(str::trim);
        let parsed = text.and_then(|text| u64::from_str_radix(text, 16).ok());
        parsed.ok_or_else(|| format!("its {name} cannot be read"))
    }
}

fn allowed(status: &Status<'_>, process: &Process, spec: &Spec) -> Result<(), String> {
    let may = process
        .capabilities
        .as_ref()
        .map(|them| Sets::parse(them).0);
    let bounding = may.map(|sets| sets.bounding);
    let bounding: u64 = bounding.map_or(0, |set| set.iter().fold(0, |all, one| all | 1 << one));
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let more = status.set(name)? & !bounding;
        if more != 0 {
            return Err(format!(
                "{name} has capabilities {more:#x} that the request does not allow"
            ));
        }
    }
    if process.no_new_privileges && status.number("NoNewPrivs") != Some(1) {
        return Err("it may gain privileges, which the request forbids".to_owned());
    }
    let filtered = spec
        .linux
        .as_ref()
        .is_some_and(|linux| linux.seccomp.is_some());
    if filtered && status.number("Seccomp") != Some(FILTERED) {
        return Err("no seccomp profile confines it, and the request has one".to_owned());
    }
    let user = process.user.uid;
    let ids = status.words("Uid").unwrap_or_default();
    let ids: Vec<u32> = ids
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect();
    if ids.len() != 4 || (user != 0 && ids.contains(&0)) {
        return Err(format!("it is root, and the request has user {user}"));
    }
    Ok(())
}

/// Is the first process in namespaces of its own or of the pod's, as config.json has it?
fn namespaces(first: i32, spec: &Spec) -> Result<(), String> {
    let inode = |path: &Path| {
        let found = std::fs::metadata(path);
        found
            .map(|found| std::os::unix::fs::MetadataExt::ino(&found))
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    for namespace in spec.linux.iter().flat_map(|linux| &linux.namespaces) {
        let file = namespace.kind.file();
        let its = inode(Path::new(&format!("/proc/{first}/ns/{file}")))?;
        let well = match &namespace.path {
            Some(path) => its == inode(path)?,
            None => its != inode(Path::new(&format!("/proc/self/ns/{file}")))?,
        };
        if !well {
            return Err(format!("its {file} namespace is not that of the request"));
        }
    }
    Ok(())
}

/// Limits, and the score for want of memory, are the request's and not those of before.
fn apply(pid: i32, process: &Process) -> Result<(), String> {
    if let Some(score) = process.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        // Lower than before may take a privilege that is not there, as with any container.
        let _ = std::fs::write(path, score.to_string());
    }
    let number = rustix::process::Pid::from_raw(pid);
    for limit in &process.rlimits {
        let resource = runtime::rlimit(&limit.kind);
        let resource = resource.ok_or_else(|| format!("{:?} is no limit", limit.kind))?;
        let limits = Rlimit {
            current: Some(limit.soft),
            maximum: Some(limit.hard),
        };
        match prlimit(number, resource, limits) {
            // To raise it takes a privilege that is not there, as with any container.
            Ok(_) | Err(Errno::PERM) => {}
            Err(errno) => return Err(format!("set its {}: {errno}", limit.kind)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nUid:\t1000\t1000\t1000\t1000\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000400\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000401\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    fn spec() -> Spec {
        let json = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {
                "args": ["sh"], "cwd": "/", "user": {"uid": 1000, "gid": 0},
                "noNewPrivileges": true,
                "capabilities": {"bounding": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]},
            },
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
        });
        serde_json::from_value(json).unwrap()
    }

    fn refusal(status: &str) -> String {
        let spec = spec();
        let process = spec.process.clone().unwrap();
        match allowed(&Status(status), &process, &spec) {
            Ok(()) => String::new(),
            Err(reason) => reason,
        }
    }

    #[test]
    fn what_the_request_does_not_allow_is_refused_by_name() {
        assert_eq!(refusal(STATUS), "");
        for (from, to, words) in [
            (
                "CapBnd:\t0000000000000401",
                "CapBnd:\t0000000000200401",
                "CapBnd has capabilities 0x200000",
            ),
            (
                "CapEff:\t0000000000000000",
                "CapEff:\t0000000000000002",
                "CapEff",
            ),
            (
                "CapAmb:\t0000000000000000",
                "CapAmb:\tx",
                "CapAmb cannot be read",
            ),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "gain privileges"),
            ("Seccomp:\t2", "Seccomp:\t0", "seccomp"),
            ("Uid:\t1000\t1000\t1000", "Uid:\t1000\t1000\t0", "root"),
            ("Uid:", "Gid:", "root"),
        ] {
            let status = STATUS.replace(from, to);
            assert_ne!(status, STATUS);
            assert!(refusal(&status).contains(words), "{}", refusal(&status));
        }
    }
}
