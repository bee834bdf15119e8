//! What must hold for any bytes as a request: for the seeded test below, and for `fuzz/`. A request is refused with
//! the name of a field or becomes the engine's; it never ends the engine.

use engine::Error;
use prost::Message;

use crate::convert::{self, check, container, image, pod, stats};

/// How many kinds of requests [`request`] knows.
const KINDS: u8 = 12;

fn read<M: Message + Default>(bytes: &[u8]) -> M {
    // A client's bytes that are no message never come as far.
    M::decode(bytes).unwrap_or_default()
}

/// The first byte says which request the others are.
pub fn request(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    if let Err(Error::Invalid { field, .. }) = converted(kind % KINDS, bytes) {
        assert!(!field.is_empty(), "a refusal that names no field");
    }
}

fn converted(kind: u8, bytes: &[u8]) -> Result<(), Error> {
    match kind {
        0 => {
            let request: cri::RunPodSandboxRequest = read(bytes);
            let _ = pod::asked_name(&request);
            let spec = pod::spec(request)?;
            let _ = (pod::label(&spec), pod::metadata(&spec));
            Ok(())
        }
        1 => container::spec(read::<cri::CreateContainerRequest>(bytes).config).map(drop),
        2 => {
            let request: cri::UpdateContainerResourcesRequest = read(bytes);
            let limits = convert::resources(request.linux.unwrap_or_default())?;
            let _ = convert::security::limits(limits);
            Ok(())
        }
        3 => {
            let request: cri::UpdatePodSandboxResourcesRequest = read(bytes);
            pod::size("", request.overhead, request.resources).map(drop)
        }
        4 => image::pull_request(read(bytes)).map(drop),
        5 => pod::filter(read::<cri::ListPodSandboxRequest>(bytes).filter).map(drop),
        6 => container::filter(read::<cri::ListContainersRequest>(bytes).filter).map(drop),
        7 => {
            let _ = stats::filter(read::<cri::ListContainerStatsRequest>(bytes).filter);
            Ok(())
        }
        8 => {
            let _ = stats::pod_filter(read::<cri::ListPodSandboxStatsRequest>(bytes).filter);
            Ok(())
        }
        9 => {
            let _ = image::query(read::<cri::ListImagesRequest>(bytes).filter);
            Ok(())
        }
        10 => check::command("cmd", &read::<cri::ExecSyncRequest>(bytes).cmd),
        _ => {
            let request: cri::UpdateRuntimeConfigRequest = read(bytes);
            let config = request.runtime_config.unwrap_or_default();
            let network = config.network_config.unwrap_or_default();
            check::ranges("pod_cidr", &network.pod_cidr)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(kind: u8, message: &impl Message) -> Vec<u8> {
        let mut bytes = vec![kind];
        message.encode(&mut bytes).unwrap();
        bytes
    }

    fn limits() -> cri::LinuxContainerResources {
        cri::LinuxContainerResources {
            cpu_quota: 5000,
            memory_limit_in_bytes: 1 << 30,
            oom_score_adj: 900,
            cpuset_cpus: "0-1,3".into(),
            unified: [("memory.high".into(), "max".into())].into(),
            hugepage_limits: vec![cri::HugepageLimit {
                page_size: "2MB".into(),
                limit: 1,
            }],
            ..Default::default()
        }
    }

    fn pod_request() -> cri::RunPodSandboxRequest {
        let range = cri::IdMapping {
            host_id: 100_000,
            container_id: 0,
            length: 65536,
        };
        let options = cri::NamespaceOption {
            userns_options: Some(cri::UserNamespace {
                uids: vec![range],
                gids: vec![range],
                ..Default::default()
            }),
            ..Default::default()
        };
        let linux = cri::LinuxPodSandboxConfig {
            cgroup_parent: "/a/b".into(),
            sysctls: [("net.core.somaxconn".into(), "1".into())].into(),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..Default::default()
            }),
            resources: Some(limits()),
            ..Default::default()
        };
        let config = cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: "a".into(),
                uid: "b".into(),
                namespace: "c".into(),
                attempt: 1,
            }),
            hostname: "host".into(),
            log_directory: "/var/log/pods/a".into(),
            port_mappings: vec![cri::PortMapping {
                container_port: 80,
                host_port: 8080,
                host_ip: "::1".into(),
                ..Default::default()
            }],
            linux: Some(linux),
            ..Default::default()
        };
        cri::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: "runc".into(),
        }
    }

    fn container_request() -> cri::CreateContainerRequest {
        let security = cri::LinuxContainerSecurityContext {
            run_as_user: Some(cri::Int64Value { value: 1 }),
            supplemental_groups: vec![1, 2],
            capabilities: Some(cri::Capability {
                add_capabilities: vec!["ALL".into()],
                ..Default::default()
            }),
            seccomp: Some(cri::SecurityProfile {
                profile_type: 2,
                localhost_ref: "/a.json".into(),
            }),
            ..Default::default()
        };
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata {
                name: "c".into(),
                attempt: 0,
            }),
            image: Some(cri::ImageSpec {
                image: "busybox".into(),
                ..Default::default()
            }),
            command: vec!["sh".into()],
            log_path: "c/0.log".into(),
            mounts: vec![cri::Mount {
                container_path: "/a".into(),
                host_path: "/b".into(),
                mount_options: vec!["noexec".into()],
                ..Default::default()
            }],
            linux: Some(cri::LinuxContainerConfig {
                resources: Some(limits()),
                security_context: Some(security),
            }),
            ..Default::default()
        };
        cri::CreateContainerRequest {
            config: Some(config),
            ..Default::default()
        }
    }

    #[test]
    fn requests_that_were_mutated_are_refused_by_a_field_or_taken() {
        let update = cri::UpdateContainerResourcesRequest {
            linux: Some(limits()),
            ..Default::default()
        };
        let size = cri::UpdatePodSandboxResourcesRequest {
            resources: Some(limits()),
            ..Default::default()
        };
        let ranges = cri::UpdateRuntimeConfigRequest {
            runtime_config: Some(cri::RuntimeConfig {
                network_config: Some(cri::NetworkConfig {
                    pod_cidr: "10.0.0.0/16,fd00::/64".into(),
                }),
            }),
        };
        let exec = cri::ExecSyncRequest {
            cmd: vec!["a".into()],
            ..Default::default()
        };
        let corpus = [
            with(0, &pod_request()),
            with(1, &container_request()),
            with(2, &update),
            with(3, &size),
            with(10, &exec),
            with(11, &ranges),
        ];
        for (kind, good) in [
            (0, &corpus[0]),
            (1, &corpus[1]),
            (2, &corpus[2]),
            (11, &corpus[5]),
        ] {
            converted(kind, &good[1..]).unwrap();
        }
        let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
        crate::mutator::run(30_000, &corpus, request);
    }
}
