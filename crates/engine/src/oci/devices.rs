//! runtime-spec `linux.devices` and the device rules that go with them. The runtime makes the
//! default nodes (null, zero, …) itself.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use runtime::spec;

use super::Inputs;
use crate::container::Device;
use crate::disk;
use crate::error::{Error, Result};

/// The nodes that request and privilege ask for.
pub(super) fn nodes(inputs: &Inputs<'_>) -> Result<Vec<spec::Device>> {
    let mut all = Vec::new();
    if inputs.privileged() {
        host_devices(Path::new("/dev"), &mut all)?;
    }
    for device in &inputs.container.spec.devices {
        add_request(device, &mut all)?;
    }
    Ok(all)
}

/// Rules of the device controller: everything for a privileged container; else what the request
/// names, on top of the runtime's defaults, after a denial of all.
pub(super) fn rules(inputs: &Inputs<'_>) -> Result<Vec<spec::DeviceCgroup>> {
    let any = |allow: bool| spec::DeviceCgroup {
        allow,
        access: Some("rwm".into()),
        ..spec::DeviceCgroup::default()
    };
    if inputs.privileged() {
        return Ok(vec![any(true)]);
    }
    let mut all = vec![any(false)];
    for device in &inputs.container.spec.devices {
        let access = if device.permissions.is_empty() {
            "rwm"
        } else {
            &device.permissions
        };
        if let Some(bad) = access.chars().find(|c| !"rwm".contains(*c)) {
            return Err(Error::invalid(
                format!("devices[{}].permissions", device.host_path.display()),
                format!("{bad:?} is none of r, w, m"),
            ));
        }
        let mut nodes = Vec::new();
        add_request(device, &mut nodes)?;
        all.extend(nodes.into_iter().map(|node| spec::DeviceCgroup {
            allow: true,
            kind: Some(node.kind),
            major: node.major,
            minor: node.minor,
            access: Some(access.to_owned()),
        }));
    }
    Ok(all)
}

/// One device, or all devices below a directory.
fn add_request(device: &Device, all: &mut Vec<spec::Device>) -> Result<()> {
    let field = || format!("devices[{}]", device.host_path.display());
    let source = device
        .host_path
        .canonicalize()
        .map_err(|e| Error::invalid(field(), e.to_string()))?;
    if source.is_dir() {
        for name in disk::entries(&source)? {
            let inner = Device {
                container_path: device.container_path.join(&name),
                host_path: source.join(&name),
                permissions: device.permissions.clone(),
            };
            let is_device = std::fs::metadata(&inner.host_path).is_ok_and(|meta| {
                meta.is_dir()
                    || meta.file_type().is_char_device()
                    || meta.file_type().is_block_device()
            });
            if is_device {
                add_request(&inner, all)?;
            }
        }
        return Ok(());
    }
    let node = node(&source, &device.container_path)
        .ok_or_else(|| Error::invalid(field(), format!("{} is not a device", source.display())))?;
    all.retain(|have| have.path != node.path);
    all.push(node);
    Ok(())
}

/// Every device of the node but terminals and what the container has of its own.
fn host_devices(dir: &Path, all: &mut Vec<spec::Device>) -> Result<()> {
    const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
    for name in disk::entries(dir)? {
        let path = dir.join(&name);
        if (dir == Path::new("/dev") && OWN.contains(&name.as_str())) || name == "console" {
            continue;
        }
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.is_dir() {
            host_devices(&path, all)?;
        } else if let Some(node) = node(&path, &path) {
            all.push(node);
        }
    }
    Ok(())
}

fn node(source: &Path, target: &Path) -> Option<spec::Device> {
    let meta = std::fs::symlink_metadata(source).ok()?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return None,
    };
    Some(spec::Device {
        path: PathBuf::from(target),
        kind: kind.into(),
        major: Some(i64::from(libc::major(meta.rdev()))),
        minor: Some(i64::from(libc::minor(meta.rdev()))),
        file_mode: Some(meta.mode() & 0o777),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
    })
}
