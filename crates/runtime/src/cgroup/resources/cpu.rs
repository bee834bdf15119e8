//! CPU time: shares or weight, bandwidth, real-time bandwidth, idle.

use rustix::io::Errno;

use super::{Field, limit, nonzero};
use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};
use crate::spec::Cpu;

const fn field(name: &'static str) -> Field {
    Field {
        name,
        controller: Controller::Cpu,
    }
}

const SHARES: Field = field("linux.resources.cpu.shares");
const QUOTA: Field = field("linux.resources.cpu.quota");
const PERIOD: Field = field("linux.resources.cpu.period");
const BURST: Field = field("linux.resources.cpu.burst");
const IDLE: Field = field("linux.resources.cpu.idle");
const RT_RUNTIME: Field = field("linux.resources.cpu.realtimeRuntime");
const RT_PERIOD: Field = field("linux.resources.cpu.realtimePeriod");

/// The kernel's default period, in µs; v2 wants one beside every quota.
const DEFAULT_PERIOD: u64 = 100_000;

/// Sets what is given.
pub(super) fn apply(cgroup: &Cgroup, cpu: &Cpu) -> Result<(), Error> {
    realtime(cgroup, cpu)?;
    if let Some(idle) = cpu.idle {
        IDLE.write(&IDLE.dir(cgroup, idle)?, "cpu.idle", idle)?;
    }
    // An idle cgroup has no weight of its own; the kernel refuses to set one.
    if let Some(shares) = nonzero(cpu.shares).filter(|_| cpu.idle != Some(1)) {
        let dir = SHARES.dir(cgroup, shares)?;
        match dir.version() {
            Version::V1 => SHARES.write(&dir, "cpu.shares", shares)?,
            Version::V2 => SHARES.write(&dir, "cpu.weight", weight(shares))?,
        }
    }
    bandwidth(cgroup, cpu)
}

/// v2 has no real-time bandwidth. The kernel wants the runtime to fit into the period at every
/// moment: a period refused before the runtime is tried once more after it.
fn realtime(cgroup: &Cgroup, cpu: &Cpu) -> Result<(), Error> {
    const PERIOD_FILE: &str = "cpu.rt_period_us";
    let reason = "cgroup v2 has no real-time bandwidth";
    let mut late = None;
    if let Some(period) = nonzero(cpu.realtime_period) {
        let dir = RT_PERIOD.dir(cgroup, period)?;
        if dir.version() == Version::V2 {
            return Err(RT_PERIOD.unsupported(period, reason));
        }
        match dir.write(PERIOD_FILE, &period.to_string()) {
            Ok(()) => {}
            Err(Errno::INVAL) if nonzero(cpu.realtime_runtime).is_some() => {
                late = Some((dir, period));
            }
            Err(errno) => {
                return Err(RT_PERIOD.refused(&dir, PERIOD_FILE, period.to_string(), errno));
            }
        }
    }
    if let Some(runtime) = nonzero(cpu.realtime_runtime) {
        let dir = RT_RUNTIME.dir(cgroup, runtime)?;
        match dir.version() {
            Version::V1 => RT_RUNTIME.write(&dir, "cpu.rt_runtime_us", runtime)?,
            Version::V2 => return Err(RT_RUNTIME.unsupported(runtime, reason)),
        }
    }
    match late {
        Some((dir, period)) => RT_PERIOD.write(&dir, PERIOD_FILE, period),
        None => Ok(()),
    }
}

/// Quota, period and burst. The kernel checks each write against the others as they are at that
/// moment (the ratio against the parent's, the burst against the quota), so a value refused before
/// the quota is tried once more after it.
fn bandwidth(cgroup: &Cgroup, cpu: &Cpu) -> Result<(), Error> {
    let (quota, period, burst) = (nonzero(cpu.quota), nonzero(cpu.period), cpu.burst);
    let (first, value) = match (quota, period, burst) {
        (None, None, None) => return Ok(()),
        (Some(quota), _, _) => (QUOTA, quota.to_string()),
        (_, Some(period), _) => (PERIOD, period.to_string()),
        (_, _, Some(burst)) => (BURST, burst.to_string()),
    };
    let dir = first.dir(cgroup, value)?;
    let early = |field: Field, file: &str, value: u64| match dir.write(file, &value.to_string()) {
        Ok(()) => Ok(false),
        Err(Errno::INVAL) if quota.is_some() => Ok(true),
        Err(errno) => Err(field.refused(&dir, file, value.to_string(), errno)),
    };
    let (period_file, burst_file) = match dir.version() {
        Version::V1 => ("cpu.cfs_period_us", "cpu.cfs_burst_us"),
        Version::V2 => ("cpu.max", "cpu.max.burst"),
    };
    let period = period.filter(|_| dir.version() == Version::V1);
    let again_period = period.map_or(Ok(false), |period| early(PERIOD, period_file, period))?;
    let again_burst = burst.map_or(Ok(false), |burst| early(BURST, burst_file, burst))?;
    set_quota(&dir, cpu)?;
    if let Some(period) = period.filter(|_| again_period) {
        PERIOD.write(&dir, period_file, period)?;
    }
    if let Some(burst) = burst.filter(|_| again_burst) {
        BURST.write(&dir, burst_file, burst)?;
    }
    Ok(())
}

/// The quota alone on v1, with its period on v2.
fn set_quota(dir: &Dir<'_>, cpu: &Cpu) -> Result<(), Error> {
    let (quota, period) = (nonzero(cpu.quota), nonzero(cpu.period));
    match (dir.version(), quota, period) {
        (Version::V1, Some(quota), _) => {
            QUOTA.write(dir, "cpu.cfs_quota_us", limit(Version::V1, quota))
        }
        (Version::V1, None, _) | (Version::V2, None, None) => Ok(()),
        (Version::V2, quota, period) => {
            // A quota alone keeps the period there is, and a period alone the quota.
            let present = dir.get("cpu.max")?;
            let mut present = present.split_ascii_whitespace();
            let (old_quota, old_period) = (present.next().unwrap_or("max"), present.next());
            let quota =
                quota.map_or_else(|| old_quota.to_owned(), |quota| limit(Version::V2, quota));
            let old_period = old_period
                .and_then(|text| text.parse().ok())
                .unwrap_or(DEFAULT_PERIOD);
            QUOTA.write(
                dir,
                "cpu.max",
                format!("{quota} {}", period.unwrap_or(old_period)),
            )
        }
    }
}

/// Adds a quota's period to it, or a period's quota, as they are now.
pub(in crate::cgroup) fn complete(cgroup: &Cgroup, cpu: &mut Cpu) -> Result<(), Error> {
    let (quota, period) = (nonzero(cpu.quota), nonzero(cpu.period));
    let Some(dir) = cgroup.dir_of(Controller::Cpu) else {
        return Ok(());
    };
    if quota.is_some() == period.is_some() {
        return Ok(());
    }
    let texts = match dir.version() {
        Version::V1 => dir.get("cpu.cfs_quota_us")? + " " + &dir.get("cpu.cfs_period_us")?,
        Version::V2 => dir.get("cpu.max")?,
    };
    let mut words = texts.split_ascii_whitespace();
    // "max" is no limit.
    let (now, period_now) = (words.next(), words.next());
    let now = now.and_then(|word| word.parse().ok()).unwrap_or(-1);
    cpu.quota = quota.or(Some(now));
    cpu.period = period.or(period_now.and_then(|word| word.parse().ok()));
    Ok(())
}

/// v2's weight (1 to 10000) for v1's shares (2 to 262144), so that the extremes and the defaults
/// (1024 and 100) meet: a parabola through the three points, on logarithmic scales.
pub(in crate::cgroup) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn extremes_and_default_of_shares_are_those_of_weight() {
        let pairs = [
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (1, 1),
            (1 << 20, 10_000),
            (512, 59),
            (2048, 174),
        ];
        for (shares, want) in pairs {
            assert_eq!(weight(shares), want, "{shares}");
        }
        assert!((2..262_144).all(|shares| weight(shares) <= weight(shares + 1)));
    }
}
