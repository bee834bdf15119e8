//! Making a container: the runtime's side. It checks, compiles what can be compiled before the
//! clone, clones init straight into the new namespaces and into its cgroup (which systemd makes
//! around it), and answers what init asks until that stands at its gate.
//!
//! [`Creating`] never waits: [`NewContainer::create`] does, and a supervisor asks it again whenever its
//! descriptor is readable, ends it at a limit, and serves its other containers meanwhile. Dropped, all
//! is undone: init is killed and reaped, the cgroup removed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::cgroup::Cgroup;
use crate::cgroup_placement::{CgroupGuard, CgroupPlacement, Placing};
use crate::container::{Created, NewContainer};
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::guard::{ChildGuard, GroupGuard, MountGuard};
use crate::hooks::{self, HookState};
use crate::init;
use crate::intermediate;
use crate::message::{Channel, FromInit, HookFailure, Incoming, ToInit, Unplaced, unasked};
use crate::namespaces::{self, ParentTime, Plan};
use crate::net_devices::NetDevices;
use crate::notify;
use crate::progress::Progress;
use crate::scheduling;
use crate::seccomp;
use crate::spec::{Hooks, NamespaceKind, Spec};
use crate::sys::{self, Forked};
use crate::users::{self, Ids};
use crate::validate;

/// A container that is being made.
#[derive(Debug)]
pub struct Creating {
    // What is undone, in this order: the child ends before its cgroup is removed.
    devices: Option<NetDevices>,
    group: GroupGuard,
    hooks: Option<ChildGuard>,
    /// systemd is asked for the cgroup; init waits for it.
    placing: Option<Box<Placing>>,
    child: ChildGuard,
    cgroup: CgroupGuard,
    mounts: MountGuard,
    pidfd: OwnedFd,
    channel: Channel,
    /// Init's end, for the process that runs the hooks.
    theirs: Option<Channel>,
    console: Option<OwnedFd>,
    more: Option<Box<More>>,
}

/// What most containers do not need while they are made.
#[derive(Debug)]
struct More {
    id: String,
    bundle: PathBuf,
    spec: Spec,
    plan: Plan,
    /// The user namespace of each mount of config.json that is idmapped.
    idmaps: Vec<Option<OwnedFd>>,
    /// Init itself is still to be made, by the process before it, in its user namespace.
    unborn: bool,
}

impl NewContainer<'_> {
    /// Begins to make the container; waits for nothing that the container or its hooks do.
    ///
    /// # Errors
    /// A configuration that cannot be accepted; nothing is left then.
    pub fn begin(self) -> Result<Creating> {
        validate::spec(self.spec)?;
        let linux = self.spec.linux();
        let filter = seccomp::of_config(linux)?;
        let notifies = filter
            .as_ref()
            .is_some_and(crate::seccomp::Filter::notifies);
        let limits = self.limits();
        let placement = CgroupPlacement::of(self.cgroup_manager, &self.cgroup_path(), &limits)?;
        let namespaces = namespaces::Plan::new(linux)?;
        let (ours, theirs) = Channel::pair().map_err(Error::io("make", "socketpair"))?;
        let parent_time = ParentTime::enter(&namespaces, &linux.time_offsets)?;
        let idmaps = users::of_mounts(self.spec)?;
        let mounts = MountGuard::of(self.bundle, self.spec);
        let v2 = placement.v2_directory()?;
        let users = namespaces.has_users();
        let flags = if users { 0 } else { namespaces.clone_flags() };
        let (id, bundle, spec) = (self.id, self.bundle, self.spec);
        let forked = sys::clone_process(flags, v2.as_ref().map(AsFd::as_fd))
            .map_err(Error::io("clone", id))?;
        let (child, pidfd) = match forked {
            Forked::Child => init::container(init::Inputs {
                new: self,
                namespaces,
                filter,
                placement,
                channel: theirs,
                idmaps,
            }),
            Forked::Parent { pid, pidfd } => (ChildGuard::of(pid), pidfd),
        };
        parent_time.leave()?;
        let (cgroup, placing) = placement.settle(&limits, child.pid(), &theirs)?;
        let (mut devices, mut group) = (None, GroupGuard::none());
        if !users && placing.is_none() {
            let given = NetDevices::give(linux, &namespaces, child.pid());
            devices = Some(given.map_err(|error| own_words(&ours, error))?);
            let made = GroupGuard::of(id, linux, child.pid());
            group = made.map_err(|error| own_words(&ours, error))?;
        }
        let asks = users || notifies || placing.is_some() || asks_late(spec, &idmaps);
        let more = asks.then(|| More {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            spec: spec.clone(),
            plan: namespaces,
            idmaps,
            unborn: users,
        });
        Ok(Creating {
            devices,
            group,
            hooks: None,
            placing: placing.map(Box::new),
            child,
            cgroup,
            mounts,
            pidfd,
            channel: ours,
            theirs: spec.hooks.is_some().then_some(theirs),
            console: None,
            more: more.map(Box::new),
        })
    }
}

/// Will its process or its mounts need something of the runtime, beside what a user namespace needs?
fn asks_late(spec: &Spec, idmaps: &[Option<OwnedFd>]) -> bool {
    let process = spec.process.as_ref();
    process.is_some_and(|process| process.scheduler.is_some())
        || spec.hooks.is_some()
        || idmaps.iter().any(Option::is_some)
}

/// What could not be done for an init that has failed meanwhile: its own reason says more.
fn own_words(channel: &Channel, error: Error) -> Error {
    // What it said before that is for nobody any more.
    while let Ok(Incoming::Message(message, _)) = channel.look() {
        match message {
            FromInit::Failed(failure) => return Error::Init(failure),
            FromInit::NotExecuted(failure) => return Error::Exec(failure),
            _ => {}
        }
    }
    error
}

impl Creating {
    /// The container's first process, or the one before it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Is it a process without which the container does not come to be?
    #[must_use]
    pub fn hangs_on(&self, pid: i32) -> bool {
        let placing = self.placing.as_ref();
        self.pid() == pid || placing.is_some_and(|placing| placing.child.pid() == pid)
    }

    /// A process has ended, and the caller is about to reap it: is more to be heard all the same? So it
    /// is while systemd is asked for the cgroup of a process that ends: who asks tells why, after that
    /// was killed with the cgroup.
    #[must_use]
    pub fn outlives(&mut self, pid: i32) -> bool {
        let waits = self.placing.is_some() && self.pid() == pid;
        if waits {
            self.child.release();
        }
        waits
    }

    /// Takes what init has said by now, and does what it asks.
    ///
    /// # Errors
    /// A step that failed; nothing is left then.
    pub fn advance(mut self) -> Result<Progress<Self, Created>> {
        loop {
            let failed = Error::io("read from", "init");
            let message = match self.channel.look().map_err(failed)? {
                Incoming::Message(message, fd) => (message, fd),
                Incoming::Nothing => return Ok(Progress::Pending(self)),
                Incoming::Closed => return Err(self.vanished()),
            };
            match message {
                (FromInit::Ready { warnings }, _) => {
                    self.schedule()?;
                    return Ok(Progress::Done(self.finish(warnings)));
                }
                (FromInit::Born { ready: None }, Some(pidfd)) => self.born(pidfd)?,
                (FromInit::Placed(failure), _) => self.placed(failure)?,
                (FromInit::Console, fd) => self.console = fd,
                (FromInit::Listener(number), _) => {
                    let more = self.more()?;
                    let state = more.hook_state(self.pid());
                    let process = (self.pid(), &self.pidfd);
                    notify::hand_over(&more.spec, &state, process, number)?;
                }
                (FromInit::SetIds(index), Some(clone)) => {
                    self.more()?.set_ids(index, &clone)?;
                    self.send(ToInit::IdsSet)?;
                }
                (FromInit::Mounted, _) => self.run_hooks()?,
                (FromInit::HooksRan(failure), _) => {
                    self.hooks = None;
                    failure.map_or(Ok(()), |failure| Err(failure.into_error()))?;
                    self.send(ToInit::HooksDone)?;
                }
                (FromInit::Failed(failure), _) => return Err(Error::Init(failure)),
                (FromInit::NotExecuted(failure), _) => return Err(Error::Exec(failure)),
                (FromInit::Born { .. } | FromInit::SetIds(_), _) => return Err(unasked()),
            }
        }
    }

    /// Waits until [`Creating::advance`] has something to do.
    ///
    /// # Errors
    /// [`Error::Vanished`] if there is nobody left to wait for.
    pub(crate) fn wait(&self) -> Result<()> {
        // One that is killed because its cgroup could not be made is heard of after that.
        let process = self.placing.as_ref().map(|placing| &placing.pidfd);
        match self.channel.wait_with(process.unwrap_or(&self.pidfd)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.vanished()),
            Err(errno) => Err(Error::io("wait for", "init")(errno)),
        }
    }

    /// Gives it up without waiting: what was begun is killed, and the caller reaps it. Once the
    /// process is gone, the cgroup can be removed.
    #[must_use]
    pub fn abandon(self) -> (Option<i32>, Cgroup) {
        let Self {
            devices,
            group,
            hooks,
            placing,
            mut child,
            cgroup,
            mounts,
            ..
        } = self;
        hooks.map(|mut hooks| hooks.kill());
        let cgroup = match placing {
            Some(mut placing) => {
                placing.child.kill();
                CgroupGuard::of_made(placing.cgroup)
            }
            None => cgroup,
        };
        let pid = child.kill();
        drop((devices, group, mounts));
        (pid, cgroup.commit())
    }

    fn vanished(&self) -> Error {
        Error::Vanished {
            doing: match &self.more {
                _ if self.placing.is_some() => "waiting for its cgroup",
                Some(more) if more.unborn => "entering its user namespace",
                _ => "setting itself up",
            },
        }
    }

    fn more(&self) -> Result<&More> {
        self.more.as_deref().ok_or_else(unasked)
    }

    fn send(&self, message: ToInit) -> Result<()> {
        self.channel
            .send(&message, None)
            .map_err(Error::io("write to", "init"))
    }

    /// A process has made its successor, and ends.
    fn born(&mut self, pidfd: OwnedFd) -> Result<()> {
        (self.child, self.pidfd) = intermediate::successor(pidfd)?;
        let pid = self.pid();
        let Some(more) = self.more.as_mut().filter(|more| more.unborn) else {
            return self.send(ToInit::Known);
        };
        more.unborn = false;
        if let Some(ids) = Ids::of_container(&more.spec) {
            ids.write(pid)?;
        }
        self.send(ToInit::UsersMapped)?;
        self.outfit()
    }

    /// Gives init its network devices and its group of resctrl.
    fn outfit(&mut self) -> Result<()> {
        let (pid, more) = (self.pid(), self.more()?);
        let linux = more.spec.linux();
        let devices = NetDevices::give(linux, &more.plan, pid)?;
        let group = GroupGuard::of(&more.id, linux, pid)?;
        (self.devices, self.group) = (Some(devices), group);
        Ok(())
    }

    /// The cgroup is there, with init in it, or could not be made.
    fn placed(&mut self, failure: Option<Unplaced>) -> Result<()> {
        if let Some(failure) = failure {
            return Err(failure.into_error().into());
        }
        let placing = self.placing.take().ok_or_else(unasked)?;
        self.cgroup = CgroupGuard::of_made(placing.cgroup);
        if self.pid() == 0 {
            return Err(self.vanished());
        }
        self.send(ToInit::Placed)?;
        if self.more()?.unborn {
            return Ok(());
        }
        self.outfit()
            .map_err(|error| own_words(&self.channel, error))
    }

    /// prestart and createRuntime, by a process that says how they went over the channel.
    fn run_hooks(&mut self) -> Result<()> {
        let Some(theirs) = self.theirs.take() else {
            return Err(unasked());
        };
        let more = self.more()?;
        let hooks = more.spec.hooks.clone().unwrap_or_default();
        if hooks.prestart.is_empty() && hooks.create_runtime.is_empty() {
            return self.send(ToInit::HooksDone);
        }
        let state = more.hook_state(self.pid());
        let forked = sys::clone_process(0, None).map_err(Error::io("clone", "for hooks"))?;
        let Forked::Parent { pid, .. } = forked else {
            let failure = runtime_hooks(&hooks, &state).err();
            // If the runtime is gone, nobody is left to tell.
            let _ = theirs.send(&FromInit::HooksRan(failure), None);
            sys::exit(0)
        };
        self.hooks = Some(ChildGuard::of(pid));
        Ok(())
    }

    /// Gives a first process that was made by another its scheduler, which that could not leave it.
    fn schedule(&self) -> Result<()> {
        let Some(more) = self.more.as_ref() else {
            return Ok(());
        };
        let made_late = more.plan.joined(NamespaceKind::Pid).is_some() && !more.plan.has_users();
        let process = more.spec.process.as_ref().filter(|_| made_late);
        let scheduler = process.and_then(|process| process.scheduler.as_ref());
        scheduling::schedule(self.pid(), scheduler).map_err(Error::Init)
    }

    fn finish(self, warnings: Vec<String>) -> Created {
        let Self {
            devices,
            mut group,
            mut child,
            cgroup,
            mut mounts,
            pidfd,
            channel,
            console,
            ..
        } = self;
        let pid = child.pid();
        child.release();
        mounts.release();
        if let Some(devices) = devices {
            devices.release();
        }
        Created {
            pid,
            pidfd,
            cgroup: cgroup.commit(),
            resctrl: group.commit(),
            console,
            gate: Gate::over(channel),
            warnings,
        }
    }
}

impl AsFd for Creating {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl More {
    fn hook_state(&self, pid: i32) -> HookState {
        HookState::new(&self.id, "creating", Some(pid), &self.bundle, &self.spec)
    }

    /// Gives the clone of a mount the ids that its container may not give it.
    fn set_ids(&self, index: usize, clone: &OwnedFd) -> Result<()> {
        let users = self.idmaps.get(index).and_then(Option::as_ref);
        let (Some(mount), Some(users)) = (self.spec.mounts.get(index), users) else {
            return Err(unasked());
        };
        init::set_ids(clone, mount, users.as_fd())
            .map_err(Error::io("set the ids of mount", &mount.destination))
    }
}

fn runtime_hooks(hooks: &Hooks, state: &HookState) -> std::result::Result<(), HookFailure> {
    hooks::run("prestart", &hooks.prestart, state)
        .and_then(|()| hooks::run("createRuntime", &hooks.create_runtime, state))
        .map_err(HookFailure::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::InitFailure;

    #[test]
    fn an_init_that_has_failed_says_more_than_what_could_not_be_done_for_it() {
        let done = || Error::Vanished { doing: "this" };
        let failure = || InitFailure::because("no such program");
        for last in [
            FromInit::Failed(failure()),
            FromInit::NotExecuted(failure()),
        ] {
            let (ours, theirs) = Channel::pair().unwrap();
            theirs.send(&FromInit::Console, None).unwrap();
            theirs.send(&last, None).unwrap();
            let words = own_words(&ours, done()).to_string();
            assert!(words.contains("no such program"), "{words}");
        }
        let (ours, theirs) = Channel::pair().unwrap();
        let lives = own_words(&ours, done());
        assert!(matches!(lives, Error::Vanished { .. }), "{lives}");
        drop(theirs);
        let silent = own_words(&ours, done());
        assert!(matches!(silent, Error::Vanished { .. }), "{silent}");
    }
}
