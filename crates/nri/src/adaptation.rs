//! The plugins of a node, asked one after the other in the order of their indices, and one question at a time:
//! a plugin hears of one step before the next is asked of any.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Runtime;
use crate::api::{
    Container, ContainerAdjustment, ContainerEviction, ContainerRequest, ContainerState,
    ContainerUpdate, CreateContainerResponse, Empty, Event, LinuxResources, PodRequest, PodSandbox,
    StopContainerResponse, UpdateContainerRequest, UpdateContainerResponse,
    UpdateContainersRequest, UpdatePodSandboxRequest, ValidateContainerAdjustmentRequest,
    ValidateContainerAdjustmentResponse,
};
use crate::error::{Error, Result};
use crate::gate::{Gate, InFlight};
use crate::launch;
use crate::listen::{Socket, start_installed};
use crate::merge::{Making, Updates};
use crate::plugin::Plugin;
use crate::settings::Settings;

/// How long a plugin that comes waits for what is being made.
const JOIN: Duration = Duration::from_secs(10);

/// The plugins; they go when this is dropped.
#[derive(Debug)]
pub struct Nri {
    shared: Arc<Shared>,
    socket: Mutex<Option<Socket>>,
}

/// What plugins want of a container that is being made, and of others.
#[derive(Debug, Default)]
pub struct Created {
    /// How it is to be made.
    pub adjust: ContainerAdjustment,
    /// Other limits for others.
    pub updates: Vec<ContainerUpdate>,
    /// Others that are to end.
    pub evictions: Vec<ContainerEviction>,
}

/// What plugins want when a container is to have other limits.
#[derive(Debug, Default)]
pub struct Updated {
    /// Those it is to have; `None`: those that were asked for.
    pub resources: Option<LinuxResources>,
    /// Other limits for others.
    pub updates: Vec<ContainerUpdate>,
    /// Others that are to end.
    pub evictions: Vec<ContainerEviction>,
}

/// What plugins know of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Alive,
    Stopped,
}

#[derive(Debug, Default)]
struct Plugins {
    /// By index.
    all: Vec<Arc<Plugin>>,
    /// What they know; empty while there are none.
    containers: HashMap<String, Known>,
}

/// What the threads of plugins have of it.
pub(crate) struct Shared {
    settings: Settings,
    runtime: Arc<dyn Runtime>,
    plugins: Mutex<Plugins>,
    /// What anybody wants to be told.
    wanted: AtomicI32,
    gate: Arc<Gate>,
    ending: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn plugins(&self) -> MutexGuard<'_, Plugins> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_wanted(&self, plugins: &mut Plugins) {
        plugins.all.retain(|plugin| plugin.connection.is_open());
        let own = match &self.settings.validator {
            Some(_) => Event::CreateContainer.bit(),
            None => 0,
        };
        let all = plugins.all.iter().map(|plugin| plugin.events());
        let wanted = all.fold(own, |wanted, events| wanted | events);
        if plugins.all.is_empty() {
            plugins.containers.clear();
        }
        self.wanted.store(wanted, Ordering::Release);
    }

    /// Tells a plugin what there is; from then on it hears of what happens.
    pub(crate) fn join(&self, plugin: Plugin) {
        let name = plugin.name();
        let refused = |reason: &str| {
            tracing::warn!(plugin = name, reason, "an NRI plugin is hung up on");
            plugin.end(reason);
        };
        let Some(_joining) = self.gate.join(JOIN) else {
            return refused("what is being made is not made in time for it to be told");
        };
        let (pods, containers) = match self.runtime.present() {
            Ok(present) => present,
            Err(reason) => return refused(&reason),
        };
        let known = containers.iter().map(|one| one.id.clone());
        let known: Vec<String> = known.collect();
        let updates = match plugin.synchronize(pods, containers) {
            Ok(updates) => updates,
            Err(reason) => return refused(&reason),
        };
        self.update(&updates);
        let mut plugins = self.plugins();
        for id in known {
            plugins.containers.entry(id).or_insert(Known::Alive);
        }
        plugins.all.push(Arc::new(plugin));
        plugins.all.sort_by(|a, b| a.index.cmp(&b.index));
        self.count_wanted(&mut plugins);
        if self.is_ending() {
            plugins
                .all
                .iter()
                .for_each(|one| one.end("the engine ends"));
        }
        drop(plugins);
        self.runtime.joined();
        tracing::info!(plugin = name, "an NRI plugin has joined");
    }

    /// A plugin has gone.
    pub(crate) fn forget_closed(&self, name: &str, reason: &str) {
        let mut plugins = self.plugins();
        let gone: Vec<Arc<Plugin>> = plugins
            .all
            .extract_if(.., |plugin| !plugin.connection.is_open())
            .collect();
        self.count_wanted(&mut plugins);
        drop(plugins);
        gone.iter().for_each(|plugin| plugin.end(reason));
        if !self.is_ending() {
            tracing::warn!(plugin = name, reason, "an NRI plugin has gone");
        }
    }

    /// Those that could not be updated, and mind.
    fn update(&self, updates: &[ContainerUpdate]) -> Vec<ContainerUpdate> {
        let mut failed = Vec::new();
        for update in updates {
            if let Err(reason) = self.runtime.update(update) {
                let container = &update.container_id;
                tracing::warn!(container, reason, "an NRI plugin's update fails");
                if !update.ignore_failure {
                    failed.push(update.clone());
                }
            }
        }
        failed
    }

    /// Does what a plugin wants, unasked; the updates that failed.
    pub(crate) fn grant(&self, wish: &UpdateContainersRequest) -> Vec<ContainerUpdate> {
        let failed = self.update(&wish.update);
        self.evict(&wish.evict);
        failed
    }

    fn evict(&self, evictions: &[ContainerEviction]) {
        for eviction in evictions {
            let (container, why) = (&eviction.container_id, &eviction.reason);
            let why = ttrpc::printable(why);
            match self.runtime.evict(eviction) {
                Ok(()) => tracing::warn!(container, why, "an NRI plugin has it evicted"),
                Err(error) => tracing::warn!(container, error, "it is not evicted"),
            }
        }
    }
}

impl Nri {
    /// Starts the plugins that are installed, waits until they have joined or failed, and listens for others.
    ///
    /// # Errors
    /// A socket that cannot be had.
    pub fn start(settings: Settings, runtime: Arc<dyn Runtime>) -> Result<Self> {
        let socket = settings.listen.as_deref().map(Socket::bind).transpose()?;
        let installed = launch::installed(&settings.plugin_dir, &settings.config_dir);
        let shared = Arc::new(Shared {
            settings,
            runtime,
            plugins: Mutex::default(),
            wanted: AtomicI32::new(0),
            gate: Arc::default(),
            ending: AtomicBool::new(false),
        });
        shared.count_wanted(&mut shared.plugins());
        start_installed(&shared, installed);
        if let Some(socket) = &socket {
            socket.serve(&shared)?;
        }
        Ok(Self {
            shared,
            socket: Mutex::new(socket),
        })
    }

    /// Does anybody want to be told? Costs nothing where nobody does.
    #[must_use]
    pub fn wants(&self, event: Event) -> bool {
        self.shared.wanted.load(Ordering::Acquire) & event.bit() != 0
    }

    /// Does anybody want to be told anything?
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.shared.wanted.load(Ordering::Acquire) != 0
    }

    /// A pod or container is being made from now on, until what is given back is dropped. Plugins that come meanwhile
    /// wait for it. Not for who has such a one already.
    pub fn begin(&self) -> InFlight {
        self.shared.gate.enter()
    }

    /// Tells all plugins that the runtime ends, and lets them go.
    pub fn end(&self) {
        self.shared.ending.store(true, Ordering::Release);
        drop(
            self.socket
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let all = std::mem::take(&mut self.shared.plugins().all);
        std::thread::scope(|scope| {
            for plugin in &all {
                scope.spawn(|| plugin.shut_down());
            }
        });
        self.shared.count_wanted(&mut self.shared.plugins());
    }

    /// Does something with each plugin in turn, until one refuses. What has gone meanwhile is forgotten.
    fn each(
        &self,
        mut with: impl FnMut(&Plugin) -> Result<()>,
        note: impl FnOnce(&mut HashMap<String, Known>) -> bool,
    ) -> Result<()> {
        let mut plugins = self.shared.plugins();
        if !note(&mut plugins.containers) {
            return Ok(());
        }
        let outcome = plugins.all.iter().try_for_each(|plugin| with(plugin));
        self.shared.count_wanted(&mut plugins);
        outcome
    }

    fn tell_pod(&self, event: Event, pod: PodSandbox) -> Result<()> {
        let said = PodRequest { pod: Some(pod) };
        self.each(|plugin| plugin.tell_pod(event, &said), |_| true)
    }

    fn tell_container(&self, event: Event, pod: PodSandbox, container: Container) -> Result<()> {
        let said = ContainerRequest {
            pod: Some(pod),
            container: Some(container),
        };
        self.each(|plugin| plugin.tell_container(event, &said), |_| true)
    }

    /// A pod is about to be there: nobody has seen it yet. If a plugin refuses, all are told that it is gone.
    ///
    /// # Errors
    /// A plugin refuses.
    pub fn run_pod(&self, pod: PodSandbox) -> Result<()> {
        self.tell_pod(Event::RunPodSandbox, pod.clone())
            .inspect_err(|_| {
                self.undo("StopPodSandbox", self.stop_pod(pod.clone()));
                self.undo("RemovePodSandbox", self.remove_pod(pod));
            })
    }

    fn undo(&self, event: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, event, "an NRI plugin does not take it back");
        }
    }

    /// A pod is about to change its size.
    ///
    /// # Errors
    /// A plugin refuses.
    pub fn update_pod(
        &self,
        pod: PodSandbox,
        overhead: Option<LinuxResources>,
        resources: Option<LinuxResources>,
    ) -> Result<()> {
        let said = UpdatePodSandboxRequest {
            pod: Some(pod),
            overhead_linux_resources: overhead,
            linux_resources: resources,
        };
        let event = Event::UpdatePodSandbox;
        let ask = |plugin: &Plugin| plugin.ask::<Empty>(event, &said).map(drop);
        self.each(ask, |_| true)
    }

    /// A pod has changed its size.
    ///
    /// # Errors
    /// A plugin objects, which changes nothing.
    pub fn pod_updated(&self, pod: PodSandbox) -> Result<()> {
        self.tell_pod(Event::PostUpdatePodSandbox, pod)
    }

    /// A pod has stopped.
    ///
    /// # Errors
    /// As [`Nri::pod_updated`].
    pub fn stop_pod(&self, pod: PodSandbox) -> Result<()> {
        self.tell_pod(Event::StopPodSandbox, pod)
    }

    /// A pod is removed.
    ///
    /// # Errors
    /// As [`Nri::pod_updated`].
    pub fn remove_pod(&self, pod: PodSandbox) -> Result<()> {
        self.tell_pod(Event::RemovePodSandbox, pod)
    }

    /// A container is about to be made: nobody has seen it yet. If a plugin refuses, all are told that it is gone.
    ///
    /// # Errors
    /// A plugin refuses, two contradict each other, or a validator rejects what they want.
    pub fn create_container(&self, pod: PodSandbox, container: Container) -> Result<Created> {
        let (id, before) = (container.id.clone(), container.clone());
        let created = self.ask_all_to_create(&pod, container, &id);
        if created.is_err() {
            self.undo_create(pod, before);
        }
        created
    }

    fn ask_all_to_create(
        &self,
        pod: &PodSandbox,
        container: Container,
        id: &str,
    ) -> Result<Created> {
        let before = container.clone();
        let mut making = Making::new(container);
        let (mut evictions, mut asked) = (Vec::new(), Vec::new());
        let ask = |plugin: &Plugin| {
            asked.push(plugin.instance());
            let question = ContainerRequest {
                pod: Some(pod.clone()),
                container: Some(making.container.clone()),
            };
            let answer =
                plugin.ask::<CreateContainerResponse>(Event::CreateContainer, &question)?;
            let Some(answer) = answer else { return Ok(()) };
            let name = plugin.name();
            making.adjust(answer.adjust.unwrap_or_default(), &name)?;
            making.updates.add(&answer.update, &name)?;
            evictions.extend(answer.evict);
            Ok(())
        };
        self.each(ask, |known| {
            known.insert(id.to_owned(), Known::Alive);
            true
        })?;
        if self.shared.settings.validator.is_some()
            || self.wants(Event::ValidateContainerAdjustment)
        {
            let mut question = making.question(before);
            question.pod = Some(pod.clone());
            question.plugins = asked;
            self.validate(&question)?;
        }
        let (adjust, updates) = making.finish();
        Ok(Created {
            adjust,
            updates,
            evictions,
        })
    }

    fn validate(&self, question: &ValidateContainerAdjustmentRequest) -> Result<()> {
        let rejected = |validator: &str, reason: String| Error::Rejected {
            validator: validator.to_owned(),
            reason,
        };
        if let Some(rules) = &self.shared.settings.validator {
            let checked = rules.check(question);
            checked.map_err(|reason| rejected("00-default-validator", reason))?;
        }
        let ask = |plugin: &Plugin| {
            let event = Event::ValidateContainerAdjustment;
            let answer =
                plugin.must_answer::<ValidateContainerAdjustmentResponse>(event, question)?;
            match answer.filter(|answer| answer.reject) {
                None => Ok(()),
                Some(answer) => {
                    let reason = match ttrpc::printable(&answer.reason) {
                        none if none.is_empty() => "without a reason".to_owned(),
                        reason => reason,
                    };
                    Err(rejected(&plugin.name(), reason))
                }
            }
        };
        self.each(ask, |_| true)
    }

    /// A container of which plugins were told is not made after all.
    pub fn undo_create(&self, pod: PodSandbox, mut container: Container) {
        container.state = ContainerState::ContainerStopped.into();
        self.remove_container(pod, container);
    }

    /// A container is made.
    ///
    /// # Errors
    /// As [`Nri::pod_updated`].
    pub fn container_created(&self, pod: PodSandbox, container: Container) -> Result<()> {
        self.tell_container(Event::PostCreateContainer, pod, container)
    }

    /// A container is about to be started.
    ///
    /// # Errors
    /// A plugin refuses.
    pub fn start_container(&self, pod: PodSandbox, container: Container) -> Result<()> {
        self.tell_container(Event::StartContainer, pod, container)
    }

    /// A container is started.
    ///
    /// # Errors
    /// As [`Nri::pod_updated`].
    pub fn container_started(&self, pod: PodSandbox, container: Container) -> Result<()> {
        self.tell_container(Event::PostStartContainer, pod, container)
    }

    /// A container is about to have other limits.
    ///
    /// # Errors
    /// A plugin refuses, or two contradict each other.
    pub fn update_container(
        &self,
        pod: PodSandbox,
        container: Container,
        resources: LinuxResources,
    ) -> Result<Updated> {
        let id = container.id.clone();
        let mut updates = Updates::beginning_with(&id, resources.clone());
        let mut evictions = Vec::new();
        let mut question = UpdateContainerRequest {
            pod: Some(pod),
            container: Some(container),
            linux_resources: Some(resources),
        };
        let ask = |plugin: &Plugin| {
            let answer =
                plugin.ask::<UpdateContainerResponse>(Event::UpdateContainer, &question)?;
            let Some(answer) = answer else { return Ok(()) };
            updates.add(&answer.update, &plugin.name())?;
            question.linux_resources = updates.resources(&id);
            evictions.extend(answer.evict);
            Ok(())
        };
        self.each(ask, |_| true)?;
        let resources = updates.resources(&id);
        let mut updates = updates.finish();
        updates.retain(|update| update.container_id != id);
        Ok(Updated {
            resources,
            updates,
            evictions,
        })
    }

    /// A container has other limits.
    ///
    /// # Errors
    /// As [`Nri::pod_updated`].
    pub fn container_updated(&self, pod: PodSandbox, container: Container) -> Result<()> {
        self.tell_container(Event::PostUpdateContainer, pod, container)
    }

    /// A container has ended, however it did: plugins that know of it are told once. What they want of others is
    /// done.
    pub fn container_stopped(&self, pod: PodSandbox, container: Container) {
        let id = container.id.clone();
        let question = ContainerRequest {
            pod: Some(pod),
            container: Some(container),
        };
        let mut updates = Updates::default();
        let ask = |plugin: &Plugin| {
            let answer = plugin.ask::<StopContainerResponse>(Event::StopContainer, &question)?;
            let answer = answer.unwrap_or_default();
            updates.add(&answer.update, &plugin.name())
        };
        let told = self.each(ask, |known| match known.get_mut(&id) {
            Some(known) if *known == Known::Alive => {
                *known = Known::Stopped;
                true
            }
            _ => false,
        });
        if let Err(error) = told {
            tracing::warn!(container = id, %error, "its end is told to no more plugins");
        }
        self.apply(updates.finish(), Vec::new());
    }

    /// A container is removed: plugins that know of it are told that it has ended, if they were not, and that it is
    /// gone.
    pub fn remove_container(&self, pod: PodSandbox, container: Container) {
        self.container_stopped(pod.clone(), container.clone());
        let id = container.id.clone();
        let said = ContainerRequest {
            pod: Some(pod),
            container: Some(container),
        };
        let event = Event::RemoveContainer;
        let told = self.each(
            |plugin| plugin.tell_container(event, &said),
            |known| known.remove(&id).is_some(),
        );
        if let Err(error) = told {
            tracing::warn!(container = id, %error, "its removal is told to no more plugins");
        }
    }

    /// Does what plugins want of other containers; those that could not be done and are minded.
    pub fn apply(
        &self,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) -> Vec<ContainerUpdate> {
        let failed = self.shared.update(&updates);
        self.shared.evict(&evictions);
        failed
    }
}

impl Drop for Nri {
    fn drop(&mut self) {
        if !self.shared.is_ending() {
            self.end();
        }
    }
}
