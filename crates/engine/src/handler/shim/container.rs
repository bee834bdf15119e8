//! A container's life in a shim. The shim does; the supervisor is told, so that every reader of its
//! records knows.

use std::path::PathBuf;
use std::time::Duration;

use runtime::cgroup::{CpuStats, MemoryStats, PidsStats, Stats};
use runtime::spec::Spec;
use shim::task::{self, Status};
use shim::{Mount, Shim};
use supervisor::{Became, ContainerState, CreateContainer, LogTarget, RootfsSource, Watch};

use super::super::deadline::Deadline;
use super::super::supervisor::container as supervised;
use super::super::{ContainerPlan, ContainerRef, LIMIT, Pending, PodRef};
use super::pod::{supervisor, told};
use super::{Shims, failed, record, sandbox};
use crate::disk;
use crate::error::{Error, Result};
use crate::node::cgroups;

/// SIGKILL, as shims number signals.
const KILL: u32 = 9;
/// How long a process that is killed may take to end.
const ENDS: Duration = Duration::from_secs(30);
/// How long the record may take to say what the shim has said.
const RECORDED: Duration = Duration::from_secs(5);
/// What a shell has for what could not be started.
const NOT_STARTED: u8 = 128;

impl Shims {
    /// Makes a container up to the moment before its program is executed.
    pub(super) fn make(&self, plan: &ContainerPlan<'_>, limit: Duration) -> Result<()> {
        let until = Deadline::after(self.limit(limit));
        let at = plan.container;
        let shim = self.shim(at.pod)?;
        // A shim mounts by itself, and takes paths only.
        let paths = plan.root.overlay_paths()?;
        let root = Mount::overlay(&paths.lower, paths.upper, paths.work);
        let root = root.map_err(|reason| Error::invalid("root", reason))?;
        disk::write_json(&at.dir.join("config.json"), &adapted(plan))?;
        let carried = supervisor(at.pod, until)?.carry(&carry(plan));
        carried.map_err(told("create container", at.id))?;
        let pipe = |name: &str| Some(at.dir.join(name));
        let create = task::Create {
            id: at.id.to_owned(),
            bundle: at.dir.to_owned(),
            rootfs: vec![root],
            streams: task::Streams {
                terminal: plan.terminal,
                stdin: pipe("stdin").filter(|_| plan.stdin),
                stdout: pipe("stdout"),
                stderr: pipe("stderr").filter(|_| !plan.terminal),
            },
            checkpoint: None,
            options: record::options(&self.config.program, self.config.file(), at.pod),
        };
        let pid = shim.ask(task::create(&shim, create).within(Some(until.left())));
        tell_made(&shim, at, pid.map_err(failed)?, until)
    }

    /// How long the shim may take to make something: virtual machines may need longer than what
    /// is usual.
    pub(super) fn limit(&self, limit: Duration) -> Duration {
        self.config.entry.create_limit().unwrap_or(limit)
    }
}

/// The configuration as shims want it: whose sandbox it is in, and nothing that it would inherit from
/// whoever runs it.
fn adapted(plan: &ContainerPlan<'_>) -> Spec {
    let mut spec = plan.spec.clone();
    spec.annotations
        .extend(sandbox::kind(plan.container.pod.id, "container"));
    if let Some(process) = &mut spec.process {
        process.terminal = plan.terminal;
        // The shim is protected, and its own would be inherited.
        process.oom_score_adj = process.oom_score_adj.or(Some(0));
    }
    spec
}

fn carry(plan: &ContainerPlan<'_>) -> CreateContainer {
    CreateContainer {
        id: plan.container.id.to_owned(),
        bundle: plan.container.dir.to_owned(),
        rootfs: RootfsSource::Path(plan.container.dir.join("rootfs")),
        log: plan.log.as_ref().map(|log| LogTarget {
            path: log.path.clone(),
            beneath: Some(log.beneath.clone()),
            max_size: log.max_size,
            limit: log.limit,
            reserve: log.reserve,
        }),
        terminal: plan.terminal,
        stdin: plan.stdin,
        stdin_once: plan.stdin_once,
        program: None,
        on_exit: plan.on_exit.clone().map(Box::new),
        run_limit: plan.run_limit,
        check: None,
    }
}

/// Tells the pod's supervisor what became of a container.
pub(super) fn tell(container: ContainerRef<'_>, became: Became, until: Deadline) -> Result<()> {
    let told_it = supervisor(container.pod, until)?.tell(container.id, became);
    told_it.map_err(told("record the state of container", container.id))
}

/// The container is made: the supervisor asks the shim how it ends, from now on.
pub(super) fn tell_made(
    shim: &Shim,
    container: ContainerRef<'_>,
    pid: Option<i32>,
    until: Deadline,
) -> Result<()> {
    let close_stdin = task::close_stdin(shim, container.id, None);
    let watch = Watch {
        socket: shim.address().to_owned(),
        request: task::wait(shim, container.id, None)
            .frame(shim)
            .map_err(failed)?,
        close_stdin: close_stdin.frame(shim).map_err(failed)?,
    };
    let made = Became::Made {
        pid,
        cgroup: container.cgroup.to_owned(),
        watch: Some(watch),
    };
    tell(container, made, until)
}

/// A container that is named for as long as a task lives.
#[derive(Debug, Clone)]
struct Named {
    pod: String,
    pod_dir: PathBuf,
    pod_cgroup: String,
    id: String,
    dir: PathBuf,
    cgroup: String,
}

impl Named {
    fn of(container: ContainerRef<'_>) -> Self {
        Self {
            pod: container.pod.id.to_owned(),
            pod_dir: container.pod.dir.to_owned(),
            pod_cgroup: container.pod.cgroup.to_owned(),
            id: container.id.to_owned(),
            dir: container.dir.to_owned(),
            cgroup: container.cgroup.to_owned(),
        }
    }

    fn at(&self) -> ContainerRef<'_> {
        ContainerRef {
            pod: PodRef {
                id: &self.pod,
                dir: &self.pod_dir,
                cgroup: &self.pod_cgroup,
                prefix: cgroups::prefix_of(&self.cgroup, &self.id),
            },
            id: &self.id,
            dir: &self.dir,
            cgroup: &self.cgroup,
        }
    }

    async fn tell(&self, became: Became) -> Result<()> {
        let named = self.clone();
        let until = Deadline::after(LIMIT);
        let told = tokio::task::spawn_blocking(move || tell(named.at(), became, until));
        joined(told.await)
    }
}

fn joined<T>(outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|error| Err(Error::io("wait for", "a shim's answer")(error.into())))
}

/// Goes on whoever waits for it.
fn goes_on(work: impl Future<Output = Result<()>> + Send + 'static) -> Pending<Pending<()>> {
    Box::pin(async move {
        let begun = tokio::spawn(work);
        Ok(Box::pin(async move { joined(begun.await) }) as Pending<()>)
    })
}

pub(super) fn start(shim: Shim, container: ContainerRef<'_>) -> Pending<Pending<()>> {
    let named = Named::of(container);
    goes_on(async move {
        match shim.ask_async(task::start(&shim, &named.id, None)).await {
            Ok(_) => named.tell(Became::Running).await,
            // The last engine may have begun it, and died before it could tell.
            Err(shim::Error::Refused { .. }) if runs(&shim, &named.id).await => {
                named.tell(Became::Running).await
            }
            Err(shim::Error::Refused { message, .. }) => {
                let ended = Became::Ended {
                    code: NOT_STARTED.into(),
                    at: None,
                    message: Some(message.clone()),
                };
                named.tell(ended).await?;
                Err(Error::Start {
                    id: named.id,
                    message,
                    exit_code: NOT_STARTED,
                })
            }
            Err(error) => Err(failed(error)),
        }
    })
}

async fn runs(shim: &Shim, id: &str) -> bool {
    let state = shim.ask_async(task::state(shim, id, None).within(Some(LIMIT)));
    state
        .await
        .is_ok_and(|state| matches!(state.status, Status::Running | Status::Paused))
}

pub(super) fn stop(
    shim: Shim,
    container: ContainerRef<'_>,
    signal: i32,
    grace: Duration,
) -> Pending<Pending<()>> {
    let named = Named::of(container);
    goes_on(async move {
        match stop_in(&shim, &named.id, signal, grace).await {
            Ok(()) => {}
            // Its supervisor has seen that too, and ends what it can.
            Err(error) if error.is_gone() || error.is_not_found() => {}
            Err(error) => return Err(failed(error)),
        }
        supervised::stop(named.at(), libc::SIGKILL, RECORDED)
            .await?
            .await
    })
}

async fn stop_in(shim: &Shim, id: &str, signal: i32, grace: Duration) -> shim::Result<()> {
    let state = shim.ask_async(task::state(shim, id, None)).await?;
    let wait = |limit| shim.ask_async(task::wait(shim, id, None).within(Some(limit)));
    match state.status {
        Status::Stopped(_) => return Ok(()),
        Status::Paused => shim.ask_async(task::resume(shim, id)).await?,
        Status::Created | Status::Running => {}
    }
    // Before its program a process has no handlers: nothing but SIGKILL ends it.
    if !grace.is_zero() && state.status != Status::Created {
        let signal = u32::try_from(signal).unwrap_or(KILL);
        unless_ended(
            shim.ask_async(task::kill(shim, id, None, signal, false))
                .await,
        )?;
        match wait(grace).await {
            Err(shim::Error::Silent { .. }) => {}
            other => return other.map(drop),
        }
    }
    unless_ended(shim.ask_async(task::kill(shim, id, None, KILL, true)).await)?;
    wait(ENDS).await.map(drop)
}

/// A process that has ended meanwhile is not there to be signalled.
fn unless_ended(killed: shim::Result<()>) -> shim::Result<()> {
    match killed {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Kills a container in its shim and has it forgotten. False: the shim knows nothing of it.
pub(super) fn end(shim: &Shim, id: &str, until: Deadline) -> shim::Result<bool> {
    let ask = |question: shim::Ask<()>| unless_ended(shim.ask(question.within(Some(until.left()))));
    match shim.ask(task::state(shim, id, None).within(Some(until.left()))) {
        Ok(state) if matches!(state.status, Status::Stopped(_)) => {}
        Ok(state) => {
            if state.status == Status::Paused {
                ask(task::resume(shim, id))?;
            }
            ask(task::kill(shim, id, None, KILL, true))?;
            shim.ask(task::wait(shim, id, None).within(Some(until.left_of(ENDS))))?;
        }
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    }
    match shim.ask(task::delete(shim, id, None).within(Some(until.left()))) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(true),
    }
}

/// Tells the supervisor what the last engine could not any more: that a container was begun, frozen or
/// thawed. How one has ended the supervisor knows itself.
pub(super) fn reconcile(shim: &Shim, container: ContainerRef<'_>) -> Result<()> {
    let recorded = ContainerState::read(container.dir)
        .map_err(told("read the state of container", container.id))?;
    let Some(recorded) = recorded.filter(|state| !state.status.is_exited()) else {
        return Ok(());
    };
    let until = Deadline::after(LIMIT);
    let state = shim.ask(task::state(shim, container.id, None).within(Some(until.left())));
    use supervisor::Status as Recorded;
    match (state.map_err(failed)?.status, recorded.status) {
        (Status::Running, Recorded::Created | Recorded::Paused { .. }) => {
            tell(container, Became::Running, until)
        }
        (Status::Paused, Recorded::Running { .. }) => tell(container, Became::Paused, until),
        _ => Ok(()),
    }
}

/// A shim's figures as those of a cgroup.
pub(super) fn figures(stats: shim::Stats) -> Stats {
    let memory = stats.memory.map(|usage| MemoryStats {
        usage,
        limit: stats.memory_limit.filter(|limit| *limit < NO_LIMIT),
        working_set: usage.saturating_sub(stats.inactive_file.unwrap_or(0)),
        rss: stats.rss.unwrap_or(0),
        page_faults: stats.page_faults.unwrap_or(0),
        major_page_faults: stats.major_page_faults.unwrap_or(0),
        swap: stats.swap,
        oom_kills: stats.oom_kills.unwrap_or(0),
        ..MemoryStats::default()
    });
    Stats {
        cpu: stats.cpu_ns.map(|usage| CpuStats {
            usage,
            ..CpuStats::default()
        }),
        memory,
        pids: stats.pids.map(|current| PidsStats {
            current,
            limit: None,
        }),
        ..Stats::default()
    }
}

/// The kernel's words for no limit of memory are numbers above this.
const NO_LIMIT: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A shim that answers each question after a moment; what limits they had, in nanoseconds.
    fn slow_shim(path: &std::path::Path) -> std::sync::mpsc::Receiver<(String, u64)> {
        let (asked, questions) = std::sync::mpsc::channel();
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut head = [0; 10];
                client.read_exact(&mut head).unwrap();
                let length = u32::from_be_bytes(*head.first_chunk().unwrap());
                let mut body = vec![0; length as usize];
                client.read_exact(&mut body).unwrap();
                let (method, limit) = question(&body);
                std::thread::sleep(Duration::from_millis(20));
                // StateResponse with the id and status RUNNING; the others may be empty.
                let answer: &[u8] = match method.as_str() {
                    "State" => &[2 << 3 | 2, 5, 1 << 3 | 2, 1, b'c', 4 << 3, 2],
                    _ => &[],
                };
                let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
                let frame = [&length[..], &[0, 0, 0, 1, 2, 0], answer].concat();
                asked.send((method, limit)).unwrap();
                client.write_all(&frame).unwrap();
            }
        });
        questions
    }

    /// The method and the limit of ttrpc's Request: fields 2 and 4.
    fn question(mut body: &[u8]) -> (String, u64) {
        let (mut method, mut limit) = (String::new(), 0);
        let number = |body: &mut &[u8]| {
            let mut sum = 0_u64;
            for place in 0.. {
                let (byte, rest) = body.split_first().unwrap();
                *body = rest;
                sum |= u64::from(byte & 0x7f) << (7 * place);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            sum
        };
        while !body.is_empty() {
            let tag = number(&mut body);
            let value = number(&mut body);
            if tag & 7 == 2 {
                let (bytes, rest) = body.split_at(usize::try_from(value).unwrap());
                body = rest;
                if tag >> 3 == 2 {
                    method = String::from_utf8(bytes.to_vec()).unwrap();
                }
            } else if tag >> 3 == 4 {
                limit = value;
            }
        }
        (method, limit)
    }

    #[test]
    fn each_question_to_a_shim_has_what_the_ones_before_it_have_left_of_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("shim");
        let questions = slow_shim(&socket);
        let shim = Shim::new(socket, shim::Version::V2, "floe");
        let limit = Duration::from_secs(20);
        assert!(end(&shim, "c", Deadline::after(limit)).unwrap());
        let asked: Vec<(String, u64)> = questions.try_iter().collect();
        let methods: Vec<&str> = asked.iter().map(|(method, _)| &**method).collect();
        assert_eq!(methods, ["State", "Kill", "Wait", "Delete"]);
        let mut left = u64::try_from(limit.as_nanos()).unwrap();
        for (method, limit) in asked {
            assert!(limit > 0 && limit <= left, "{method}: {limit} of {left}");
            // It has taken so long to answer.
            left = limit - 20_000_000;
        }
    }

    #[tokio::test]
    async fn a_container_that_the_last_engine_has_begun_runs() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("shim");
        let _questions = slow_shim(&socket);
        assert!(runs(&Shim::new(socket, shim::Version::V2, "floe"), "c").await);
        let nobody = Shim::new(dir.path().join("nobody"), shim::Version::V2, "floe");
        assert!(!runs(&nobody, "c").await);
    }

    #[test]
    fn no_limit_is_none() {
        let stats = shim::Stats {
            memory: Some(100),
            inactive_file: Some(30),
            memory_limit: Some(0x7fff_ffff_ffff_f000),
            ..shim::Stats::default()
        };
        let memory = figures(stats).memory.unwrap();
        assert_eq!((memory.working_set, memory.limit), (70, None));
    }
}
