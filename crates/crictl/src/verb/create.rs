//! Containers made from configurations: in a pod that is there, or in one that is made for them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::pull::PullFlags;
use super::{SchemasCommand, World, containers};
use crate::connection::{Images, Runtime};
use crate::failure::{Context, Failure, Outcome};
use crate::{clock, config, say};

/// Options of `create`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CreateArgs {
    #[command(subcommand)]
    schema: Option<SchemasCommand>,
    #[command(flatten)]
    pull: Pull,
    /// The pod, its container's configuration, and its own
    #[arg(value_name = "POD CONTAINER-CONFIG.[json|yaml] POD-CONFIG.[json|yaml]")]
    words: Vec<PathBuf>,
}

/// Options of `run`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    schema: Option<SchemasCommand>,
    #[command(flatten)]
    pull: Pull,
    /// Runtime handler of the pod
    #[arg(long, short = 'r', value_name = "HANDLER")]
    runtime: Option<String>,
    /// The configurations of the container and of its pod
    #[arg(value_name = "CONTAINER-CONFIG.[json|yaml] POD-CONFIG.[json|yaml]")]
    words: Vec<PathBuf>,
}

/// Whether the image is pulled first.
#[derive(Debug, Args)]
struct Pull {
    /// Do not pull the image, whatever the configuration file says
    #[arg(long)]
    no_pull: bool,
    /// Pull the image, whatever the configuration file says
    #[arg(long)]
    with_pull: bool,
    /// How long a request may take before it is given up
    #[arg(long, short = 'T', value_name = "DURATION", value_parser = clock::duration)]
    cancel_timeout: Option<Duration>,
    #[command(flatten)]
    flags: PullFlags,
}

impl Pull {
    fn check(&self) -> Outcome {
        match self.no_pull && self.with_pull {
            true => Err(Failure::new("conflict: no-pull and with-pull are both set")),
            false => Ok(()),
        }
    }
}

pub(crate) async fn create(world: &World, args: &CreateArgs) -> Outcome {
    if let Some(schema) = &args.schema {
        return schema.print();
    }
    let [pod, container, pod_config] = args.words.as_slice() else {
        return Err(Failure::Help);
    };
    args.pull.check()?;
    let pulls = (!args.pull.no_pull && world.settings.pull_image_on_create) || args.pull.with_pull;
    let runtime = world.runtime_with(args.pull.cancel_timeout).await?;
    let images = match pulls {
        true => Some(world.images_beside(&runtime).await?),
        false => None,
    };
    let pod = pod.to_string_lossy().into_owned();
    let made = async {
        let container = config::container(container)?;
        let pod_config = config::pod(pod_config)?;
        make(
            &runtime,
            images.as_ref(),
            &args.pull.flags,
            (pod, pod_config),
            container,
        )
        .await
    };
    let id = made.await.context("creating container")?;
    say::print(&format!("{}\n", say::shown(&id)));
    Ok(())
}

/// Makes a container in a pod, with its image pulled where `images` are given; gives its id.
async fn make(
    runtime: &Runtime,
    images: Option<&Images>,
    pull: &PullFlags,
    (pod, pod_config): (String, cri::PodSandboxConfig),
    mut container: cri::ContainerConfig,
) -> Outcome<String> {
    let image = container.image.get_or_insert_default();
    if image.user_specified_image.is_empty() {
        image.user_specified_image.clone_from(&image.image);
    }
    if let Some(images) = images {
        let mut names = vec![image.image.clone()];
        let annotations = image.annotations.clone();
        say::info(&format!("Pulling container image: {}", names[0]));
        for mount in &container.mounts {
            let mounted = mount.image.as_ref().map(|image| image.image.clone());
            if let Some(name) = mounted.filter(|name| !name.is_empty()) {
                let at = &mount.container_path;
                say::info(&format!(
                    "Pulling image {name} to be mounted to container path: {at}"
                ));
                names.push(name);
            }
        }
        pull.pull(images, &names, Some(&pod_config), &annotations)
            .await?;
    }
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod,
        config: Some(container),
        sandbox_config: Some(pod_config),
    };
    let answer = runtime
        .call(async |mut client| client.create_container(request).await)
        .await?;
    Ok(answer.container_id)
}

pub(crate) async fn run(world: &World, args: &RunArgs) -> Outcome {
    if let Some(schema) = &args.schema {
        return schema.print();
    }
    let [container, pod_config] = args.words.as_slice() else {
        return Err(Failure::Help);
    };
    args.pull.check()?;
    let pulls = (!world.settings.disable_pull_on_run && !args.pull.no_pull) || args.pull.with_pull;
    let runtime = world.runtime_with(args.pull.cancel_timeout).await?;
    let images = match pulls {
        true => Some(world.images_beside(&runtime).await?),
        false => None,
    };
    let ran = async {
        let pod_config = config::pod(pod_config).context("load podSandboxConfig")?;
        // Before there is a pod that nobody would want.
        let container = config::container(container).context("creating container failed")?;
        let handler = args.runtime.clone().unwrap_or_default();
        let pod = world.run_pod(&runtime, pod_config.clone(), handler).await?;
        let flags = &args.pull.flags;
        let id = make(
            &runtime,
            images.as_ref(),
            flags,
            (pod, pod_config),
            container,
        )
        .await
        .context("creating container failed")?;
        containers::start_one(&runtime, &id)
            .await
            .context(format!("starting the container {id:?}"))
    };
    ran.await.context("running container")
}
