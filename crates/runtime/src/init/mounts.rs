//! config.md, mounts: each in order onto its place below the root, by descriptor.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, mount, move_mount};

use super::locked;
use super::options::Options;
use super::procfs;
use super::rootfs::{Root, Source};
use super::target::{self, Missing};
use crate::cgroup::Cgroup;
use crate::container::{NewContainer, Rootfs};
use crate::error::InitFailure;
use crate::labels;
use crate::message::{Channel, FromInit, ToInit};
use crate::spec::Mount;
use crate::sys::{self, MountAttr};

/// MOUNT_ATTR_IDMAP of mount_setattr(2).
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// All mounts of config.json.
pub(super) struct Mounts<'a> {
    pub(super) root: &'a Root<'a>,
    pub(super) new: &'a NewContainer<'a>,
    pub(super) cgroup: &'a Cgroup,
    /// To the runtime, if this process has not the right to give a mount its ids.
    pub(super) runtime: Option<&'a Channel>,
    /// The PID namespace that the container joins, if this process is not in it.
    pub(super) processes: Option<BorrowedFd<'a>>,
}

impl Mounts<'_> {
    /// Performs them; returns the places that are to be read-only once everything is in them.
    pub(super) fn perform(&self) -> Result<Vec<PathBuf>, InitFailure> {
        let mut read_only = Vec::new();
        for (index, source) in self.root.sources.iter().enumerate() {
            let Some(asked) = self.new.spec.mounts.get(index) else {
                continue;
            };
            let asked = &self.below_root(asked);
            let mut options = Options::parse(asked);
            if asked.kind.as_deref() == Some("tmpfs")
                && options.mount_flags().contains(MountFlags::RDONLY)
            {
                options.flags &= !libc::MS_RDONLY;
                read_only.push(asked.destination.clone());
            }
            self.one(index, asked, source, &options)?;
        }
        Ok(read_only)
    }

    /// Some name places by the host's path of the root file system.
    fn below_root(&self, asked: &Mount) -> Mount {
        let mut asked = asked.clone();
        if let Rootfs::Path(root) = &self.new.rootfs {
            asked.destination = inside(&asked.destination, &self.new.bundle.join(root));
        }
        asked
    }

    fn one(
        &self,
        index: usize,
        asked: &Mount,
        source: &Source<'_>,
        options: &Options,
    ) -> Result<(), InitFailure> {
        let failed = |what: &str, errno: Errno| {
            InitFailure::new(
                format_args!("mount {}: {what}", asked.destination.display()),
                errno,
            )
        };
        let root = self.root.fd();
        let bound = |clone: &OwnedFd| {
            bind(root, asked, clone, options).map_err(|errno| failed("bind", errno))
        };
        match source {
            Source::Clone(clone) => bound(clone),
            Source::Inside { path, users } => {
                let clone = target::open(root, path, OFlags::PATH)
                    .and_then(|place| sys::open_tree_fd(place, options.recursive_bind))
                    .map_err(|errno| failed("open source", errno))?;
                let mut users = *users;
                if let (Some(runtime), Some(_)) = (self.runtime, users) {
                    runtime
                        .send(&FromInit::SetIds(index), Some(clone.as_fd()))
                        .map_err(|errno| failed("ask for ids", errno))?;
                    super::expect(runtime, ToInit::IdsSet)?;
                    users = None;
                }
                let host = self
                    .new
                    .bundle
                    .join(asked.source.as_deref().unwrap_or(path));
                set_attributes(&clone, asked, users, &host, self.runtime.is_some())?;
                bound(&clone)
            }
            Source::Kind if asked.kind.as_deref() == Some("cgroup") => {
                cgroups(root, asked, options, self.cgroup).map_err(|errno| failed("cgroup", errno))
            }
            Source::Kind => {
                let linux = self.new.spec.linux.as_ref();
                let label = linux.and_then(labels::mount_label);
                file_system(root, asked, options, label, self.processes)
            }
        }
    }
}

/// The place inside that may be named by the host's path of the root file system.
pub(crate) fn inside(place: &Path, rootfs: &Path) -> PathBuf {
    match place.strip_prefix(rootfs) {
        Ok(inside) => Path::new("/").join(inside),
        Err(_) => place.to_owned(),
    }
}

/// Gives a mount that is a clone, and attached nowhere yet, the ids of a user namespace.
pub(crate) fn set_ids(clone: &OwnedFd, asked: &Mount, users: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        userns_fd: u64::try_from(users.as_raw_fd()).unwrap_or(u64::MAX),
        ..MountAttr::default()
    };
    sys::mount_setattr(clone, Options::parse(asked).recursive_idmap, &attr)
}

/// What the options ask of the cloned source that is at `path`, and its ids.
pub(super) fn set_attributes(
    source: &OwnedFd,
    asked: &Mount,
    users: Option<BorrowedFd<'_>>,
    path: &Path,
    locked: bool,
) -> Result<(), InitFailure> {
    let what = || {
        format!(
            "mount {}: set attributes of source {}",
            asked.destination.display(),
            path.display()
        )
    };
    let failed = |errno| InitFailure::new(what(), errno);
    if let Some(users) = users {
        set_ids(source, asked, users).map_err(failed)?;
    }
    let options = Options::parse(asked);
    let attr = if locked {
        locked::keep(source, path, &options)
            .map_err(|reason| InitFailure::because(format!("{}: {reason}", what())))?
    } else {
        options.bind_attributes()
    };
    if attr != MountAttr::default() {
        match sys::mount_setattr(source, false, &attr) {
            // In a user namespace some of the source's are locked: they stay, unless they were to go.
            Err(Errno::PERM) => {
                sys::mount_setattr(source, false, &options.attr).map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
    }
    if options.recursive_attr != MountAttr::default() {
        sys::mount_setattr(source, true, &options.recursive_attr).map_err(failed)?;
    }
    Ok(())
}

/// Puts a cloned source in its place, with its attributes already set: no moment without them.
fn bind(
    root: BorrowedFd<'_>,
    asked: &Mount,
    source: &OwnedFd,
    options: &Options,
) -> Result<(), Errno> {
    let directory = FileType::from_raw_mode(fstat(source)?.st_mode) == FileType::Directory;
    let missing = if directory {
        Missing::Directory
    } else {
        Missing::File
    };
    let place = target::open_or_make(root, &asked.destination, missing)?;
    propagate(
        source,
        options
            .propagation
            .unwrap_or(MountPropagationFlags::PRIVATE | MountPropagationFlags::REC),
    )?;
    attach(source, &place)
}

pub(super) fn propagate(mount: impl AsFd, flags: MountPropagationFlags) -> Result<(), Errno> {
    let recursive = flags.contains(MountPropagationFlags::REC);
    let kind = flags.difference(MountPropagationFlags::REC);
    let attr = MountAttr {
        propagation: u64::from(kind.bits()),
        ..MountAttr::default()
    };
    sys::mount_setattr(mount, recursive, &attr)
}

pub(super) fn attach(tree: impl AsFd, place: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", place, c"", flags)
}

/// A mount of a file system by type.
fn file_system(
    root: BorrowedFd<'_>,
    asked: &Mount,
    options: &Options,
    label: Option<&str>,
    processes: Option<BorrowedFd<'_>>,
) -> Result<(), InitFailure> {
    let path = &asked.destination;
    let kind = asked.kind.as_deref().unwrap_or_default();
    let failed = |what: &str, errno| {
        InitFailure::new(
            format_args!("mount {} ({kind}): {what}", path.display()),
            errno,
        )
    };
    if matches!(kind, "proc" | "sysfs") && target::is_link(root, path) {
        return Err(InitFailure::because(format!(
            "mount {} ({kind}): must be mounted on ordinary directory, not on a symbolic link of the image",
            path.display()
        )));
    }
    let covered = target::open(root, path, OFlags::PATH | OFlags::DIRECTORY).ok();
    let place = target::open_or_make(root, path, Missing::Directory)
        .map_err(|errno| failed("open target", errno))?;
    let mut data = options.data.clone();
    if kind == "tmpfs" && !data.split(',').any(|word| word.starts_with("mode=")) {
        // The mode of the directory it covers; everybody's if there was none.
        let mode = covered.map_or(Ok(0o1777), |covered| {
            fstat(&covered).map(|stat| stat.st_mode & 0o7777)
        });
        let mode = mode.map_err(|errno| failed("stat target", errno))?;
        let comma = if data.is_empty() { "" } else { "," };
        data.push_str(&format!("{comma}mode={mode:o}"));
    }
    let data = labels::with_label(data, kind, label);
    if let Some(processes) = processes.filter(|_| kind == "proc") {
        let mount = procfs::of(processes, &data, &options.attr);
        let mount = mount.map_err(|errno| failed("mount", errno))?;
        if let Some(flags) = options.propagation {
            propagate(&mount, flags).map_err(|errno| failed("set propagation", errno))?;
        }
        return attach(mount, &place).map_err(|errno| failed("attach", errno));
    }
    let text =
        CString::new(data).map_err(|_| InitFailure::because("a mount option holds a NUL byte"))?;
    let source = asked.source.clone().unwrap_or_else(|| PathBuf::from(kind));
    mount(
        &source,
        magic(&place),
        kind,
        options.mount_flags(),
        text.as_c_str(),
    )
    .map_err(|errno| failed("mount", errno))?;
    let mounted = || target::open(root, path, OFlags::PATH | OFlags::DIRECTORY);
    if options.copy_up {
        copy_up(&place, &mounted().map_err(|errno| failed("open", errno))?).map_err(|e| {
            InitFailure::because(format!("mount {}: tmpcopyup: {e}", path.display()))
        })?;
    }
    if let Some(flags) = options.propagation {
        let mounted = mounted().map_err(|errno| failed("open", errno))?;
        propagate(mounted, flags).map_err(|errno| failed("set propagation", errno))?;
    }
    Ok(())
}

/// The path by which mount(2) reaches a descriptor; /proc is still the host's here.
fn magic(place: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", place.as_raw_fd())
}

/// Copies a directory tree to the mount that now hides it; `below` was opened before.
fn copy_up(below: &OwnedFd, mounted: &OwnedFd) -> std::io::Result<()> {
    copy_tree(Path::new(&magic(below)), Path::new(&magic(mounted)))
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        let meta = std::fs::symlink_metadata(&source)?;
        if meta.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &copy)?;
        } else if meta.is_dir() {
            std::fs::create_dir(&copy)?;
            copy_tree(&source, &copy)?;
        } else if meta.is_file() {
            std::fs::copy(&source, &copy)?;
        } else {
            continue;
        }
        std::os::unix::fs::lchown(&copy, Some(meta.uid()), Some(meta.gid()))?;
        if !meta.is_symlink() {
            // After the change of owner, which takes setuid bits away.
            std::fs::set_permissions(&copy, meta.permissions())?;
        }
    }
    Ok(())
}

/// The container's own part of the cgroup tree. On v2 one mount; on v1 a tmpfs with one bind of
/// the container's cgroup for each hierarchy.
fn cgroups(
    root: BorrowedFd<'_>,
    asked: &Mount,
    options: &Options,
    cgroup: &Cgroup,
) -> Result<(), Errno> {
    let place = target::open_or_make(root, &asked.destination, Missing::Directory)?;
    let directories = cgroup.directories();
    if let [only] = directories.as_slice()
        && only.unified
    {
        let tree = clone_directory(&only.path)?;
        sys::mount_setattr(&tree, false, &options.attr)?;
        return attach(tree, place);
    }
    let flags = options.mount_flags().difference(MountFlags::RDONLY);
    mount("tmpfs", magic(&place), "tmpfs", flags, c"mode=755,size=64k")?;
    let top = target::open(root, &asked.destination, OFlags::PATH | OFlags::DIRECTORY)?;
    for directory in directories {
        let Some(name) = directory.mount.file_name() else {
            continue;
        };
        let tree = clone_directory(&directory.path)?;
        sys::mount_setattr(&tree, false, &options.attr)?;
        rustix::fs::mkdirat(&top, name, Mode::from_raw_mode(0o755))?;
        let inner = rustix::fs::openat(
            &top,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        attach(tree, inner)?;
        link_controllers(&top, name)?;
    }
    sys::mount_setattr(&top, false, &options.attr)
}

/// `cpu` beside `cpu,cpuacct`, as programs look for it.
fn link_controllers(top: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let Some(text) = name.to_str().filter(|text| text.contains(',')) else {
        return Ok(());
    };
    text.split(',')
        .try_for_each(|controller| rustix::fs::symlinkat(text, top, controller))
}

fn clone_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let fd = rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    sys::open_tree_fd(fd, false)
}
