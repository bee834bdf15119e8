//! Pods: their life, lists, names and limits.

use super::check::{Group, Verdict, checks, failed, holds, same};
use super::trial::{LASTS, Trial};

pub(super) const GROUP: Group = Group {
    name: "pods",
    checks: checks! {
        201 "run" Runtime run, "a pod is ready at once, with the name it was asked for", "RunPodSandbox: the pod is ready on success; PodSandboxStatus.metadata";
        202 "labels" Runtime labels, "labels and annotations of a pod come back as they were given", "PodSandboxConfig.labels, annotations: returned unaltered";
        203 "filters" Runtime filters, "pods are found by id, state and label, and no others", "ListPodSandbox: PodSandboxFilter";
        204 "hostname" Image hostname, "the containers of a pod have the pod's hostname", "PodSandboxConfig.hostname";
        205 "stop" Image stop, "a pod that is stopped is not ready, and its containers have ended", "StopPodSandbox: no process of the pod goes on";
        206 "remove" Image remove, "a pod that is removed takes its running containers along", "RemovePodSandbox: running containers are killed and removed with it";
        207 "attempts" Runtime attempts, "a pod that was stopped can be made again with the next attempt", "PodSandboxMetadata.attempt";
        208 "sysctls" Image sysctls, "sysctls of a pod are set in it", "LinuxPodSandboxConfig.sysctls";
        209 "unknown-handler" Runtime unknown_handler, "a runtime handler that does not exist is refused", "RunPodSandboxRequest.runtime_handler: one that is not known is an error";
        210 "shared-ipc" Image shared_ipc, "the containers of a pod share its memory", "NamespaceOption.ipc = POD";
        211 "resources" Image resources, "the size of a pod can be changed", "UpdatePodSandboxResources";
        212 "streamed-list" Runtime streamed_list, "the streamed list of pods has what the list has", "StreamPodSandboxes";
        213 "retry" Runtime retry, "a client that gave up and asks again gets one pod, and not two", "RunPodSandbox, as kubelet repeats it";
        214 "status-of-namespaces" Runtime namespaces, "a pod's status tells its namespaces as they were asked for", "PodSandboxStatus.linux.namespaces.options";
    },
};

async fn run(trial: &Trial<'_>) -> Verdict {
    let (pod, config) = trial.pod().await?;
    let status = trial.pod_status(&pod).await?;
    same("id", &pod, &status.id)?;
    same("metadata", &config.metadata, &status.metadata)?;
    same("state", cri::PodSandboxState::SandboxReady, status.state())?;
    holds(
        "created_at is a time",
        status.created_at > 0,
        status.created_at,
    )
}

async fn labels(trial: &Trial<'_>) -> Verdict {
    let mut config = trial.pod_config()?;
    let odd = "with \"quotes\", <tags> & ümlaute\nand a second line";
    config
        .annotations
        .insert("floe.odd/annotation".to_owned(), odd.to_owned());
    config
        .labels
        .insert("floe.odd/label".to_owned(), "a-b_c.d".to_owned());
    let pod = trial.run_pod(&config).await?;
    let status = trial.pod_status(&pod).await?;
    same("labels", &config.labels, &status.labels)?;
    same("annotations", &config.annotations, &status.annotations)
}

fn by_id(id: &str) -> cri::PodSandboxFilter {
    cri::PodSandboxFilter {
        id: id.to_owned(),
        ..Default::default()
    }
}

async fn filters(trial: &Trial<'_>) -> Verdict {
    let (ready, config) = trial.pod().await?;
    let mut other = config.clone();
    if let Some(metadata) = &mut other.metadata {
        metadata.uid += "-other";
        metadata.name += "-other";
    }
    let gone = trial.run_pod(&other).await?;
    trial.stop_pod(&gone).await?;
    let mut both = vec![ready.clone(), gone.clone()];
    both.sort();
    let labels = config.labels.clone();
    same(
        "pods by id",
        vec![ready.clone()],
        trial.list_pods(by_id(&ready)).await?,
    )?;
    let by_label = |state: Option<cri::PodSandboxState>| cri::PodSandboxFilter {
        label_selector: labels.clone(),
        state: state.map(|state| cri::PodSandboxStateValue {
            state: state.into(),
        }),
        ..Default::default()
    };
    same(
        "pods by label",
        both,
        trial.list_pods(by_label(None)).await?,
    )?;
    let state = cri::PodSandboxState::SandboxReady;
    let found = trial.list_pods(by_label(Some(state))).await?;
    same("pods by label that are ready", vec![ready], found)?;
    let state = cri::PodSandboxState::SandboxNotready;
    let found = trial.list_pods(by_label(Some(state))).await?;
    same("pods by label that are not ready", vec![gone], found)?;
    let nobody = cri::PodSandboxFilter {
        label_selector: [("floe.nobody".to_owned(), "has this".to_owned())].into(),
        ..Default::default()
    };
    same(
        "pods with a label that none has",
        Vec::<String>::new(),
        trial.list_pods(nobody).await?,
    )
}

async fn hostname(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|pod, _| pod.hostname = "a-name-of-its-own".to_owned())
        .await?;
    let found = trial.output(&up.container, "hostname").await?;
    same("hostname in the container", "a-name-of-its-own", &found)
}

async fn stop(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    trial.stop_pod(&up.pod).await?;
    let status = trial.pod_status(&up.pod).await?;
    same(
        "state of the pod",
        cri::PodSandboxState::SandboxNotready,
        status.state(),
    )?;
    let status = trial.status(&up.container).await?;
    same(
        "state of its container",
        cri::ContainerState::ContainerExited,
        status.state(),
    )
}

async fn remove(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    trial.remove_pod(&up.pod).await?;
    let pods = trial.list_pods(by_id(&up.pod)).await?;
    same("pods by its id", Vec::<String>::new(), pods)?;
    let filter = cri::ContainerFilter {
        pod_sandbox_id: up.pod.clone(),
        ..Default::default()
    };
    let left = trial.list(filter).await?;
    same("number of containers of it", 0, left.len())
}

async fn attempts(trial: &Trial<'_>) -> Verdict {
    let (first, mut config) = trial.pod().await?;
    trial.stop_pod(&first).await?;
    if let Some(metadata) = &mut config.metadata {
        metadata.attempt = 1;
    }
    let second = trial.run_pod(&config).await?;
    holds(
        "the second pod has an id of its own",
        first != second,
        &second,
    )?;
    let metadata = trial
        .pod_status(&second)
        .await?
        .metadata
        .unwrap_or_default();
    same("attempt", 1, metadata.attempt)
}

async fn sysctls(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|pod, _| {
            let sysctls = &mut pod.linux.get_or_insert_default().sysctls;
            sysctls.insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
            sysctls.insert(
                "net.ipv4.ip_local_port_range".to_owned(),
                "2000 60000".to_owned(),
            );
        })
        .await?;
    let read = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_local_port_range";
    let found = trial.output(&up.container, read).await?;
    let found: Vec<&str> = found.split_whitespace().collect();
    same(
        "the sysctls in the container",
        vec!["1", "2000", "60000"],
        found,
    )
}

async fn unknown_handler(trial: &Trial<'_>) -> Verdict {
    let request = cri::RunPodSandboxRequest {
        config: Some(trial.pod_config()?),
        runtime_handler: "floe-no-such-handler".to_owned(),
    };
    match trial.made.run_pod(request).await {
        Ok(_) => failed("RunPodSandbox with an unknown handler is refused", "a pod"),
        Err(crate::connection::Refusal::Status(_)) => Ok(()),
        Err(refusal) => failed("RunPodSandbox is refused", crate::fixture::told(&refusal)),
    }
}

async fn shared_ipc(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let config = trial.container_config("second", LASTS);
    let second = trial.launch(&up.pod, &up.pod_config, config).await?;
    trial
        .output(&up.container, "echo shared > /dev/shm/word")
        .await?;
    let found = trial.output(&second, "cat /dev/shm/word").await?;
    same(
        "what the other container reads in /dev/shm",
        "shared",
        &found,
    )
}

async fn resources(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let request = cri::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: up.pod.clone(),
        overhead: Some(cri::LinuxContainerResources::default()),
        resources: Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 256 << 20,
            cpu_shares: 512,
            ..Default::default()
        }),
    };
    trial
        .offered("UpdatePodSandboxResources", async |mut client| {
            client.update_pod_sandbox_resources(request).await
        })
        .await?;
    let status = trial.status(&up.container).await?;
    same(
        "state of its container",
        cri::ContainerState::ContainerRunning,
        status.state(),
    )
}

async fn streamed_list(trial: &Trial<'_>) -> Verdict {
    let (pod, config) = trial.pod().await?;
    let request = cri::StreamPodSandboxesRequest {
        filter: Some(cri::PodSandboxFilter {
            label_selector: config.labels,
            ..Default::default()
        }),
    };
    let stream = trial
        .offered("StreamPodSandboxes", async |mut client| {
            client.stream_pod_sandboxes(request).await
        })
        .await?;
    let pieces = trial.pieces("StreamPodSandboxes", stream).await?;
    let pods = pieces.into_iter().flat_map(|piece| piece.pod_sandboxes);
    let ids = pods.map(|pod| pod.id).collect();
    same("pods of the stream", vec![pod], ids)
}

async fn retry(trial: &Trial<'_>) -> Verdict {
    let config = trial.pod_config()?;
    let request = || cri::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: trial.fixture.place.runtime_handler.clone(),
    };
    // What becomes of this one is the runtime's affair: its client is gone.
    let limit = Some(std::time::Duration::from_millis(1));
    let first = request();
    let _ = trial
        .fixture
        .runtime
        .ask(limit, async |mut client| {
            client.run_pod_sandbox(first).await
        })
        .await;
    let pod = trial
        .until("the pod is made for whoever asks again", async || {
            let again = trial.made.run_pod(request()).await;
            Ok(again
                .map(|(pod, _)| pod)
                .map_err(|refusal| crate::fixture::told(&refusal)))
        })
        .await?;
    let ready = cri::PodSandboxFilter {
        label_selector: config.labels.clone(),
        state: Some(cri::PodSandboxStateValue {
            state: cri::PodSandboxState::SandboxReady.into(),
        }),
        ..Default::default()
    };
    same(
        "pods of that name that are ready",
        vec![pod],
        trial.list_pods(ready).await?,
    )
}

async fn namespaces(trial: &Trial<'_>) -> Verdict {
    let mut config = trial.pod_config()?;
    let wanted = cri::NamespaceOption {
        network: cri::NamespaceMode::Pod.into(),
        pid: cri::NamespaceMode::Container.into(),
        ipc: cri::NamespaceMode::Pod.into(),
        ..Default::default()
    };
    super::trial::pod_security(&mut config).namespace_options = Some(wanted);
    let pod = trial.run_pod(&config).await?;
    let linux = trial.pod_status(&pod).await?.linux;
    let found = linux
        .and_then(|linux| linux.namespaces)
        .and_then(|one| one.options);
    let found = found.map(|one| (one.network(), one.pid(), one.ipc()));
    let wanted = (
        cri::NamespaceMode::Pod,
        cri::NamespaceMode::Container,
        cri::NamespaceMode::Pod,
    );
    same("network, pid and ipc", Some(wanted), found)
}
