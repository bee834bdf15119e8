//! The times as a picture: a strip for each call, on one logarithmic axis. Each time is a dot; the box holds the
//! middle half of them, its line is the median, and the thin line reaches from the fastest to the slowest. It has
//! no script and no font of its own, and its colours follow what its reader has, light or dark.

use std::fmt::Write as _;

use super::figures::Figures;
use super::measure::{Measured, Series};
use super::{head, milliseconds};
use crate::xml::escaped;

/// The most dots of a strip.
const DOTS: usize = 1_000;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 64.0;
const ROW: f64 = 34.0;

/// The shortest time that has a place.
const LEAST: f64 = 1e-6;

const STYLE: &str = "\
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1f2328; --faint: #59636e; --grid: #d1d9e0; --dot: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --ink: #f0f6fc; --faint: #9198a1; --grid: #3d444d; --dot: #4493f8; } }
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.title { font-weight: 600; font-size: 15px; }
.faint { fill: var(--faint); font-size: 12px; }
.ground { fill: var(--ground); }
.grid { stroke: var(--grid); stroke-width: 1; }
.dot { fill: var(--dot); fill-opacity: 0.35; }
.whole { stroke: var(--ink); stroke-width: 1; }
.box { fill: var(--dot); fill-opacity: 0.25; stroke: var(--ink); stroke-width: 1; }
.median { stroke: var(--ink); stroke-width: 3; }";

/// From a time to its place.
struct Axis {
    /// Powers of ten of seconds.
    low: f64,
    high: f64,
}

impl Axis {
    /// One that has room for all times.
    fn of(all: &[Series]) -> Self {
        let times = || {
            all.iter()
                .flat_map(|series| &series.took)
                .map(|time| time.max(LEAST))
        };
        let low = times().fold(f64::INFINITY, f64::min);
        let high = times().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = match low <= high {
            true => (low.log10().floor(), high.log10().ceil()),
            false => (-3.0, 0.0),
        };
        Self {
            low,
            high: high.max(low + 1.0),
        }
    }

    fn place(&self, time: f64) -> f64 {
        let share = (time.max(LEAST).log10() - self.low) / (self.high - self.low);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    /// The powers of ten that have a line.
    fn lines(&self) -> impl Iterator<Item = i32> {
        self.low as i32..=self.high as i32
    }
}

/// `10 ms` of a power of ten of seconds.
fn label(power: i32) -> String {
    let (value, unit) = match power {
        ..-3 => (power + 6, "µs"),
        -3..0 => (power + 3, "ms"),
        _ => (power, "s"),
    };
    format!("{} {unit}", 10_f64.powi(value))
}

/// The whole picture.
pub(super) fn text(measured: &Measured) -> String {
    let all = &measured.series;
    let axis = Axis::of(all);
    let bottom = TOP + ROW * all.len() as f64;
    let height = bottom + 40.0;
    let title = escaped(&head(measured));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"26\">{title}</text>\n\
         <text class=\"faint\" x=\"16\" y=\"46\">a dot for each call; the box: the middle half, its line: the median</text>\n"
    );
    for power in axis.lines() {
        let x = axis.place(10_f64.powi(power));
        // Nothing that is written to a String fails.
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"faint\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 20.0,
            label(power)
        );
    }
    for (row, series) in all.iter().enumerate() {
        strip(&mut out, &axis, series, TOP + ROW * (row as f64 + 0.5));
    }
    out += "</svg>\n";
    out
}

fn strip(out: &mut String, axis: &Axis, series: &Series, y: f64) {
    let _ = writeln!(
        out,
        "<text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        LEFT - 14.0,
        y + 4.5,
        series.rpc
    );
    let note = |out: &mut String, words: &str| {
        let _ = writeln!(
            out,
            "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\">{words}</text>",
            WIDTH - RIGHT + 14.0,
            y + 4.5
        );
    };
    let Some(figures) = Figures::of(&series.took) else {
        note(out, &format!("{} failed", series.failed));
        return;
    };
    let (first, last) = (axis.place(figures.minimum), axis.place(figures.maximum));
    let (left, right) = (
        axis.place(figures.first_quarter),
        axis.place(figures.third_quarter),
    );
    let median = axis.place(figures.median);
    let _ = writeln!(
        out,
        "<line class=\"whole\" x1=\"{first:.1}\" x2=\"{last:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
         <rect class=\"box\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\"/>",
        y - 8.0,
        (right - left).max(1.0)
    );
    let step = series.took.len().div_ceil(DOTS).max(1);
    for (number, time) in series.took.iter().enumerate().step_by(step) {
        // Those of the same time are beside each other.
        let off = (number % 7) as f64 * 3.0 - 9.0;
        let _ = writeln!(
            out,
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>",
            axis.place(*time),
            y + off
        );
    }
    let _ = writeln!(
        out,
        "<line class=\"median\" x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
        y - 9.0,
        y + 9.0
    );
    let failed = match series.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    note(out, &format!("{} ms{failed}", milliseconds(figures.median)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_room_for_every_time() {
        let series = |took: &[f64]| Series {
            rpc: "ExecSync",
            took: took.to_vec(),
            failed: 1,
            why: None,
        };
        for took in [
            &[][..],
            &[0.0],
            &[1e-3],
            &[3e-4, 0.02, 7.0],
            &[f64::MIN_POSITIVE, 1e9],
        ] {
            let all = [series(took)];
            let axis = Axis::of(&all);
            for &time in took {
                let place = axis.place(time);
                assert!(
                    (LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&place),
                    "{time}: {place}"
                );
            }
            let mut out = String::new();
            strip(&mut out, &axis, &all[0], 0.0);
            assert!(!out.contains("NaN") && !out.contains("inf"), "{out}");
            assert!(axis.lines().count() < 20);
        }
        let labels = [-6, -5, -3, -1, 0, 1].map(label);
        assert_eq!(labels, ["1 µs", "10 µs", "1 ms", "100 ms", "1 s", "10 s"]);
    }
}
