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
    let time = rfc3339(rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec);
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
    let whole = rfc3339(time.tv_sec);
    let fraction = format!("{:09}", time.tv_nsec);
    match fraction.trim_end_matches('0') {
        "" => whole,
        digits => format!("{}.{digits}Z", whole.trim_end_matches('Z')),
    }
}

/// `2026-01-02T03:04:05Z` of seconds since 1970 (days to civil date after Howard Hinnant's algorithm).
pub(crate) fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 {
        month_shifted + 3
    } else {
        month_shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(rfc3339(1_735_689_600), "2025-01-01T00:00:00Z");
    }
}
