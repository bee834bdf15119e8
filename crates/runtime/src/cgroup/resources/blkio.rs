//! Block devices: weights and throttles.

use super::{Field, nonzero};
use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};
use crate::spec::{BlockIo, ThrottleDevice, WeightDevice};

const fn field(name: &'static str) -> Field {
    Field {
        name,
        controller: Controller::Io,
    }
}

const WEIGHT: Field = field("linux.resources.blockIO.weight");
const LEAF_WEIGHT: Field = field("linux.resources.blockIO.leafWeight");
const WEIGHT_DEVICE: Field = field("linux.resources.blockIO.weightDevice");
const READ_BPS: Field = field("linux.resources.blockIO.throttleReadBpsDevice");
const WRITE_BPS: Field = field("linux.resources.blockIO.throttleWriteBpsDevice");
const READ_IOPS: Field = field("linux.resources.blockIO.throttleReadIOPSDevice");
const WRITE_IOPS: Field = field("linux.resources.blockIO.throttleWriteIOPSDevice");

const NO_LEAF: &str = "this kernel has no leaf weights";

/// Sets what is given.
pub(super) fn apply(cgroup: &Cgroup, io: &BlockIo) -> Result<(), Error> {
    if let Some(value) = nonzero(io.weight) {
        let dir = WEIGHT.dir(cgroup, value)?;
        match dir.version() {
            Version::V1 => WEIGHT.write(&dir, v1_weight_file(&dir, false), value)?,
            Version::V2 if dir.has("io.bfq.weight") => {
                WEIGHT.write(&dir, "io.bfq.weight", value)?
            }
            Version::V2 => WEIGHT.write(&dir, "io.weight", weight(value))?,
        }
    }
    if let Some(value) = nonzero(io.leaf_weight) {
        let dir = LEAF_WEIGHT.dir(cgroup, value)?;
        match dir.version() {
            Version::V1 if dir.has("blkio.leaf_weight") => {
                LEAF_WEIGHT.write(&dir, "blkio.leaf_weight", value)?
            }
            _ => return Err(LEAF_WEIGHT.unsupported(value, NO_LEAF)),
        }
    }
    io.weight_device
        .iter()
        .try_for_each(|device| weight_device(cgroup, device))?;
    for (field, v1, v2, devices) in [
        (READ_BPS, "read_bps", "rbps", &io.throttle_read_bps_device),
        (
            WRITE_BPS,
            "write_bps",
            "wbps",
            &io.throttle_write_bps_device,
        ),
        (
            READ_IOPS,
            "read_iops",
            "riops",
            &io.throttle_read_iops_device,
        ),
        (
            WRITE_IOPS,
            "write_iops",
            "wiops",
            &io.throttle_write_iops_device,
        ),
    ] {
        devices
            .iter()
            .try_for_each(|device| throttle(cgroup, field, v1, v2, device))?;
    }
    Ok(())
}

fn weight_device(cgroup: &Cgroup, device: &WeightDevice) -> Result<(), Error> {
    let id = format!("{}:{}", device.major, device.minor);
    if let Some(value) = nonzero(device.weight) {
        let line = format!("{id} {value}");
        let dir = WEIGHT_DEVICE.dir(cgroup, &line)?;
        match dir.version() {
            Version::V1 => WEIGHT_DEVICE.write(&dir, v1_weight_file(&dir, true), line)?,
            Version::V2 if dir.has("io.bfq.weight") => {
                WEIGHT_DEVICE.write(&dir, "io.bfq.weight", line)?
            }
            Version::V2 => {
                WEIGHT_DEVICE.write(&dir, "io.weight", format!("{id} {}", weight(value)))?
            }
        }
    }
    if let Some(value) = nonzero(device.leaf_weight) {
        let line = format!("{id} {value}");
        let dir = WEIGHT_DEVICE.dir(cgroup, &line)?;
        match dir.version() {
            Version::V1 if dir.has("blkio.leaf_weight_device") => {
                WEIGHT_DEVICE.write(&dir, "blkio.leaf_weight_device", line)?;
            }
            _ => return Err(WEIGHT_DEVICE.unsupported(line, NO_LEAF)),
        }
    }
    Ok(())
}

fn throttle(
    cgroup: &Cgroup,
    field: Field,
    v1: &str,
    v2: &str,
    device: &ThrottleDevice,
) -> Result<(), Error> {
    let ThrottleDevice { major, minor, rate } = device;
    let dir = field.dir(cgroup, format!("{major}:{minor} {rate}"))?;
    match dir.version() {
        Version::V1 => {
            let file = format!("blkio.throttle.{v1}_device");
            field.write(&dir, &file, format!("{major}:{minor} {rate}"))
        }
        // v1 lifts a throttle with 0, which v2 refuses.
        Version::V2 if *rate == 0 => {
            field.write(&dir, "io.max", format!("{major}:{minor} {v2}=max"))
        }
        Version::V2 => field.write(&dir, "io.max", format!("{major}:{minor} {v2}={rate}")),
    }
}

/// Which scheduler has the weights depends on the kernel; BFQ's file came later.
fn v1_weight_file(dir: &Dir<'_>, device: bool) -> &'static str {
    let (bfq, cfq) = if device {
        ("blkio.bfq.weight_device", "blkio.weight_device")
    } else {
        ("blkio.bfq.weight", "blkio.weight")
    };
    if dir.has(bfq) { bfq } else { cfq }
}

/// v2's weight (1 to 10000) for v1's (10 to 1000).
fn weight(v1: u16) -> u64 {
    1 + u64::from(v1.saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    #[test]
    fn weights_are_stretched_to_the_range_of_v2() {
        assert_eq!([10, 500, 1000].map(super::weight), [1, 4950, 10_000]);
    }
}
