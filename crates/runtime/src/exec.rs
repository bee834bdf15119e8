//! A further process in a container that is there (runc's exec): it joins the namespaces of the
//! container's first process by pidfd, its cgroup, and becomes what `process` asks for.
//! The same rules as for [`crate::NewContainer::create`] hold for the caller.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cgroup::Cgroup;
use crate::container::{ChildGuard, Stdio, executed, stdio_fds};
use crate::error::{Error, InitFailure, Result};
use crate::init::{self, Stop};
use crate::message::{Channel, FromInit, ToInit};
use crate::namespaces::ParentPid;
use crate::scheduling;
use crate::seccomp::Filter;
use crate::spec::{NamespaceKind, Process, Spec};
use crate::sys::{self, Forked};
use crate::validate;

/// A process to be run in a container.
#[derive(Debug)]
pub struct NewExec<'a> {
    /// The container's first process.
    pub container_pid: i32,
    /// The container's config.json.
    pub spec: &'a Spec,
    /// What to run.
    pub process: &'a Process,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
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
        let linux = self.spec.linux.as_ref();
        let filter = linux
            .and_then(|linux| linux.seccomp.as_ref())
            .map(Filter::compile)
            .transpose()?;
        let gone = |_| Error::Vanished {
            doing: "joined by an exec",
        };
        let target = Pid::from_raw(self.container_pid)
            .ok_or_else(|| Error::invalid("pid", "is not a process id"))?;
        let target = pidfd_open(target, PidfdFlags::empty()).map_err(gone)?;
        let (ours, theirs) = Channel::pair().map_err(Error::io("make", "socketpair"))?;
        let pid_namespace = self.pid_namespace()?;
        let parent_pid = pid_namespace
            .as_ref()
            .map(ParentPid::enter_fd)
            .transpose()?;
        let v2 = self.cgroup.v2_directory()?;
        let forked = sys::clone_process(0, v2.as_ref().map(AsFd::as_fd))
            .map_err(Error::io("clone", "exec"))?;
        let (pid, pidfd) = match forked {
            Forked::Child => {
                let Err(stop) = self.run(&theirs, &target, filter.as_ref());
                init::end(&theirs, stop)
            }
            Forked::Parent { pid, pidfd } => (pid, pidfd),
        };
        let child = ChildGuard { pid: Some(pid) };
        parent_pid.map(ParentPid::leave).transpose()?;
        drop(theirs);
        let (console, warnings) = accompany(&ours)?;
        executed(&ours)?;
        child.release();
        Ok(Started {
            pid,
            pidfd,
            console,
            warnings,
        })
    }

    /// The container's PID namespace, if it is not the caller's own.
    fn pid_namespace(&self) -> Result<Option<OwnedFd>> {
        let own = self
            .spec
            .linux
            .iter()
            .flat_map(|linux| &linux.namespaces)
            .any(|n| n.kind == NamespaceKind::Pid);
        if !own {
            return Ok(None);
        }
        let path = format!("/proc/{}/ns/pid", self.container_pid);
        let file = File::open(&path).map_err(|source| Error::Io {
            operation: "open namespace",
            path: path.into(),
            source,
        })?;
        Ok(Some(file.into()))
    }

    /// CLONE_NEWTIME if the container has a time namespace: not every kernel knows of them.
    fn time_namespace(&self) -> i32 {
        let mut namespaces = self.spec.linux.iter().flat_map(|linux| &linux.namespaces);
        match namespaces.any(|namespace| namespace.kind == NamespaceKind::Time) {
            true => sys::CLONE_NEWTIME,
            false => 0,
        }
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
        let mut keep = stdio_fds(&self.stdio);
        keep.extend([channel.as_fd().as_raw_fd(), target.as_raw_fd()]);
        keep.extend((0..self.preserve_fds).filter_map(|number| i32::try_from(number + 3).ok()));
        sys::close_all_but(&keep);
        sys::not_dumpable().map_err(InitFailure::at("prctl PR_SET_DUMPABLE"))?;
        rustix::process::setsid().map_err(InitFailure::at("setsid"))?;
        let mut warnings: Vec<String> = init::oom_score_adj(self.process)?.into_iter().collect();
        let kinds = libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP
            | self.time_namespace();
        sys::setns(target, kinds).map_err(InitFailure::at("join the container's namespaces"))?;
        self.streams(channel)?;
        sys::cloexec_from(3 + self.preserve_fds);
        warnings.extend(init::limits(self.process)?);
        scheduling::apply(self.process, self.spec.linux.as_ref())?;
        let program = init::assume(self.process, filter, &mut warnings)?;
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
            Stdio::Terminal { size } => {
                let root = rustix::fs::open(
                    "/",
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .map_err(InitFailure::at("open /"))?;
                let terminal: init::Terminal =
                    init::open_terminal(root.as_fd(), self.process, *size)?;
                terminal.send(channel)?;
                terminal.take_over()
            }
        }
    }
}

/// Lets the child go through its set-up and its gate.
fn accompany(channel: &Channel) -> Result<(Option<OwnedFd>, Vec<String>)> {
    let mut console = None;
    loop {
        match channel
            .receive::<FromInit>()
            .map_err(Error::io("read from", "exec"))?
        {
            Some((FromInit::Console, fd)) => console = fd,
            Some((FromInit::Ready { warnings }, _)) => {
                channel
                    .send(&ToInit::Start, None)
                    .map_err(Error::io("write to", "exec"))?;
                return Ok((console, warnings));
            }
            Some((FromInit::Failed(failure), _)) => return Err(Error::Init(failure)),
            Some((FromInit::NotExecuted(failure), _)) => return Err(Error::Exec(failure)),
            Some((FromInit::Mounted, _)) | None => {
                return Err(Error::Vanished {
                    doing: "preparing an exec",
                });
            }
        }
    }
}
