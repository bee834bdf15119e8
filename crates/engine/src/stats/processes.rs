//! The processes of a container and what they have open, by /proc (proc_pid_fd(5)): looked at within bounds,
//! as a container may have as many as it likes. Past them it is not known, rather than known in part.

use std::fs;
use std::path::Path;

use runtime::cgroup::Cgroup;

use crate::container::Container;

/// Processes that are looked at.
const PROCESSES: usize = 256;
/// Descriptors that are looked at, of all of them.
const DESCRIPTORS: usize = 4096;

/// A container's processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// How many there are.
    pub count: u64,
    /// What they have open; `None` if that is too much to look at.
    pub open: Option<Open>,
    /// Descriptors that its first process may have; `None`: any number, or not known.
    pub open_limit: Option<u64>,
}

/// Open descriptors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    /// All of them.
    pub descriptors: u64,
    /// Those that are sockets.
    pub sockets: u64,
}

impl Processes {
    /// Those in the container's cgroup.
    pub(super) fn of(container: &Container) -> Option<Self> {
        let processes = Cgroup::open(&container.cgroup).ok()?.processes().ok()?;
        let dirs = processes.iter().map(|pid| format!("/proc/{pid}/fd"));
        Some(Self {
            count: u64::try_from(processes.len()).ok()?,
            open: match processes.len() <= PROCESSES {
                true => open(dirs, DESCRIPTORS),
                false => None,
            },
            open_limit: container.pid.and_then(open_limit),
        })
    }
}

/// What directories of descriptors have, if that is not more than `most` in all. What ends meanwhile has
/// none.
fn open<P: AsRef<Path>>(dirs: impl Iterator<Item = P>, most: usize) -> Option<Open> {
    let (mut open, mut left) = (Open::default(), most);
    for dir in dirs {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            open.descriptors += 1;
            let target = fs::read_link(entry.path());
            let is_socket = |target: &Path| {
                target
                    .as_os_str()
                    .as_encoded_bytes()
                    .starts_with(b"socket:")
            };
            open.sockets += u64::from(target.is_ok_and(|target| is_socket(&target)));
        }
    }
    Some(open)
}

/// The line `Max open files  1024  4096  files` of a process's limits.
fn open_limit(pid: i32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    soft_limit(&limits)
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    line?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_and_sockets_are_counted_within_bounds() {
        let own = || std::iter::once(format!("/proc/{}/fd", std::process::id()));
        let before = open(own(), DESCRIPTORS).unwrap();
        let pair = UnixStream::pair().unwrap();
        let after = open(own(), DESCRIPTORS).unwrap();
        assert!(
            after.sockets >= 2 && after.sockets >= before.sockets,
            "{before:?} {after:?}"
        );
        assert!(after.descriptors >= after.sockets);
        assert_eq!(open(own(), 1), None);
        assert_eq!(
            open(["/proc/none/fd"].into_iter(), 1),
            Some(Open::default())
        );
        drop(pair);
    }

    #[test]
    fn the_soft_limit_of_open_files_is_read() {
        let limits = |soft| {
            format!("Limit  Soft  Hard  Units\nMax open files            {soft}   4096  files\n")
        };
        assert_eq!(soft_limit(&limits("1024")), Some(1024));
        assert_eq!(soft_limit(&limits("unlimited")), None);
        assert_eq!(soft_limit(""), None);
        assert!(
            open_limit(i32::try_from(std::process::id()).unwrap()).is_none_or(|limit| limit > 0)
        );
    }
}
