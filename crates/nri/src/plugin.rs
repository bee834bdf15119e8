//! One plugin that has registered: what it is asked, and what becomes of it if it does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use ttrpc::Code;

use crate::api::{
    ConfigureRequest, ConfigureResponse, Container, ContainerRequest, ContainerUpdate, Empty,
    Event, PluginInstance, PodRequest, PodSandbox, StateChangeEvent, SynchronizeRequest,
    SynchronizeResponse,
};
use crate::connection::{Connection, Failure};
use crate::error::{Error, Result};
use crate::launch::Program;
use crate::settings::Settings;

/// The service that plugins have.
const SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// The NRI whose calls are known here.
const VERSION: &str = "v0.12.0";
/// The longest part of a synchronization, in bytes: a frame's limit, less its names.
const PART: usize = ttrpc::MAX_FRAME - 4096;

/// A plugin.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// Its index, two digits.
    pub(crate) index: String,
    /// Its name without the index.
    pub(crate) base: String,
    pub(crate) connection: Arc<Connection>,
    events: i32,
    /// It is told of some things in the way of before they had a call each.
    old: AtomicBool,
    program: Option<Program>,
}

/// How a plugin is named to people.
pub(crate) fn full_name(index: &str, base: &str) -> String {
    format!("{index}-{base}")
}

/// What the plugin is not, in words.
pub(crate) fn check_name(index: &str, base: &str) -> Result<(), String> {
    if index.len() != 2 || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the index {index:?} is not two digits"));
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    match !base.is_empty() && base.len() <= 255 && base.bytes().all(fine) {
        true => Ok(()),
        false => Err(format!("{base:.80?} is no name")),
    }
}

impl Plugin {
    /// Index and name of a plugin, what it wants to be told, and its program if it was started here.
    pub(crate) fn new(
        (index, base): (String, String),
        connection: Arc<Connection>,
        events: i32,
        program: Option<Program>,
    ) -> Self {
        Self {
            index,
            base,
            connection,
            events,
            old: AtomicBool::new(false),
            program,
        }
    }

    /// Configures a plugin that has registered; what it wants to be told.
    ///
    /// # Errors
    /// In words: it does not take its configuration, or wants what there is not.
    pub(crate) fn configure(
        connection: &Connection,
        config: String,
        settings: &Settings,
    ) -> Result<i32, String> {
        let milliseconds =
            |limit: std::time::Duration| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let question = ConfigureRequest {
            config,
            runtime_name: settings.runtime_name.clone(),
            runtime_version: settings.runtime_version.clone(),
            registration_timeout: milliseconds(settings.registration_timeout),
            request_timeout: milliseconds(settings.request_timeout),
            nri_version: VERSION.to_owned(),
        };
        let answer: ConfigureResponse = connection
            .ask(SERVICE, "Configure", &question)
            .map_err(words)?;
        match answer.events {
            0 => Ok(Event::ALL),
            events if events & !Event::ALL == 0 => Ok(events),
            events => Err(format!("it subscribes to unknown events: {events:#x}")),
        }
    }

    /// Tells the plugin what there is, in as many parts as it takes; what it wants changed of it.
    ///
    /// # Errors
    /// In words: it does not take it.
    pub(crate) fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> Result<Vec<ContainerUpdate>, String> {
        let mut parts = parts(pods, containers);
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let answer: SynchronizeResponse = self
                .connection
                .ask(SERVICE, "Synchronize", &part)
                .map_err(words)?;
            if !answer.more || !answer.update.is_empty() {
                return Err("it cannot be told in parts of what there is".to_owned());
            }
        }
        let answer: SynchronizeResponse = self
            .connection
            .ask(SERVICE, "Synchronize", &last)
            .map_err(words)?;
        Ok(answer.update)
    }

    /// Index and name.
    pub(crate) fn name(&self) -> String {
        full_name(&self.index, &self.base)
    }

    /// As validators are told of it.
    pub(crate) fn instance(&self) -> PluginInstance {
        PluginInstance {
            name: self.base.clone(),
            index: self.index.clone(),
        }
    }

    /// What it wants to be told.
    pub(crate) fn events(&self) -> i32 {
        self.events
    }

    fn wants(&self, event: Event) -> bool {
        self.events & event.bit() != 0
    }

    /// Asks; `None`: it does not want to be asked, or has been hung up on.
    ///
    /// # Errors
    /// What it refuses, or a question that is too long for it.
    pub(crate) fn ask<A: Message + Default>(
        &self,
        event: Event,
        question: &impl Message,
    ) -> Result<Option<A>> {
        if !self.wants(event) {
            return Ok(None);
        }
        let answer = self.connection.ask(SERVICE, event.method(), question);
        self.outcome(event, answer)
    }

    /// As [`Plugin::ask`], of one whose silence is a refusal.
    pub(crate) fn must_answer<A: Message + Default>(
        &self,
        event: Event,
        question: &impl Message,
    ) -> Result<Option<A>> {
        let answer = self.ask(event, question)?;
        match answer.is_none() && self.wants(event) {
            true => Err(Error::Rejected {
                validator: self.name(),
                reason: "it does not answer".to_owned(),
            }),
            false => Ok(answer),
        }
    }

    fn outcome<A>(&self, event: Event, answer: Result<A, Failure>) -> Result<Option<A>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Refused(_, message)) => Err(Error::Refused {
                plugin: self.name(),
                event: event.method(),
                message,
            }),
            Err(Failure::TooLong(reason)) => Err(Error::Request {
                plugin: self.name(),
                event: event.method(),
                reason,
            }),
            // Its end is in the log.
            Err(Failure::Broken(_)) => Ok(None),
        }
    }

    /// Tells of a pod.
    ///
    /// # Errors
    /// As [`Plugin::ask`].
    pub(crate) fn tell_pod(&self, event: Event, said: &PodRequest) -> Result<()> {
        self.tell(event, said, || StateChangeEvent {
            event: event as i32,
            pod: said.pod.clone(),
            container: None,
        })
    }

    /// Tells of a container.
    ///
    /// # Errors
    /// As [`Plugin::ask`].
    pub(crate) fn tell_container(&self, event: Event, said: &ContainerRequest) -> Result<()> {
        self.tell(event, said, || StateChangeEvent {
            event: event as i32,
            pod: said.pod.clone(),
            container: said.container.clone(),
        })
    }

    fn tell(
        &self,
        event: Event,
        said: &impl Message,
        old: impl Fn() -> StateChangeEvent,
    ) -> Result<()> {
        if !self.wants(event) {
            return Ok(());
        }
        let may_be_old = event.was_state_change();
        if !(may_be_old && self.old.load(Ordering::Relaxed)) {
            match self.connection.ask::<Empty>(SERVICE, event.method(), said) {
                Err(Failure::Refused(Code::Unimplemented, _)) if may_be_old => {
                    self.old.store(true, Ordering::Relaxed);
                }
                answer => return self.outcome(event, answer).map(drop),
            }
        }
        let answer = self.connection.ask::<Empty>(SERVICE, "StateChange", &old());
        self.outcome(event, answer).map(drop)
    }

    /// Tells it that the runtime ends, and lets it go.
    pub(crate) fn shut_down(&self) {
        // It ends whatever it answers.
        let _ = self.connection.ask::<Empty>(SERVICE, "Shutdown", &Empty {});
        self.end("the engine ends");
    }

    /// Hangs up, and ends the program if it was started here.
    pub(crate) fn end(&self, reason: &str) {
        self.connection.end(reason);
        if let Some(program) = &self.program {
            program.kill();
        }
    }
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Refused(code, message) => format!("{message} ({code:?})"),
        Failure::TooLong(reason) | Failure::Broken(reason) => reason,
    }
}

/// Everything in as few messages as it fits; one at least.
fn parts(pods: Vec<PodSandbox>, containers: Vec<Container>) -> Vec<SynchronizeRequest> {
    let (mut all, mut part, mut length) = (Vec::new(), SynchronizeRequest::default(), 0);
    // With its tag and length before it.
    let size = |length: usize| length + 12;
    let mut room = |next: usize, part: &mut SynchronizeRequest| {
        if length > 0 && length + next > PART {
            let mut full = std::mem::take(part);
            full.more = true;
            all.push(full);
            length = 0;
        }
        length += next;
    };
    for pod in pods {
        room(size(pod.encoded_len()), &mut part);
        part.pods.push(pod);
    }
    for container in containers {
        room(size(container.encoded_len()), &mut part);
        part.containers.push(container);
    }
    all.push(part);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_node_is_told_in_parts_that_fit() {
        let pod = |id: usize| PodSandbox {
            id: id.to_string(),
            ..PodSandbox::default()
        };
        let container = |id: usize| Container {
            id: id.to_string(),
            args: vec!["x".repeat(1 << 20)],
            ..Container::default()
        };
        let all = parts((0..3).map(pod).collect(), (0..9).map(container).collect());
        assert!(all.len() > 2);
        let more: Vec<bool> = all.iter().map(|part| part.more).collect();
        assert!(more[..all.len() - 1].iter().all(|more| *more) && !more[all.len() - 1]);
        assert!(all.iter().all(|part| part.encoded_len() <= PART));
        let pods: usize = all.iter().map(|part| part.pods.len()).sum();
        let containers = all.iter().flat_map(|part| &part.containers);
        let ids: Vec<_> = containers.map(|one| one.id.clone()).collect();
        let wanted: Vec<_> = (0..9).map(|id: usize| id.to_string()).collect();
        assert_eq!((pods, ids), (3, wanted));
        assert_eq!(parts(Vec::new(), Vec::new()).len(), 1);
    }

    #[test]
    fn a_plugin_has_an_index_and_a_name() {
        assert_eq!(check_name("10", "device-injector"), Ok(()));
        for (index, base) in [
            ("1", "a"),
            ("100", "a"),
            ("x1", "a"),
            ("00", ""),
            ("00", "a/b"),
            ("00", "a b"),
            ("٣٤", "a"),
        ] {
            assert!(check_name(index, base).is_err(), "{index} {base}");
        }
    }
}
