//! Logs of containers, from the files that the runtime names: lines of the CRI's form or of Docker's.
//!
//! | file | what |
//! | --- | --- |
//! | `line.rs` | what a line says |
//! | `file.rs` | the file: its last lines, its growth and its rotation |

pub(crate) mod file;
pub(crate) mod line;
