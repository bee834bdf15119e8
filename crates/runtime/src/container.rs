//! Making a container: the runtime's side. It checks, compiles what can be compiled before the
//! clone, clones init straight into the new namespaces and into its cgroup (which systemd makes
//! around it), and waits until init stands at its gate. Whatever fails is undone: init is killed and
//! reaped, the cgroup removed.
//!
//! The caller must have one thread (see [`crate::sys::clone_process`]) and reaps init itself once
//! [`NewContainer::create`] has succeeded.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::between;
use crate::birthplace::{Birthplace, CgroupManager};
use crate::cgroup::{Cgroup, default_path};
use crate::error::{Error, InitFailure, Result};
use crate::hooks::{self, HookState};
use crate::init;
use crate::message::{Channel, FromInit, ToInit};
use crate::namespaces::{self, ParentPid, ParentTime};
use crate::net_devices::NetDevices;
use crate::notify;
use crate::resctrl::Group;
use crate::seccomp::Filter;
use crate::spec::{DeviceCgroup, Linux, NamespaceKind, Resources, Spec};
use crate::sys::{self, Forked};
use crate::users::{self, Ids};
use crate::validate;

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The gate behind a [`GateKind::Listening`] socket.
    #[must_use]
    pub fn connect(connected: OwnedFd) -> Self {
        Self {
            channel: Channel(connected),
        }
    }

    /// Lets the program run; returns when it is executed.
    ///
    /// # Errors
    /// [`Error::Exec`] if it cannot be.
    pub fn open(self) -> Result<()> {
        match self.channel.send(&ToInit::Start, None) {
            Err(Errno::PIPE | Errno::CONNRESET) => {
                return Err(Error::Vanished {
                    doing: "waiting for start",
                });
            }
            other => other.map_err(Error::io("open", "gate"))?,
        }
        executed(&self.channel)
    }
}

/// Waits for execve to close the channel.
pub(crate) fn executed(channel: &Channel) -> Result<()> {
    match channel.receive::<FromInit>() {
        Ok(None) | Err(Errno::CONNRESET) => Ok(()),
        Ok(Some((FromInit::NotExecuted(failure), _))) => Err(Error::Exec(failure)),
        Ok(Some((FromInit::Failed(failure), _))) => Err(Error::Init(failure)),
        Ok(Some(_)) => Err(unasked()),
        Err(errno) => Err(Error::io("read", "gate")(errno)),
    }
}

impl NewContainer<'_> {
    /// Makes the container up to the gate.
    ///
    /// # Errors
    /// A configuration that cannot be accepted, or a step that failed; nothing is left then.
    pub fn create(self) -> Result<Created> {
        validate::spec(self.spec)?;
        let linux = self.spec.linux.clone().unwrap_or_default();
        let filter = compile(&linux)?;
        let limits = self.limits();
        let birthplace = Birthplace::of(self.cgroup_manager, &self.cgroup_path(), &limits)?;
        let namespaces = namespaces::Plan::new(&linux)?;
        let (ours, theirs) = Channel::pair().map_err(Error::io("make", "socketpair"))?;
        let parent_pid = ParentPid::enter(&namespaces)?;
        let parent_time = ParentTime::enter(&namespaces, &linux.time_offsets)?;
        let idmaps = users::of_mounts(self.spec)?;
        let mounts = MountGuard::of(self.bundle, self.spec);
        let v2 = birthplace.v2_directory()?;
        let users = namespaces.has_users();
        let flags = if users { 0 } else { namespaces.clone_flags() };
        let forked = sys::clone_process(flags, v2.as_ref().map(AsFd::as_fd))
            .map_err(Error::io("clone", self.id))?;
        let (child, pidfd) = match forked {
            Forked::Child => init::container(init::Inputs {
                new: self,
                namespaces,
                filter,
                birthplace,
                channel: theirs,
                idmaps,
            }),
            Forked::Parent { pid, pidfd } => (ChildGuard::of(pid), pidfd),
        };
        parent_pid.leave()?;
        parent_time.leave()?;
        drop(theirs);
        let cgroup = birthplace.settle(&limits, child.pid(), &ours)?;
        // Should what follows fail, the child ends before its cgroup is removed.
        let (mut child, mut pidfd) = (child, pidfd);
        if users {
            (child, pidfd) = between::successor(&ours, child)?;
            if let Some(ids) = Ids::of_container(self.spec) {
                ids.write(child.pid())?;
            }
            ours.send(&ToInit::UsersMapped, None)
                .map_err(Error::io("write to", "init"))?;
        }
        let pid = child.pid();
        let devices = NetDevices::give(&linux, &namespaces, pid)?;
        let group = GroupGuard::of(self.id, &linux, pid)?;
        let ready = self.accompany(&ours, (pid, &pidfd), &idmaps)?;
        child.release();
        mounts.release();
        devices.release();
        Ok(Created {
            pid,
            pidfd,
            cgroup: cgroup.commit(),
            resctrl: group.commit(),
            console: ready.console,
            gate: Gate { channel: ours },
            warnings: ready.warnings,
        })
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

    /// Answers init until it is ready.
    fn accompany(
        &self,
        channel: &Channel,
        (pid, pidfd): (i32, &OwnedFd),
        idmaps: &[Option<OwnedFd>],
    ) -> Result<Ready> {
        let send = |message| {
            channel
                .send(&message, None)
                .map_err(Error::io("write to", "init"))
        };
        let mut console = None;
        loop {
            match channel
                .receive::<FromInit>()
                .map_err(Error::io("read from", "init"))?
            {
                None => {
                    return Err(Error::Vanished {
                        doing: "setting itself up",
                    });
                }
                Some((FromInit::Console, fd)) => console = fd,
                Some((FromInit::Listener(number), _)) => {
                    let state = self.hook_state(pid);
                    notify::hand_over(self.spec, &state, (pid, pidfd), number)?;
                }
                Some((FromInit::SetIds(index), Some(clone))) => {
                    self.set_ids(index, &clone, idmaps)?;
                    send(ToInit::IdsSet)?;
                }
                Some((FromInit::Mounted, _)) => {
                    self.runtime_hooks(pid)?;
                    send(ToInit::HooksDone)?;
                }
                Some((FromInit::Ready { warnings }, _)) => return Ok(Ready { console, warnings }),
                Some((FromInit::Born | FromInit::SetIds(_), _)) => return Err(unasked()),
                Some((FromInit::Failed(failure), _)) => return Err(Error::Init(failure)),
                Some((FromInit::NotExecuted(failure), _)) => return Err(Error::Exec(failure)),
            }
        }
    }

    /// prestart and createRuntime, in the runtime's own namespaces.
    pub(crate) fn runtime_hooks(&self, pid: i32) -> Result<()> {
        let Some(hooks) = &self.spec.hooks else {
            return Ok(());
        };
        let state = self.hook_state(pid);
        hooks::run("prestart", &hooks.prestart, &state)?;
        hooks::run("createRuntime", &hooks.create_runtime, &state)
    }

    /// Gives the clone of a mount the ids that its container may not give it.
    fn set_ids(&self, index: usize, clone: &OwnedFd, idmaps: &[Option<OwnedFd>]) -> Result<()> {
        let users = idmaps.get(index).and_then(Option::as_ref);
        let (Some(mount), Some(users)) = (self.spec.mounts.get(index), users) else {
            return Err(unasked());
        };
        init::set_ids(clone, mount, users.as_fd())
            .map_err(Error::io("set the ids of mount", &mount.destination))
    }

    fn hook_state(&self, pid: i32) -> HookState {
        HookState::new(self.id, "creating", Some(pid), self.bundle, self.spec)
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

struct Ready {
    console: Option<OwnedFd>,
    warnings: Vec<String>,
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

/// A resctrl group that goes unless it is kept.
pub(crate) struct GroupGuard(Option<Group>);

impl GroupGuard {
    /// The group that config.json asks for, with the container's first process in it.
    pub(crate) fn of(id: &str, linux: &Linux, pid: i32) -> Result<Self> {
        let Some(rdt) = &linux.intel_rdt else {
            return Ok(Self(None));
        };
        let guard = Self(Some(Group::make(id, rdt)?));
        guard.0.iter().try_for_each(|group| group.add(pid))?;
        Ok(guard)
    }

    pub(crate) fn commit(mut self) -> Option<Group> {
        self.0.take()
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // The failure that led here is what the caller hears of.
            let _ = group.remove();
        }
    }
}

/// Unmounts the root file system of a container that has no mount namespace of its own: it is in the
/// runtime's, or in one that it has joined.
///
/// # Errors
/// What the kernel says, but not that nothing is mounted there, or that the namespace is gone.
pub fn unmount_shared(bundle: &Path, spec: &Spec) -> Result<()> {
    let mut namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    let mount = namespaces.find(|namespace| namespace.kind == NamespaceKind::Mount);
    let Some(root) = &spec.root else {
        return Ok(());
    };
    let path = bundle.join(&root.path);
    let done = match mount.map(|namespace| &namespace.path) {
        None => unmount_root(&path),
        Some(Some(joined)) => match namespaces::open_file(joined.clone()) {
            Ok(namespace) => unmount_in(&namespace, &path)?,
            Err(_) => Ok(()),
        },
        Some(None) => Ok(()),
    };
    done.map_err(Error::io("unmount", path))
}

fn unmount_root(path: &Path) -> Result<(), Errno> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// As [`unmount_root`], by a child: whoever joins a mount namespace loses its working directory.
fn unmount_in(namespace: &OwnedFd, path: &Path) -> Result<Result<(), Errno>> {
    let forked = sys::clone_process(0, None).map_err(Error::io("clone", "a process to unmount"))?;
    match forked {
        Forked::Child => {
            let done = sys::setns(namespace, libc::CLONE_NEWNS).and_then(|()| unmount_root(path));
            sys::exit(done.map_or_else(Errno::raw_os_error, |()| 0))
        }
        Forked::Parent { pid, .. } => {
            let child = Pid::from_raw(pid);
            let waited = rustix::process::waitpid(child, WaitOptions::empty())
                .map_err(Error::io("wait for", "a process that unmounts"))?;
            let code = waited.and_then(|(_, status)| status.exit_status());
            Ok(match code {
                Some(0) => Ok(()),
                Some(errno) => Err(Errno::from_raw_os_error(errno)),
                None => Err(Errno::INTR),
            })
        }
    }
}

/// Calls [`unmount_shared`] unless it is released.
struct MountGuard<'a>(Option<(&'a Path, &'a Spec)>);

impl<'a> MountGuard<'a> {
    fn of(bundle: &'a Path, spec: &'a Spec) -> Self {
        Self(Some((bundle, spec)))
    }

    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for MountGuard<'_> {
    fn drop(&mut self) {
        if let Some((bundle, spec)) = self.0 {
            // The failure that led here is what the caller hears of.
            let _ = unmount_shared(bundle, spec);
        }
    }
}

/// A child that is killed and reaped unless it is released.
pub(crate) struct ChildGuard(Option<i32>);

impl ChildGuard {
    /// Guards a child that was just made.
    pub(crate) fn of(pid: i32) -> Self {
        Self(Some(pid))
    }

    /// Its process id; 0, which is nobody's, once it is released.
    pub(crate) fn pid(&self) -> i32 {
        self.0.unwrap_or(0)
    }

    pub(crate) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(Pid::from_raw) {
            // It is our child and not reaped yet, so the number is still its own.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::io::retry_on_intr(|| {
                rustix::process::waitpid(Some(pid), WaitOptions::empty())
            });
        }
    }
}
