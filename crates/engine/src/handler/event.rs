//! What happens in a pod, as its handler tells it.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;

use super::{Sandbox, State};
use crate::error::Result;

/// What happens in a pod from some moment on, in order. Holds nobody up: whoever does not take it in time has
/// missed some. Dropping it ends it.
pub trait Events: Debug + Send {
    /// Polls readable when there may be something to take.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// What comes next; `None`: nothing yet. Never waits.
    ///
    /// # Errors
    /// Nothing more comes: it is to be asked for anew, if the sandbox lives. Of kind
    /// [`crate::Kind::Unimplemented`]: nobody will ever tell of this pod.
    fn next(&mut self) -> Result<Option<News>>;
}

/// What a handler tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something has happened.
    Event(Event),
    /// Some events were not kept for who asks: how the pod and its containers are is in the records.
    Missed,
}

/// Something that happened to a pod or a container of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number among the pod's events, if they have numbers: whoever names the last that it has seen gets
    /// those after it.
    pub number: Option<u64>,
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
    /// A container is made.
    Created,
    /// A container's program was executed.
    Started,
    /// A container's processes were frozen.
    Paused,
    /// They go on.
    Resumed,
    /// A container has ended.
    Exited {
        /// The program's code, or 128 and the number of the signal that killed it.
        code: i32,
    },
    /// The kernel killed a process of a container for want of memory.
    OutOfMemory,
    /// A container is removed.
    Removed,
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
