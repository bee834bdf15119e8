//! CheckpointPod: all containers that run in a pod, as they are at one moment, into an empty directory of the
//! caller's.
//!
//! ```text
//! DIRECTORY/manifest.json      written last
//!           shm.tar            the pod's /dev/shm
//!           containers/0/…     the files of each container: capture.rs
//! ```

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

use super::cancel::{Cancel, While};
use super::capture::{Capture, Removed, new_file};
use super::manifest::{Manifest, Member};
use super::open_dir;
use super::place::EmptyDirectory;
use crate::container::{Container, ContainerState};
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, Frozen, needs};
use crate::pod::{NamespaceMode, Pod, PodState};

const VERB: &str = "checkpoint";

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct PodCheckpoint {
    /// The pod.
    pub pod: String,
    /// The directory: absolute, empty, the caller's own.
    pub directory: std::path::PathBuf,
    /// The ids of the containers: all that run, each once.
    pub containers: Vec<String>,
    /// Options; none is known.
    pub options: BTreeMap<String, String>,
}

impl Engine {
    /// Writes the running containers of a ready pod down as they are at one moment, within the time of
    /// `cancel`. They run on.
    ///
    /// # Errors
    /// An unknown pod or one that is not ready, containers that are not exactly those that run, a directory that
    /// is not empty or others may change, an option, a handler that cannot, checkpoints that are switched off, no
    /// criu, one that fails, or a time that is over. The directory is empty then, and all run on.
    pub fn checkpoint_pod(&self, asked: &PodCheckpoint, cancel: &Cancel) -> Result<()> {
        no_options(&asked.options)?;
        let pod = self.ready_pod(&asked.pod)?;
        let members = self.exactly_running(&pod.id, &asked.containers)?;
        let record = self.pod_record(&pod.id)?;
        let handler = record
            .as_ref()
            .map(|record| self.handler_of(record))
            .transpose()?;
        handler.map_or(Ok(()), |handler| needs(handler, Ability::Checkpoint))?;
        let criu = self.criu_to_checkpoint()?;
        let directory = EmptyDirectory::open("output_path", &asked.directory)?;
        let _stays = self.pod_stays(&pod.id)?;
        let within = directory.path();
        let places: Vec<_> = (0..members.len())
            .map(|number| within.join("containers").join(number.to_string()))
            .collect();
        for place in &places {
            disk::make_dir(place)?;
        }
        let captures: Vec<Capture<'_>> = members
            .iter()
            .zip(&places)
            .map(|(container, into)| Capture {
                engine: self,
                container,
                into,
                cancel,
            })
            .collect();
        let all: Vec<&Container> = members.iter().collect();
        let shm = self.with_frozen(&pod.id, &all, cancel, |frozen: &mut dyn Frozen| {
            // None has begun meanwhile that would go on while the others stand still.
            self.exactly_running(&pod.id, &asked.containers)?;
            for capture in &captures {
                capture.while_frozen(frozen, &criu, Removed::Marked)?;
            }
            self.write_shm(&pod, &within.join("shm.tar"), cancel)
        })?;
        captures.iter().try_for_each(Capture::describe)?;
        cancel.check(VERB, &pod.id)?;
        let manifest = Manifest::of(members.iter().map(member).collect(), shm);
        directory.sync()?;
        manifest.write(&within)?;
        directory.keep()
    }

    fn ready_pod(&self, id: &str) -> Result<Pod> {
        let pod = self.pod(id)?;
        match pod.state {
            PodState::Ready => Ok(pod),
            PodState::NotReady => Err(Error::State {
                verb: VERB,
                what: "pod",
                id: pod.id,
                state: "not ready".to_owned(),
            }),
        }
    }

    /// The containers of those ids, if they are all of the pod's that run, each once.
    fn exactly_running(&self, pod: &str, ids: &[String]) -> Result<Vec<Container>> {
        let wrong = |reason: String| Err(Error::invalid("container_ids", reason));
        if ids.is_empty() {
            return wrong("must not be empty".to_owned());
        }
        let mut found: Vec<Container> = Vec::new();
        for id in ids {
            if !disk::is_id(id) {
                return wrong(format!("{id:?} is no whole id"));
            }
            let container = self.container(id)?;
            if container.pod_id != pod {
                return wrong(format!("{id} is a container of another pod"));
            }
            if found.iter().any(|one| one.id == container.id) {
                return wrong(format!("{id} is there twice"));
            }
            if !matches!(container.state, ContainerState::Running { .. }) {
                return Err(crate::container::life::state_error(VERB, &container));
            }
            found.push(container);
        }
        let filter = crate::ContainerFilter {
            pod_id: Some(pod.to_owned()),
            ..Default::default()
        };
        for other in self.containers(&filter)? {
            let runs = matches!(other.state, ContainerState::Running { .. });
            if runs && !ids.contains(&other.id) {
                return wrong(format!(
                    "{} runs in the pod, too, and is not named",
                    other.id
                ));
            }
        }
        Ok(found)
    }

    /// The pod's /dev/shm, if it has one of its own.
    fn write_shm(&self, pod: &Pod, path: &Path, cancel: &Cancel) -> Result<bool> {
        if pod.spec.namespaces.ipc == NamespaceMode::Node {
            return Ok(false);
        }
        let dir = open_dir(&self.layout().pod(&pod.id).join("shm"))?;
        let mut out = BufWriter::new(While {
            out: new_file(path)?,
            cancel,
        });
        let written = self.store().write_directory(dir.as_fd(), &pod.id, &mut out);
        cancel.check(VERB, &pod.id)?;
        written?;
        out.flush().map_err(Error::io("write", path))?;
        Ok(true)
    }

    /// Does something while containers of a pod are frozen; they go on before this returns, whatever came of it.
    pub(super) fn with_frozen<T>(
        &self,
        pod: &str,
        containers: &[&Container],
        cancel: &Cancel,
        work: impl FnOnce(&mut dyn Frozen) -> Result<T>,
    ) -> Result<T> {
        let gone = || Error::NotFound {
            what: "pod",
            name: pod.to_owned(),
        };
        cancel.check(VERB, pod)?;
        let record = self.pod_record(pod)?.ok_or_else(gone)?;
        let handler = self.handler_of(&record)?;
        let dir = self.layout().pod(pod);
        let ids: Vec<String> = containers.iter().map(|one| one.id.clone()).collect();
        let mut frozen = handler.freeze(record.at(&dir), &ids, cancel)?;
        let done = work(&mut *frozen);
        let thawed = frozen.thaw();
        // One that was let go on early says why the rest failed.
        let done = match cancel.check(VERB, pod) {
            Err(over) => Err(over),
            Ok(()) => done,
        }?;
        thawed.map(|()| done)
    }
}

/// Options are the runtime's own to define, and this one has none.
pub(super) fn no_options(options: &BTreeMap<String, String>) -> Result<()> {
    match options.keys().next() {
        None => Ok(()),
        Some(key) => Err(Error::invalid(
            "options",
            format!("{key:.80?} is not known: there are none"),
        )),
    }
}

fn member(container: &Container) -> Member {
    Member {
        name: container.spec.name.clone(),
        image_id: container.image_id.clone(),
        tty: container.spec.tty,
        stdin: container.spec.stdin,
    }
}
