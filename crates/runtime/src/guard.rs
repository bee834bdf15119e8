//! What is undone unless it is kept: the runtime's side of a container that is being made. A guard
//! undoes only what was done, and never waits without a limit for what a container can hold up.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::error::{Error, Result};
use crate::namespaces;
use crate::resctrl::Group;
use crate::spec::{Linux, NamespaceKind, Spec};
use crate::sys::{self, Forked};

/// How long a process that was killed may take to end: one that the kernel holds (a dead network file
/// system) is left to whoever reaps the caller's children.
const PATIENCE: Duration = Duration::from_secs(5);

/// A resctrl group that goes unless it is kept.
#[derive(Debug)]
pub(crate) struct GroupGuard(Option<Group>);

impl GroupGuard {
    /// No group to remove.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The group that config.json asks for, with the container's first process in it.
    pub(crate) fn of(id: &str, linux: &Linux, pid: i32) -> Result<Self> {
        let Some(rdt) = &linux.intel_rdt else {
            return Ok(Self(None));
        };
        let guard = Self(Some(Group::make(id, rdt)?));
        guard.0.iter().try_for_each(|group| group.add(pid))?;
        Ok(guard)
    }

    pub(crate) fn commit(&mut self) -> Option<Group> {
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

/// The root file system of a container that has no mount namespace of its own: it is mounted in the
/// runtime's, or in one that the container has joined.
#[derive(Debug)]
struct SharedMount {
    path: PathBuf,
    joined: Option<PathBuf>,
}

impl SharedMount {
    fn of(bundle: &Path, spec: &Spec) -> Option<Self> {
        let mut namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
        let mount = namespaces.find(|namespace| namespace.kind == NamespaceKind::Mount);
        let joined = match mount.map(|namespace| &namespace.path) {
            None => None,
            Some(Some(joined)) => Some(joined.clone()),
            Some(None) => return None,
        };
        let path = bundle.join(&spec.root.as_ref()?.path);
        Some(Self { path, joined })
    }

    fn unmount(&self) -> Result<()> {
        let done = match &self.joined {
            None => unmount_root(&self.path),
            Some(joined) => match namespaces::open_file(joined.clone()) {
                Ok(namespace) => unmount_in(&namespace, &self.path)?,
                Err(_) => Ok(()),
            },
        };
        done.map_err(Error::io("unmount", &self.path))
    }
}

/// Unmounts the root file system of a container that has no mount namespace of its own: it is in the
/// runtime's, or in one that it has joined.
///
/// # Errors
/// What the kernel says, but not that nothing is mounted there, or that the namespace is gone.
pub fn unmount_shared(bundle: &Path, spec: &Spec) -> Result<()> {
    SharedMount::of(bundle, spec).map_or(Ok(()), |mount| mount.unmount())
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
#[derive(Debug)]
pub(crate) struct MountGuard(Option<SharedMount>);

impl MountGuard {
    pub(crate) fn of(bundle: &Path, spec: &Spec) -> Self {
        Self(SharedMount::of(bundle, spec))
    }

    pub(crate) fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        if let Some(mount) = &self.0 {
            // The failure that led here is what the caller hears of.
            let _ = mount.unmount();
        }
    }
}

/// A child that is killed and reaped unless it is released.
#[derive(Debug)]
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

    pub(crate) fn release(&mut self) {
        self.0 = None;
    }

    /// Kills it and leaves it to the caller to reap; answers its process id.
    pub(crate) fn kill(&mut self) -> Option<i32> {
        let pid = self.0.take().and_then(Pid::from_raw)?;
        // It is our child and not reaped yet, so the number is still its own.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        Some(pid.as_raw_nonzero().get())
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let Some(pid) = self.kill().and_then(Pid::from_raw) else {
            return;
        };
        let start = Instant::now();
        let mut pause = Duration::from_micros(50);
        while let Ok(None) | Err(Errno::INTR) =
            rustix::process::waitpid(Some(pid), WaitOptions::NOHANG)
        {
            if start.elapsed() > PATIENCE {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}
