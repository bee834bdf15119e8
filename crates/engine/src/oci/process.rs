//! runtime-spec `process`: arguments, environment, working directory, identity, limits.

use std::collections::HashMap;

use image::config::ContainerConfig;
use runtime::spec;

use super::host::Host;
use super::{Inputs, security};
use crate::annotations;
use crate::config;
use crate::container::{Container, ContainerSpec};
use crate::error::{Error, Result};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn build(inputs: &Inputs<'_>, host: &Host) -> Result<spec::Process> {
    let container = &inputs.container.spec;
    let user = &inputs.container.user;
    let resources = &container.resources;
    Ok(spec::Process {
        terminal: container.tty,
        console_size: container
            .console_size
            .map(|(height, width)| spec::ConsoleSize { height, width }),
        args: inputs.container.args.clone(),
        env: environment(inputs, host),
        binary_env: container
            .binary_env
            .iter()
            .map(|(name, value)| spec::BinaryVariable {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        cwd: working_dir(container, inputs.image),
        user: spec::User {
            uid: user.uid,
            gid: user.gid,
            umask: umask(inputs)?,
            additional_gids: user.groups.clone(),
        },
        capabilities: Some(security::capabilities(inputs, host)?),
        no_new_privileges: container.security.no_new_privs,
        oom_score_adj: Some(resources.oom_score_adj.clamp(-1000, 1000) as i32),
        rlimits: rlimits(inputs)?,
        ..spec::Process::default()
    })
}

/// The mask that the pod's annotation asks for.
fn umask(inputs: &Inputs<'_>) -> Result<Option<u32>> {
    let asked = inputs.annotations().get(annotations::UMASK);
    asked
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| annotations::umask(key, value))
        .transpose()
}

/// `GOMAXPROCS` for a container without a limit of processor time, of a pod that has no processors of its own:
/// Go's runtime would take one thread for each of the node's.
pub(super) fn inject_gomaxprocs(inputs: &Inputs<'_>, process: &mut spec::Process, cpu: &spec::Cpu) {
    let least = inputs.runtime.min_injected_gomaxprocs;
    let is_shared = ["burstable", "besteffort"]
        .iter()
        .any(|class| inputs.pod.cgroup.contains(class));
    let limited = cpu.quota.is_some_and(|quota| quota > 0);
    let set = |entry: &String| entry.starts_with("GOMAXPROCS=");
    if least <= 0
        || !is_shared
        || limited
        || process.env.iter().any(set)
        || inputs.annotations().is_true(annotations::SKIP_GOMAXPROCS)
    {
        return;
    }
    // A processor that is asked for is 1024 shares.
    let asked = cpu.shares.unwrap_or(0).saturating_mul(2).div_ceil(1024);
    let number = asked.max(1).max(least.unsigned_abs());
    process.env.push(format!("GOMAXPROCS={number}"));
}

/// Where commands in the container begin, if its handler's entry says and it has processors of its own.
pub(super) fn exec_affinity(inputs: &Inputs<'_>, cpu: &spec::Cpu) -> Option<spec::ExecCpuAffinity> {
    let first_only = inputs.entry?.exec_cpu_affinity == "first";
    let first = cpu.cpus.as_deref()?.split([',', '-']).next()?;
    first_only.then(|| spec::ExecCpuAffinity {
        initial: Some(first.to_owned()),
        final_: Some(first.to_owned()),
    })
}

/// A process for an exec: the container's own with another command.
pub(crate) fn exec_process(container: &Container, command: &[String]) -> Result<spec::Process> {
    let path = container.bundle.join("config.json");
    let config: spec::Spec = crate::disk::read_json(&path)?.ok_or_else(|| Error::NotFound {
        what: "container",
        name: container.id.clone(),
    })?;
    let mut process = config.process.unwrap_or_default();
    process.args = command.to_vec();
    process.terminal = false;
    Ok(process)
}

/// CRI: `command` replaces the image's entrypoint and drops its command; `args` replaces the command.
pub(crate) fn arguments(container: &ContainerSpec, image: &ContainerConfig) -> Result<Vec<String>> {
    let mut all = if container.command.is_empty() {
        image.entrypoint.clone()
    } else {
        container.command.clone()
    };
    if !container.args.is_empty() {
        all.extend(container.args.iter().cloned());
    } else if container.command.is_empty() {
        all.extend(image.cmd.iter().cloned());
    }
    if all.is_empty() {
        return Err(Error::invalid(
            "command",
            "neither the request nor the image names a command",
        ));
    }
    Ok(all)
}

/// Defaults, then the image, then the request; the last one of a name wins and keeps its place.
fn environment(inputs: &Inputs<'_>, host: &Host) -> Vec<String> {
    let container = &inputs.container.spec;
    let mut all: Vec<String> = Vec::new();
    // A large namespace's service links are thousands of variables.
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut set = |entry: String| {
        let name = entry.split('=').next().unwrap_or_default();
        match places.get(name) {
            Some(place) => all[*place] = entry,
            None => {
                places.insert(name.to_owned(), all.len());
                all.push(entry);
            }
        }
    };
    set(DEFAULT_PATH.into());
    if container.tty {
        set("TERM=xterm".into());
    }
    set(format!("HOSTNAME={}", host.hostname));
    inputs
        .runtime
        .default_env
        .iter()
        .cloned()
        .for_each(&mut set);
    inputs.image.env.iter().cloned().for_each(&mut set);
    for (name, value) in &container.env {
        set(format!("{name}={value}"));
    }
    all
}

/// The request's, or the image's, which may be written without its root.
fn working_dir(container: &ContainerSpec, image: &ContainerConfig) -> String {
    match (container.working_dir.as_str(), image.working_dir.as_str()) {
        ("", dir) if dir.starts_with('/') => dir.to_owned(),
        ("", dir) => format!("/{dir}"),
        (dir, _) => dir.to_owned(),
    }
}

fn rlimits(inputs: &Inputs<'_>) -> Result<Vec<spec::Rlimit>> {
    inputs
        .runtime
        .default_ulimits
        .iter()
        .map(|text| {
            let (kind, soft, hard) = config::parse_ulimit(text)
                .map_err(|reason| Error::invalid("crio.runtime.default_ulimits", reason))?;
            Ok(spec::Rlimit { kind, soft, hard })
        })
        .collect()
}

/// The signal that asks this container to end: the request's, the image's, or SIGTERM.
///
/// # Errors
/// A name in the image that is no signal.
pub(crate) fn stop_signal(container: &ContainerSpec, image: &ContainerConfig) -> Result<i32> {
    if let Some(signal) = container.stop_signal {
        return Ok(signal);
    }
    match image.stop_signal.as_deref().unwrap_or_default() {
        "" => Ok(libc::SIGTERM),
        text => base::signal::parse(text).ok_or_else(|| {
            Error::invalid(
                "image config StopSignal",
                format!("{text:?} is not a signal"),
            )
        }),
    }
}
