//! How lists look: podman's columns, ages and sizes; and foreign words on their way to a person.
//!
//! Names, labels, commands and errors come from archives and registries: must never let a character of
//! theirs through that a terminal would obey.

use std::borrow::Cow;
use std::fmt::Write;
use std::io::IsTerminal;

/// Characters that a terminal obeys: control characters, and those that turn the direction of writing.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, kept: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_obeyed(c) && !kept.contains(&c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Foreign words as one line. A tab becomes a blank.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    match text.contains(is_obeyed) {
        true => Cow::Owned(escaped(&text.replace('\t', " "), &[])),
        false => Cow::Borrowed(text),
    }
}

/// Foreign words of several lines. Those after the first are indented, so that none passes for floe's own.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    match text.contains(is_obeyed) {
        true => Cow::Owned(escaped(text, &['\n', '\t']).replace('\n', "\n  ")),
        false => Cow::Borrowed(text),
    }
}

/// A value that was asked for by itself: on a terminal as [`lines`], and for programs as it is.
pub(crate) fn value(text: &str) -> Cow<'_, str> {
    match std::io::stdout().is_terminal() && text.contains(is_obeyed) {
        true => Cow::Owned(escaped(text, &['\n', '\t'])),
        false => Cow::Borrowed(text),
    }
}

/// Prints values as podman prints its lists.
pub(crate) fn print_list(values: &[serde_json::Value]) {
    // They have no keys that JSON does not know.
    let text = serde_json::to_string_pretty(values).unwrap_or_default();
    println!("{}", json(&text));
}

/// The same JSON, with escapes for what JSON itself lets through.
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_obeyed(c) && !c.is_ascii_whitespace() {
            // All of them are in Unicode's first plane, and inside of strings.
            true => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            false => out.push(c),
        }
    }
    out
}

/// Columns padded to their widest cell, three spaces between, as podman prints them.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows = rows.iter().map(|row| row.iter().map(|cell| shown(cell)));
    let rows: Vec<Vec<_>> = rows.map(Iterator::collect).collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    let header: Vec<_> = header.iter().copied().map(Cow::Borrowed).collect();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// `3 minutes ago`, from nanoseconds since 1970.
pub(crate) fn ago(then_ns: i64) -> String {
    format!(
        "{} ago",
        duration(now().saturating_sub(then_ns / 1_000_000_000))
    )
}

/// `3 minutes`, `2 hours`, from seconds.
pub(crate) fn duration(seconds: i64) -> String {
    let units = [
        (1, "second"),
        (60, "minute"),
        (3600, "hour"),
        (86_400, "day"),
        (604_800, "week"),
        (2_592_000, "month"),
        (31_536_000, "year"),
    ];
    let (size, unit) = units
        .into_iter()
        .rev()
        .find(|(size, _)| seconds >= *size)
        .unwrap_or(units[0]);
    let count = seconds.max(0) / size;
    match (unit, count) {
        ("second", 0) => "Less than a second".into(),
        (unit, 1) => format!("1 {unit}"),
        (unit, count) => format!("{count} {unit}s"),
    }
}

/// A number of bytes below 1000 of its unit, if there is one for it.
fn scaled(bytes: u64) -> (f64, &'static str) {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    (value, units[unit])
}

/// `4.27 MB`, powers of 1000.
pub(crate) fn size(bytes: u64) -> String {
    match scaled(bytes) {
        (_, "B") => format!("{bytes} B"),
        (value, unit) => format!("{value:.3} {unit}").replace(".000", ""),
    }
}

/// `2.187MB`: four digits without a blank, as Docker's tools write it and podman in some places.
pub(crate) fn short_size(bytes: u64) -> String {
    let (value, unit) = scaled(bytes);
    let digits: usize = match value {
        value if unit == "B" || value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

/// The first 12 characters of an id.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let rows = vec![
            vec!["a".into(), "bbb".into()],
            vec!["cccc".into(), String::new()],
        ];
        assert_eq!(table(&["X", "Y"], &rows), "X     Y\na     bbb\ncccc\n");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_sent() {
        let hostile = "a\u{1b}[31m\u{9b}2J\r\nError: x\t\u{202e}\u{7f}";
        assert_eq!(
            shown(hostile),
            "a\\u{1b}[31m\\u{9b}2J\\r\\nError: x \\u{202e}\\u{7f}"
        );
        assert_eq!(
            lines(hostile),
            "a\\u{1b}[31m\\u{9b}2J\\r\n  Error: x\t\\u{202e}\\u{7f}"
        );
        assert_eq!(shown("é 漢字 ok"), "é 漢字 ok");
        let rows = vec![vec!["\u{1b}]0;x\u{7}".to_owned()]];
        assert_eq!(table(&["X"], &rows), "X\n\\u{1b}]0;x\\u{7}\n");
        let value = serde_json::json!({ "a": hostile });
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.contains(|c| is_obeyed(c) && c != '\n'), "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn durations_and_sizes_read_as_a_person_says_them() {
        assert_eq!(duration(0), "Less than a second");
        assert_eq!(duration(1), "1 second");
        assert_eq!(duration(125), "2 minutes");
        assert_eq!(duration(90_000), "1 day");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(4_270_000), "4.270 MB");
        assert_eq!(size(2_000_000), "2 MB");
        let short = [
            0,
            999,
            2_187_264,
            42_000,
            4_096,
            123_456_789,
            2_000_000_000_000_000,
        ];
        let short = short.map(short_size);
        assert_eq!(
            short,
            [
                "0B", "999B", "2.187MB", "42kB", "4.096kB", "123.5MB", "2000TB"
            ]
        );
    }
}
