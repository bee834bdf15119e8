//! Containers: their life, what they run, and how they end.

use super::check::{Group, Verdict, checks, failed, holds, same, skipped};
use super::trial::{LASTS, Trial};
use cri::ContainerState as State;

pub(super) const GROUP: Group = Group {
    name: "containers",
    checks: checks! {
        301 "life" Image life, "a container is created, runs, and ends, each at a later time", "ContainerStatus.state, created_at, started_at, finished_at";
        302 "exit-code" Image exit_code, "the exit code of a container is told", "ContainerStatus.exit_code";
        303 "command" Image command, "command and arguments are what runs, word by word", "ContainerConfig.command, args";
        304 "environment" Image environment, "variables and the working directory are as asked for", "ContainerConfig.envs, working_dir";
        305 "labels" Image labels, "labels, annotations and name of a container come back as they were given", "ContainerConfig.labels, annotations: returned unaltered";
        306 "filters" Image filters, "containers are found by id, pod, state and label, and no others", "ListContainers: ContainerFilter";
        307 "image" Image image, "a container's status names its image as asked for, and what it is", "ContainerStatus.image, image_ref";
        308 "stop" Image stop, "a container that is stopped gets SIGTERM, and its exit code is its own", "StopContainer: a signal first, and a grace period";
        309 "stop-by-force" Image stop_by_force, "a container that ignores SIGTERM is killed after the grace period", "StopContainer: SIGKILL at the end of the grace period";
        310 "stop-at-once" Image stop_at_once, "a grace period of 0 kills at once", "StopContainerRequest.timeout = 0";
        311 "again" Image again, "a container that has ended can be made again with the next attempt", "ContainerMetadata.attempt";
        312 "remove-running" Image remove_running, "a container that runs can be removed", "RemoveContainer: one that runs is killed and removed";
        313 "missing-command" Image missing_command, "a command that the image does not have is an error, and nothing runs", "StartContainer";
        314 "out-of-memory" Image out_of_memory, "a container that exceeds its memory is killed, and the reason is told", "ContainerStatus.reason: OOMKilled where the cgroup ran out of memory";
        315 "update" Image update, "limits of a container that runs can be changed", "UpdateContainerResources";
        316 "stop-signal" Image stop_signal, "a stop signal that was asked for is used and told", "ContainerConfig.stop_signal";
        317 "two" Image two, "two containers of a pod run, and the end of one leaves the other", "CreateContainer";
        318 "streamed-list" Image streamed_list, "the streamed list of containers has what the list has", "StreamContainers";
    },
};

async fn life(trial: &Trial<'_>) -> Verdict {
    let (pod, pod_config) = trial.pod().await?;
    let config = trial.container_config("main", LASTS);
    let id = trial.create(&pod, &pod_config, config).await?;
    let created = trial.status(&id).await?;
    same(
        "state after CreateContainer",
        State::ContainerCreated,
        created.state(),
    )?;
    holds(
        "created_at is a time",
        created.created_at > 0,
        created.created_at,
    )?;
    trial.start(&id).await?;
    let running = trial.status(&id).await?;
    same(
        "state after StartContainer",
        State::ContainerRunning,
        running.state(),
    )?;
    let (before, after) = (running.created_at, running.started_at);
    holds(
        "started_at is not before created_at",
        after >= before,
        (before, after),
    )?;
    trial.stop(&id, 10).await?;
    let ended = trial.status(&id).await?;
    same(
        "state after StopContainer",
        State::ContainerExited,
        ended.state(),
    )?;
    let (before, after) = (ended.started_at, ended.finished_at);
    holds(
        "finished_at is not before started_at",
        after >= before,
        (before, after),
    )?;
    trial.remove(&id).await?;
    let filter = cri::ContainerFilter {
        id,
        ..Default::default()
    };
    same(
        "number of containers by its id",
        0,
        trial.list(filter).await?.len(),
    )
}

async fn exit_code(trial: &Trial<'_>) -> Verdict {
    for code in [0, 7] {
        let up = trial.up_with(&format!("exit {code}"), |_, _| {}).await?;
        let status = trial.ended(&up.container).await?;
        same("exit_code", code, status.exit_code)?;
        trial.remove_pod(&up.pod).await?;
    }
    Ok(())
}

async fn command(trial: &Trial<'_>) -> Verdict {
    let script = format!("printf '%s|' \"$0\" \"$@\" > /dev/shm/words; {LASTS}");
    let words = ["zero", "one two", "", "$HOME", "\"x\""];
    let up = trial
        .up_with(&script, |_, config| {
            config.args = words.map(str::to_owned).into()
        })
        .await?;
    let found = trial
        .until("the container runs its script", async || {
            let read = trial.outcome(&up.container, "cat /dev/shm/words").await?;
            Ok(match read {
                (0, words) => Ok(words),
                (_, error) => Err(error),
            })
        })
        .await?;
    same("its words", &(words.join("|") + "|"), &found)
}

async fn environment(trial: &Trial<'_>) -> Verdict {
    let value = "a = b \"c\" 'd' $e";
    let up = trial
        .up(|_, config| {
            config.envs.push(cri::KeyValue {
                key: "FLOE_VALUE".to_owned(),
                value: value.into(),
            });
            config.working_dir = "/dev".to_owned();
        })
        .await?;
    let found = trial.output(&up.container, "echo \"$FLOE_VALUE\"").await?;
    same("the variable in the container", value, &found)?;
    same(
        "the working directory",
        "/dev",
        &trial.output(&up.container, "pwd").await?,
    )
}

async fn labels(trial: &Trial<'_>) -> Verdict {
    let (pod, pod_config) = trial.pod().await?;
    let mut config = trial.container_config("main", LASTS);
    let odd = "with \"quotes\", <tags> & ümlaute\nand a second line";
    config
        .annotations
        .insert("floe.odd/annotation".to_owned(), odd.to_owned());
    config
        .labels
        .insert("floe.odd/label".to_owned(), "a-b_c.d".to_owned());
    let id = trial.create(&pod, &pod_config, config.clone()).await?;
    let status = trial.status(&id).await?;
    same("metadata", &config.metadata, &status.metadata)?;
    same("labels", &config.labels, &status.labels)?;
    same("annotations", &config.annotations, &status.annotations)?;
    let filter = cri::ContainerFilter {
        id,
        ..Default::default()
    };
    let listed = trial.list(filter).await?;
    let listed = listed.first().map(|one| (&one.labels, &one.annotations));
    same(
        "the same in ListContainers",
        Some((&config.labels, &config.annotations)),
        listed,
    )
}

fn ids(containers: Vec<cri::Container>) -> Vec<String> {
    containers.into_iter().map(|one| one.id).collect()
}

async fn filters(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let config = trial.container_config("second", LASTS);
    let labels = config.labels.clone();
    let second = trial.create(&up.pod, &up.pod_config, config).await?;
    let by_state = |state: State| cri::ContainerFilter {
        state: Some(cri::ContainerStateValue {
            state: state.into(),
        }),
        label_selector: labels.clone(),
        ..Default::default()
    };
    let found = ids(trial.list(by_state(State::ContainerRunning)).await?);
    same("containers that run", vec![up.container.clone()], found)?;
    let found = ids(trial.list(by_state(State::ContainerCreated)).await?);
    same("containers that are created", vec![second.clone()], found)?;
    let found = ids(trial.list(by_state(State::ContainerExited)).await?);
    same("containers that have ended", Vec::<String>::new(), found)?;
    let by_id = cri::ContainerFilter {
        id: second.clone(),
        ..Default::default()
    };
    same(
        "containers by id",
        vec![second.clone()],
        ids(trial.list(by_id).await?),
    )?;
    let by_pod = cri::ContainerFilter {
        pod_sandbox_id: up.pod,
        ..Default::default()
    };
    let mut both = vec![up.container, second];
    both.sort();
    same(
        "containers of the pod",
        both,
        ids(trial.list(by_pod).await?),
    )
}

async fn image(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let status = trial.status(&up.container).await?;
    let name = &trial.fixture.image.name;
    let named = status.image.map(|spec| spec.image).unwrap_or_default();
    holds("image.image is not empty", !named.is_empty(), &named)?;
    let is_known = crate::fixture::status(
        &trial.fixture.images,
        &status.image_ref,
        trial.fixture.limit,
    );
    match is_known.await {
        Ok(Some(image)) => {
            let ours = trial
                .fixture
                .image
                .found
                .as_ref()
                .map(|image| image.id.clone());
            same(
                "id of the image behind image_ref",
                ours.as_ref(),
                Ok(&image.id),
            )
        }
        Ok(None) => failed(
            format!("image_ref of {name} is an image"),
            &*status.image_ref,
        ),
        Err(refusal) => failed("ImageStatus succeeds", crate::fixture::told(&refusal)),
    }
}

/// Waits until a script that makes this file has come to it.
async fn begun(trial: &Trial<'_>, container: &str) -> Verdict {
    trial
        .until("the container runs its script", async || {
            let read = trial.outcome(container, "cat /dev/shm/begun").await?;
            Ok(match read {
                (0, _) => Ok(()),
                (_, error) => Err(error),
            })
        })
        .await
}

async fn stop(trial: &Trial<'_>) -> Verdict {
    let script = "trap 'exit 42' TERM; echo > /dev/shm/begun; while :; do sleep 0.1; done";
    let up = trial.up_with(script, |_, _| {}).await?;
    begun(trial, &up.container).await?;
    trial.stop(&up.container, 20).await?;
    let status = trial.status(&up.container).await?;
    same("state", State::ContainerExited, status.state())?;
    same(
        "exit_code, which the handler of SIGTERM gives",
        42,
        status.exit_code,
    )
}

async fn stop_by_force(trial: &Trial<'_>) -> Verdict {
    let script = "trap '' TERM; echo > /dev/shm/begun; while :; do sleep 1; done";
    let up = trial.up_with(script, |_, _| {}).await?;
    begun(trial, &up.container).await?;
    trial.stop(&up.container, 1).await?;
    let status = trial.status(&up.container).await?;
    same("state", State::ContainerExited, status.state())?;
    same("exit_code, of SIGKILL", 137, status.exit_code)
}

async fn stop_at_once(trial: &Trial<'_>) -> Verdict {
    let script = "trap '' TERM; echo > /dev/shm/begun; while :; do sleep 1; done";
    let up = trial.up_with(script, |_, _| {}).await?;
    begun(trial, &up.container).await?;
    trial.stop(&up.container, 0).await?;
    let status = trial.status(&up.container).await?;
    same("state", State::ContainerExited, status.state())
}

async fn again(trial: &Trial<'_>) -> Verdict {
    let up = trial.up_with("exit 1", |_, _| {}).await?;
    trial.ended(&up.container).await?;
    let mut config = trial.container_config("main", LASTS);
    if let Some(metadata) = &mut config.metadata {
        metadata.attempt = 1;
    }
    let second = trial.launch(&up.pod, &up.pod_config, config).await?;
    let status = trial.status(&second).await?;
    same(
        "state of the second attempt",
        State::ContainerRunning,
        status.state(),
    )?;
    let status = trial.status(&up.container).await?;
    same(
        "exit_code of the first, which is still told",
        1,
        status.exit_code,
    )
}

async fn remove_running(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    trial.remove(&up.container).await?;
    let filter = cri::ContainerFilter {
        pod_sandbox_id: up.pod,
        ..Default::default()
    };
    same(
        "number of containers of the pod",
        0,
        trial.list(filter).await?.len(),
    )
}

async fn missing_command(trial: &Trial<'_>) -> Verdict {
    let (pod, pod_config) = trial.pod().await?;
    let mut config = trial.container_config("main", "");
    config.command = vec!["/no/such/command".to_owned()];
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(config),
        sandbox_config: Some(pod_config),
    };
    let made = trial
        .fixture
        .runtime
        .ask(Some(trial.fixture.limit), async |mut client| {
            client.create_container(request).await
        })
        .await;
    if let Ok(made) = made {
        let request = cri::StartContainerRequest {
            container_id: made.container_id.clone(),
        };
        trial
            .refused(
                "StartContainer of a command that is not there",
                async |mut client| client.start_container(request).await,
            )
            .await?;
        let status = trial.status(&made.container_id).await?;
        let state = status.state();
        holds(
            "the container does not run",
            state != State::ContainerRunning,
            state,
        )?;
    }
    Ok(())
}

async fn out_of_memory(trial: &Trial<'_>) -> Verdict {
    let script = "dd if=/dev/zero of=/dev/null bs=200M count=5; exit $?";
    let up = trial
        .up_with(script, |_, config| {
            let linux = config.linux.get_or_insert_default();
            linux.resources = Some(cri::LinuxContainerResources {
                memory_limit_in_bytes: 32 << 20,
                memory_swap_limit_in_bytes: 32 << 20,
                ..Default::default()
            });
        })
        .await?;
    let status = trial.ended(&up.container).await?;
    same("exit_code, of SIGKILL", 137, status.exit_code)?;
    trial
        .until("reason: \"OOMKilled\"", async || {
            // Some runtimes hear of the reason after the end.
            let reason = trial.status(&up.container).await?.reason;
            Ok(match reason.as_str() {
                "OOMKilled" => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })
        .await
}

async fn update(trial: &Trial<'_>) -> Verdict {
    let resources = |memory: i64| cri::LinuxContainerResources {
        memory_limit_in_bytes: memory,
        cpu_shares: 256,
        ..Default::default()
    };
    let up = trial
        .up(|_, config| {
            config.linux.get_or_insert_default().resources = Some(resources(64 << 20));
        })
        .await?;
    let request = cri::UpdateContainerResourcesRequest {
        container_id: up.container.clone(),
        linux: Some(resources(128 << 20)),
        ..Default::default()
    };
    trial
        .ask("UpdateContainerResources", async |mut client| {
            client.update_container_resources(request).await
        })
        .await?;
    let status = trial.status(&up.container).await?;
    same("state", State::ContainerRunning, status.state())?;
    let Some(linux) = status.resources.and_then(|resources| resources.linux) else {
        return skipped("the limits were taken, and ContainerStatus has no resources to compare");
    };
    same(
        "memory_limit_in_bytes",
        128 << 20,
        linux.memory_limit_in_bytes,
    )
}

async fn stop_signal(trial: &Trial<'_>) -> Verdict {
    let script = "trap 'exit 42' USR1; echo > /dev/shm/begun; while :; do sleep 0.1; done";
    let up = trial
        .up_with(script, |_, config| {
            config.stop_signal = cri::Signal::Sigusr1.into()
        })
        .await?;
    let status = trial.status(&up.container).await?;
    if status.stop_signal() == cri::Signal::RuntimeDefault {
        return skipped("the runtime tells no stop signal, as before Kubernetes 1.33");
    }
    same("stop_signal", cri::Signal::Sigusr1, status.stop_signal())?;
    begun(trial, &up.container).await?;
    trial.stop(&up.container, 20).await?;
    let status = trial.status(&up.container).await?;
    same(
        "exit_code, which the handler of SIGUSR1 gives",
        42,
        status.exit_code,
    )
}

async fn two(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let config = trial.container_config("second", "exit 3");
    let second = trial.launch(&up.pod, &up.pod_config, config).await?;
    let ended = trial.ended(&second).await?;
    same("exit_code of the second", 3, ended.exit_code)?;
    let status = trial.status(&up.container).await?;
    same(
        "state of the first",
        State::ContainerRunning,
        status.state(),
    )
}

async fn streamed_list(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let request = cri::StreamContainersRequest {
        filter: Some(cri::ContainerFilter {
            pod_sandbox_id: up.pod.clone(),
            ..Default::default()
        }),
    };
    let stream = trial
        .offered("StreamContainers", async |mut client| {
            client.stream_containers(request).await
        })
        .await?;
    let pieces = trial.pieces("StreamContainers", stream).await?;
    let found = pieces.into_iter().flat_map(|piece| ids(piece.containers));
    let found = found.collect();
    same("containers of the stream", vec![up.container], found)
}
