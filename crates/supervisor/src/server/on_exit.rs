//! What is done when a container of a person's has ended: a program that is executed where the pod's starter was,
//! in its namespaces and cgroups, and told whether the container is to run again. It does what needs the engine
//! (the network, the layers, the container made anew); here is decided what is due, and when. Must never wait for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::setsid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::child::in_child;
use super::container::Container;
use super::poller::Key;
use super::{Supervisor, diagnose};
use crate::health::OnUnhealthy;
use crate::protocol::{OnExit, Restart};
use crate::setup::PodSetup;
use crate::state::{Status, now_ns};
use crate::sys::process::exit_now;

/// Who stops a container, or carries its streams, does what is due itself, unless it is killed.
const OTHERS: Duration = Duration::from_secs(2);
/// How long until a container runs again that has ended at once; doubled each time.
const FIRST: Duration = Duration::from_millis(100);
/// The longest of these.
const LONGEST: Duration = Duration::from_secs(60);
/// Who ran for so long has not ended at once.
const RAN: Duration = Duration::from_secs(10);

/// Where the supervisor was before it was one.
#[derive(Debug)]
pub(super) struct Home {
    namespaces: Vec<(LinkNameSpaceType, OwnedFd)>,
    /// `/proc/self/cgroup`.
    cgroups: String,
}

impl Home {
    /// Remembers it, if the pod needs that.
    pub(super) fn of(setup: &PodSetup) -> Option<Self> {
        if !setup.keeps_home {
            return None;
        }
        let namespaces = [
            (LinkNameSpaceType::Network, "net", setup.new_net),
            (
                LinkNameSpaceType::InterProcessCommunication,
                "ipc",
                setup.new_ipc,
            ),
            (
                LinkNameSpaceType::HostNameAndNISDomainName,
                "uts",
                setup.new_uts,
            ),
        ];
        let open = |name: &str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            open(format!("/proc/self/ns/{name}"), flags, Mode::empty())
        };
        let wanted = namespaces.into_iter().filter(|(_, _, left)| *left);
        Some(Self {
            namespaces: wanted
                .filter_map(|(kind, name, _)| Some((kind, open(name).ok()?)))
                .collect(),
            cgroups: std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
        })
    }

    /// Goes back there. A cgroup that is gone has one above it.
    fn go(&self) -> std::io::Result<()> {
        for (kind, namespace) in &self.namespaces {
            move_into_link_name_space(namespace.as_fd(), Some(*kind))?;
        }
        for (root, path) in self.cgroups.lines().filter_map(place) {
            let below = path.trim_start_matches('/');
            let above = Path::new(below).ancestors();
            let mut files = above.map(|dir| root.join(dir).join("cgroup.procs"));
            if !files.any(|file| std::fs::write(file, "0").is_ok()) {
                diagnose(format_args!("no way back into the cgroup {path}"));
            }
        }
        Ok(())
    }
}

/// A line of `/proc/PID/cgroup`: where the hierarchy is mounted, and the path in it.
fn place(line: &str) -> Option<(PathBuf, &str)> {
    let mut parts = line.splitn(3, ':');
    let (_number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
    let all = Path::new("/sys/fs/cgroup");
    let root = match names {
        "" if all.join("unified").is_dir() => all.join("unified"),
        "" => all.to_owned(),
        names => all.join(names.strip_prefix("name=").unwrap_or(names)),
    };
    Some((root, path))
}

/// How often a container has run again.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Restarts {
    /// In all, since somebody started it.
    pub(super) count: u32,
    /// In a row, each after it had ended at once.
    soon: u32,
}

/// What is due after a container's end.
#[derive(Debug)]
pub(super) struct Due {
    /// What, and by which program.
    what: Box<OnExit>,
    /// When; `None`: it has not ended.
    pub(super) at: Option<Instant>,
    /// The container is to run again.
    again: bool,
}

impl Due {
    pub(super) fn of(what: Box<OnExit>) -> Self {
        Self {
            what,
            at: None,
            again: false,
        }
    }
}

/// Programs that run, and the container for which each does.
pub(super) type Running = BTreeMap<i32, String>;

impl Supervisor {
    /// A container has ended: decides what is due. `attached`: somebody carries its streams.
    pub(super) fn note_exit(&mut self, key: Key, attached: bool) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(due) = container.due.as_mut() else {
            return;
        };
        let restarts = self.restarts.entry(container.state.id.clone()).or_default();
        let removed = container.killed || container.removal.is_some();
        let stopped = removed || (container.stop.is_some() && container.unwell.is_none());
        let wants = || wanted(&due.what.restart, &container.state.status, restarts.count);
        due.again = !stopped
            && match container.unwell {
                Some(OnUnhealthy::Restart) => true,
                Some(OnUnhealthy::Stop) => false,
                Some(OnUnhealthy::Kill | OnUnhealthy::Nothing) | None => wants(),
            };
        let wait = match (due.again, stopped || attached) {
            (true, _) => restarts.next(ran(&container.state.status)),
            (false, true) => OTHERS,
            (false, false) => Duration::ZERO,
        };
        due.at = Instant::now().checked_add(wait);
    }

    /// Executes what is due.
    pub(super) fn on_due_exits(&mut self, now: Instant) {
        let Some(home) = &self.home else { return };
        for container in self.containers.values_mut() {
            let is_due = |due: &Due| due.at.is_some_and(|at| at <= now);
            if let Some(due) = container.due.take_if(|due| is_due(due)) {
                match begin(home, &due, container) {
                    Ok(pid) => {
                        self.on_exits.insert(pid, container.state.id.clone());
                    }
                    Err(error) => diagnose(format_args!(
                        "container {}: what is due at its end: {error}",
                        container.state.id
                    )),
                }
            }
        }
    }

    /// A child is reaped; was it such a program?
    pub(super) fn on_exit_ended(&mut self, pid: i32, code: i32) -> bool {
        let Some(id) = self.on_exits.remove(&pid) else {
            return false;
        };
        if code != 0 {
            diagnose(format_args!(
                "container {id}: what was due at its end has failed with code {code}"
            ));
        }
        true
    }
}

impl Restarts {
    /// One more; how long until then.
    fn next(&mut self, ran: Duration) -> Duration {
        self.count = self.count.saturating_add(1);
        self.soon = match ran < RAN {
            true => self.soon.saturating_add(1),
            false => 1,
        };
        FIRST
            .saturating_mul(1 << (self.soon - 1).min(16))
            .min(LONGEST)
    }
}

/// Is a container that ended so to run again?
fn wanted(policy: &Restart, status: &Status, count: u32) -> bool {
    let Status::Exited {
        started_at: Some(_),
        exit_code,
        ..
    } = status
    else {
        return false;
    };
    match policy {
        Restart::No => false,
        Restart::Always => true,
        Restart::OnFailure { most } => *exit_code != 0 && most.is_none_or(|most| count < most),
    }
}

fn ran(status: &Status) -> Duration {
    let since = status.started_at().map_or(0, |at| now_ns() - at);
    Duration::from_nanos(u64::try_from(since).unwrap_or(0))
}

fn begin(home: &Home, due: &Due, container: &Container) -> crate::error::Result<i32> {
    let id = &container.state.id;
    let (pid, _said) = in_child("what is due at a container's end", |_| {
        let error = become_it(home, due, id);
        diagnose(format_args!("container {id}: {error}"));
        exit_now(127)
    })?;
    Ok(pid)
}

/// The rest of the child's life as this program; why it could not become the other.
fn become_it(home: &Home, due: &Due, id: &str) -> String {
    if let Err(error) = home.go() {
        return format!("back to where the pod was started: {error}");
    }
    let _ = setsid();
    // The supervisor's own would keep it alive when memory is out.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let [program, arguments @ ..] = &due.what.argv[..] else {
        return "no program".to_owned();
    };
    let word = match due.again {
        true => "--restart",
        false => "--ended",
    };
    let further = [OsString::from(word), OsString::from(id)];
    let error = Command::new(program)
        .args(arguments)
        .args(further)
        .env_clear()
        .envs(due.what.env.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .exec();
    format!("execute {}: {error}", program.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: i32) -> Status {
        Status::Exited {
            started_at: Some(1),
            finished_at: 2,
            exit_code,
            oom_killed: false,
            message: None,
        }
    }

    #[test]
    fn a_policy_decides_by_the_code_and_by_how_often() {
        let failing = |most| Restart::OnFailure { most };
        for (policy, code, count, again) in [
            (Restart::No, 1, 0, false),
            (Restart::Always, 0, 1000, true),
            (failing(None), 0, 0, false),
            (failing(None), 3, 1000, true),
            (failing(Some(2)), 3, 1, true),
            (failing(Some(2)), 3, 2, false),
        ] {
            let found = wanted(&policy, &ended(code), count);
            assert_eq!(found, again, "{policy:?} {code} {count}");
        }
        assert!(!wanted(&Restart::Always, &Status::Created, 0));
    }

    #[test]
    fn who_ends_at_once_again_and_again_waits_longer_and_longer() {
        let mut restarts = Restarts::default();
        let mut waits = (0..12).map(|_| restarts.next(Duration::ZERO).as_millis());
        let first: Vec<u128> = waits.by_ref().take(4).collect();
        assert_eq!(first, [100, 200, 400, 800]);
        assert_eq!(waits.last(), Some(LONGEST.as_millis()));
        assert_eq!(restarts.next(RAN), FIRST);
        assert_eq!(restarts.count, 13);
    }

    #[test]
    fn a_line_of_proc_names_a_directory_of_each_hierarchy() {
        let (root, path) = place("4:cpu,cpuacct:/a/b").unwrap();
        assert_eq!(root, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(path, "/a/b");
        let (root, _) = place("1:name=systemd:/x").unwrap();
        assert_eq!(root, Path::new("/sys/fs/cgroup/systemd"));
        assert!(
            place("0::/c").is_some_and(|(root, path)| root.starts_with("/sys") && path == "/c")
        );
        assert_eq!(place("nothing"), None);
    }
}
