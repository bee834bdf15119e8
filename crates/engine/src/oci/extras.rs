//! A person's further wishes ([`Extras`]), made into a config.json that is there without them.

use std::path::Path;

use runtime::spec;

use super::Inputs;
use crate::container::{BlockIo, DeviceNumber, Extras, Unset};

/// Changes what was built by what is wished besides.
pub(super) fn apply(inputs: &Inputs<'_>, built: &mut spec::Spec) {
    let Some(extras) = inputs.container.spec.extras.as_deref() else {
        return;
    };
    mounts(inputs, extras, &mut built.mounts);
    if let Some(process) = &mut built.process {
        environment(inputs, extras, process);
        rlimits(extras, process);
        process.user.umask = extras.umask.or(process.user.umask);
    }
    if let Some(linux) = &mut built.linux {
        paths(extras, linux);
        namespaces(extras, linux);
        resources(extras, linux.resources.get_or_insert_default());
    }
}

/// The request's own mounts are the last, and stay it.
fn mounts(inputs: &Inputs<'_>, extras: &Extras, mounts: &mut Vec<spec::Mount>) {
    let own = mounts.len() - inputs.container.spec.mounts.len();
    let asked = mounts.split_off(own);
    let replaced = |mount: &spec::Mount| {
        let of_pod = super::mounts::POD_FILES.iter();
        let mut of_pod = of_pod.map(|(_, target)| Path::new(target));
        let is_hidden = extras.hidden_files.contains(&mount.destination);
        let mut made = extras.filesystems.iter();
        (is_hidden && of_pod.any(|target| target == mount.destination))
            || made.any(|made| made.container_path == mount.destination)
    };
    mounts.retain(|mount| !replaced(mount));
    mounts.extend(extras.filesystems.iter().map(|made| spec::Mount {
        destination: made.container_path.clone(),
        kind: Some(made.kind.clone()),
        source: Some(made.kind.clone().into()),
        options: made.options.clone(),
        ..spec::Mount::default()
    }));
    mounts.extend(asked);
}

fn environment(inputs: &Inputs<'_>, extras: &Extras, process: &mut spec::Process) {
    let own = &inputs.container.spec.env;
    process.env.retain(|entry| {
        let name = entry.split('=').next().unwrap_or_default();
        let is_own = own.iter().any(|(own, _)| own == name);
        is_own
            || match &extras.unset_env {
                Unset::All => false,
                Unset::Names(names) => !names.iter().any(|unset| unset == name),
            }
    });
}

fn rlimits(extras: &Extras, process: &mut spec::Process) {
    for wished in &extras.rlimits {
        process.rlimits.retain(|limit| limit.kind != wished.kind);
        process.rlimits.push(spec::Rlimit {
            kind: wished.kind.clone(),
            soft: wished.soft,
            hard: wished.hard,
        });
    }
}

fn paths(extras: &Extras, linux: &mut spec::Linux) {
    let is_shown = |path: &String| {
        let mut shown = extras.unmask.iter();
        shown.any(|shown| {
            shown
                .as_deref()
                .is_none_or(|shown| shown == Path::new(path))
        })
    };
    linux.masked_paths.retain(|path| !is_shown(path));
    linux.readonly_paths.retain(|path| !is_shown(path));
    let further = extras.mask.iter().map(|path| path.display().to_string());
    linux.masked_paths.extend(further);
}

fn namespaces(extras: &Extras, linux: &mut spec::Linux) {
    let Some(own) = extras.own_cgroups else {
        return;
    };
    let kind = spec::NamespaceKind::Cgroup;
    linux.namespaces.retain(|namespace| namespace.kind != kind);
    if own {
        linux.namespaces.push(spec::Namespace { kind, path: None });
    }
}

fn resources(extras: &Extras, resources: &mut spec::Resources) {
    if extras.memory_reservation.is_some()
        || extras.memory_swappiness.is_some()
        || extras.oom_kill_disable
    {
        let memory = resources.memory.get_or_insert_default();
        memory.reservation = extras.memory_reservation.or(memory.reservation);
        memory.swappiness = extras.memory_swappiness.or(memory.swappiness);
        if extras.oom_kill_disable {
            memory.disable_oom_killer = Some(true);
        }
    }
    let wished = &extras.block_io;
    if *wished != BlockIo::default() {
        add_block_io(wished, resources.block_io.get_or_insert_default());
    }
}

fn add_block_io(wished: &BlockIo, block: &mut spec::BlockIo) {
    let rates = |list: &[(DeviceNumber, u64)]| -> Vec<spec::ThrottleDevice> {
        let rate = |(device, rate): &(DeviceNumber, u64)| spec::ThrottleDevice {
            major: device.major.into(),
            minor: device.minor.into(),
            rate: *rate,
        };
        list.iter().map(rate).collect()
    };
    block.weight = wished.weight.or(block.weight);
    let weights = wished.weight_device.iter();
    block
        .weight_device
        .extend(weights.map(|(device, weight)| spec::WeightDevice {
            major: device.major.into(),
            minor: device.minor.into(),
            weight: Some(*weight),
            leaf_weight: None,
        }));
    block
        .throttle_read_bps_device
        .extend(rates(&wished.read_bps));
    block
        .throttle_write_bps_device
        .extend(rates(&wished.write_bps));
    block
        .throttle_read_iops_device
        .extend(rates(&wished.read_iops));
    block
        .throttle_write_iops_device
        .extend(rates(&wished.write_iops));
}
