//! Is the machine ours? A round during which others had the processors is no measure: it is repeated, a
//! bounded number of times, and the page says what was so.
//!
//! Between two rounds nobody has anything to do for us, so whoever runs then is somebody else. Time
//! that the host of a virtual machine takes (`steal`, proc_stat(5)) is looked at during the round, too.

use std::time::Duration;

use testkit::Error;

/// How long the machine is looked at between two rounds: ten of the kernel's ticks on each processor.
const LOOK: Duration = Duration::from_millis(100);
/// The share of the processors that others may have.
const OTHERS: f64 = 0.1;
/// How often it is looked at before a round begins anyway.
const PATIENCE: usize = 20;

/// What else the machine did while a section was measured.
#[derive(Debug)]
pub(crate) struct Calm {
    /// Rounds that may be repeated from now on.
    repeats: usize,
    repeated: usize,
    disturbed: usize,
    /// What was seen between rounds.
    between: Ticks,
    begin: Ticks,
    round: Ticks,
    was_calm: bool,
}

/// Durations of one round, or of several.
pub(crate) trait Merge {
    /// Adds those of a further round.
    fn merge(&mut self, more: Self);
}

impl Merge for Vec<Duration> {
    fn merge(&mut self, more: Self) {
        self.extend(more);
    }
}

impl<T: Merge, const N: usize> Merge for [T; N] {
    fn merge(&mut self, more: Self) {
        for (all, one) in self.iter_mut().zip(more) {
            all.merge(one);
        }
    }
}

impl Calm {
    /// Begins a section of which so many rounds may be repeated.
    pub(crate) fn begin(repeats: usize) -> Result<Self, Error> {
        let now = Ticks::now()?;
        Ok(Self {
            repeats,
            repeated: 0,
            disturbed: 0,
            between: Ticks::default(),
            begin: now,
            round: now,
            was_calm: true,
        })
    }

    /// Rounds that count, each of which is told its number.
    pub(crate) fn rounds<S: Merge>(
        &mut self,
        rounds: usize,
        mut act: impl FnMut(usize) -> Result<S, Error>,
    ) -> Result<S, Error> {
        let mut all = None;
        let mut round = 0;
        while round < rounds {
            self.before()?;
            let one = act(round)?;
            round += usize::from(self.keep(&mut all, one)?);
        }
        all.ok_or_else(|| "no rounds".into())
    }

    /// As [`Calm::rounds`], of requests.
    pub(crate) async fn requests<S: Merge>(
        &mut self,
        rounds: usize,
        mut act: impl AsyncFnMut(usize) -> Result<S, Error>,
    ) -> Result<S, Error> {
        let mut all = None;
        let mut round = 0;
        while round < rounds {
            self.before()?;
            let one = act(round).await?;
            round += usize::from(self.keep(&mut all, one)?);
        }
        all.ok_or_else(|| "no rounds".into())
    }

    /// Waits for a calm moment, as long as it is worth it.
    fn before(&mut self) -> Result<(), Error> {
        for _ in 0..PATIENCE {
            self.was_calm = self.look()?;
            if self.was_calm {
                break;
            }
        }
        self.round = Ticks::now()?;
        Ok(())
    }

    /// Keeps a round that was undisturbed, or may not be repeated any more; was it?
    fn keep<S: Merge>(&mut self, all: &mut Option<S>, one: S) -> Result<bool, Error> {
        let stolen = Ticks::now()?.since(self.round).stolen_share();
        let disturbed = !self.look()? || !self.was_calm || stolen > OTHERS;
        if disturbed && self.repeats > 0 {
            self.repeats -= 1;
            self.repeated += 1;
            return Ok(false);
        }
        self.disturbed += usize::from(disturbed);
        match all {
            Some(all) => all.merge(one),
            None => *all = Some(one),
        }
        Ok(true)
    }

    /// Looks at the machine while nothing is done for us; is it calm?
    fn look(&mut self) -> Result<bool, Error> {
        let begin = Ticks::now()?;
        std::thread::sleep(LOOK);
        let seen = Ticks::now()?.since(begin);
        self.between.add(seen);
        Ok(seen.busy_share() <= OTHERS)
    }

    /// What the page says of the section.
    pub(crate) fn words(&self) -> Result<String, Error> {
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or("?");
        let all = Ticks::now()?.since(self.begin);
        Ok(format!(
            "Load average {load}; between rounds others had {:.0} % of the processors, the host took {:.0} % of all time; \
             rounds repeated: {}, disturbed ones that count: {}.",
            self.between.busy_share() * 100.0,
            all.stolen_share() * 100.0,
            self.repeated,
            self.disturbed
        ))
    }
}

/// Time of all processors, in the kernel's ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Ticks {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Ticks {
    fn now() -> Result<Self, Error> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().ok_or("an empty /proc/stat")?;
        let parse = |word: &str| word.parse::<u64>();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two.
        let words: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(parse)
            .collect::<Result<_, _>>()?;
        let [.., idle, waiting, _, _, stolen] = words[..] else {
            return Err("a short /proc/stat".into());
        };
        Ok(Self {
            all: words.iter().sum(),
            idle: idle + waiting,
            stolen,
        })
    }

    fn since(self, begin: Self) -> Self {
        Self {
            all: self.all.saturating_sub(begin.all),
            idle: self.idle.saturating_sub(begin.idle),
            stolen: self.stolen.saturating_sub(begin.stolen),
        }
    }

    fn add(&mut self, more: Self) {
        self.all += more.all;
        self.idle += more.idle;
        self.stolen += more.stolen;
    }

    fn busy_share(self) -> f64 {
        share(self.all.saturating_sub(self.idle), self.all)
    }

    fn stolen_share(self) -> f64 {
        share(self.stolen, self.all)
    }
}

fn share(part: u64, of: u64) -> f64 {
    match of {
        0 => 0.0,
        _ => part as f64 / of as f64,
    }
}
