//! `container.json`: a container as it was asked for, and what the engine made of that. What its
//! process does is in the supervisor's `state.json`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::extras::Extras;
use super::pod::{Ids, Namespaces};
use super::{At, Form, Record, Text, UnknownFields, VERSION};
use crate::container::record::ContainerRecord;
use crate::container::{self, ContainerSpec, ResolvedUser};
use crate::error::Result;

/// Revision 1: `version` and `revision`. 2: `handler`. 3: `users` of namespaces, `ids` of mounts.
/// 4: `image` and `options` of mounts. 5: `cdi_devices`, `extras`. 6: `volume` of mounts.
/// 7: `secrets` of `extras`. 8: `health` of `extras`.
const REVISION: u32 = 8;

/// The whole record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Container<'a> {
    #[serde(default = "super::first")]
    version: u32,
    #[serde(default)]
    revision: u32,
    id: Text<'a>,
    pod_id: Text<'a>,
    created_at: i64,
    image_id: Text<'a>,
    image_ref: Text<'a>,
    log_path: Option<At<'a>>,
    user: User<'a>,
    stop_signal: i32,
    cgroup: Text<'a>,
    #[serde(default)]
    handler: Text<'a>,
    #[serde(default)]
    args: Cow<'a, [String]>,
    spec: Spec<'a>,
}

/// The identity of its first process.
#[derive(Debug, Serialize, Deserialize)]
struct User<'a> {
    uid: u32,
    gid: u32,
    groups: Cow<'a, [u32]>,
}

/// What was asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Spec<'a> {
    name: Text<'a>,
    attempt: u32,
    image: Text<'a>,
    user_specified_image: Text<'a>,
    command: Cow<'a, [String]>,
    args: Cow<'a, [String]>,
    working_dir: Text<'a>,
    env: Cow<'a, [(String, String)]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    binary_env: Cow<'a, [(String, Vec<u8>)]>,
    mounts: Vec<Mount<'a>>,
    devices: Vec<Device<'a>>,
    labels: Cow<'a, BTreeMap<String, String>>,
    annotations: Cow<'a, BTreeMap<String, String>>,
    log_path: Option<At<'a>>,
    stdin: bool,
    stdin_once: bool,
    tty: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    console_size: Option<(u16, u16)>,
    resources: Resources<'a>,
    security: Security<'a>,
    stop_signal: Option<i32>,
    #[serde(default, skip_serializing_if = "is_empty")]
    cdi_devices: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extras: Option<Box<Extras<'a>>>,
}

fn is_empty<T>(list: &[T]) -> bool {
    list.is_empty()
}

#[derive(Debug, Serialize, Deserialize)]
struct Mount<'a> {
    container_path: At<'a>,
    host_path: At<'a>,
    readonly: bool,
    recursive_read_only: bool,
    propagation: Propagation,
    selinux_relabel: bool,
    #[serde(default)]
    ids: Option<Ids<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<ImageVolume<'a>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    options: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<VolumeUse<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VolumeUse<'a> {
    name: Text<'a>,
    no_copy: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ImageVolume<'a> {
    image: Text<'a>,
    user_specified_image: Text<'a>,
    sub_path: At<'a>,
    id: Text<'a>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Propagation {
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Debug, Serialize, Deserialize)]
struct Device<'a> {
    container_path: At<'a>,
    host_path: At<'a>,
    permissions: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Resources<'a> {
    cpu_period: i64,
    cpu_quota: i64,
    cpu_shares: i64,
    memory_limit: i64,
    memory_swap_limit: i64,
    oom_score_adj: i64,
    cpuset_cpus: Text<'a>,
    cpuset_mems: Text<'a>,
    hugepage_limits: Cow<'a, [(String, u64)]>,
    unified: Cow<'a, BTreeMap<String, String>>,
    pids_limit: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Security<'a> {
    add_capabilities: Cow<'a, [String]>,
    drop_capabilities: Cow<'a, [String]>,
    add_ambient_capabilities: Cow<'a, [String]>,
    privileged: bool,
    namespaces: Namespaces<'a>,
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_username: Text<'a>,
    user: Text<'a>,
    #[serde(default)]
    image_groups: bool,
    readonly_rootfs: bool,
    supplemental_groups: Cow<'a, [i64]>,
    strict_groups: bool,
    no_new_privs: bool,
    masked_paths: Cow<'a, [String]>,
    readonly_paths: Cow<'a, [String]>,
    seccomp: Profile<'a>,
    apparmor: Profile<'a>,
    selinux: Option<Text<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Profile<'a> {
    Unconfined,
    RuntimeDefault,
    Localhost(Text<'a>),
}

/// Reads the record in a container's directory; `None` if there is none.
pub(crate) fn read(bundle: &Path) -> Result<Option<ContainerRecord>> {
    let read = super::read::<Container<'_>>(&path(bundle))?;
    Ok(read.map(|(record, kept)| record.into_live(kept)))
}

/// Writes it.
pub(crate) fn write(bundle: &Path, record: &ContainerRecord) -> Result<()> {
    super::write(&path(bundle), &Container::of(record), &record.kept)
}

/// The record's place.
pub(crate) fn path(bundle: &Path) -> PathBuf {
    bundle.join("container.json")
}

impl Record for Container<'_> {
    fn form(&self) -> Form {
        Form {
            version: self.version,
            revision: self.revision,
        }
    }
}

impl<'a> Container<'a> {
    fn of(live: &'a ContainerRecord) -> Self {
        Self {
            version: VERSION,
            revision: REVISION,
            id: (&live.id).into(),
            pod_id: (&live.pod_id).into(),
            created_at: live.created_at,
            image_id: (&live.image_id).into(),
            image_ref: (&live.image_ref).into(),
            log_path: live.log_path.as_deref().map(Cow::from),
            user: User {
                uid: live.user.uid,
                gid: live.user.gid,
                groups: (&live.user.groups).into(),
            },
            stop_signal: live.stop_signal,
            cgroup: (&live.cgroup).into(),
            handler: (&live.handler).into(),
            args: (&live.args).into(),
            spec: Spec::of(&live.spec),
        }
    }

    fn into_live(self, kept: UnknownFields) -> ContainerRecord {
        ContainerRecord {
            id: self.id.into_owned(),
            pod_id: self.pod_id.into_owned(),
            created_at: self.created_at,
            image_id: self.image_id.into_owned(),
            image_ref: self.image_ref.into_owned(),
            log_path: self.log_path.map(Cow::into_owned),
            user: ResolvedUser {
                uid: self.user.uid,
                gid: self.user.gid,
                groups: self.user.groups.into_owned(),
            },
            stop_signal: self.stop_signal,
            cgroup: self.cgroup.into_owned(),
            handler: self.handler.into_owned(),
            args: self.args.into_owned(),
            spec: self.spec.into_live(),
            kept,
        }
    }
}

impl<'a> Spec<'a> {
    fn of(live: &'a ContainerSpec) -> Self {
        Self {
            name: (&live.name).into(),
            attempt: live.attempt,
            image: (&live.image).into(),
            user_specified_image: (&live.user_specified_image).into(),
            command: (&live.command).into(),
            args: (&live.args).into(),
            working_dir: (&live.working_dir).into(),
            env: (&live.env).into(),
            binary_env: (&live.binary_env).into(),
            mounts: live.mounts.iter().map(Mount::of).collect(),
            devices: live.devices.iter().map(Device::of).collect(),
            labels: Cow::Borrowed(&live.labels),
            annotations: Cow::Borrowed(&live.annotations),
            log_path: live.log_path.as_deref().map(Cow::from),
            stdin: live.stdin,
            stdin_once: live.stdin_once,
            tty: live.tty,
            console_size: live.console_size,
            resources: Resources::of(&live.resources),
            security: Security::of(&live.security),
            stop_signal: live.stop_signal,
            cdi_devices: (&live.cdi_devices).into(),
            extras: live.extras.as_deref().map(Extras::of).map(Box::new),
        }
    }

    fn into_live(self) -> ContainerSpec {
        ContainerSpec {
            name: self.name.into_owned(),
            attempt: self.attempt,
            image: self.image.into_owned(),
            user_specified_image: self.user_specified_image.into_owned(),
            command: self.command.into_owned(),
            args: self.args.into_owned(),
            working_dir: self.working_dir.into_owned(),
            env: self.env.into_owned(),
            binary_env: self.binary_env.into_owned(),
            mounts: self.mounts.into_iter().map(Mount::into_live).collect(),
            devices: self.devices.into_iter().map(Device::into_live).collect(),
            cdi_devices: self.cdi_devices.into_owned(),
            labels: self.labels.into_owned(),
            annotations: self.annotations.into_owned(),
            log_path: self.log_path.map(Cow::into_owned),
            stdin: self.stdin,
            stdin_once: self.stdin_once,
            tty: self.tty,
            console_size: self.console_size,
            resources: self.resources.into_live(),
            security: self.security.into_live(),
            stop_signal: self.stop_signal,
            extras: self.extras.map(|extras| Box::new(extras.into_live())),
        }
    }
}

impl<'a> Mount<'a> {
    fn of(live: &'a container::Mount) -> Self {
        Self {
            container_path: (&live.container_path).into(),
            host_path: (&live.host_path).into(),
            readonly: live.readonly,
            recursive_read_only: live.recursive_read_only,
            propagation: match live.propagation {
                container::Propagation::Private => Propagation::Private,
                container::Propagation::HostToContainer => Propagation::HostToContainer,
                container::Propagation::Bidirectional => Propagation::Bidirectional,
            },
            selinux_relabel: live.selinux_relabel,
            ids: live.ids.as_ref().map(Ids::of),
            image: live.image.as_ref().map(ImageVolume::of),
            options: (&live.options).into(),
            volume: live.volume.as_ref().map(|volume| VolumeUse {
                name: (&volume.name).into(),
                no_copy: volume.no_copy,
            }),
        }
    }

    fn into_live(self) -> container::Mount {
        container::Mount {
            container_path: self.container_path.into_owned(),
            host_path: self.host_path.into_owned(),
            readonly: self.readonly,
            recursive_read_only: self.recursive_read_only,
            propagation: match self.propagation {
                Propagation::Private => container::Propagation::Private,
                Propagation::HostToContainer => container::Propagation::HostToContainer,
                Propagation::Bidirectional => container::Propagation::Bidirectional,
            },
            selinux_relabel: self.selinux_relabel,
            ids: self.ids.map(Ids::into_live),
            image: self.image.map(ImageVolume::into_live),
            options: self.options.into_owned(),
            volume: self.volume.map(|volume| container::VolumeUse {
                name: volume.name.into_owned(),
                no_copy: volume.no_copy,
            }),
        }
    }
}

impl<'a> ImageVolume<'a> {
    fn of(live: &'a container::ImageVolume) -> Self {
        Self {
            image: (&live.image).into(),
            user_specified_image: (&live.user_specified_image).into(),
            sub_path: (&live.sub_path).into(),
            id: (&live.id).into(),
        }
    }

    fn into_live(self) -> container::ImageVolume {
        container::ImageVolume {
            image: self.image.into_owned(),
            user_specified_image: self.user_specified_image.into_owned(),
            sub_path: self.sub_path.into_owned(),
            id: self.id.into_owned(),
        }
    }
}

impl<'a> Device<'a> {
    fn of(live: &'a container::Device) -> Self {
        Self {
            container_path: (&live.container_path).into(),
            host_path: (&live.host_path).into(),
            permissions: (&live.permissions).into(),
        }
    }

    fn into_live(self) -> container::Device {
        container::Device {
            container_path: self.container_path.into_owned(),
            host_path: self.host_path.into_owned(),
            permissions: self.permissions.into_owned(),
        }
    }
}

impl<'a> Resources<'a> {
    pub(super) fn of(live: &'a container::Resources) -> Self {
        Self {
            cpu_period: live.cpu_period,
            cpu_quota: live.cpu_quota,
            cpu_shares: live.cpu_shares,
            memory_limit: live.memory_limit,
            memory_swap_limit: live.memory_swap_limit,
            oom_score_adj: live.oom_score_adj,
            cpuset_cpus: (&live.cpuset_cpus).into(),
            cpuset_mems: (&live.cpuset_mems).into(),
            hugepage_limits: (&live.hugepage_limits).into(),
            unified: Cow::Borrowed(&live.unified),
            pids_limit: live.pids_limit,
        }
    }

    pub(super) fn into_live(self) -> container::Resources {
        container::Resources {
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            memory_limit: self.memory_limit,
            memory_swap_limit: self.memory_swap_limit,
            oom_score_adj: self.oom_score_adj,
            cpuset_cpus: self.cpuset_cpus.into_owned(),
            cpuset_mems: self.cpuset_mems.into_owned(),
            hugepage_limits: self.hugepage_limits.into_owned(),
            unified: self.unified.into_owned(),
            pids_limit: self.pids_limit,
        }
    }
}

impl<'a> Security<'a> {
    fn of(live: &'a container::Security) -> Self {
        Self {
            add_capabilities: (&live.add_capabilities).into(),
            drop_capabilities: (&live.drop_capabilities).into(),
            add_ambient_capabilities: (&live.add_ambient_capabilities).into(),
            privileged: live.privileged,
            namespaces: Namespaces::of(&live.namespaces),
            run_as_user: live.run_as_user,
            run_as_group: live.run_as_group,
            run_as_username: (&live.run_as_username).into(),
            user: (&live.user).into(),
            image_groups: live.image_groups,
            readonly_rootfs: live.readonly_rootfs,
            supplemental_groups: (&live.supplemental_groups).into(),
            strict_groups: live.strict_groups,
            no_new_privs: live.no_new_privs,
            masked_paths: (&live.masked_paths).into(),
            readonly_paths: (&live.readonly_paths).into(),
            seccomp: Profile::of(&live.seccomp),
            apparmor: Profile::of(&live.apparmor),
            selinux: live.selinux.as_deref().map(Cow::from),
        }
    }

    fn into_live(self) -> container::Security {
        container::Security {
            add_capabilities: self.add_capabilities.into_owned(),
            drop_capabilities: self.drop_capabilities.into_owned(),
            add_ambient_capabilities: self.add_ambient_capabilities.into_owned(),
            privileged: self.privileged,
            namespaces: self.namespaces.into_live(),
            run_as_user: self.run_as_user,
            run_as_group: self.run_as_group,
            run_as_username: self.run_as_username.into_owned(),
            user: self.user.into_owned(),
            image_groups: self.image_groups,
            readonly_rootfs: self.readonly_rootfs,
            supplemental_groups: self.supplemental_groups.into_owned(),
            strict_groups: self.strict_groups,
            no_new_privs: self.no_new_privs,
            masked_paths: self.masked_paths.into_owned(),
            readonly_paths: self.readonly_paths.into_owned(),
            seccomp: self.seccomp.into_live(),
            apparmor: self.apparmor.into_live(),
            selinux: self.selinux.map(Cow::into_owned),
        }
    }
}

impl<'a> Profile<'a> {
    fn of(live: &'a container::Profile) -> Self {
        match live {
            container::Profile::Unconfined => Self::Unconfined,
            container::Profile::RuntimeDefault => Self::RuntimeDefault,
            container::Profile::Localhost(name) => Self::Localhost(name.into()),
        }
    }

    fn into_live(self) -> container::Profile {
        match self {
            Self::Unconfined => container::Profile::Unconfined,
            Self::RuntimeDefault => container::Profile::RuntimeDefault,
            Self::Localhost(name) => container::Profile::Localhost(name.into_owned()),
        }
    }
}
