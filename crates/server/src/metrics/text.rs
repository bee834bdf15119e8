//! Prometheus' text format, version 0.0.4: as much of it as is needed here. OpenMetrics, which libraries
//! write, would rename counters that CRI-O ends otherwise than in `_total`.

use std::fmt::{Display, Write};

/// What it is called in HTTP.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text in the making.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a metric: its samples come next.
    pub(super) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (key, text)) in labels.iter().enumerate() {
            self.0.push(if number == 0 { '{' } else { ',' });
            self.0.push_str(key);
            self.0.push_str("=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    letter => self.0.push(letter),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// The whole.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A histogram: how many values were at most each of its bounds.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// Of each bound, without those of the bounds before it.
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    /// With rising bounds.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len()],
            count: 0,
            sum: 0.0,
        }
    }

    /// Counts a value.
    pub(super) fn observe(&mut self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.count += 1;
        self.sum += value;
    }

    /// Writes its samples.
    pub(super) fn write(&self, text: &mut Text, name: &str, labels: &[(&str, &str)]) {
        let bucket = format!("{name}_bucket");
        let mut so_far = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            so_far += count;
            let bound = bound.to_string();
            text.sample(&bucket, &[labels, &[("le", &bound)]].concat(), so_far);
        }
        text.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), self.count);
        text.sample(&format!("{name}_sum"), labels, self.sum);
        text.sample(&format!("{name}_count"), labels, self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_values_stand_behind_them() {
        let mut text = Text::default();
        text.begin("a_total", "counter", "As many.");
        text.sample("a_total", &[("x", "a\"b\\c\nd"), ("y", "")], 3);
        text.sample("a_total", &[], 0.5);
        assert_eq!(
            text.finish(),
            "# HELP a_total As many.\n# TYPE a_total counter\n\
             a_total{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 3\na_total 0.5\n"
        );
    }

    #[test]
    fn buckets_hold_all_that_is_at_most_their_bound() {
        let mut histogram = Histogram::new(&[0.5, 2.0]);
        for value in [0.25, 0.5, 1.0, 8.0] {
            histogram.observe(value);
        }
        let mut text = Text::default();
        histogram.write(&mut text, "t", &[("of", "x")]);
        assert_eq!(
            text.finish(),
            "t_bucket{of=\"x\",le=\"0.5\"} 2\nt_bucket{of=\"x\",le=\"2\"} 3\n\
             t_bucket{of=\"x\",le=\"+Inf\"} 4\nt_sum{of=\"x\"} 9.75\nt_count{of=\"x\"} 4\n"
        );
    }
}
