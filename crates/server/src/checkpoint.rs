//! Checkpoints: the time that they may take, which is the caller's, and their end when he leaves. What was frozen
//! goes on, and what was written is removed, before the client's own deadline is over.

use std::path::Path;
use std::time::Duration;

use engine::Engine;
use engine::checkpoint::{Cancel, PodCheckpoint, PodRestore};
use tonic::Status;

use crate::convert::{container, invalid, not_empty, pod};
use crate::status;
use crate::work::Work;

/// How long one may take if nobody says: kubelet waits as long for everything.
const USUAL: Duration = Duration::from_secs(120);
/// The longest that anybody may ask for.
const LONGEST: Duration = Duration::from_secs(3600);
/// What of a client's deadline is kept to take back what it did, and to say so.
const MARGIN: Duration = Duration::from_secs(1);

/// CheckpointContainer. `limits`: the request's own, where zero is none, and the client's deadline.
pub(crate) async fn of_container(
    work: &Work,
    container: String,
    location: String,
    limits: (Duration, Option<Duration>),
) -> Result<(), Status> {
    let location = not_empty("location", location).map_err(status::of)?;
    let (own, deadline) = limits;
    let own = if own.is_zero() { USUAL } else { own };
    let cancel = Cancel::after(within(own, deadline));
    let _while_it_waits = cancel.on_drop();
    let checkpoint = move |engine: &Engine, id: &str| {
        engine.checkpoint_container(id, Path::new(&location), &cancel)
    };
    let verb = "CheckpointContainer";
    work.change_container(verb, container, checkpoint).await
}

/// CheckpointPod, which has no limit but the client's deadline.
pub(crate) async fn of_pod(
    work: &Work,
    request: cri::CheckpointPodRequest,
    deadline: Option<Duration>,
) -> Result<(), Status> {
    let directory = not_empty("output_path", request.output_path).map_err(status::of)?;
    let cancel = Cancel::after(within(deadline.unwrap_or(USUAL), deadline));
    let _while_it_waits = cancel.on_drop();
    let asked = PodCheckpoint {
        pod: request.pod_sandbox_id.clone(),
        directory: directory.into(),
        containers: request.container_ids,
        options: request.options.into_iter().collect(),
    };
    let object = request.pod_sandbox_id;
    let checkpoint = move |engine: &Engine| engine.checkpoint_pod(&asked, &cancel);
    let verb = "CheckpointPod";
    work.change(verb, object.clone(), &object, checkpoint).await
}

/// RestorePod, which has no limit but the client's deadline.
pub(crate) async fn restore(
    work: &Work,
    request: cri::RestorePodRequest,
    deadline: Option<Duration>,
) -> Result<cri::RestorePodResponse, Status> {
    let directory = not_empty("checkpoint_path", request.checkpoint_path).map_err(status::of)?;
    let run = cri::RunPodSandboxRequest {
        config: request.config,
        runtime_handler: request.runtime_handler,
    };
    let configs = request.container_configs.into_iter().enumerate();
    let containers = configs.map(|(number, config)| {
        container::spec(Some(config)).map_err(|error| of_config(number, error))
    });
    let asked = PodRestore {
        directory: directory.into(),
        pod: pod::spec(run).map_err(status::of)?,
        containers: containers.collect::<Result<_, _>>().map_err(status::of)?,
        options: request.options.into_iter().collect(),
    };
    let cancel = Cancel::after(within(deadline.unwrap_or(USUAL), deadline));
    let _while_it_waits = cancel.on_drop();
    let of = pod::label(&asked.pod);
    let restore = move |engine: &Engine| engine.restore_pod(asked, &cancel);
    let restored = work.change("RestorePod", of.clone(), &of, restore).await?;
    let made = restored.containers.into_iter();
    let made = made.map(|(name, container_id)| cri::RestoredContainer { name, container_id });
    Ok(cri::RestorePodResponse {
        pod_sandbox_id: restored.id,
        restored_containers: made.collect(),
    })
}

/// What is wrong with a container's configuration, with which of them it is.
fn of_config(number: usize, error: engine::Error) -> engine::Error {
    let engine::Error::Invalid { field, reason } = error else {
        return error;
    };
    let field = field.strip_prefix("config.").unwrap_or(&field);
    invalid(format!("container_configs[{number}].{field}"), reason)
}

/// The shorter of both, less what it takes to tell that it is over.
fn within(own: Duration, deadline: Option<Duration>) -> Duration {
    let told = |deadline: Duration| deadline.saturating_sub(MARGIN.min(deadline / 10));
    own.min(deadline.map_or(LONGEST, told)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_ends_before_its_clients_deadline() {
        let seconds = Duration::from_secs;
        assert_eq!(within(seconds(5), None), seconds(5));
        assert_eq!(within(seconds(5), Some(seconds(60))), seconds(5));
        assert_eq!(within(seconds(120), Some(seconds(60))), seconds(59));
        assert_eq!(within(USUAL, Some(seconds(1))), Duration::from_millis(900));
        assert_eq!(within(Duration::MAX, None), LONGEST);
    }
}
