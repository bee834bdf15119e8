//! What the runtime says of itself: version, readiness, what its handlers can do, and where it
//! keeps things. Reads configuration and files only.

use std::path::PathBuf;
use std::time::Instant;

use engine::handler::{Ability, RuntimeHandler};
use engine::node::Manager;
use engine::{Container, Engine, Error};
use serde_json::{Value, json};

use crate::calls::{Call, Calls, Health};

/// The version of kubelet's side of the interface, unchanged since there is one.
const KUBE_API_VERSION: &str = "0.1.0";

/// The answer to Version. The name is what kubelet puts before the ids of containers.
pub(crate) fn version(engine: &Engine) -> cri::VersionResponse {
    cri::VersionResponse {
        version: KUBE_API_VERSION.to_owned(),
        runtime_name: engine.config().compat.runtime_name.clone(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: cri::API_VERSION.to_owned(),
    }
}

/// The answer to Status. The runtime is ready since it answers, unless a change will not end; the network
/// may not be.
pub(crate) fn status(engine: &Engine, calls: &Calls, verbose: bool) -> cri::StatusResponse {
    let network = match engine.network_status() {
        Ok(()) => condition("NetworkReady", None),
        Err(reason) => condition("NetworkReady", Some(("NetworkPluginNotReady", reason))),
    };
    let conditions = vec![runtime_ready(calls.health(Instant::now())), network];
    let info = if verbose {
        let handlers: Vec<Value> = engine.runtime_handlers().iter().map(described).collect();
        [
            ("config".to_owned(), json!(engine.config()).to_string()),
            ("handlers".to_owned(), json!(handlers).to_string()),
            ("calls".to_owned(), under_way(calls).to_string()),
            ("node".to_owned(), engine.node().report().to_string()),
            (
                "checkpoint".to_owned(),
                engine.checkpoint_report().to_string(),
            ),
        ]
        .into()
    } else {
        Default::default()
    };
    let handlers: Vec<cri::RuntimeHandler> =
        engine.runtime_handlers().into_iter().map(handler).collect();
    let mut features = handlers.iter().flat_map(|handler| &handler.features);
    let users = features.any(|features| features.user_namespaces);
    cri::StatusResponse {
        status: Some(cri::RuntimeStatus { conditions }),
        info,
        runtime_handlers: handlers,
        features: Some(cri::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: users,
        }),
    }
}

fn runtime_ready(health: Health) -> cri::RuntimeCondition {
    match health {
        Health::Well => condition("RuntimeReady", None),
        // Ready, and a person sees why a pod waits.
        Health::Slow(message) => cri::RuntimeCondition {
            message,
            ..condition("RuntimeReady", None)
        },
        Health::Stuck(message) => condition("RuntimeReady", Some(("CallStuck", message))),
    }
}

/// The changes that are under way as a person reads them, the oldest first.
fn under_way(calls: &Calls) -> Value {
    let now = Instant::now();
    let (oldest, all) = calls.oldest();
    let described = |call: &Call| json!({ "rpc": call.rpc, "of": call.of, "age_seconds": call.age(now).as_secs() });
    let oldest: Vec<Value> = oldest.iter().map(described).collect();
    json!({ "count": all, "oldest": oldest })
}

fn condition(kind: &str, failed: Option<(&str, String)>) -> cri::RuntimeCondition {
    let (reason, message) = failed.unwrap_or_default();
    cri::RuntimeCondition {
        r#type: kind.to_owned(),
        status: reason.is_empty(),
        reason: reason.to_owned(),
        message,
    }
}

/// A handler as a person reads it.
fn described(handler: &RuntimeHandler) -> Value {
    let abilities: Vec<&str> = handler.abilities.all().map(Ability::words).collect();
    json!({
        "name": handler.name,
        "abilities": abilities,
        "overhead": {
            "memory_bytes": handler.overhead.memory,
            "cpu_millis": handler.overhead.cpu_millis,
        },
    })
}

fn handler(handler: RuntimeHandler) -> cri::RuntimeHandler {
    let features = cri::RuntimeHandlerFeatures {
        recursive_read_only_mounts: handler.abilities.has(Ability::RecursiveReadOnly),
        user_namespaces: handler.abilities.has(Ability::UserNamespaces),
        mount_options: handler.abilities.has(Ability::MountOptions),
    };
    cri::RuntimeHandler {
        name: handler.name,
        features: Some(features),
    }
}

/// The answer to RuntimeConfig.
pub(crate) fn runtime_config(manager: Manager) -> cri::RuntimeConfigResponse {
    let driver = match manager {
        Manager::Cgroupfs => cri::CgroupDriver::Cgroupfs,
        Manager::Systemd => cri::CgroupDriver::Systemd,
    };
    let linux = cri::LinuxRuntimeConfiguration {
        cgroup_driver: driver.into(),
    };
    cri::RuntimeConfigResponse { linux: Some(linux) }
}

/// The directory of the containers' writable layers.
pub(crate) fn writable_layers(engine: &Engine) -> PathBuf {
    engine.config().root_table.root.join("containers")
}

/// The OCI configuration that a container runs with; null if the container has just been removed.
pub(crate) fn runtime_spec(container: &Container) -> Result<Value, Error> {
    let path = container.bundle.join("config.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::Record {
            path,
            reason: error.to_string(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(source) => Err(Error::Io {
            operation: "read",
            path,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_driver_is_the_nodes_manager() {
        for (manager, driver) in [
            (Manager::Cgroupfs, cri::CgroupDriver::Cgroupfs),
            (Manager::Systemd, cri::CgroupDriver::Systemd),
        ] {
            let linux = runtime_config(manager).linux.unwrap();
            assert_eq!(linux.cgroup_driver(), driver);
        }
    }

    #[test]
    fn a_condition_that_fails_says_why() {
        let ready = condition("RuntimeReady", None);
        assert!(ready.status && ready.reason.is_empty() && ready.message.is_empty());
        let missing = Some(("NetworkPluginNotReady", "no bridge".to_owned()));
        let failed = condition("NetworkReady", missing);
        assert!(!failed.status);
        assert_eq!(failed.reason, "NetworkPluginNotReady");
        assert_eq!(failed.message, "no bridge");
        let slow = runtime_ready(Health::Slow("StopPodSandbox of a".into()));
        assert!(slow.status && slow.message == "StopPodSandbox of a");
        let stuck = runtime_ready(Health::Stuck("StopPodSandbox of a".into()));
        assert!(!stuck.status && stuck.reason == "CallStuck");
        assert_eq!(stuck.message, "StopPodSandbox of a");
    }
}
