//! What the devices of a container change in its config.json. [`Edits::add`] looks at device nodes;
//! [`Edits::make`] only changes.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use runtime::spec;

use super::FIELD;
use super::spec::{ContainerEdits, DeviceNode, IntelRdt};
use crate::error::{Error, Result};
use crate::node::devices;

/// The changes of all devices of a container, in order.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    all: Vec<ContainerEdits>,
}

impl Edits {
    /// Adds what a device changes; what its device nodes do not say is as on the node. With users of its own
    /// (`in_users`) a container gets the node's devices themselves.
    ///
    /// # Errors
    /// A device node that is not there, or is none.
    pub(super) fn add(
        &mut self,
        edits: &ContainerEdits,
        device: &str,
        in_users: bool,
    ) -> Result<()> {
        let mut edits = edits.clone();
        for node in &mut edits.device_nodes {
            complete(node, in_users)
                .map_err(|reason| Error::invalid(FIELD, format!("{device}: {reason}")))?;
        }
        self.all.push(edits);
        Ok(())
    }

    /// Changes a configuration. A privileged container, which has every device, needs no rules for them.
    pub(crate) fn make(self, config: &mut spec::Spec, needs_rules: bool) {
        let has_mounts = self.all.iter().any(|edits| !edits.mounts.is_empty());
        for edits in self.all {
            environment(config, edits.env);
            for node in edits.device_nodes {
                device(config, node, needs_rules);
            }
            let linux = config.linux.get_or_insert_default();
            linux
                .net_devices
                .extend(edits.net_devices.into_iter().map(|device| {
                    let name = Some(device.name);
                    (device.host_interface_name, spec::NetDevice { name })
                }));
            for mount in edits.mounts {
                config
                    .mounts
                    .retain(|other| other.destination != mount.container_path);
                config.mounts.push(spec::Mount {
                    destination: mount.container_path,
                    kind: mount.kind,
                    source: Some(mount.host_path),
                    options: mount.options,
                    ..spec::Mount::default()
                });
            }
            for hook in edits.hooks {
                self::hook(config, hook);
            }
            if let Some(rdt) = edits.intel_rdt {
                resctrl(config, rdt);
            }
            let user = &mut config.process.get_or_insert_default().user;
            for gid in edits.additional_gids {
                if gid != 0 && !user.additional_gids.contains(&gid) {
                    user.additional_gids.push(gid);
                }
            }
        }
        if has_mounts {
            // What is mounted at a directory comes before what is mounted below it.
            let mounts = &mut config.mounts;
            mounts.sort_by_key(|mount| mount.destination.components().count());
        }
    }
}

/// Fills in what the node's own device says.
fn complete(node: &mut DeviceNode, in_users: bool) -> std::result::Result<(), String> {
    let source = node.host_path.clone();
    let source = source
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or_else(|| node.path.clone());
    node.kind = node.kind.take().filter(|kind| !kind.is_empty());
    let is_fifo = node.kind.as_deref() == Some("p");
    let numbered = node.major.is_some() && node.minor.is_some();
    if node.kind.is_some() && (is_fifo || numbered && !in_users) {
        return Ok(());
    }
    let there = on_node(&source)?;
    let other = |said: Option<i64>, there: Option<i64>| said.is_some() && said != there;
    if in_users && (other(node.major, there.major) || other(node.minor, there.minor)) {
        return Err(format!(
            "{} is another device than its file says, and a pod with a user namespace has those of the node",
            source.display()
        ));
    }
    match &node.kind {
        Some(said) if *said != there.kind && !(said == "u" && there.kind == "c") => {
            return Err(format!(
                "{} is of type {}, and its file says {said}",
                source.display(),
                there.kind
            ));
        }
        _ => node.kind = Some(there.kind),
    }
    node.major = node.major.or(there.major);
    node.minor = node.minor.or(there.minor);
    node.file_mode = node.file_mode.or(there.file_mode);
    Ok(())
}

/// What there is: a device, or a FIFO, which has no numbers.
fn on_node(path: &Path) -> std::result::Result<spec::Device, String> {
    let failed = |error| format!("{}: {error}", path.display());
    let found = std::fs::metadata(path).map_err(failed)?;
    match devices::of(&found, path) {
        Some(device) => Ok(device),
        None if found.file_type().is_fifo() => Ok(spec::Device {
            kind: "p".into(),
            file_mode: Some(found.mode() & 0o777),
            ..spec::Device::default()
        }),
        None => Err(format!("{} is no device", path.display())),
    }
}

/// A variable of the same name is replaced.
fn environment(config: &mut spec::Spec, variables: Vec<String>) {
    let env = &mut config.process.get_or_insert_default().env;
    for variable in variables {
        let name = variable.split('=').next().unwrap_or_default();
        let same = |other: &String| {
            let other = other.split('=').next();
            other == Some(name)
        };
        match env.iter_mut().find(|other| same(other)) {
            Some(other) => *other = variable,
            None => env.push(variable),
        }
    }
}

/// A device node of the same path is replaced. One that says no owner is the container's user's.
fn device(config: &mut spec::Spec, node: DeviceNode, needs_rule: bool) {
    let user = config.process.as_ref().map(|process| &process.user);
    let owner = |said: Option<u32>, of: fn(&spec::User) -> u32| {
        said.or_else(|| user.map(of).filter(|id| *id != 0))
    };
    let made = spec::Device {
        kind: node.kind.unwrap_or_default(),
        major: node.major,
        minor: node.minor,
        file_mode: node.file_mode,
        uid: owner(node.uid, |user| user.uid),
        gid: owner(node.gid, |user| user.gid),
        path: node.path,
    };
    let linux = config.linux.get_or_insert_default();
    if needs_rule && made.kind != "p" {
        let access = node.permissions.filter(|access| !access.is_empty());
        let resources = linux.resources.get_or_insert_default();
        resources.devices.push(spec::DeviceCgroup {
            allow: true,
            kind: Some(made.kind.clone()),
            major: made.major,
            minor: made.minor,
            access: Some(access.unwrap_or_else(|| "rwm".to_owned())),
        });
    }
    linux.devices.retain(|other| other.path != made.path);
    // Root of a user namespace makes no device nodes, but FIFOs.
    let in_users = linux
        .namespaces
        .iter()
        .any(|namespace| namespace.kind == spec::NamespaceKind::User);
    if in_users && made.kind != "p" {
        let source = node.host_path.filter(|path| !path.as_os_str().is_empty());
        let source = source.unwrap_or_else(|| made.path.clone());
        config.mounts.retain(|other| other.destination != made.path);
        config.mounts.push(devices::bound(&source, &made));
        return;
    }
    linux.devices.push(made);
}

fn hook(config: &mut spec::Spec, hook: super::spec::Hook) {
    let made = spec::Hook {
        path: hook.path,
        args: hook.args,
        env: (!hook.env.is_empty()).then_some(hook.env),
        timeout: hook.timeout,
    };
    config.hooks.get_or_insert_default().add(hook.stage, made);
}

fn resctrl(config: &mut spec::Spec, rdt: IntelRdt) {
    let linux = config.linux.get_or_insert_default();
    linux.intel_rdt = Some(spec::IntelRdt {
        clos_id: rdt.clos_id,
        schemata: rdt.schemata,
        l3_cache_schema: rdt.l3_cache_schema,
        mem_bw_schema: rdt.mem_bw_schema,
        enable_monitoring: rdt.enable_monitoring,
    });
}
