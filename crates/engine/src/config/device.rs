//! `PATH[:PATH][:MODE]`: a device as `additional_devices` and the annotation `devices.crio.io` name it, as
//! CRI-O reads it.

use std::path::Path;

use crate::container::Device;

/// Reads one: the node's path, the path inside if it is another, and which of `rwm` is allowed (all).
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_device(text: &str) -> Result<Device, String> {
    let wrong = |why: &str| Err(format!("{text:?} {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, mode] if is_mode(mode) => (source, source, mode),
        [source, target] => (source, target, "rwm"),
        [source, target, mode] if is_mode(mode) => (source, target, mode),
        _ => return wrong("is not PATH[:PATH][:MODE]"),
    };
    let plain = |path: &str| !path.split('/').any(|part| part == "..");
    if !Path::new(source).is_absolute() || !plain(source) {
        return wrong("names no absolute path");
    }
    if !target.starts_with("/dev/") || !plain(target) {
        return wrong("is to be outside of /dev");
    }
    Ok(Device {
        container_path: target.into(),
        host_path: source.into(),
        permissions: mode.to_owned(),
    })
}

fn is_mode(text: &str) -> bool {
    let once = |c: char| text.matches(c).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && once(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_mode_are_read_as_cri_o_reads_them() {
        for (text, source, target, mode) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/fuse:r", "/dev/fuse", "/dev/fuse", "r"),
            ("/dev/fuse:/dev/a", "/dev/fuse", "/dev/a", "rwm"),
            ("/srv/fuse:/dev/a:rw", "/srv/fuse", "/dev/a", "rw"),
        ] {
            let device = parse_device(text).unwrap();
            assert_eq!(device.host_path, Path::new(source), "{text}");
            assert_eq!(device.container_path, Path::new(target), "{text}");
            assert_eq!(device.permissions, mode, "{text}");
        }
        for bad in [
            "",
            "dev/fuse",
            "/dev/fuse:/etc/x",
            "/dev/fuse:/dev/../etc/x",
            "/dev/../etc:/dev/x",
            "/dev/fuse:/dev/x:rr",
            "/dev/fuse:/dev/x:rw:more",
            "/srv/fuse",
        ] {
            assert!(parse_device(bad).is_err(), "{bad}");
        }
    }
}
