//! A further process in a container that is there (runc's exec): it joins the namespaces of the
//! container's first process by pidfd, becomes what `process` asks for, and then, as a successor that has
//! no more rights than that, is in the container's PID namespace and cgroup. The same rules as for
//! [`crate::NewContainer::create`] hold for the caller.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::cgroup::{Cgroup, is_unified, join_opened};
use crate::error::{Error, InitFailure, Result};
use crate::guard::ChildGuard;
use crate::hooks::HookState;
use crate::init::{self, Identity, Limits, Stop};
use crate::intermediate;
use crate::labels::Labels;
use crate::message::{Channel, FromInit, ToInit};
use crate::progress::Progress;
use crate::resctrl::Group;
use crate::rootless;
use crate::scheduling;
use crate::seccomp::{self, Filter};
use crate::spec::{NamespaceKind, Process, Spec};
use crate::starting::Starting;
use crate::stdio::Stdio;
use crate::sys::{self, Forked};
use crate::users::{self, Groups};
use crate::validate;

/// What a process joins only in its v2 cgroup: a cgroup namespace does not let one outside of it move in,
/// and the PID namespace is for a process that has no rights left.
const LATE_KINDS: i32 = libc::CLONE_NEWCGROUP | libc::CLONE_NEWPID;

/// A process to be run in a container.
#[derive(Debug)]
pub struct NewExec<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Directory of its config.json.
    pub bundle: &'a Path,
    /// The container's first process.
    pub container_pid: i32,
    /// A pidfd of it, which no later process of that number can be.
    pub container: BorrowedFd<'a>,
    /// The container's config.json.
    pub spec: &'a Spec,
    /// What to run.
    pub process: &'a Process,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
    /// The container's group of resctrl, if it has one.
    pub resctrl: Option<&'a Group>,
    /// The streams of the process.
    pub stdio: Stdio,
    /// How many descriptors after 2 the program keeps.
    pub preserve_fds: u32,
}

/// A process that runs.
#[derive(Debug)]
pub struct Started {
    /// Its process id, as the caller's PID namespace has it.
    pub pid: i32,
    /// A pidfd of it.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// What was degraded because the host does not allow it, one sentence each.
    pub warnings: Vec<String>,
}

impl NewExec<'_> {
    /// Starts it; returns once the program is executed.
    ///
    /// # Errors
    /// [`Error::Exec`] if it cannot be; a container that is gone; a step that failed. Nothing is
    /// left then.
    pub fn start(self) -> Result<Started> {
        let mut starting = self.begin()?;
        loop {
            match starting.advance()? {
                Progress::Done(started) => return Ok(started),
                Progress::Pending(more) => starting = more,
            }
            starting.wait()?;
        }
    }

    /// Begins to start it; waits for nothing that the container can hold up.
    ///
    /// # Errors
    /// A container that is gone, or a process that cannot be accepted. Nothing is left then.
    pub fn begin(self) -> Result<Starting> {
        validate::process(self.process)?;
        rootless::check_process(self.process)?;
        let linux = self.spec.linux.as_ref();
        let filter = linux.map(seccomp::of_config).transpose()?.flatten();
        self.check_traced(filter.as_ref())?;
        let (ours, theirs) = Channel::pair().map_err(Error::io("make", "socketpair"))?;
        // Elsewhere it is in the cgroup only when it has nothing left to do there.
        let late = is_unified() && rustix::process::geteuid().is_root();
        let late = late && !self.has_own(NamespaceKind::User);
        let (forked, inside) = match late {
            true => (sys::clone_process(0, None).map_err(clone_failed)?, true),
            false => self.clone_into_cgroup()?,
        };
        let (child, pidfd) = match forked {
            Forked::Child => {
                let Err(stop) = self.run(&theirs, filter.as_ref(), late);
                init::end(&theirs, stop)
            }
            Forked::Parent { pid, pidfd } => (ChildGuard::of(pid), pidfd),
        };
        self.resctrl
            .map_or(Ok(()), |group| group.add(child.pid()))?;
        let notifies = filter.is_some_and(|filter| filter.notifies());
        let state = || HookState::new(self.id, "running", None, self.bundle, self.spec);
        Ok(Starting {
            child,
            pidfd,
            channel: ours,
            place: (!inside).then(|| self.cgroup.clone()),
            scheduler: self.process.scheduler.clone(),
            agent: notifies.then(|| {
                let first = Some(self.container_pid);
                Box::new((self.spec.clone(), state().with_pid(first)))
            }),
            console: None,
            ready: None,
        })
    }

    /// A filter that would not let the process be made once it is loaded is loaded by one that the
    /// container sees while it still has the host's capabilities. A container that may trace would
    /// have them.
    fn check_traced(&self, filter: Option<&Filter>) -> Result<()> {
        let of = |process: &Process| process.capabilities.clone().unwrap_or_default().bounding;
        let capabilities = self.spec.process.as_ref().map(of).unwrap_or_default();
        let traces = capabilities.iter().any(|name| name == "CAP_SYS_PTRACE");
        if !traces
            || self.has_own(NamespaceKind::User)
            || !init::succeeds_first(self.process, filter)
        {
            return Ok(());
        }
        let reason = "its seccomp profile notifies an agent, or refuses clone, and the container has \
                      CAP_SYS_PTRACE: an exec would be in its hands before it is confined; ask for \
                      noNewPrivileges";
        Err(Error::invalid("exec", reason))
    }

    /// A container may have moved its processes to a cgroup of its own making, to use controllers
    /// there: then nobody may join the one above it any more, and an exec joins where its first
    /// process is. Who may not leave his own cgroup (a user without privileges) is cloned there, and
    /// has to be moved: the second answer is whether it was born inside.
    fn clone_into_cgroup(&self) -> Result<(Forked, bool)> {
        let clone = |cgroup: &Cgroup| -> Result<std::result::Result<Forked, Errno>> {
            let v2 = cgroup.v2_directory()?;
            Ok(sys::clone_process(0, v2.as_ref().map(AsFd::as_fd)))
        };
        let mut forked = clone(self.cgroup)?;
        if matches!(forked, Err(Errno::BUSY)) && self.cgroup.is_whole() {
            forked = clone(&Cgroup::of_process(self.container_pid)?)?;
        }
        if matches!(forked, Err(Errno::ACCESS | Errno::PERM)) {
            return Ok((sys::clone_process(0, None).map_err(clone_failed)?, false));
        }
        Ok((forked.map_err(clone_failed)?, true))
    }

    /// The v2 directories that the intermediate process may clone its successor into, the best first.
    fn places(&self) -> Result<Vec<OwnedFd>, InitFailure> {
        let failed = |error: crate::cgroup::Error| InitFailure::because(error.to_string());
        let own = self.cgroup.v2_directory().map_err(failed)?;
        let mut places: Vec<OwnedFd> = own.into_iter().collect();
        if self.cgroup.is_whole()
            && let Ok(moved) = Cgroup::of_process(self.container_pid)
        {
            places.extend(moved.v2_directory().map_err(failed)?);
        }
        Ok(places)
    }

    /// Into the cgroup, by a successor; then into the namespaces that were left for it.
    fn enter_cgroup(&self, channel: &Channel, places: Vec<OwnedFd>) -> Result<(), InitFailure> {
        let mut done = Err(Errno::BUSY);
        for place in &places {
            done = intermediate::succeed(channel, 0, Some(place.as_fd()), None);
            if !matches!(done, Err(Errno::BUSY)) {
                break;
            }
        }
        done.map_err(|errno| InitFailure::because(clone_failed(errno).to_string()))?;
        // They are directories of the host: none may be open in what the container sees.
        drop(places);
        init::expect(channel, ToInit::Known)?;
        sys::setns(self.container, self.kinds() & LATE_KINDS)
            .map_err(InitFailure::at("join the container's namespaces"))
    }

    /// Has the container a namespace of this kind that config.json names?
    fn has_own(&self, kind: NamespaceKind) -> bool {
        let mut namespaces = self.spec.linux.iter().flat_map(|linux| &linux.namespaces);
        namespaces.any(|namespace| namespace.kind == kind)
    }

    /// The kinds of namespaces to join, CLONE_NEW*. Not every kernel knows of time namespaces, and
    /// nobody may join a user namespace that is his own already.
    fn kinds(&self) -> i32 {
        let mut all = vec![
            (libc::CLONE_NEWNS, "mnt"),
            (libc::CLONE_NEWNET, "net"),
            (libc::CLONE_NEWIPC, "ipc"),
            (libc::CLONE_NEWUTS, "uts"),
            (libc::CLONE_NEWCGROUP, "cgroup"),
        ];
        if self.has_own(NamespaceKind::Time) {
            all.push((sys::CLONE_NEWTIME, "time"));
        }
        let users = self.has_own(NamespaceKind::User);
        if users {
            all.push((libc::CLONE_NEWUSER, "user"));
        }
        if users || self.has_own(NamespaceKind::Pid) {
            all.push((libc::CLONE_NEWPID, "pid"));
        }
        let root = rustix::process::geteuid().is_root();
        let wanted = all.iter().filter(|(_, file)| root || !self.shares(file));
        wanted.fold(0, |kinds, (kind, _)| kinds | kind)
    }

    /// Is the caller in the container's namespace of this kind? An ordinary user may not join one of the
    /// host's, not even where he is.
    fn shares(&self, file: &str) -> bool {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/{file}")).ok();
        let theirs = of(&self.container_pid.to_string());
        theirs.is_some() && theirs == of("self")
    }

    /// The root directory of a container whose mount namespace others use too: joining that does not
    /// lead there.
    fn shared_root(&self) -> Result<Option<OwnedFd>, InitFailure> {
        let mut namespaces = self.spec.linux.iter().flat_map(|linux| &linux.namespaces);
        if namespaces.any(|one| one.kind == NamespaceKind::Mount && one.path.is_none()) {
            return Ok(None);
        }
        let path = format!("/proc/{}/root", self.container_pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty());
        root.map(Some)
            .map_err(InitFailure::at(format_args!("open {path}")))
    }

    /// The child's side: the intermediate process ([`intermediate`]) up to `succeed`, then its successor.
    fn run(
        &self,
        channel: &Channel,
        filter: Option<&Filter>,
        late: bool,
    ) -> Result<Infallible, Stop> {
        let tasks = self
            .cgroup
            .open_v1()
            .map_err(|error| InitFailure::because(error.to_string()))?;
        let places = if late { self.places()? } else { Vec::new() };
        // One that is born in its cgroup has left the caller's CPUs already.
        if late || !tasks.is_empty() {
            scheduling::initial_affinity(self.process)?;
        }
        let opened = tasks.iter().chain(&places);
        let labels = self.leave_the_parent(channel, opened)?;
        let mut warnings: Vec<String> = init::oom_score_adj(self.process)?.into_iter().collect();
        let late_kinds = if late { LATE_KINDS } else { 0 };
        let groups = self.join(self.kinds() & !late_kinds)?;
        self.streams(channel)?;
        sys::cloexec_from(3 + self.preserve_fds);
        init::raise_limits(self.process);
        warnings.extend(init::limits(self.process, Limits::AllButProcesses)?);
        scheduling::apply(self.process, self.spec.linux.as_ref())?;
        if late {
            self.enter_cgroup(channel, places)?;
        }
        let identity = Identity {
            process: self.process,
            filter,
            groups,
            channel,
            labels: &labels,
        };
        let listens = filter.is_some_and(Filter::notifies);
        let first = init::succeeds_first(self.process, filter);
        if first {
            self.succeed(channel, None)?;
        }
        let program = init::assume(&identity, &mut warnings)?;
        if first || listens {
            if !first {
                self.succeed(channel, None)?;
            }
            init::listen(&identity)?;
            channel
                .send(&FromInit::Ready { warnings }, None)
                .map_err(InitFailure::at("report ready"))?;
            init::expect(channel, ToInit::Start)?;
        } else {
            self.succeed(channel, Some(warnings))?;
        }
        // Last, so that a container which is throttled or out of memory holds up nothing but the program.
        join_opened(&tasks).map_err(InitFailure::at("join the container's cgroup"))?;
        scheduling::final_affinity(self.process)?;
        init::limits(self.process, Limits::Processes)?;
        program.execute(filter)
    }

    /// Signals as a program expects them, no descriptor of the parent that is not needed, and nobody
    /// who may look in. The labels are of the host's /proc, which is left after this.
    fn leave_the_parent<'f>(
        &self,
        channel: &Channel,
        opened: impl Iterator<Item = &'f OwnedFd>,
    ) -> Result<Labels<'_>, InitFailure> {
        sys::forget_signals();
        sys::forget_environment();
        let mut keep = self.stdio.fds();
        keep.extend([channel.as_fd().as_raw_fd(), self.container.as_raw_fd()]);
        keep.extend(opened.map(AsRawFd::as_raw_fd));
        keep.extend((0..self.preserve_fds).filter_map(|number| i32::try_from(number + 3).ok()));
        sys::close_all_but(&keep);
        sys::not_dumpable().map_err(InitFailure::at("prctl PR_SET_DUMPABLE"))?;
        Labels::of(self.process)
    }

    /// Into the container's namespaces and below its root. The PID namespace is that of the successor.
    fn join(&self, kinds: i32) -> Result<Groups, InitFailure> {
        let root = self.shared_root()?;
        let groups = Groups::of(self.spec, &self.container_pid.to_string());
        let users = self.has_own(NamespaceKind::User);
        if users {
            init::raise_limits(self.process);
        }
        sys::setns(self.container, kinds)
            .map_err(InitFailure::at("join the container's namespaces"))?;
        if users {
            users::become_root(groups)?;
        }
        if let Some(root) = root {
            rustix::process::fchdir(&root)
                .and_then(|()| rustix::process::chroot("."))
                .map_err(InitFailure::at("enter the container's root"))?;
        }
        Ok(groups)
    }

    /// Makes the process that is in the container's PID namespace, and ends. One that is ready goes on
    /// to its program.
    fn succeed(&self, channel: &Channel, ready: Option<Vec<String>>) -> Result<(), InitFailure> {
        let answer = match ready {
            Some(_) => ToInit::Start,
            None => ToInit::Known,
        };
        intermediate::succeed(channel, 0, None, ready).map_err(InitFailure::at("clone exec"))?;
        init::expect(channel, answer)?;
        init::lead_session(&self.stdio)
    }

    fn streams(&self, channel: &Channel) -> Result<(), InitFailure> {
        match &self.stdio {
            Stdio::Inherit => init::own_stdio(self.process.user.uid),
            Stdio::Fds {
                stdin,
                stdout,
                stderr,
            } => {
                init::replace_stdio([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
                init::own_stdio(self.process.user.uid)
            }
            Stdio::Terminal { size, raw_output } => {
                let root = rustix::fs::open(
                    "/",
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .map_err(InitFailure::at("open /"))?;
                let terminal: init::Terminal =
                    init::open_terminal(root.as_fd(), self.process, *size, *raw_output)?;
                terminal.send(channel)?;
                terminal.take_over()
            }
        }
    }
}

fn clone_failed(errno: Errno) -> Error {
    match errno {
        Errno::BUSY => Error::Init(InitFailure::new(
            "exec: adding pid of the process to cgroups",
            errno,
        )),
        errno => Error::io("clone", "exec")(errno),
    }
}
