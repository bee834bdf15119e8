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

use base::file::read_bounded;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::dump::key;
use super::message::{Kind, Message, Notification, Opt, Version};
use super::{
    CgroupMode, Criu, DESCRIPTORS, Log, Settings, Streams, directory, inherit, mounts, options,
};
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
use crate::sys;
use crate::validate;

const LOG: &str = "restore.log";
/// The names of three streams are shorter.
const DESCRIPTORS_LONGEST: u64 = 64 << 10;
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
    /// None of its processes goes on: its cgroup is frozen, and [`Cgroup::thaw`] lets them.
    pub held: bool,
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
        let (criu, cgroup) = self.start(&new)?;
        drop(joined);
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
        let helper = criu.pid();
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
                // All is restored, and criu holds each thread at its last step.
                "pre-resume" if self.held => hold(cgroup.get(), helper)?,
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

    /// criu in the container's cgroup.
    fn start(&self, new: &NewContainer<'_>) -> Result<(Criu, CgroupGuard)> {
        let (path, limits) = (new.cgroup_path(), new.limits());
        let around = |pid| CgroupGuard::around(self.cgroup_manager, &path, &limits, pid);
        let makes_namespace = self.settings.cgroups != CgroupMode::Ignore;
        if makes_namespace || !mounts::has_cgroup_namespace(self.spec) {
            let criu = Criu::start(self.settings, Streams::Callers)?;
            let cgroup = around(criu.pid())?;
            return Ok((criu, cgroup));
        }
        // It makes none, so it is started in one: this process goes there, and back.
        let pid = std::process::id().cast_signed();
        let before = own_cgroups()?;
        let namespace = namespaces::open_file("/proc/self/ns/cgroup".into())?;
        let cgroup = around(pid)?;
        let failed = |what| Error::io(what, "cgroup namespace");
        sys::unshare_cgroups().map_err(failed("unshare"))?;
        let criu = Criu::start(self.settings, Streams::Callers);
        sys::setns(namespace, libc::CLONE_NEWCGROUP).map_err(failed("return to"))?;
        step_out(cgroup.get(), pid, &before)?;
        Ok((criu?, cgroup))
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
        let read = read_bounded(&path, DESCRIPTORS_LONGEST)
            .and_then(|bytes| bytes.ok_or_else(|| std::io::Error::from_raw_os_error(libc::ENOENT)))
            .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
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
                    kind.file().as_bytes(),
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
        let managed = self.settings.cgroups != CgroupMode::Ignore;
        let foreign = mounts::foreign(self.spec, self.bundle, root, (cgroup, managed));
        let places: Vec<&Path> = foreign.iter().map(|one| one.place.as_path()).collect();
        let places = init::make_mountpoints(new, cgroup, &places).map_err(Error::Init)?;
        mounts::put_back(options, self.spec, &foreign, &places);
        Ok(())
    }
}

/// Freezes a container that criu is about to let go. criu itself is in its cgroup, and moves to where this
/// process is first.
fn hold(cgroup: &Cgroup, criu: i32) -> Result<()> {
    step_out(cgroup, criu, &own_cgroups()?)?;
    Ok(cgroup.tell_to_freeze()?)
}

/// The cgroups of this process, as /proc says it.
fn own_cgroups() -> Result<String> {
    let path = PathBuf::from("/proc/self/cgroup");
    std::fs::read_to_string(&path).map_err(|source| Error::Io {
        operation: "read",
        path,
        source,
    })
}

/// Moves a process out of a container's cgroup, to where another is, in the hierarchy that freezes.
fn step_out(cgroup: &Cgroup, pid: i32, other: &str) -> Result<()> {
    let lacking = || Error::invalid("linux.cgroupsPath", "no hierarchy can freeze the container");
    let frozen = cgroup.freezer_directory().ok_or_else(lacking)?;
    let below = Path::new(cgroup.path());
    let up = frozen.ancestors().nth(below.components().count());
    let own = own_freezer(other, cgroup_is_unified(cgroup, &frozen)).ok_or_else(lacking)?;
    let place = up
        .ok_or_else(lacking)?
        .join(own.trim_start_matches('/'))
        .join("cgroup.procs");
    std::fs::write(&place, pid.to_string()).map_err(|source| Error::Io {
        operation: "move out to",
        path: place,
        source,
    })
}

fn cgroup_is_unified(cgroup: &Cgroup, frozen: &Path) -> bool {
    let mut all = cgroup.directories().into_iter();
    all.any(|directory| directory.unified && directory.path == frozen)
}

/// The cgroup of whom /proc/PID/cgroup is, in the hierarchy that freezes.
fn own_freezer(text: &str, unified: bool) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let is_it = match unified {
            true => controllers.is_empty(),
            false => controllers.split(',').any(|one| one == "freezer"),
        };
        is_it.then_some(path)
    })
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

#[cfg(test)]
mod tests {
    use super::own_freezer;

    #[test]
    fn the_hierarchy_that_freezes_is_found_in_both_versions() {
        let hybrid = "5:freezer:/pod/a\n4:cpu,cpuacct:/other\n1:name=systemd:/x\n0::/pod/b:c\n";
        assert_eq!(own_freezer(hybrid, false), Some("/pod/a"));
        assert_eq!(own_freezer(hybrid, true), Some("/pod/b:c"));
        assert_eq!(own_freezer("0::/\n", false), None);
    }
}
