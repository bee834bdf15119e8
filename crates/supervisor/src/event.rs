//! What a supervisor tells those who have subscribed: each change of a container's life, in order and
//! with a number, and the present state for whoever comes new or has missed some.
//!
//! Numbers begin at 1 and have no holes; a pod has one supervisor for all of its life, so a number
//! names an event for ever. The supervisor keeps the last events, up to a size: who names the last
//! one that it has seen gets those after it; where some are not kept any more it is told so, and gets the rest.

use serde::{Deserialize, Serialize};

use crate::state::ContainerState;

/// Something that happened in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number among the pod's events.
    pub seq: u64,
    /// When: nanoseconds since 1970, UTC.
    pub at_ns: i64,
    /// What.
    pub what: Happening,
    /// The container as it was right after that; `None` for what is the pod's own.
    #[serde(default)]
    pub container: Option<ContainerState>,
}

/// What happened. The state that goes with it says the rest, such as an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// A container stands at the gate before its program.
    Created,
    /// Its program was executed.
    Started,
    /// Its cgroup was frozen.
    Paused,
    /// It was thawed.
    Resumed,
    /// The kernel killed a process of it for want of memory. Told at most ten times a second.
    OutOfMemory,
    /// Its first process has ended.
    Exited,
    /// It was forgotten, and its record removed.
    Deleted,
    /// The pod is shut down: what is left of it ends, and then the supervisor.
    PodEnding,
    /// Something that this program does not know, told by a newer supervisor.
    #[serde(other)]
    Unknown,
}

/// A pod as it is: what a subscriber learns first, and again when it was too slow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// The number of the last event that this includes; 0 if nothing has happened yet.
    pub seq: u64,
    /// Some of the events that the subscriber has not seen are not kept any more.
    pub gap: bool,
    /// The containers.
    pub containers: Vec<ContainerState>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_newer_supervisor_is_one_that_is_not_known() {
        let text = r#"{"seq":7,"at_ns":1,"what":"teleported","since":"2030"}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!((event.seq, event.what), (7, Happening::Unknown));
        assert_eq!(event.container, None);
    }
}
