//! The questions of the sandbox service, which some shims have: the life of a pod without a
//! container of its own (a pause container) in it. Whether a shim has it is asked with [`platform`]: a
//! shim that has not answers that it does not know the service ([`crate::Error::is_unimplemented`]).
//!
//! Definition: <https://github.com/containerd/containerd/blob/main/api/runtime/sandbox/v1/sandbox.proto>

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use ttrpc::printable;

use crate::call::{Ask, Reader};
use crate::stats::Stats;
use crate::task::{ANSWER_LIMIT, WORK_LIMIT, nothing, read};
use crate::value::{self, Exit, Options, time};
use crate::wire;

/// A sandbox to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its network namespace.
    pub netns: Option<PathBuf>,
    /// What its runtime is told.
    pub options: Option<Options>,
    /// The pod's annotations that the handler may see.
    pub annotations: BTreeMap<String, String>,
}

/// A sandbox that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its process on this host, if there is one.
    pub pid: Option<i32>,
    /// Since when, in nanoseconds since 1970.
    pub at: Option<i64>,
}

/// A sandbox as the shim sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// It takes containers.
    pub ready: bool,
    /// The shim's word for it.
    pub word: String,
    /// Its process on this host, if there is one.
    pub pid: Option<i32>,
    /// When it ended, in nanoseconds since 1970.
    pub exited_at: Option<i64>,
}

fn ask<T>(
    (verb, method): (&'static str, &'static str),
    id: &str,
    message: &impl Message,
    read: Reader<T>,
) -> Ask<T> {
    Ask {
        verb,
        id: id.to_owned(),
        service: "containerd.runtime.sandbox.v1.Sandbox".to_owned(),
        method,
        payload: message.encode_to_vec(),
        limit: Some(ANSWER_LIMIT),
        read,
    }
}

fn sandbox(id: &str) -> wire::SandboxRequest {
    wire::SandboxRequest {
        sandbox_id: id.to_owned(),
    }
}

/// On what do its containers run? Operating system and architecture as the image-spec has them.
pub fn platform(id: &str) -> Ask<(String, String)> {
    let answer = read(|answer: wire::PlatformResponse| {
        let platform = answer.platform.ok_or("no platform")?;
        Ok((printable(&platform.os), printable(&platform.architecture)))
    });
    ask(
        ("ask the platform of", "Platform"),
        id,
        &sandbox(id),
        answer,
    )
}

/// Make a sandbox.
pub fn create(create: Create) -> Ask<()> {
    let message = wire::CreateSandboxRequest {
        sandbox_id: create.id.clone(),
        bundle_path: create.bundle.to_string_lossy().into_owned(),
        rootfs: Vec::new(),
        options: create.options.as_ref().map(Options::any),
        netns_path: create
            .netns
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        annotations: create.annotations,
    };
    let question = ask(
        ("create sandbox", "CreateSandbox"),
        &create.id,
        &message,
        nothing(),
    );
    question.within(Some(WORK_LIMIT))
}

/// Begin it: a virtual machine boots.
pub fn start(id: &str) -> Ask<Started> {
    let answer = read(|answer: wire::StartSandboxResponse| {
        Ok(Started {
            pid: value::pid(answer.pid)?,
            at: time(answer.created_at),
        })
    });
    let question = ask(("start sandbox", "StartSandbox"), id, &sandbox(id), answer);
    question.within(Some(WORK_LIMIT))
}

/// What does it do now?
pub fn status(id: &str) -> Ask<State> {
    let wanted = id.to_owned();
    let answer = read(move |answer: wire::SandboxStatusResponse| {
        if answer.sandbox_id != wanted {
            return Err(format!(
                "{} was not asked for",
                printable(&answer.sandbox_id)
            ));
        }
        Ok(State {
            ready: answer.state == "SANDBOX_READY",
            word: printable(&answer.state),
            pid: value::pid(answer.pid)?,
            exited_at: time(answer.exited_at),
        })
    });
    let message = sandbox(id);
    ask(
        ("ask the status of sandbox", "SandboxStatus"),
        id,
        &message,
        answer,
    )
}

/// Does it live?
pub fn ping(id: &str) -> Ask<()> {
    ask(("ping sandbox", "PingSandbox"), id, &sandbox(id), nothing())
}

/// Answers when it has ended, however long that takes.
pub fn wait(id: &str) -> Ask<Exit> {
    let answer =
        read(|answer: wire::WaitResponse| Ok(Exit::of(answer.exit_status, answer.exited_at)));
    ask(
        ("wait for sandbox", "WaitSandbox"),
        id,
        &sandbox(id),
        answer,
    )
    .within(None)
}

/// End it; it is killed after `grace`.
pub fn stop(id: &str, grace: Duration) -> Ask<()> {
    let message = wire::StopSandboxRequest {
        sandbox_id: id.to_owned(),
        timeout_secs: u32::try_from(grace.as_secs()).unwrap_or(u32::MAX),
    };
    let question = ask(("stop sandbox", "StopSandbox"), id, &message, nothing());
    question.within(grace.checked_add(WORK_LIMIT))
}

/// End the shim with what is left of the sandbox.
pub fn shutdown(id: &str) -> Ask<()> {
    let message = sandbox(id);
    let question = ask(
        ("shut down sandbox", "ShutdownSandbox"),
        id,
        &message,
        nothing(),
    );
    question.within(Some(WORK_LIMIT))
}

/// Its figures.
pub fn metrics(id: &str) -> Ask<Stats> {
    let answer = read(|answer: wire::SandboxMetricsResponse| {
        let metric = answer.metrics.and_then(|metric| metric.data);
        Stats::read(&metric.ok_or("no figures")?)
    });
    ask(
        ("measure sandbox", "SandboxMetrics"),
        id,
        &sandbox(id),
        answer,
    )
}
