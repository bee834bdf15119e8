//! OCI runtime-spec to running process, on Linux.

pub mod capability;
pub mod seccomp;
pub mod spec;
