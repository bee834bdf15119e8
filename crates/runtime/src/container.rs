//! What a container is made from, what it is when it is made, and the gate before its program. Making
//! it is [`crate::creating`]'s.
//!
//! The caller must have one thread (see [`crate::sys::clone_process`]) and reaps init itself once
//! [`NewContainer::create`] has succeeded.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::birthplace::CgroupManager;
use crate::cgroup::{Cgroup, default_path};
use crate::error::{Error, InitFailure, Result};
use crate::hooks::{self, HookState};
use crate::message::{Channel, FromInit, Incoming, ToInit};
use crate::notify;
use crate::resctrl::Group;
use crate::seccomp::Filter;
use crate::spec::{DeviceCgroup, Linux, Resources, Spec};

/// Where the root file system comes from.
#[derive(Debug)]
pub enum Rootfs {
    /// A directory that is there.
    Path(PathBuf),
    /// An overlay, mounted only inside the container's own mount namespace.
    Overlay {
        /// The layers, the topmost first.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlayfs's own directory, on the file system of `upper`.
        work: PathBuf,
    },
    /// A mount that is in no mount namespace yet (fsmount(2)): it is moved into the container's own.
    Mount(OwnedFd),
}

/// The streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Those of the caller.
    Inherit,
    /// These.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal from the container's own devpts; its master side goes to the caller.
    Terminal {
        /// Rows and columns, if known.
        size: Option<(u16, u16)>,
        /// A line break is no carriage return: whoever shows the output adds what it needs.
        raw_output: bool,
    },
}

/// How the gate before the program is opened.
#[derive(Debug)]
pub enum GateKind {
    /// By the [`Gate`] that `create` returns; init ends if it is dropped.
    Held,
    /// By any process that connects to this listening SOCK_SEQPACKET socket ([`Gate::connect`]).
    Listening(OwnedFd),
}

/// A container to be made.
#[derive(Debug)]
pub struct NewContainer<'a> {
    /// Its id: names its session keyring, and is told to hooks.
    pub id: &'a str,
    /// Directory of config.json; relative paths in it start here.
    pub bundle: &'a Path,
    /// config.json.
    pub spec: &'a Spec,
    /// Its root file system.
    pub rootfs: Rootfs,
    /// Who makes its cgroup.
    pub cgroup_manager: CgroupManager<'a>,
    /// The streams of its process.
    pub stdio: Stdio,
    /// Who opens the gate.
    pub gate: GateKind,
    /// Move the root instead of pivot_root(2): for a root on initramfs.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors after 2 the program keeps.
    pub preserve_fds: u32,
    /// Fail already here if the program does not exist.
    pub check_program: bool,
}

/// A container whose process waits at its gate.
#[derive(Debug)]
pub struct Created {
    /// Process id of its first process, as the caller's PID namespace has it.
    pub pid: i32,
    /// A pidfd of it.
    pub pidfd: OwnedFd,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its group of resctrl, if it asked for one.
    pub resctrl: Option<Group>,
    /// The master side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// Opens the gate; of no use for [`GateKind::Listening`].
    pub gate: Gate,
    /// What was degraded because the host does not allow it, one sentence each.
    pub warnings: Vec<String>,
}

/// The gate before a container's program.
#[derive(Debug)]
pub struct Gate {
    channel: Channel,
}

impl Gate {
    pub(crate) fn over(channel: Channel) -> Self {
        Self { channel }
    }

    /// The gate behind a [`GateKind::Listening`] socket.
    #[must_use]
    pub fn connect(connected: OwnedFd) -> Self {
        Self::over(Channel(connected))
    }

    /// Lets the program run; returns when it is executed.
    ///
    /// # Errors
    /// [`Error::Exec`] if it cannot be.
    pub fn open(self) -> Result<()> {
        self.release()?;
        while !self.is_executed()? {
            self.channel.wait().map_err(Error::io("wait at", "gate"))?;
        }
        Ok(())
    }

    /// Lets the program run and waits for nothing: the gate is readable when [`Gate::is_executed`] has
    /// something to say.
    ///
    /// # Errors
    /// [`Error::Vanished`] if nobody waits at the gate any more.
    pub fn release(&self) -> Result<()> {
        match self.channel.send(&ToInit::Start, None) {
            Err(Errno::PIPE | Errno::CONNRESET) => Err(Error::Vanished {
                doing: "waiting for start",
            }),
            other => other.map_err(Error::io("open", "gate")),
        }
    }

    /// Is the program executed? Execve closes the channel.
    ///
    /// # Errors
    /// [`Error::Exec`] if it cannot be.
    pub fn is_executed(&self) -> Result<bool> {
        match self.channel.look().map_err(Error::io("read", "gate"))? {
            Incoming::Nothing => Ok(false),
            Incoming::Closed => Ok(true),
            Incoming::Message(FromInit::NotExecuted(failure), _) => Err(Error::Exec(failure)),
            Incoming::Message(FromInit::Failed(failure), _) => Err(Error::Init(failure)),
            Incoming::Message(..) => Err(unasked()),
        }
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// How far a process that sets itself up has come ([`crate::Creating`], [`crate::Starting`]).
#[derive(Debug)]
pub enum Progress<P, D> {
    /// It has more to say: ask again when its descriptor is readable.
    Pending(P),
    /// It has done what was asked.
    Done(D),
}

impl NewContainer<'_> {
    /// Makes the container up to the gate.
    ///
    /// # Errors
    /// A configuration that cannot be accepted, or a step that failed; nothing is left then.
    pub fn create(self) -> Result<Created> {
        let mut creating = self.begin()?;
        loop {
            match creating.advance()? {
                Progress::Done(created) => return Ok(created),
                Progress::Pending(more) => creating = more,
            }
            creating.wait()?;
        }
    }

    /// Where its cgroup is, unless systemd says so.
    pub(crate) fn cgroup_path(&self) -> String {
        let linux = self.spec.linux.as_ref();
        let named = linux.and_then(|linux| linux.cgroups_path.clone());
        named.unwrap_or_else(|| default_path(self.id))
    }

    /// The limits of its cgroup.
    pub(crate) fn limits(&self) -> Resources {
        let linux = self.spec.linux.as_ref();
        limits(linux.and_then(|linux| linux.resources.as_ref()))
    }

    /// prestart and createRuntime, in the runtime's own namespaces.
    pub(crate) fn runtime_hooks(&self, pid: i32) -> Result<()> {
        let Some(hooks) = &self.spec.hooks else {
            return Ok(());
        };
        let state = HookState::new(self.id, "creating", Some(pid), self.bundle, self.spec);
        hooks::run("prestart", &hooks.prestart, &state)?;
        hooks::run("createRuntime", &hooks.create_runtime, &state)
    }
}

/// A message that has no place where it came.
pub(crate) fn unasked() -> Error {
    Error::Init(InitFailure::because("init said what nobody asked"))
}

/// The filter of the configuration, if it has one.
pub(crate) fn compile(linux: &Linux) -> Result<Option<Filter>> {
    let Some(seccomp) = &linux.seccomp else {
        return Ok(None);
    };
    let filter = Filter::compile(seccomp)?;
    notify::check(seccomp, filter.notifies())?;
    Ok(Some(filter))
}

/// The descriptors of `stdio` that a child must keep.
pub(crate) fn stdio_fds(stdio: &Stdio) -> Vec<RawFd> {
    match stdio {
        Stdio::Fds {
            stdin,
            stdout,
            stderr,
        } => [stdin, stdout, stderr]
            .map(|fd| fd.as_fd().as_raw_fd())
            .to_vec(),
        Stdio::Inherit | Stdio::Terminal { .. } => Vec::new(),
    }
}

/// The limits of config.json. A container for which it says nothing of devices gets only those that
/// every container needs: the cgroup allows them after what is denied here.
fn limits(asked: Option<&Resources>) -> Resources {
    let mut limits = asked.cloned().unwrap_or_default();
    if limits.devices.is_empty() {
        limits.devices.push(DeviceCgroup {
            allow: false,
            access: Some("rwm".into()),
            ..DeviceCgroup::default()
        });
    }
    limits
}
