//! What plugins get of the engine: what there is, other limits, evictions.

use std::time::Duration;

use nri::api;

use super::{exits, limits, views};
use crate::container::{Container, ContainerState, StateKind};
use crate::engine::{Engine, WeakEngine};
use crate::error::Result;
use crate::pod::Origin;
use crate::pod::record::Stage;

/// The engine, for as long as it is there.
pub(super) struct Host(WeakEngine);

impl Host {
    pub(super) fn new(engine: &Engine) -> Self {
        Self(engine.weak())
    }

    fn engine(&self) -> Result<Engine, String> {
        self.0.engine().ok_or_else(|| "the engine ends".to_owned())
    }
}

type Present = (Vec<api::PodSandbox>, Vec<api::Container>);

impl Engine {
    fn present(&self) -> Result<Present> {
        let (mut pods, mut containers) = (Vec::new(), Vec::new());
        for id in self.layout().pod_ids()? {
            let Some(record) = self.pod_record(&id)? else {
                continue;
            };
            let ips = match &record.stage {
                Stage::Made { ips } => &ips[..],
                Stage::Stopped => &[],
                _ => continue,
            };
            if record.spec.origin != Origin::Cri {
                continue;
            }
            let sandbox = self.sandbox(&record)?;
            pods.push(views::pod(&record, sandbox.as_ref(), ips));
            for id in self.layout().container_ids(&record.id)? {
                let Some(of) = self.container_record(&record.id, &id)? else {
                    continue;
                };
                let view = self.view_container(&record, of, sandbox.as_ref())?;
                if is_alive(&view) {
                    containers.push(self.told(&view));
                }
            }
        }
        Ok((pods, containers))
    }

    /// Limits that a plugin wants; what it does not say stays. One that has ended keeps what it had.
    fn limit(&self, update: &api::ContainerUpdate) -> Result<()> {
        let said = update.linux.as_ref();
        let Some(said) = said.and_then(|linux| linux.resources.as_ref()) else {
            return Ok(());
        };
        match self.container_if_any(&update.container_id)? {
            Some(container) if is_alive(&container) => {
                let change = limits::as_request(said)?;
                self.change_limits(&container, &change, Some(said))
            }
            _ => Ok(()),
        }
    }
}

fn is_alive(container: &Container) -> bool {
    matches!(
        container.state.kind(),
        StateKind::Created | StateKind::Running
    )
}

impl nri::Runtime for Host {
    fn present(&self) -> Result<Present, String> {
        self.engine()?.present().map_err(|error| error.to_string())
    }

    fn update(&self, update: &api::ContainerUpdate) -> Result<(), String> {
        let limited = self.engine()?.limit(update);
        limited.map_err(|error| error.to_string())
    }

    fn evict(&self, eviction: &api::ContainerEviction) -> Result<(), String> {
        let engine = self.engine()?;
        let stopped = engine.stop_container(&eviction.container_id, Duration::ZERO);
        stopped.map_err(|error| error.to_string())
    }

    fn joined(&self) {
        if let Ok(engine) = self.engine() {
            exits::hear(&engine);
        }
    }
}

impl Engine {
    /// Tells plugins of a container that has ended, if it has.
    pub(super) fn tell_end(&self, container: &Container) {
        if matches!(container.state, ContainerState::Exited { .. }) {
            self.plugins_saw_stop(container);
        }
    }
}
