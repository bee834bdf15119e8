//! What kubelet relies on when things are gone, twice or wrong: idempotence, and codes of errors.

use tonic::Code;

use super::check::{Group, Verdict, checks, holds, same};
use super::trial::{LASTS, Trial};
use crate::filter::spec;

pub(super) const GROUP: Group = Group {
    name: "errors",
    checks: checks! {
        1201 "unknown-pod" Runtime unknown_pod, "the status of a pod that is not there is NOT_FOUND", "PodSandboxStatus: NOT_FOUND";
        1202 "unknown-container" Runtime unknown_container, "the status of a container that is not there is NOT_FOUND", "ContainerStatus: NOT_FOUND";
        1203 "stop-pod-twice" Runtime stop_pod_twice, "a pod can be stopped twice", "StopPodSandbox is idempotent";
        1204 "remove-pod-twice" Runtime remove_pod_twice, "a pod can be removed twice", "RemovePodSandbox is idempotent";
        1205 "stop-twice" Image stop_twice, "a container can be stopped twice", "StopContainer is idempotent";
        1206 "remove-twice" Image remove_twice, "a container can be removed twice", "RemoveContainer is idempotent";
        1207 "stop-unknown-pod" Runtime stop_unknown_pod, "the stop of a pod that is not there succeeds", "StopPodSandbox is idempotent";
        1208 "remove-unknown" Runtime remove_unknown, "the removal of a pod and of a container that are not there succeeds", "RemovePodSandbox, RemoveContainer are idempotent";
        1209 "stop-removed" Image stop_removed, "the stop of a container that was removed succeeds", "StopContainer is idempotent";
        1210 "start-unknown" Runtime start_unknown, "the start of a container that is not there is NOT_FOUND", "StartContainer: NOT_FOUND";
        1211 "exec-unknown" Runtime exec_unknown, "a command in a container that is not there is NOT_FOUND", "ExecSync: NOT_FOUND";
        1212 "exec-ended" Image exec_ended, "a command in a container that has ended is an error", "ExecSync";
        1213 "create-in-unknown-pod" Runtime create_in_unknown_pod, "a container in a pod that is not there is an error", "CreateContainer";
        1214 "create-of-missing-image" Runtime create_of_missing_image, "a container of an image that is not there is an error, and is not listed", "CreateContainer";
        1215 "no-configuration" Runtime no_configuration, "requests without their configuration are errors, and the runtime goes on", "RunPodSandbox, CreateContainer: config";
        1216 "start-in-stopped-pod" Image start_in_stopped_pod, "nothing can be started in a pod that was stopped", "StartContainer";
        1217 "stop-ended" Image stop_ended, "a container that has ended by itself can be stopped, and keeps its exit code", "StopContainer is idempotent";
        1218 "stats-of-unknown" Runtime stats_of_unknown, "statistics of a container that is not there are an error", "ContainerStats";
    },
};

/// An id that nothing has.
const NOBODY: &str = "f10ef10ef10ef10ef10ef10ef10ef10ef10ef10ef10ef10ef10ef10ef10ef10e";

async fn unknown_pod(trial: &Trial<'_>) -> Verdict {
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: NOBODY.to_owned(),
        verbose: false,
    };
    let status = trial
        .refused("PodSandboxStatus of nothing", async |mut client| {
            client.pod_sandbox_status(request).await
        })
        .await?;
    same("code", Code::NotFound, status.code())
}

async fn unknown_container(trial: &Trial<'_>) -> Verdict {
    let request = cri::ContainerStatusRequest {
        container_id: NOBODY.to_owned(),
        verbose: false,
    };
    let status = trial
        .refused("ContainerStatus of nothing", async |mut client| {
            client.container_status(request).await
        })
        .await?;
    same("code", Code::NotFound, status.code())
}

async fn stop_pod_twice(trial: &Trial<'_>) -> Verdict {
    let (pod, _) = trial.pod().await?;
    trial.stop_pod(&pod).await?;
    trial.stop_pod(&pod).await
}

async fn remove_pod_twice(trial: &Trial<'_>) -> Verdict {
    let (pod, _) = trial.pod().await?;
    trial.stop_pod(&pod).await?;
    trial.remove_pod(&pod).await?;
    trial.remove_pod(&pod).await
}

async fn stop_twice(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    trial.stop(&up.container, 10).await?;
    trial.stop(&up.container, 10).await
}

async fn remove_twice(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    trial.stop(&up.container, 10).await?;
    trial.remove(&up.container).await?;
    trial.remove(&up.container).await
}

async fn stop_unknown_pod(trial: &Trial<'_>) -> Verdict {
    trial.stop_pod(NOBODY).await
}

async fn remove_unknown(trial: &Trial<'_>) -> Verdict {
    trial.remove_pod(NOBODY).await?;
    trial.remove(NOBODY).await
}

async fn stop_removed(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    trial.remove(&up.container).await?;
    trial.stop(&up.container, 1).await
}

async fn start_unknown(trial: &Trial<'_>) -> Verdict {
    let request = cri::StartContainerRequest {
        container_id: NOBODY.to_owned(),
    };
    let status = trial
        .refused("StartContainer of nothing", async |mut client| {
            client.start_container(request).await
        })
        .await?;
    same("code", Code::NotFound, status.code())
}

fn command(container: &str) -> cri::ExecSyncRequest {
    cri::ExecSyncRequest {
        container_id: container.to_owned(),
        cmd: vec!["true".to_owned()],
        timeout: 5,
    }
}

async fn exec_unknown(trial: &Trial<'_>) -> Verdict {
    let request = command(NOBODY);
    let status = trial
        .refused("ExecSync in nothing", async |mut client| {
            client.exec_sync(request).await
        })
        .await?;
    same("code", Code::NotFound, status.code())
}

async fn exec_ended(trial: &Trial<'_>) -> Verdict {
    let up = trial.up_with("exit 0", |_, _| {}).await?;
    trial.ended(&up.container).await?;
    let request = command(&up.container);
    trial
        .refused(
            "ExecSync in a container that has ended",
            async |mut client| client.exec_sync(request).await,
        )
        .await?;
    Ok(())
}

async fn create_in_unknown_pod(trial: &Trial<'_>) -> Verdict {
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: NOBODY.to_owned(),
        config: Some(trial.container_config("main", LASTS)),
        sandbox_config: Some(trial.pod_config()?),
    };
    trial
        .refused("CreateContainer in nothing", async |mut client| {
            client.create_container(request).await
        })
        .await?;
    Ok(())
}

async fn create_of_missing_image(trial: &Trial<'_>) -> Verdict {
    let (pod, pod_config) = trial.pod().await?;
    let mut config = trial.container_config("main", LASTS);
    config.image = Some(spec("localhost/floe/no-such-image:1"));
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(config),
        sandbox_config: Some(pod_config),
    };
    trial
        .refused(
            "CreateContainer of an image that is not there",
            async |mut client| client.create_container(request).await,
        )
        .await?;
    let filter = cri::ContainerFilter {
        pod_sandbox_id: pod,
        ..Default::default()
    };
    same(
        "number of containers of the pod",
        0,
        trial.list(filter).await?.len(),
    )
}

async fn no_configuration(trial: &Trial<'_>) -> Verdict {
    let request = cri::RunPodSandboxRequest::default();
    let answer = trial.made.run_pod(request).await;
    holds(
        "RunPodSandbox without a configuration is refused",
        answer.is_err(),
        answer,
    )?;
    let (pod, pod_config) = trial.pod().await?;
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: None,
        sandbox_config: Some(pod_config),
    };
    trial
        .refused(
            "CreateContainer without a configuration",
            async |mut client| client.create_container(request).await,
        )
        .await?;
    trial.pod_status(&pod).await?;
    Ok(())
}

async fn start_in_stopped_pod(trial: &Trial<'_>) -> Verdict {
    let (pod, pod_config) = trial.pod().await?;
    let config = trial.container_config("main", LASTS);
    let container = trial.create(&pod, &pod_config, config).await?;
    trial.stop_pod(&pod).await?;
    let request = cri::StartContainerRequest {
        container_id: container,
    };
    trial
        .refused(
            "StartContainer in a pod that was stopped",
            async |mut client| client.start_container(request).await,
        )
        .await?;
    Ok(())
}

async fn stop_ended(trial: &Trial<'_>) -> Verdict {
    let up = trial.up_with("exit 5", |_, _| {}).await?;
    trial.ended(&up.container).await?;
    trial.stop(&up.container, 1).await?;
    same("exit_code", 5, trial.status(&up.container).await?.exit_code)
}

async fn stats_of_unknown(trial: &Trial<'_>) -> Verdict {
    let request = cri::ContainerStatsRequest {
        container_id: NOBODY.to_owned(),
    };
    trial
        .refused("ContainerStats of nothing", async |mut client| {
            client.container_stats(request).await
        })
        .await?;
    Ok(())
}
