//! Checkpoint: the images of a running container, which ends then unless it is to go on.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::message::{Kind, Message, Notification, Opt};
use super::{CgroupMode, Criu, DESCRIPTORS, Failure, Log, Settings, Streams, mounts, options};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::namespaces;
use crate::spec::{NamespaceKind, Spec};
use crate::sys;

const LOG: &str = "dump.log";

/// A checkpoint to be taken.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    /// What it has in common with a restore.
    pub settings: &'a Settings,
    /// The container's config.json.
    pub spec: &'a Spec,
    /// The directory that it is in.
    pub bundle: &'a Path,
    /// Its root file system.
    pub rootfs: &'a Path,
    /// Its first process.
    pub pid: i32,
    /// Its cgroup.
    pub cgroup: &'a Cgroup,
    /// What its standard streams were when it was made, as links in /proc say it.
    pub descriptors: &'a [String],
    /// Only its memory, and it goes on.
    pub pre_dump: bool,
    /// It goes on afterwards.
    pub leave_running: bool,
    /// Connections that are being established too.
    pub tcp_skip_in_flight: bool,
    /// Files that are unlinked get a name.
    pub link_remap: bool,
    /// The images of the checkpoint before, relative to these.
    pub parent: Option<PathBuf>,
    /// Where its memory goes.
    pub page_server: Option<PageServer>,
    /// Who waits until its memory can be asked for.
    pub status: Option<StatusFd>,
}

/// A host that takes memory, or where it can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageServer {
    /// Name or address.
    pub address: String,
    /// TCP.
    pub port: u16,
}

/// A descriptor that gets one NUL byte once memory can be asked for.
#[derive(Debug)]
pub struct StatusFd(File);

impl StatusFd {
    /// Takes over a descriptor that the caller of this program has passed on. To be called before
    /// this program has opened anything itself.
    ///
    /// # Errors
    /// One that is not open, or not for writing.
    pub fn take(number: i32) -> Result<Self> {
        let wrong = |reason: String| {
            Error::Criu(Failure::Option {
                option: "--status-fd",
                reason: format!("invalid argument {number}: {reason}"),
            })
        };
        let fd =
            sys::adopt(number).map_err(|errno| wrong(crate::errno_text(errno.raw_os_error())))?;
        let flags = rustix::fs::fcntl_getfl(&fd)
            .map_err(|errno| wrong(crate::errno_text(errno.raw_os_error())))?;
        if !flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            return Err(wrong("not writable".into()));
        }
        Ok(Self(fd.into()))
    }
}

impl Checkpoint<'_> {
    /// Writes the images. The container has ended then, unless it was to go on; what is left of it
    /// is the caller's.
    ///
    /// # Errors
    /// A directory that cannot be used, a criu that is not there, too old or fails; the container
    /// goes on as it was then.
    pub fn take(mut self) -> Result<()> {
        let (mut options, _open) = options(self.settings, self.spec, LOG, true)?;
        let mut criu = Criu::start(self.settings, Streams::None)?;
        self.check_features(&mut criu)?;
        self.describe(&mut options)?;
        if !self.pre_dump {
            self.leave_out_mounts(&mut options)?;
            self.write_descriptors()?;
        }
        let task = if self.pre_dump {
            (Kind::PreDump, "pre-dump")
        } else {
            (Kind::Dump, "dump")
        };
        let log = Log::of(self.settings, LOG);
        criu.perform(task, &options, &log, &mut |stage, fd| self.stage(stage, fd))?;
        Ok(())
    }

    fn check_features(&self, criu: &mut Criu) -> Result<()> {
        if !self.pre_dump && !self.settings.lazy_pages {
            return Ok(());
        }
        let there = criu.ask(&super::message::feature_check())?.features;
        let lacking = |feature, option| Err(Error::Criu(Failure::Lacking { feature, option }));
        if self.pre_dump && !there.mem_track {
            return lacking("mem_dirty_track", "--pre-dump");
        }
        if self.settings.lazy_pages && !there.lazy_pages {
            return lacking("uffd-noncoop", "--lazy-pages");
        }
        Ok(())
    }

    fn describe(&self, options: &mut Message) -> Result<()> {
        options.set_path(Opt::Root, self.rootfs);
        options.set(Opt::Pid, u64::from(self.pid.unsigned_abs()));
        for (opt, on) in [
            (Opt::LeaveRunning, self.leave_running),
            (Opt::TcpSkipInFlight, self.tcp_skip_in_flight),
            (Opt::LinkRemap, self.link_remap),
        ] {
            options.set(opt, u64::from(on));
        }
        if let Some(parent) = &self.parent {
            options.set_path(Opt::ParentImg, parent);
            options.set(Opt::TrackMem, 1);
        }
        if let Some(server) = &self.page_server {
            options.set_numbered(
                Opt::PageServer,
                server.address.as_bytes(),
                u64::from(server.port),
            );
        }
        if let Some(freezer) = self.cgroup.freezer_directory() {
            options.set_path(Opt::FreezeCgroup, &freezer);
        }
        let joined = namespaces::outside(self.spec);
        joined.into_iter().try_for_each(|(kind, path)| {
            let (NamespaceKind::Network | NamespaceKind::Pid) = kind else {
                return Ok(());
            };
            let stat = std::fs::metadata(path).map_err(|source| Error::Io {
                operation: "stat namespace",
                path: path.to_owned(),
                source,
            })?;
            let name = kind.file();
            let key = key(kind);
            options.set_text(
                Opt::External,
                format!("{name}[{}]:{key}", stat.ino()).as_bytes(),
            );
            Ok(())
        })
    }

    fn leave_out_mounts(&self, options: &mut Message) -> Result<()> {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = rustix::fs::open(&root, flags, Mode::empty())
            .map_err(Error::io("open the container's root", root))?;
        let managed = self.settings.cgroups != CgroupMode::Ignore;
        let foreign = mounts::foreign(self.spec, self.bundle, self.rootfs, (self.cgroup, managed));
        mounts::leave_out(options, self.spec, &foreign, inside.as_fd());
        Ok(())
    }

    fn write_descriptors(&self) -> Result<()> {
        let path = self.settings.images.join(DESCRIPTORS);
        let text = serde_json::to_vec(self.descriptors).map_err(Error::Message)?;
        let mut new = File::options();
        new.write(true).create(true).truncate(true).mode(0o600);
        let written = new.open(&path).and_then(|mut file| file.write_all(&text));
        written.map_err(|source| Error::Io {
            operation: "write",
            path,
            source,
        })
    }

    fn stage(&mut self, stage: &Notification, _: Option<OwnedFd>) -> Result<()> {
        if stage.script == "status-ready"
            && let Some(StatusFd(mut file)) = self.status.take()
        {
            file.write_all(&[0]).map_err(|source| Error::Io {
                operation: "write to",
                path: "--status-fd".into(),
                source,
            })?;
        }
        Ok(())
    }
}

/// What a namespace that the container has joined is called in its images.
pub(super) fn key(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "extRootPidNS",
        _ => "extRootNetNS",
    }
}
