//! The terminal of the person: raw mode while a container has it, its size, and getting it back
//! in any case; and questions that the person answers there.

use std::io::{BufRead, IsTerminal, Stdin, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::Failure;

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

/// Warns, and asks whether to go on.
pub(crate) fn agreed(warning: &str) -> Result<bool, Failure> {
    println!("{warning}");
    print!("Are you sure you want to continue? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(Failure::new("nobody answers: use --force"));
    }
    Ok(answer.trim_start().starts_with(['y', 'Y']))
}

/// Asks on the terminal; what is not to be `shown` is not echoed. Without a terminal, the error says
/// what to do `instead`.
pub(crate) fn ask(prompt: &str, shown: bool, instead: &str) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let why = format!("standard input is no terminal to ask on: give {instead}");
        return Err(Failure::new(why));
    }
    let before = tcgetattr(&stdin).map_err(std::io::Error::from)?;
    // Before the question is there: whoever answers at once must not be shown either.
    if !shown {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &silent).map_err(std::io::Error::from)?;
    }
    print!("{prompt}");
    std::io::stdout().flush()?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if !shown {
        println!();
        tcsetattr(&stdin, OptionalActions::Now, &before).map_err(std::io::Error::from)?;
    }
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
