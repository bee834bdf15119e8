//! Medians with their spreads, ratios, and the Markdown page they stand on.

use std::fmt::Write;
use std::time::Duration;

use testkit::Error;

/// One page of results.
pub(crate) struct Page {
    text: String,
}

/// What was measured of one thing at one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    /// The middle one of all rounds, or the only one.
    pub(crate) median: f64,
    /// The least of all rounds, and what nine of ten stay below.
    pub(crate) spread: Option<(f64, f64)>,
}

impl From<f64> for Figure {
    /// Something that was measured once.
    fn from(median: f64) -> Self {
        Self {
            median,
            spread: None,
        }
    }
}

impl Figure {
    /// The same in another unit.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            spread: self
                .spread
                .map(|(least, most)| (least * factor, most * factor)),
        }
    }
}

/// One comparison: floe's figures and its peers' for each thing measured.
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) about: String,
    /// Peers in the order of the columns, floe first.
    pub(crate) who: Vec<String>,
    pub(crate) unit: &'static str,
    /// What was measured, and each one's figure; `None` where it could not be.
    pub(crate) rows: Vec<(String, Vec<Option<Figure>>)>,
}

impl Page {
    pub(crate) fn new() -> Result<Self, Error> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
        let cpu = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or(": unknown processor");
        let cores = std::thread::available_parallelism()?;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let text = format!(
            "# Benchmarks\n\nWritten by `make bench`: floe beside Debian's packages of its peers, alternating in one run. \
             Medians, and in brackets the least and what nine of ten rounds stay below; a ratio is peer : floe, so 10× \
             means that floe takes a tenth. Read the ratios: the absolute figures are this machine's ({cores} cores,{}, Linux {}).\n",
            cpu.trim_start_matches(['\t', ' ', ':'])
                .split_whitespace()
                .fold(String::new(), |s, w| s + " " + w),
            kernel.trim()
        );
        Ok(Self { text })
    }

    /// Adds a section, with what else the machine did meanwhile.
    pub(crate) fn section(&mut self, section: Section, machine: &str) {
        eprintln!("{}: done. {machine}", section.title);
        let _ = writeln!(
            self.text,
            "\n## {}\n\n{} {machine}\n",
            section.title, section.about
        );
        let _ = write!(self.text, "| {} |", section.unit);
        for who in &section.who {
            let _ = write!(self.text, " {who} |");
        }
        let _ = write!(
            self.text,
            "\n| --- |{}\n",
            " ---: |".repeat(section.who.len())
        );
        for (what, figures) in &section.rows {
            let _ = write!(self.text, "| {what} |");
            let floe = figures.first().copied().flatten();
            for (column, figure) in figures.iter().enumerate() {
                let cell = match (figure, floe) {
                    (None, _) => "–".to_owned(),
                    (Some(peer), Some(floe)) if column > 0 && floe.median > 0.0 => {
                        format!("{} ({:.1}×)", words(*peer), peer.median / floe.median)
                    }
                    (Some(own), _) => words(*own),
                };
                let _ = write!(self.text, " {cell} |");
            }
            self.text.push('\n');
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

fn words(figure: Figure) -> String {
    let median = number(figure.median);
    match figure.spread {
        Some((least, most)) => format!("{median} [{}–{}]", number(least), number(most)),
        None => median,
    }
}

fn number(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

/// The figure of several rounds in milliseconds; `None` without any.
pub(crate) fn figure(mut samples: Vec<Duration>) -> Option<Figure> {
    samples.sort();
    let at = |index: usize| samples.get(index).map(|one| one.as_secs_f64() * 1e3);
    Some(Figure {
        median: at(samples.len() / 2)?,
        spread: Some((at(0)?, at(samples.len() * 9 / 10)?)),
    })
}
