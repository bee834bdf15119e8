//! Pods and containers as plugins are told of them.

use std::net::IpAddr;
use std::path::Path;

use nri::api::{
    self, CdiDevice, ContainerState as Told, LinuxContainer, LinuxPodSandbox, SecurityProfile,
    security_profile::ProfileType,
};
use runtime::spec::{self, NamespaceKind};

use super::limits;
use crate::container::record::ContainerRecord;
use crate::container::{Container, ContainerSpec, ContainerState, Profile, Resources};
use crate::handler::{Namespaces, Sandbox};
use crate::pod::PodSpec;
use crate::pod::record::PodRecord;

/// A pod.
pub(super) fn pod(
    record: &PodRecord,
    sandbox: Option<&Sandbox>,
    ips: &[IpAddr],
) -> api::PodSandbox {
    let PodSpec {
        name,
        uid,
        namespace,
        labels,
        annotations,
        runtime_handler,
        size,
        cgroup_parent,
        ..
    } = &record.spec;
    let resources = |of: &Option<Resources>| of.as_ref().map(limits::of_request);
    let pid = sandbox.and_then(|sandbox| sandbox.pid);
    api::PodSandbox {
        id: record.id.clone(),
        name: name.clone(),
        uid: uid.clone(),
        namespace: namespace.clone(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        runtime_handler: runtime_handler.clone(),
        linux: Some(LinuxPodSandbox {
            pod_overhead: resources(&size.overhead),
            pod_resources: resources(&size.resources),
            cgroup_parent: cgroup_parent.clone().unwrap_or_default(),
            cgroups_path: record.cgroup.clone(),
            namespaces: sandbox.map_or_else(Vec::new, |sandbox| of_pod(&sandbox.namespaces)),
            resources: None,
        }),
        pid: pid.and_then(|pid| pid.try_into().ok()).unwrap_or_default(),
        ips: ips.iter().map(IpAddr::to_string).collect(),
    }
}

fn of_pod(own: &Namespaces) -> Vec<api::LinuxNamespace> {
    let all = [
        ("network", &own.network),
        ("uts", &own.uts),
        ("ipc", &own.ipc),
        ("pid", &own.pid),
        ("user", &own.users),
    ];
    let known = all
        .into_iter()
        .filter_map(|(kind, path)| Some((kind, path.as_deref()?)));
    known
        .map(|(kind, path)| api::LinuxNamespace {
            r#type: kind.to_owned(),
            path: text(path),
        })
        .collect()
}

/// A container that is being made, with all that config.json says of it.
pub(super) fn new_container(
    record: &ContainerRecord,
    spec: &ContainerSpec,
    config: &spec::Spec,
) -> api::Container {
    let mut made = of_config(config);
    let linux = made.linux.get_or_insert_default();
    linux.seccomp_policy = config.linux().seccomp.as_ref().map(seccomp);
    made.id.clone_from(&record.id);
    made.pod_sandbox_id.clone_from(&record.pod_id);
    made.created_at = record.created_at;
    let image = (record.image_ref.as_str(), record.image_id.as_str());
    complete(&mut made, spec, image);
    made
}

/// A container as it is; `config` is its config.json, if that can be read.
pub(super) fn container(view: &Container, config: Option<&spec::Spec>) -> api::Container {
    let mut told = config.map(of_config).unwrap_or_default();
    told.id.clone_from(&view.id);
    told.pod_sandbox_id.clone_from(&view.pod_id);
    told.created_at = view.created_at;
    let state = match &view.state {
        ContainerState::Created => Told::ContainerCreated,
        ContainerState::Running { started_at } => {
            told.started_at = *started_at;
            Told::ContainerRunning
        }
        ContainerState::Exited {
            started_at,
            finished_at,
            exit_code,
            reason,
            message,
        } => {
            told.started_at = *started_at;
            told.finished_at = *finished_at;
            told.exit_code = *exit_code;
            (*reason).clone_into(&mut told.status_reason);
            told.status_message.clone_from(message);
            Told::ContainerStopped
        }
        ContainerState::Unknown => Told::ContainerUnknown,
    };
    told.state = state.into();
    let pid = view.pid.and_then(|pid| pid.try_into().ok());
    told.pid = pid.unwrap_or_default();
    let image = (view.image_ref.as_str(), view.image_id.as_str());
    complete(&mut told, &view.spec, image);
    // Changed since config.json was written.
    let linux = told.linux.get_or_insert_default();
    limits::add(
        linux.resources.get_or_insert_default(),
        &view.spec.resources,
    );
    told
}

/// What the request says.
fn complete(told: &mut api::Container, spec: &ContainerSpec, (reference, id): (&str, &str)) {
    told.name.clone_from(&spec.name);
    told.labels.clone_from(&spec.labels);
    let device = |name: &String| CdiDevice { name: name.clone() };
    told.cdi_devices = spec.cdi_devices.iter().map(device).collect();
    let (kind, path) = match &spec.security.seccomp {
        Profile::RuntimeDefault => (ProfileType::RuntimeDefault, ""),
        Profile::Unconfined => (ProfileType::Unconfined, ""),
        Profile::Localhost(path) => (ProfileType::Localhost, path.as_str()),
    };
    told.linux.get_or_insert_default().seccomp_profile = Some(SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: path.to_owned(),
    });
    let digest = reference.split_once('@').map_or("", |(_, digest)| digest);
    told.image = Some(api::Image {
        name: spec.named_image().to_owned(),
        digest: digest.to_owned(),
        config_digest: match id {
            "" => String::new(),
            id => format!("sha256:{id}"),
        },
    });
}

/// What config.json says.
fn of_config(config: &spec::Spec) -> api::Container {
    let linux = config.linux();
    let process = config.process.clone().unwrap_or_default();
    api::Container {
        annotations: config.annotations.clone(),
        args: process.args,
        env: process.env,
        mounts: config.mounts.iter().map(mount).collect(),
        hooks: config.hooks.as_ref().map(hooks),
        linux: Some(LinuxContainer {
            namespaces: linux.namespaces.iter().map(namespace).collect(),
            devices: linux.devices.iter().map(device).collect(),
            resources: linux.resources.as_ref().map(limits::of_config),
            oom_score_adj: process.oom_score_adj.map(|value| api::OptionalInt {
                value: value.into(),
            }),
            cgroups_path: linux.cgroups_path.clone().unwrap_or_default(),
            io_priority: process.io_priority.as_ref().map(|it| api::LinuxIoPriority {
                class: api::IoPrioClass::from_str_name(&it.class).map_or(0, Into::into),
                priority: it.priority,
            }),
            seccomp_profile: None,
            seccomp_policy: None,
            sysctl: linux.sysctl.clone(),
            net_devices: linux
                .net_devices
                .iter()
                .map(|(outside, inside)| {
                    let name = inside.name.clone().unwrap_or_default();
                    (outside.clone(), api::LinuxNetDevice { name })
                })
                .collect(),
            scheduler: process.scheduler.as_ref().map(scheduler),
            rdt: linux.intel_rdt.as_ref().map(rdt),
        }),
        rlimits: process
            .rlimits
            .into_iter()
            .map(|limit| api::PosixRlimit {
                r#type: limit.kind,
                hard: limit.hard,
                soft: limit.soft,
            })
            .collect(),
        user: Some(api::User {
            uid: process.user.uid,
            gid: process.user.gid,
            additional_gids: process.user.additional_gids,
        }),
        ..api::Container::default()
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn mount(mount: &spec::Mount) -> api::Mount {
    api::Mount {
        destination: text(&mount.destination),
        r#type: mount.kind.clone().unwrap_or_default(),
        source: mount.source.as_deref().map(text).unwrap_or_default(),
        options: mount.options.clone(),
    }
}

fn hooks(hooks: &spec::Hooks) -> api::Hooks {
    let all = |list: &[spec::Hook]| -> Vec<api::Hook> {
        let one = |hook: &spec::Hook| api::Hook {
            path: text(&hook.path),
            args: hook.args.clone(),
            env: hook.env.clone().unwrap_or_default(),
            timeout: hook.timeout.map(|value| api::OptionalInt { value }),
        };
        list.iter().map(one).collect()
    };
    api::Hooks {
        prestart: all(&hooks.prestart),
        create_runtime: all(&hooks.create_runtime),
        create_container: all(&hooks.create_container),
        start_container: all(&hooks.start_container),
        poststart: all(&hooks.poststart),
        poststop: all(&hooks.poststop),
    }
}

fn namespace(one: &spec::Namespace) -> api::LinuxNamespace {
    api::LinuxNamespace {
        r#type: kind_name(one.kind).to_owned(),
        path: one.path.as_deref().map(text).unwrap_or_default(),
    }
}

/// Kinds of namespaces by their names in config.json.
pub(super) const KINDS: [(NamespaceKind, &str); 8] = [
    (NamespaceKind::Pid, "pid"),
    (NamespaceKind::Network, "network"),
    (NamespaceKind::Mount, "mount"),
    (NamespaceKind::Ipc, "ipc"),
    (NamespaceKind::Uts, "uts"),
    (NamespaceKind::User, "user"),
    (NamespaceKind::Cgroup, "cgroup"),
    (NamespaceKind::Time, "time"),
];

fn kind_name(kind: NamespaceKind) -> &'static str {
    let found = KINDS.iter().find(|(known, _)| *known == kind);
    found.map_or("", |(_, name)| name)
}

fn device(device: &spec::Device) -> api::LinuxDevice {
    let number = |value: u32| api::OptionalUInt32 { value };
    api::LinuxDevice {
        path: text(&device.path),
        r#type: device.kind.clone(),
        major: device.major.unwrap_or_default(),
        minor: device.minor.unwrap_or_default(),
        file_mode: device
            .file_mode
            .map(|value| api::OptionalFileMode { value }),
        uid: device.uid.map(number),
        gid: device.gid.map(number),
    }
}

fn scheduler(scheduler: &spec::Scheduler) -> api::LinuxScheduler {
    let flag = |name: &String| api::LinuxSchedulerFlag::from_str_name(name).map(Into::into);
    api::LinuxScheduler {
        policy: api::LinuxSchedulerPolicy::from_str_name(&scheduler.policy).map_or(0, Into::into),
        nice: scheduler.nice.unwrap_or_default(),
        priority: scheduler.priority.unwrap_or_default(),
        flags: scheduler.flags.iter().filter_map(flag).collect(),
        runtime: scheduler.runtime.unwrap_or_default(),
        deadline: scheduler.deadline.unwrap_or_default(),
        period: scheduler.period.unwrap_or_default(),
    }
}

fn rdt(rdt: &spec::IntelRdt) -> api::LinuxRdt {
    api::LinuxRdt {
        clos_id: rdt
            .clos_id
            .clone()
            .map(|value| api::OptionalString { value }),
        schemata: Some(api::OptionalRepeatedString {
            value: rdt.schemata.clone(),
        }),
        enable_monitoring: Some(api::OptionalBool {
            value: rdt.enable_monitoring,
        }),
        remove: false,
    }
}

fn seccomp(profile: &spec::Seccomp) -> api::LinuxSeccomp {
    let number = |value: u32| api::OptionalUInt32 { value };
    let arg = |arg: &spec::SeccompArg| api::LinuxSeccompArg {
        index: arg.index,
        value: arg.value,
        value_two: arg.value_two,
        op: arg.op.clone(),
    };
    let rule = |rule: &spec::SeccompSyscall| api::LinuxSyscall {
        names: rule.names.iter().map(|name| name.to_string()).collect(),
        action: rule.action.clone(),
        errno_ret: rule.errno_ret.map(number),
        args: rule.args.iter().map(arg).collect(),
    };
    api::LinuxSeccomp {
        default_action: profile.default_action.clone(),
        default_errno: profile.default_errno_ret.map(number),
        architectures: profile.architectures.clone(),
        flags: profile.flags.clone().unwrap_or_default(),
        listener_path: profile.listener_path.clone(),
        listener_metadata: profile.listener_metadata.clone(),
        syscalls: profile.syscalls.iter().map(rule).collect(),
    }
}
