//! Network settings of the kernel, of the calling thread's namespace. Written only when they differ:
//! `/proc/sys` may be read-only and yet hold what is needed.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::{Error, Result};

/// The setting below `/proc/sys/net`, by its path's parts: interface names may contain dots.
fn path(parts: &[&str]) -> PathBuf {
    let mut path = PathBuf::from("/proc/sys/net");
    path.extend(parts);
    path
}

/// Sets a setting to `value`.
pub(crate) fn set(parts: &[&str], value: &str) -> Result<()> {
    let path = path(parts);
    let now = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    if now.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).map_err(Error::file("write", &path))
}

/// Is a setting there, with this value?
pub(crate) fn is(parts: &[&str], value: &str) -> bool {
    fs::read_to_string(path(parts)).is_ok_and(|now| now.trim() == value)
}

/// Sets a setting, unless the kernel does not have it.
pub(crate) fn set_if_there(parts: &[&str], value: &str) -> Result<()> {
    match set(parts, value) {
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether the kernel speaks IPv6 at all (it can be switched off at boot).
pub(crate) fn has_ipv6() -> bool {
    path(&["ipv6"]).is_dir()
}
