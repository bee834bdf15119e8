//! config.md, POSIX-platform hooks: programs at points of the life cycle, with the container's
//! state on standard input (runtime.md, state).
//!
//! Those that are the host's must get nothing of the container: no variable, no directory to work in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::spec::{Hook, Spec};

/// The state of a container as hooks and `state` see it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookState {
    oci_version: String,
    id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl HookState {
    /// `status` is one of the specification's: creating, created, running, stopped.
    #[must_use]
    pub fn new(
        id: &str,
        status: &'static str,
        pid: Option<i32>,
        bundle: &Path,
        spec: &Spec,
    ) -> Self {
        Self {
            oci_version: spec.oci_version.clone(),
            id: id.to_owned(),
            status,
            pid,
            bundle: bundle.display().to_string(),
            annotations: spec.annotations.clone(),
        }
    }

    /// The same of this process.
    #[must_use]
    pub(crate) fn with_pid(mut self, pid: Option<i32>) -> Self {
        self.pid = pid;
        self
    }
}

/// Calls the hooks of one point in order; the first that fails ends it. A hook that names no environment
/// has the caller's.
///
/// # Errors
/// [`Error::Hook`] with kind and number.
pub fn run(kind: &'static str, hooks: &[Hook], state: &HookState) -> Result<()> {
    run_with(kind, hooks, state, None)
}

/// Calls all hooks of one point in order, whatever comes of them.
pub fn run_all(kind: &'static str, hooks: &[Hook], state: &HookState) -> Vec<Error> {
    each(kind, hooks, state, None)
        .filter_map(Result::err)
        .collect()
}

/// As [`run`]; a hook that names no environment gets this one.
pub(crate) fn run_with(
    kind: &'static str,
    hooks: &[Hook],
    state: &HookState,
    usual: Option<&Environment>,
) -> Result<()> {
    each(kind, hooks, state, usual).collect()
}

fn each(
    kind: &'static str,
    hooks: &[Hook],
    state: &HookState,
    usual: Option<&Environment>,
) -> impl Iterator<Item = Result<()>> {
    hooks.iter().enumerate().map(move |(number, hook)| {
        call(hook, state, usual).map_err(|reason| Error::Hook {
            kind,
            number,
            reason,
        })
    })
}

/// An environment that is not the caller's own. Its memory is overwritten when it goes: a container may
/// come to see that.
#[derive(Default)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// The caller's.
    pub(crate) fn of_caller() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// Of `NAME=VALUE`.
    pub(crate) fn of(words: &[String]) -> Self {
        let pairs = words.iter().filter_map(|entry| entry.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            let mut bytes = std::mem::take(value).into_vec();
            bytes.fill(0);
            std::hint::black_box(&bytes);
        }
    }
}

fn call(hook: &Hook, state: &HookState, usual: Option<&Environment>) -> Result<(), String> {
    let told = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let input = serde_json::to_vec(state).map_err(|e| e.to_string())?;
    // Files and no pipes: a hook need not read its state, and may say as much as it likes.
    let mut stdin = anonymous("state")?;
    stdin
        .write_all(&input)
        .and_then(|()| stdin.rewind())
        .map_err(told("write its state"))?;
    let mut said = anonymous("stderr")?;
    let mut command = Command::new(&hook.path);
    if let Some((first, rest)) = hook.args.split_first() {
        command.arg0(first).args(rest);
    }
    match (&hook.env, usual) {
        (Some(own), _) => {
            let own = own.iter().filter_map(|entry| entry.split_once('='));
            command.env_clear().envs(own);
        }
        (None, Some(usual)) => {
            let usual = usual.0.iter().map(|(name, value)| (name, value));
            command.env_clear().envs(usual);
        }
        (None, None) => {}
    }
    let stderr = said.try_clone().map_err(told("duplicate"))?;
    command.stdin(stdin).stdout(Stdio::null()).stderr(stderr);
    let mut child = command
        .spawn()
        .map_err(|e| format!("{}: {e}", hook.path.display()))?;
    let status = wait(&mut child, hook.timeout)
        .map_err(|reason| format!("{}: {reason}", hook.path.display()))?;
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    said.rewind()
        .and_then(|()| said.take(4096).read_to_end(&mut text))
        .map_err(told("read its stderr"))?;
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal: {}", signal_text(signal.unwrap_or(0))),
    };
    let text = String::from_utf8_lossy(&text);
    Err(format!(
        "{}: {how}, stderr: {:?}",
        hook.path.display(),
        text.trim()
    ))
}

fn signal_text(number: i32) -> String {
    match number {
        libc::SIGABRT => "aborted".into(),
        libc::SIGKILL => "killed".into(),
        libc::SIGSEGV => "segmentation fault".into(),
        libc::SIGSYS => "bad system call".into(),
        libc::SIGTERM => "terminated".into(),
        other => format!("signal {other}"),
    }
}

/// A file without a name that takes no part in execve.
pub(crate) fn anonymous(name: &str) -> Result<File, String> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC);
    file.map(File::from)
        .map_err(|errno| format!("make a file for its {name}: {errno}"))
}

/// Waits for a child, which is killed when so many seconds have passed.
pub(crate) fn wait(
    child: &mut Child,
    timeout: Option<i64>,
) -> Result<std::process::ExitStatus, String> {
    let Some(seconds) = timeout.filter(|seconds| *seconds > 0) else {
        return child.wait().map_err(|e| e.to_string());
    };
    if ends_within(child, seconds)? {
        return child.wait().map_err(|e| e.to_string());
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("no end within {seconds} s"))
}

fn ends_within(child: &Child, seconds: i64) -> Result<bool, String> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or("it has no process id")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| errno.to_string())?;
    let deadline = Instant::now() + Duration::from_secs(seconds.unsigned_abs());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|e| e.to_string())?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            other => {
                return other
                    .map(|ready| ready > 0)
                    .map_err(|errno| errno.to_string());
            }
        }
    }
}
