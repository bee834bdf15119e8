//! Other limits for running containers.

use clap::Args;

use super::{World, empty, id};
use crate::failure::{Context, Outcome};
use crate::refused::{Never, Refused};
use crate::say;

const WINDOWS: Refused = Refused("it is for containers of Windows");

/// Options of `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Microseconds of the period of the limit on processors
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    cpu_period: i64,
    /// Microseconds of processors in a period
    #[arg(
        long,
        value_name = "MICROSECONDS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    cpu_quota: i64,
    /// Weight beside other containers
    #[arg(long, value_name = "WEIGHT", default_value_t = 0)]
    cpu_share: i64,
    /// Limit of memory in bytes
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    memory: i64,
    /// Processors that may be used
    #[arg(
        long,
        value_name = "CPUS",
        default_value = "",
        hide_default_value = true
    )]
    cpuset_cpus: String,
    /// Memory nodes that may be used
    #[arg(
        long,
        value_name = "NODES",
        default_value = "",
        hide_default_value = true
    )]
    cpuset_mems: String,
    /// How readily the kernel kills it when memory is short
    #[arg(
        long,
        value_name = "SCORE",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    oom_score_adj: i64,
    #[arg(long, hide = true, value_parser = WINDOWS)]
    cpu_count: Option<Never>,
    #[arg(long, hide = true, value_parser = WINDOWS)]
    cpu_maximum: Option<Never>,
    /// The containers
    #[arg(value_name = "CONTAINER-ID")]
    containers: Vec<String>,
}

pub(crate) async fn update(world: &World, args: &UpdateArgs) -> Outcome {
    if args.containers.is_empty() {
        return Err(empty());
    }
    let limits = cri::LinuxContainerResources {
        cpu_period: args.cpu_period,
        cpu_quota: args.cpu_quota,
        cpu_shares: args.cpu_share,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        memory_limit_in_bytes: args.memory,
        oom_score_adj: args.oom_score_adj,
        ..Default::default()
    };
    let runtime = world.runtime().await?;
    for container in &args.containers {
        let updated = async {
            let request = cri::UpdateContainerResourcesRequest {
                container_id: id(container)?,
                linux: Some(limits.clone()),
                ..Default::default()
            };
            runtime
                .call(async |mut client| client.update_container_resources(request).await)
                .await
        };
        updated
            .await
            .context(format!("updating container resources for {container:?}"))?;
        say::print(&format!("{}\n", say::shown(container)));
    }
    Ok(())
}
