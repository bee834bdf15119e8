//! What a running process asks the kernel, counted: the same on a busy machine as on a quiet one.
//! strace(1) looks at the process and at all that it starts; only the process's own threads count.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::Error;
use crate::registry::die_with_parent;

/// Calls of waiting, of the allocator and of a thread's start and end: how many there are is a matter
/// of scheduling. `getpid` is strace's own company, `F_GETFD` a check of debug builds.
const UNCOUNTED: [&str; 21] = [
    "futex",
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "sched_yield",
    "restart_syscall",
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "rseq",
    "set_robust_list",
    "rt_sigprocmask",
    "sigaltstack",
    "sched_getaffinity",
    "gettid",
    "getpid",
    "prctl",
    "exit",
];

/// A process that is looked at. Dropped, it is left alone again.
#[derive(Debug)]
pub struct Tracer {
    strace: Child,
    dir: TempDir,
    read: usize,
    threads: HashSet<u32>,
    /// Threads that are in a call whose end is not written yet, and its beginning.
    begun: HashMap<u32, String>,
}

/// How often each call was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    by_name: BTreeMap<String, u64>,
}

impl Calls {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.by_name.values().sum()
    }

    /// Those of these names.
    #[must_use]
    pub fn of(&self, names: &[&str]) -> u64 {
        names
            .iter()
            .filter_map(|name| self.by_name.get(*name))
            .sum()
    }

    /// Files and directories that were opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.of(&["open", "openat", "openat2"])
    }

    /// Waits for a disk.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.of(&["fsync", "fdatasync", "sync", "syncfs", "sync_file_range"])
    }
}

impl std::fmt::Display for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words: Vec<_> = self.by_name.iter().collect();
        words.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (name, count) in words {
            write!(f, " {name} {count}")?;
        }
        Ok(())
    }
}

impl Tracer {
    /// Looks at a process from now on.
    ///
    /// # Errors
    /// strace is not installed, or may not look at it.
    pub fn attach(pid: u32) -> Result<Self, Error> {
        let dir = tempfile::Builder::new().prefix("floe-calls-").tempdir()?;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-s", "0", "-o"]);
        command.arg(dir.path().join("calls"));
        command.args(["-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(dir.path().join("said"))?);
        let strace = die_with_parent(&mut command)
            .spawn()
            .map_err(|error| format!("strace is not installed (Debian: strace): {error}"))?;
        let mut tracer = Self {
            strace,
            dir,
            read: 0,
            threads: HashSet::new(),
            begun: HashMap::new(),
        };
        for _ in 0..500 {
            tracer.threads = threads(pid)?;
            if tracer.threads.iter().all(|thread| is_traced(*thread)) {
                return Ok(tracer);
            }
            if tracer.strace.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = std::fs::read_to_string(tracer.dir.path().join("said"))?;
        Err(format!("strace cannot look at process {pid}: {said}").into())
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("calls")
    }

    /// Waits until the process and what it has started rest, and tells what it has called since the
    /// last time.
    ///
    /// # Errors
    /// It does not rest within 20 s.
    pub async fn calls(&mut self) -> Result<Calls, Error> {
        let mut length = 0;
        let mut rests = 0;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = std::fs::metadata(self.file())?.len();
            rests = if now == length { rests + 1 } else { 0 };
            length = now;
            if rests == 3 {
                return self.since();
            }
        }
        Err("the process does not rest".into())
    }

    fn since(&mut self) -> Result<Calls, Error> {
        let bytes = std::fs::read(self.file())?;
        let mut calls = Calls::default();
        let text = String::from_utf8_lossy(&bytes[self.read..]);
        for line in text.lines() {
            if let Some((thread, what)) = line.split_once(' ')
                && let Ok(thread) = thread.parse()
            {
                self.line(thread, what.trim_start(), &mut calls);
            }
        }
        self.read = bytes.len();
        Ok(calls)
    }

    fn line(&mut self, thread: u32, what: &str, calls: &mut Calls) {
        if !self.threads.contains(&thread) || what.starts_with(['+', '-']) {
            return;
        }
        if let Some(begin) = what.strip_suffix(" <unfinished ...>") {
            count(begin, calls);
            self.begun.insert(thread, begin.to_owned());
            return;
        }
        let whole = match what.split_once(" resumed>") {
            Some((_, end)) => self.begun.remove(&thread).unwrap_or_default() + end,
            None => {
                count(what, calls);
                what.to_owned()
            }
        };
        if whole.starts_with("clone") && whole.contains("CLONE_THREAD") {
            let made = whole.rsplit_once(" = ").map(|(_, made)| made.trim());
            self.threads
                .extend(made.and_then(|made| made.parse::<u32>().ok()));
        }
    }
}

fn count(call: &str, calls: &mut Calls) {
    let name = call.split('(').next().unwrap_or_default();
    if UNCOUNTED.contains(&name) || call.contains("F_GETFD") {
        return;
    }
    *calls.by_name.entry(name.to_owned()).or_default() += 1;
}

fn threads(pid: u32) -> Result<HashSet<u32>, Error> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

fn is_traced(thread: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.strace);
        // It lets go of what it looks at, and ends.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.strace.wait();
    }
}
