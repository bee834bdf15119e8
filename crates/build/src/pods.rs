//! The pods that a build's commands run in: one for each network that is asked for, made when the first command
//! wants it, and removed with the build.

use std::cell::RefCell;
use std::collections::BTreeMap;

use engine::pod::{NamespaceMode, NamespaceModes, Origin};
use engine::{Engine, PodFilter, PodSpec};

use crate::error::{Failed, Result};
use crate::{Commands, Network};

/// The label that a build's pods have; its value is the process that builds.
pub(crate) const LABEL: &str = "io.floe.build";

/// For how long a step is remembered that no build asks for.
const UNUSED: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 60 * 60);

/// The pods of a build.
pub(crate) struct Pods<'a> {
    engine: &'a Engine,
    commands: &'a Commands,
    made: RefCell<BTreeMap<Network, String>>,
}

impl<'a> Pods<'a> {
    pub(crate) fn new(engine: &'a Engine, commands: &'a Commands) -> Pods<'a> {
        Pods {
            engine,
            commands,
            made: RefCell::default(),
        }
    }

    /// The pod with that network.
    pub(crate) fn of(&self, network: Network) -> Result<String, Failed> {
        if let Some(pod) = self.made.borrow().get(&network) {
            return Ok(pod.clone());
        }
        let owner = store::Store::owner_text().map_err(Failed::from)?;
        let name = format!("build-{owner}-{network:?}").to_ascii_lowercase();
        let mode = match network {
            Network::Host => NamespaceMode::Node,
            Network::Bridge | Network::None => NamespaceMode::Pod,
        };
        let pod = self.engine.run_pod(PodSpec {
            name,
            namespace: "floe".into(),
            origin: Origin::Cli,
            labels: BTreeMap::from([(LABEL.to_owned(), owner)]),
            namespaces: namespaces(mode),
            network_none: network == Network::None,
            host_aliases: self.commands.hosts.clone(),
            shm_size: self.commands.shm_size,
            cgroup_parent: self.commands.cgroup_parent.clone(),
            privileged: self.commands.security.privileged,
            ..PodSpec::default()
        })?;
        self.made.borrow_mut().insert(network, pod.clone());
        Ok(pod)
    }
}

pub(crate) fn namespaces(network: NamespaceMode) -> NamespaceModes {
    NamespaceModes {
        network,
        pid: NamespaceMode::Container,
        ..NamespaceModes::default()
    }
}

impl Drop for Pods<'_> {
    fn drop(&mut self) {
        for pod in self.made.borrow().values() {
            // What stays is removed by the next build.
            let _ = self.engine.remove_pod(pod);
        }
    }
}

/// Removes what builds have left whose process was killed: pods with their commands, and working layers.
///
/// # Errors
/// What cannot be looked at.
pub fn clear(engine: &Engine) -> Result<()> {
    for pod in engine.pods(&PodFilter {
        origin: Some(Origin::Cli),
        ..PodFilter::default()
    })? {
        let Some(owner) = pod.spec.labels.get(LABEL) else {
            continue;
        };
        if !engine.store().owner_lives(owner) {
            engine.remove_pod(&pod.id)?;
        }
    }
    crate::staging::clear(engine);
    engine.store().clear_working_layers()?;
    engine.store().forget_unused(UNUSED)?;
    Ok(())
}
