//! A further process in a container that is there (runc's exec): it joins the namespaces of the
//! container's first process by pidfd, its cgroup, and becomes what `process` asks for.
//! The same rules as for [`crate::NewContainer::create`] hold for the caller.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::between;
use crate::cgroup::Cgroup;
use crate::container::{ChildGuard, Stdio, compile, executed, stdio_fds, unasked};
use crate::error::{Error, InitFailure, Result};
use crate::hooks::HookState;
use crate::init::{self, Identity, Stop};
use crate::labels::Labels;
use crate::message::{Channel, FromInit, ToInit};
use crate::namespaces::{self, ParentPid};
use crate::notify;
use crate::resctrl::Group;
use crate::rootless;
use crate::scheduling;
use crate::seccomp::Filter;
use crate::spec::{NamespaceKind, Process, Spec};
use crate::sys::{self, Forked};
use crate::users::{self, Groups};
use crate::validate;

/// A process to be run in a container.
#[derive(Debug)]
pub struct NewExec<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Directory of its config.json.
    pub bundle: &'a Path,
    /// The container's first process.
    pub container_pid: i32,
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
        validate::process(self.process)?;
        rootless::check_process(self.process)?;
        let linux = self.spec.linux.as_ref();
        let filter = linux.map(compile).transpose()?.flatten();
        let gone = |_| Error::Vanished {
            doing: "joined by an exec",
        };
        let target = Pid::from_raw(self.container_pid)
            .ok_or_else(|| Error::invalid("pid", "is not a process id"))?;
        let target = pidfd_open(target, PidfdFlags::empty()).map_err(gone)?;
        let (ours, theirs) = Channel::pair().map_err(Error::io("make", "socketpair"))?;
        let users = self.has_own(NamespaceKind::User);
        // With a user namespace it is the process between that joins.
        let parent_pid = match self.has_own(NamespaceKind::Pid) && !users {
            true => Some(ParentPid::enter_fd(&namespaces::open(
                self.container_pid,
                "pid",
            )?)?),
            false => None,
        };
        let (forked, inside) = self.clone_into_cgroup()?;
        let (mut child, mut pidfd) = match forked {
            Forked::Child => {
                let Err(stop) = self.run(&theirs, &target, filter.as_ref());
                init::end(&theirs, stop)
            }
            Forked::Parent { pid, pidfd } => (ChildGuard::of(pid), pidfd),
        };
        parent_pid.map(ParentPid::leave).transpose()?;
        drop(theirs);
        if users {
            (child, pidfd) = between::successor(&ours, child)?;
        }
        let pid = child.pid();
        if !inside {
            self.cgroup.attach(pid)?;
        }
        self.resctrl.map_or(Ok(()), |group| group.add(pid))?;
        let (console, warnings) = self.accompany(&ours, pid, &pidfd)?;
        executed(&ours)?;
        child.release();
        Ok(Started {
            pid,
            pidfd,
            console,
            warnings,
        })
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
            let forked = sys::clone_process(0, None).map_err(Error::io("clone", "exec"))?;
            return Ok((forked, false));
        }
        let forked = forked.map_err(|errno| match errno {
            Errno::BUSY => Error::Init(InitFailure::new(
                "exec: adding pid of the process to cgroups",
                errno,
            )),
            errno => Error::io("clone", "exec")(errno),
        })?;
        Ok((forked, true))
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
        if self.has_own(NamespaceKind::User) {
            all.extend([(libc::CLONE_NEWUSER, "user"), (libc::CLONE_NEWPID, "pid")]);
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

    /// The child's side.
    fn run(
        &self,
        channel: &Channel,
        target: &OwnedFd,
        filter: Option<&Filter>,
    ) -> Result<Infallible, Stop> {
        // One that is born in its cgroup has left the caller's CPUs already.
        if self.cgroup.v2_directory().is_ok_and(|v2| v2.is_none()) {
            scheduling::initial_affinity(self.process)?;
        }
        // Before the hierarchies' descriptors are closed with the parent's others.
        init::join_cgroup(self.cgroup)?;
        scheduling::final_affinity(self.process)?;
        sys::forget_signals();
        sys::forget_environment();
        let mut keep = stdio_fds(&self.stdio);
        keep.extend([channel.as_fd().as_raw_fd(), target.as_raw_fd()]);
        keep.extend((0..self.preserve_fds).filter_map(|number| i32::try_from(number + 3).ok()));
        sys::close_all_but(&keep);
        sys::not_dumpable().map_err(InitFailure::at("prctl PR_SET_DUMPABLE"))?;
        let mut warnings: Vec<String> = init::oom_score_adj(self.process)?.into_iter().collect();
        let labels = Labels::of(self.process)?;
        let root = self.shared_root()?;
        let users = self.has_own(NamespaceKind::User);
        let groups = Groups::of(self.spec, &self.container_pid.to_string());
        if users {
            init::raise_limits(self.process);
        }
        sys::setns(target, self.kinds())
            .map_err(InitFailure::at("join the container's namespaces"))?;
        if users {
            between::succeed(channel, 0)?;
            users::become_root(groups)?;
        }
        if let Some(root) = root {
            rustix::process::fchdir(&root)
                .and_then(|()| rustix::process::chroot("."))
                .map_err(InitFailure::at("enter the container's root"))?;
        }
        rustix::process::setsid().map_err(InitFailure::at("setsid"))?;
        self.streams(channel)?;
        sys::cloexec_from(3 + self.preserve_fds);
        warnings.extend(init::limits(self.process)?);
        scheduling::apply(self.process, self.spec.linux.as_ref())?;
        let identity = Identity {
            process: self.process,
            filter,
            groups,
            channel,
            labels: &labels,
        };
        let program = init::assume(&identity, &mut warnings)?;
        channel
            .send(&FromInit::Ready { warnings }, None)
            .map_err(InitFailure::at("report ready"))?;
        init::expect(channel, ToInit::Start)?;
        program.execute(filter)
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

    /// Lets the child go through its set-up and its gate.
    fn accompany(
        &self,
        channel: &Channel,
        pid: i32,
        pidfd: &OwnedFd,
    ) -> Result<(Option<OwnedFd>, Vec<String>)> {
        let mut console = None;
        loop {
            match channel
                .receive::<FromInit>()
                .map_err(Error::io("read from", "exec"))?
            {
                Some((FromInit::Console, fd)) => console = fd,
                Some((FromInit::Listener(number), _)) => {
                    let first = Some(self.container_pid);
                    let state = HookState::new(self.id, "running", first, self.bundle, self.spec);
                    notify::hand_over(self.spec, &state, (pid, pidfd), number)?;
                }
                Some((FromInit::Ready { warnings }, _)) => {
                    channel
                        .send(&ToInit::Start, None)
                        .map_err(Error::io("write to", "exec"))?;
                    return Ok((console, warnings));
                }
                Some((FromInit::Failed(failure), _)) => return Err(Error::Init(failure)),
                Some((FromInit::NotExecuted(failure), _)) => return Err(Error::Exec(failure)),
                Some((FromInit::Mounted | FromInit::Born | FromInit::SetIds(_), _)) => {
                    return Err(unasked());
                }
                None => {
                    return Err(Error::Vanished {
                        doing: "preparing an exec",
                    });
                }
            }
        }
    }
}
