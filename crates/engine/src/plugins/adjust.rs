//! What plugins want of a container that is being made, done to its config.json and its record. What floe cannot
//! do is refused by its name; nothing is left out in silence.

use std::path::PathBuf;

use nri::api::{
    self, ContainerAdjustment, KeyValue, LinuxContainerAdjustment, LinuxDevice, LinuxNamespace,
    LinuxRdt, LinuxSeccomp, removed,
};
use runtime::cgroup::Unit;
use runtime::spec::{self, HookStage, NamespaceKind};

use super::{limits, views};
use crate::cdi;
use crate::container::record::ContainerRecord;
use crate::error::{Error, Result};

/// Asks for labels of SELinux on a mount's files.
const RELABEL: &str = "relabel";

/// A container that is being made.
pub(super) struct Adjust<'a> {
    /// Its pod's cgroup.
    pub(super) pod_cgroup: &'a str,
    /// Its pod has a user namespace of its own.
    pub(super) in_users: bool,
    pub(super) record: &'a mut ContainerRecord,
    pub(super) config: &'a mut spec::Spec,
    /// Directories of CDI files.
    pub(super) cdi_dirs: &'a [PathBuf],
    /// It may use the node's devices without a rule for each.
    pub(super) all_devices: bool,
}

fn wrong(field: &str, reason: impl Into<String>) -> Error {
    Error::invalid(format!("NRI: {field}"), reason)
}

impl Adjust<'_> {
    /// Does all of it.
    ///
    /// # Errors
    /// What cannot be, by its name.
    pub(super) fn apply(mut self, said: ContainerAdjustment) -> Result<()> {
        self.annotations(&said)?;
        self.environment(&said.env);
        if !said.args.is_empty() {
            self.record.args.clone_from(&said.args);
            self.process().args = said.args;
        }
        self.hooks(said.hooks.unwrap_or_default());
        let names = said.cdi_devices.into_iter().map(|device| device.name);
        let names: Vec<String> = names.collect();
        cdi::look(self.cdi_dirs, &names, self.in_users)?.make(self.config, !self.all_devices);
        if let Some(linux) = said.linux {
            self.linux(linux)?;
        }
        self.mounts(said.mounts)?;
        let rlimits = &mut self.process().rlimits;
        for limit in said.rlimits {
            rlimits.retain(|other| other.kind != limit.r#type);
            rlimits.push(spec::Rlimit {
                kind: limit.r#type,
                soft: limit.soft,
                hard: limit.hard,
            });
        }
        Ok(())
    }

    fn process(&mut self) -> &mut spec::Process {
        self.config.process.get_or_insert_default()
    }

    fn of_linux(&mut self) -> &mut spec::Linux {
        self.config.linux.get_or_insert_default()
    }

    fn annotations(&mut self, said: &ContainerAdjustment) -> Result<()> {
        let all = &mut self.config.annotations;
        for (key, value) in &said.annotations {
            let name = removed(key).unwrap_or(key);
            if Unit::is_annotation(name) {
                let reason = "speaks of the container's unit, which is floe's to describe";
                return Err(wrong(&format!("annotations[{name}]"), reason));
            }
            match removed(key) {
                Some(name) => drop(all.remove(name)),
                None => drop(all.insert(key.clone(), value.clone())),
            }
        }
        Ok(())
    }

    /// A variable of the same name is replaced where it stands.
    fn environment(&mut self, said: &[KeyValue]) {
        let process = self.process();
        for KeyValue { key, value } in said {
            let name = removed(key).unwrap_or(key);
            let same = |variable: &String| variable.split('=').next() == Some(name);
            // They would win.
            process.binary_env.retain(|other| other.name != name);
            if removed(key).is_some() {
                process.env.retain(|variable| !same(variable));
                continue;
            }
            let variable = format!("{name}={value}");
            match process.env.iter_mut().find(|other| same(other)) {
                Some(other) => *other = variable,
                None => process.env.push(variable),
            }
        }
    }

    fn hooks(&mut self, said: api::Hooks) {
        for (stage, hooks) in [
            (HookStage::Prestart, said.prestart),
            (HookStage::CreateRuntime, said.create_runtime),
            (HookStage::CreateContainer, said.create_container),
            (HookStage::StartContainer, said.start_container),
            (HookStage::Poststart, said.poststart),
            (HookStage::Poststop, said.poststop),
        ] {
            for hook in hooks {
                let made = spec::Hook {
                    path: hook.path.into(),
                    args: hook.args,
                    env: (!hook.env.is_empty()).then_some(hook.env),
                    timeout: hook.timeout.map(|it| it.value),
                };
                let hooks = self.config.hooks.get_or_insert_default();
                hooks.add(stage, made);
            }
        }
    }

    fn linux(&mut self, said: LinuxContainerAdjustment) -> Result<()> {
        self.devices(said.devices)?;
        self.cgroup(&said.cgroups_path)?;
        if let Some(score) = said.oom_score_adj {
            let value = i32::try_from(score.value).ok();
            let value = value.filter(|value| (-1000..=1000).contains(value));
            let value = value.ok_or_else(|| {
                wrong("oom_score_adj", format!("{} is out of range", score.value))
            })?;
            self.process().oom_score_adj = Some(value);
            self.record.spec.resources.oom_score_adj = value.into();
        }
        if let Some(priority) = said.io_priority {
            let class = priority.class();
            self.process().io_priority =
                (class != api::IoPrioClass::IoprioClassNone).then(|| spec::IoPriority {
                    class: class.as_str_name().to_owned(),
                    priority: priority.priority,
                });
        }
        if let Some(scheduler) = said.scheduler {
            self.process().scheduler = scheduling(&scheduler);
        }
        if let Some(policy) = said.seccomp_policy {
            self.of_linux().seccomp = Some(seccomp(policy));
        }
        self.namespaces(said.namespaces)?;
        for (key, value) in said.sysctl {
            let sysctls = &mut self.of_linux().sysctl;
            match removed(&key) {
                Some(name) => drop(sysctls.remove(name)),
                None => drop(sysctls.insert(key, value)),
            }
        }
        for (key, device) in said.net_devices {
            let devices = &mut self.of_linux().net_devices;
            match removed(&key) {
                Some(name) => drop(devices.remove(name)),
                None => {
                    let name = (!device.name.is_empty()).then_some(device.name);
                    devices.insert(key, spec::NetDevice { name });
                }
            }
        }
        if let Some(policy) = said.memory_policy {
            self.of_linux().memory_policy = Some(spec::MemoryPolicy {
                mode: policy.mode().as_str_name().to_owned(),
                flags: policy
                    .flags()
                    .map(|flag| flag.as_str_name().to_owned())
                    .collect(),
                nodes: policy.nodes,
            });
        }
        self.resources(said.resources)?;
        self.rdt(said.rdt);
        Ok(())
    }

    /// A node of the same path is replaced.
    fn devices(&mut self, said: Vec<LinuxDevice>) -> Result<()> {
        if said.iter().any(|one| removed(&one.path).is_none()) && self.in_users {
            let what =
                "device nodes of NRI plugins in a pod with a user namespace, whose root makes none";
            return Err(Error::Unsupported(what.to_owned()));
        }
        let needs_rules = !self.all_devices;
        let linux = self.of_linux();
        for one in said {
            let path = PathBuf::from(removed(&one.path).unwrap_or(&one.path));
            linux.devices.retain(|other| other.path != path);
            if removed(&one.path).is_some() {
                continue;
            }
            let is_fifo = one.r#type == "p";
            let number = |value: i64| (!is_fifo).then_some(value);
            let node = spec::Device {
                path,
                kind: one.r#type.clone(),
                major: number(one.major),
                minor: number(one.minor),
                file_mode: one.file_mode.map(|it| it.value),
                uid: one.uid.map(|it| it.value),
                gid: one.gid.map(|it| it.value),
            };
            if needs_rules && !is_fifo {
                let access = if node.kind == "b" { "rwm" } else { "rw" };
                let resources = linux.resources.get_or_insert_default();
                resources.devices.push(spec::DeviceCgroup {
                    allow: true,
                    kind: Some(node.kind.clone()),
                    major: node.major,
                    minor: node.minor,
                    access: Some(access.to_owned()),
                });
            }
            linux.devices.push(node);
        }
        Ok(())
    }

    /// The container stays in its pod's cgroup, whose limits hold for it.
    fn cgroup(&mut self, path: &str) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        if Unit::at(&self.record.cgroup).is_some() {
            let what = "NRI: another cgroups_path with the cgroup manager systemd".to_owned();
            return Err(Error::Unsupported(what));
        }
        let below = path.trim_start_matches('/');
        let name = below
            .strip_prefix(self.pod_cgroup.trim_start_matches('/'))
            .and_then(|rest| rest.strip_prefix('/'))
            .filter(|name| !name.is_empty() && !name.contains(['/', '\0', '\n']))
            .filter(|name| !matches!(*name, "." | ".."));
        let Some(name) = name else {
            let reason = format!(
                "{path:?} is not right below the pod's cgroup {:?}",
                self.pod_cgroup
            );
            return Err(wrong("cgroups_path", reason));
        };
        self.record.cgroup = format!("{}/{name}", self.pod_cgroup);
        self.of_linux().cgroups_path = Some(format!("/{}", below));
        Ok(())
    }

    fn namespaces(&mut self, said: Vec<LinuxNamespace>) -> Result<()> {
        for one in said {
            let name = removed(&one.r#type).unwrap_or(&one.r#type);
            let known = views::KINDS.iter().find(|(_, known)| *known == name);
            let Some((kind, _)) = known else {
                return Err(wrong("namespaces", format!("{name:?} is no namespace")));
            };
            if matches!(kind, NamespaceKind::User | NamespaceKind::Mount) {
                let what = format!("NRI: another {name} namespace than the pod's");
                return Err(Error::Unsupported(what));
            }
            let all = &mut self.of_linux().namespaces;
            let was = all.iter().any(|other| other.kind == *kind);
            all.retain(|other| other.kind != *kind);
            let path = match removed(&one.r#type) {
                None if one.path.is_empty() => None,
                None => Some(PathBuf::from(&one.path)),
                // The supervisor lives in the pod's: the node's is this process's.
                Some(_) if was && self.is_pods(*kind) => Some(nodes_own(name)),
                Some(_) => continue,
            };
            let made = spec::Namespace { kind: *kind, path };
            self.of_linux().namespaces.push(made);
        }
        Ok(())
    }

    /// Does what runs the pod live in such a namespace of the pod's?
    fn is_pods(&self, kind: NamespaceKind) -> bool {
        use NamespaceKind::{Ipc, Network, Uts};
        matches!(kind, Network | Ipc | Uts)
    }

    fn resources(&mut self, said: Option<api::LinuxResources>) -> Result<()> {
        let Some(mut said) = said else { return Ok(()) };
        if let Some(memory) = &mut said.memory {
            // Who limits the memory of a new container alone means it with its swap.
            memory.swap = memory.swap.or(memory.limit);
        }
        let linux = self.of_linux();
        limits::merge(&said, linux.resources.get_or_insert_default())?;
        if let Some(class) = said.rdt_class.as_ref() {
            match class.value.as_str() {
                "" => self.of_linux().intel_rdt = None,
                // That of its pod: none of its own.
                "/PodQos" => {}
                class => {
                    let rdt = self.of_linux().intel_rdt.get_or_insert_default();
                    rdt.clos_id = Some(class.to_owned());
                }
            }
        }
        let asked = limits::as_request(&said)?;
        self.record.spec.resources = self.record.spec.resources.with(&asked);
        Ok(())
    }

    fn rdt(&mut self, said: Option<LinuxRdt>) {
        let Some(said) = said else { return };
        let linux = self.of_linux();
        if said.remove {
            linux.intel_rdt = None;
        }
        if said.clos_id.is_none() && said.schemata.is_none() && said.enable_monitoring.is_none() {
            return;
        }
        let rdt = linux.intel_rdt.get_or_insert_default();
        if let Some(class) = said.clos_id {
            rdt.clos_id = Some(class.value);
        }
        if let Some(schemata) = said.schemata {
            rdt.schemata = schemata.value;
        }
        if let Some(monitoring) = said.enable_monitoring {
            rdt.enable_monitoring = monitoring.value;
        }
    }

    fn mounts(&mut self, said: Vec<api::Mount>) -> Result<()> {
        if said.is_empty() {
            return Ok(());
        }
        for one in said {
            let place = PathBuf::from(removed(&one.destination).unwrap_or(&one.destination));
            if !place.is_absolute() {
                let reason = format!("{} is not absolute", place.display());
                return Err(wrong("mounts", reason));
            }
            let all = &mut self.config.mounts;
            all.retain(|other| other.destination != place);
            if removed(&one.destination).is_some() {
                continue;
            }
            let text = |text: String| (!text.is_empty()).then_some(text);
            // Files have labels only where the node has SELinux, and there the pod's.
            let options = one.options.into_iter().filter(|option| option != RELABEL);
            let made = spec::Mount {
                destination: place,
                kind: text(one.r#type),
                source: text(one.source).map(PathBuf::from),
                options: options.collect(),
                ..spec::Mount::default()
            };
            self.let_through(&made.options);
            self.config.mounts.push(made);
        }
        // What is mounted at a directory comes before what is mounted below it.
        let mounts = &mut self.config.mounts;
        mounts.sort_by_key(|mount| mount.destination.components().count());
        Ok(())
    }

    /// A mount with rshared or rslave needs a root that lets events through.
    fn let_through(&mut self, options: &[String]) {
        let has = |option: &str| options.iter().any(|other| other == option);
        let linux = self.of_linux();
        let now = linux.rootfs_propagation.as_deref();
        if has("rshared") {
            linux.rootfs_propagation = Some("rshared".to_owned());
        } else if has("rslave") && now != Some("rshared") {
            linux.rootfs_propagation = Some("rslave".to_owned());
        }
    }
}

/// A namespace of the node's: of this process, which is in them.
fn nodes_own(name: &str) -> PathBuf {
    let file = match name {
        "network" => "net",
        other => other,
    };
    format!("/proc/{}/ns/{file}", std::process::id()).into()
}

fn scheduling(said: &api::LinuxScheduler) -> Option<spec::Scheduler> {
    let policy = said.policy();
    if policy == api::LinuxSchedulerPolicy::SchedNone {
        return None;
    }
    let whole = |value: u64| (value != 0).then_some(value);
    let small = |value: i32| (value != 0).then_some(value);
    Some(spec::Scheduler {
        policy: policy.as_str_name().to_owned(),
        nice: small(said.nice),
        priority: small(said.priority),
        flags: said
            .flags()
            .map(|flag| flag.as_str_name().to_owned())
            .collect(),
        runtime: whole(said.runtime),
        deadline: whole(said.deadline),
        period: whole(said.period),
    })
}

fn seccomp(said: LinuxSeccomp) -> spec::Seccomp {
    let arg = |arg: api::LinuxSeccompArg| spec::SeccompArg {
        index: arg.index,
        value: arg.value,
        value_two: arg.value_two,
        op: arg.op,
    };
    let rule = |rule: api::LinuxSyscall| spec::SeccompSyscall {
        names: rule.names.into_iter().map(Into::into).collect(),
        action: rule.action,
        errno_ret: rule.errno_ret.map(|it| it.value),
        args: rule.args.into_iter().map(arg).collect(),
    };
    spec::Seccomp {
        default_action: said.default_action,
        default_errno_ret: said.default_errno.map(|it| it.value),
        architectures: said.architectures,
        flags: (!said.flags.is_empty()).then_some(said.flags),
        listener_path: said.listener_path,
        listener_metadata: said.listener_metadata,
        syscalls: said.syscalls.into_iter().map(rule).collect(),
    }
}

#[cfg(test)]
mod tests;
