//! A container's health: a command that is run in it again and again, what it said, and what follows when it fails
//! too often. Must never hold up the loop, and keeps no more of what a command says than was asked for.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

use super::container::{Container, Want};
use super::poller::{Interest, Key, Token};
use super::requests::Reply;
use super::time::after;
use super::{Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::health::{Checked, Health, HealthCheck, HealthRecord, OnUnhealthy, StartupCheck};
use crate::protocol::{ExecExit, ExecWire, Response};
use crate::state::{Status, now_ns};

/// The most that is kept of what one check says.
const MOST_BYTES: u32 = 64 << 10;
/// The most checks that are kept.
const MOST_ENTRIES: u32 = 1000;
/// The most that is kept of what all of them say.
const ALL_BYTES: usize = 256 << 10;
/// A check comes no sooner after another, however short its interval is.
const LEAST: Duration = Duration::from_millis(100);
/// No command has this code.
const NO_CODE: i32 = -1;

/// What a container's checks have come to.
#[derive(Debug)]
pub(super) struct Checks {
    check: Box<HealthCheck>,
    pub(super) record: HealthRecord,
    /// When its program began to run; `None`: it has not.
    since: Option<Instant>,
    /// How the checks of its start went, until those are over.
    startup: Option<Startup>,
    next: Option<Instant>,
    run: Option<Run>,
}

/// Checks of a start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Startup {
    succeeded: u32,
    failed: u32,
}

/// A check that is under way.
#[derive(Debug)]
struct Run {
    began_ns: i64,
    /// The end of a pipe that the command writes to.
    output: Option<OwnedFd>,
    said: Vec<u8>,
}

impl Checks {
    pub(super) fn of(check: Box<HealthCheck>) -> Self {
        let startup = check.startup.as_ref().map(|_| Startup::default());
        Self {
            check,
            record: HealthRecord::default(),
            since: None,
            startup,
            next: None,
            run: None,
        }
    }

    /// The container's program runs: the first check is due.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
            self.next = self.check.interval.map(|_| now);
        }
    }

    /// When the next check is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next.filter(|_| self.run.is_none())
    }

    /// The check of its start, until it has started.
    fn of_start(&self) -> Option<(&StartupCheck, Startup)> {
        self.check.startup.as_ref().zip(self.startup)
    }

    fn args(&self) -> &[String] {
        self.of_start()
            .map_or(&self.check.args, |(check, _)| &check.args)
    }

    fn timeout(&self) -> Duration {
        self.of_start()
            .map_or(self.check.timeout, |(check, _)| check.timeout)
    }

    /// How long until the next check.
    fn interval(&self, now: Instant) -> Option<Duration> {
        let usual = self.check.interval?;
        let wait = match (self.of_start(), self.check.start_interval) {
            (Some((check, _)), _) => check.interval,
            (None, Some(wait)) if self.is_early(now) => wait,
            (None, _) => usual,
        };
        Some(wait.max(LEAST))
    }

    /// Is it so soon after its start that a check may fail?
    fn is_early(&self, now: Instant) -> bool {
        let ran = self.since.map_or(Duration::ZERO, |since| now - since);
        self.record.status == Health::Starting && ran < self.check.start_period
    }

    /// Judges the container by a check that has ended; what follows from that.
    fn judge(&mut self, checked: Checked, now: Instant) -> OnUnhealthy {
        let well = checked.exit_code == 0;
        self.keep(checked);
        let was_starting = self.startup.is_some();
        let follows = match self.startup {
            Some(startup) => self.judge_start(startup, well),
            None => self.judge_health(well, now),
        };
        let has_just_started = was_starting && self.startup.is_none();
        self.next = match self.interval(now) {
            // Its health is looked at as soon as that can be.
            Some(_) if has_just_started => Some(now),
            wait => wait.and_then(|wait| now.checked_add(wait)),
        };
        follows
    }

    /// A failed start's container is to start again.
    fn judge_start(&mut self, mut startup: Startup, well: bool) -> OnUnhealthy {
        let Some(check) = &self.check.startup else {
            return OnUnhealthy::Nothing;
        };
        match well {
            true => startup.succeeded = startup.succeeded.saturating_add(1),
            false => startup.failed = startup.failed.saturating_add(1),
        }
        let has_started = startup.succeeded >= check.successes.max(1);
        let has_failed = check.retries > 0 && startup.failed >= check.retries;
        self.startup = Some(startup).filter(|_| !has_started);
        match has_failed && !has_started {
            true => OnUnhealthy::Restart,
            false => OnUnhealthy::Nothing,
        }
    }

    fn judge_health(&mut self, well: bool, now: Instant) -> OnUnhealthy {
        let record = &mut self.record;
        if well {
            record.status = Health::Healthy;
            record.failing_streak = 0;
            return OnUnhealthy::Nothing;
        }
        if self.is_early(now) {
            return OnUnhealthy::Nothing;
        }
        let record = &mut self.record;
        record.failing_streak = record.failing_streak.saturating_add(1);
        if record.failing_streak < self.check.retries.max(1) {
            return OnUnhealthy::Nothing;
        }
        record.status = Health::Unhealthy;
        self.check.on_unhealthy
    }

    /// Keeps the last ones, as many as was asked for and no more than may be.
    fn keep(&mut self, checked: Checked) {
        let log = &mut self.record.log;
        log.push(checked);
        let most = self.check.log_entries.clamp(1, MOST_ENTRIES) as usize;
        let bytes = |log: &[Checked]| log.iter().map(|one| one.output.len()).sum::<usize>();
        while log.len() > most || (log.len() > 1 && bytes(log) > ALL_BYTES) {
            log.remove(0);
        }
    }

    /// Reads what there is, and keeps what may be kept of it. `false` when no more will come.
    fn hear(&mut self, buffer: &mut Vec<u8>) -> bool {
        let Some(run) = &mut self.run else {
            return false;
        };
        let Some(output) = &run.output else {
            return false;
        };
        let most = self.check.log_bytes.min(MOST_BYTES) as usize;
        buffer.clear();
        match rustix::io::read(output, rustix::buffer::spare_capacity(buffer)) {
            Ok(0) => false,
            Ok(_) => {
                let room = most.saturating_sub(run.said.len());
                run.said.extend(buffer.iter().take(room));
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            Err(_) => false,
        }
    }
}

impl Supervisor {
    /// Runs a check now, or waits for the one that runs; answered when it has ended.
    pub(super) fn check(&mut self, id: &str, client: Key) -> Result<Reply> {
        let key = self.find(id)?;
        let container = self.container(id)?;
        let may = may_be_checked(container);
        let Some(checks) = &container.checks else {
            let reason = format!("container {id} has none");
            return Err(Error::invalid("health check", reason));
        };
        if !may {
            return Err(container.wrong_state("check the health of"));
        }
        let runs = checks.run.is_some();
        container.waiting.push((client, Want::Check));
        if !runs {
            self.begin_check(key);
        }
        Ok(Reply::Later)
    }

    /// A check may be due.
    pub(super) fn on_due_check(&mut self, key: Key, now: Instant) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let may = may_be_checked(container);
        let Some(checks) = &mut container.checks else {
            return;
        };
        if checks.deadline().is_none_or(|at| at > now) {
            return;
        }
        // One that stands still is neither well nor ill.
        checks.next = checks.interval(now).and_then(after);
        if may {
            self.begin_check(key);
        }
    }

    fn begin_check(&mut self, key: Key) {
        if let Err(error) = self.try_check(key) {
            self.check_failed(key, &error.to_string());
        }
    }

    fn try_check(&mut self, key: Key) -> Result<()> {
        let Some(container) = self.containers.get_mut(&key) else {
            return Ok(());
        };
        let Some(checks) = &mut container.checks else {
            return Ok(());
        };
        checks.run = Some(Run {
            began_ns: now_ns(),
            output: None,
            said: Vec::new(),
        });
        let (args, timeout) = (checks.args().to_vec(), checks.timeout());
        let id = container.id().to_owned();
        let mut process = super::create::read_spec(&container.dir)?
            .process
            .unwrap_or_default();
        process.args = args;
        let made = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make", "a pipe"))?;
        let (ours, theirs) = made;
        base::file::never_wait(&ours).map_err(Error::io("set flags of", "a pipe"))?;
        let nothing = OpenOptions::new().read(true).open("/dev/null");
        let nothing = nothing.map_err(Error::io("open", "/dev/null"))?;
        let twin = theirs
            .try_clone()
            .map_err(Error::io("duplicate", "a pipe"))?;
        self.poller.add(&ours, Token::Check(key), Interest::READ)?;
        if let Some(run) = self.run_of(key) {
            run.output = Some(ours);
        }
        self.begin_command(
            &id,
            process,
            (ExecWire::Fds, vec![nothing.into(), theirs, twin]),
            Some(timeout),
            super::exec::Asker::Check(key),
        )
        .map(|_| ())
    }

    fn run_of(&mut self, key: Key) -> Option<&mut Run> {
        let checks = self.containers.get_mut(&key)?.checks.as_mut()?;
        checks.run.as_mut()
    }

    /// A check has written something, or never will again.
    pub(super) fn on_check_output(&mut self, key: Key) {
        let checks = self.containers.get_mut(&key).map(|one| &mut one.checks);
        let Some(Some(checks)) = checks else { return };
        if !checks.hear(&mut self.buffer) {
            self.stop_hearing(key);
        }
    }

    fn stop_hearing(&mut self, key: Key) {
        if let Some(output) = self.run_of(key).and_then(|run| run.output.take()) {
            let _ = self.poller.remove(&output, Token::Check(key));
        }
    }

    /// The command of a check has ended.
    pub(super) fn check_exited(&mut self, key: Key, exit: ExecExit) {
        let late = exit.timed_out.then(|| {
            let checks = self
                .containers
                .get(&key)
                .and_then(|one| one.checks.as_ref());
            let limit = checks.map(|checks| checks.timeout()).unwrap_or_default();
            format!("the check took longer than {limit:?}")
        });
        let code = if exit.timed_out { NO_CODE } else { exit.code };
        self.check_ended(key, code, late);
    }

    /// The command of a check could not be run.
    pub(super) fn check_failed(&mut self, key: Key, reason: &str) {
        self.check_ended(key, NO_CODE, Some(reason.to_owned()));
    }

    /// A check is over: `said` is what is known of it besides what it has said itself.
    fn check_ended(&mut self, key: Key, code: i32, said: Option<String>) {
        // What it has written before its end is in the pipe; a child of its may write for ever.
        for _ in 0..4 {
            self.on_check_output(key);
        }
        self.stop_hearing(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let dir = &container.dir;
        let Some(checks) = &mut container.checks else {
            return;
        };
        let Some(run) = checks.run.take() else { return };
        let mut output = String::from_utf8_lossy(&run.said).into_owned();
        output.extend(said);
        let checked = Checked {
            started_at_ns: run.began_ns,
            ended_at_ns: now_ns(),
            exit_code: code,
            output,
        };
        let follows = match container.state.status {
            // It has ended meanwhile, and a command with it.
            Status::Exited { .. } => OnUnhealthy::Nothing,
            _ => checks.judge(checked, Instant::now()),
        };
        let record = checks.record.clone();
        if let Err(error) = record.write(dir) {
            diagnose(format_args!("container {}: {error}", container.state.id));
        }
        self.answer_checked(key, &Response::Checked(record));
        self.follow(key, follows);
    }

    /// Answers those who wait for a check.
    fn answer_checked(&mut self, key: Key, answer: &Response) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let waiting = std::mem::take(&mut container.waiting);
        let (told, still): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(_, want)| *want == Want::Check);
        container.waiting = still;
        for (client, _) in told {
            self.connections.answer(client, answer, Vec::new());
        }
    }

    /// Does what follows from too many checks that failed.
    fn follow(&mut self, key: Key, what: OnUnhealthy) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(checks) = container.checks.as_ref().filter(|_| !container.is_ending()) else {
            return;
        };
        let (signal, timeout) = match what {
            OnUnhealthy::Nothing => return,
            OnUnhealthy::Kill => (libc::SIGKILL, Duration::ZERO),
            OnUnhealthy::Stop | OnUnhealthy::Restart => {
                (checks.check.stop_signal, checks.check.stop_timeout)
            }
        };
        diagnose(format_args!(
            "container {} is unhealthy: {what:?}",
            container.id()
        ));
        container.unwell = Some(what);
        self.begin_stop(key, signal, timeout);
    }

    /// The container has ended, and with it what is checked.
    pub(super) fn end_checks(&mut self, key: Key) {
        self.stop_hearing(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(checks) = &mut container.checks {
            checks.next = None;
            checks.run = None;
            let gone = Response::Failed(container.wrong_state("check the health of"));
            self.answer_checked(key, &gone);
        }
    }
}

/// Does it run, so that a command can?
fn may_be_checked(container: &Container) -> bool {
    matches!(container.state.status, Status::Running { .. })
        && !container.is_ending()
        && !container.held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        HealthCheck {
            args: vec!["check".into()],
            interval: Some(Duration::from_secs(30)),
            timeout: Duration::from_secs(5),
            retries: 2,
            start_period: Duration::ZERO,
            start_interval: None,
            startup: None,
            on_unhealthy: OnUnhealthy::Stop,
            stop_signal: libc::SIGTERM,
            stop_timeout: Duration::ZERO,
            log_entries: 3,
            log_bytes: 500,
        }
    }

    fn begun(check: HealthCheck) -> (Checks, Instant) {
        let now = Instant::now();
        let mut checks = Checks::of(Box::new(check));
        checks.begin(now);
        assert_eq!(checks.deadline(), Some(now));
        (checks, now)
    }

    fn ended(exit_code: i32) -> Checked {
        Checked {
            started_at_ns: 1,
            ended_at_ns: 2,
            exit_code,
            output: exit_code.to_string(),
        }
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let (mut checks, now) = begun(check());
        let steps = [
            (1, Health::Starting, 1, OnUnhealthy::Nothing),
            (0, Health::Healthy, 0, OnUnhealthy::Nothing),
            (NO_CODE, Health::Healthy, 1, OnUnhealthy::Nothing),
            (3, Health::Unhealthy, 2, OnUnhealthy::Stop),
            (3, Health::Unhealthy, 3, OnUnhealthy::Stop),
            (0, Health::Healthy, 0, OnUnhealthy::Nothing),
        ];
        for (code, status, streak, follows) in steps {
            assert_eq!(checks.judge(ended(code), now), follows);
            let record = &checks.record;
            assert_eq!((record.status, record.failing_streak), (status, streak));
            assert_eq!(checks.deadline(), Some(now + seconds(30)));
        }
        let kept = checks.record.log.iter().map(|one| one.exit_code);
        assert_eq!(kept.collect::<Vec<_>>(), [3, 3, 0]);
    }

    #[test]
    fn failures_of_its_first_time_count_for_nothing_until_one_succeeds() {
        let (mut checks, now) = begun(HealthCheck {
            start_period: seconds(60),
            start_interval: Some(seconds(1)),
            retries: 1,
            ..check()
        });
        let at = now + seconds(10);
        assert_eq!(checks.judge(ended(1), at), OnUnhealthy::Nothing);
        assert_eq!(checks.record.status, Health::Starting);
        assert_eq!(checks.deadline(), Some(at + seconds(1)));
        assert_eq!(checks.judge(ended(0), at), OnUnhealthy::Nothing);
        assert_eq!(checks.deadline(), Some(at + seconds(30)));
        assert_eq!(checks.judge(ended(1), at), OnUnhealthy::Stop);
        // It has never been well when that time is over.
        let (mut checks, now) = begun(HealthCheck {
            start_period: seconds(60),
            retries: 1,
            ..check()
        });
        let late = now + seconds(61);
        assert_eq!(checks.judge(ended(1), late), OnUnhealthy::Stop);
    }

    #[test]
    fn a_start_is_checked_first_and_one_that_fails_is_tried_again() {
        let startup = StartupCheck {
            args: vec!["up".into()],
            interval: seconds(2),
            timeout: seconds(1),
            retries: 3,
            successes: 2,
        };
        let check = HealthCheck {
            startup: Some(startup),
            ..check()
        };
        let (mut checks, now) = begun(check.clone());
        for code in [1, 0, 0] {
            assert_eq!(
                (checks.args(), checks.timeout()),
                (&["up".to_owned()][..], seconds(1))
            );
            assert_eq!(checks.judge(ended(code), now), OnUnhealthy::Nothing);
            assert_eq!(checks.record.status, Health::Starting);
        }
        assert_eq!(checks.args(), ["check".to_owned()]);
        assert_eq!(checks.deadline(), Some(now));
        let (mut checks, now) = begun(check);
        let all = [1, 1, 1].map(|code| checks.judge(ended(code), now));
        assert_eq!(
            all,
            [
                OnUnhealthy::Nothing,
                OnUnhealthy::Nothing,
                OnUnhealthy::Restart
            ]
        );
        assert_eq!(checks.deadline(), Some(now + seconds(2)));
    }

    #[test]
    fn what_is_kept_is_bounded_and_one_without_an_interval_waits_to_be_asked_for() {
        let mut checks = Checks::of(Box::new(HealthCheck {
            interval: None,
            log_entries: u32::MAX,
            ..check()
        }));
        let now = Instant::now();
        checks.begin(now);
        for _ in 0..10 {
            let output = "x".repeat(MOST_BYTES as usize);
            checks.judge(Checked { output, ..ended(0) }, now);
            assert_eq!(checks.deadline(), None);
        }
        assert_eq!(checks.record.log.len(), 4);
    }
}
