//! The terminal of the person: raw mode while a container has it, its size, and getting it back
//! in any case.

use std::io::{IsTerminal, Stdin};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode; dropped, the terminal is as it was.
pub(crate) struct Raw {
    input: Stdin,
    before: Termios,
}

impl Raw {
    /// Switches standard input to raw mode; `None` if it is no terminal.
    pub(crate) fn enter() -> std::io::Result<Option<Self>> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw)?;
        Ok(Some(Self { input, before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing better can be done if the terminal has gone away.
        let _ = tcsetattr(&self.input, OptionalActions::Now, &self.before);
    }
}

/// Rows and columns of the terminal on standard input, if it is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
