//! `floe inspect NAME`: a container or an image of the node, with podman's names for what is known of it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use engine::container::{Propagation, RestartPolicy};
use engine::crates::network::Attached;
use engine::image::ImageRecord;
use engine::pod::{NamespaceMode, Protocol};
use engine::secret::SecretPlace;
use engine::{Container, ContainerState, Engine, Pod};
use serde_json::{Value, json};

use super::{Args, Kind, health, process_config};
use crate::cmd::ps;
use crate::cmd::run::options::STOP_TIMEOUT;
use crate::failure::{FAILED, Failure};
use crate::{clock, names, remote, template};

/// What podman writes for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if args.raw || args.config {
        return Err(Failure::new(
            "--raw and --config are for TRANSPORT:PLACE, such as floe:IMAGE",
        ));
    }
    let (mut found, mut failed) = (Vec::new(), None);
    let mut names = args.images.clone();
    names.extend(ps::selected(engine, &[], args.latest)?);
    for name in &names {
        match one(engine, name, args.kind) {
            Ok(value) => found.push(value),
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    eprintln!("Error: {earlier}");
                }
            }
        }
    }
    match args.format.as_deref() {
        None | Some("json") => {
            remote::print_json(&found)?;
        }
        Some(format) => {
            for value in &found {
                println!("{}", template::render(format, value)?);
            }
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn one(engine: &Engine, name: &str, kind: Kind) -> Result<Value, Failure> {
    if kind != Kind::Image {
        match names::find(engine, name) {
            Ok(container) => {
                let pod = engine.pod(&container.pod_id).ok();
                let networks = match &pod {
                    Some(pod) => engine.attached_networks(&pod.id)?,
                    None => Vec::new(),
                };
                return Ok(container_of(&container, pod.as_ref(), &networks));
            }
            Err(error) if error.is_missing() && kind == Kind::All => {}
            Err(error) => return Err(error),
        }
    }
    match engine.find_image(name)? {
        Some(image) => image_of(engine, &image),
        None if kind == Kind::Image => Err(Failure::new(format!("{name}: image not known"))),
        None => Err(Failure::missing(format!("no such object: {name:?}")).with_code(FAILED)),
    }
}

/// Has a person stopped or killed it since it was started?
fn stopped_by_user(container: &Container) -> bool {
    let extras = container.spec.extras.as_deref();
    extras.is_some_and(|extras| extras.stopped)
}

/// A time in nanoseconds since 1970.
fn time(nanoseconds: i64) -> String {
    match nanoseconds {
        0 => NEVER.to_owned(),
        nanoseconds => {
            clock::written(nanoseconds / 1_000_000_000).unwrap_or_else(|| NEVER.to_owned())
        }
    }
}

fn container_of(container: &Container, pod: Option<&Pod>, networks: &[Attached]) -> Value {
    let spec = &container.spec;
    let (path, arguments) = container
        .args
        .split_first()
        .map_or(("", &[][..]), |(path, rest)| (path.as_str(), rest));
    json!({
        "Id": container.id,
        "Created": time(container.created_at),
        "Path": path,
        "Args": arguments,
        "State": state(container),
        "Image": container.image_id,
        "ImageName": spec.user_specified_image,
        "ImageDigest": container.image_ref,
        "Name": spec.name,
        "Pod": container.pod_id,
        "LogPath": container.log_path,
        "RestartCount": container.restarts,
        "Driver": "overlay",
        "OCIRuntime": container.handler,
        "OCIConfigPath": container.bundle.join("config.json"),
        "Mounts": mounts(container),
        "NetworkSettings": pod.map(|pod| network(pod, networks)),
        "Config": config(container, pod),
        "HostConfig": host_config(container, pod),
    })
}

fn secrets(container: &Container) -> Vec<Value> {
    let extras = container.spec.extras.as_deref();
    let secrets = extras.map_or(&[][..], |extras| &extras.secrets);
    let shown = secrets.iter().map(|used| match &used.place {
        SecretPlace::File { uid, gid, mode, .. } => json!({
            "Name": used.name, "ID": used.id, "UID": uid, "GID": gid, "Mode": mode,
        }),
        SecretPlace::Variable(_) => json!({ "Name": used.name, "ID": used.id }),
    });
    shown.collect()
}

fn state(container: &Container) -> Value {
    let (started, finished, code, error, killed) = match &container.state {
        ContainerState::Running { started_at } => (*started_at, 0, 0, "", false),
        ContainerState::Exited {
            started_at,
            finished_at,
            exit_code,
            reason,
            message,
        } => {
            let killed = *reason == "OOMKilled";
            (
                *started_at,
                *finished_at,
                *exit_code,
                message.as_str(),
                killed,
            )
        }
        ContainerState::Created | ContainerState::Unknown => (0, 0, 0, "", false),
    };
    json!({
        "Status": ps::state(container),
        "Running": container.runs(),
        "Paused": container.paused,
        "Restarting": false,
        "StoppedByUser": stopped_by_user(container),
        "OOMKilled": killed,
        "Dead": false,
        "Pid": container.pid.unwrap_or(0),
        "ExitCode": code,
        "Error": error,
        "StartedAt": time(started),
        "FinishedAt": time(finished),
        "CgroupPath": container.cgroup,
        "Health": health::state(container),
    })
}

fn mounts(container: &Container) -> Vec<Value> {
    let mounts = container.spec.mounts.iter();
    let one = |mount: &engine::container::Mount| {
        let source = mount.host_path.display().to_string();
        let (kind, source) = match (&mount.image, &mount.volume) {
            (Some(image), _) => ("image", image.named_image().to_owned()),
            (None, Some(_)) => ("volume", source),
            (None, None) => ("bind", source),
        };
        let name = mount.volume.as_ref().map(|volume| &volume.name);
        json!({
            "Type": kind,
            "Name": name,
            "Driver": name.map(|_| "local"),
            "Source": source,
            "Destination": mount.container_path,
            "Options": mount.options,
            "RW": !mount.readonly,
            "Propagation": match mount.propagation {
                Propagation::Private => "rprivate",
                Propagation::HostToContainer => "rslave",
                Propagation::Bidirectional => "rshared",
            },
        })
    };
    mounts.map(one).collect()
}

fn network(pod: &Pod, attached: &[Attached]) -> Value {
    let mut ports: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for mapping in &pod.spec.port_mappings {
        let protocol = match mapping.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let host = mapping.host_ip.map(|ip| ip.to_string());
        ports
            .entry(format!("{}/{protocol}", mapping.container_port))
            .or_default()
            .push(json!({
                "HostIp": host.unwrap_or_else(|| "0.0.0.0".into()),
                "HostPort": mapping.host_port.to_string(),
            }));
    }
    let first = |wanted: fn(&std::net::IpAddr) -> bool| {
        let mut found = pod.ips.iter().filter(|ip| wanted(ip));
        found.next().map(ToString::to_string).unwrap_or_default()
    };
    json!({
        "IPAddress": first(std::net::IpAddr::is_ipv4),
        "GlobalIPv6Address": first(std::net::IpAddr::is_ipv6),
        "MacAddress": attached.first().and_then(|one| one.mac).map(|mac| mac.to_string()).unwrap_or_default(),
        "SandboxKey": pod.netns,
        "Ports": ports,
        "Networks": networks(pod, attached),
    })
}

/// What the pod has on each network, or is to have.
fn networks(pod: &Pod, attached: &[Attached]) -> Value {
    let mut all = serde_json::Map::new();
    for name in engine::networks::networks_of(pod) {
        let found = attached.iter().find(|one| one.network == name);
        let family = |v4: bool| {
            let mut ips = found.into_iter().flat_map(|one| &one.ips);
            ips.find(|ip| ip.addr().is_ipv4() == v4)
        };
        let gateway = |v4: bool| {
            let mut ips = found.into_iter().flat_map(|one| &one.gateways);
            ips.find(|ip| ip.is_ipv4() == v4)
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        let address = |v4| {
            family(v4)
                .map(|ip| ip.addr().to_string())
                .unwrap_or_default()
        };
        let prefix = |v4| family(v4).map(|ip| ip.prefix_len()).unwrap_or_default();
        let asked = pod.spec.networks.iter().find(|one| one.network == name);
        all.insert(
            name.clone(),
            json!({
                "EndpointID": "",
                "Gateway": gateway(true),
                "IPAddress": address(true),
                "IPPrefixLen": prefix(true),
                "IPv6Gateway": gateway(false),
                "GlobalIPv6Address": address(false),
                "GlobalIPv6PrefixLen": prefix(false),
                "MacAddress": found.and_then(|one| one.mac).map(|mac| mac.to_string()).unwrap_or_default(),
                "NetworkID": name,
                "DriverOpts": null,
                "IPAMConfig": null,
                "Links": null,
                "Aliases": asked.map(|one| one.aliases.clone()).unwrap_or_default(),
            }),
        );
    }
    Value::Object(all)
}

fn config(container: &Container, pod: Option<&Pod>) -> Value {
    let spec = &container.spec;
    let env = spec
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let timeout = spec.annotations.get(STOP_TIMEOUT);
    let hostname = pod.map(|pod| match pod.spec.hostname.as_str() {
        "" => pod.id.chars().take(12).collect(),
        given => given.to_owned(),
    });
    let mut config = json!({
        "Hostname": hostname.unwrap_or_default(),
        "User": spec.security.user,
        "Env": env.collect::<Vec<_>>(),
        "Secrets": secrets(container),
        "Cmd": container.args,
        "Image": spec.user_specified_image,
        "WorkingDir": spec.working_dir,
        "Labels": spec.labels,
        "Annotations": spec.annotations,
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        "StopSignal": container.stop_signal,
        "StopTimeout": timeout.and_then(|text| text.parse::<u64>().ok()).unwrap_or(10),
    });
    if let Value::Object(fields) = &mut config {
        fields.extend(health::config(container));
    }
    config
}

fn host_config(container: &Container, pod: Option<&Pod>) -> Value {
    let (limits, security) = (&container.spec.resources, &container.spec.security);
    let mode = |mode: NamespaceMode| match mode {
        NamespaceMode::Node => "host",
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target => "private",
    };
    let network = match pod {
        Some(pod) if pod.spec.network_none => "none",
        Some(pod) if pod.spec.namespaces.network == NamespaceMode::Node => "host",
        _ => "bridge",
    };
    let extras = container.spec.extras.clone().unwrap_or_default();
    let (policy, most) = match extras.restart {
        RestartPolicy::No => ("no", None),
        RestartPolicy::Always => ("always", None),
        RestartPolicy::UnlessStopped => ("unless-stopped", None),
        RestartPolicy::OnFailure { most } => ("on-failure", most),
    };
    json!({
        "AutoRemove": extras.remove,
        "RestartPolicy": {
            "Name": policy,
            "MaximumRetryCount": most.unwrap_or(0),
        },
        "NetworkMode": network,
        "PidMode": mode(security.namespaces.pid),
        "IpcMode": mode(security.namespaces.ipc),
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.readonly_rootfs,
        "CapAdd": security.add_capabilities,
        "CapDrop": security.drop_capabilities,
        "GroupAdd": security.supplemental_groups,
        "Memory": limits.memory_limit,
        "MemorySwap": limits.memory_swap_limit,
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpuShares": limits.cpu_shares,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "PidsLimit": limits.pids_limit,
        "OomScoreAdj": limits.oom_score_adj,
        "LogConfig": {
            "Type": if container.log_path.is_some() { "k8s-file" } else { "none" },
            "Path": container.log_path,
        },
    })
}

fn image_of(engine: &Engine, image: &ImageRecord) -> Result<Value, Failure> {
    let config = match image.is_artifact() {
        true => Default::default(),
        false => engine.image_config(image)?,
    };
    let inner = &config.config;
    Ok(json!({
        "Id": image.id,
        "Digest": image.manifest_digest.to_string(),
        "RepoTags": image.names,
        "RepoDigests": image.repo_digests,
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "User": inner.user,
        "Labels": inner.labels,
        "Config": process_config(&config),
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        "ReadOnly": image.read_only,
    }))
}
