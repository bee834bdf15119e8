//! What a container is made from, and what it is when it is made. Making it is [`crate::creating`]'s.
//!
//! The caller must have one thread (see [`crate::sys::clone_process`]) and reaps init itself once
//! [`NewContainer::create`] has succeeded.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::cgroup::{Cgroup, default_path};
use crate::cgroup_placement::CgroupManager;
use crate::error::Result;
use crate::gate::{Gate, GateKind};
use crate::hooks::{self, HookState};
use crate::progress::Progress;
use crate::resctrl::Group;
use crate::spec::{DeviceCgroup, Resources, Spec};
use crate::stdio::Stdio;

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
