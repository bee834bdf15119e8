//! config.md, mounts: each in order onto its place below the root, by descriptor.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, mount, move_mount};

use super::locked_flags;
use super::options::Options;
use super::procfs;
use super::rootfs::{Root, Source};
use super::target::{self, Missing};
use super::tmpfs;
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
    /// Performs them; returns the mounts that are to be read-only once everything is in them.
    pub(super) fn perform(&self) -> Result<Vec<OwnedFd>, InitFailure> {
        let mut read_only = Vec::new();
        for (index, source) in self.root.sources.iter().enumerate() {
            let Some(asked) = self.new.spec.mounts.get(index) else {
                continue;
            };
            let asked = &self.below_root(asked);
            read_only.extend(self.one(index, asked, source)?);
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

    /// Performs one; returns the mount if it is to be read-only later.
    fn one(
        &self,
        index: usize,
        asked: &Mount,
        source: &Source<'_>,
    ) -> Result<Option<OwnedFd>, InitFailure> {
        let options = &Options::parse(asked);
        let failed = |what: &str, errno: Errno| {
            InitFailure::new(
                format_args!("mount {}: {what}", asked.destination.display()),
                errno,
            )
        };
        let root = self.root.fd();
        let bound = |clone: &OwnedFd| {
            bind(root, asked, clone, options)?;
            Ok(None)
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
                let (place, _) = place(root, asked, Missing::Directory)?;
                cgroups(&place, options, self.cgroup).map_err(|errno| failed("cgroup", errno))?;
                Ok(None)
            }
            Source::Kind => {
                let linux = self.new.spec.linux.as_ref();
                let label = linux.and_then(labels::mount_label);
                file_system(root, asked, options.clone(), label, self.processes)
            }
        }
    }
}

/// Where something is to be mounted, made if missing: then the second answer is true. The place is found
/// once: what happens to the path afterwards changes nothing.
///
/// The system's own places must be what they are called, and no link of the image to others (runc's
/// CVE-2019-19921, CVE-2023-27561); nothing can be mounted on the root, where it would be out of sight.
fn place(
    root: BorrowedFd<'_>,
    asked: &Mount,
    missing: Missing,
) -> Result<(OwnedFd, bool), InitFailure> {
    let path = &asked.destination;
    let kind = asked.kind.as_deref().unwrap_or_default();
    let refused =
        |words: &str| InitFailure::because(format!("mount {} ({kind}): {words}", path.display()));
    let system = ["/dev", "/proc", "/sys"].map(Path::new);
    let plain = matches!(kind, "proc" | "sysfs")
        || system
            .iter()
            .any(|place| path.components().eq(place.components()));
    let opened = match plain {
        true => target::open_or_make_plain(root, path, missing),
        false => target::open_or_make(root, path, missing),
    };
    let (place, made) = opened.map_err(|errno| match errno {
        Errno::LOOP if plain => {
            refused("must be mounted on ordinary directory, not on a symbolic link of the image")
        }
        errno => InitFailure::new(
            format_args!("mount {} ({kind}): open target", path.display()),
            errno,
        ),
    })?;
    match target::is_root(root, &place) {
        Ok(false) => Ok((place, made)),
        Ok(true) => Err(refused(
            "this is the root file system itself, which root.path names",
        )),
        Err(errno) => Err(InitFailure::new(
            format_args!("mount {}: stat target", path.display()),
            errno,
        )),
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
        locked_flags::keep(source, path, &options)
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
) -> Result<(), InitFailure> {
    let failed = || InitFailure::at(format!("mount {}: bind", asked.destination.display()));
    let kind = FileType::from_raw_mode(fstat(source).map_err(failed())?.st_mode);
    let missing = match kind {
        FileType::Directory => Missing::Directory,
        _ => Missing::File,
    };
    let (place, _) = place(root, asked, missing)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    propagate(source, options.propagation.unwrap_or(private))
        .and_then(|()| attach(source, &place))
        .map_err(failed())
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

/// A mount of a file system by type; returned if it is to be read-only once everything is in it.
fn file_system(
    root: BorrowedFd<'_>,
    asked: &Mount,
    mut options: Options,
    label: Option<&str>,
    processes: Option<BorrowedFd<'_>>,
) -> Result<Option<OwnedFd>, InitFailure> {
    let path = &asked.destination;
    let kind = asked.kind.as_deref().unwrap_or_default();
    let failed = |what: &str, errno| {
        InitFailure::new(
            format_args!("mount {} ({kind}): {what}", path.display()),
            errno,
        )
    };
    let (place, made) = place(root, asked, Missing::Directory)?;
    let mut data = options.data.clone();
    let mut later = false;
    if kind == "tmpfs" {
        later = options.mount_flags().contains(MountFlags::RDONLY);
        options.flags &= !libc::MS_RDONLY;
        let covered = fstat(&place).map_err(|errno| failed("stat target", errno))?;
        add_mode(
            &mut data,
            if made {
                0o1777
            } else {
                covered.st_mode & 0o7777
            },
        );
    }
    let data = labels::with_label(data, kind, label);
    if let Some(processes) = processes.filter(|_| kind == "proc") {
        let done = processes_of(processes, &data, &options, &place);
        return done.map(|()| None).map_err(|errno| failed("mount", errno));
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
    if !options.copy_up && options.propagation.is_none() && !later {
        return Ok(None);
    }
    let mounted = target::mounted_on(root, path, &place).map_err(|errno| failed("open", errno))?;
    if options.copy_up {
        tmpfs::copy_up(&place, &mounted).map_err(|errno| failed("tmpcopyup", errno))?;
    }
    if let Some(flags) = options.propagation {
        propagate(&mounted, flags).map_err(|errno| failed("set propagation", errno))?;
    }
    Ok(later.then_some(mounted))
}

/// The procfs of a PID namespace that this process is not in.
fn processes_of(
    namespace: BorrowedFd<'_>,
    data: &str,
    options: &Options,
    place: &OwnedFd,
) -> Result<(), Errno> {
    let mount = procfs::of(namespace, data, &options.attr)?;
    if let Some(flags) = options.propagation {
        propagate(&mount, flags)?;
    }
    attach(mount, place)
}

/// A tmpfs has the mode of the directory it covers, unless it is given one; everybody's if there was none.
fn add_mode(data: &mut String, mode: u32) {
    if !data.split(',').any(|word| word.starts_with("mode=")) {
        let comma = if data.is_empty() { "" } else { "," };
        data.push_str(&format!("{comma}mode={mode:o}"));
    }
}

/// The path by which mount(2) reaches a descriptor; /proc is still the host's here.
fn magic(place: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", place.as_raw_fd())
}

/// The container's own part of the cgroup tree. On v2 one mount; on v1 a tmpfs with one bind of
/// the container's cgroup for each hierarchy.
fn cgroups(place: &OwnedFd, options: &Options, cgroup: &Cgroup) -> Result<(), Errno> {
    let directories = cgroup.directories();
    if let [only] = directories.as_slice()
        && only.unified
    {
        let tree = clone_directory(&only.path)?;
        sys::mount_setattr(&tree, false, &options.attr)?;
        return attach(tree, place);
    }
    let top = tmpfs::make(&[("mode", "755"), ("size", "64k")], false)?;
    attach(&top, place)?;
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
