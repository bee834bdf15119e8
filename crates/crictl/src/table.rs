//! Tables as Go's text/tabwriter lays them out for crictl, and sizes as go-units writes them.

use std::fmt::Write;

use crate::say;

/// Rows of columns; the last cell of a row is as wide as it is.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

/// The least width of a column, and what stands between two.
const WIDTH: usize = 20;
const PADDING: usize = 3;

impl Table {
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter();
        self.rows.push(
            cells
                .map(|cell| say::shown(cell.as_ref()).into_owned())
                .collect(),
        );
    }

    /// The text of it.
    pub(crate) fn text(&self) -> String {
        self.with_width(WIDTH)
    }

    /// The same with another least width.
    pub(crate) fn with_width(&self, least: usize) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let rows = self.rows.iter();
            let cells = rows.filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count() + PADDING).max();
            widest.unwrap_or(0).max(least)
        };
        let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                match widths.get(column) {
                    Some(&width) if column + 1 < row.len() => {
                        let _ = write!(out, "{cell:<width$}");
                    }
                    _ => out += cell,
                }
            }
            out.push('\n');
        }
        out
    }
}

/// A size in powers of 1000 with so many significant digits: `4.27MB`.
pub(crate) fn size(bytes: u64, digits: usize) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), UNITS[unit])
}

/// Go's `%.Ng` of numbers from 0 to about 1000.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let before = value.log10().floor() as i32 + 1;
    let after = usize::try_from(i32::try_from(digits).unwrap_or(4) - before).unwrap_or(0);
    let text = format!("{value:.after$}");
    if text
        .split('.')
        .next()
        .is_some_and(|whole| whole.len() > digits)
    {
        // Rounded up to one digit more than there may be.
        return "1e+03".to_owned();
    }
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_tabwriters() {
        let mut table = Table::default();
        table.row(["KEY", "VALUE"]);
        table.row(["a-key-that-is-longer-than-twenty", "x\u{1b}"]);
        let text = table.text();
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("KEY                                VALUE")
        );
        assert_eq!(
            lines.next(),
            Some("a-key-that-is-longer-than-twenty   x\\u{1b}")
        );
        let mut table = Table::default();
        table.row(["a", "b", "c"]);
        assert_eq!(table.text(), format!("{:<20}{:<20}c\n", "a", "b"));
    }

    #[test]
    fn sizes_are_go_units() {
        assert_eq!(size(0, 4), "0B");
        assert_eq!(size(999, 4), "999B");
        assert_eq!(size(4_267_000, 3), "4.27MB");
        assert_eq!(size(4_267_000, 4), "4.267MB");
        assert_eq!(size(1_000, 4), "1kB");
        assert_eq!(size(733_184, 3), "733kB");
        assert_eq!(size(999_900, 3), "1e+03kB");
        assert_eq!(size(1_023_000, 3), "1.02MB");
    }
}
