//! The streams of a process (config.md, process, terminal and consoleSize).

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// The streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Those of the caller.
    Inherit,
    /// These.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal from the container's own devpts; its master side goes to the caller.
    Terminal {
        /// Rows and columns, if known.
        size: Option<(u16, u16)>,
        /// A line break is no carriage return: whoever shows the output adds what it needs.
        raw_output: bool,
    },
}

impl Stdio {
    /// The descriptors that a child must keep.
    pub(crate) fn fds(&self) -> Vec<RawFd> {
        match self {
            Stdio::Fds {
                stdin,
                stdout,
                stderr,
            } => [stdin, stdout, stderr]
                .map(|fd| fd.as_fd().as_raw_fd())
                .to_vec(),
            Stdio::Inherit | Stdio::Terminal { .. } => Vec::new(),
        }
    }
}
