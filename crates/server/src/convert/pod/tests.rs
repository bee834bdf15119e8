//! Pods as kubelet asks for them, and as it gets them back.

use super::*;

fn request() -> cri::RunPodSandboxRequest {
    let metadata = cri::PodSandboxMetadata {
        name: "web".into(),
        uid: "u-1".into(),
        namespace: "default".into(),
        attempt: 2,
    };
    let config = cri::PodSandboxConfig {
        metadata: Some(metadata),
        ..Default::default()
    };
    cri::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    }
}

fn with(change: impl FnOnce(&mut cri::PodSandboxConfig)) -> cri::RunPodSandboxRequest {
    let mut request = request();
    change(request.config.as_mut().unwrap());
    request
}

/// A pod of no great interest.
pub(crate) fn pod() -> Pod {
    made(PodSpec::default())
}

fn made(spec: PodSpec) -> Pod {
    Pod {
        id: "f".repeat(64),
        spec,
        state: PodState::Ready,
        created_at: 7,
        steps: Vec::new(),
        ips: vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        supervisor_pid: Some(42),
        netns: Some("/proc/42/ns/net".into()),
        cgroup_parent: "/pod".into(),
        damaged: false,
    }
}

#[test]
fn each_part_of_the_name_must_be_given() {
    let missing = [
        ("config.metadata", with(|config| config.metadata = None)),
        (
            "metadata.name",
            with(|config| config.metadata.as_mut().unwrap().name.clear()),
        ),
        (
            "metadata.uid",
            with(|config| config.metadata.as_mut().unwrap().uid.clear()),
        ),
        (
            "metadata.namespace",
            with(|config| config.metadata.as_mut().unwrap().namespace.clear()),
        ),
        ("config", cri::RunPodSandboxRequest::default()),
    ];
    for (field, request) in missing {
        let error = spec(request).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
        assert_eq!(error.kind(), engine::Kind::InvalidArgument);
    }
    assert_eq!(label(&spec(request()).unwrap()), "default/web");
}

#[test]
fn labels_and_annotations_come_back_byte_for_byte() {
    let labels = BTreeMap::from([("a/b".to_owned(), " ö\n".to_owned())]);
    let request = with(|config| {
        config.labels.clone_from(&labels);
        config.annotations.clone_from(&labels);
    });
    let status = status(made(spec(request).unwrap()));
    assert_eq!(status.labels, labels);
    assert_eq!(status.annotations, labels);
    let metadata = status.metadata.unwrap();
    assert_eq!((metadata.name.as_str(), metadata.attempt), ("web", 2));
}

#[test]
fn the_first_address_is_the_primary_one() {
    let network = status(made(spec(request()).unwrap())).network.unwrap();
    assert_eq!(network.ip, "10.1.0.2");
    assert_eq!(
        network.additional_ips,
        [cri::PodIp {
            ip: "fd00::2".into()
        }]
    );
}

#[test]
fn a_port_without_one_of_the_node_is_only_declared() {
    let port = |host_port, container_port| cri::PortMapping {
        host_port,
        container_port,
        protocol: cri::Protocol::Udp.into(),
        host_ip: "::1".into(),
    };
    let ports = |mappings| spec(with(|config| config.port_mappings = mappings));
    let mapped = ports(vec![port(0, 80), port(8080, 80)])
        .unwrap()
        .port_mappings;
    assert_eq!(mapped.len(), 1);
    assert_eq!((mapped[0].host_port, mapped[0].container_port), (8080, 80));
    assert_eq!(mapped[0].protocol, Protocol::Udp);
    assert_eq!(mapped[0].host_ip, Some("::1".parse().unwrap()));
    let error = ports(vec![port(1, 70_000)]).unwrap_err().to_string();
    assert!(error.contains("port_mappings[0].container_port"), "{error}");
    let named = cri::PortMapping {
        host_ip: "localhost".into(),
        ..port(1, 1)
    };
    assert!(
        ports(vec![named])
            .unwrap_err()
            .to_string()
            .contains("host_ip")
    );
}

#[test]
fn a_line_break_in_a_dns_setting_is_refused() {
    let dns = cri::DnsConfig {
        searches: vec!["a\nnameserver 1.2.3.4".into()],
        ..Default::default()
    };
    let error = spec(with(|config| config.dns_config = Some(dns)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("dns_config.searches"), "{error}");
}

#[test]
fn a_group_without_a_user_is_refused() {
    let group = Some(cri::Int64Value { value: 5 });
    let context = cri::LinuxSandboxSecurityContext {
        run_as_group: group,
        ..Default::default()
    };
    let linux = cri::LinuxPodSandboxConfig {
        security_context: Some(context),
        ..Default::default()
    };
    let error = spec(with(|config| config.linux = Some(linux)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("run_as_group"), "{error}");
}

#[test]
fn a_filter_asks_for_cris_own_pods_only() {
    let all = filter(None).unwrap();
    assert_eq!(
        (all.id, all.state, all.origin),
        (None, None, Some(Origin::Cri))
    );
    let state = cri::PodSandboxStateValue {
        state: cri::PodSandboxState::SandboxNotready.into(),
    };
    let asked = cri::PodSandboxFilter {
        id: "abc".into(),
        state: Some(state),
        label_selector: [("a".to_owned(), "b".to_owned())].into(),
    };
    let some = filter(Some(asked)).unwrap();
    assert_eq!(some.id.as_deref(), Some("abc"));
    assert_eq!(some.state, Some(PodState::NotReady));
    assert_eq!(some.labels.len(), 1);
    let unknown = cri::PodSandboxFilter {
        state: Some(cri::PodSandboxStateValue { state: 9 }),
        ..Default::default()
    };
    assert!(filter(Some(unknown)).is_err());
}

#[test]
fn verbose_info_has_the_pid_and_the_network_namespace() {
    let info = info(&made(spec(request()).unwrap()), &Value::Null);
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    assert_eq!(info["pid"], 42);
    assert_eq!(
        info["runtimeSpec"]["linux"]["namespaces"][0]["path"],
        "/proc/42/ns/net"
    );
}

#[test]
fn dns_settings_that_say_nothing_leave_the_nodes() {
    assert!(dns(None).unwrap().is_none());
    assert!(dns(Some(cri::DnsConfig::default())).unwrap().is_none());
    let servers = vec!["10.0.0.53".to_owned()];
    let asked = cri::DnsConfig {
        servers: servers.clone(),
        ..Default::default()
    };
    assert_eq!(dns(Some(asked)).unwrap().unwrap().servers, servers);
}
