//! The system calls that neither the standard library nor rustix has as safe functions, one
//! module per kernel area. `unsafe` is here and nowhere else in the crate.

pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod signal;
