//! config-linux.md, namespaces: which are new (clone flags), which are joined (setns), and those that
//! only children can be put into (PID, time).

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, InitFailure, Result};
use crate::spec::{Linux, NamespaceKind, Spec, TimeOffset};
use crate::sys;

/// The namespaces of one container.
#[derive(Debug)]
pub(crate) struct Plan {
    new: Vec<NamespaceKind>,
    join: Vec<(NamespaceKind, OwnedFd)>,
}

impl Plan {
    /// Opens what is to be joined; the files are the caller's view of /proc.
    pub(crate) fn new(linux: &Linux) -> Result<Self> {
        let mut plan = Self {
            new: Vec::new(),
            join: Vec::new(),
        };
        for namespace in &linux.namespaces {
            match &namespace.path {
                None => plan.new.push(namespace.kind),
                Some(path) => plan.join.push((namespace.kind, open_file(path.clone())?)),
            }
        }
        Ok(plan)
    }

    pub(crate) fn is_new(&self, kind: NamespaceKind) -> bool {
        self.new.contains(&kind)
    }

    /// The namespace of that kind that is to be joined, if one is.
    pub(crate) fn joined(&self, kind: NamespaceKind) -> Option<&OwnedFd> {
        self.join
            .iter()
            .find(|(joined, _)| *joined == kind)
            .map(|(_, fd)| fd)
    }

    /// Is one of that kind new or joined?
    pub(crate) fn has(&self, kind: NamespaceKind) -> bool {
        self.is_new(kind) || self.joined(kind).is_some()
    }

    /// Is the container's user namespace another than the runtime's?
    pub(crate) fn has_users(&self) -> bool {
        self.has(NamespaceKind::User)
    }

    /// The descriptors of what is to be joined.
    pub(crate) fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.join.iter().map(|(_, fd)| fd.as_raw_fd())
    }

    /// CLONE_NEW* of what the clone makes. A cgroup namespace is made later, in the cgroup, and a
    /// time namespace before, by [`ParentTime`].
    pub(crate) fn clone_flags(&self) -> u64 {
        let by_others = [NamespaceKind::Cgroup, NamespaceKind::Time];
        let new = self.new.iter().filter(|kind| !by_others.contains(kind));
        new.fold(0, |flags, kind| flags | flag(*kind) as u64)
    }

    /// Joins all but the PID namespace, in which everybody would see what this process starts.
    pub(crate) fn join(&self) -> Result<(), InitFailure> {
        let others = self.join.iter();
        let others = others.filter(|(kind, _)| *kind != NamespaceKind::Pid);
        others.into_iter().try_for_each(join_one)
    }

    /// Has later children be in the PID namespace.
    pub(crate) fn join_processes(&self) -> Result<(), InitFailure> {
        let mut all = self.join.iter();
        all.find(|(kind, _)| *kind == NamespaceKind::Pid)
            .map_or(Ok(()), join_one)
    }

    /// Joins all, the user namespace last; the PID namespace is that of later children. With the
    /// rights of the host first, and what those do not open with the rights in the user namespace.
    pub(crate) fn join_as_parent(&self) -> Result<(), InitFailure> {
        let others = self
            .join
            .iter()
            .filter(|(kind, _)| *kind != NamespaceKind::User);
        let mut later = Vec::new();
        for one in others {
            match (join_one(one), self.joined(NamespaceKind::User)) {
                (Err(failure), Some(_)) if failure.errno == Some(libc::EPERM) => later.push(one),
                (other, _) => other?,
            }
        }
        let users = self
            .join
            .iter()
            .filter(|(kind, _)| *kind == NamespaceKind::User);
        users.chain(later).try_for_each(join_one)
    }
}

fn join_one((kind, fd): &(NamespaceKind, OwnedFd)) -> Result<(), InitFailure> {
    sys::setns(fd, flag(*kind)).map_err(InitFailure::at(format_args!("join {kind:?} namespace")))
}

/// A namespace of a process, by its file's name in /proc.
pub(crate) fn open(pid: i32, file: &str) -> Result<OwnedFd> {
    open_file(format!("/proc/{pid}/ns/{file}").into())
}

/// As [`open`], of the caller.
fn own(file: &str) -> Result<OwnedFd> {
    open_file(format!("/proc/self/ns/{file}").into())
}

/// A namespace by the path of its file. What cannot be opened at once is none.
pub(crate) fn open_file(path: PathBuf) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&path, flags, Mode::empty());
    opened.map_err(Error::io("open namespace", path))
}

/// Those of config.json that are to be joined, and where.
pub(crate) fn outside(spec: &Spec) -> Vec<(NamespaceKind, &Path)> {
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    namespaces
        .filter_map(|one| Some((one.kind, one.path.as_deref()?)))
        .collect()
}

/// The CLONE_NEW* flag of a kind.
pub(crate) fn flag(kind: NamespaceKind) -> i32 {
    match kind {
        NamespaceKind::Pid => libc::CLONE_NEWPID,
        NamespaceKind::Network => libc::CLONE_NEWNET,
        NamespaceKind::Mount => libc::CLONE_NEWNS,
        NamespaceKind::Ipc => libc::CLONE_NEWIPC,
        NamespaceKind::Uts => libc::CLONE_NEWUTS,
        NamespaceKind::User => libc::CLONE_NEWUSER,
        NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
        NamespaceKind::Time => sys::CLONE_NEWTIME,
    }
}

/// The caller is in a new mount namespace until this is left; a process that it starts stays there,
/// and with the last one all goes that was mounted there.
pub(crate) struct ParentMounts {
    /// Its namespace, root and directory.
    own: Option<(OwnedFd, OwnedFd, OwnedFd)>,
}

impl ParentMounts {
    pub(crate) fn enter() -> Result<Self> {
        let open = |path: &'static str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(Error::io("open", path))
        };
        let own = (own("mnt")?, open("/")?, open(".")?);
        sys::unshare_mounts().map_err(Error::io("unshare", "mount namespace"))?;
        Ok(Self { own: Some(own) })
    }

    /// The caller is where it was.
    pub(crate) fn leave(mut self) -> Result<()> {
        self.restore()
            .map_err(Error::io("return to", "mount namespace"))
    }

    fn restore(&mut self) -> Result<(), Errno> {
        let Some((own, root, directory)) = self.own.take() else {
            return Ok(());
        };
        // This leads to the namespace's root, which need not be the caller's.
        sys::setns(own, libc::CLONE_NEWNS)?;
        rustix::process::fchdir(&root)?;
        rustix::process::chroot(".")?;
        rustix::process::fchdir(&directory)
    }
}

impl Drop for ParentMounts {
    fn drop(&mut self) {
        // Left already, or an error is on its way that says more.
        let _ = self.restore();
    }
}

/// The caller's children go into a new time namespace until this is left. Its clocks can only be
/// set while nobody is in it.
pub(crate) struct ParentTime {
    own: Option<OwnedFd>,
}

impl ParentTime {
    pub(crate) fn enter(plan: &Plan, offsets: &BTreeMap<String, TimeOffset>) -> Result<Self> {
        if !plan.is_new(NamespaceKind::Time) {
            return Ok(Self { own: None });
        }
        let own = own("time")?;
        sys::unshare_time().map_err(Error::io("unshare", "time namespace"))?;
        let entered = Self { own: Some(own) };
        let line = |(clock, offset): (&String, &TimeOffset)| {
            format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
        };
        let lines: String = offsets.iter().map(line).collect();
        if !lines.is_empty() {
            std::fs::write("/proc/self/timens_offsets", &lines).map_err(|error| {
                let reason = format!("{:?} is refused: {error}", lines.trim_end());
                Error::invalid("linux.timeOffsets", reason)
            })?;
        }
        Ok(entered)
    }

    /// The caller's children are its own again.
    pub(crate) fn leave(mut self) -> Result<()> {
        self.restore()
            .map_err(Error::io("return to", "time namespace"))
    }

    fn restore(&mut self) -> Result<(), Errno> {
        match self.own.take() {
            Some(own) => sys::setns(own, sys::CLONE_NEWTIME),
            None => Ok(()),
        }
    }
}

impl Drop for ParentTime {
    fn drop(&mut self) {
        // Left already, or an error is on its way that says more.
        let _ = self.restore();
    }
}
