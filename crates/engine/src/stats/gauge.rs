//! What is kept between two readings of a container or pod: its last figures, from which a rate is told,
//! and the open files of its cgroup. Lost with the process, which costs one reading.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::cgroup::{Basics, Meter, Of};

use crate::disk::now_ns;
use crate::error::{Error, Result};

/// Open files that readings may keep in all, as far as the limit of this process has room for them: those
/// of about five hundred pods with a container each, whose figures take twice as long when each file is
/// opened anew. The kernel has some 5 KiB for each.
const FILES: usize = 10_240;

/// One reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Nanoseconds since 1970.
    pub(super) timestamp: i64,
    /// CPU time per second in ns since the reading before; `None` at the first.
    pub(super) cpu_nano_cores: Option<u64>,
    /// The figures.
    pub(super) basics: Basics,
}

impl Reading {
    /// With the rate since `before`.
    fn after(before: Option<&Reading>, timestamp: i64, basics: Basics) -> Self {
        let rate = || {
            let before = before?;
            let used = basics.cpu_usage?.checked_sub(before.basics.cpu_usage?)?;
            let elapsed = u128::try_from(timestamp - before.timestamp).ok()?;
            let rate = (u128::from(used) * 1_000_000_000).checked_div(elapsed)?;
            u64::try_from(rate).ok()
        };
        Self {
            timestamp,
            cpu_nano_cores: rate(),
            basics,
        }
    }
}

/// Where figures come from.
pub(super) enum Source<'a> {
    /// A cgroup of this node.
    Cgroup(&'a str),
    /// Who runs it says them.
    Asked(&'a dyn Fn() -> Result<Basics>),
}

#[derive(Debug, Default)]
struct Gauge {
    meter: Option<Meter>,
    last: Option<Reading>,
}

type ById = Mutex<HashMap<String, Arc<Mutex<Gauge>>>>;

/// The gauges of all containers and pods that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    containers: ById,
    pods: ById,
    /// Files that are open between readings.
    files: AtomicUsize,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gauges {
    fn all(&self, of: Of) -> &ById {
        match of {
            Of::Container => &self.containers,
            Of::Pod => &self.pods,
        }
    }

    /// The last reading of `id` that is younger than `age` nanoseconds, or else one that is made now.
    /// `again`: whoever asks will do so again soon, which is worth open files.
    pub(super) fn read(
        &self,
        (of, id): (Of, &str),
        age: i64,
        again: bool,
        source: &Source<'_>,
    ) -> Result<Reading> {
        let gauge = Arc::clone(lock(self.all(of)).entry(id.to_owned()).or_default());
        let mut gauge = lock(&gauge);
        if let Some(last) = &gauge.last
            && (0..age).contains(&(now_ns() - last.timestamp))
        {
            return Ok(*last);
        }
        let basics = match source {
            Source::Asked(ask) => ask()?,
            Source::Cgroup(path) => {
                let failed = |source| Error::Cgroup {
                    id: id.to_owned(),
                    source,
                };
                self.meter(&mut gauge, path, of, again).map_err(failed)?
            }
        };
        let reading = Reading::after(gauge.last.as_ref(), now_ns(), basics);
        gauge.last = Some(reading);
        Ok(reading)
    }

    fn meter(
        &self,
        gauge: &mut Gauge,
        path: &str,
        of: Of,
        again: bool,
    ) -> std::result::Result<Basics, runtime::cgroup::Error> {
        let mut meter = match gauge.meter.take() {
            Some(meter) => meter,
            None => Meter::new(path, of)?,
        };
        let before = meter.open_files();
        if again && before == 0 && self.files.load(Ordering::Relaxed) < room() {
            meter.keep(true);
        }
        let read = meter.read();
        let after = meter.open_files();
        self.files.fetch_add(after, Ordering::Relaxed);
        self.files.fetch_sub(before, Ordering::Relaxed);
        gauge.meter = Some(meter);
        read
    }

    /// Forgets those that are gone.
    pub(super) fn forget_all_but(&self, of: Of, alive: &HashSet<&str>) {
        let mut gone = Vec::new();
        lock(self.all(of)).retain(|id, gauge| {
            let stays = alive.contains(id.as_str());
            if !stays {
                gone.push(Arc::clone(gauge));
            }
            stays
        });
        gone.iter().for_each(|gauge| self.close(gauge));
    }

    /// Forgets one that goes.
    pub(crate) fn forget(&self, id: &str) {
        for of in [Of::Container, Of::Pod] {
            let gone = lock(self.all(of)).remove(id);
            if let Some(gauge) = gone {
                self.close(&gauge);
            }
        }
    }

    fn close(&self, gauge: &Mutex<Gauge>) {
        let meter = lock(gauge).meter.take();
        let open = meter.map_or(0, |meter| meter.open_files());
        self.files.fetch_sub(open, Ordering::Relaxed);
    }
}

/// How many files may be kept open: not more than a quarter of what this process may have open.
fn room() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = limit
        .current
        .map_or(FILES, |limit| usize::try_from(limit / 4).unwrap_or(FILES));
    limit.min(FILES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basics(cpu: u64) -> Basics {
        Basics {
            cpu_usage: Some(cpu),
            ..Basics::default()
        }
    }

    fn rate(before: (i64, u64), after: (i64, u64)) -> Option<u64> {
        let first = Reading::after(None, before.0, basics(before.1));
        assert_eq!(first.cpu_nano_cores, None);
        Reading::after(Some(&first), after.0, basics(after.1)).cpu_nano_cores
    }

    #[test]
    fn a_rate_needs_two_readings_and_is_none_of_what_does_not_go_forwards() {
        let second = 1_000_000_000;
        assert_eq!(rate((second, 100), (3 * second, 1_000_100)), Some(500_000));
        assert_eq!(rate((second, 100), (second, 200)), None);
        assert_eq!(rate((second, 100), (0, 200)), None);
        assert_eq!(rate((second, 100), (2 * second, 50)), None);
    }

    #[test]
    fn a_reading_that_is_young_enough_is_not_made_again() {
        let gauges = Gauges::default();
        let read = |age, cpu| {
            let ask = move || Ok(basics(cpu));
            let of = (Of::Container, "a");
            let reading = gauges.read(of, age, false, &Source::Asked(&ask));
            reading.unwrap().basics.cpu_usage
        };
        assert_eq!(read(0, 1), Some(1));
        assert_eq!(read(i64::MAX, 2), Some(1));
        assert_eq!(read(0, 3), Some(3));
        gauges.forget_all_but(Of::Container, &HashSet::from(["a"]));
        gauges.forget_all_but(Of::Pod, &HashSet::new());
        assert_eq!(read(i64::MAX, 4), Some(3));
        gauges.forget("a");
        assert_eq!(read(i64::MAX, 5), Some(5));
    }
}
