//! What comes of many times: by rank, so each is a time that was measured.

/// Seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    pub(super) minimum: f64,
    /// A quarter is faster.
    pub(super) first_quarter: f64,
    pub(super) median: f64,
    /// A quarter is slower.
    pub(super) third_quarter: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) maximum: f64,
}

impl Figures {
    /// Those of some times; `None` if there are none.
    pub(super) fn of(took: &[f64]) -> Option<Self> {
        let mut sorted = took.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // The least time that so many hundredths do not exceed.
        let rank = |hundredths: usize| {
            let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
            sorted[(rank - 1).min(last)]
        };
        Some(Self {
            minimum: sorted[0],
            first_quarter: rank(25),
            median: rank(50),
            third_quarter: rank(75),
            p90: rank(90),
            p99: rank(99),
            maximum: sorted[last],
        })
    }

    /// Those that are told, with their names.
    pub(super) fn all(&self) -> [(&'static str, f64); 5] {
        [
            ("minimum", self.minimum),
            ("median", self.median),
            ("p90", self.p90),
            ("p99", self.p99),
            ("maximum", self.maximum),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_by_rank() {
        assert_eq!(Figures::of(&[]), None);
        let one = Figures::of(&[7.0]).unwrap();
        assert!(one.all().iter().all(|&(_, value)| value == 7.0));
        let mut many: Vec<f64> = (1..=200).map(f64::from).collect();
        many.reverse();
        let many = Figures::of(&many).unwrap();
        let values = many.all().map(|(_, value)| value);
        assert_eq!(values, [1.0, 100.0, 180.0, 198.0, 200.0]);
        assert_eq!((many.first_quarter, many.third_quarter), (50.0, 150.0));
        let few = Figures::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((few.median, few.p90), (2.0, 3.0));
    }
}
