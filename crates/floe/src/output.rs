//! How lists look: podman's columns, ages and sizes.

use std::fmt::Write;

/// Columns padded to their widest cell, three spaces between, as podman prints them.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
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

/// `4.27 MB`, powers of 1000.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.3} {}", units[unit]).replace(".000", "")
    }
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
    fn durations_and_sizes_read_as_a_person_says_them() {
        assert_eq!(duration(0), "Less than a second");
        assert_eq!(duration(1), "1 second");
        assert_eq!(duration(125), "2 minutes");
        assert_eq!(duration(90_000), "1 day");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(4_270_000), "4.270 MB");
        assert_eq!(size(2_000_000), "2 MB");
    }
}
