//! Times and durations as Go writes and reads them. Times are told in UTC, whatever the machine's zone is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

fn at(nanoseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds)).ok()
}

/// RFC 3339 with as many digits as there are; nanoseconds since 1970 of any size are a time.
pub(crate) fn rfc3339(nanoseconds: i64) -> String {
    let text = at(nanoseconds).and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| nanoseconds.to_string())
}

/// Go's time that is none.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 without a fraction.
pub(crate) fn whole_seconds(nanoseconds: i64) -> String {
    rfc3339(nanoseconds - nanoseconds.rem_euclid(1_000_000_000))
}

/// As Go's `%v` prints a time: `2026-01-02 03:04:05.6 +0000 UTC`.
pub(crate) fn as_go_prints(nanoseconds: i64) -> String {
    let text = rfc3339(nanoseconds);
    match text.strip_suffix('Z') {
        Some(text) => format!("{} +0000 UTC", text.replace('T', " ")),
        None => text,
    }
}

/// go-units' words for how long ago a time is.
pub(crate) fn ago(nanoseconds: i64) -> String {
    let seconds = now().saturating_sub(nanoseconds) as f64 / 1e9;
    format!("{} ago", human(seconds))
}

fn human(seconds: f64) -> String {
    let (whole, minutes, hours) = (
        seconds as i64,
        (seconds / 60.0) as i64,
        (seconds / 3600.0 + 0.5) as i64,
    );
    match () {
        () if whole < 1 => "Less than a second".to_owned(),
        () if whole == 1 => "1 second".to_owned(),
        () if whole < 60 => format!("{whole} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", (seconds / 3600.0) as i64 / 24 / 365),
    }
}

/// A Go duration: `1.5s`, `2h45m`, `-1m`, `0`. Gives nanoseconds.
fn signed(text: &str) -> Option<i128> {
    let (minus, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        sum += number * unit;
        rest = &rest[end..];
    }
    (sum < 9.2e18).then_some(match minus {
        true => -(sum as i128),
        false => sum as i128,
    })
}

/// A Go duration of an option; one below zero is none.
///
/// # Errors
/// What is no duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let nanoseconds =
        signed(text).ok_or("write a duration, such as 500ms, 2s, 1.5s or 1m30s".to_owned())?;
    let nanoseconds = u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX);
    Ok(Duration::from_nanos(nanoseconds))
}

/// A time of `logs --since`, in nanoseconds since 1970: so long ago, seconds since 1970, or a time of RFC 3339
/// as far as it goes.
pub(crate) fn since(text: &str) -> Option<i64> {
    if let Some(ago) = signed(text) {
        return i64::try_from(i128::from(now()) - ago).ok();
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return i64::try_from(time.unix_timestamp_nanos()).ok();
    }
    if !text.contains('-') {
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = seconds.parse().ok()?;
        let digits = format!("{fraction:0<9.9}");
        let nanoseconds: i64 = digits.parse().ok()?;
        return seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds);
    }
    without_zone(text)
}

/// `2026-01-02`, `2026-01-02T15`, `2026-01-02T15:04`, `2026-01-02T15:04:05.6`, in UTC.
fn without_zone(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once('T').unwrap_or((text, ""));
    let mut numbers = date.split('-').map(str::parse::<u16>);
    let mut number = || numbers.next()?.ok();
    let (year, month, day) = (number()?, number()?, number()?);
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    let mut parts = clock.split(':').filter(|part| !part.is_empty());
    let mut part = || parts.next().map_or(Ok(0.0), str::parse::<f64>).ok();
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    if !(0.0..24.0).contains(&hours) || !(0.0..60.0).contains(&minutes) {
        return None;
    }
    if !(0.0..60.0).contains(&seconds) {
        return None;
    }
    let begin = PrimitiveDateTime::new(date, Time::MIDNIGHT).assume_utc();
    let begin = i64::try_from(begin.unix_timestamp_nanos()).ok()?;
    Some(begin + (((hours * 60.0 + minutes) * 60.0 + seconds) * 1e9) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_go_units() {
        for (seconds, words) in [
            (0.4, "Less than a second"),
            (1.9, "1 second"),
            (59.0, "59 seconds"),
            (61.0, "About a minute"),
            (3500.0, "58 minutes"),
            (3600.0, "About an hour"),
            (47.0 * 3600.0, "47 hours"),
            (49.0 * 3600.0, "2 days"),
            (20.0 * 86400.0, "2 weeks"),
            (90.0 * 86400.0, "3 months"),
            (800.0 * 86400.0, "2 years"),
        ] {
            assert_eq!(human(seconds), words);
        }
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1m1.5s"), Ok(Duration::from_millis(61_500)));
        assert_eq!(duration("-3s"), Ok(Duration::ZERO));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "3", "s", "1x", "1.2.3s", "99999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn since_takes_what_crictl_takes() {
        let day = 1_767_312_000_000_000_000;
        assert_eq!(since("2026-01-02T00:00:00Z"), Some(day));
        assert_eq!(since("2026-01-02"), Some(day));
        assert_eq!(since("2026-01-02T01"), Some(day + 3_600_000_000_000));
        assert_eq!(since("1767312000.5"), Some(day + 500_000_000));
        assert!(since("42m").unwrap() < now());
        for wrong in ["2026-13-01", "yesterday", "2026-01-02T99", "2026-01"] {
            assert_eq!(since(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_written_as_go_does() {
        assert_eq!(rfc3339(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(as_go_prints(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(whole_seconds(1_999_999_999), "1970-01-01T00:00:01Z");
    }
}
