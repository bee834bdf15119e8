//! CreateContainer: everything up to the gate at which the container's process waits for start.
//! Whatever fails is undone by [`Making`]'s drop; a kill in the middle leaves a directory
//! without `container.json`, which the next try or the next start of the engine removes.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::spec::Spec;
use store::{Access, RootFilesystem};

use super::declared;
use super::record::ContainerRecord;
use super::volumes::{self, Mounted};
use super::{ContainerSpec, MOUNT_OPTIONS, Propagation, ResolvedUser, RestartPolicy};
use crate::annotations::Asked;
use crate::checkpoint::Cancel;
use crate::config::RuntimeEntry;
use crate::disk::{self, Lock, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, ContainerPlan, Handler, LIMIT, Log, OnExit, Sandbox};
use crate::image::ImageRecord;
use crate::oci;
use crate::plugins::NewContainer;
use crate::pod::link_logs;
use crate::pod::record::{PodRecord, Stage};
use crate::pod::{NamespaceMode, Origin, check_user};
use crate::record::UnknownFields;
use crate::steps::step;
use crate::user;
use image::config::ContainerConfig;

impl Engine {
    /// Makes a container in a ready pod and returns its id; one of the same name and attempt
    /// that exists is returned as it is, so that a caller who gave up may ask again.
    ///
    /// # Errors
    /// An unknown pod, one that is not ready, an image that is not in the store, a request that
    /// cannot be accepted, or a step that failed; nothing is left behind then.
    pub fn create_container(&self, pod: &str, spec: ContainerSpec) -> Result<String> {
        self.make_container(pod, spec, None)
    }

    /// As [`Engine::create_container`], from its image alone or with what another container was.
    ///
    /// # Errors
    /// As that, and another container that it cannot go on from.
    pub(crate) fn make_container(
        &self,
        pod: &str,
        mut spec: ContainerSpec,
        former: Option<&Former<'_>>,
    ) -> Result<String> {
        validate(&spec)?;
        let (pod, sandbox) = self.pod_for_container(pod)?;
        let admitted = match self.admit(&pod, &spec)? {
            Ok(admitted) => admitted,
            Err(holder) => return Ok(holder),
        };
        let image = self.image_to_run(&pod, &spec)?;
        let volumes = self.volume_images(&pod, &mut spec)?;
        let making = Making::begin(self, admitted, &pod)?;
        let config = self.image_config(&image)?.config;
        let mut record = making.record(spec, &image, &config)?;
        let root = step("writable layer", || {
            self.store().create_writable_layer(&making.id, &image)
        })?;
        let new = making.build(&mut record, (&sandbox, &root), &config, (&volumes, former))?;
        making.commit(&record, new)
    }

    /// Lets a container into a pod, which stays as long as the answer does; or who is there already and is what is
    /// asked for.
    ///
    /// # Errors
    /// A pod that is gone or may not have such a container, or a name that is taken.
    pub(super) fn admit(
        &self,
        pod: &PodRecord,
        spec: &ContainerSpec,
    ) -> Result<Result<Admitted<'_>, String>> {
        let handler = self.may_be_in(pod, spec)?;
        let lock = self.layout().pod(&pod.id).join("lock");
        let pod_stays = Lock::shared_if_there(&lock)?.ok_or_else(|| Error::NotFound {
            what: "pod",
            name: pod.id.clone(),
        })?;
        let name = self.container_name(pod, spec)?;
        Ok(name.map(|name| Admitted {
            handler,
            name,
            pod_stays,
        }))
    }

    /// The handler of a pod, if such a container may be in it.
    pub(super) fn may_be_in(&self, pod: &PodRecord, spec: &ContainerSpec) -> Result<&dyn Handler> {
        let handler = self.handler_of(pod)?;
        if let Some(lacking) = handler.abilities().lacking(&Ability::of_container(spec)) {
            return Err(handler.lacks(lacking));
        }
        if !spec
            .security
            .namespaces
            .users
            .agrees_with(&pod.spec.namespaces.users)
        {
            return Err(Error::invalid(
                "namespace_options.userns_options",
                "differs from that of the pod, whose user namespace its containers are in",
            ));
        }
        self.check_memory(pod, spec.resources.memory_limit)?;
        Ok(handler)
    }

    /// The name of a new container, or who has it and is what is asked for.
    fn container_name(
        &self,
        pod: &PodRecord,
        spec: &ContainerSpec,
    ) -> Result<Result<Reservation, String>> {
        let parts = ContainerRecord::name_parts(&pod.id, spec);
        let mut name = Reservation::lock(&self.layout().names(), &parts)?;
        if let Some(holder) = name.holder() {
            match ContainerRecord::read(&self.layout().container(&pod.id, &holder)) {
                // Nobody can know what it was, and who asks does not know of it.
                Err(error) if error.is_damage() => self.discard_container(&pod.id, &holder)?,
                other => match other? {
                    Some(_) if pod.spec.origin == Origin::Cri => return Ok(Err(holder)),
                    Some(_) => {
                        return Err(Error::NameTaken {
                            what: "container",
                            name: spec.name.clone(),
                            holder,
                        });
                    }
                    None => self.discard_container(&pod.id, &holder)?,
                },
            }
            name.forget();
        }
        Ok(Ok(name))
    }

    /// The image of a container: one that its pod may use, and that something can be run of.
    pub(super) fn image_to_run(
        &self,
        pod: &PodRecord,
        spec: &ContainerSpec,
    ) -> Result<ImageRecord> {
        let image = self.image(&spec.image)?;
        if image.is_artifact() {
            let reason = format!(
                "{} is no image of a container but an artifact: it can be a volume (mounts.image)",
                spec.named_image()
            );
            return Err(Error::invalid("config.image", reason));
        }
        if pod.spec.origin == Origin::Cri {
            // People's own containers were let in when they pulled, as with podman.
            self.admit_stored(&image, spec.named_image(), &pod.spec.namespace)?;
        }
        Ok(image)
    }

    /// Is the limit as high as the runtime handler of the pod needs it? 0: there is none.
    pub(crate) fn check_memory(&self, pod: &PodRecord, limit: i64) -> Result<()> {
        let entry = self.runtime_entry(&pod.spec.runtime_handler);
        // It was read when the configuration was.
        let least = entry.map_or(0, |entry| entry.min_memory().unwrap_or(0));
        if limit <= 0 || limit >= least {
            return Ok(());
        }
        Err(Error::invalid(
            "resources.memory_limit_in_bytes",
            format!(
                "{limit} is below the {least} that the runtime handler needs (container_min_memory)"
            ),
        ))
    }

    pub(super) fn pod_for_container(&self, id: &str) -> Result<(PodRecord, Sandbox)> {
        let missing = || Error::NotFound {
            what: "pod",
            name: id.to_owned(),
        };
        let full = self.find_pod_id(id)?.ok_or_else(missing)?;
        let record = self.pod_record(&full)?.ok_or_else(missing)?;
        let made = matches!(record.stage, Stage::Made { .. });
        if made && let Some(sandbox) = self.sandbox(&record)? {
            return Ok((record, sandbox));
        }
        let state = if made {
            "not ready: its supervisor has ended"
        } else {
            "not ready"
        };
        Err(Error::State {
            verb: "create a container in",
            what: "pod",
            id: full,
            state: state.into(),
        })
    }
}

/// What no later step could say as clearly.
pub(super) fn validate(spec: &ContainerSpec) -> Result<()> {
    if spec.image.is_empty() {
        return Err(Error::invalid("config.image", "must not be empty"));
    }
    if spec.security.run_as_group.is_some()
        && spec.security.run_as_user.is_none()
        && spec.security.run_as_username.is_empty()
    {
        return Err(Error::invalid(
            "security_context.run_as_group",
            "needs run_as_user or run_as_username",
        ));
    }
    if spec.security.namespaces.network == NamespaceMode::Container {
        return Err(Error::invalid(
            "namespace_options.network",
            "must be POD or NODE",
        ));
    }
    for mount in &spec.mounts {
        let field = format!("mounts[{}]", mount.container_path.display());
        if !mount.container_path.is_absolute() {
            return Err(Error::invalid(field, "container_path must be absolute"));
        }
        let bad = mount
            .options
            .iter()
            .find(|option| !MOUNT_OPTIONS.contains(&option.as_str()));
        if let Some(bad) = bad {
            let reason = format!(
                "mount_options: {bad:?} is none of {}",
                MOUNT_OPTIONS.join(", ")
            );
            return Err(Error::invalid(field, reason));
        }
        if mount.image.is_none() && !mount.host_path.is_absolute() {
            return Err(Error::invalid(
                field,
                format!("host_path {:?} must be absolute", mount.host_path),
            ));
        }
        if mount.recursive_read_only
            && (!mount.readonly || mount.propagation != Propagation::Private)
        {
            return Err(Error::invalid(
                field,
                "RROUnsupported: recursive_read_only needs readonly and PROPAGATION_PRIVATE",
            ));
        }
    }
    volumes::validate(spec)
}

/// What a container was that another one goes on from.
pub(crate) struct Former<'a> {
    /// What it had written, as an archive of a layer.
    pub(crate) difference: &'a File,
    /// Does the new config.json let it go on as it was?
    pub(crate) agrees: &'a dyn Fn(&Spec) -> Result<()>,
    /// criu's images.
    pub(crate) images: PathBuf,
    pub(crate) criu: &'a Path,
    /// Until when it may be made.
    pub(crate) cancel: &'a Cancel,
}

/// A container that may be made in its pod, under a name that is its own.
pub(super) struct Admitted<'a> {
    handler: &'a dyn Handler,
    name: Reservation,
    pod_stays: Lock,
}

/// A container that is being made. Dropped before [`Making::commit`], it takes everything back.
pub(super) struct Making<'a> {
    engine: &'a Engine,
    handler: &'a dyn Handler,
    pod: &'a PodRecord,
    pub(super) id: String,
    bundle: PathBuf,
    name: Option<Reservation>,
    /// Until all of it is made, or taken back.
    _pod_stays: Option<Lock>,
}

impl<'a> Making<'a> {
    pub(super) fn begin(
        engine: &'a Engine,
        admitted: Admitted<'a>,
        pod: &'a PodRecord,
    ) -> Result<Self> {
        let Admitted {
            handler,
            mut name,
            pod_stays,
        } = admitted;
        let id = disk::new_id()?;
        name.hold(&id)?;
        let bundle = engine.layout().container(&pod.id, &id);
        let making = Self {
            engine,
            handler,
            pod,
            id,
            bundle,
            name: Some(name),
            _pod_stays: Some(pod_stays),
        };
        disk::make_dir(&making.bundle)?;
        Ok(making)
    }

    /// One that was made before, in its directory; the caller has its pod's lock. Dropped, it takes nothing back.
    pub(super) fn again(
        engine: &'a Engine,
        handler: &'a dyn Handler,
        pod: &'a PodRecord,
        id: &str,
    ) -> Self {
        Self {
            bundle: engine.layout().container(&pod.id, id),
            id: id.to_owned(),
            engine,
            handler,
            pod,
            name: None,
            _pod_stays: None,
        }
    }

    /// What is remembered of it.
    pub(super) fn record(
        &self,
        spec: ContainerSpec,
        image: &ImageRecord,
        config: &ContainerConfig,
    ) -> Result<ContainerRecord> {
        let user = user::resolve(self.engine.store(), image, &spec.security)?;
        let named = image.repo_digests.first().unwrap_or(&image.id);
        self.record_of(spec, (&image.id, named), user, config)
    }

    /// The same of a container whose image, by id and name, nothing else is known of.
    pub(super) fn record_of(
        &self,
        spec: ContainerSpec,
        (image_id, image_ref): (&str, &str),
        user: ResolvedUser,
        config: &ContainerConfig,
    ) -> Result<ContainerRecord> {
        if let Some(ids) = self.pod.spec.namespaces.users.ids() {
            let gids: Vec<u32> = [user.gid].into_iter().chain(user.groups.clone()).collect();
            check_user(ids, user.uid, &gids)?;
        }
        Ok(ContainerRecord {
            id: self.id.clone(),
            pod_id: self.pod.id.clone(),
            created_at: disk::now_ns(),
            image_id: image_id.to_owned(),
            image_ref: image_ref.to_owned(),
            log_path: self.log_path(&spec),
            user,
            stop_signal: oci::stop_signal(&spec, config)?,
            cgroup: ContainerRecord::cgroup_of(self.pod, &self.id),
            handler: self.pod.handler.clone(),
            args: oci::arguments(&spec, config)?,
            spec,
            kept: UnknownFields::default(),
        })
    }

    fn log_path(&self, spec: &ContainerSpec) -> Option<PathBuf> {
        let relative = spec.log_path.as_ref()?;
        Some(self.log_directory().join(relative))
    }

    /// Where the container's log is, without links below.
    fn log_directory(&self) -> PathBuf {
        let config = self.engine.config();
        if self.pod.spec.origin == Origin::Cli {
            // Beside the writable layer, so that it goes with it.
            return config.root_table.root.join("containers").join(&self.id);
        }
        let directory = self.pod.spec.log_directory.clone();
        directory.unwrap_or_else(|| config.root_table.log_dir.clone())
    }

    /// What is in its root file system beside the image, config.json, and the process at its gate.
    pub(super) fn build(
        &self,
        record: &mut ContainerRecord,
        (sandbox, root): (&Sandbox, &RootFilesystem),
        image_config: &ContainerConfig,
        (volumes, former): (&[(usize, ImageRecord)], Option<&Former<'_>>),
    ) -> Result<Option<NewContainer<'a>>> {
        if let Some(former) = former {
            root.read_difference(BufReader::with_capacity(1 << 20, former.difference))?;
        }
        self.engine
            .begin_volumes(&record.spec, &record.user, root, |root| {
                declared::mounted(root, &self.bundle, Access::ReadOnly)
            })?;
        let inputs = oci::Inputs {
            runtime: &self.engine.config().runtime,
            entry: self.engine.runtime_entry(&self.pod.spec.runtime_handler),
            pod: self.pod,
            container: record,
            image: image_config,
            cdi_devices: &record.spec.cdi_devices,
        };
        let all_devices = inputs.all_devices();
        let mut config = oci::build(self.engine, &inputs)?;
        self.declared_volumes(image_config, &mut config, root, record)?;
        self.engine.lay_secrets(record, &mut config)?;
        let let_by_plugins =
            self.engine
                .plugins_let_container(self.pod, record, &mut config, all_devices)?;
        former.map_or(Ok(()), |former| (former.agrees)(&config))?;
        disk::write_json(&self.bundle.join("config.json"), &config)?;
        let at = (self.id.as_str(), self.bundle.as_path());
        let _mounted = Mounted::new(self.engine.store(), at, &record.spec, volumes, &config)?;
        let keys = &self.engine.config().runtime;
        let bytes = |key: i64| u64::try_from(key).ok().filter(|bytes| *bytes > 0);
        let pod_dir = self.engine.layout().pod(&self.pod.id);
        let extras = record.spec.extras.as_deref();
        let plan = ContainerPlan {
            container: record.at(&pod_dir, &self.bundle),
            sandbox,
            spec: &config,
            root,
            log: record.log_path.clone().map(|path| Log {
                path,
                beneath: self.log_directory(),
                max_size: bytes(keys.log_size_max),
                limit: bytes(keys.log_limit),
                reserve: bytes(keys.log_disk_reserve),
            }),
            terminal: record.spec.tty,
            stdin: record.spec.stdin,
            stdin_once: record.spec.stdin_once,
            on_exit: self.on_exit(&record.spec),
            run_limit: extras
                .and_then(|extras| extras.run_limit)
                .map(Duration::from_secs),
            check: extras
                .and_then(|extras| extras.health.as_ref())
                .map(|check| check.asked(record.stop_signal)),
        };
        let entry = self.engine.runtime_entry(&self.pod.spec.runtime_handler);
        match former {
            Some(former) => {
                let limit = former.cancel.left();
                let images = &former.images;
                step("restore", || {
                    self.handler.restore(&plan, images, former.criu, limit)
                })?;
            }
            None => {
                let limit = entry.and_then(RuntimeEntry::create_limit);
                let limit = limit.unwrap_or(LIMIT).min(LIMIT);
                step("create", || self.handler.create(&plan, limit))?;
            }
        }
        if let Some(log) = &record.spec.log_path {
            let runtime = &self.engine.config().runtime;
            let asked = Asked::new(runtime, entry, &self.pod.spec.annotations);
            link_logs::link(&asked, &self.pod.spec, &self.id, log)?;
        }
        Ok(let_by_plugins)
    }

    /// What is due at the end of a person's container.
    fn on_exit(&self, spec: &ContainerSpec) -> Option<OnExit> {
        let of_person = self.pod.spec.origin == Origin::Cli;
        let program = self.engine.exit_program().filter(|_| of_person)?;
        let extras = spec.extras.as_deref();
        Some(OnExit {
            argv: program.argv.clone(),
            env: program.env.clone(),
            restart: extras
                .map_or(RestartPolicy::No, |extras| extras.restart)
                .into(),
        })
    }

    /// The volumes that the image declares.
    fn declared_volumes(
        &self,
        image: &ContainerConfig,
        config: &mut Spec,
        root: &RootFilesystem,
        record: &ContainerRecord,
    ) -> Result<()> {
        let keys = self.engine.config();
        let place = declared::Place {
            root,
            store: keys.root_table.root.join("containers").join(&self.id),
            bundle: &self.bundle,
            user: (record.user.uid, record.user.gid),
        };
        declared::make(keys.image.image_volumes, image, config, &place)
    }

    /// It is made; `new` is told so.
    pub(super) fn commit(
        mut self,
        record: &ContainerRecord,
        new: Option<NewContainer<'_>>,
    ) -> Result<String> {
        record.write(&self.bundle)?;
        self.engine.tell_names(self.pod)?;
        self.name = None;
        if let Some(new) = new {
            new.made();
        }
        Ok(self.id.clone())
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        if let Err(error) = self.engine.discard_container(&self.pod.id, &self.id) {
            tracing::warn!(container = %self.id, %error, "undo of a failed container left something behind");
            return;
        }
        if let Err(error) = name.release() {
            tracing::warn!(container = %self.id, %error, "name of a failed container not released");
        }
    }
}
