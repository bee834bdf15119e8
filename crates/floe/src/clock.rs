//! Times as people and images write them.

use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcDateTime};

use crate::failure::Failure;

/// Now, as images write it.
pub(crate) fn now() -> Result<String, Failure> {
    let now = UtcDateTime::now();
    now.format(&Rfc3339)
        .map_err(|e| Failure::new(format!("write the time: {e}")))
}

/// Seconds since 1970 of an RFC 3339 time.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(time.unix_timestamp())
}

/// An RFC 3339 time of seconds since 1970; `None` of one that has more than four digits in its year.
pub(crate) fn written(seconds: i64) -> Option<String> {
    let time = UtcDateTime::from_unix_timestamp(seconds).ok()?;
    time.format(&Rfc3339).ok()
}

/// An RFC 3339 time as Go prints it, `2024-01-02 03:04:05.6 +0000 UTC`; `None` of what is no such time.
pub(crate) fn as_go_prints(text: &str) -> Option<String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let (hours, minutes, _) = time.offset().as_hms();
    let sign = if time.offset().is_negative() {
        '-'
    } else {
        '+'
    };
    let offset = format!("{sign}{:02}{:02}", hours.abs(), minutes.abs());
    let zone = match time.offset().is_utc() {
        true => "UTC",
        false => offset.as_str(),
    };
    let fraction = match time.nanosecond() {
        0 => String::new(),
        part => format!(".{part:09}").trim_end_matches('0').to_owned(),
    };
    let (date, hour) = (time.date(), time.hour());
    let (minute, second) = (time.minute(), time.second());
    Some(format!(
        "{date} {hour:02}:{minute:02}:{second:02}{fraction} {offset} {zone}"
    ))
}

/// A point in the past, as podman's filters have it: `2h30m` ago, seconds since 1970, an RFC 3339
/// time, or a date in UTC with or without a time.
pub(crate) fn until(text: &str) -> Result<i64, Failure> {
    if let Some(ago) = ago(text) {
        return Ok(UtcDateTime::now().unix_timestamp().saturating_sub(ago));
    }
    if let Some(seconds) = text.parse().ok().or_else(|| seconds(text)) {
        return Ok(seconds);
    }
    let whole = match text.contains('T') {
        true => format!("{text}Z"),
        false => format!("{text}T00:00:00Z"),
    };
    seconds(&whole).ok_or_else(|| {
        Failure::new(format!(
            "{text:?} is no time: write 10m, 2h30m, 2024-01-02, 2024-01-02T15:04:05Z or seconds since 1970"
        ))
    })
}

/// A Go duration of whole numbers, such as `500ms`, `30s`, `1m30s`; `0` needs no unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const WANTED: &str = "write a duration, such as 500ms, 30s or 1m30s";
    let mut rest = if text == "0" { "0s" } else { text };
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return Err(WANTED.to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(WANTED)?;
        let number: u64 = rest[..digits].parse().map_err(|_| WANTED)?;
        let (milliseconds, after) = match &rest.as_bytes()[digits..] {
            [b'm', b's', ..] => (1, digits + 2),
            [b'h', ..] => (3_600_000, digits + 1),
            [b'm', ..] => (60_000, digits + 1),
            [b's', ..] => (1000, digits + 1),
            _ => return Err(WANTED.to_owned()),
        };
        let part = number.checked_mul(milliseconds).ok_or(WANTED)?;
        sum = sum
            .checked_add(Duration::from_millis(part))
            .ok_or("that is too long")?;
        rest = &rest[after..];
    }
    Ok(sum)
}

/// The seconds of a Go duration.
fn ago(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let (unit, after) = match &rest.as_bytes()[digits..] {
            [b'm', b's', ..] => (0, digits + 2),
            [b'h', ..] => (3600, digits + 1),
            [b'm', ..] => (60, digits + 1),
            [b's', ..] => (1, digits + 1),
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[after..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_go_does() {
        for (text, printed) in [
            ("2024-01-02T03:04:05Z", "2024-01-02 03:04:05 +0000 UTC"),
            (
                "2024-01-02T03:04:05.600Z",
                "2024-01-02 03:04:05.6 +0000 UTC",
            ),
            (
                "2024-01-02T03:04:05-02:30",
                "2024-01-02 03:04:05 -0230 -0230",
            ),
        ] {
            assert_eq!(as_go_prints(text).as_deref(), Some(printed));
        }
        assert_eq!(as_go_prints("yesterday"), None);
    }

    #[test]
    fn times_are_read_as_podman_reads_them() {
        assert_eq!(until("1700000000").unwrap(), 1_700_000_000);
        assert_eq!(until("2023-11-14T22:13:20Z").unwrap(), 1_700_000_000);
        assert_eq!(until("2023-11-14T22:13:20").unwrap(), 1_700_000_000);
        assert_eq!(until("2023-11-14").unwrap(), 1_699_920_000);
        let now = UtcDateTime::now().unix_timestamp();
        let hour = until("1h").unwrap();
        assert!((now - 3601..=now - 3599).contains(&hour), "{hour}");
        assert_eq!(ago("2h30m10s5ms"), Some(9010));
        for bad in ["", "1", "1x", "h", "1h2"] {
            assert_eq!(ago(bad), None, "{bad}");
        }
        assert!(until("yesterday").is_err());
        assert!(seconds(&super::now().unwrap()).is_some());
    }
}
