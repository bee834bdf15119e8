//! Times as logs and documents write them (RFC 3339), in UTC, and durations as configurations do.

use std::time::Duration;

/// The time, in nanoseconds since 1970.
#[must_use]
pub fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// `2016-10-06T00:17:09.669794202Z`, from nanoseconds since 1970.
#[must_use]
pub fn rfc3339_nanos(ns: i64) -> [u8; 30] {
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    seconds(&mut text[..19], ns.div_euclid(1_000_000_000));
    put(&mut text[20..29], ns.rem_euclid(1_000_000_000));
    text
}

/// `2016-10-06T00:17:09Z`, from seconds since 1970.
#[must_use]
pub fn rfc3339(since_1970: i64) -> String {
    let mut text = *b"0000-00-00T00:00:00Z";
    seconds(&mut text[..19], since_1970);
    text.iter().copied().map(char::from).collect()
}

fn seconds(text: &mut [u8], since_1970: i64) {
    let (year, month, day) = civil(since_1970.div_euclid(86_400));
    let of_day = since_1970.rem_euclid(86_400);
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], of_day / 3600);
    put(&mut text[14..16], of_day / 60 % 60);
    put(&mut text[17..19], of_day % 60);
}

fn put(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        // The remainder is 0 to 9, so the cast keeps its value.
        *digit = b'0' + number.rem_euclid(10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, by the Gregorian calendar. Years are
/// counted from March, so that the leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let days = days + 719_468; // from 0000-03-01
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// A duration as images and records write it, in nanoseconds: as many as fit, which is 584 years.
#[must_use]
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `300ms`, `0`; never negative. `None` for anything else,
/// and for more than a [`Duration`] holds.
#[must_use]
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit);
        let next = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(next.unwrap_or(after.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * seconds;
        total = total.checked_add(Duration::try_from_secs_f64(part).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_kubelet_reads_them() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_475_713_029_669_794_202, "2016-10-06T00:17:09.669794202Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (4_107_542_399_999_999_999, "2100-02-28T23:59:59.999999999Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(std::str::from_utf8(&rfc3339_nanos(ns)), Ok(text));
            let whole = format!("{}Z", &text[..19]);
            assert_eq!(rfc3339(ns.div_euclid(1_000_000_000)), whole);
        }
        assert_eq!(rfc3339(1_709_251_199), "2024-02-29T23:59:59Z");
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("4h0m0s", 4 * 3_600_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("2m300ms", 120_300),
            ("5000us", 5),
        ] {
            let expected = Some(Duration::from_millis(milliseconds));
            assert_eq!(go_duration(text), expected, "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1 s",
            "1d",
            "1..5s",
            "1e3s",
            "99999999999999999999h",
        ] {
            assert_eq!(go_duration(bad), None, "{bad:?}");
        }
    }
}
