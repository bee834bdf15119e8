//! The handle: settings, places, and the parts below the engine. It holds no state of pods and
//! containers but what it has read; that is on disk.

use std::ffi::OsString;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use network::Network;
use store::Store;

use crate::budget::Budget;
use crate::calls::Calls;
use crate::config::Config;
use crate::disk::Layout;
use crate::error::{Error, Result};
use crate::events::hub::Hub;
use crate::handler::{Handler, Handlers};
use crate::hooks::HookFiles;
use crate::node::Node;
use crate::plugins::Plugins;
use crate::pod;
use crate::pod::record::PodRecord;
use crate::stats::{Gauges, LastFigures, LayerUsage};
use crate::view::Views;

/// The engine. Cheap to clone; any number of processes may have one on the same roots. A value keeps the
/// settings with which it was made: what is under way is not changed by a reload, and what begins asks for
/// the newest ([`Engine::now`]).
#[derive(Debug, Clone)]
pub struct Engine {
    parts: Arc<Parts>,
    settings: Arc<Settings>,
}

/// What a reload replaces, as a whole.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) images: crate::image::Fetcher,
    /// The same as before where nothing of them has changed.
    pub(crate) handlers: Arc<Handlers>,
    /// Read when the first container is made, or with a reload.
    pub(crate) hooks: OnceLock<HookFiles>,
}

#[derive(Debug)]
struct Parts {
    /// The newest.
    settings: RwLock<Arc<Settings>>,
    /// Held by whoever replaces them.
    reload: Mutex<()>,
    node: Node,
    layout: Layout,
    store: Store,
    network: Network,
    gauges: Gauges,
    layer_usage: LayerUsage,
    last_figures: LastFigures,
    calls: Calls,
    output: Budget,
    views: Views,
    hub: Hub,
    plugins: Plugins,
    exit_program: OnceLock<ExitProgram>,
}

/// Who does what is due when a container of a person's has ended: the supervisor executes it, with `--restart` or
/// `--ended` and the container's id after these arguments.
#[derive(Debug, Clone)]
pub struct ExitProgram {
    /// The program, absolute, and its first arguments.
    pub argv: Vec<OsString>,
    /// All of its environment.
    pub env: Vec<(String, OsString)>,
}

/// An engine that may be gone.
#[derive(Debug)]
pub(crate) struct WeakEngine(Weak<Parts>);

impl WeakEngine {
    /// The engine with its newest settings, if it is still there.
    pub(crate) fn engine(&self) -> Option<Engine> {
        Some(Engine::newest(self.0.upgrade()?))
    }
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
        let layer_form = config.image.layer_form().map_err(unfit)?;
        let node = Node::find(&config)?;
        node.must_be_roots()?;
        let layout = Layout::create(&config.root_table.runroot)?;
        let store = Store::open_beside(
            &config.root_table.root,
            &config.root_table.additionalimagestores,
        )?;
        store.set_keep_blobs(keep_blobs);
        store.set_layer_form(layer_form);
        let network = Network::new(pod::network::config(&config, &layout)?);
        let settings = Arc::new(Settings {
            images: crate::image::Fetcher::new(&config)?,
            handlers: Arc::new(Handlers::new(&config)),
            hooks: OnceLock::new(),
            config,
        });
        let parts = Parts {
            settings: RwLock::new(Arc::clone(&settings)),
            reload: Mutex::default(),
            node,
            layout,
            store,
            network,
            gauges: Gauges::default(),
            layer_usage: LayerUsage::default(),
            last_figures: LastFigures::default(),
            calls: Calls::default(),
            output: Budget::default(),
            views: Views::default(),
            hub: Hub::default(),
            plugins: Plugins::default(),
            exit_program: OnceLock::new(),
        };
        let engine = Self {
            parts: Arc::new(parts),
            settings,
        };
        engine.restore_definitions()?;
        Ok(engine)
    }

    /// The engine with the newest settings: what a request begins with.
    #[must_use]
    pub fn now(&self) -> Self {
        Self::newest(Arc::clone(&self.parts))
    }

    fn newest(parts: Arc<Parts>) -> Self {
        let newest = parts.settings.read();
        let settings = Arc::clone(&newest.unwrap_or_else(PoisonError::into_inner));
        Self { parts, settings }
    }

    /// The engine for who must not keep it.
    pub(crate) fn weak(&self) -> WeakEngine {
        WeakEngine(Arc::downgrade(&self.parts))
    }

    /// Replaces the settings for all that begins from now on. `make` gets those that are in force; one
    /// caller at a time.
    ///
    /// # Errors
    /// Those of `make`, and the settings stay.
    pub(crate) fn replace_settings(
        &self,
        make: impl FnOnce(&Settings) -> Result<Settings>,
    ) -> Result<()> {
        let _alone = self.parts.reload.lock();
        let made = Arc::new(make(&self.now().settings)?);
        let newest = self.parts.settings.write();
        *newest.unwrap_or_else(PoisonError::into_inner) = made;
        Ok(())
    }

    /// The configuration with which this value was made.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.settings.config
    }

    /// Names who does what is due when a container of a person's has ended; without one, nobody does. Once only.
    pub fn set_exit_program(&self, program: ExitProgram) {
        let _ = self.parts.exit_program.set(program);
    }

    pub(crate) fn exit_program(&self) -> Option<&ExitProgram> {
        self.parts.exit_program.get()
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

    pub(crate) fn network(&self) -> &Network {
        &self.parts.network
    }

    /// The image store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    pub(crate) fn images_fetcher(&self) -> &crate::image::Fetcher {
        &self.settings.images
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.parts.gauges
    }

    pub(crate) fn layer_usage(&self) -> &LayerUsage {
        &self.parts.layer_usage
    }

    pub(crate) fn last_figures(&self) -> &LastFigures {
        &self.parts.last_figures
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

    /// The plugins that are told what happens.
    pub(crate) fn plugins(&self) -> &Plugins {
        &self.parts.plugins
    }

    /// The memory for what commands say.
    pub(crate) fn output_budget(&self) -> &Budget {
        &self.parts.output
    }

    /// The handlers of pods.
    pub(crate) fn handlers(&self) -> &Handlers {
        &self.settings.handlers
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
        self.hooks()?;
        self.handlers().chosen("")?.prepare()
    }

    /// The hooks of containers.
    ///
    /// # Errors
    /// A file of the directories that cannot be used.
    pub(crate) fn hooks(&self) -> Result<&HookFiles> {
        if let Some(hooks) = self.settings.hooks.get() {
            return Ok(hooks);
        }
        let read = HookFiles::read(&self.config().runtime.hooks_dir)?;
        Ok(self.settings.hooks.get_or_init(|| read))
    }
}
