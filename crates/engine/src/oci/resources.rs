//! runtime-spec `linux.resources`: CRI's limits in the runtime's words. Zero and empty are unset.

use runtime::spec;

use super::{Inputs, block_io};
use crate::annotations;
use crate::config::{Workload, WorkloadResources};
use crate::container::Resources;
use crate::error::{Error, Result};

pub(super) fn build(
    inputs: &Inputs<'_>,
    device_rules: Vec<spec::DeviceCgroup>,
) -> Result<spec::Resources> {
    let mut built = limits(&inputs.container.spec.resources)?;
    built.devices = device_rules;
    built.block_io = block_io::build(inputs)?;
    let asked = inputs.annotations();
    let name = &inputs.container.spec.name;
    if let Some((key, text)) = asked.of_container(annotations::UNIFIED, name) {
        let own = annotations::unified(key, text)?;
        built.unified.extend(own);
    }
    let annotations = &inputs.pod.spec.annotations;
    if let Some(workload) = Workload::of(&inputs.runtime.workloads, annotations) {
        let given = workload.resources(annotations, &inputs.container.spec.name);
        let given =
            given.map_err(|(name, why)| Error::invalid("annotations", format!("{name}: {why}")))?;
        give(built.cpu.get_or_insert_default(), given);
    }
    if built.pids.is_none() {
        let default = inputs.runtime.pids_limit;
        built.pids = (default > 0).then_some(spec::Pids {
            limit: Some(default),
        });
    }
    Ok(built)
}

/// What the workload says holds, whatever was asked for.
fn give(cpu: &mut spec::Cpu, given: WorkloadResources) {
    let set = |value: u64| Some(value).filter(|value| *value != 0);
    cpu.shares = set(given.cpushares).or(cpu.shares);
    cpu.period = set(given.cpuperiod).or(cpu.period);
    cpu.quota = Some(given.cpuquota)
        .filter(|quota| *quota != 0)
        .or(cpu.quota);
    if !given.cpuset.is_empty() {
        cpu.cpus = Some(given.cpuset);
    }
}

/// The limits alone: also what an update sends.
pub(crate) fn limits(asked: &Resources) -> Result<spec::Resources> {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let set = |value: i64| Some(value).filter(|value| *value != 0);
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    if asked.memory_limit < 0 {
        return Err(Error::invalid(
            "resources.memory_limit_in_bytes",
            format!("{} is negative", asked.memory_limit),
        ));
    }
    if asked.memory_swap_limit > 0 && asked.memory_limit > asked.memory_swap_limit {
        return Err(Error::invalid(
            "resources.memory_swap_limit_in_bytes",
            format!(
                "{} is below the memory limit {}",
                asked.memory_swap_limit, asked.memory_limit
            ),
        ));
    }
    Ok(spec::Resources {
        cpu: Some(spec::Cpu {
            shares: positive(asked.cpu_shares),
            quota: set(asked.cpu_quota),
            period: positive(asked.cpu_period),
            cpus: text(&asked.cpuset_cpus),
            mems: text(&asked.cpuset_mems),
            ..spec::Cpu::default()
        }),
        memory: Some(spec::Memory {
            limit: set(asked.memory_limit),
            swap: set(asked.memory_swap_limit),
            ..spec::Memory::default()
        }),
        pids: set(asked.pids_limit).map(|limit| spec::Pids { limit: Some(limit) }),
        hugepage_limits: asked
            .hugepage_limits
            .iter()
            .map(|(page_size, limit)| spec::HugepageLimit {
                page_size: page_size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: asked.unified.clone(),
        ..spec::Resources::default()
    })
}
