//! The language of Containerfiles (Dockerfile reference 1.28), and of what keeps files out of a build: text to typed
//! instructions, words to values. Pure: nothing here opens a file or knows an image.
//!
//! ```text
//! text ─▶ lines (directives, continuation, comments, here-documents) ─▶ instructions ─▶ stages
//!                                                       words of them ─▶ Expander ─▶ values
//! ```
//! Whoever wrote the file may be hostile: every length and count has a limit ([`limits`]), nothing recurses deeper
//! than a constant, and patterns are matched in linear time. An [`Error`] names file, line and instruction, shows
//! the line, and says what was perhaps meant.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod error;
mod expand;
mod instruction;
mod lines;
mod mount;
mod parse;
mod pattern;
mod stages;
mod words;

pub use error::{Error, Facts};
pub use expand::{Expander, Unset};
pub use instruction::{
    Arguments, CommandLine, Copy, Flags, From, HealthCheck, HereDocument, Instruction, Kind, Run,
    Text,
};
pub use mount::{Mount, MountKind, Sharing};
pub use pattern::{Ignore, Pattern, PatternFlaw};
pub use stages::{Containerfile, Stage};

/// What a file may have at most.
pub mod limits {
    /// Bytes of a file.
    pub const FILE: usize = 4 << 20;
    /// Bytes of an instruction with its continuation lines, without its here-documents.
    pub const LINE: usize = 1 << 20;
    /// Instructions of a file.
    pub const INSTRUCTIONS: usize = 10_000;
    /// Stages of a file.
    pub const STAGES: usize = 500;
    /// Bytes that a word may become when its variables are replaced.
    pub const VALUE: usize = 1 << 20;
    /// Variables within the words of variables.
    pub const DEPTH: usize = 16;
    /// Patterns of a file that keeps others out of a build.
    pub const PATTERNS: usize = 10_000;
}

/// Parses one instruction as it stands in `ONBUILD` of an image, or in `--change` of a command. `origin` stands for
/// the file in errors.
///
/// # Errors
/// What is no instruction.
pub fn parse_instruction(origin: &str, text: &str) -> Result<Instruction, Error> {
    stages::single(origin, text)
}
