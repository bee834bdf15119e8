//! A pod's supervisor: starting it, finding it whatever can be read of it, and ending it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::cgroup::Cgroup;
use runtime::spec::{Cpu, Resources};
use supervisor::{Client, PodSetup, SupervisorInfo};

use super::super::deadline::Deadline;
use super::super::{ContainerRef, End, Namespaces, Pending, PodPlan, PodRef, Sandbox};
use super::orphaned::Ended;
use crate::disk;
use crate::error::{Error, Result};
use crate::node::cgroups;
use crate::pod::NamespaceMode;
use crate::pod::stop::remove_cgroup;

/// How long a supervisor may take to start before it is killed for it.
const STARTS: Duration = Duration::from_secs(10);
/// How long a process that is killed may take to end.
const ENDS: Duration = Duration::from_secs(5);

/// The cgroup of the pod's supervisor.
pub(super) fn cgroup(pod: PodRef<'_>) -> String {
    cgroups::member(pod.cgroup, pod.prefix, pod.id)
}

/// Starts the supervisor of a pod. One that has not come up within the limit is ended as one that was there.
pub(super) fn run(program: &Path, plan: &PodPlan<'_>, limit: Duration) -> Result<Sandbox> {
    let modes = &plan.spec.namespaces;
    let node = NamespaceMode::Node;
    let setup = PodSetup {
        dir: plan.pod.dir.to_owned(),
        id: plan.pod.id.to_owned(),
        hostname: plan.hostname.clone(),
        new_net: modes.network != node,
        netns_given: false,
        new_ipc: modes.ipc != node,
        new_uts: modes.network != node,
        shared_pid: modes.pid == NamespaceMode::Pod,
        sysctls: plan.sysctls.clone(),
        shm_size: plan.shm_size,
        cgroup: Some(cgroup(plan.pod)),
        open_files: None,
        users: modes.users.ids().cloned(),
        keeps_home: plan.keeps_home,
    };
    let launched =
        supervisor::launch(program, &setup, plan.netns, limit).and_then(|(_client, info)| {
            // One of before would have made a network namespace of its own, which nobody connects.
            plan.netns.map_or(Ok(()), |_| info.can("set_up.netns"))?;
            Ok(sandbox(&info))
        });
    let sandbox = launched.map_err(failed("start the supervisor of pod", plan.pod))?;
    bind_to_processors(plan)?;
    Ok(sandbox)
}

/// Keeps the supervisor on the processors that the configuration has for such.
fn bind_to_processors(plan: &PodPlan<'_>) -> Result<()> {
    if plan.cpuset.is_empty() {
        return Ok(());
    }
    let limits = Resources {
        cpu: Some(Cpu {
            cpus: Some(plan.cpuset.to_owned()),
            ..Cpu::default()
        }),
        ..Resources::default()
    };
    let bound = Cgroup::open_managed(&cgroup(plan.pod)).and_then(|cgroup| cgroup.update(&limits));
    bound.map_err(|source| Error::Cgroup {
        id: plan.pod.id.to_owned(),
        source,
    })
}

/// The pod's supervisor, if it lives and its record can be read.
pub(super) fn live(pod: PodRef<'_>) -> Result<Option<SupervisorInfo>> {
    let read = SupervisorInfo::read(pod.dir).map_err(failed("look for the supervisor of pod", pod));
    match read {
        Ok(info) => Ok(info.filter(SupervisorInfo::is_alive)),
        Err(error) if error.is_damage() => {
            disk::warn_once(&pod.dir.join("supervisor.json"), &error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The supervisor as the pod's sandbox: its namespaces are the containers'.
pub(super) fn sandbox(info: &SupervisorInfo) -> Sandbox {
    let namespace = |pid: i32, name: &str| PathBuf::from(format!("/proc/{pid}/ns/{name}"));
    Sandbox {
        pid: Some(info.pid),
        end: End::Process,
        namespaces: Namespaces {
            network: Some(namespace(info.pid, "net")),
            uts: Some(namespace(info.pid, "uts")),
            ipc: Some(namespace(info.pid, "ipc")),
            pid: info.pod_init.map(|init| namespace(init, "pid")),
            users: info
                .users
                .map(|fd| PathBuf::from(format!("/proc/{}/fd/{fd}", info.pid))),
        },
        takes_mounts: info.abilities.has("rootfs.mount"),
    }
}

/// A flow to a port in the supervisor's network namespace.
pub(super) fn port(pod: PodRef<'_>, number: u16) -> Result<Pending<OwnedFd>> {
    let ended = || Error::State {
        verb: "reach a port of",
        what: "pod",
        id: pod.id.to_owned(),
        state: "not ready".to_owned(),
    };
    let info = live(pod)?.ok_or_else(ended)?;
    let netns = sandbox(&info).namespaces.network.ok_or_else(ended)?;
    let pending = super::super::port::connect(pod, &netns, number)?;
    // The namespace was found by its pid: another process may have had that if this one has ended.
    match info.is_alive() {
        true => Ok(pending),
        false => Err(ended()),
    }
}

/// Can the supervisor's records of all containers be read?
pub(super) fn is_intact(pod: PodRef<'_>) -> Result<bool> {
    for bundle in disk::bundles(pod.dir)? {
        let read = || supervisor::ContainerState::read(&bundle).is_ok();
        if !disk::is_whole(&bundle.join("state.json"), read) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Kills the containers. The supervisor, if one lives; else everything of it is cleared away.
pub(super) fn stop(
    pod: PodRef<'_>,
    containers: &[ContainerRef<'_>],
    limit: Duration,
) -> Result<Option<Sandbox>> {
    let Some(info) = find(pod, containers)? else {
        clear(pod, containers)?;
        return Ok(None);
    };
    match kill_containers(pod, containers, limit) {
        // One whose socket was taken away, or that speaks another protocol, lives and cannot be asked:
        // its end ends them.
        Err(error) if is_deaf(&error) => {}
        other => other?,
    }
    Ok(Some(sandbox(&info)))
}

/// Ends the supervisor, by its socket or by its process id.
pub(super) fn end(pod: PodRef<'_>, containers: &[ContainerRef<'_>], limit: Duration) -> Result<()> {
    let Some(info) = find(pod, containers)? else {
        return clear(pod, containers);
    };
    match shut_down(pod, limit) {
        Err(error) if is_deaf(&error) => {
            kill(pod, &info)?;
            clear(pod, containers)
        }
        other => other,
    }
}

/// The pod's supervisor, whatever can be read of it. One that starts is waited for; one that
/// does not come up is killed with its cgroup.
fn find(pod: PodRef<'_>, containers: &[ContainerRef<'_>]) -> Result<Option<SupervisorInfo>> {
    supervisor::find(pod.dir, STARTS).or_else(|error| {
        tracing::warn!(pod = %pod.id, %error, "the supervisor is killed");
        clear(pod, containers)?;
        remove_cgroup(pod.id, &cgroup(pod))?;
        supervisor::find(pod.dir, ENDS).map_err(failed("look for the supervisor of pod", pod))
    })
}

/// A supervisor that does not listen any more is ended by its process id.
fn kill(pod: PodRef<'_>, info: &SupervisorInfo) -> Result<()> {
    info.kill()
        .map_err(failed("kill the supervisor of pod", pod))?;
    let until = Instant::now() + ENDS;
    while info.is_alive() {
        if Instant::now() > until {
            return Err(Error::State {
                verb: "stop",
                what: "pod",
                id: pod.id.to_owned(),
                state: format!("held up: its supervisor {} does not die", info.pid),
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn kill_containers(
    pod: PodRef<'_>,
    containers: &[ContainerRef<'_>],
    limit: Duration,
) -> Result<()> {
    let until = Deadline::after(limit);
    for container in containers {
        let mut client = connect(pod, until.left())?;
        match client.stop(container.id, libc::SIGKILL, Duration::ZERO) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(source) => {
                return Err(Error::Supervisor {
                    verb: "stop container",
                    id: container.id.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(())
}

fn shut_down(pod: PodRef<'_>, limit: Duration) -> Result<()> {
    connect(pod, limit)?
        .shutdown()
        .map_err(failed("end the supervisor of pod", pod))?;
    clean(pod)
}

/// The supervisor was killed: its containers' processes are orphans of ours.
fn clear(pod: PodRef<'_>, containers: &[ContainerRef<'_>]) -> Result<()> {
    for container in containers {
        // One that was never made whole has no end.
        let end = container.dir.join("container.json").exists();
        let end = end.then(|| Ended::now(*container));
        remove_cgroup(container.id, container.cgroup)?;
        if let Some(end) = end
            && !has_ended(container.dir)
        {
            end.write(container.dir);
        }
    }
    clean(pod)
}

fn clean(pod: PodRef<'_>) -> Result<()> {
    supervisor::clean_after_death(pod.dir)
        .map_err(failed("clean up after the supervisor of pod", pod))
}

/// Has the supervisor seen the container's end?
fn has_ended(bundle: &Path) -> bool {
    let state = supervisor::ContainerState::read(bundle);
    matches!(state, Ok(Some(state)) if state.status.is_exited())
}

/// A connection to the pod's supervisor.
pub(super) fn connect(pod: PodRef<'_>, limit: Duration) -> Result<Client> {
    Client::connect_within(pod.dir, limit).map_err(failed("talk to the supervisor of pod", pod))
}

pub(super) fn failed(
    verb: &'static str,
    pod: PodRef<'_>,
) -> impl FnOnce(supervisor::Error) -> Error {
    let id = pod.id.to_owned();
    move |source| Error::Supervisor { verb, id, source }
}

/// Can it not be talked to: is nobody there, or somebody of another floe who does not know what is asked?
fn is_deaf(error: &Error) -> bool {
    use supervisor::Error::{Gone, Protocol, Unsupported};
    let Error::Supervisor { source, .. } = error else {
        return false;
    };
    matches!(source, Gone { .. } | Protocol { .. } | Unsupported { .. })
}
