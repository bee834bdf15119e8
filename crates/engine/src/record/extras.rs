//! What a person wished of a container beside what CRI has words for, in `container.json`.

use std::borrow::Cow;
use std::time::Duration;

use base::time::nanoseconds;
use serde::{Deserialize, Serialize};

use super::{At, Text};
use crate::container as live;
use crate::secret;

/// All of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Extras<'a> {
    filesystems: Vec<Filesystem<'a>>,
    rlimits: Vec<Rlimit<'a>>,
    umask: Option<u32>,
    /// `None`: all variables.
    unset_env: Option<Cow<'a, [String]>>,
    hidden_files: Vec<At<'a>>,
    time_zone: Option<Text<'a>>,
    own_cgroups: Option<bool>,
    memory_reservation: Option<i64>,
    memory_swappiness: Option<u64>,
    oom_kill_disable: bool,
    /// An entry without a path: all.
    unmask: Vec<Option<At<'a>>>,
    mask: Vec<At<'a>>,
    block_io: BlockIo,
    restart: Restart,
    remove: bool,
    run_limit: Option<u64>,
    stopped: bool,
    secrets: Vec<SecretUse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthCheck<'a>>,
}

/// How its health is checked; times are nanoseconds.
#[derive(Debug, Serialize, Deserialize)]
struct HealthCheck<'a> {
    test: Cow<'a, [String]>,
    interval: Option<u64>,
    timeout: u64,
    retries: u32,
    start_period: u64,
    start_interval: Option<u64>,
    startup: Option<StartupCheck<'a>>,
    on_unhealthy: OnUnhealthy,
    stop_timeout: u64,
    log_entries: u32,
    log_bytes: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct StartupCheck<'a> {
    test: Cow<'a, [String]>,
    interval: u64,
    timeout: u64,
    retries: u32,
    successes: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum OnUnhealthy {
    Nothing,
    Kill,
    Stop,
    Restart,
}

/// A secret by its id and name, and where it is shown: nothing of itself.
#[derive(Debug, Serialize, Deserialize)]
struct SecretUse<'a> {
    id: Text<'a>,
    name: Text<'a>,
    place: SecretPlace<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
enum SecretPlace<'a> {
    File {
        path: At<'a>,
        uid: u32,
        gid: u32,
        mode: u32,
    },
    Variable(Text<'a>),
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
enum Restart {
    #[default]
    No,
    Always,
    UnlessStopped,
    OnFailure(Option<u32>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Filesystem<'a> {
    kind: Text<'a>,
    container_path: At<'a>,
    options: Cow<'a, [String]>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Rlimit<'a> {
    kind: Text<'a>,
    soft: u64,
    hard: u64,
}

/// Limits of block devices: (major, minor, limit).
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct BlockIo {
    weight: Option<u16>,
    weight_device: Vec<(u32, u32, u16)>,
    read_bps: Vec<(u32, u32, u64)>,
    write_bps: Vec<(u32, u32, u64)>,
    read_iops: Vec<(u32, u32, u64)>,
    write_iops: Vec<(u32, u32, u64)>,
}

impl<'a> Extras<'a> {
    pub(super) fn of(live: &'a live::Extras) -> Self {
        Self {
            filesystems: live.filesystems.iter().map(Filesystem::of).collect(),
            rlimits: live.rlimits.iter().map(Rlimit::of).collect(),
            umask: live.umask,
            unset_env: match &live.unset_env {
                live::Unset::Names(names) => Some(names.into()),
                live::Unset::All => None,
            },
            hidden_files: live.hidden_files.iter().map(Cow::from).collect(),
            time_zone: live.time_zone.as_deref().map(Cow::from),
            own_cgroups: live.own_cgroups,
            memory_reservation: live.memory_reservation,
            memory_swappiness: live.memory_swappiness,
            oom_kill_disable: live.oom_kill_disable,
            unmask: live
                .unmask
                .iter()
                .map(|path| path.as_deref().map(Cow::from))
                .collect(),
            mask: live.mask.iter().map(Cow::from).collect(),
            block_io: BlockIo::of(&live.block_io),
            restart: match live.restart {
                live::RestartPolicy::No => Restart::No,
                live::RestartPolicy::Always => Restart::Always,
                live::RestartPolicy::UnlessStopped => Restart::UnlessStopped,
                live::RestartPolicy::OnFailure { most } => Restart::OnFailure(most),
            },
            remove: live.remove,
            run_limit: live.run_limit,
            stopped: live.stopped,
            secrets: live.secrets.iter().map(SecretUse::of).collect(),
            health: live.health.as_deref().map(HealthCheck::of),
        }
    }

    pub(super) fn into_live(self) -> live::Extras {
        live::Extras {
            filesystems: self
                .filesystems
                .into_iter()
                .map(Filesystem::into_live)
                .collect(),
            rlimits: self.rlimits.into_iter().map(Rlimit::into_live).collect(),
            umask: self.umask,
            unset_env: match self.unset_env {
                Some(names) => live::Unset::Names(names.into_owned()),
                None => live::Unset::All,
            },
            hidden_files: self.hidden_files.into_iter().map(Cow::into_owned).collect(),
            time_zone: self.time_zone.map(Cow::into_owned),
            own_cgroups: self.own_cgroups,
            memory_reservation: self.memory_reservation,
            memory_swappiness: self.memory_swappiness,
            oom_kill_disable: self.oom_kill_disable,
            unmask: self
                .unmask
                .into_iter()
                .map(|path| path.map(Cow::into_owned))
                .collect(),
            mask: self.mask.into_iter().map(Cow::into_owned).collect(),
            block_io: self.block_io.into_live(),
            restart: match self.restart {
                Restart::No => live::RestartPolicy::No,
                Restart::Always => live::RestartPolicy::Always,
                Restart::UnlessStopped => live::RestartPolicy::UnlessStopped,
                Restart::OnFailure(most) => live::RestartPolicy::OnFailure { most },
            },
            remove: self.remove,
            run_limit: self.run_limit,
            stopped: self.stopped,
            secrets: self.secrets.into_iter().map(SecretUse::into_live).collect(),
            health: self.health.map(|check| Box::new(check.into_live())),
        }
    }
}

impl<'a> SecretUse<'a> {
    fn of(live: &'a secret::SecretUse) -> Self {
        Self {
            id: (&live.id).into(),
            name: (&live.name).into(),
            place: match &live.place {
                secret::SecretPlace::File {
                    path,
                    uid,
                    gid,
                    mode,
                } => SecretPlace::File {
                    path: path.into(),
                    uid: *uid,
                    gid: *gid,
                    mode: *mode,
                },
                secret::SecretPlace::Variable(name) => SecretPlace::Variable(name.into()),
            },
        }
    }

    fn into_live(self) -> secret::SecretUse {
        secret::SecretUse {
            id: self.id.into_owned(),
            name: self.name.into_owned(),
            place: match self.place {
                SecretPlace::File {
                    path,
                    uid,
                    gid,
                    mode,
                } => secret::SecretPlace::File {
                    path: path.into_owned(),
                    uid,
                    gid,
                    mode,
                },
                SecretPlace::Variable(name) => secret::SecretPlace::Variable(name.into_owned()),
            },
        }
    }
}

impl<'a> HealthCheck<'a> {
    fn of(live: &'a live::HealthCheck) -> Self {
        Self {
            test: (&live.test).into(),
            interval: live.interval.map(nanoseconds),
            timeout: nanoseconds(live.timeout),
            retries: live.retries,
            start_period: nanoseconds(live.start_period),
            start_interval: live.start_interval.map(nanoseconds),
            startup: live.startup.as_ref().map(StartupCheck::of),
            on_unhealthy: match live.on_unhealthy {
                live::OnUnhealthy::Nothing => OnUnhealthy::Nothing,
                live::OnUnhealthy::Kill => OnUnhealthy::Kill,
                live::OnUnhealthy::Stop => OnUnhealthy::Stop,
                live::OnUnhealthy::Restart => OnUnhealthy::Restart,
            },
            stop_timeout: nanoseconds(live.stop_timeout),
            log_entries: live.log_entries,
            log_bytes: live.log_bytes,
        }
    }

    fn into_live(self) -> live::HealthCheck {
        live::HealthCheck {
            test: self.test.into_owned(),
            interval: self.interval.map(Duration::from_nanos),
            timeout: Duration::from_nanos(self.timeout),
            retries: self.retries,
            start_period: Duration::from_nanos(self.start_period),
            start_interval: self.start_interval.map(Duration::from_nanos),
            startup: self.startup.map(StartupCheck::into_live),
            on_unhealthy: match self.on_unhealthy {
                OnUnhealthy::Nothing => live::OnUnhealthy::Nothing,
                OnUnhealthy::Kill => live::OnUnhealthy::Kill,
                OnUnhealthy::Stop => live::OnUnhealthy::Stop,
                OnUnhealthy::Restart => live::OnUnhealthy::Restart,
            },
            stop_timeout: Duration::from_nanos(self.stop_timeout),
            log_entries: self.log_entries,
            log_bytes: self.log_bytes,
        }
    }
}

impl<'a> StartupCheck<'a> {
    fn of(live: &'a live::StartupCheck) -> Self {
        Self {
            test: (&live.test).into(),
            interval: nanoseconds(live.interval),
            timeout: nanoseconds(live.timeout),
            retries: live.retries,
            successes: live.successes,
        }
    }

    fn into_live(self) -> live::StartupCheck {
        live::StartupCheck {
            test: self.test.into_owned(),
            interval: Duration::from_nanos(self.interval),
            timeout: Duration::from_nanos(self.timeout),
            retries: self.retries,
            successes: self.successes,
        }
    }
}

impl<'a> Filesystem<'a> {
    fn of(live: &'a live::Filesystem) -> Self {
        Self {
            kind: (&live.kind).into(),
            container_path: (&live.container_path).into(),
            options: (&live.options).into(),
        }
    }

    fn into_live(self) -> live::Filesystem {
        live::Filesystem {
            kind: self.kind.into_owned(),
            container_path: self.container_path.into_owned(),
            options: self.options.into_owned(),
        }
    }
}

impl<'a> Rlimit<'a> {
    fn of(live: &'a live::Rlimit) -> Self {
        Self {
            kind: (&live.kind).into(),
            soft: live.soft,
            hard: live.hard,
        }
    }

    fn into_live(self) -> live::Rlimit {
        live::Rlimit {
            kind: self.kind.into_owned(),
            soft: self.soft,
            hard: self.hard,
        }
    }
}

impl BlockIo {
    fn of(live: &live::BlockIo) -> Self {
        Self {
            weight: live.weight,
            weight_device: numbers(&live.weight_device),
            read_bps: numbers(&live.read_bps),
            write_bps: numbers(&live.write_bps),
            read_iops: numbers(&live.read_iops),
            write_iops: numbers(&live.write_iops),
        }
    }

    fn into_live(self) -> live::BlockIo {
        live::BlockIo {
            weight: self.weight,
            weight_device: devices(self.weight_device),
            read_bps: devices(self.read_bps),
            write_bps: devices(self.write_bps),
            read_iops: devices(self.read_iops),
            write_iops: devices(self.write_iops),
        }
    }
}

fn numbers<T: Copy>(live: &[(live::DeviceNumber, T)]) -> Vec<(u32, u32, T)> {
    let one = |(device, limit): &(live::DeviceNumber, T)| (device.major, device.minor, *limit);
    live.iter().map(one).collect()
}

fn devices<T>(record: Vec<(u32, u32, T)>) -> Vec<(live::DeviceNumber, T)> {
    let one = |(major, minor, limit)| (live::DeviceNumber { major, minor }, limit);
    record.into_iter().map(one).collect()
}
