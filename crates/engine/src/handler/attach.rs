//! A container's streams, joined by a caller whose threads may wait.

use std::fmt::Debug;

use super::State;
use crate::error::Result;

pub use supervisor::{AttachOptions, Stream};

/// What comes from an attached container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachEvent {
    /// Some of its output.
    Output(Stream, Vec<u8>),
    /// It has ended; all it wrote before has come already, and nothing comes after.
    Exit(State),
}

/// A connection to a container's streams. A reader that is slow slows the container down, and nothing
/// is lost. Dropping it leaves the container alone, but for the end of its stdin if that was to be open
/// once.
#[derive(Debug)]
pub struct Attachment {
    output: AttachOutput,
    input: AttachInput,
    hang_up: Box<dyn HangUp>,
}

/// Ends an attached connection from beside its halves, whose calls fail from then on.
pub trait HangUp: Debug + Send + Sync {
    /// Ends the connection.
    fn hang_up(&self);
}

/// The half that receives.
#[derive(Debug)]
pub struct AttachOutput(Box<dyn StreamOutput>);

/// The half that sends.
#[derive(Debug)]
pub struct AttachInput(Box<dyn StreamInput>);

/// What a handler does to receive.
pub trait StreamOutput: Debug + Send {
    /// Waits for output or the end.
    ///
    /// # Errors
    /// A sandbox that went away, or a container that was removed.
    fn read(&mut self) -> Result<AttachEvent>;
}

/// What a handler does to send.
pub trait StreamInput: Debug + Send {
    /// Sends bytes to the container's stdin; waits while it takes none.
    ///
    /// # Errors
    /// A sandbox that went away, or a container that has ended.
    fn send(&mut self, bytes: &[u8]) -> Result<()>;

    /// Says that no more stdin will come. It ends the container's stdin if that was to be open
    /// once; otherwise, and for a terminal, it does nothing.
    ///
    /// # Errors
    /// As [`StreamInput::send`].
    fn close(&mut self) -> Result<()>;

    /// Sets the size of the container's terminal; a container without one ignores it.
    ///
    /// # Errors
    /// As [`StreamInput::send`].
    fn resize(&mut self, rows: u16, cols: u16) -> Result<()>;
}

impl Attachment {
    /// Of two halves and their common end, for handlers.
    #[must_use]
    pub fn new(
        output: Box<dyn StreamOutput>,
        input: Box<dyn StreamInput>,
        hang_up: Box<dyn HangUp>,
    ) -> Self {
        Self {
            output: AttachOutput(output),
            input: AttachInput(input),
            hang_up,
        }
    }

    /// The same connection, with another half that sends.
    #[must_use]
    pub fn with_input(
        self,
        wrap: impl FnOnce(Box<dyn StreamInput>) -> Box<dyn StreamInput>,
    ) -> Self {
        Self {
            output: self.output,
            input: AttachInput(wrap(self.input.0)),
            hang_up: self.hang_up,
        }
    }

    /// The two halves, for two threads.
    #[must_use]
    pub fn split(self) -> (AttachOutput, AttachInput) {
        (self.output, self.input)
    }

    /// The two halves, and what ends both.
    #[must_use]
    pub fn parts(self) -> (AttachOutput, AttachInput, Box<dyn HangUp>) {
        (self.output, self.input, self.hang_up)
    }
}

impl AttachOutput {
    /// Waits for output or the end.
    ///
    /// # Errors
    /// A sandbox that went away, or a container that was removed.
    pub fn read(&mut self) -> Result<AttachEvent> {
        self.0.read()
    }
}

impl AttachInput {
    /// Sends bytes to the container's stdin; waits while it takes none.
    ///
    /// # Errors
    /// A sandbox that went away, or a container that has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.send(bytes)
    }

    /// Says that no more stdin will come. It ends the container's stdin if that was to be open
    /// once; otherwise, and for a terminal, it does nothing.
    ///
    /// # Errors
    /// As [`AttachInput::send`].
    pub fn close(&mut self) -> Result<()> {
        self.0.close()
    }

    /// Sets the size of the container's terminal; a container without one ignores it.
    ///
    /// # Errors
    /// As [`AttachInput::send`].
    pub fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        self.0.resize(rows, cols)
    }
}
