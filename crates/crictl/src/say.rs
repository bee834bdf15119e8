//! What people are told on standard error, in the form of crictl's log (logrus): lines of `time=… level=…
//! msg=…` for programs, and shorter ones on a terminal. And foreign words on standard output.
//!
//! Names, labels and errors come from images and runtimes: must never let a character of theirs through that
//! a terminal would obey.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock;

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

static DEBUG: AtomicBool = AtomicBool::new(false);

/// Shows the lines of debugging.
pub(crate) fn show_debug() {
    DEBUG.store(true, Ordering::Relaxed);
}

pub(crate) fn debug(words: impl std::fmt::Display) {
    if DEBUG.load(Ordering::Relaxed) {
        line(Level::Debug, &words.to_string());
    }
}

pub(crate) fn info(words: &str) {
    line(Level::Info, words);
}

pub(crate) fn warning(words: &str) {
    line(Level::Warning, words);
}

pub(crate) fn error(words: &str) {
    line(Level::Error, words);
}

fn line(level: Level, words: &str) {
    let mut stderr = std::io::stderr().lock();
    let text = match stderr.is_terminal() {
        true => for_people(level, words),
        false => for_programs(level, words),
    };
    // Nobody is left to be told that standard error is closed.
    let _ = stderr.write_all(text.as_bytes());
}

fn for_people(level: Level, words: &str) -> String {
    let (colour, word) = match level {
        Level::Debug => (37, "DEBU"),
        Level::Info => (36, "INFO"),
        Level::Warning => (33, "WARN"),
        Level::Error => (31, "ERRO"),
    };
    format!("\u{1b}[{colour}m{word}\u{1b}[0m[0000] {}\n", lines(words))
}

fn for_programs(level: Level, words: &str) -> String {
    let level = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let time = clock::whole_seconds(clock::now());
    format!("time=\"{time}\" level={level} msg={}\n", quoted(words))
}

/// A value of logrus: quoted where it has more than plain characters.
fn quoted(words: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    match !words.is_empty() && words.chars().all(is_plain) {
        true => words.to_owned(),
        false => go_quoted(words),
    }
}

/// A text as Go's `%q` prints it.
pub(crate) fn go_quoted(words: &str) -> String {
    let mut out = String::from("\"");
    for c in words.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            c if is_obeyed(c) && c.is_ascii() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if is_obeyed(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Characters that a terminal obeys: control characters, and those that turn the direction of writing.
pub(crate) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let obeyed = |c: char| is_obeyed(c) && !kept.contains(&c);
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match obeyed(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Foreign words of one line.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, &[])
}

/// Foreign words of several lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, &['\n', '\t'])
}

/// Prints what was made for standard output. A reader that has left, as `head` does, is the end of the
/// program and no failure.
pub(crate) fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// The same of what a container has written, as it is.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    if written.is_err() {
        std::process::exit(0);
    }
}

/// Prints what a container has written to standard error, as it is.
pub(crate) fn complain(bytes: &[u8]) {
    // Nobody is left to be told that standard error is closed.
    let _ = std::io::stderr().write_all(bytes);
}

/// Clears a terminal; what is no terminal is left as it is.
pub(crate) fn clear_screen() {
    if std::io::stdout().is_terminal() {
        print("\u{1b}[2J\u{1b}[H");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_logruses() {
        let text = for_programs(Level::Error, "no \"such\" thing\n\u{1b}[2J");
        let rest = text.split_once(" level=").unwrap().1;
        assert_eq!(rest, "error msg=\"no \\\"such\\\" thing\\n\\x1b[2J\"\n");
        assert!(for_programs(Level::Info, "plain").ends_with("level=info msg=plain\n"));
        assert!(for_people(Level::Warning, "a\u{1b}b").ends_with("[0000] a\\u{1b}b\n"));
    }
}
