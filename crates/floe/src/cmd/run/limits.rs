//! Limits of `floe run`: processors, memory, devices and processes.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use engine::container::{BlockIo, DeviceNumber, Extras, Resources, Rlimit};

use super::env::pairs;
use crate::containers_conf::Containers;
use crate::failure::Failure;

/// podman's default.
const PIDS_LIMIT: i64 = 2048;

/// What can be changed while the container runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// Greatest memory, with k, m or g
    #[arg(long, short, value_name = "SIZE")]
    memory: Option<String>,
    /// Greatest sum of memory and swap; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Greatest number of CPUs, such as 0.5
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["cpu_period", "cpu_quota"])]
    cpus: Option<f64>,
    /// Microseconds that a period of CPU time has
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Microseconds of CPU time in each period; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Weight among others that want CPU time
    #[arg(long, short = 'c', value_name = "NUMBER")]
    cpu_shares: Option<i64>,
    /// CPUs to run on, such as 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// NUMA nodes to take memory of
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Greatest number of processes; -1 or 0 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
}

/// What the container may use.
#[derive(Debug, clap::Args)]
pub(crate) struct Limits {
    #[command(flatten)]
    change: Change,
    /// Memory that it is brought down to when the node has little
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// How soon the kernel swaps, 0 to 100; -1 for the node's own (cgroup v1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i64).range(-1..=100))]
    memory_swappiness: Option<i64>,
    /// Let processes wait for memory instead of killing them (cgroup v1)
    #[arg(long)]
    oom_kill_disable: bool,
    /// Which to kill first when memory is short, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i64).range(-1000..=1000))]
    oom_score_adj: Option<i64>,
    /// NAME=SOFT[:HARD], as with nofile=1024:2048; host for those of this process
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// A file of cgroup v2 and its value, as with memory.high=1073741824
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
    /// Weight among others that want block devices, 10 to 1000
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(10..=1000))]
    blkio_weight: Option<u16>,
    /// The same for one: DEVICE:WEIGHT
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Bytes a second read from one: DEVICE:SIZE
    #[arg(long, value_name = "DEVICE:SIZE")]
    device_read_bps: Vec<String>,
    /// Bytes a second written to one: DEVICE:SIZE
    #[arg(long, value_name = "DEVICE:SIZE")]
    device_write_bps: Vec<String>,
    /// Reads a second of one: DEVICE:NUMBER
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_read_iops: Vec<String>,
    /// Writes a second of one: DEVICE:NUMBER
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_write_iops: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
}

impl Change {
    /// As the engine has it; what is not said is 0 or empty.
    pub(crate) fn resources(&self) -> Result<Resources, Failure> {
        const PERIOD: i64 = 100_000;
        let (period, quota) = match self.cpus {
            None => (self.cpu_period.unwrap_or(0), self.cpu_quota.unwrap_or(0)),
            Some(cpus) if cpus.is_finite() && cpus > 0.0 && cpus < 10_000.0 => {
                (PERIOD, (cpus * PERIOD as f64) as i64)
            }
            Some(cpus) => {
                return Err(Failure::new(format!(
                    "--cpus {cpus} is not a number of CPUs"
                )));
            }
        };
        let swap = match self.memory_swap.as_deref() {
            None => 0,
            Some("-1") => -1,
            Some(text) => bytes(text)?,
        };
        let memory = size(self.memory.as_deref())?;
        if swap > 0 && swap < memory {
            return Err(Failure::new(
                "--memory-swap is the sum of memory and swap, and must not be below --memory",
            ));
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Ok(Resources {
            cpu_period: period,
            cpu_quota: quota,
            cpu_shares: self.cpu_shares.unwrap_or(0),
            memory_limit: memory,
            memory_swap_limit: swap,
            cpuset_cpus: text(&self.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems),
            pids_limit: match self.pids_limit {
                Some(0) => -1,
                given => given.unwrap_or(0),
            },
            ..Resources::default()
        })
    }
}

impl Limits {
    /// Takes from containers.conf what was not said.
    pub(super) fn take_defaults(&mut self, given: &Containers) {
        let name = |text: &str| {
            let name = text.split('=').next().unwrap_or_default();
            name.to_ascii_lowercase()
        };
        for limit in given.default_ulimits.iter() {
            let is_said = |said: &String| said == "host" || name(said) == name(limit);
            if !self.ulimit.iter().any(is_said) {
                self.ulimit.push(limit.clone());
            }
        }
        self.change.pids_limit = self.change.pids_limit.or(given.pids_limit);
        if self.shm_size.is_none() {
            self.shm_size.clone_from(&given.shm_size);
        }
    }

    pub(super) fn resources(&self) -> Result<Resources, Failure> {
        let change = self.change.resources()?;
        Ok(Resources {
            oom_score_adj: self.oom_score_adj.unwrap_or(0),
            unified: pairs("--cgroup-conf", &self.cgroup_conf, false)?
                .into_iter()
                .collect(),
            pids_limit: match change.pids_limit {
                0 => PIDS_LIMIT,
                given => given,
            },
            ..change
        })
    }

    /// What of it CRI has no words for.
    pub(super) fn add_to(&self, extras: &mut Extras) -> Result<(), Failure> {
        extras.rlimits = rlimits(&self.ulimit)?;
        let reservation = self.memory_reservation.as_deref();
        extras.memory_reservation = reservation.map(bytes).transpose()?;
        let swappiness = self.memory_swappiness;
        extras.memory_swappiness = swappiness.and_then(|number| u64::try_from(number).ok());
        extras.oom_kill_disable = self.oom_kill_disable;
        let weight = |text: &str| {
            text.parse()
                .ok()
                .filter(|weight| (10..=1000).contains(weight))
        };
        let rate = |text: &str| bytes(text).ok().and_then(|rate| u64::try_from(rate).ok());
        let number = |text: &str| text.parse().ok();
        extras.block_io = BlockIo {
            weight: self.blkio_weight,
            weight_device: devices("--blkio-weight-device", &self.blkio_weight_device, weight)?,
            read_bps: devices("--device-read-bps", &self.device_read_bps, rate)?,
            write_bps: devices("--device-write-bps", &self.device_write_bps, rate)?,
            read_iops: devices("--device-read-iops", &self.device_read_iops, number)?,
            write_iops: devices("--device-write-iops", &self.device_write_iops, number)?,
        };
        Ok(())
    }

    /// The size of /dev/shm, if it is given.
    pub(super) fn shm_size(&self) -> Result<Option<u64>, Failure> {
        let given = self.shm_size.as_deref().map(bytes).transpose()?;
        Ok(given.and_then(|size| u64::try_from(size).ok()))
    }
}

/// `512m`, `1g`, `1048576`.
pub(crate) fn bytes(text: &str) -> Result<i64, Failure> {
    base::size::parse(text)
        .filter(|number| *number > 0)
        .ok_or_else(|| Failure::new(format!("{text:?} is not a size such as 512m")))
}

fn size(text: Option<&str>) -> Result<i64, Failure> {
    Ok(text.map(bytes).transpose()?.unwrap_or(0))
}

/// The limits that processes have, by podman's names.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(crate) fn rlimits(given: &[String]) -> Result<Vec<Rlimit>, Failure> {
    let mut all = Vec::new();
    for text in given {
        if text == "host" {
            all.extend(own_limits()?);
            continue;
        }
        let wrong = || {
            Failure::new(format!(
                "--ulimit {text:?} is not NAME=SOFT[:HARD] of {}",
                ULIMITS.join(", ")
            ))
        };
        let (name, values) = text.split_once('=').ok_or_else(wrong)?;
        let name = name.to_ascii_lowercase();
        if !ULIMITS.contains(&name.as_str()) {
            return Err(wrong());
        }
        let value = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            text => text.parse::<u64>().map_err(|_| wrong()),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if soft > hard {
            return Err(Failure::new(format!(
                "--ulimit {text:?}: the soft limit is above the hard one"
            )));
        }
        all.push(Rlimit {
            kind: format!("RLIMIT_{}", name.to_ascii_uppercase()),
            soft,
            hard,
        });
    }
    Ok(all)
}

/// The limits of this process.
fn own_limits() -> Result<Vec<Rlimit>, Failure> {
    let text = std::fs::read_to_string("/proc/self/limits")?;
    let names = [
        ("Max address space", "AS"),
        ("Max core file size", "CORE"),
        ("Max cpu time", "CPU"),
        ("Max data size", "DATA"),
        ("Max file size", "FSIZE"),
        ("Max file locks", "LOCKS"),
        ("Max locked memory", "MEMLOCK"),
        ("Max msgqueue size", "MSGQUEUE"),
        ("Max nice priority", "NICE"),
        ("Max open files", "NOFILE"),
        ("Max processes", "NPROC"),
        ("Max resident set", "RSS"),
        ("Max realtime priority", "RTPRIO"),
        ("Max realtime timeout", "RTTIME"),
        ("Max pending signals", "SIGPENDING"),
        ("Max stack size", "STACK"),
    ];
    let value = |text: &str| match text {
        "unlimited" => Some(u64::MAX),
        text => text.parse().ok(),
    };
    let limit = |line: &str| {
        let (title, kind) = names.iter().find(|(title, _)| line.starts_with(title))?;
        let mut values = line[title.len()..].split_whitespace();
        Some(Rlimit {
            kind: format!("RLIMIT_{kind}"),
            soft: value(values.next()?)?,
            hard: value(values.next()?)?,
        })
    };
    Ok(text.lines().filter_map(limit).collect())
}

/// `DEVICE:VALUE` entries.
fn devices<T>(
    flag: &str,
    given: &[String],
    value: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(DeviceNumber, T)>, Failure> {
    given
        .iter()
        .map(|text| {
            let wrong = |why: String| Failure::new(format!("{flag} {text:?}: {why}"));
            let (path, rest) = text
                .rsplit_once(':')
                .ok_or_else(|| wrong("write DEVICE:VALUE".into()))?;
            let value = value(rest).ok_or_else(|| wrong(format!("{rest:?} is no value for it")))?;
            let meta = std::fs::metadata(path).map_err(|e| wrong(format!("{path}: {e}")))?;
            if !meta.file_type().is_block_device() && !meta.file_type().is_char_device() {
                return Err(wrong(format!("{path} is no device")));
            }
            let device = DeviceNumber {
                major: rustix::fs::major(meta.rdev()),
                minor: rustix::fs::minor(meta.rdev()),
            };
            Ok((device, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("64m").unwrap(), 64 << 20);
        assert_eq!(bytes("1gb").unwrap(), 1 << 30);
        assert_eq!(bytes("10").unwrap(), 10);
        for bad in ["", "m", "-1", "1x", "99999999999g"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ulimits_have_a_name_and_one_or_two_values() {
        let read = |text: &str| rlimits(&[text.to_owned()]);
        let limit = |kind: &str, soft, hard| Rlimit {
            kind: kind.to_owned(),
            soft,
            hard,
        };
        assert_eq!(
            read("nofile=10:20").unwrap(),
            [limit("RLIMIT_NOFILE", 10, 20)]
        );
        assert_eq!(
            read("core=-1").unwrap(),
            [limit("RLIMIT_CORE", u64::MAX, u64::MAX)]
        );
        assert!(read("host").unwrap().len() > 10);
        for bad in ["nofile", "nofile=", "nofile=2:1", "files=1", "nofile=x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_of_devices() {
        let rate = |text: &str| devices("--x", &[text.to_owned()], |text| text.parse::<u64>().ok());
        let null = DeviceNumber { major: 1, minor: 3 };
        assert_eq!(rate("/dev/null:7").unwrap(), [(null, 7)]);
        for bad in ["/dev/null", "/dev/null:x", "/no/such:1", "/etc/passwd:1"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
