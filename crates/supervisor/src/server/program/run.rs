//! A program that is being executed for one verb: begun, reaped or killed at its limit, and what it had to
//! say. It leads a session, and so a process group, of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use runtime::spec::Spec;
use runtime::{Rootfs, mount_for_program};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::process::{PidfdFlags, pidfd_open, setsid};
use serde::Deserialize;

use super::super::poller::Key;
use super::super::{SET_UP, Supervisor, diagnose};
use super::exec::ExecRun;
use crate::error::{Error, Result};
use crate::oci_program::{DELETION, path_of};
use crate::protocol::OciProgram;
use crate::sys::process::{Fork, Process, exit_now, fork};
use crate::sys::signal::unblock_all;

/// How much of what a program says last is read.
const LAST_WORDS: u64 = 64 << 10;
/// How much of it an error holds, in bytes.
const WORDS: usize = 2048;

/// A verb that a program is to carry out.
pub(super) struct Order<'a> {
    pub(super) program: &'a OciProgram,
    /// The container.
    pub(super) id: &'a str,
    pub(super) verb: &'static str,
    /// What stands between the verb and the id.
    pub(super) options: Vec<OsString>,
    /// What stands after it.
    pub(super) last: Option<String>,
    /// Its streams, which a process that it makes gets; otherwise none, and what it says on them is kept.
    pub(super) stdio: Option<[OwnedFd; 3]>,
    /// What is to be mounted where it looks for the root file system.
    pub(super) root: Option<(&'a Path, &'a Spec, Rootfs)>,
    /// Open as long as it runs.
    pub(super) held: Option<OwnedFd>,
}

impl<'a> Order<'a> {
    pub(super) fn new(program: &'a OciProgram, id: &'a str, verb: &'static str) -> Self {
        Self {
            program,
            id,
            verb,
            options: Vec::new(),
            last: None,
            stdio: None,
            root: None,
            held: None,
        }
    }
}

/// A verb that is being carried out, filed under its process.
#[derive(Debug)]
pub(in crate::server) struct Run {
    process: Process,
    /// When it started, as [`stat`] has it.
    since: u64,
    id: String,
    name: String,
    verb: &'static str,
    /// What it has to say.
    log: File,
    limit: Instant,
    late: bool,
    then: Then,
    _held: Option<OwnedFd>,
}

/// What a run is for.
#[derive(Debug)]
pub(in crate::server) enum Then {
    /// The creation of a container.
    Created(Key),
    /// Its start, and who asked for it.
    Started(Key, Key),
    /// A command in it.
    Exec(Box<ExecRun>),
    /// A signal, and who asked for it; nobody if the supervisor did.
    Signalled(Option<Key>),
    /// Paused, for a client.
    Paused(Key, Key),
    /// Resumed, for a client or before a signal.
    Resumed(Key, std::result::Result<Key, i32>),
    /// Its limits were changed.
    Updated(Key),
    /// A container that has ended is deleted.
    Deleted(Key),
    /// A container that was not made is deleted.
    CreationDeleted(Key),
}

impl Run {
    /// When it is killed.
    pub(in crate::server) fn deadline(&self) -> Instant {
        self.limit
    }

    /// Does it make a process?
    pub(in crate::server) fn makes(&self) -> bool {
        matches!(self.then, Then::Created(_) | Then::Exec(_))
    }

    /// Ends it with its process group.
    pub(in crate::server) fn kill(&self) {
        self.process.kill_with_group();
    }
}

/// How a run has ended: what it was for, when it was started, and what the program said if it failed.
pub(super) struct Ended {
    pub(super) since: u64,
    pub(super) outcome: Outcome,
}

/// How a verb went.
pub(super) type Outcome = std::result::Result<(), Failure>;

/// Why a verb was not carried out.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) words: String,
    /// The program did not say anything.
    pub(super) silent: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            words: error.to_string(),
            silent: false,
        }
    }
}

impl Supervisor {
    /// Executes a program for a verb; [`Supervisor::program_ended`] goes on when it has ended.
    pub(super) fn order(&mut self, order: Order<'_>, then: Then) -> Result<i32> {
        let flags = MemfdFlags::CLOEXEC;
        let log = memfd_create("log", flags).map_err(Error::io("make", "a program's log"))?;
        // Written by name and by descriptor, one after the other.
        fcntl_setfl(&log, OFlags::RDWR | OFlags::APPEND)
            .map_err(Error::io("set flags of", "a program's log"))?;
        let (id, verb) = (order.id.to_owned(), order.verb);
        let name = order.program.name().into_owned();
        let limit = if verb == "delete" { DELETION } else { SET_UP };
        let failed = |what| Error::io::<rustix::io::Errno>(what, order.program.path.clone());
        let place = path_of(&log);
        let (pid, held) = match fork(0, None).map_err(Error::io("fork for", &order.program.path))? {
            Fork::Parent(pid) => (pid, order.held),
            Fork::Child => {
                let mut log = File::from(log);
                let reason = execute(order, (&log, &place), self.oom_score_adj);
                // Whoever would read it is gone, or there is room for it.
                let _ = log.write_all(reason.as_bytes());
                exit_now(127)
            }
        };
        // It is not reaped before this function returns: the number is its own.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed("open the pidfd of"))?;
        let pid = pid.as_raw_nonzero().get();
        let run = Run {
            process: Process::new(pid, pidfd),
            since: base::process::stat(pid)
                .ok()
                .flatten()
                .map_or(u64::MAX, |stat| stat.start),
            id,
            name,
            verb,
            log: File::from(log),
            limit: Instant::now() + limit,
            late: false,
            then,
            _held: held,
        };
        self.program_runs.insert(pid, run);
        Ok(pid)
    }

    /// A child is reaped; was it a program?
    pub(in crate::server) fn program_ended(&mut self, pid: i32, code: i32) -> bool {
        let Some(mut run) = self.program_runs.remove(&pid) else {
            return false;
        };
        let outcome = match (code, run.late) {
            (0, _) => Ok(()),
            (_, true) => Err(Failure {
                words: format!("{} {} did not end in time", run.name, run.verb),
                silent: false,
            }),
            (code, false) => {
                let words = last_words(&mut run.log);
                let silent = words.is_none();
                let words = words.unwrap_or_else(|| format!("it ended with code {code}"));
                let words = format!("{} {}: {words}", run.name, run.verb);
                Err(Failure { words, silent })
            }
        };
        let ended = Ended {
            since: run.since,
            outcome,
        };
        match run.then {
            Then::Created(key) => self.created_by_program(key, ended),
            Then::Started(key, client) => self.started_by_program(key, client, ended.outcome),
            Then::Exec(exec) => self.exec_begun_by_program(*exec, ended),
            Then::Signalled(client) => self.signalled_by_program(&run.id, client, ended.outcome),
            Then::Paused(key, client) => self.paused_by_program(key, client, ended.outcome),
            Then::Resumed(key, next) => self.resumed_by_program(key, next, ended.outcome),
            Then::Updated(client) => self.tell_of_verb("update", &run.id, client, ended.outcome),
            Then::Deleted(key) => self.deleted_by_program(key, ended.outcome),
            Then::CreationDeleted(key) => self.creation_deleted(key, ended.outcome),
        }
        true
    }

    /// Kills programs whose time is over.
    pub(in crate::server) fn end_late_programs(&mut self, now: Instant) {
        for run in self.program_runs.values_mut() {
            if run.limit <= now {
                if !run.late {
                    diagnose(format_args!(
                        "container {}: {} {} does not end, and is killed",
                        run.id, run.name, run.verb
                    ));
                }
                run.late = true;
                run.limit = now + Duration::from_secs(5);
                run.kill();
            }
        }
    }
}

/// The rest of the child's life as this program; why it could not become the other.
fn execute(order: Order<'_>, (log, place): (&File, &Path), oom_score_adj: Option<i32>) -> String {
    // It leads no group yet, so this cannot fail.
    let _ = setsid();
    unblock_all();
    if let Some(score) = oom_score_adj {
        // What the program makes has it from the program, unless config.json says otherwise.
        let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
    }
    if let Some((bundle, spec, rootfs)) = &order.root
        && let Err(error) = mount_for_program(bundle, spec, rootfs)
    {
        return error.to_string();
    }
    let mut command = order.program.command(Some(place.as_os_str()), order.verb);
    command.args(&order.options).arg(order.id).args(order.last);
    if let Some([stdin, stdout, stderr]) = order.stdio {
        command.stdin(stdin).stdout(stdout).stderr(stderr);
    } else {
        let Ok(stderr) = log.try_clone() else {
            return "duplicate its log".to_owned();
        };
        let null = std::process::Stdio::null;
        command.stdin(null()).stdout(null()).stderr(stderr);
    }
    let error = command.exec();
    format!("execute {}: {error}", order.program.path.display())
}

/// A line of the log.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(alias = "message")]
    msg: String,
}

/// What a program has said last: the last error of its log, or else its last line.
fn last_words(log: &mut File) -> Option<String> {
    let length = log.metadata().ok()?.len();
    let from = length.saturating_sub(LAST_WORDS);
    log.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    log.take(LAST_WORDS).read_to_end(&mut bytes).ok()?;
    words_of(&String::from_utf8_lossy(&bytes))
}

fn words_of(text: &str) -> Option<String> {
    let parsed = |line: &str| serde_json::from_str::<Line>(line).ok();
    let is_error = |line: &Line| matches!(line.level.as_str(), "error" | "fatal" | "panic");
    let said = text.lines().rev().filter_map(parsed).find(is_error);
    let last = || {
        text.lines()
            .rev()
            .map(str::trim)
            .find(|one| !one.is_empty())
    };
    let words = said.map_or_else(|| last().map(str::to_owned), |line| Some(line.msg))?;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut words: String = words.chars().map(plain).collect();
    words.truncate(words.floor_char_boundary(WORDS));
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_what_a_program_says() {
        let log = r#"{"level":"error","msg":"first"}
{"level":"error","msg":"no such\nfile"}
{"level":"warning","msg":"and so on"}
no such file
"#;
        assert_eq!(words_of(log).as_deref(), Some("no such file"));
    }

    #[test]
    fn a_program_without_such_a_log_says_its_last_line() {
        assert_eq!(words_of("one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(words_of("\n"), None);
    }

    #[test]
    fn words_have_an_end_and_no_escape_sequences() {
        let words = words_of(&"\u{1b}[31mß".repeat(2000)).unwrap();
        assert!(words.len() <= WORDS && !words.contains('\u{1b}'), "{words}");
    }
}
