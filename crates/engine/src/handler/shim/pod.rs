//! A pod's shim: beginning it, finding it, taking it over, and ending it whatever has become of it.

use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use shim::{Bootstrap, Invocation, Mount, Shim, sandbox as sandboxes, task};
use supervisor::{
    Became, Client, Companion, CompanionExit, ContainerState, CreateContainer, LogTarget,
    RootfsSource,
};

use super::super::deadline::Deadline;
use super::super::{ContainerRef, Pending, PodRef};
use super::record::{self, ShimRecord};
use super::{Shims, container, failed, sandbox, service};
use crate::error::{Error, Result};

/// Where the shim's own words are, in the pod's directory.
const LOG: &str = "shim.log";
/// As many bytes of them are kept.
const LOG_SIZE: u64 = 1 << 20;
/// How long a shim may take to end once it has nothing left.
const ENDS: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOKS: Duration = Duration::from_millis(10);

/// A connection to the pod's supervisor, for as long as is left.
pub(super) fn supervisor(pod: PodRef<'_>, until: Deadline) -> Result<Client> {
    let client = Client::connect_within(pod.dir, until.left());
    client.map_err(told("talk to the supervisor of pod", pod.id))
}

pub(super) fn told(verb: &'static str, id: &str) -> impl FnOnce(supervisor::Error) -> Error {
    let id = id.to_owned();
    move |source| Error::Supervisor { verb, id, source }
}

/// Has the container that stands for the pod ended, or its shim? Then there is no sandbox any more.
pub(super) fn has_ended(pod: PodRef<'_>) -> bool {
    let state = ContainerState::read(&sandbox::bundle(pod));
    matches!(state, Ok(Some(state)) if state.status.is_exited())
}

/// Completes when the supervisor is gone, or the container that stands for the pod has ended.
pub(super) fn gone(supervisor_gone: Pending<()>, pod: PodRef<'_>) -> Result<Pending<()>> {
    if has_ended(pod) {
        return Ok(Box::pin(std::future::ready(Ok(()))));
    }
    let record = record::read(pod)?;
    let by_service = record.as_ref().is_some_and(|record| record.service);
    let shim = record.and_then(|record| record.shim());
    let id = pod.id.to_owned();
    Ok(Box::pin(async move {
        let Some(shim) = shim else {
            return supervisor_gone.await;
        };
        let end = match by_service {
            true => sandboxes::wait(&id),
            false => task::wait(&shim, &id, None),
        };
        tokio::select! {
            gone = supervisor_gone => gone,
            // However it is answered, it is over.
            _ = shim.ask_async(end) => Ok(()),
        }
    }))
}

/// The pod's sandbox as a container of its own directory.
fn as_container<'a>(pod: PodRef<'a>, dir: &'a Path, cgroup: &'a str) -> ContainerRef<'a> {
    ContainerRef {
        pod,
        id: pod.id,
        dir,
        cgroup,
    }
}

impl Shims {
    /// The pod's shim, to be asked.
    pub(super) fn shim(&self, pod: PodRef<'_>) -> Result<Shim> {
        let record = record::read(pod)?;
        record
            .and_then(|record| record.shim())
            .ok_or_else(|| Error::State {
                verb: "ask the shim of",
                what: "pod",
                id: pod.id.to_owned(),
                state: "without one".to_owned(),
            })
    }

    /// Begins the pod's shim and in it the sandbox.
    pub(super) fn begin(&self, pod: PodRef<'_>, limit: Duration) -> Result<()> {
        let until = Deadline::after(self.limit(limit));
        let mut record = ShimRecord::new(&self.config, pod);
        record.write(pod)?;
        self.events.listen(&record, pod)?;
        let bundle = sandbox::bundle(pod);
        carry(pod, &bundle, until)?;
        let shim = start(&record, pod, &bundle, until)?;
        record.found(&shim);
        record.write(pod)?;
        let cgroup = sandbox::cgroup(pod);
        let at = as_container(pod, &bundle, &cgroup);
        if let Some(pid) = service::begin(&shim, &record, pod, until)? {
            record.service = true;
            record.write(pod)?;
            service::tell_made(&shim, at, pid, until)?;
            return container::tell(at, Became::Running, until);
        }
        let root = sandbox::root(&self.config.runroot, self.pods.program()?)?;
        let root = Mount::bind(&root, true);
        let create = task::Create {
            id: pod.id.to_owned(),
            bundle: bundle.clone(),
            rootfs: vec![root.map_err(|reason| Error::invalid("root", reason))?],
            streams: task::Streams::default(),
            checkpoint: None,
            options: record.options(pod),
        };
        let pid = shim.ask(task::create(&shim, create).within(Some(until.left())));
        container::tell_made(&shim, at, pid.map_err(failed)?, until)?;
        let start = task::start(&shim, pod.id, None).within(Some(until.left()));
        shim.ask(start).map_err(failed)?;
        container::tell(at, Became::Running, until)
    }

    /// Takes a pod over: events come here from now on, and what the last engine did not tell the
    /// supervisor any more is told.
    pub(super) fn take_over(&self, pod: PodRef<'_>, containers: &[ContainerRef<'_>]) -> Result<()> {
        let Some(record) = record::read(pod)? else {
            return Ok(());
        };
        self.events.listen(&record, pod)?;
        let Some(shim) = record.shim() else {
            return Ok(());
        };
        for container in containers {
            match container::reconcile(&shim, *container) {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(container = %container.id, %error, "its shim is not heard");
                }
            }
        }
        Ok(())
    }

    /// Ends a container in its shim, or what a dead shim left of it. What cannot be is a warning: the
    /// supervisor ends what it can, too.
    pub(super) fn end(&self, container: ContainerRef<'_>, until: Deadline) {
        let record = match record::read(container.pod) {
            Ok(Some(record)) => record,
            // The shim was not begun.
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(container = %container.id, %error, "its shim is not known");
                return;
            }
        };
        let ended = match record.shim() {
            Some(shim) => container::end(&shim, container.id, until),
            None => Ok(false),
        };
        let cleaned = match ended {
            Ok(true) => return,
            Ok(false) => clean_up(&record, container, until),
            Err(error) if error.is_gone() => clean_up(&record, container, until),
            Err(error) => Err(error),
        };
        if let Err(error) = cleaned {
            tracing::warn!(container = %container.id, %error, "its shim does not end it");
        }
    }

    /// Ends the pod's shim with all that it has.
    pub(super) fn end_shim(
        &self,
        pod: PodRef<'_>,
        containers: &[ContainerRef<'_>],
        until: Deadline,
    ) {
        let Ok(Some(record)) = record::read(pod) else {
            return;
        };
        // A shim whose events nobody takes does not end for long.
        if let Err(error) = self.events.listen(&record, pod) {
            tracing::warn!(pod = %pod.id, %error, "its shim's events are not taken");
        }
        for container in containers {
            self.end(*container, until);
        }
        let bundle = sandbox::bundle(pod);
        let cgroup = sandbox::cgroup(pod);
        let at = as_container(pod, &bundle, &cgroup);
        let Some(shim) = record.shim() else {
            return self.end(at, until);
        };
        let ended = if record.service {
            service::end(&shim, pod, until)
        } else {
            self.end(at, until);
            shim.ask(task::shutdown(&shim, pod.id, true).within(Some(until.left())))
        };
        match ended {
            // It may end before it has answered.
            Ok(()) => wait_for_end(&shim, until.left_of(ENDS)),
            Err(error) if error.is_gone() => {
                // What stood for the pod as a container is cleaned up after already.
                if record.service
                    && let Err(error) = clean_up(&record, at, until)
                {
                    tracing::warn!(pod = %pod.id, %error, "its dead shim is not cleaned up after");
                }
            }
            Err(error) => tracing::warn!(pod = %pod.id, %error, "the shim is killed with its pod"),
        }
        remove_socket(shim.address());
    }

    /// Takes away what is kept of an ended pod elsewhere.
    pub(super) fn clear(&self, pod: PodRef<'_>) -> Result<()> {
        let cgroup = sandbox::cgroup(pod);
        crate::pod::stop::remove_cgroup(pod.id, &cgroup)?;
        // Its record may be gone or damaged: the name is known all the same.
        let record = ShimRecord::new(&self.config, pod);
        self.events.forget(pod);
        remove_socket(&record.events);
        Ok(())
    }
}

/// Has the supervisor take part in the container that stands for the pod: what the shim has to say
/// itself is its log.
fn carry(pod: PodRef<'_>, bundle: &Path, until: Deadline) -> Result<()> {
    let request = CreateContainer {
        id: pod.id.to_owned(),
        bundle: bundle.to_owned(),
        rootfs: RootfsSource::Path(bundle.join("rootfs")),
        log: Some(LogTarget {
            path: pod.dir.join(LOG),
            beneath: None,
            max_size: Some(LOG_SIZE),
            limit: None,
            reserve: None,
        }),
        terminal: false,
        stdin: false,
        stdin_once: false,
        program: None,
        on_exit: None,
        run_limit: None,
        check: None,
    };
    let carried = supervisor(pod, until)?.carry(&request);
    carried.map_err(told("prepare the sandbox of pod", pod.id))?;
    symlink("stderr", bundle.join("log")).map_err(Error::io("make", bundle.join("log")))
}

/// Has the supervisor run the program that begins the shim, so that the shim is its child and in the
/// pod's cgroup.
fn start(record: &ShimRecord, pod: PodRef<'_>, bundle: &Path, until: Deadline) -> Result<Shim> {
    let program = record.command(pod);
    let failed = |reason: String| {
        failed(shim::Error::Program {
            program: program.path.clone(),
            verb: "start",
            reason,
        })
    };
    let mut reasons = Vec::new();
    for invocation in program.start_invocations(pod.id, bundle) {
        let limit = until.left_of(shim::PROGRAM_LIMIT);
        let exit = supervisor(pod, until)?.run_companion(&companion(invocation, limit));
        match said(limit, exit.map_err(told("begin the shim of pod", pod.id))?) {
            Ok(said) => {
                let found = Bootstrap::parse(&said).map_err(failed)?;
                let namespace = &program.namespace;
                return Ok(Shim::new(found.address, found.version, namespace));
            }
            Err(reason) if reasons.contains(&reason) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    Err(failed(reasons.join("; with parameters on its stdin: ")))
}

fn companion(invocation: Invocation, limit: Duration) -> Companion {
    Companion {
        argv: invocation.argv,
        env: invocation.env,
        dir: invocation.dir,
        stdin: invocation.stdin,
        limit,
    }
}

/// What a program that succeeded has printed; why it failed, in its words.
fn said(limit: Duration, exit: CompanionExit) -> Result<Vec<u8>, String> {
    if exit.timed_out {
        return Err(format!("takes longer than {} s", limit.as_secs()));
    }
    if exit.code == 0 {
        return Ok(exit.stdout);
    }
    let words = if exit.stderr.is_empty() {
        &exit.stdout
    } else {
        &exit.stderr
    };
    let words = String::from_utf8_lossy(words);
    let words: String = words.trim().chars().take(2048).collect();
    let words = words.replace(char::is_control, " ");
    Err(format!("fails with code {}: {words}", exit.code))
}

/// Has the program undo what a dead shim left of a container.
fn clean_up(
    record: &ShimRecord,
    container: ContainerRef<'_>,
    until: Deadline,
) -> Result<(), shim::Error> {
    if !container.dir.is_dir() {
        return Ok(());
    }
    let program = record.command(container.pod);
    let cleaned = program.clean_up(container.id, container.dir, until.left());
    let rootfs = container.dir.join("rootfs");
    // Mounted or not: what is there would keep the directory from being removed.
    let _ = unmount(&rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    cleaned.map(drop)
}

fn wait_for_end(shim: &Shim, limit: Duration) {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        let asked = shim.ask(sandboxes::ping("").within(Some(LOOKS)));
        if asked.is_err_and(|error| error.is_gone()) {
            return;
        }
        std::thread::sleep(LOOKS);
    }
}

/// Removes a socket that was left; nothing else that is in its place.
fn remove_socket(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    if is_socket && let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "a socket is left");
    }
}
