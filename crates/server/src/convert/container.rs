//! Containers: ContainerConfig to the engine's ContainerSpec; a container to what lists and
//! statuses show.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use engine::container::{
    Device, ImageVolume, MOUNT_OPTIONS, Mount, Profile, Propagation, Security, StateKind,
};
use engine::pod::Origin;
use engine::{Container, ContainerFilter, ContainerSpec, ContainerState, Error};
use serde_json::{Value, json};

use super::security::{
    GROUPS, id, id_ranges, limits, mappings, namespaces, profile, resources, selinux,
};
use super::{check, given, invalid, known, not_empty, required, signal};

/// What CreateContainer asks for.
pub(crate) fn spec(config: Option<cri::ContainerConfig>) -> Result<ContainerSpec, Error> {
    let config = required("config", config)?;
    let metadata = required("config.metadata", config.metadata)?;
    let image = required("config.image", config.image)?;
    check::no_windows("config.windows", config.windows.is_some())?;
    let linux = config.linux.unwrap_or_default();
    check::name("config.metadata.name", &metadata.name)?;
    check::command("config.command", &config.command)?;
    check::command("config.args", &config.args)?;
    check::absolute("config.working_dir", &config.working_dir)?;
    check::notes("config.labels", &config.labels)?;
    check::notes("config.annotations", &config.annotations)?;
    check::at_most("config.mounts", &config.mounts, MOUNTS)?;
    check::at_most("config.devices", &config.devices, DEVICES)?;
    check::at_most("config.CDI_devices", &config.cdi_devices, DEVICES)?;
    let by_name = config.cdi_devices.into_iter().map(|device| device.name);
    let cdi_devices = engine::cdi::requested(by_name, &config.annotations)?;
    twice(&config.mounts)?;
    let (env, binary_env) = environment(config.envs)?;
    Ok(ContainerSpec {
        name: not_empty("config.metadata.name", metadata.name)?,
        attempt: metadata.attempt,
        image: not_empty("config.image.image", image.image)?,
        user_specified_image: image.user_specified_image,
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        env,
        binary_env,
        mounts: config
            .mounts
            .into_iter()
            .enumerate()
            .map(mount)
            .collect::<Result<_, _>>()?,
        devices: config
            .devices
            .into_iter()
            .enumerate()
            .map(device)
            .collect::<Result<_, _>>()?,
        cdi_devices,
        labels: config.labels,
        annotations: config.annotations,
        log_path: log_path(&config.log_path)?,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        console_size: None,
        resources: linux
            .resources
            .map(resources)
            .transpose()?
            .unwrap_or_default(),
        security: linux
            .security_context
            .map(security)
            .transpose()?
            .unwrap_or_default(),
        stop_signal: signal::to_kernel("config.stop_signal", config.stop_signal)?,
        extras: None,
    })
}

/// Mounts and devices of one container: far more than any pod has.
const MOUNTS: usize = 4096;
const DEVICES: usize = 4096;

/// Two mounts at one place: one of them would be seen by nobody.
fn twice(mounts: &[cri::Mount]) -> Result<(), Error> {
    let mut places = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let place: PathBuf = Path::new(&mount.container_path).components().collect();
        if !place.as_os_str().is_empty() && !places.insert(place) {
            let reason = format!("{:?} is the place of another mount", mount.container_path);
            return Err(invalid(
                format!("config.mounts[{index}].container_path"),
                reason,
            ));
        }
    }
    Ok(())
}

/// Variables with values that are text, and those with others.
type Environment = (Vec<(String, String)>, Vec<(String, Vec<u8>)>);

/// The last one of a name wins, whatever its value is.
fn environment(variables: Vec<cri::KeyValue>) -> Result<Environment, Error> {
    let (mut texts, mut binary): Environment = Default::default();
    let values = variables
        .iter()
        .map(|variable| variable.value.len() + variable.key.len());
    check::sum("config.envs", values)?;
    for (index, cri::KeyValue { key, value }) in variables.into_iter().enumerate() {
        let field = |part: &str| format!("config.envs[{index}].{part}");
        if key.is_empty() || key.contains(['=', '\0']) {
            let reason = format!("{key:?} is not a variable's name");
            return Err(invalid(field("key"), reason));
        }
        check::word(&field("value"), &value, key.len() + 1)?;
        match String::from_utf8(value) {
            Ok(text) => {
                binary.retain(|(name, _)| *name != key);
                texts.push((key, text));
            }
            Err(bytes) => {
                texts.retain(|(name, _)| *name != key);
                binary.retain(|(name, _)| *name != key);
                binary.push((key, bytes.into_bytes()));
            }
        }
    }
    Ok((texts, binary))
}

fn mount((index, mount): (usize, cri::Mount)) -> Result<Mount, Error> {
    let field = |part: &str| format!("config.mounts[{index}].{part}");
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        return Err(invalid(
            field("uidMappings"),
            "uidMappings and gidMappings go together",
        ));
    }
    let options = mount_options(&field("mount_options"), mount.mount_options)?;
    let mapped = !mount.uid_mappings.is_empty();
    let ids = id_ranges(&field("mappings"), mount.uid_mappings, mount.gid_mappings)?;
    let image = image_volume(&field, mount.image, &mount.image_sub_path)?;
    match &image {
        Some(_) if !mount.host_path.is_empty() => {
            return Err(invalid(field("host_path"), "excludes image"));
        }
        Some(_) if !mount.readonly => {
            let reason = "must be true: an image volume is never writable";
            return Err(invalid(field("readonly"), reason));
        }
        Some(_) => {}
        None => {
            not_empty(&field("host_path"), mount.host_path.clone())?;
            check::absolute(&field("host_path"), &mount.host_path)?;
        }
    }
    check::absolute(&field("container_path"), &mount.container_path)?;
    place(&field("container_path"), &mount.container_path)?;
    let propagation = match known(&field("propagation"), mount.propagation)? {
        cri::MountPropagation::PropagationPrivate => Propagation::Private,
        cri::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        cri::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    if mount.recursive_read_only && !(mount.readonly && propagation == Propagation::Private) {
        let reason = "needs readonly and PROPAGATION_PRIVATE";
        return Err(invalid(field("recursive_read_only"), reason));
    }
    Ok(Mount {
        volume: None,
        container_path: not_empty(&field("container_path"), mount.container_path)?.into(),
        host_path: mount.host_path.into(),
        image,
        options,
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
        propagation,
        selinux_relabel: mount.selinux_relabel,
        ids: mapped.then_some(ids),
    })
}

/// The image of a mount; a sub path is relative to its root and is not above it.
fn image_volume(
    field: &impl Fn(&str) -> String,
    image: Option<cri::ImageSpec>,
    sub_path: &str,
) -> Result<Option<ImageVolume>, Error> {
    check::path(&field("image_sub_path"), sub_path)?;
    let refused = |reason: &str| Err(invalid(field("image_sub_path"), reason));
    let Some(image) = image else {
        return match sub_path {
            "" => Ok(None),
            _ => refused("needs image"),
        };
    };
    let mut parts = Path::new(sub_path).components();
    if !parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return refused("must be a relative path without \"..\"");
    }
    Ok(Some(ImageVolume {
        image: not_empty(&field("image.image"), image.image)?,
        user_specified_image: image.user_specified_image,
        // "." is all of it.
        sub_path: Path::new(sub_path)
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect(),
        id: String::new(),
    }))
}

/// Flags of a mount, each once.
fn mount_options(field: &str, asked: Vec<String>) -> Result<Vec<String>, Error> {
    let mut options: Vec<String> = Vec::new();
    for (index, option) in asked.into_iter().enumerate() {
        if !MOUNT_OPTIONS.contains(&option.as_str()) {
            let short: String = option.chars().take(64).collect();
            let reason = format!("{short:?} is none of {}", MOUNT_OPTIONS.join(", "));
            return Err(invalid(format!("{field}[{index}]"), reason));
        }
        if !options.contains(&option) {
            options.push(option);
        }
    }
    Ok(options)
}

/// A mount cannot stand for the root, nor for what the runtime itself makes of /proc.
fn place(field: &str, path: &str) -> Result<(), Error> {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    let reserved = match parts.as_slice() {
        [Component::RootDir] => true,
        [Component::RootDir, Component::Normal(name)] => *name == "proc",
        _ => false,
    };
    match reserved {
        true => Err(invalid(
            field,
            format!("{path:?} cannot be the place of a mount"),
        )),
        false => Ok(()),
    }
}

fn device((index, device): (usize, cri::Device)) -> Result<Device, Error> {
    let field = |part: &str| format!("config.devices[{index}].{part}");
    check::absolute(&field("host_path"), &device.host_path)?;
    check::absolute(&field("container_path"), &device.container_path)?;
    if !device
        .permissions
        .chars()
        .all(|permission| "rwm".contains(permission))
    {
        let reason = format!("{:?} is not made of r, w and m", device.permissions);
        return Err(invalid(field("permissions"), reason));
    }
    Ok(Device {
        container_path: not_empty(&field("container_path"), device.container_path)?.into(),
        host_path: not_empty(&field("host_path"), device.host_path)?.into(),
        permissions: device.permissions,
    })
}

/// A log stays below the pod's log directory.
fn log_path(path: &str) -> Result<Option<PathBuf>, Error> {
    check::path("config.log_path", path)?;
    let names_a_file =
        path.is_empty() || !(path.ends_with('/') || path.ends_with("/.") || path == ".");
    let path = Path::new(path);
    if names_a_file
        && path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Ok(Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty()));
    }
    let reason = format!(
        "{} is not a file in the pod's log_directory",
        path.display()
    );
    Err(invalid("config.log_path", reason))
}

fn security(context: cri::LinuxContainerSecurityContext) -> Result<Security, Error> {
    let (old_apparmor, old_seccomp) = deprecated_profiles(&context);
    let run_as_user = context
        .run_as_user
        .map(|user| id("run_as_user", user.value))
        .transpose()?;
    let run_as_group = context
        .run_as_group
        .map(|group| id("run_as_group", group.value))
        .transpose()?;
    if run_as_user.is_some() && !context.run_as_username.is_empty() {
        return Err(invalid("run_as_username", "excludes run_as_user"));
    }
    if run_as_group.is_some() && run_as_user.is_none() && context.run_as_username.is_empty() {
        return Err(invalid(
            "run_as_group",
            "needs run_as_user or run_as_username",
        ));
    }
    check::line("run_as_username", &context.run_as_username, 1024)?;
    check::at_most("supplemental_groups", &context.supplemental_groups, GROUPS)?;
    for (field, paths) in [
        ("masked_paths", &context.masked_paths),
        ("readonly_paths", &context.readonly_paths),
    ] {
        check::at_most(field, paths, MOUNTS)?;
        for path in paths {
            not_empty(field, path.clone())?;
            check::absolute(field, path)?;
        }
    }
    for group in &context.supplemental_groups {
        id("supplemental_groups", *group)?;
    }
    let capabilities = context.capabilities.unwrap_or_default();
    let policy: cri::SupplementalGroupsPolicy = known(
        "supplemental_groups_policy",
        context.supplemental_groups_policy,
    )?;
    Ok(Security {
        add_capabilities: capabilities.add_capabilities,
        drop_capabilities: capabilities.drop_capabilities,
        add_ambient_capabilities: capabilities.add_ambient_capabilities,
        privileged: context.privileged,
        namespaces: namespaces(context.namespace_options)?,
        run_as_user,
        run_as_group,
        run_as_username: context.run_as_username,
        user: String::new(),
        image_groups: false,
        readonly_rootfs: context.readonly_rootfs,
        supplemental_groups: context.supplemental_groups,
        strict_groups: policy == cri::SupplementalGroupsPolicy::Strict,
        no_new_privs: context.no_new_privs,
        masked_paths: context.masked_paths,
        readonly_paths: context.readonly_paths,
        seccomp: profile(
            "seccomp",
            context.seccomp,
            ("seccomp_profile_path", &old_seccomp),
        )?,
        // Unlike with seccomp, to say nothing is to ask for the default profile.
        apparmor: match (&context.apparmor, old_apparmor.as_str()) {
            (None, "") => Profile::RuntimeDefault,
            _ => profile(
                "apparmor",
                context.apparmor,
                ("apparmor_profile", &old_apparmor),
            )?,
        },
        selinux: selinux(context.selinux_options),
    })
}

/// AppArmor's and seccomp's, as clients of before Kubernetes 1.19 give them.
fn deprecated_profiles(context: &cri::LinuxContainerSecurityContext) -> (String, String) {
    #[expect(deprecated, reason = "older clients still send them")]
    (
        context.apparmor_profile.clone(),
        context.seccomp_profile_path.clone(),
    )
}

/// Which containers to list: only those of CRI's own pods.
pub(crate) fn filter(filter: Option<cri::ContainerFilter>) -> Result<ContainerFilter, Error> {
    let filter = filter.unwrap_or_default();
    Ok(ContainerFilter {
        id: given(filter.id),
        state: filter.state.map(asked_state).transpose()?,
        pod_id: given(filter.pod_sandbox_id),
        labels: filter.label_selector,
        origin: Some(Origin::Cri),
    })
}

fn asked_state(value: cri::ContainerStateValue) -> Result<StateKind, Error> {
    Ok(match known("filter.state.state", value.state)? {
        cri::ContainerState::ContainerCreated => StateKind::Created,
        cri::ContainerState::ContainerRunning => StateKind::Running,
        cri::ContainerState::ContainerExited => StateKind::Exited,
        cri::ContainerState::ContainerUnknown => StateKind::Unknown,
    })
}

/// A container in a list.
pub(crate) fn item(container: &Container) -> cri::Container {
    cri::Container {
        metadata: Some(metadata(&container.spec)),
        image: Some(image(&container.spec)),
        state: state(container.state.kind()).into(),
        id: container.id.clone(),
        pod_sandbox_id: container.pod_id.clone(),
        image_ref: container.image_ref.clone(),
        created_at: container.created_at,
        labels: container.spec.labels.clone(),
        annotations: container.spec.annotations.clone(),
        image_id: container.image_id.clone(),
    }
}

/// A container in full.
pub(crate) fn status(container: Container) -> cri::ContainerStatus {
    let mut status = cri::ContainerStatus {
        metadata: Some(metadata(&container.spec)),
        image: Some(image(&container.spec)),
        state: state(container.state.kind()).into(),
        id: container.id,
        created_at: container.created_at,
        image_ref: container.image_ref,
        labels: container.spec.labels,
        annotations: container.spec.annotations,
        mounts: container.spec.mounts.into_iter().map(shown_mount).collect(),
        log_path: container
            .log_path
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        resources: Some(cri::ContainerResources {
            linux: Some(limits(container.spec.resources)),
            windows: None,
        }),
        image_id: container.image_id,
        user: Some(user(&container.user)),
        stop_signal: signal::to_cri(container.stop_signal).into(),
        ..Default::default()
    };
    match container.state {
        ContainerState::Created | ContainerState::Unknown => {}
        ContainerState::Running { started_at } => status.started_at = started_at,
        ContainerState::Exited {
            started_at,
            finished_at,
            exit_code,
            reason,
            message,
        } => {
            status.started_at = started_at;
            status.finished_at = finished_at;
            status.exit_code = exit_code;
            status.reason = reason.to_owned();
            status.message = message;
        }
    }
    status
}

/// Several in full.
pub(crate) fn statuses(containers: &[Arc<Container>]) -> Vec<cri::ContainerStatus> {
    let each = containers.iter().map(|one| Container::clone(one));
    each.map(status).collect()
}

/// What `crictl inspect` shows below the status: JSON under the key `info`, with the fields that
/// debugging tools read.
pub(crate) fn info(container: &Container, runtime_spec: &Value) -> BTreeMap<String, String> {
    let info = json!({
        "sandboxID": container.pod_id,
        "pid": container.pid.unwrap_or_default(),
        "privileged": container.spec.security.privileged,
        "logLoss": {
            "lines": container.log_loss.lines,
            "bytes": container.log_loss.bytes,
            "now": container.log_loss.why,
        },
        "runtimeSpec": runtime_spec,
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

fn metadata(spec: &ContainerSpec) -> cri::ContainerMetadata {
    cri::ContainerMetadata {
        name: spec.name.clone(),
        attempt: spec.attempt,
    }
}

fn image(spec: &ContainerSpec) -> cri::ImageSpec {
    cri::ImageSpec {
        image: spec.named_image().to_owned(),
        user_specified_image: spec.user_specified_image.clone(),
        ..Default::default()
    }
}

fn state(state: StateKind) -> cri::ContainerState {
    match state {
        StateKind::Created => cri::ContainerState::ContainerCreated,
        StateKind::Running => cri::ContainerState::ContainerRunning,
        StateKind::Exited => cri::ContainerState::ContainerExited,
        StateKind::Unknown => cri::ContainerState::ContainerUnknown,
    }
}

fn shown_mount(mount: Mount) -> cri::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => cri::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => cri::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => cri::MountPropagation::PropagationBidirectional,
    };
    let ids = mount.ids.unwrap_or_default();
    cri::Mount {
        container_path: mount.container_path.display().to_string(),
        host_path: mount.host_path.display().to_string(),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation.into(),
        recursive_read_only: mount.recursive_read_only,
        uid_mappings: mappings(ids.uids),
        gid_mappings: mappings(ids.gids),
        image_sub_path: mount
            .image
            .as_ref()
            .map(|volume| volume.sub_path.display().to_string())
            .unwrap_or_default(),
        image: mount.image.map(|volume| cri::ImageSpec {
            image: volume.id.clone(),
            user_specified_image: volume.user_specified_image,
            image_ref: volume.id,
            ..Default::default()
        }),
        mount_options: mount.options,
    }
}

fn user(user: &engine::container::ResolvedUser) -> cri::ContainerUser {
    let linux = cri::LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.groups.iter().map(|group| i64::from(*group)).collect(),
    };
    cri::ContainerUser { linux: Some(linux) }
}

#[cfg(test)]
mod tests;
