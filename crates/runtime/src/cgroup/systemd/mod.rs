//! systemd as the manager of cgroups (systemd.scope(5), systemd.slice(5), org.freedesktop.systemd1(5),
//! <https://systemd.io/CGROUP_DELEGATION>).
//!
//! A container is a transient scope, delegated to us, or a slice. systemd makes a scope only around
//! a process, so the container's first process is there before its cgroup and waits. systemd gets
//! the limits that it knows as properties; the control files below get all of them, as without
//! systemd, and the hierarchies that systemd does not look after are made here.
//!
//! On v2 device rules are never properties: systemd forms its own program of them anew at a `daemon-reload`,
//! and finds only devices that udev knows, which costs containers their GPUs. The program that is attached here
//! stays as it is. On v1 systemd looks after the hierarchy of devices whether it is asked to or not, and would open
//! it: there the unit has the rules.
//!
//! | file | |
//! | --- | --- |
//! | `names.rs` | cgroupsPath and annotations as a unit |
//! | `properties.rs` | limits as properties |
//! | `gvariant.rs` | values of annotations |
//! | `bus.rs`, `marshal.rs` | the connection, and its messages |

mod bus;
mod gvariant;
mod marshal;
mod names;
mod properties;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

pub use names::{Unit, slice_path};

use super::Cgroup;
use super::create::{self, Made};
use super::delete;
use super::error::Error;
use super::hierarchy::Hierarchies;
use super::manager::Manager;
use super::resources;
use crate::spec::Resources;
use bus::{Bus, PATIENCE, PAUSE, Refusal};
use marshal::{Message, Value};
use names::Property;

const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const GONE: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Is systemd this host's init (sd_booted(3))?
#[must_use]
pub fn is_systemd_running() -> bool {
    let booted = std::fs::symlink_metadata("/run/systemd/system");
    booted.is_ok_and(|found| found.is_dir())
}

/// Is the host's systemd not the caller's? Root of a user namespace sees it as nobody's, unless it was
/// started in there.
fn is_somebody_elses() -> Result<bool, Error> {
    // sd_booted(3)
    let booted = std::fs::symlink_metadata("/run/systemd/system").ok();
    let booted = booted.filter(Metadata::is_dir).ok_or(Error::NoSystemd)?;
    Ok(!rustix::process::geteuid().is_root() || booted.uid() != 0)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Systemd {
    pub(super) unit: Unit,
}

impl Manager for Systemd {
    fn make(
        &self,
        hierarchies: &'static Hierarchies,
        path: &str,
        resources: Option<&Resources>,
        first: Option<i32>,
    ) -> Result<Made, Error> {
        let unified = hierarchies.only_unified();
        if self.unit.user && !unified {
            let reason = "cannot use rootless systemd cgroups manager on cgroup v1";
            return Err(self.unit.failed("start", reason.to_owned()));
        }
        let none = Resources::default();
        let started = Started::new(&self.unit, resources.unwrap_or(&none), unified, first)?;
        let mut made = create::make(hierarchies, path, resources, first)?;
        made.unit = Some(started);
        Ok(made)
    }

    /// The unit was started with its properties.
    fn apply(&self, cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
        resources::apply(cgroup, &self.for_files(resources))
    }

    fn update(&self, cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
        let unified = cgroup.hierarchies.only_unified();
        let mut wanted = resources.clone();
        if let Some(cpu) = &mut wanted.cpu {
            // systemd wants both.
            resources::cpu::complete(cgroup, cpu)?;
        }
        // systemd would set it, and the kernel kill for it, before the files are written.
        if let Some(memory) = &resources.memory {
            resources::memory::check(cgroup, memory)?;
        }
        let mut bus = Bus::connect(self.unit.user)?;
        let limits = properties::limits(&wanted, unified, &mut || version(&mut bus))?;
        if !limits.is_empty() {
            let arguments = [
                Value::text(&self.unit.name),
                // Until it ends.
                Value::bool(true),
                list(limits),
            ];
            let answer = bus.manager("SetUnitProperties", &arguments)?;
            answer.map_err(|refusal| self.unit.refused("set properties of", refusal))?;
        }
        resources::apply(cgroup, &self.for_files(&wanted))
    }

    /// systemd may do for a user what he may not.
    fn attach(&self, cgroup: &Cgroup, pid: i32) -> Result<(), Error> {
        let below = cgroup.dirs().find_map(|dir| {
            let below = dir.path.strip_prefix(self.unit.path.as_str())?;
            Some(below.to_owned())
        });
        let arguments = [
            Value::text(&self.unit.name),
            Value::text(below.unwrap_or_default()),
            processes(Some(pid)),
        ];
        let answer = Bus::connect(self.unit.user)?.manager("AttachProcessesToUnit", &arguments)?;
        match answer {
            Ok(_) => Ok(()),
            Err(refusal) => Err(self.unit.refused("add a process to", refusal)),
        }
    }

    fn remove(&self, cgroup: &Cgroup) -> Result<(), Error> {
        let stopped = match self.unit.collected && !self.unit.is_slice() {
            // systemd sees that nobody is left in it.
            true => Ok(()),
            false => self.unit.stop(),
        };
        // Also what is beside a group below, and what systemd does not know of.
        let path = self.unit.path.clone();
        let whole = Cgroup::at(cgroup.hierarchies, path, Arc::new(super::manager::Fs));
        delete::delete(&whole).and(stopped)
    }
}

impl Systemd {
    /// The limits as the control files are to have them, and not only systemd.
    fn for_files(&self, resources: &Resources) -> Resources {
        let mut resources = resources.clone();
        if let Some(cpu) = &mut resources.cpu {
            properties::rounded(cpu);
        }
        if self.unit.user {
            // Only root may load a filter of devices. Who is not root makes no nodes, and opens what
            // he could open outside.
            resources.devices.clear();
        }
        resources
    }
}

/// A unit that was started; it is stopped when this is dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Started(Option<Unit>);

impl Started {
    fn new(
        unit: &Unit,
        resources: &Resources,
        unified: bool,
        first: Option<i32>,
    ) -> Result<Started, Error> {
        let mut bus = Bus::connect(unit.user)?;
        let mut all = unit.at_birth(unified, first);
        let mut version = || version(&mut bus);
        all.extend(properties::at_start(resources, &mut version)?);
        all.extend(unit.properties.iter().cloned());
        all.extend(properties::limits(resources, unified, &mut version)?);
        if !unified && !unit.is_slice() {
            all.extend(properties::devices(resources)?);
        }
        let job = unit.start(&mut bus, list(all), first)?;
        // From here on it is ours, whatever becomes of the job.
        let started = Started(Some(unit.clone()));
        let Some(job) = job else {
            return Ok(started);
        };
        match bus.ended(&job)?.as_str() {
            "done" => Ok(started),
            result => Err(unit.failed("start", format!("the job's result is {result:?}"))),
        }
    }

    /// Keeps the unit.
    pub(super) fn commit(mut self) {
        self.0 = None;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(unit) = self.0.take() {
            // What led here is what the caller hears of. Nobody in it heeds a polite signal.
            if let Ok(cgroup) = Cgroup::open(&unit.path) {
                let _ = cgroup.kill_all();
            }
            let _ = unit.stop();
        }
    }
}

impl Unit {
    /// What every unit of a container has, whatever its limits.
    fn at_birth(&self, unified: bool, first: Option<i32>) -> Vec<Property> {
        let yes = |name: &'static str| (name.into(), Value::bool(true));
        let description = Value::text(format!("container {}", self.name));
        let mut all = vec![("Description".into(), description)];
        if self.is_slice() {
            let above = Value::Array("s".to_owned(), vec![Value::text(&self.slice)]);
            all.push(("Wants".into(), above));
        } else {
            all.push(("Slice".into(), Value::text(&self.slice)));
            all.push(yes("Delegate"));
            all.push(("PIDs".into(), processes(first)));
        }
        if self.collected {
            let when = Value::text("inactive-or-failed");
            all.push(("CollectMode".into(), when));
        }
        // Some controllers cannot be joined later.
        let io = if unified {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        };
        all.extend(["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"].map(yes));
        all.push(("DefaultDependencies".into(), Value::bool(false)));
        all
    }

    /// Starts it; returns the job, or none if it is started already: systemd was executed anew
    /// before it could say so. A unit of this name that has failed is forgotten first.
    fn start(
        &self,
        bus: &mut Bus,
        properties: Value,
        first: Option<i32>,
    ) -> Result<Option<String>, Error> {
        let arguments = [
            Value::text(&self.name),
            Value::text("replace"),
            properties,
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        let mut answer = bus.manager("StartTransientUnit", &arguments)?;
        if answer.as_ref().is_err_and(|refusal| refusal.name == EXISTS) {
            if bus.asked_again && first.is_some_and(|pid| self.gets(pid)) {
                return Ok(None);
            }
            self.forget_failure(bus)?;
            answer = bus.manager("StartTransientUnit", &arguments)?;
        }
        self.job("start", answer).map(Some)
    }

    /// Waits until a process is in its cgroup, if that is to come.
    fn gets(&self, pid: i32) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let path = format!("/{}", self.path);
        loop {
            // One that has ended is in none.
            let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
                return false;
            };
            let mut places = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
            if places.any(|place| place == path) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Stops it, and kills what is in it; succeeds if it is gone.
    ///
    /// # Errors
    /// systemd refuses, or cannot be asked.
    pub fn stop(&self) -> Result<(), Error> {
        let mut bus = Bus::connect(self.user)?;
        let arguments = [Value::text(&self.name), Value::text("replace")];
        let answer = bus.manager("StopUnit", &arguments)?;
        if answer.as_ref().is_err_and(|refusal| refusal.name == GONE) {
            return Ok(());
        }
        let job = self.job("stop", answer)?;
        // Done, or overtaken by its own end: it is not there any more.
        bus.ended(&job)?;
        self.forget_failure(&mut bus)
    }

    /// systemd keeps units that have failed until it is told to forget them.
    fn forget_failure(&self, bus: &mut Bus) -> Result<(), Error> {
        match bus.manager("ResetFailedUnit", &[Value::text(&self.name)])? {
            Err(refusal) if refusal.name != GONE => Err(self.refused("reset", refusal)),
            _ => Ok(()),
        }
    }

    fn job(
        &self,
        operation: &'static str,
        answer: Result<Message, Refusal>,
    ) -> Result<String, Error> {
        let answer = answer.map_err(|refusal| self.refused(operation, refusal))?;
        let job = answer.body().text();
        job.ok_or_else(|| self.failed(operation, "it names no job".to_owned()))
    }

    fn refused(&self, operation: &'static str, refusal: Refusal) -> Error {
        let Refusal { name, words } = refusal;
        self.failed(operation, if words.is_empty() { name } else { words })
    }

    fn failed(&self, operation: &'static str, reason: String) -> Error {
        Error::Unit {
            operation,
            unit: self.name.clone(),
            reason,
        }
    }
}

fn processes(pid: Option<i32>) -> Value {
    let pid = pid.map(|pid| Value::Fixed(b'u', u64::from(pid.unsigned_abs())));
    Value::Array("u".to_owned(), pid.into_iter().collect())
}

/// Properties as a call takes them.
fn list(properties: Vec<Property>) -> Value {
    let pair = |(name, value): Property| {
        let value = Value::Variant(Box::new(value));
        Value::Struct(vec![Value::text(name), value])
    };
    Value::Array(
        "(sv)".to_owned(),
        properties.into_iter().map(pair).collect(),
    )
}

/// systemd's version: `252`, `v252.1-2`; 0 if it says none.
fn version(bus: &mut Bus) -> Result<u32, Error> {
    let text = bus.property("Version")?;
    let text = text.trim_start_matches('v');
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Ok(text[..end].parse().unwrap_or(0))
}
