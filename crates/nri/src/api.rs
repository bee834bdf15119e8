//! The messages, made from `proto/nri.proto` by `build.rs`, and what belongs to them: events, owners' fields
//! and the mark of what is to be taken away.
#![allow(
    missing_docs,
    reason = "fields are named as the wire's definitions name them"
)]

include!(concat!(env!("OUT_DIR"), "/nri.rs"));

/// What a plugin can be told or asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Event {
    RunPodSandbox = 1,
    StopPodSandbox = 2,
    RemovePodSandbox = 3,
    CreateContainer = 4,
    PostCreateContainer = 5,
    StartContainer = 6,
    PostStartContainer = 7,
    UpdateContainer = 8,
    PostUpdateContainer = 9,
    StopContainer = 10,
    RemoveContainer = 11,
    UpdatePodSandbox = 12,
    PostUpdatePodSandbox = 13,
    ValidateContainerAdjustment = 14,
}

impl Event {
    /// Those that there are.
    pub const ALL: i32 = (1 << 14) - 1;

    /// Its bit in a subscription.
    #[must_use]
    pub const fn bit(self) -> i32 {
        1 << (self as i32 - 1)
    }

    /// The method that tells of it.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::RunPodSandbox => "RunPodSandbox",
            Self::StopPodSandbox => "StopPodSandbox",
            Self::RemovePodSandbox => "RemovePodSandbox",
            Self::CreateContainer => "CreateContainer",
            Self::PostCreateContainer => "PostCreateContainer",
            Self::StartContainer => "StartContainer",
            Self::PostStartContainer => "PostStartContainer",
            Self::UpdateContainer => "UpdateContainer",
            Self::PostUpdateContainer => "PostUpdateContainer",
            Self::StopContainer => "StopContainer",
            Self::RemoveContainer => "RemoveContainer",
            Self::UpdatePodSandbox => "UpdatePodSandbox",
            Self::PostUpdatePodSandbox => "PostUpdatePodSandbox",
            Self::ValidateContainerAdjustment => "ValidateContainerAdjustment",
        }
    }

    /// Was it told by `StateChange` before it had a method of its own?
    pub(crate) const fn was_state_change(self) -> bool {
        !matches!(
            self,
            Self::CreateContainer
                | Self::UpdateContainer
                | Self::StopContainer
                | Self::UpdatePodSandbox
                | Self::ValidateContainerAdjustment
        )
    }
}

/// A field of a container that plugins can set, by its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Field {
    Annotations = 1,
    Mounts = 2,
    OciHooks = 3,
    Devices = 4,
    CdiDevices = 5,
    Env = 6,
    Args = 7,
    MemLimit = 8,
    MemReservation = 9,
    MemSwapLimit = 10,
    MemKernelLimit = 11,
    MemTcpLimit = 12,
    MemSwappiness = 13,
    MemDisableOomKiller = 14,
    MemUseHierarchy = 15,
    CpuShares = 16,
    CpuQuota = 17,
    CpuPeriod = 18,
    CpuRealtimeRuntime = 19,
    CpuRealtimePeriod = 20,
    CpusetCpus = 21,
    CpusetMems = 22,
    PidsLimit = 23,
    HugepageLimits = 24,
    BlockioClass = 25,
    RdtClass = 26,
    CgroupsUnified = 27,
    CgroupsPath = 28,
    OomScoreAdj = 29,
    Rlimits = 30,
    IoPriority = 31,
    SeccompPolicy = 32,
    Namespace = 33,
    Sysctl = 34,
    LinuxNetDevices = 35,
    LinuxSched = 36,
    RdtClosId = 37,
    RdtSchemata = 38,
    RdtEnableMonitoring = 39,
    MemoryPolicy = 40,
}

/// What is to be taken away, if that is what the name says.
#[must_use]
pub fn removed(name: &str) -> Option<&str> {
    name.strip_prefix('-')
}

/// The name as one that is to be taken away.
#[must_use]
pub fn removal(name: &str) -> String {
    format!("-{name}")
}
