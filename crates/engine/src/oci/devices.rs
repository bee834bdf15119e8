//! runtime-spec `linux.devices` and the device rules that go with them. The runtime makes the
//! default nodes (null, zero, …) itself. Directories are walked with a list of what is left, never
//! by recursion; a link below a directory is never followed; what is looked at and what is made has
//! a limit.

use std::collections::HashMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use runtime::spec;

use super::Inputs;
use super::host::Host;
use crate::annotations;
use crate::config::parse_device;
use crate::container::Device;
use crate::error::{Error, Result};
use crate::node::devices;

/// The most nodes that a container's request may ask for, directories counted out.
const MAX_NODES: usize = 4096;
/// The most entries of directories that are looked at for one container.
const MAX_ENTRIES: usize = 65_536;
/// What every container has of its own below `/dev`.
const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// What a container gets of the node's devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// The nodes that request and privilege ask for, one per path.
    pub(super) nodes: Vec<spec::Device>,
    /// Rules of the device controller: everything for a privileged container; else what the request
    /// names, on top of the runtime's defaults, after a denial of all.
    pub(super) rules: Vec<spec::DeviceCgroup>,
    /// With a user namespace, whose root makes no nodes: those of the node, bound where the request wants them.
    pub(super) mounts: Vec<spec::Mount>,
}

/// The device nodes of the node that a request means.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// All that the node has, for a privileged container.
    pub(super) all: Vec<spec::Device>,
    /// What each device of the request stands for, in order.
    pub(super) asked: Vec<Vec<Asked>>,
    /// The devices that the configuration gives, and the pod's annotation asks for, and what they stand for.
    pub(super) given: Vec<(Device, Vec<Asked>)>,
}

/// One that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// Where it is on the node.
    pub(super) source: PathBuf,
    /// What it is to be inside.
    pub(super) node: spec::Device,
}

/// Looks for the devices that a request names, and those that are `given` besides.
pub(super) fn look(asked: &[Device], given: Vec<Device>, all: bool) -> Result<Found> {
    let mut found = Found::default();
    let mut left = MAX_ENTRIES;
    if all {
        for path in devices_below(Path::new("/dev"), &mut left)? {
            // A console is a terminal of the container's own.
            if path.file_name().is_some_and(|name| name != "console") {
                found.all.extend(node(&path, &path));
            }
        }
    }
    let mut count = 0;
    let mut nodes = |device: &Device| {
        let nodes = nodes_of(device, &mut left)?;
        count += nodes.len();
        if count > MAX_NODES {
            let reason = format!("more than {MAX_NODES} device nodes are asked for");
            return Err(Error::invalid("devices", reason));
        }
        Ok(nodes)
    };
    for device in asked {
        found.asked.push(nodes(device)?);
    }
    for device in given {
        let its = nodes(&device)?;
        found.given.push((device, its));
    }
    Ok(found)
}

/// The devices of every container, and those that the pod's annotation asks for and the configuration allows.
///
/// # Errors
/// What is no device, or none that is allowed.
pub(super) fn given(inputs: &Inputs<'_>) -> Result<Vec<Device>> {
    let runtime = inputs.runtime;
    let of_config = |why| Error::invalid("crio.runtime.additional_devices", why);
    let all = runtime.additional_devices.iter();
    let all = all.map(|text| parse_device(text).map_err(of_config));
    let mut all = all.collect::<Result<Vec<_>>>()?;
    if let Some((key, text)) = inputs.annotations().get(annotations::DEVICES) {
        for text in text.split(',').filter(|text| !text.is_empty()) {
            let device = parse_device(text).map_err(|why| annotations::wrong(key, why))?;
            if !runtime.allowed_devices.contains(&device.host_path) {
                let reason = format!("{} is not in allowed_devices", device.host_path.display());
                return Err(annotations::wrong(key, reason));
            }
            all.push(device);
        }
    }
    Ok(all)
}

pub(super) fn build(inputs: &Inputs<'_>, host: &Host) -> Result<Devices> {
    let all_devices = inputs.all_devices();
    let mut nodes = Nodes::default();
    let mut mounts = Vec::new();
    let all = host.devices.all.iter().cloned();
    all.for_each(|node| nodes.put(node));
    let mut rules = vec![spec::DeviceCgroup {
        allow: all_devices,
        access: Some("rwm".into()),
        ..spec::DeviceCgroup::default()
    }];
    let asked = inputs.container.spec.devices.iter();
    let asked = asked.zip(&host.devices.asked);
    let given = &host.devices.given;
    let given = given.iter().map(|(device, found)| (device, found, false));
    // What the request says of a path is said last.
    let each = given.chain(asked.map(|(device, found)| (device, found, true)));
    for (device, found, is_asked) in each {
        let access = access(device)?;
        for Asked { source, node } in found {
            if !all_devices {
                rules.push(rule(node, access));
            }
            let node = match is_asked {
                true => owned(inputs, node.clone()),
                false => node.clone(),
            };
            match inputs.users() {
                Some(_) => mounts.push(devices::bound(source, &node)),
                None => nodes.put(node),
            }
        }
    }
    let nodes = nodes.all;
    Ok(Devices {
        nodes,
        rules,
        mounts,
    })
}

/// A node as its container's user and group own it, if the configuration wants that and the request names them.
fn owned(inputs: &Inputs<'_>, node: spec::Device) -> spec::Device {
    if !inputs.runtime.device_ownership_from_security_context {
        return node;
    }
    let security = &inputs.container.spec.security;
    let named = |id: Option<i64>, node: Option<u32>| {
        let id = id.and_then(|id| u32::try_from(id).ok());
        id.filter(|id| *id != 0).or(node)
    };
    spec::Device {
        uid: named(security.run_as_user, node.uid),
        gid: named(security.run_as_group, node.gid),
        ..node
    }
}

fn rule(node: &spec::Device, access: &str) -> spec::DeviceCgroup {
    spec::DeviceCgroup {
        allow: true,
        kind: Some(node.kind.clone()),
        major: node.major,
        minor: node.minor,
        access: Some(access.to_owned()),
    }
}

fn field(device: &Device) -> String {
    format!("devices[{}]", device.host_path.display())
}

fn access(device: &Device) -> Result<&str> {
    match device.permissions.as_str() {
        "" => Ok("rwm"),
        access => match access.chars().find(|c| !"rwm".contains(*c)) {
            None => Ok(access),
            Some(bad) => Err(Error::invalid(
                format!("{}.permissions", field(device)),
                format!("{bad:?} is none of r, w, m"),
            )),
        },
    }
}

/// One device, or all devices below a directory. The path that was asked for may be a link.
fn nodes_of(device: &Device, left: &mut usize) -> Result<Vec<Asked>> {
    let wrong = |reason: String| Error::invalid(field(device), reason);
    let source = device
        .host_path
        .canonicalize()
        .map_err(|e| wrong(e.to_string()))?;
    if !source.is_dir() {
        let node = node(&source, &device.container_path)
            .ok_or_else(|| wrong(format!("{} is not a device", source.display())))?;
        return Ok(vec![Asked { source, node }]);
    }
    let found = devices_below(&source, left).map_err(|e| wrong(e.to_string()))?;
    let inside = |path: PathBuf| {
        let below = path.strip_prefix(&source).ok()?;
        let node = node(&path, &device.container_path.join(below))?;
        Some(Asked { source: path, node })
    };
    Ok(found.into_iter().filter_map(inside).collect())
}

/// The device nodes below a directory. `left` is how many entries may still be looked at.
fn devices_below(root: &Path, left: &mut usize) -> Result<Vec<PathBuf>> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        let entries = match std::fs::read_dir(&dir) {
            // Gone meanwhile: devices come and go.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(Error::io("read", &dir))?,
        };
        for entry in entries.flatten() {
            *left = left.checked_sub(1).ok_or_else(|| {
                let reason = format!("more than {MAX_ENTRIES} files to look at");
                Error::invalid(root.display().to_string(), reason)
            })?;
            // The entry's own type: a link is none of these.
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let own = dir == Path::new("/dev") && OWN.iter().any(|own| entry.file_name() == *own);
            if kind.is_dir() && !own {
                dirs.push(entry.path());
            } else if kind.is_char_device() || kind.is_block_device() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Nodes by their path inside; the last one of a path wins.
#[derive(Default)]
struct Nodes {
    all: Vec<spec::Device>,
    places: HashMap<PathBuf, usize>,
}

impl Nodes {
    fn put(&mut self, node: spec::Device) {
        match self.places.get(&node.path) {
            Some(place) => self.all[*place] = node,
            None => {
                self.places.insert(node.path.clone(), self.all.len());
                self.all.push(node);
            }
        }
    }
}

/// A node as it is to be inside; `None`: it is no device, or gone.
fn node(source: &Path, target: &Path) -> Option<spec::Device> {
    let found = std::fs::symlink_metadata(source).ok()?;
    devices::of(&found, target)
}
