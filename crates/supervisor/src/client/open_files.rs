//! How many files a process may have open (RLIMIT_NOFILE). An engine with thousands of calls under
//! way needs more than the usual 1,024; supervisors and what they start get what the engine was
//! started with, as programs that use select(2) fail with more.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};

/// What this process was started with, once that was changed.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Raises this process's soft limit to its hard limit; what [`super::launch`] starts from then on
/// gets the soft limit of before.
///
/// # Errors
/// A limit that the kernel refuses.
pub fn raise_open_files() -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    BEFORE.get_or_init(|| now.current);
    let raised = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(Error::io("raise", "RLIMIT_NOFILE"))
}

/// The soft limit for a supervisor, if it must differ from this process's.
pub(super) fn of_supervisors() -> Option<u64> {
    BEFORE.get().copied().flatten()
}
