//! The log that engines parse: runc's, as text or JSON, to a file or standard error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::cli::Global;

/// Makes sure that the log can be written before anything is done that would have to be told.
pub(crate) fn check(global: &Global) -> Result<(), String> {
    let Some(path) = &global.log else {
        return Ok(());
    };
    open(path)
        .map(drop)
        .map_err(|error| match error.raw_os_error() {
            Some(number) => format!("open {}: {}", path.display(), runtime::errno_text(number)),
            None => format!("open {}: {error}", path.display()),
        })
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// The last words of a verb: to the log, and to standard error if the log is a file.
pub(crate) fn fatal(global: &Global, message: &str) {
    line(global, "error", message);
    if global.log.is_some() {
        eprintln!("{message}");
    }
}

/// What is going on, with `--debug`.
pub(crate) fn debug(global: &Global, message: &str) {
    if global.debug {
        line(global, "debug", message);
    }
}

/// Something was degraded.
pub(crate) fn warn(global: &Global, message: &str) {
    line(global, "warning", message);
}

fn line(global: &Global, level: &str, message: &str) {
    let time =
        base::time::rfc3339(rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec);
    let text = match global.log_format.as_str() {
        "json" => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
        _ => format!("time={time:?} level={level} msg={message:?}"),
    };
    let written = match &global.log {
        Some(path) => open(path).and_then(|mut file| writeln!(file, "{text}")),
        None => writeln!(std::io::stderr(), "{text}"),
    };
    if let Err(error) = written {
        eprintln!("{message} (and the log cannot be written: {error})");
    }
}

/// The same with a fraction of a second, without zeros at its end.
pub(crate) fn rfc3339_nanos(time: rustix::time::Timespec) -> String {
    let whole = base::time::rfc3339(time.tv_sec);
    let fraction = format!("{:09}", time.tv_nsec);
    match fraction.trim_end_matches('0') {
        "" => whole,
        digits => format!("{}.{digits}Z", whole.trim_end_matches('Z')),
    }
}
