//! Pods: made, stopped, removed and listed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;

use super::{Schema, World};
use crate::failure::{Context, Failure, Outcome, all};
use crate::filter::{self, Pods};
use crate::table::Table;
use crate::{clock, config, output, say};

/// Options of `runp`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunpArgs {
    #[command(subcommand)]
    schema: Option<super::SchemaCommand>,
    /// Runtime handler of the pod
    #[arg(long, short = 'r', value_name = "HANDLER")]
    runtime: Option<String>,
    /// How long the request may take before it is given up (twice as long)
    #[arg(long, short = 'T', value_name = "DURATION", value_parser = clock::duration)]
    cancel_timeout: Option<Duration>,
    /// The pod's configuration
    #[arg(value_name = "POD-CONFIG.[json|yaml]")]
    config: Vec<PathBuf>,
}

/// Options of `stopp`.
#[derive(Debug, Args)]
pub(crate) struct StoppArgs {
    /// The pods
    #[arg(value_name = "POD-ID")]
    pods: Vec<String>,
}

/// Options of `rmp`.
#[derive(Debug, Args)]
pub(crate) struct RmpArgs {
    /// Stop those that run
    #[arg(long, short)]
    force: bool,
    /// All pods
    #[arg(long, short)]
    all: bool,
    /// The pods
    #[arg(value_name = "POD-ID")]
    pods: Vec<String>,
}

/// Options of `pods`.
#[derive(Debug, Args)]
pub(crate) struct PodsArgs {
    /// Those whose id begins so
    #[arg(long, default_value = "", hide_default_value = true)]
    id: String,
    #[command(flatten)]
    wanted: Pods,
    /// Say more of each
    #[arg(long, short)]
    verbose: bool,
    /// Ids alone
    #[arg(long, short)]
    quiet: bool,
    /// json, yaml or table
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: String,
    /// Ids as long as they are
    #[arg(long)]
    no_trunc: bool,
}

pub(crate) async fn runp(world: &World, args: &RunpArgs) -> Outcome {
    if args.schema.is_some() {
        return Schema::Pod.print();
    }
    let [path] = args.config.as_slice() else {
        return Err(Failure::Help);
    };
    let limit = args.cancel_timeout;
    let runtime = world.runtime_with(limit).await?;
    let config = config::pod(path).context("load podSandboxConfig")?;
    let handler = args.runtime.clone().unwrap_or_default();
    let id = world.run_pod(&runtime, config, handler).await?;
    say::print(&format!("{}\n", say::shown(&id)));
    Ok(())
}

impl World {
    /// Makes a pod; gives its id.
    pub(crate) async fn run_pod(
        &self,
        runtime: &crate::connection::Runtime,
        config: cri::PodSandboxConfig,
        runtime_handler: String,
    ) -> Outcome<String> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler,
        };
        // Twice the limit, as Kubernetes' client has it.
        let limit = Some(runtime.limit * 2);
        let answer = runtime
            .call_within(limit, async |mut client| {
                client.run_pod_sandbox(request).await
            })
            .await
            .context("run pod sandbox")?;
        Ok(answer.pod_sandbox_id)
    }
}

pub(crate) async fn stopp(world: &World, args: &StoppArgs) -> Outcome {
    if args.pods.is_empty() {
        return Err(Failure::Help);
    }
    let runtime = world.runtime().await?;
    for id in &args.pods {
        stop(&runtime, id)
            .await
            .context(format!("stopping the pod sandbox {id:?}"))?;
    }
    Ok(())
}

async fn stop(runtime: &crate::connection::Runtime, id: &str) -> Outcome {
    let request = cri::StopPodSandboxRequest {
        pod_sandbox_id: super::id(id)?,
    };
    runtime
        .call(async |mut client| client.stop_pod_sandbox(request).await)
        .await?;
    say::print(&format!("Stopped sandbox {}\n", say::shown(id)));
    Ok(())
}

pub(crate) async fn rmp(world: &World, args: &RmpArgs) -> Outcome {
    let runtime = world.runtime().await?;
    let mut ids = args.pods.clone();
    if args.all {
        let request = cri::ListPodSandboxRequest::default();
        let listed = runtime
            .call(async |mut client| client.list_pod_sandbox(request).await)
            .await?;
        ids = listed.items.into_iter().map(|pod| pod.id).collect();
        if ids.is_empty() {
            say::info("No pods to remove");
            return Ok(());
        }
    }
    if ids.is_empty() {
        return Err(Failure::Help);
    }
    let removals = ids.iter().map(|id| remove(&runtime, id, args.force));
    all(join_all(removals).await)
}

async fn remove(runtime: &crate::connection::Runtime, id: &str, force: bool) -> Outcome {
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: false,
    };
    let status = runtime
        .call(async |mut client| client.pod_sandbox_status(request).await)
        .await
        .context(format!("getting sandbox status of pod {id:?}"))?;
    let state = status.status.map(|status| status.state());
    if state == Some(cri::PodSandboxState::SandboxReady) {
        if !force {
            let why = format!("pod sandbox {id:?} is running, please stop it first");
            return Err(Failure::new(why));
        }
        stop(runtime, id)
            .await
            .context(format!("stopping the pod sandbox {id:?} failed"))?;
    }
    let request = cri::RemovePodSandboxRequest {
        pod_sandbox_id: super::id(id)?,
    };
    runtime
        .call(async |mut client| client.remove_pod_sandbox(request).await)
        .await
        .context(format!("removing the pod sandbox {id:?}"))?;
    say::print(&format!("Removed sandbox {}\n", say::shown(id)));
    Ok(())
}

pub(crate) async fn pods(world: &World, args: &PodsArgs) -> Outcome {
    filter::labels(&args.wanted.label)?;
    let runtime = world.runtime().await?;
    let pods = args
        .wanted
        .list(&args.id, &runtime)
        .await
        .context("list pod sandboxes")
        .context("listing pod sandboxes")?;
    match args.output.as_str() {
        "json" => return output::as_json(&cri::ListPodSandboxResponse { items: pods }),
        "yaml" => return output::as_yaml(&cri::ListPodSandboxResponse { items: pods }),
        "table" => {}
        other => {
            let why = format!("listing pod sandboxes: unsupported output format {other:?}");
            return Err(Failure::new(why));
        }
    }
    let text = match (args.quiet, args.verbose) {
        (true, _) => pods
            .iter()
            .map(|pod| format!("{}\n", say::shown(&pod.id)))
            .collect(),
        (false, true) => pods.iter().map(described).collect(),
        (false, false) => table(&pods, args.no_trunc),
    };
    say::print(&text);
    Ok(())
}

fn state(pod: &cri::PodSandbox) -> &'static str {
    match pod.state() {
        cri::PodSandboxState::SandboxReady => "Ready",
        cri::PodSandboxState::SandboxNotready => "NotReady",
    }
}

fn handler(pod: &cri::PodSandbox) -> &str {
    match pod.runtime_handler.as_str() {
        "" => "(default)",
        handler => handler,
    }
}

fn table(pods: &[cri::PodSandbox], no_trunc: bool) -> String {
    let mut table = Table::default();
    table.row([
        "POD ID",
        "CREATED",
        "STATE",
        "NAME",
        "NAMESPACE",
        "ATTEMPT",
        "RUNTIME",
    ]);
    for pod in pods {
        let metadata = pod.metadata.clone().unwrap_or_default();
        let id = match no_trunc {
            true => &pod.id,
            false => filter::short(&pod.id),
        };
        table.row([
            id,
            &clock::ago(pod.created_at),
            state(pod),
            &metadata.name,
            &metadata.namespace,
            &metadata.attempt.to_string(),
            handler(pod),
        ]);
    }
    table.text()
}

fn described(pod: &cri::PodSandbox) -> String {
    let mut out = format!("ID: {}\n", say::shown(&pod.id));
    if let Some(metadata) = &pod.metadata {
        for (name, value) in [
            ("Name", &metadata.name),
            ("UID", &metadata.uid),
            ("Namespace", &metadata.namespace),
        ] {
            if !value.is_empty() {
                out += &format!("{name}: {}\n", say::shown(value));
            }
        }
        if metadata.attempt != 0 {
            out += &format!("Attempt: {}\n", metadata.attempt);
        }
    }
    out += &format!("Status: {}\n", state(pod));
    out += &format!("Created: {}\n", clock::as_go_prints(pod.created_at));
    output::pairs(&mut out, "Labels", &pod.labels);
    output::pairs(&mut out, "Annotations", &pod.annotations);
    out + &format!("Runtime: {}\n\n", say::shown(handler(pod)))
}
