//! Statistics and metrics of containers and pods.

use super::check::{Group, Verdict, checks, failed, holds, same};
use super::trial::{Trial, Up};

pub(super) const GROUP: Group = Group {
    name: "stats",
    checks: checks! {
        1001 "container" Image container, "what a container uses is told, with whose it is", "ContainerStats: attributes, cpu, memory, writable_layer";
        1002 "filters" Image filters, "statistics are found by container, pod and label, and no others", "ListContainerStats: ContainerStatsFilter";
        1003 "processor" Image processor, "the time of a processor that was used is counted", "ContainerStats: CpuUsage.usage_core_nano_seconds";
        1004 "pod" Image pod, "what a pod uses is told, with its network and containers", "PodSandboxStats";
        1005 "pods" Image pods, "statistics of pods are found by label", "ListPodSandboxStats: PodSandboxStatsFilter";
        1006 "metrics" Image metrics, "each metric of a pod is described, with as many labels", "ListMetricDescriptors, ListPodSandboxMetrics";
        1007 "file-system" Image file_system, "the writable layer of a container is told with its place", "ContainerStats: FilesystemUsage.fs_id";
    },
};

fn value(value: Option<cri::UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

async fn of(trial: &Trial<'_>, up: &Up) -> Verdict<cri::ContainerStats> {
    let request = cri::ContainerStatsRequest {
        container_id: up.container.clone(),
    };
    let answer = trial
        .ask("ContainerStats", async |mut client| {
            client.container_stats(request).await
        })
        .await?;
    match answer.stats {
        Some(stats) => Ok(stats),
        None => failed("ContainerStats has stats", "none"),
    }
}

async fn container(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let stats = of(trial, &up).await?;
    let attributes = stats.attributes.unwrap_or_default();
    let name = attributes.metadata.unwrap_or_default().name;
    same(
        "attributes: id and name",
        (&up.container, "main"),
        (&attributes.id, name.as_str()),
    )?;
    let labels = trial.fixture.labels(&trial.part);
    same("attributes: labels", labels, attributes.labels)?;
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    holds("cpu.timestamp is a time", cpu.timestamp > 0, cpu.timestamp)?;
    let used = value(memory.working_set_bytes);
    holds("memory.working_set_bytes is not 0", used > 0, used)
}

async fn file_system(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    trial
        .until("writable_layer is told", async || {
            // Runtimes measure it now and then.
            let Some(layer) = of(trial, &up).await?.writable_layer else {
                return Ok(Err("none".to_owned()));
            };
            let place = layer.fs_id.clone().unwrap_or_default().mountpoint;
            Ok(match place.starts_with('/') && layer.timestamp > 0 {
                true => Ok(()),
                false => Err(format!("{layer:?}")),
            })
        })
        .await
}

async fn listed(trial: &Trial<'_>, filter: cri::ContainerStatsFilter) -> Verdict<Vec<String>> {
    let request = cri::ListContainerStatsRequest {
        filter: Some(filter),
    };
    let answer = trial
        .ask("ListContainerStats", async |mut client| {
            client.list_container_stats(request).await
        })
        .await?;
    let stats = answer.stats.into_iter();
    Ok(stats
        .map(|one| one.attributes.unwrap_or_default().id)
        .collect())
}

async fn filters(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let ours = vec![up.container.clone()];
    let none = cri::ContainerStatsFilter::default;
    let by_id = cri::ContainerStatsFilter {
        id: up.container.clone(),
        ..none()
    };
    same("statistics by id", &ours, &listed(trial, by_id).await?)?;
    let by_pod = cri::ContainerStatsFilter {
        pod_sandbox_id: up.pod.clone(),
        ..none()
    };
    same("statistics by pod", &ours, &listed(trial, by_pod).await?)?;
    let by_label = cri::ContainerStatsFilter {
        label_selector: trial.fixture.labels(&trial.part),
        ..none()
    };
    same(
        "statistics by label",
        &ours,
        &listed(trial, by_label).await?,
    )
}

async fn processor(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let used = async || {
        let cpu = of(trial, &up).await?.cpu.unwrap_or_default();
        Verdict::Ok(value(cpu.usage_core_nano_seconds))
    };
    let before = used().await?;
    trial
        .output(
            &up.container,
            "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done",
        )
        .await?;
    trial
        .until("usage_core_nano_seconds grows", async || {
            let now = used().await?;
            Ok(match now > before {
                true => Ok(()),
                false => Err(format!("{before}, and then {now}")),
            })
        })
        .await
}

async fn pod(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let request = cri::PodSandboxStatsRequest {
        pod_sandbox_id: up.pod.clone(),
    };
    let answer = trial
        .offered("PodSandboxStats", async |mut client| {
            client.pod_sandbox_stats(request).await
        })
        .await?;
    let stats = answer.stats.unwrap_or_default();
    same(
        "attributes.id",
        &up.pod,
        &stats.attributes.unwrap_or_default().id,
    )?;
    let linux = stats.linux.unwrap_or_default();
    let memory = linux.memory.unwrap_or_default();
    let used = value(memory.working_set_bytes);
    holds("memory.working_set_bytes is not 0", used > 0, used)?;
    let network = linux.network.unwrap_or_default().default_interface;
    let name = network.map(|interface| interface.name).unwrap_or_default();
    holds(
        "network.default_interface has a name",
        !name.is_empty(),
        &name,
    )?;
    let containers: Vec<String> = linux
        .containers
        .into_iter()
        .map(|one| one.attributes.unwrap_or_default().id)
        .collect();
    same("containers", vec![up.container], containers)
}

async fn pods(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let request = cri::ListPodSandboxStatsRequest {
        filter: Some(cri::PodSandboxStatsFilter {
            label_selector: trial.fixture.labels(&trial.part),
            ..Default::default()
        }),
    };
    let answer = trial
        .offered("ListPodSandboxStats", async |mut client| {
            client.list_pod_sandbox_stats(request).await
        })
        .await?;
    let found: Vec<String> = answer
        .stats
        .into_iter()
        .map(|one| one.attributes.unwrap_or_default().id)
        .collect();
    same("statistics by label", vec![up.pod], found)
}

async fn metrics(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let request = cri::ListMetricDescriptorsRequest::default();
    let described = trial
        .offered("ListMetricDescriptors", async |mut client| {
            client.list_metric_descriptors(request).await
        })
        .await?
        .descriptors;
    let request = cri::ListPodSandboxMetricsRequest::default();
    let answer = trial
        .offered("ListPodSandboxMetrics", async |mut client| {
            client.list_pod_sandbox_metrics(request).await
        })
        .await?;
    let ours = answer
        .pod_metrics
        .into_iter()
        .find(|pod| pod.pod_sandbox_id == up.pod);
    let Some(ours) = ours else {
        return failed("metrics of the pod", "none");
    };
    let of_containers = ours.container_metrics.iter().flat_map(|one| &one.metrics);
    let mut count = 0;
    for metric in ours.metrics.iter().chain(of_containers) {
        count += 1;
        let labels = described.iter().find(|one| one.name == metric.name);
        let labels = labels.map(|one| one.label_keys.len());
        let what = format!("labels of {}, as described", metric.name);
        same(&what, labels, Some(metric.label_values.len()))?;
    }
    holds("a metric of the pod", count > 0, count)
}
