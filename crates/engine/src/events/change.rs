//! What has happened between two views of a pod. Pure: no files, no clocks but what the views say.

use std::sync::Arc;

use super::Happening;
use crate::container::{Container, ContainerState};
use crate::disk::now_ns;
use crate::pod::{Pod, PodState};

/// A pod and its containers as they are; of one that is being made or gone, nothing.
#[derive(Debug, Clone, Default)]
pub struct PodViews {
    /// The pod.
    pub pod: Option<Arc<Pod>>,
    /// Its containers, by id.
    pub containers: Vec<Arc<Container>>,
}

/// One step in the life of a pod or container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) pod: Arc<str>,
    pub(crate) container: Option<Arc<str>>,
    pub(crate) what: Happening,
    /// Nanoseconds since 1970.
    pub(crate) at: i64,
}

/// The steps from one to the other, in the order in which they must have been taken.
pub(crate) fn compare(id: &Arc<str>, before: &PodViews, after: &PodViews) -> Vec<Change> {
    let mut steps = Vec::new();
    let step = |container: Option<&str>, (what, at)| Change {
        pod: id.clone(),
        container: container.map(Arc::from),
        what,
        at,
    };
    // A pod comes before its containers and goes after them.
    if let Some(pod) = &after.pod {
        let known = before.pod.as_ref();
        steps.extend(pod_steps(known, pod).map(|taken| step(None, taken)));
    }
    for one in &after.containers {
        let known = before.containers.iter().find(|known| known.id == one.id);
        if known.is_some_and(|known| Arc::ptr_eq(known, one)) {
            continue;
        }
        let taken = container_steps(known.map(|known| &known.state), one);
        steps.extend(taken.map(|taken| step(Some(&one.id), taken)));
    }
    // What is gone has ended before, though nobody may have seen it ended.
    let mut gone = |container: Option<&str>, ran: bool| {
        if ran {
            steps.push(step(container, (Happening::Stopped, now_ns())));
        }
        steps.push(step(container, (Happening::Deleted, now_ns())));
    };
    for one in &before.containers {
        if after.containers.iter().all(|left| left.id != one.id) {
            let ran = matches!(one.state, ContainerState::Running { .. });
            gone(Some(&one.id), ran);
        }
    }
    if let Some(pod) = &before.pod
        && after.pod.is_none()
    {
        gone(None, pod.state == PodState::Ready);
    }
    steps
}

fn pod_steps(before: Option<&Arc<Pod>>, after: &Pod) -> impl Iterator<Item = (Happening, i64)> {
    let made = before
        .is_none()
        .then_some((Happening::Created, after.created_at));
    let was = before.map(|pod| pod.state);
    let turned = match (was, after.state) {
        (None, PodState::Ready) => Some((Happening::Started, after.created_at)),
        (Some(PodState::NotReady), PodState::Ready) => Some((Happening::Started, now_ns())),
        (None | Some(PodState::Ready), PodState::NotReady) => Some((Happening::Stopped, now_ns())),
        _ => None,
    };
    made.into_iter().chain(turned)
}

/// How far a container is: a state that nobody knows is no step.
fn container_steps(
    before: Option<&ContainerState>,
    after: &Container,
) -> impl Iterator<Item = (Happening, i64)> {
    use ContainerState::{Created, Exited, Running, Unknown};
    let made = before
        .is_none()
        .then_some((Happening::Created, after.created_at));
    let (started, stopped) = match after.state {
        Created | Unknown => (None, None),
        Running { started_at } => (Some(started_at), None),
        Exited {
            started_at,
            finished_at,
            ..
        } => (Some(started_at).filter(|at| *at != 0), Some(finished_at)),
    };
    let was_started = !matches!(before, None | Some(Created));
    let was_stopped = matches!(before, Some(Exited { .. }));
    let started = started.filter(|_| !was_started);
    let stopped = stopped.filter(|_| !was_stopped);
    made.into_iter()
        .chain(started.map(|at| (Happening::Started, at)))
        .chain(stopped.map(|at| (Happening::Stopped, at)))
}
