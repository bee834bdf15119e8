//! Containers: started, stopped, removed and listed.

use clap::Args;
use futures_util::future::join_all;

use super::{World, empty, id};
use crate::connection::{Images, Runtime};
use crate::failure::{Context, Failure, Outcome, all};
use crate::filter::{self, Containers, POD_NAME, POD_NAMESPACE};
use crate::table::Table;
use crate::{clock, output, say};

/// Options of `start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The containers
    #[arg(value_name = "CONTAINER-ID")]
    containers: Vec<String>,
}

/// Options of `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Seconds until those that do not end are killed
    #[arg(
        long,
        short,
        value_name = "SECONDS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    timeout: i64,
    /// All that run
    #[arg(long, short)]
    all: bool,
    /// The containers
    #[arg(value_name = "CONTAINER-ID")]
    containers: Vec<String>,
}

/// Options of `rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Stop those that run
    #[arg(long, short)]
    force: bool,
    /// Keep the log's files
    #[arg(long, short)]
    keep_logs: bool,
    /// All containers
    #[arg(long, short)]
    all: bool,
    /// The containers
    #[arg(value_name = "CONTAINER-ID")]
    containers: Vec<String>,
}

/// Options of `ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Say more of each
    #[arg(long, short)]
    verbose: bool,
    /// Those whose id begins so
    #[arg(long, default_value = "", hide_default_value = true)]
    id: String,
    #[command(flatten)]
    wanted: Containers,
    /// Ids alone
    #[arg(long, short)]
    quiet: bool,
    /// json, yaml or table
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: String,
    /// Ids as long as they are
    #[arg(long)]
    no_trunc: bool,
    /// Names of images instead of ids
    #[arg(long, short)]
    resolve_image_path: bool,
}

/// Starts a container and says so.
pub(crate) async fn start_one(runtime: &Runtime, container: &str) -> Outcome {
    let request = cri::StartContainerRequest {
        container_id: id(container)?,
    };
    runtime
        .call(async |mut client| client.start_container(request).await)
        .await?;
    say::print(&format!("{}\n", say::shown(container)));
    Ok(())
}

pub(crate) async fn start(world: &World, args: &StartArgs) -> Outcome {
    if args.containers.is_empty() {
        return Err(empty());
    }
    let runtime = world.runtime().await?;
    for id in &args.containers {
        start_one(&runtime, id)
            .await
            .context(format!("starting the container {id:?}"))?;
    }
    Ok(())
}

async fn stop_one(runtime: &Runtime, container: &str, timeout: i64) -> Outcome {
    let request = cri::StopContainerRequest {
        container_id: id(container)?,
        timeout,
    };
    let grace = std::time::Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
    let limit = runtime.limit.saturating_add(grace);
    runtime
        .call_within(Some(limit), async |mut client| {
            client.stop_container(request).await
        })
        .await?;
    say::print(&format!("{}\n", say::shown(container)));
    Ok(())
}

pub(crate) async fn stop(world: &World, args: &StopArgs) -> Outcome {
    let runtime = world.runtime().await?;
    let mut ids = args.containers.clone();
    match (args.all, ids.is_empty()) {
        (true, false) => {
            let why = "cannot specify CONTAINER-ID(s) when using --all";
            return Err(Failure::Plain(why.to_owned()));
        }
        (false, true) => {
            let why = "you must specify at least one CONTAINER-ID or use --all";
            return Err(Failure::Plain(why.to_owned()));
        }
        (false, false) => {}
        (true, true) => {
            let images = world.images_beside(&runtime).await?;
            let running = Containers::default().list("", &runtime, &images).await;
            let running = running.context("listing containers")?;
            if running.is_empty() {
                say::print("No running containers found.\n");
                return Ok(());
            }
            ids = running.into_iter().map(|container| container.id).collect();
        }
    }
    for id in &ids {
        stop_one(&runtime, id, args.timeout)
            .await
            .context(format!("stopping the container {id:?}"))?;
    }
    Ok(())
}

pub(crate) async fn rm(world: &World, args: &RmArgs) -> Outcome {
    let runtime = world.runtime().await?;
    let mut ids = args.containers.clone();
    if args.all {
        let request = cri::ListContainersRequest::default();
        let listed = runtime
            .call(async |mut client| client.list_containers(request).await)
            .await?;
        ids = listed.containers.into_iter().map(|one| one.id).collect();
        if ids.is_empty() {
            say::info("No containers to remove");
            return Ok(());
        }
    }
    if ids.is_empty() {
        return Err(Failure::Help);
    }
    let removals = ids.iter().map(|id| remove(&runtime, id, args));
    all(join_all(removals).await)
}

async fn remove(runtime: &Runtime, container: &str, args: &RmArgs) -> Outcome {
    let request = cri::ContainerStatusRequest {
        container_id: container.to_owned(),
        verbose: false,
    };
    let answer = runtime
        .call(async |mut client| client.container_status(request).await)
        .await
        .context(format!("getting container status {container:?}"))?;
    let status = answer.status.unwrap_or_default();
    if status.state() == cri::ContainerState::ContainerRunning {
        if !args.force {
            let why = format!("container {container:?} is running, please stop it first");
            return Err(Failure::new(why));
        }
        stop_one(runtime, container, 0)
            .await
            .context(format!("stopping the container {container:?}"))?;
    }
    let request = cri::RemoveContainerRequest {
        container_id: id(container)?,
    };
    runtime
        .call(async |mut client| client.remove_container(request).await)
        .await
        .context(format!("removing container {container:?}"))?;
    say::print(&format!("{}\n", say::shown(container)));
    if !args.keep_logs && !status.log_path.is_empty() {
        remove_logs(std::path::Path::new(&status.log_path), container);
    }
    Ok(())
}

/// The log and what was rotated of it: `NAME` and `NAME.*` of its directory.
fn remove_logs(log: &std::path::Path, container: &str) {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else {
        return;
    };
    let mut rotated = name.as_encoded_bytes().to_vec();
    rotated.push(b'.');
    // A directory that is not there has no logs.
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        let found = entry.file_name();
        if found != name && !found.as_encoded_bytes().starts_with(&rotated) {
            continue;
        }
        if let Err(error) = std::fs::remove_file(entry.path()) {
            let path = entry.path();
            say::error(&format!(
                "removing log file {} for container {container:?} failed: {error}",
                path.display()
            ));
        }
    }
}

pub(crate) async fn ps(world: &World, args: &PsArgs) -> Outcome {
    filter::labels(&args.wanted.label)?;
    let runtime = world.runtime().await?;
    let images = world.images_beside(&runtime).await?;
    let containers = args
        .wanted
        .list(&args.id, &runtime, &images)
        .await
        .context("list containers")
        .context("listing containers")?;
    match args.output.as_str() {
        "json" => return output::as_json(&cri::ListContainersResponse { containers }),
        "yaml" => return output::as_yaml(&cri::ListContainersResponse { containers }),
        "table" => {}
        other => {
            let why = format!("listing containers: unsupported output format {other:?}");
            return Err(Failure::new(why));
        }
    }
    let text = match (args.quiet, args.verbose) {
        (true, _) => containers
            .iter()
            .map(|one| format!("{}\n", say::shown(&one.id)))
            .collect(),
        (false, true) => containers.iter().map(described).collect(),
        (false, false) => table(&containers, args, &images).await?,
    };
    say::print(&text);
    Ok(())
}

fn state(container: &cri::Container) -> &'static str {
    match container.state() {
        cri::ContainerState::ContainerCreated => "Created",
        cri::ContainerState::ContainerRunning => "Running",
        cri::ContainerState::ContainerExited => "Exited",
        cri::ContainerState::ContainerUnknown => "Unknown",
    }
}

fn image(container: &cri::Container) -> &str {
    container
        .image
        .as_ref()
        .map_or("", |image| image.image.as_str())
}

/// The hexadecimal digits of a digest, which is how kubelet names images; `None` of another name.
fn digest(image: &str) -> Option<&str> {
    let (algorithm, digits) = image.split_once(':')?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths = [("sha256", 64), ("sha384", 96), ("sha512", 128)];
    (is_hex && lengths.contains(&(algorithm, digits.len()))).then_some(digits)
}

async fn table(containers: &[cri::Container], args: &PsArgs, images: &Images) -> Outcome<String> {
    let mut table = Table::default();
    table.row([
        "CONTAINER",
        "IMAGE",
        "CREATED",
        "STATE",
        "NAME",
        "ATTEMPT",
        "POD ID",
        "POD",
        "NAMESPACE",
    ]);
    for container in containers {
        let metadata = container.metadata.clone().unwrap_or_default();
        let cut = |id| match args.no_trunc {
            true => id,
            false => filter::short(id),
        };
        let mut image = match digest(image(container)).filter(|_| !args.no_trunc) {
            Some(digits) => filter::short(digits).to_owned(),
            None => image(container).to_owned(),
        };
        if args.resolve_image_path {
            let status = filter::image_status(images, &image, false)
                .await
                .context("listing containers: failed to fetch repo image")?;
            let tags = status.image.map(|image| image.repo_tags);
            image = tags.unwrap_or_default().into_iter().next().unwrap_or(image);
        }
        table.row([
            cut(&container.id),
            &image,
            &clock::ago(container.created_at),
            state(container),
            &metadata.name,
            &metadata.attempt.to_string(),
            cut(&container.pod_sandbox_id),
            filter::label(&container.labels, POD_NAME),
            filter::label(&container.labels, POD_NAMESPACE),
        ]);
    }
    Ok(table.text())
}

fn described(container: &cri::Container) -> String {
    let mut out = format!("ID: {}\n", say::shown(&container.id));
    out += &format!("PodID: {}\n", say::shown(&container.pod_sandbox_id));
    let namespace = filter::label(&container.labels, POD_NAMESPACE);
    out += &format!("Namespace: {}\n", say::shown(namespace));
    if let Some(metadata) = &container.metadata {
        if !metadata.name.is_empty() {
            out += &format!("Name: {}\n", say::shown(&metadata.name));
        }
        out += &format!("Attempt: {}\n", metadata.attempt);
    }
    out += &format!("State: {}\n", state(container));
    if container.image.is_some() {
        out += &format!("Image: {}\n", say::shown(image(container)));
    }
    out += &format!("Created: {}\n", clock::ago(container.created_at));
    output::pairs(&mut out, "Labels", &container.labels);
    output::pairs(&mut out, "Annotations", &container.annotations);
    out + "\n"
}
