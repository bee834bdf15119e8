//! Checkpoints of containers and pods, and pods made from them. `checkpointp` and `restorep` are not in crictl's
//! main yet: their options are those that the calls of Kubernetes 1.37 ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{World, empty, id};
use crate::connection::Runtime;
use crate::failure::{Context, Failure, Outcome};
use crate::filter::Containers;
use crate::{config, filter, say};

/// Options of `checkpoint`.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// The archive to write
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    export: String,
    /// The containers
    #[arg(value_name = "CONTAINER-ID")]
    containers: Vec<String>,
}

/// Options of `checkpointp`.
#[derive(Debug, Args)]
pub(crate) struct CheckpointpArgs {
    /// The directory to write into: it is made, or must be empty
    #[arg(long, short, value_name = "DIR")]
    export: Option<PathBuf>,
    /// An option of the runtime's
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// The pod: all of its running containers are written
    #[arg(value_name = "POD-ID")]
    pod: Vec<String>,
}

/// Options of `restorep`.
#[derive(Debug, Args)]
pub(crate) struct RestorepArgs {
    /// The configuration of the pod to make
    #[arg(long, value_name = "POD-CONFIG.[json|yaml]")]
    config: Option<PathBuf>,
    /// The configuration of one of its containers, by name; one for each
    #[arg(long, value_name = "CONTAINER-CONFIG.[json|yaml]")]
    container_config: Vec<PathBuf>,
    /// A label of the pod, beside the configuration's
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// An annotation of the pod, beside the configuration's
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Runtime handler of the pod
    #[arg(long, short = 'r', value_name = "HANDLER")]
    runtime: Option<String>,
    /// An option of the runtime's
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// The directory that checkpointp wrote
    #[arg(value_name = "DIR")]
    checkpoint: Vec<PathBuf>,
}

pub(crate) async fn checkpoint(world: &World, args: &CheckpointArgs) -> Outcome {
    if args.containers.is_empty() {
        return Err(empty());
    }
    if args.export.is_empty() {
        return Err(Failure::new(
            "cannot checkpoint a container without specifying the checkpoint destination. Use \
             --export=/path/to/checkpoint.tar",
        ));
    }
    let runtime = world.runtime().await?;
    for container in &args.containers {
        let written = async {
            let request = cri::CheckpointContainerRequest {
                container_id: id(container)?,
                location: args.export.clone(),
                timeout: 0,
            };
            // It takes as long as there is memory to write: the runtime has a limit of its own.
            runtime
                .call_within(None, async |mut client| {
                    client.checkpoint_container(request).await
                })
                .await
        };
        written
            .await
            .context(format!("checkpointing the container {container:?} failed"))?;
        say::print(&format!("{}\n", say::shown(container)));
    }
    Ok(())
}

fn options(words: &[String]) -> Outcome<BTreeMap<String, String>> {
    filter::labels(words).context("--option")
}

pub(crate) async fn checkpointp(world: &World, args: &CheckpointpArgs) -> Outcome {
    let pod = match args.pod.as_slice() {
        [pod] if !pod.is_empty() => pod,
        [_, _, ..] => return Err(Failure::Help),
        _ => return Err(empty()),
    };
    let Some(export) = &args.export else {
        return Err(Failure::new(
            "cannot checkpoint a pod without specifying the checkpoint destination. Use --export=/path/to/directory",
        ));
    };
    let runtime = world.runtime().await?;
    let written = async {
        let (pod, containers) = running(world, &runtime, pod).await?;
        let (place, is_made) = directory(export)?;
        let request = cri::CheckpointPodRequest {
            pod_sandbox_id: pod,
            output_path: place.to_string_lossy().into_owned(),
            container_ids: containers,
            options: options(&args.option)?,
        };
        let written = runtime
            .call_within(None, async |mut client| {
                client.checkpoint_pod(request).await
            })
            .await;
        if written.is_err() && is_made {
            // Only if the runtime has left nothing in it.
            let _ = std::fs::remove_dir(&place);
        }
        written
    };
    written
        .await
        .context(format!("checkpointing the pod {pod:?} failed"))?;
    say::print(&format!("{}\n", say::shown(pod)));
    Ok(())
}

/// The whole id of a pod, and those of its running containers.
async fn running(world: &World, runtime: &Runtime, pod: &str) -> Outcome<(String, Vec<String>)> {
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: pod.to_owned(),
        verbose: false,
    };
    let status = runtime
        .call(async |mut client| client.pod_sandbox_status(request).await)
        .await?;
    let pod = status.status.unwrap_or_default().id;
    let images = world.images_beside(runtime).await?;
    let wanted = Containers {
        pod: pod.clone(),
        ..Containers::default()
    };
    let found = wanted.list("", runtime, &images).await?;
    let ids = found.into_iter().map(|container| container.id).collect();
    Ok((pod, ids))
}

/// The directory by its whole name, and whether it was made just now.
fn directory(path: &Path) -> Outcome<(PathBuf, bool)> {
    use std::os::unix::fs::DirBuilderExt;
    let path = std::path::absolute(path)?;
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    match made {
        Ok(()) => Ok((path, true)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut entries = std::fs::read_dir(&path).context(path.display())?;
            match entries.next() {
                None => Ok((path, false)),
                Some(_) => Err(Failure::new(format!("{} is not empty", path.display()))),
            }
        }
        Err(error) => Err(error).context(path.display()),
    }
}

pub(crate) async fn restorep(world: &World, args: &RestorepArgs) -> Outcome {
    let [checkpoint] = args.checkpoint.as_slice() else {
        return Err(Failure::Help);
    };
    let Some(config) = &args.config else {
        return Err(Failure::new(
            "a pod takes no name from a checkpoint: give --config=pod-config.json",
        ));
    };
    let mut config = config::pod(config).context("load podSandboxConfig")?;
    config.labels.extend(filter::labels(&args.label)?);
    config.annotations.extend(filter::labels(&args.annotation)?);
    let containers = args.container_config.iter();
    let containers = containers.map(|path| config::container(path));
    let request = cri::RestorePodRequest {
        checkpoint_path: std::path::absolute(checkpoint)?
            .to_string_lossy()
            .into_owned(),
        config: Some(config),
        runtime_handler: args.runtime.clone().unwrap_or_default(),
        options: options(&args.option)?,
        container_configs: containers.collect::<Outcome<_>>()?,
    };
    let runtime = world.runtime().await?;
    let answer = runtime
        .call_within(None, async |mut client| client.restore_pod(request).await)
        .await
        .context("restoring the pod")?;
    say::print(&format!("{}\n", say::shown(&answer.pod_sandbox_id)));
    Ok(())
}
