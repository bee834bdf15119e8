//! Limits in plugins' words, in those of a request, and in those of config.json.

use nri::api::{
    LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, OptionalBool, OptionalInt64, OptionalUInt64,
};
use runtime::spec;

use crate::container::Resources;
use crate::error::{Error, Result};

fn signed(value: i64) -> OptionalInt64 {
    OptionalInt64 { value }
}

fn unsigned(value: u64) -> OptionalUInt64 {
    OptionalUInt64 { value }
}

/// What a request asks for.
pub(super) fn of_request(asked: &Resources) -> LinuxResources {
    let mut told = LinuxResources::default();
    add(&mut told, asked);
    told
}

/// Adds what a request asks for; zero and empty are unset.
pub(super) fn add(told: &mut LinuxResources, asked: &Resources) {
    let number = |value: i64| (value != 0).then(|| signed(value));
    let positive = |value: i64| {
        let value = u64::try_from(value).ok().filter(|value| *value != 0);
        value.map(unsigned)
    };
    let cpu = told.cpu.get_or_insert_default();
    cpu.shares = positive(asked.cpu_shares).or(cpu.shares);
    cpu.quota = number(asked.cpu_quota).or(cpu.quota);
    cpu.period = positive(asked.cpu_period).or(cpu.period);
    for (said, to) in [
        (&asked.cpuset_cpus, &mut cpu.cpus),
        (&asked.cpuset_mems, &mut cpu.mems),
    ] {
        if !said.is_empty() {
            to.clone_from(said);
        }
    }
    let memory = told.memory.get_or_insert_default();
    memory.limit = number(asked.memory_limit).or(memory.limit);
    memory.swap = number(asked.memory_swap_limit).or(memory.swap);
    for (page_size, limit) in &asked.hugepage_limits {
        let limits = &mut told.hugepage_limits;
        limits.retain(|other| other.page_size != *page_size);
        limits.push(nri::api::HugepageLimit {
            page_size: page_size.clone(),
            limit: *limit,
        });
    }
    told.unified.extend(asked.unified.clone());
    if asked.pids_limit != 0 {
        let limit = asked.pids_limit;
        told.pids = Some(LinuxPids { limit });
    }
}

/// What config.json says.
pub(super) fn of_config(config: &spec::Resources) -> LinuxResources {
    let memory = config.memory.clone().unwrap_or_default();
    let cpu = config.cpu.clone().unwrap_or_default();
    let boolean = |value: bool| OptionalBool { value };
    let device = |rule: &spec::DeviceCgroup| nri::api::LinuxDeviceCgroup {
        allow: rule.allow,
        r#type: rule.kind.clone().unwrap_or_default(),
        major: rule.major.map(signed),
        minor: rule.minor.map(signed),
        access: rule.access.clone().unwrap_or_default(),
    };
    LinuxResources {
        memory: Some(LinuxMemory {
            limit: memory.limit.map(signed),
            reservation: memory.reservation.map(signed),
            swap: memory.swap.map(signed),
            kernel: memory.kernel.map(signed),
            kernel_tcp: memory.kernel_tcp.map(signed),
            swappiness: memory.swappiness.map(unsigned),
            disable_oom_killer: memory.disable_oom_killer.map(boolean),
            use_hierarchy: memory.use_hierarchy.map(boolean),
        }),
        cpu: Some(LinuxCpu {
            shares: cpu.shares.map(unsigned),
            quota: cpu.quota.map(signed),
            period: cpu.period.map(unsigned),
            realtime_runtime: cpu.realtime_runtime.map(signed),
            realtime_period: cpu.realtime_period.map(unsigned),
            cpus: cpu.cpus.unwrap_or_default(),
            mems: cpu.mems.unwrap_or_default(),
        }),
        hugepage_limits: config
            .hugepage_limits
            .iter()
            .map(|limit| nri::api::HugepageLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        unified: config.unified.clone(),
        devices: config.devices.iter().map(device).collect(),
        pids: config
            .pids
            .and_then(|pids| pids.limit)
            .map(|limit| LinuxPids { limit }),
        blockio_class: None,
        rdt_class: None,
    }
}

/// What a plugin says, as far as a request can say it.
///
/// # Errors
/// A number that no limit can be.
pub(crate) fn as_request(said: &LinuxResources) -> Result<Resources> {
    let cpu = said.cpu.clone().unwrap_or_default();
    let memory = said.memory.unwrap_or_default();
    let number = |value: Option<OptionalInt64>| value.map_or(0, |it| it.value);
    let whole = |name: &str, value: Option<OptionalUInt64>| {
        i64::try_from(value.map_or(0, |it| it.value))
            .map_err(|_| Error::invalid(format!("NRI: {name}"), "is too large"))
    };
    Ok(Resources {
        cpu_period: whole("cpu.period", cpu.period)?,
        cpu_quota: number(cpu.quota),
        cpu_shares: whole("cpu.shares", cpu.shares)?,
        memory_limit: number(memory.limit).max(0),
        memory_swap_limit: number(memory.swap),
        oom_score_adj: 0,
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        hugepage_limits: said
            .hugepage_limits
            .iter()
            .map(|limit| (limit.page_size.clone(), limit.limit))
            .collect(),
        unified: said.unified.clone(),
        pids_limit: said.pids.map_or(0, |pids| pids.limit),
    })
}

/// Adds what a plugin says to limits of config.json.
///
/// # Errors
/// A class that this node has none of.
pub(crate) fn merge(said: &LinuxResources, to: &mut spec::Resources) -> Result<()> {
    refuse_classes(said)?;
    if let Some(said) = &said.memory {
        memory(said, to.memory.get_or_insert_default());
    }
    if let Some(said) = &said.cpu {
        let cpu = to.cpu.get_or_insert_default();
        cpu.shares = said.shares.map(|it| it.value).or(cpu.shares);
        cpu.quota = said.quota.map(|it| it.value).or(cpu.quota);
        cpu.period = said.period.map(|it| it.value).or(cpu.period);
        cpu.realtime_runtime = said
            .realtime_runtime
            .map(|it| it.value)
            .or(cpu.realtime_runtime);
        cpu.realtime_period = said
            .realtime_period
            .map(|it| it.value)
            .or(cpu.realtime_period);
        for (said, to) in [(&said.cpus, &mut cpu.cpus), (&said.mems, &mut cpu.mems)] {
            if !said.is_empty() {
                *to = Some(said.clone());
            }
        }
    }
    for limit in &said.hugepage_limits {
        to.hugepage_limits
            .retain(|other| other.page_size != limit.page_size);
        to.hugepage_limits.push(spec::HugepageLimit {
            page_size: limit.page_size.clone(),
            limit: limit.limit,
        });
    }
    to.unified.extend(said.unified.clone());
    if let Some(pids) = said.pids {
        to.pids = Some(spec::Pids {
            limit: Some(pids.limit),
        });
    }
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    to.devices
        .extend(said.devices.iter().map(|rule| spec::DeviceCgroup {
            allow: rule.allow,
            kind: text(&rule.r#type),
            major: rule.major.map(|it| it.value),
            minor: rule.minor.map(|it| it.value),
            access: text(&rule.access),
        }));
    Ok(())
}

fn memory(said: &LinuxMemory, memory: &mut spec::Memory) {
    let signed = |said: Option<OptionalInt64>, old| said.map(|it| it.value).or(old);
    memory.limit = signed(said.limit, memory.limit);
    memory.swap = signed(said.swap, memory.swap);
    memory.reservation = signed(said.reservation, memory.reservation);
    memory.kernel = signed(said.kernel, memory.kernel);
    memory.kernel_tcp = signed(said.kernel_tcp, memory.kernel_tcp);
    memory.swappiness = said.swappiness.map(|it| it.value).or(memory.swappiness);
    let killer = memory.disable_oom_killer;
    memory.disable_oom_killer = said.disable_oom_killer.map(|it| it.value).or(killer);
    let hierarchy = memory.use_hierarchy;
    memory.use_hierarchy = said.use_hierarchy.map(|it| it.value).or(hierarchy);
}

/// Classes of block I/O are given by annotations of pods, and not by plugins.
fn refuse_classes(said: &LinuxResources) -> Result<()> {
    match &said.blockio_class {
        Some(class) if !class.value.is_empty() => Err(Error::Unsupported(format!(
            "NRI: the class {:?} of block I/O",
            class.value
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_survive_the_way_there_and_back() {
        let asked = Resources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 512,
            memory_limit: 7 << 20,
            memory_swap_limit: 8 << 20,
            cpuset_cpus: "0".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![("2MB".into(), 4)],
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            pids_limit: 9,
            oom_score_adj: 0,
        };
        assert_eq!(as_request(&of_request(&asked)).unwrap(), asked);
        let config = crate::oci::limits(&asked).unwrap();
        let mut merged = spec::Resources::default();
        merge(&of_config(&config), &mut merged).unwrap();
        assert_eq!(merged, config);
    }

    #[test]
    fn what_a_plugin_does_not_say_stays() {
        let mut limits = crate::oci::limits(&Resources {
            cpu_shares: 2,
            memory_limit: 5,
            ..Resources::default()
        })
        .unwrap();
        let said = LinuxResources {
            memory: Some(LinuxMemory {
                limit: Some(signed(9)),
                ..LinuxMemory::default()
            }),
            ..LinuxResources::default()
        };
        merge(&said, &mut limits).unwrap();
        assert_eq!(limits.cpu.unwrap().shares, Some(2));
        let memory = limits.memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (Some(9), None));
        let class = LinuxResources {
            blockio_class: Some(nri::api::OptionalString {
                value: "slow".into(),
            }),
            ..LinuxResources::default()
        };
        let refused = merge(&class, &mut spec::Resources::default()).unwrap_err();
        assert!(refused.to_string().contains("slow"), "{refused}");
    }
}
