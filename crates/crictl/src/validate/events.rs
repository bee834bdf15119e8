//! Events, which kubelet's evented PLEG lives on.

use tonic::{Code, Streaming};

use super::check::{Group, Verdict, checks, failed, holds, same, skipped};
use super::trial::{LASTS, Trial};
use crate::connection::Refusal;
use crate::fixture::{status_told, told};
use cri::ContainerEventType as Kind;

pub(super) const GROUP: Group = Group {
    name: "events",
    checks: checks! {
        1101 "life" Image life, "each step of a container's life is told once, and in order", "GetContainerEvents: ContainerEventResponse.container_event_type";
        1102 "status" Image status, "an event comes with what is known of the pod and its containers", "ContainerEventResponse.pod_sandbox_status, containers_statuses";
    },
};

type Events = Streaming<cri::ContainerEventResponse>;

async fn subscribed(trial: &Trial<'_>) -> Verdict<Events> {
    let request = cri::GetEventsRequest::default();
    let answer = trial
        .fixture
        .runtime
        .ask(Some(trial.fixture.limit), async |mut client| {
            client.get_container_events(request).await
        })
        .await;
    match answer {
        Ok(events) => Ok(events),
        Err(Refusal::Status(status)) if status.code() == Code::Unimplemented => skipped(format!(
            "the runtime has no GetContainerEvents: {}",
            status.message()
        )),
        // A server that has nothing to say yet may not have begun its answer.
        Err(Refusal::Silence(_)) => {
            skipped("the runtime does not begin its stream of events before there is one")
        }
        Err(refusal) => failed("GetContainerEvents succeeds", told(&refusal)),
    }
}

/// Events of a container until one of this kind.
async fn until(
    trial: &Trial<'_>,
    events: &mut Events,
    container: &str,
    last: Kind,
) -> Verdict<Vec<cri::ContainerEventResponse>> {
    let mut found = Vec::new();
    let heard = async {
        loop {
            match events.message().await {
                Ok(Some(event)) if event.container_id == container => {
                    let kind = event.container_event_type();
                    found.push(event);
                    if kind == last {
                        return Ok(());
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err("the stream ended".to_owned()),
                Err(status) if status.code() == Code::Unimplemented => {
                    return Err(String::new());
                }
                Err(status) => return Err(status_told(&status)),
            }
        }
    };
    match tokio::time::timeout(trial.fixture.limit, heard).await {
        Ok(Ok(())) => Ok(found),
        Ok(Err(why)) if why.is_empty() => skipped("the runtime has no GetContainerEvents"),
        Ok(Err(why)) => failed(last.as_str_name(), why),
        Err(_) => {
            let heard: Vec<&str> = found
                .iter()
                .map(|event| event.container_event_type().as_str_name())
                .collect();
            let found = format!("{heard:?} within {:?}", trial.fixture.limit);
            failed(last.as_str_name(), found)
        }
    }
}

async fn life(trial: &Trial<'_>) -> Verdict {
    let (pod, pod_config) = trial.pod().await?;
    let mut events = subscribed(trial).await?;
    let config = trial.container_config("main", LASTS);
    let id = trial.launch(&pod, &pod_config, config).await?;
    trial.stop(&id, 10).await?;
    trial.remove(&id).await?;
    let found = until(trial, &mut events, &id, Kind::ContainerDeletedEvent).await?;
    let kinds: Vec<Kind> = found
        .iter()
        .map(|event| event.container_event_type())
        .collect();
    let expected = vec![
        Kind::ContainerCreatedEvent,
        Kind::ContainerStartedEvent,
        Kind::ContainerStoppedEvent,
        Kind::ContainerDeletedEvent,
    ];
    same("events of the container", expected, kinds)
}

async fn status(trial: &Trial<'_>) -> Verdict {
    let (pod, pod_config) = trial.pod().await?;
    let mut events = subscribed(trial).await?;
    let config = trial.container_config("main", LASTS);
    let id = trial.launch(&pod, &pod_config, config).await?;
    let found = until(trial, &mut events, &id, Kind::ContainerStartedEvent).await?;
    let Some(event) = found.last() else {
        return failed("an event", "none");
    };
    holds(
        "created_at is a time",
        event.created_at > 0,
        event.created_at,
    )?;
    let of_pod = event
        .pod_sandbox_status
        .as_ref()
        .map(|status| status.id.as_str());
    same("pod_sandbox_status.id", Some(pod.as_str()), of_pod)?;
    let ours = event
        .containers_statuses
        .iter()
        .find(|status| status.id == id);
    let state = ours.map(cri::ContainerStatus::state);
    same(
        "state in containers_statuses",
        Some(cri::ContainerState::ContainerRunning),
        state,
    )
}
