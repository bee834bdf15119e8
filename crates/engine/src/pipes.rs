//! What a command gets as its streams when we hold the other ends of them: of the container's commands, and of
//! handlers that copy.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Error, Result};

/// The two ends of a pipe: to be read, and to be written.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::io("make", "pipe")(error.into()))
}

/// An input that is at its end, or an output that goes nowhere.
pub(crate) fn null(output: bool) -> Result<OwnedFd> {
    let opened = File::options()
        .read(!output)
        .write(output)
        .open("/dev/null");
    opened
        .map(OwnedFd::from)
        .map_err(Error::io("open", "/dev/null"))
}
