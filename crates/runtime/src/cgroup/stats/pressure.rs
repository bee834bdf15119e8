//! Pressure stall information (kernel Documentation/accounting/psi.rst): only v2 has it, beside v1
//! hierarchies too.

use super::files::Files;
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Version;

/// Pressure by what was lacking; `None` of what the kernel does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureStats {
    /// CPU time.
    pub cpu: Option<Pressure>,
    /// Memory.
    pub memory: Option<Pressure>,
    /// Block devices.
    pub io: Option<Pressure>,
}

/// Time lost to one lack; `None` of a line that this kernel does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some task waited.
    pub some: Option<PressureLine>,
    /// All tasks waited.
    pub full: Option<PressureLine>,
}

/// Averages and total of a pressure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureLine {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last 60 seconds.
    pub avg60: f64,
    /// Percent of the last 300 seconds.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

pub(super) fn read(cgroup: &Cgroup, files: &mut Files) -> Result<Option<PressureStats>, Error> {
    let Some(dir) = cgroup.dirs().find(|dir| dir.version() == Version::V2) else {
        return Ok(None);
    };
    let mut one = |file| Ok(files.text(&dir, file)?.map(|text| parse(&text)));
    let stats = PressureStats {
        cpu: one("cpu.pressure")?,
        memory: one("memory.pressure")?,
        io: one("io.pressure")?,
    };
    Ok((stats != PressureStats::default()).then_some(stats))
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse(text: &str) -> Pressure {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let word = |name: &str| {
            line.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(name))
        };
        let average = |name| word(name)?.parse().ok();
        Some(PressureLine {
            avg10: average("avg10=")?,
            avg60: average("avg60=")?,
            avg300: average("avg300=")?,
            total: word("total=")?.parse().ok()?,
        })
    };
    Pressure {
        some: line("some "),
        full: line("full "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressure_file_is_read_line_by_line() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.10 total=7\n";
        let pressure = parse(text);
        assert_eq!(
            pressure.some,
            Some(PressureLine {
                avg10: 1.5,
                avg60: 0.25,
                avg300: 0.0,
                total: 42
            })
        );
        let full = pressure.full.unwrap();
        assert_eq!((full.avg300, full.total), (0.1, 7));
    }

    #[test]
    fn a_line_that_is_not_there_is_not_zero() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
        let pressure = parse(text);
        assert!(pressure.some.is_some() && pressure.full.is_none());
    }
}
