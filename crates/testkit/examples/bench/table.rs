//! Medians, ratios, and the Markdown page they stand on.

use std::fmt::Write;
use std::time::Duration;

use testkit::Error;

/// One page of results.
pub(crate) struct Page {
    text: String,
}

/// One comparison: floe's figures and its peers' for each thing measured.
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) about: String,
    /// Peers in the order of the columns, floe first.
    pub(crate) who: Vec<String>,
    pub(crate) unit: &'static str,
    /// What was measured, and each one's median; `None` where it could not be.
    pub(crate) rows: Vec<(String, Vec<Option<f64>>)>,
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
             Medians; a ratio is peer : floe, so 10× means that floe takes a tenth. Read the ratios: the absolute \
             figures are this machine's ({cores} cores,{}, Linux {}).\n",
            cpu.trim_start_matches(['\t', ' ', ':'])
                .split_whitespace()
                .fold(String::new(), |s, w| s + " " + w),
            kernel.trim()
        );
        Ok(Self { text })
    }

    pub(crate) fn section(&mut self, section: Section) {
        eprintln!("{}: done", section.title);
        let _ = writeln!(self.text, "\n## {}\n\n{}\n", section.title, section.about);
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
                    (Some(own), _) if column == 0 => number(*own),
                    (Some(peer), Some(floe)) if floe > 0.0 => {
                        format!("{} ({:.1}×)", number(*peer), peer / floe)
                    }
                    (Some(peer), _) => number(*peer),
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

fn number(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

/// The median in milliseconds.
pub(crate) fn median(mut samples: Vec<Duration>) -> Option<f64> {
    samples.sort();
    samples
        .get(samples.len() / 2)
        .map(|middle| middle.as_secs_f64() * 1e3)
}
