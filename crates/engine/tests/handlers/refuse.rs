//! What a handler cannot do, and what its entry in the configuration lets through.

use engine::handler::Ability;
use engine::pod::{IdMapping, NamespaceMode, UserIds, UserMode};
use engine::{Kind, PodFilter};

use crate::world::World;

pub(crate) fn what_a_handler_lacks_is_refused_by_name_before_anything_is_made(
    world: &mut World<'_>,
) {
    let mut asked = Vec::new();
    let mut spec = world.pod_spec("users");
    let range = vec![IdMapping {
        container_id: 0,
        host_id: 500_000,
        size: 65_536,
    }];
    spec.namespaces.users = UserMode::Pod(UserIds {
        uids: range.clone(),
        gids: range,
    });
    asked.push((Ability::UserNamespaces, spec, "userns_options"));
    let mut spec = world.pod_spec("network");
    spec.namespaces.network = NamespaceMode::Node;
    asked.push((Ability::HostNetwork, spec, "network"));
    let mut spec = world.pod_spec("privileged");
    spec.privileged = true;
    asked.push((Ability::Privileged, spec, "privileged"));
    for (ability, spec, word) in asked {
        let can = world.can(ability);
        match world.engine.run_pod(spec) {
            Ok(_) if can => {}
            Err(error) if !can => {
                assert_eq!(error.kind(), Kind::Unimplemented, "{error}");
                assert!(error.to_string().contains(word), "{error}");
            }
            other => panic!("{ability:?}: {other:?}"),
        }
    }
    let made = world.engine.pods(&PodFilter::default()).unwrap();
    let users = made.iter().any(|pod| pod.spec.name == "users");
    assert_eq!(users, world.can(Ability::UserNamespaces));
}

pub(crate) fn an_annotation_that_is_allowed_reaches_the_runtime(world: &mut World<'_>) {
    let mut spec = world.pod_spec("a");
    for key in ["example.allowed/x", "example.other/x"] {
        spec.annotations
            .insert(key.to_owned(), "of the pod".to_owned());
    }
    let pod = world.engine.run_pod(spec).unwrap();
    let id = world.create(&pod, "c", "true");
    let config = world.container(&id).bundle.join("config.json");
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let annotation = |key: &str| config["annotations"][key].as_str();
    assert_eq!(annotation("example.allowed/x"), Some("of the pod"));
    assert_eq!(annotation("example.other/x"), None);
    assert_eq!(annotation("example.default/x"), Some("of the entry"));
    assert_eq!(
        annotation("io.kubernetes.cri-o.SandboxID"),
        Some(pod.as_str())
    );
}
