//! What `floe run` and `floe create` have in common: the container that is asked for, and what is needed to make it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::container::RestartPolicy;
use engine::pod::NamespaceMode;
use engine::volume::VolumeSpec;
use engine::{ContainerFilter, ContainerSpec, Engine, Pod, PodFilter, PodSpec};

use super::options;
use crate::cmd::pull::{PullFlags, WHEN};
use crate::cmd::{rm, stop};
use crate::containers_conf::Containers;
use crate::failure::Failure;
use crate::global::Global;
use crate::{names, terminal};

/// How `--pod` begins that makes one.
const NEW_POD: &str = "new:";

/// A container.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// Remove the container when it has ended
    #[arg(long)]
    pub(super) rm: bool,
    /// Keep standard input open
    #[arg(long, short)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    pub(super) tty: bool,
    /// When to pull: missing, always, newer, never
    #[arg(long, default_value = "missing", value_parser = WHEN)]
    pull: String,
    #[command(flatten)]
    from: PullFlags,
    /// Do not show how the image is pulled
    #[arg(long, short)]
    quiet: bool,
    /// Name [default: two words at random]
    #[arg(long)]
    name: Option<String>,
    /// Remove a container that has the name
    #[arg(long)]
    replace: bool,
    /// Write the container's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(super) cidfile: Option<PathBuf>,
    /// The pod that it is in, or new:NAME to make one
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// File with the id of that pod
    #[arg(long, value_name = "FILE", conflicts_with = "pod")]
    pod_id_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) container: options::Options,
    /// Image, then a command and arguments instead of its own, which may begin with a dash
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE")]
    words: Vec<String>,
}

/// What is to be made, and the file for its id.
pub(crate) struct Asked {
    pub(crate) pod: Place,
    pub(crate) container: ContainerSpec,
    pub(crate) id_file: IdFile,
    pub(crate) volumes: NewVolumes,
}

/// The pod of a container.
pub(crate) enum Place {
    /// One of its own.
    Own(Box<PodSpec>),
    /// One that a person made for itself, which is there and stays.
    Shared(Arc<Pod>),
}

/// Volumes that were made for a container: gone again unless there is such a container.
pub(crate) struct NewVolumes {
    engine: Engine,
    names: Vec<String>,
}

impl NewVolumes {
    pub(crate) fn keep(mut self) {
        self.names.clear();
    }
}

impl Drop for NewVolumes {
    fn drop(&mut self) {
        for name in &self.names {
            // It is listed, and can be removed by its name.
            let _ = self.engine.remove_volume(name);
        }
    }
}

impl Request {
    /// Takes from containers.conf what was not said.
    pub(crate) fn take_defaults(&mut self) -> Result<(), Failure> {
        let joins = self.joins();
        self.container.take_defaults(&Containers::load()?, joins)
    }

    fn of_image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What stands behind the image, without dashes that only divide.
    fn command(&self) -> &[String] {
        match self.words.get(1..).unwrap_or_default() {
            [dashes, rest @ ..] if dashes == "--" => rest,
            all => all,
        }
    }

    /// Is it made in a pod that is there, whose network is what it is?
    fn joins(&self) -> bool {
        let is_new = |name: &String| name.starts_with(NEW_POD);
        self.pod_id_file.is_some() || self.pod.as_ref().is_some_and(|name| !is_new(name))
    }

    /// Pulls what is missing, and says what is to be made. Its name is free then.
    pub(crate) fn asked(&self, global: &Global, engine: &Engine) -> Result<Asked, Failure> {
        self.from.must_run_here()?;
        let name = self.name.clone().map_or_else(names::invent, Ok)?;
        names::check(&name)?;
        let id_file = self.reserve()?;
        let shared = self.shared(engine)?;
        let (mut pod, mut container) = self.container.specs(&name, self.of_image())?;
        if let Some(shared) = &shared {
            if self.joins() {
                self.container.must_leave_the_network()?;
            }
            let (own, of_pod) = (&mut container.security.namespaces, &shared.spec.namespaces);
            (own.network, own.ipc) = (of_pod.network, of_pod.ipc);
            own.users = of_pod.users.clone();
            if of_pod.pid == NamespaceMode::Pod {
                own.pid = of_pod.pid;
            }
        }
        // One that was invented is looked for where pods are made, which reads no other pod's record.
        if self.name.is_some() {
            free_name(engine, &name, self.replace)?;
        }
        container.command = self.container.entrypoint_words();
        container.args = self.command().to_vec();
        container.stdin = self.interactive;
        container.tty = self.tty;
        // The program may ask for it before we could tell it by the attach.
        container.console_size = self.tty.then(terminal::size).flatten();
        container.image = self.image(global, engine, self.of_image())?;
        let config = engine.image_config(&engine.image(&container.image)?)?;
        self.container
            .add_variables(&mut container, &config.config.env);
        let declared = config.config.volumes.keys().map(String::as_str);
        self.container
            .mounts_besides(engine, &mut container, declared)?;
        if self.container.publishes_all() {
            let named = config.config.exposed_ports.into_keys();
            self.container.publish(&mut pod, named)?;
        }
        for volume in options::volume_images(&mut container) {
            volume.image = self.image(global, engine, &volume.image)?;
        }
        let groups = self.container.identity().groups(engine, &container.image)?;
        container.security.supplemental_groups = groups;
        let health = self.container.health(config.config.healthcheck.as_ref())?;
        let extras = container.extras.get_or_insert_default();
        extras.health = health.map(Box::new);
        extras.remove = self.rm;
        if self.rm && extras.restart != RestartPolicy::No {
            return Err(Failure::new(
                "the --rm option conflicts with --restart, when the restartPolicy is not \"\" and \"no\"",
            ));
        }
        let volumes = new_volumes(engine, &mut container)?;
        let pod = match shared {
            Some(shared) => Place::Shared(shared),
            None => Place::Own(Box::new(pod)),
        };
        Ok(Asked {
            pod,
            container,
            id_file,
            volumes,
        })
    }

    /// The pod that is shared, if one is; made if that is asked for.
    fn shared(&self, engine: &Engine) -> Result<Option<Arc<Pod>>, Failure> {
        let named = names::of_files(self.pod_id_file.as_slice(), false)?;
        let Some(text) = self.pod.as_ref().or(named.first()) else {
            return Ok(None);
        };
        let Some(name) = text.strip_prefix(NEW_POD) else {
            return names::find_pod(engine, text).map(Some);
        };
        names::check(name)?;
        let spec = PodSpec {
            by_itself: true,
            ..self.container.specs(name, self.of_image())?.0
        };
        let id = engine.define_pod(spec)?;
        engine.keep_pod_definition(&id)?;
        names::find_pod(engine, &id).map(Some)
    }

    /// Makes the file for the id, so that two commands do not take the same.
    fn reserve(&self) -> Result<IdFile, Failure> {
        let Some(path) = self.cidfile.clone() else {
            return Ok(IdFile(None));
        };
        let mut options = std::fs::OpenOptions::new();
        match options.write(true).create_new(true).open(&path) {
            Ok(_) => Ok(IdFile(Some(path))),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "container id file exists. Ensure another container is not using it or delete {}",
                path.display()
            ))),
            Err(e) => Err(Failure::new(format!("create {}: {e}", path.display()))),
        }
    }

    /// The id of an image, pulled if need be.
    fn image(&self, global: &Global, engine: &Engine, name: &str) -> Result<String, Failure> {
        let stored = match self.pull.as_str() {
            "always" => None,
            _ => engine.find_image(name)?,
        };
        let pull = || self.from.pull(global, engine, name, self.quiet);
        match (self.pull.as_str(), stored) {
            ("newer", Some(stored)) => Ok(pull().unwrap_or(stored.id)),
            (_, Some(stored)) => Ok(stored.id),
            ("never", None) => Err(Failure::new(format!("{name}: image not known"))),
            (_, None) => pull(),
        }
    }
}

/// The file of the container's id: gone again unless there is such a container.
pub(crate) struct IdFile(Option<PathBuf>);

impl IdFile {
    pub(crate) fn keep(mut self, id: &str) -> Result<(), Failure> {
        match self.0.take() {
            Some(path) => write(&path, id),
            None => Ok(()),
        }
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| Failure::new(format!("write {}: {e}", path.display())))
}

/// Makes the volumes of a container that are missing, and says where all of them are.
fn new_volumes(engine: &Engine, container: &mut ContainerSpec) -> Result<NewVolumes, Failure> {
    let mut made = NewVolumes {
        engine: engine.clone(),
        names: Vec::new(),
    };
    for mount in &mut container.mounts {
        let Some(volume) = &mut mount.volume else {
            continue;
        };
        let found = match volume.name.is_empty() {
            true => engine.create_volume(&VolumeSpec::default())?,
            false => engine.use_volume(&volume.name)?,
        };
        if volume.name.is_empty() {
            made.names.push(found.name.clone());
        }
        (volume.name, mount.host_path) = (found.name, found.mountpoint);
    }
    Ok(made)
}

/// Sees to it that nobody has the name.
fn free_name(engine: &Engine, name: &str, replace: bool) -> Result<(), Failure> {
    if !is_taken(engine, name)? {
        return Ok(());
    }
    if !replace {
        return Err(Failure::new(format!(
            "the container name {name:?} is already in use: remove that container first, choose another name, \
             or use --replace"
        )));
    }
    let old = names::find(engine, name).map_err(|failure| match failure.is_missing() {
        true => Failure::new(format!(
            "the name {name:?} is that of a pod: floe pod rm removes it"
        )),
        false => failure,
    })?;
    if old.runs() {
        stop::stop(engine, &old, Duration::ZERO)?;
    }
    rm::remove(engine, &old)?;
    rm::remove_volumes(engine, &old)
}

/// Has a pod or a container of a person's that name?
pub(crate) fn is_taken(engine: &Engine, name: &str) -> Result<bool, Failure> {
    let of_people = Some(engine::pod::Origin::Cli);
    let pods = engine.pods(&PodFilter {
        origin: of_people,
        ..PodFilter::default()
    })?;
    if pods.iter().any(|pod| pod.spec.name == name) {
        return Ok(true);
    }
    // Others have the names of their pods.
    for pod in pods.iter().filter(|pod| pod.spec.by_itself) {
        let filter = ContainerFilter {
            pod_id: Some(pod.id.clone()),
            ..ContainerFilter::default()
        };
        let mut containers = engine.containers(&filter)?.into_iter();
        if containers.any(|container| container.spec.name == name) {
            return Ok(true);
        }
    }
    Ok(false)
}
