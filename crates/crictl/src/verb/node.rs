//! What a runtime says of itself.

use clap::Args;
use serde_json::Value;

use super::World;
use crate::failure::{Context, Failure, Outcome};
use crate::output::{self, Status};
use crate::table::Table;
use crate::{json, say};

/// Options of `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// json, yaml or go-template
    #[arg(long, short, value_name = "FORMAT", default_value = "json")]
    output: String,
    /// Without what the runtime says beside the CRI's own fields
    #[arg(long, short)]
    quiet: bool,
    /// The template of go-template
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Options of verbs that have none.
#[derive(Debug, Args)]
pub(crate) struct NoArgs {
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Options of `update-runtime-config`.
#[derive(Debug, Args)]
pub(crate) struct UpdateRuntimeConfigArgs {
    /// The addresses of pods
    #[arg(long, short, value_name = "CIDR")]
    pod_cidr: Option<String>,
    #[arg(hide = true)]
    words: Vec<String>,
}

pub(crate) async fn info(world: &World, args: &InfoArgs) -> Outcome {
    if !args.words.is_empty() {
        return Err(Failure::Help);
    }
    let runtime = world.runtime().await?;
    let request = cri::StatusRequest {
        verbose: !args.quiet,
    };
    let told = async {
        let answer = runtime
            .call(async |mut client| client.status(request).await)
            .await?;
        let handlers = answer.runtime_handlers.iter().map(json::go_value);
        let handlers = handlers.collect::<Outcome<Vec<_>>>()?;
        let features = answer.features.as_ref().map(json::go_value).transpose()?;
        let status = Status {
            status: json::value(&answer.status.unwrap_or_default())?,
            handlers: (!handlers.is_empty()).then_some(Value::Array(handlers)),
            features,
            info: answer.info,
        };
        output::statuses(vec![status], &args.output, &args.template, world.render)
    };
    told.await.context("getting status of runtime")
}

pub(crate) async fn version(world: &World, args: &NoArgs) -> Outcome {
    if !args.words.is_empty() {
        return Err(Failure::Help);
    }
    let runtime = world.runtime().await?;
    let request = cri::VersionRequest {
        version: cri::API_VERSION.to_owned(),
    };
    let answer = runtime
        .call(async |mut client| client.version(request).await)
        .await
        .context("getting the runtime version")?;
    let lines = [
        ("Version", answer.version),
        ("RuntimeName", answer.runtime_name),
        ("RuntimeVersion", answer.runtime_version),
        ("RuntimeApiVersion", answer.runtime_api_version),
    ];
    for (name, value) in lines {
        say::print(&format!("{name}:  {}\n", say::shown(&value)));
    }
    Ok(())
}

pub(crate) async fn runtime_config(world: &World, _: &NoArgs) -> Outcome {
    let runtime = world.runtime().await.context("get runtime client")?;
    let request = cri::RuntimeConfigRequest::default();
    let answer = runtime
        .call(async |mut client| client.runtime_config(request).await)
        .await
        .context("call RuntimeConfig RPC")
        .context("get runtime config")?;
    let mut table = Table::default();
    if let Some(linux) = answer.linux {
        table.row(["cgroup driver:", linux.cgroup_driver().as_str_name()]);
    }
    say::print(&table.with_width(10));
    Ok(())
}

pub(crate) async fn update_runtime_config(
    world: &World,
    args: &UpdateRuntimeConfigArgs,
) -> Outcome {
    let Some(cidr) = args.pod_cidr.as_ref().filter(|_| args.words.is_empty()) else {
        return Err(Failure::Help);
    };
    let runtime = world.runtime().await?;
    let request = cri::UpdateRuntimeConfigRequest {
        runtime_config: Some(cri::RuntimeConfig {
            network_config: Some(cri::NetworkConfig {
                pod_cidr: cidr.clone(),
            }),
        }),
    };
    runtime
        .call(async |mut client| client.update_runtime_config(request).await)
        .await
        .context("update runtime config")?;
    say::info("Runtime config successfully updated");
    Ok(())
}
