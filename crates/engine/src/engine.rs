//! The handle: configuration, places, and the parts below the engine. It holds no state of pods
//! and containers but what it has read; that is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use network::{Attachment, Network, NetworkConfig};
use store::Store;

use crate::budget::Budget;
use crate::calls::Calls;
use crate::config::Config;
use crate::disk::Layout;
use crate::error::{Error, Result};
use crate::events::hub::Hub;
use crate::handler::{Handler, Handlers};
use crate::node::Node;
use crate::pod::record::{PodRecord, Stage};
use crate::pod::{NamespaceMode, PodSpec, PortMapping, files};
use crate::stats::{CpuHistory, LayerUsage};
use crate::view::Views;

/// The engine. Cheap to clone; any number of processes may have one on the same roots.
#[derive(Debug, Clone)]
pub struct Engine {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    config: Config,
    node: Node,
    layout: Layout,
    store: Store,
    network: Network,
    images: crate::image::Fetcher,
    cpu_history: CpuHistory,
    handlers: Handlers,
    layer_usage: LayerUsage,
    calls: Calls,
    output: Budget,
    views: Views,
    hub: Hub,
}

impl Engine {
    /// Opens the engine on the roots that the configuration names, making them if missing.
    ///
    /// # Errors
    /// A user who is not root, what is configured and the node does not have, a root that cannot be made
    /// or read, a bad registries.conf.
    pub fn open(config: Config) -> Result<Self> {
        let unfit = |reason| Error::Config {
            origin: "configuration".into(),
            reason,
        };
        config.validate().map_err(unfit)?;
        let keep_blobs = config.image.keep_blobs().map_err(unfit)?;
        let node = Node::find(&config)?;
        node.must_be_roots()?;
        let layout = Layout::create(&config.root_table.runroot)?;
        let store = Store::open_beside(
            &config.root_table.root,
            &config.root_table.additionalimagestores,
        )?;
        store.set_keep_blobs(keep_blobs);
        let network = Network::new(network_config(&config, &layout)?);
        let images = crate::image::Fetcher::new(&config)?;
        let cpu_history = CpuHistory::default();
        let parts = Parts {
            handlers: Handlers::new(&config),
            config,
            node,
            layout,
            store,
            network,
            images,
            cpu_history,
            layer_usage: LayerUsage::default(),
            calls: Calls::default(),
            output: Budget::default(),
            views: Views::default(),
            hub: Hub::default(),
        };
        Ok(Self {
            parts: Arc::new(parts),
        })
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// What the engine runs on.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.parts.node
    }

    /// Can pods have a network now?
    ///
    /// # Errors
    /// The reason in words.
    pub fn network_status(&self) -> Result<(), String> {
        self.parts
            .network
            .status()
            .map_err(|reason| reason.to_string())
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.parts.layout
    }

    /// The image store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    pub(crate) fn images_fetcher(&self) -> &crate::image::Fetcher {
        &self.parts.images
    }

    pub(crate) fn cpu_history(&self) -> &CpuHistory {
        &self.parts.cpu_history
    }

    pub(crate) fn layer_usage(&self) -> &LayerUsage {
        &self.parts.layer_usage
    }

    /// What is under way in pods.
    pub(crate) fn calls(&self) -> &Calls {
        &self.parts.calls
    }

    /// What this process keeps of the records.
    pub(crate) fn views(&self) -> &Views {
        &self.parts.views
    }

    /// Who is told what happens.
    pub(crate) fn hub(&self) -> &Hub {
        &self.parts.hub
    }

    /// The memory for what commands say.
    pub(crate) fn output_budget(&self) -> &Budget {
        &self.parts.output
    }

    /// The handlers of pods.
    pub(crate) fn handlers(&self) -> &Handlers {
        &self.parts.handlers
    }

    /// The handler of a pod that is there.
    pub(crate) fn handler_of(&self, pod: &PodRecord) -> Result<&dyn Handler> {
        self.handlers().of(&pod.handler)
    }

    /// Makes ready to run pods: called once by what will.
    ///
    /// # Errors
    /// What would keep every pod from being made.
    pub fn prepare(&self) -> Result<()> {
        self.handlers().chosen("")?.prepare()
    }

    /// Gives the pod its interface and addresses.
    pub(crate) fn attach_network(&self, record: &PodRecord, netns: &Path) -> Result<Vec<IpAddr>> {
        let failed = |source| network_error(&record.id, source);
        let dir = self.layout().pod(&record.id);
        if record.spec.network_none {
            Network::loopback_only(netns).map_err(failed)?;
            files::write_hosts(&dir, &record.id, &record.spec, &[])?;
            return Ok(Vec::new());
        }
        let attached = self
            .parts
            .network
            .setup(&Attachment {
                port_mappings: self.forwarded(&record.spec),
                ..attachment(record, Some(netns))
            })
            .map_err(failed)?;
        let ips: Vec<IpAddr> = attached.ips.iter().map(ipnet::IpNet::addr).collect();
        files::write_hosts(&dir, &record.id, &record.spec, &ips)?;
        Ok(ips)
    }

    /// The host ports of a pod that are forwarded here.
    fn forwarded<'a>(&self, spec: &'a PodSpec) -> &'a [PortMapping] {
        match self.config().runtime.disable_hostport_mapping {
            true => &[],
            false => &spec.port_mappings,
        }
    }

    /// The pods that the network knows, half-made ones included. What cannot be read is a warning.
    pub(crate) fn attached_pods(&self) -> BTreeSet<String> {
        let network = &self.parts.network;
        let mut pods = BTreeSet::new();
        match network.attachments() {
            Ok(attached) => pods.extend(attached),
            Err(error) => tracing::warn!(%error, "networks of pods that are gone stay"),
        }
        match network.port_owners() {
            Ok(owners) => pods.extend(owners),
            Err(error) => tracing::warn!(%error, "host ports of pods that are gone stay"),
        }
        pods
    }

    /// Takes back what the network keeps for a pod of which nothing else is known.
    pub(crate) fn detach_gone(&self, id: &str, netns: Option<&Path>) -> Result<()> {
        let failed = |source| network_error(id, source);
        let attachment = Attachment {
            netns,
            ..Attachment::of(id)
        };
        self.parts.network.teardown(&attachment).map_err(failed)
    }

    /// Takes the pod's interface and addresses back; what is gone is fine.
    pub(crate) fn detach_network(&self, record: &PodRecord, netns: Option<&Path>) -> Result<()> {
        if record.spec.network_none || record.spec.namespaces.network == NamespaceMode::Node {
            return Ok(());
        }
        let failed = |source| network_error(&record.id, source);
        let network = &self.parts.network;
        // What its stop has left has a record, and what nobody can know of is found at the next start.
        let is_off = matches!(record.stage, Stage::Stopped) && netns.is_none();
        if is_off && !network.remembers(&record.id).map_err(failed)? {
            return Ok(());
        }
        let attachment = attachment(record, netns);
        network.teardown(&attachment).map_err(failed)
    }
}

fn network_error(pod: &str, source: network::Error) -> Error {
    Error::Network {
        pod: pod.to_owned(),
        source: Box::new(source),
    }
}

fn attachment<'a>(record: &'a PodRecord, netns: Option<&'a Path>) -> Attachment<'a> {
    Attachment {
        id: &record.id,
        netns,
        name: &record.spec.name,
        namespace: &record.spec.namespace,
        uid: &record.spec.uid,
        ifname: "eth0",
        port_mappings: &record.spec.port_mappings,
        annotations: &record.spec.annotations,
    }
}

fn network_config(config: &Config, layout: &Layout) -> Result<NetworkConfig> {
    let network = &config.network;
    let subnets = network
        .subnets
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| Error::invalid("crio.network.subnets", format!("{text:?}")))
        })
        .collect::<Result<_>>()?;
    Ok(NetworkConfig {
        conf_dir: network.network_dir.clone(),
        plugin_dirs: network.plugin_dirs.clone(),
        state_dir: layout.network(),
        bridge: network.bridge.clone(),
        subnets,
        default_network: Some(network.cni_default_network.clone()).filter(|name| !name.is_empty()),
    })
}

/// Are all of `wanted` in `labels`?
pub(crate) fn has_labels(
    labels: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// The one of `ids` that `prefix` begins.
pub(crate) fn resolve_prefix(
    what: &'static str,
    prefix: &str,
    ids: Vec<String>,
) -> Result<Option<String>> {
    if prefix.is_empty() {
        return Ok(None);
    }
    let mut fitting: Vec<String> = ids
        .into_iter()
        .filter(|id| id.starts_with(prefix))
        .collect();
    if let Some(exact) = fitting.iter().position(|id| id == prefix) {
        return Ok(Some(fitting.swap_remove(exact)));
    }
    match fitting.len() {
        0 | 1 => Ok(fitting.pop()),
        count => Err(Error::Ambiguous {
            what,
            name: prefix.to_owned(),
            count,
        }),
    }
}
