//! Reads and writes of block devices.

use std::collections::BTreeMap;

use super::files::Files;
use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};

/// What was read from and written to one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Bytes discarded.
    pub discard_bytes: u64,
    /// Read requests.
    pub reads: u64,
    /// Write requests.
    pub writes: u64,
    /// Discard requests.
    pub discards: u64,
}

type Devices = BTreeMap<(u32, u32), IoStats>;

pub(super) fn read(cgroup: &Cgroup, files: &mut Files) -> Result<Devices, Error> {
    let Some(dir) = cgroup.dir_of(Controller::Io) else {
        return Ok(Devices::new());
    };
    match dir.version() {
        Version::V1 => v1(&dir, files),
        Version::V2 => Ok(v2(&files.text(&dir, "io.stat")?.unwrap_or_default())),
    }
}

/// Lines `8:0 Read 4096`, in a file for bytes and one for requests. Throttling counts what any
/// scheduler does.
fn v1(dir: &Dir<'static>, files: &mut Files) -> Result<Devices, Error> {
    let bytes = files
        .text(dir, "blkio.throttle.io_service_bytes_recursive")?
        .unwrap_or_default();
    let requests = files
        .text(dir, "blkio.throttle.io_serviced_recursive")?
        .unwrap_or_default();
    Ok(v1_devices(&bytes, &requests))
}

fn v1_devices(bytes: &str, requests: &str) -> Devices {
    let mut devices = Devices::new();
    for (text, of_bytes) in [(bytes, true), (requests, false)] {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(id), Some(verb), Some(value)) =
                (words.next().and_then(device), words.next(), words.next())
            else {
                continue;
            };
            let stats = devices.entry(id).or_default();
            let field = match (verb, of_bytes) {
                ("Read", true) => &mut stats.read_bytes,
                ("Write", true) => &mut stats.write_bytes,
                ("Discard", true) => &mut stats.discard_bytes,
                ("Read", false) => &mut stats.reads,
                ("Write", false) => &mut stats.writes,
                ("Discard", false) => &mut stats.discards,
                _ => continue,
            };
            *field = value.parse().unwrap_or(0);
        }
    }
    devices
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn v2(text: &str) -> Devices {
    let line = |line: &str| {
        let (id, rest) = line.split_once(' ')?;
        let value = |name: &str| -> u64 {
            let word = |word: &str| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
            rest.split_ascii_whitespace().find_map(word).unwrap_or(0)
        };
        let stats = IoStats {
            read_bytes: value("rbytes"),
            write_bytes: value("wbytes"),
            discard_bytes: value("dbytes"),
            reads: value("rios"),
            writes: value("wios"),
            discards: value("dios"),
        };
        Some((device(id)?, stats))
    };
    text.lines().filter_map(line).collect()
}

fn device(id: &str) -> Option<(u32, u32)> {
    let (major, minor) = id.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_give_the_same_figures() {
        let bytes = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Discard 5\n8:0 Total 12288\n9:1 Read 7\nTotal 9\n";
        let requests = "8:0 Read 1\n8:0 Write 2\n8:0 Discard 3\nTotal 6\n";
        let unified =
            "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=5 dios=3\n9:1 rbytes=7\n7:0 \n";
        let mut from_unified = v2(unified);
        from_unified.remove(&(7, 0));
        assert_eq!(v1_devices(bytes, requests), from_unified);
        assert_eq!(from_unified[&(8, 0)].write_bytes, 8192);
    }
}
