//! RestorePod: a new pod with containers that go on where those of a checkpoint were. Names, places, limits and
//! confinement are the request's; memory and files are the checkpoint's. Each container stands as one that was
//! created, and its start lets it go on. Nothing is left of a restore that fails.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::cancel::Cancel;
use super::confinement;
use super::manifest::Member;
use super::pod::no_options;
use super::source::{Part, Source};
use super::{FIELD, criu, open_dir, switched_off};
use crate::config::CheckpointLevel;
use crate::container::ContainerSpec;
use crate::container::create::Former;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, needs};
use crate::pod::{NamespaceMode, PodSpec};

const VERB: &str = "restore";

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct PodRestore {
    /// The directory that a checkpoint was written to. It is only read.
    pub directory: PathBuf,
    /// The pod to make.
    pub pod: PodSpec,
    /// Its containers: one for each of the checkpoint, by name.
    pub containers: Vec<ContainerSpec>,
    /// Options; none is known.
    pub options: BTreeMap<String, String>,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredPod {
    /// The pod's id.
    pub id: String,
    /// Name and id of each container, in the order of the request.
    pub containers: Vec<(String, String)>,
}

/// A container of the request with its part of the checkpoint.
struct Wanted {
    spec: ContainerSpec,
    part: Part,
}

impl Engine {
    /// Makes a pod with its containers from a checkpoint, within the time of `cancel`. One that an earlier try has
    /// made whole is returned as it is.
    ///
    /// # Errors
    /// A directory that holds no checkpoint or that others may change, containers that are not those of the
    /// checkpoint or are to be confined otherwise, an option, a handler that cannot restore, restores that are
    /// switched off, no criu, one that fails, or a time that is over. Nothing is left then but the checkpoint.
    pub fn restore_pod(&self, asked: PodRestore, cancel: &Cancel) -> Result<RestoredPod> {
        no_options(&asked.options)?;
        if self.config().checkpoints() != CheckpointLevel::CheckpointRestore {
            return Err(switched_off("restores from checkpoints"));
        }
        let handler = self.handlers().chosen(&asked.pod.runtime_handler)?;
        needs(handler, Ability::Restore)?;
        let criu = criu()?;
        let source = Source::open(&asked.directory)?;
        let wanted = self.wanted(&source, &asked.pod, asked.containers)?;
        cancel.check(VERB, &asked.pod.name)?;
        let (id, made) = self.make_pod(asked.pod)?;
        if !made {
            return self.made_before(&id, &wanted);
        }
        let made = MadePod {
            engine: self,
            id: Some(id.clone()),
        };
        self.fill_shm(&id, &source)?;
        let mut containers = Vec::new();
        for one in wanted {
            cancel.check(VERB, &id)?;
            let name = one.spec.name.clone();
            let was = one.part.spec()?;
            let former = Former {
                difference: &one.part.difference()?,
                agrees: &|now| match confinement::difference(&was, now) {
                    None => Ok(()),
                    Some(what) => Err(Error::invalid(
                        format!("container_configs[{name}].{what}"),
                        "differs from that of the checkpoint, and a restored process keeps what confined it",
                    )),
                },
                images: one.part.images_path(),
                criu: &criu,
                cancel,
            };
            let made = self.make_container(&id, one.spec, Some(&former));
            // A time that is over is the reason of what failed then.
            cancel.check(VERB, &id)?;
            containers.push((name, made?));
        }
        made.keep();
        Ok(RestoredPod { id, containers })
    }

    /// The containers of the request, each with its part; they must be those of the checkpoint.
    fn wanted(
        &self,
        source: &Source,
        pod: &PodSpec,
        specs: Vec<ContainerSpec>,
    ) -> Result<Vec<Wanted>> {
        let members = &source.manifest.containers;
        let wrong = |reason: String| Err(Error::invalid("container_configs", reason));
        if specs.len() != members.len() {
            return wrong(format!(
                "there are {} and {} in the checkpoint",
                specs.len(),
                members.len()
            ));
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        for spec in specs {
            if wanted.iter().any(|one| one.spec.name == spec.name) {
                return wrong(format!("{:?} is there twice", spec.name));
            }
            let place = members.iter().position(|one| one.name == spec.name);
            let Some((place, member)) = place.and_then(|at| Some((at, members.get(at)?))) else {
                return wrong(format!("the checkpoint has no container {:?}", spec.name));
            };
            self.may_restore(pod, &spec, member)?;
            let part = source.part(place)?;
            wanted.push(Wanted { spec, part });
        }
        Ok(wanted)
    }

    /// Can the container of the checkpoint become that of the request?
    fn may_restore(&self, pod: &PodSpec, spec: &ContainerSpec, member: &Member) -> Result<()> {
        let field = |name: &str| format!("container_configs[{}].{name}", spec.name);
        let image = self.image(&spec.image)?;
        if image.id != member.image_id {
            let reason = format!(
                "is {}, and the checkpoint's container is of {}",
                image.id, member.image_id
            );
            return Err(Error::invalid(field("image"), reason));
        }
        if spec.tty || member.tty {
            return Err(Error::Unsupported(format!(
                "{}: a container with a terminal, restored from a checkpoint,",
                field("tty")
            )));
        }
        if spec.stdin != member.stdin {
            return Err(Error::invalid(
                field("stdin"),
                "differs from the checkpoint",
            ));
        }
        let modes = &spec.security.namespaces;
        if modes.pid != NamespaceMode::Container {
            return Err(Error::Unsupported(format!(
                "{}: a restore into a PID namespace that is not the container's own",
                field("linux.security_context.namespace_options.pid")
            )));
        }
        if pod.namespaces.users.ids().is_some() || modes.users.ids().is_some() {
            return Err(Error::Unsupported(
                "namespace_options.userns_options: a restore into a user namespace".to_owned(),
            ));
        }
        Ok(())
    }

    /// What an earlier try has made, if it has made all.
    fn made_before(&self, id: &str, wanted: &[Wanted]) -> Result<RestoredPod> {
        let filter = crate::ContainerFilter {
            pod_id: Some(id.to_owned()),
            ..Default::default()
        };
        let there = self.containers(&filter)?;
        let of = |one: &Wanted| {
            let found = there.iter().find(|container| {
                let spec = &container.spec;
                (&spec.name, spec.attempt) == (&one.spec.name, one.spec.attempt)
            });
            found.map(|container| (one.spec.name.clone(), container.id.clone()))
        };
        let containers: Option<Vec<_>> = wanted.iter().map(of).collect();
        match containers {
            Some(containers) => Ok(RestoredPod {
                id: id.to_owned(),
                containers,
            }),
            None => Err(Error::NameTaken {
                what: "pod",
                name: id.to_owned(),
                holder: "a pod that was not restored from this checkpoint".to_owned(),
            }),
        }
    }

    /// Puts back what was in the pod's /dev/shm.
    fn fill_shm(&self, pod: &str, source: &Source) -> Result<()> {
        let Some(file) = source.shm()? else {
            return Ok(());
        };
        let record = self.pod_record(pod)?;
        let own = record.is_some_and(|one| one.spec.namespaces.ipc != NamespaceMode::Node);
        if !own {
            return Err(Error::invalid(
                "namespace_options.ipc",
                "is NODE, and the checkpoint has a /dev/shm of the pod's own",
            ));
        }
        let dir = open_dir(&self.layout().pod(pod).join("shm"))?;
        let read = self
            .store()
            .read_directory(dir.as_fd(), pod, BufReader::new(file));
        read.map_err(|error| Error::invalid(FIELD, format!("shm.tar: {error}")))
    }
}

/// A pod that goes again unless it is kept.
struct MadePod<'a> {
    engine: &'a Engine,
    id: Option<String>,
}

impl MadePod<'_> {
    fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for MadePod<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let gone = self
            .engine
            .stop_pod(&id)
            .and_then(|()| self.engine.remove_pod(&id));
        if let Err(error) = gone {
            tracing::warn!(pod = %id, %error, "a pod that was not restored is left until it is removed");
        }
    }
}
