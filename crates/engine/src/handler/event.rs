//! What happens in a pod, as its handler tells it.

use super::{Sandbox, State};

/// Something that happened to a pod or a container of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When: nanoseconds since 1970, UTC.
    pub at: i64,
    /// The container; `None`: the pod itself.
    pub container: Option<String>,
    /// What.
    pub happened: Happened,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// A container's program was executed.
    Started,
    /// A container has ended.
    Exited {
        /// The program's code, or 128 and the number of the signal that killed it.
        code: i32,
    },
    /// The kernel killed a process of a container for want of memory.
    OutOfMemory,
    /// The sandbox is gone.
    SandboxGone,
}

/// What a handler knows of a pod that it has taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    /// The sandbox, if it lives.
    pub sandbox: Option<Sandbox>,
    /// The containers of which it knows, by id, as they are now.
    pub containers: Vec<(String, State)>,
    /// All that happened to them, in order, as far as anybody has kept it.
    pub events: Vec<Event>,
}
