//! config.md, POSIX-platform hooks: programs at points of the life cycle, with the container's
//! state on standard input (runtime.md, state).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
}

/// Calls the hooks of one point in order; the first that fails ends it.
///
/// # Errors
/// [`Error::Hook`] with kind and number.
pub fn run(kind: &'static str, hooks: &[Hook], state: &HookState) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        call(hook, state).map_err(|reason| Error::Hook {
            kind,
            number: index + 1,
            reason,
        })?;
    }
    Ok(())
}

fn call(hook: &Hook, state: &HookState) -> Result<(), String> {
    let input = serde_json::to_vec(state).map_err(|e| e.to_string())?;
    let mut command = Command::new(&hook.path);
    if let Some((first, rest)) = hook.args.split_first() {
        command.arg0(first).args(rest);
    }
    command
        .env_clear()
        .envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| format!("{}: {e}", hook.path.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state.
        let _ = stdin.write_all(&input);
    }
    let status = wait(&mut child, hook.timeout)?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("killed by signal {}", signal.unwrap_or(0)),
    };
    Err(format!(
        "{}: {how}, stderr: {:?}",
        hook.path.display(),
        said.trim()
    ))
}

fn wait(child: &mut Child, timeout: Option<i64>) -> Result<std::process::ExitStatus, String> {
    let Some(seconds) = timeout.and_then(|seconds| u64::try_from(seconds).ok()) else {
        return child.wait().map_err(|e| e.to_string());
    };
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => return Ok(status),
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no end within {seconds} s"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
