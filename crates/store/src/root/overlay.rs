//! overlayfs by the calls of the kernel: by descriptor where it can, by short names otherwise.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, mkdirat, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, mount, mount_change, move_mount, open_tree,
};
use rustix::process::fchdir;

use super::{Access, MountOptions};
use crate::layout::DIRECTORY;
use crate::sys;

/// mount(2) takes one page of options.
const MOUNT_DATA: usize = 4095;

/// This kernel takes layers by path only, as was found out.
static BY_PATH_ONLY: AtomicBool = AtomicBool::new(false);

/// Why there is no mount.
#[derive(Debug)]
pub(super) enum Failure {
    /// The kernel takes no descriptors of layers.
    NoDescriptors,
    /// It refused at this step.
    Kernel(&'static str, Errno),
}

pub(super) fn at(op: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |errno| Failure::Kernel(op, errno)
}

/// An overlay that is being configured (fsopen(2)).
pub(super) struct Context {
    fd: OwnedFd,
    attributes: MountAttrFlags,
}

impl Context {
    pub(super) fn new(options: &MountOptions<'_>) -> Result<Context, Failure> {
        if BY_PATH_ONLY.load(Ordering::Relaxed) {
            return Err(Failure::NoDescriptors);
        }
        let fd =
            fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("begin an overlay of"))?;
        let configured = || {
            // What mountinfo shows.
            fsconfig_set_string(fd.as_fd(), c"source", c"overlay")?;
            if options.access == Access::Volatile {
                fsconfig_set_flag(fd.as_fd(), c"volatile")?;
            }
            if let Some(label) = options.label {
                fsconfig_set_string(fd.as_fd(), c"context", label)?;
            }
            Ok(())
        };
        configured().map_err(at("configure an overlay of"))?;
        let attributes = match options.access {
            Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
            Access::Volatile | Access::Durable => MountAttrFlags::empty(),
        };
        Ok(Context { fd, attributes })
    }

    /// Names a directory; the kernel keeps it by itself.
    pub(super) fn set_directory(&self, key: &CStr, dir: BorrowedFd<'_>) -> Result<(), Failure> {
        match fsconfig_set_fd(self.fd.as_fd(), key, dir) {
            // Nothing else can be wrong with a directory that is just open, and is the first to be named:
            // before Linux 6.5 overlayfs takes no descriptor at all (EOPNOTSUPP).
            Err(Errno::INVAL | Errno::OPNOTSUPP) if key == c"lowerdir+" => {
                BY_PATH_ONLY.store(true, Ordering::Relaxed);
                Err(Failure::NoDescriptors)
            }
            other => other.map_err(at("name a directory of the overlay of")),
        }
    }

    pub(super) fn finish(self) -> Result<OwnedFd, Failure> {
        fsconfig_create(self.fd.as_fd()).map_err(at("make an overlay of"))?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        fsmount(self.fd.as_fd(), flags, self.attributes).map_err(at("mount an overlay of"))
    }
}

/// The directories of an overlay, relative to the store's root where they are in it.
pub(super) struct Names {
    /// Top first.
    pub lower: Vec<PathBuf>,
    /// Upper and work directory.
    pub writable: Option<(PathBuf, PathBuf)>,
}

/// Mounts on `target`, an absolute path, as seen from the directory `root`: by a thread with a working
/// directory of its own.
pub(super) fn mount_relative(
    root: BorrowedFd<'_>,
    target: &Path,
    names: &Names,
    options: &MountOptions<'_>,
) -> Result<(), Errno> {
    let data = data(names, options)?;
    let flags = match options.access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::Volatile | Access::Durable => MountFlags::empty(),
    };
    let target = std::path::absolute(target).map_err(|_| Errno::INVAL)?;
    std::thread::scope(|scope| {
        let mounted = scope.spawn(|| {
            sys::own_working_directory()?;
            fchdir(root)?;
            mount(c"overlay", &target, c"overlay", flags, data.as_c_str())
        });
        mounted.join().unwrap_or(Err(Errno::AGAIN))
    })
}

/// A mount that is nowhere, and the name that it gets.
pub(super) type Tree<'a> = (PathBuf, BorrowedFd<'a>);

/// A mount of an overlay of mounts that are nowhere, and is itself nowhere: made in a mount namespace that the
/// calling thread has for itself from here on, and that nobody else sees. `place` is a directory, which nothing
/// happens to. `before` is done last before the overlay is mounted.
pub(super) fn mount_hidden(
    place: &Path,
    trees: &[Tree<'_>],
    names: &Names,
    options: &MountOptions<'_>,
    before: impl FnOnce() -> Result<(), Errno>,
) -> Result<OwnedFd, Failure> {
    let flags = match options.access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::Volatile | Access::Durable => MountFlags::empty(),
    };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let attach = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let made = || {
        let data = data(names, options)?;
        sys::own_mounts()?;
        mount_change(c"/", private)?;
        mount(c"none", place, c"tmpfs", MountFlags::empty(), None)?;
        let hidden = open(place, DIRECTORY, Mode::empty())?;
        for (name, tree) in trees {
            mkdirat(&hidden, name, Mode::RWXU)?;
            move_mount(tree, c"", &hidden, name, attach)?;
        }
        mkdirat(&hidden, c"m", Mode::RWXU)?;
        fchdir(&hidden)?;
        before()?;
        mount(c"overlay", c"m", c"overlay", flags, data.as_c_str())?;
        open_tree(CWD, c"m", clone)
    };
    made().map_err(at("mount by names an overlay of"))
}

fn data(names: &Names, options: &MountOptions<'_>) -> Result<CString, Errno> {
    let mut data = b"lowerdir=".to_vec();
    for (place, name) in names.lower.iter().enumerate() {
        if place > 0 {
            data.push(b':');
        }
        escape(name, &mut data);
    }
    if let Some((upper, work)) = &names.writable {
        for (key, name) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
            data.extend_from_slice(key);
            escape(name, &mut data);
        }
    }
    if options.access == Access::Volatile {
        data.extend_from_slice(b",volatile");
    }
    if let Some(label) = options.label {
        data.extend_from_slice(format!(",context=\"{label}\"").as_bytes());
    }
    if data.len() > MOUNT_DATA {
        return Err(Errno::NAMETOOLONG);
    }
    CString::new(data).map_err(|_| Errno::INVAL)
}

/// Overlayfs splits its data at colons and commas unless they are escaped.
fn escape(path: &Path, data: &mut Vec<u8>) {
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            data.push(b'\\');
        }
        data.push(*byte);
    }
}
