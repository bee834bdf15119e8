//! Pressure stall information (kernel Documentation/accounting/psi.rst): only v2 has it, beside v1
//! hierarchies too.

use crate::cgroup::Cgroup;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Version;

/// Pressure by what was lacking.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureStats {
    /// CPU time.
    pub cpu: Pressure,
    /// Memory.
    pub memory: Pressure,
    /// Block devices.
    pub io: Pressure,
}

/// Time lost to one lack.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some task waited.
    pub some: PressureLine,
    /// All tasks waited.
    pub full: PressureLine,
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

pub(super) fn read(cgroup: &Cgroup) -> Result<Option<PressureStats>, Error> {
    let Some(dir) = cgroup.dirs().find(|dir| dir.version() == Version::V2) else {
        return Ok(None);
    };
    let Some(cpu) = one(&dir, "cpu.pressure")? else {
        return Ok(None);
    };
    let (memory, io) = (one(&dir, "memory.pressure")?, one(&dir, "io.pressure")?);
    Ok(Some(PressureStats {
        cpu,
        memory: memory.unwrap_or_default(),
        io: io.unwrap_or_default(),
    }))
}

fn one(dir: &Dir<'_>, file: &str) -> Result<Option<Pressure>, Error> {
    Ok(dir.get_optional(file)?.map(|text| parse(&text)))
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse(text: &str) -> Pressure {
    let line = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        let word = |name: &str| {
            line.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(name))
        };
        let average = |name| word(name).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        PressureLine {
            avg10: average("avg10="),
            avg60: average("avg60="),
            avg300: average("avg300="),
            total: word("total=")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        }
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
            PressureLine {
                avg10: 1.5,
                avg60: 0.25,
                avg300: 0.0,
                total: 42
            }
        );
        assert_eq!((pressure.full.avg300, pressure.full.total), (0.1, 7));
    }
}
