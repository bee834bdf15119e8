//! The pod as a sandbox of the shim's sandbox service, where the shim has one: no container stands for the pod
//! then. Otherwise the first container does ([`super::sandbox`]).

use std::time::Duration;

use shim::{Shim, sandbox as service};

use super::super::deadline::Deadline;
use super::super::{ContainerRef, PodRef};
use super::record::ShimRecord;
use super::{container, failed, sandbox};
use crate::error::Result;

/// Makes and begins the pod's sandbox by the shim's service. `None`: it has none, or one that makes nothing:
/// containerd's own shims since 1.7 answer every question, and leave the sandbox to a container.
pub(super) fn begin(
    shim: &Shim,
    record: &ShimRecord,
    pod: PodRef<'_>,
    until: Deadline,
) -> Result<Option<Option<i32>>> {
    match shim.ask(service::platform(pod.id).within(Some(until.left()))) {
        Ok(_) => {}
        Err(error) if error.is_unimplemented() => return Ok(None),
        // It has the service, and no such sandbox yet.
        Err(shim::Error::Refused { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    let bundle = sandbox::bundle(pod);
    let config = sandbox::written(&bundle)?;
    let create = service::Create {
        id: pod.id.to_owned(),
        bundle,
        netns: config.netns,
        options: record.options(pod),
        annotations: config.annotations,
    };
    let made = make(shim, create, until);
    made.map_err(|error| {
        // Nobody would know that it is one of the service.
        if let Err(error) = end(shim, pod, until) {
            tracing::warn!(pod = %pod.id, %error, "a sandbox that did not begin is left in its shim");
        }
        failed(error)
    })
}

fn make(
    shim: &Shim,
    create: service::Create,
    until: Deadline,
) -> shim::Result<Option<Option<i32>>> {
    let id = create.id.clone();
    shim.ask(service::create(create).within(Some(until.left())))?;
    let started = shim.ask(service::start(&id).within(Some(until.left())))?;
    match shim.ask(service::status(&id).within(Some(until.left()))) {
        Ok(state) if state.ready => Ok(Some(started.pid.or(state.pid))),
        Ok(_) => Ok(None),
        // An answer without any sandbox in it.
        Err(shim::Error::Protocol { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The supervisor asks the shim how the sandbox ends, from now on.
pub(super) fn tell_made(
    shim: &Shim,
    at: ContainerRef<'_>,
    pid: Option<i32>,
    until: Deadline,
) -> Result<()> {
    let request = service::wait(at.id).frame(shim).map_err(failed)?;
    let watch = supervisor::Watch {
        socket: shim.address().to_owned(),
        request,
        close_stdin: Vec::new(),
    };
    let made = supervisor::Became::Made {
        pid,
        cgroup: at.cgroup.to_owned(),
        watch: Some(watch),
    };
    container::tell(at, made, until)
}

/// Ends the sandbox, and the shim with it. What cannot be is the shim's end with its pod's cgroup.
pub(super) fn end(shim: &Shim, pod: PodRef<'_>, until: Deadline) -> shim::Result<()> {
    let stop = service::stop(pod.id, Duration::ZERO).within(Some(until.left()));
    match shim.ask(stop) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    match shim.ask(service::shutdown(pod.id).within(Some(until.left()))) {
        // It may end before it has answered.
        Err(error) if error.is_gone() || error.is_not_found() => Ok(()),
        other => other,
    }
}
