//! Restore: a container from its images. The cgroup is the runtime's and criu is put into it, so
//! that all that it makes is there; its first process becomes a child of the caller.
//!
//! criu wants the root file system to be a mount, and every place that something was mounted on to
//! be there. Both are made in a mount namespace that only criu is in: it goes with criu, however
//! that ends.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::dump::key;
use super::message::{Kind, Message, Notification, Opt, Version};
use super::{Criu, DESCRIPTORS, Log, Settings, Streams, directory, inherit, mounts, options};
use crate::cgroup::Cgroup;
use crate::cgroup_placement::{CgroupGuard, CgroupManager};
use crate::container::{NewContainer, Rootfs};
use crate::error::{Error, Result};
use crate::gate::GateKind;
use crate::guard::{ChildGuard, GroupGuard};
use crate::init;
use crate::namespaces::{self, ParentMounts};
use crate::resctrl::Group;
use crate::spec::{NamespaceKind, Spec};
use crate::stdio::Stdio;
use crate::validate;

const LOG: &str = "restore.log";
/// The first one that takes another profile.
const LSM: Version = Version(3, 16, 0);

/// A container to be restored.
#[derive(Debug)]
pub struct Restore<'a> {
    /// What it has in common with a checkpoint.
    pub settings: &'a Settings,
    /// Its id.
    pub id: &'a str,
    /// Directory of config.json; relative paths in it start here.
    pub bundle: &'a Path,
    /// config.json.
    pub spec: &'a Spec,
    /// Its root file system.
    pub rootfs: &'a Path,
    /// Who makes its cgroup.
    pub cgroup_manager: CgroupManager<'a>,
    /// Another profile of AppArmor or SELinux, `TYPE:NAME`.
    pub lsm_profile: Option<&'a str>,
    /// Another context of its mounts.
    pub lsm_mount_context: Option<&'a str>,
}

/// A container that runs again.
#[derive(Debug)]
pub struct Restored {
    /// Process id of its first process, a child of the caller.
    pub pid: i32,
    /// A pidfd of it.
    pub pidfd: OwnedFd,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its group of resctrl, if it asked for one.
    pub resctrl: Option<Group>,
    /// The master side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// Has criu put it into a time namespace, so that its clocks go on where they were?
    pub time_namespace: bool,
}

impl Restore<'_> {
    /// Restores it. `born` is told of its first process before any of its processes goes on, and
    /// says whether they may.
    ///
    /// # Errors
    /// A configuration or images that cannot be used, a hook or `born` that fails, a criu that is
    /// not there, too old or fails; nothing is left then.
    pub fn run(self, born: &mut dyn FnMut(i32) -> bool) -> Result<Restored> {
        validate::spec(self.spec)?;
        drop(directory(&self.settings.images, false)?);
        let descriptors = self.descriptors()?;
        let new = self.as_new()?;
        // criu restores none, so the container's is that of this process: not the caller's.
        init::session_keyring(self.id).map_err(Error::Init)?;
        let mut child = None;
        let parent = ParentMounts::enter()?;
        // Opened here: criu mounts things in its directories.
        let (mut options, _open) = options(self.settings, self.spec, LOG, false)?;
        let joined = self.namespaces(&mut options)?;
        let criu = Criu::start(self.settings, Streams::Callers)?;
        drop(joined);
        let limits = new.limits();
        let cgroup =
            CgroupGuard::around(self.cgroup_manager, &new.cgroup_path(), &limits, criu.pid())?;
        self.mounts(&new, cgroup.get(), &mut options)?;
        parent.leave()?;
        self.describe(&criu, &descriptors, &mut options)?;
        name_cgroup(criu.pid(), &mut options)?;
        let linux = self.spec.linux();
        let mut group = GroupGuard::of(self.id, linux, criu.pid())?;
        let gone = || Error::Vanished {
            doing: "being restored",
        };
        let mut console = None;
        let log = Log::of(self.settings, LOG);
        let task = (Kind::Restore, "restore");
        let answer = criu.perform(task, &options, &log, &mut |stage: &Notification, fd| {
            match stage.script.as_str() {
                "orphan-pts-master" => console = fd,
                "setup-namespaces" => new.runtime_hooks(stage.pid)?,
                "post-restore" => {
                    child = Some(ChildGuard::of(stage.pid));
                    if !born(stage.pid) {
                        return Err(gone());
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        let pid = answer.restored;
        let raw = Pid::from_raw(pid).ok_or_else(gone)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|_| gone())?;
        let time_namespace = has_own_time(pid);
        if let Some(mut child) = child {
            child.release();
        }
        Ok(Restored {
            pid,
            pidfd,
            cgroup: cgroup.commit(),
            resctrl: group.commit(),
            console,
            time_namespace,
        })
    }

    /// As it would be made anew.
    fn as_new(&self) -> Result<NewContainer<'_>> {
        let rootfs = self.rootfs.canonicalize().map_err(|source| Error::Io {
            operation: "open rootfs",
            path: self.rootfs.to_owned(),
            source,
        })?;
        Ok(NewContainer {
            id: self.id,
            bundle: self.bundle,
            spec: self.spec,
            rootfs: Rootfs::Path(rootfs),
            stdio: Stdio::Inherit,
            cgroup_manager: self.cgroup_manager,
            gate: GateKind::Held,
            no_pivot: false,
            no_new_keyring: true,
            preserve_fds: 0,
            check_program: false,
        })
    }

    /// What the container's standard streams were.
    fn descriptors(&self) -> Result<Vec<String>> {
        let path = self.settings.images.join(DESCRIPTORS);
        let read = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        read.map_err(|source| Error::Io {
            operation: "read",
            path,
            source,
        })
    }

    fn describe(&self, criu: &Criu, descriptors: &[String], options: &mut Message) -> Result<()> {
        options.set(Opt::EvasiveDevices, 1);
        options.set(Opt::RstSibling, 1);
        for (number, descriptor) in (0..).zip(descriptors) {
            if descriptor.starts_with("pipe:") {
                options.set_numbered(Opt::InheritFd, descriptor.as_bytes(), number);
            }
        }
        if let Some(profile) = self.lsm_profile {
            criu.at_least(LSM, "--lsm-profile")?;
            options.set_text(Opt::LsmProfile, profile.as_bytes());
        }
        if let Some(context) = self.lsm_mount_context {
            criu.at_least(LSM, "--lsm-mount-context")?;
            options.set_text(Opt::LsmMountContext, context.as_bytes());
        }
        Ok(())
    }

    /// The namespaces to be joined: criu gets network and PID by descriptor and the others by path.
    fn namespaces(&self, options: &mut Message) -> Result<Vec<OwnedFd>> {
        let mut opened = Vec::new();
        for (kind, path) in namespaces::outside(self.spec) {
            match kind {
                NamespaceKind::Network | NamespaceKind::Pid => {
                    let fd = namespaces::open_file(path.to_owned())?;
                    inherit(&fd)?;
                    options.set_numbered(
                        Opt::InheritFd,
                        key(kind).as_bytes(),
                        u64::from(fd.as_raw_fd().unsigned_abs()),
                    );
                    opened.push(fd);
                }
                NamespaceKind::Cgroup => {
                    let reason = "criu cannot restore into a cgroup namespace joined by path";
                    return Err(Error::invalid("linux.namespaces", reason));
                }
                _ => options.set_pair(
                    Opt::JoinNs,
                    namespaces::file(kind).as_bytes(),
                    path.as_os_str().as_encoded_bytes(),
                ),
            }
        }
        Ok(opened)
    }

    /// Makes the root file system a mount with all places to mount on, and says what goes there.
    fn mounts(&self, new: &NewContainer<'_>, cgroup: &Cgroup, options: &mut Message) -> Result<()> {
        let Rootfs::Path(root) = &new.rootfs else {
            return Err(Error::invalid("root", "is no directory"));
        };
        options.set_path(Opt::Root, root);
        let foreign = mounts::foreign(self.spec, self.bundle, root, cgroup);
        let places: Vec<&Path> = foreign.iter().map(|one| one.place.as_path()).collect();
        let places = init::make_mountpoints(new, cgroup, &places).map_err(Error::Init)?;
        mounts::put_back(options, self.spec, &foreign, &places);
        Ok(())
    }
}

/// Says that where criu is, is where the images' cgroup is now.
fn name_cgroup(criu: i32, options: &mut Message) -> Result<()> {
    let path = PathBuf::from(format!("/proc/{criu}/cgroup"));
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Io {
        operation: "read",
        path,
        source,
    })?;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (parts.next(), parts.next()) {
            for controller in controllers.split(',') {
                options.set_pair(Opt::CgRoot, controller.as_bytes(), path.as_bytes());
            }
        }
    }
    Ok(())
}

/// A kernel without time namespaces has no such file.
fn has_own_time(pid: i32) -> bool {
    let namespace = |whose: &str| {
        let file = File::open(format!("/proc/{whose}/ns/time")).ok()?;
        Some(file.metadata().ok()?.ino())
    };
    namespace(&pid.to_string()) != namespace("self")
}
