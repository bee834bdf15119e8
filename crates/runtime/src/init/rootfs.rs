//! config.md, root: the container's root file system becomes `/`. Until the switch everything is
//! done by descriptor below [`Root`], seen from the host's tree, so that nothing in the image can
//! lead out of it.
//!
//! Sources of bind mounts are cloned (open_tree(2)) before the tree is made private: the clones stay
//! peers of the host's mounts, so each gets exactly the propagation that its mount asks for.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::mountinfo;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, mount_move, move_mount, open_tree, unmount,
};

use super::mounts::{propagate, set_attributes};
use super::options::Options;
use crate::container::{NewContainer, Rootfs};
use crate::error::InitFailure;
use crate::labels;
use crate::spec::{Linux, Mount, NamespaceKind};
use crate::sys::{self, MountAttr};

/// Longer data does not fit into mount(2)'s page; then layers are named relative to their directory.
const MOUNT_DATA: usize = 4000;
const MOUNT_ATTR_RDONLY: u64 = 1;
/// So many mounts of this process may be on each other at the host's root.
const STACKED: usize = 4;

/// What a mount of config.json takes its tree from.
pub(super) enum Source<'a> {
    /// A file system type.
    Kind,
    /// A bind of this clone.
    Clone(OwnedFd),
    /// A bind of a place in the root file system itself, where an earlier mount may be: cloned when
    /// its turn comes.
    Inside {
        /// From the root on.
        path: PathBuf,
        /// Its user namespace, if it is idmapped.
        users: Option<BorrowedFd<'a>>,
    },
}

/// What is taken from the host's tree. Whoever takes it needs rights over that tree, which the root
/// of a user namespace does not have.
pub(super) struct Opened<'a> {
    /// One for each mount of config.json, by index.
    sources: Vec<Source<'a>>,
    /// A clone of the root file system; an overlay has none yet.
    tree: Option<OwnedFd>,
}

/// The root file system, mounted but not yet switched to, and the cloned sources of bind mounts.
pub(crate) struct Root<'a> {
    fd: OwnedFd,
    pub(super) sources: Vec<Source<'a>>,
    /// The host's /dev/null, to hide files with.
    pub(super) null: OwnedFd,
    /// It was mounted on the host's root itself.
    stacked: bool,
}

impl Root<'_> {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn make_read_only(&self) -> Result<(), InitFailure> {
        let attr = MountAttr {
            set: MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        sys::mount_setattr(&self.fd, false, &attr)
            .map_err(InitFailure::at("make the root read-only"))
    }
}

/// Takes everything from the host's tree. `idmaps` holds the user namespaces of idmapped mounts.
pub(super) fn open<'a>(
    new: &NewContainer<'_>,
    idmaps: &'a [Option<OwnedFd>],
) -> Result<Opened<'a>, InitFailure> {
    let users = idmaps.iter().map(|users| users.as_ref().map(AsFd::as_fd));
    let mounts = new
        .spec
        .mounts
        .iter()
        .zip(users.chain(std::iter::repeat(None)));
    let sources = mounts
        .map(|(mount, users)| source(new, mount, users))
        .collect::<Result<_, _>>()?;
    let tree = match &new.rootfs {
        Rootfs::Path(path) => {
            let path = new.bundle.join(path);
            let tree = clone_tree(&path, true).map_err(InitFailure::at(format_args!(
                "open rootfs {}",
                path.display()
            )))?;
            Some(tree)
        }
        Rootfs::Overlay { .. } | Rootfs::Mount(_) => None,
    };
    Ok(Opened { sources, tree })
}

/// Mounts the root file system in this process's mount namespace. If that is the runtime's (`own` is
/// false), nothing else of it is touched.
pub(super) fn prepare<'a>(
    new: &NewContainer<'_>,
    opened: Opened<'a>,
    own: bool,
) -> Result<Root<'a>, InitFailure> {
    if own {
        make_private()?;
    }
    let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(InitFailure::at("open /dev/null"))?;
    let mut stacked = false;
    let fd = match (&new.rootfs, opened.tree) {
        (Rootfs::Overlay { lower, upper, work }, _) => {
            let label = new.spec.linux.as_ref().and_then(labels::mount_label);
            // Over the bundle directory: nothing of it is needed any more.
            overlay(new.bundle, lower, (upper, work), label)?
        }
        (Rootfs::Mount(tree), _) => {
            // Over the bundle directory, as nothing of it is needed any more: hooks find it there.
            stacked = attach(tree, new.bundle)?;
            rustix::io::fcntl_dupfd_cloexec(tree, 3).map_err(InitFailure::at("keep the root"))?
        }
        (Rootfs::Path(path), Some(tree)) => {
            // The clone is of the host's peer group still: what is mounted in it must not get out.
            propagate(&tree, default_propagation(new.spec.linux.as_ref()))
                .map_err(InitFailure::at("set the rootfs's propagation"))?;
            stacked = attach(&tree, &new.bundle.join(path))?;
            tree
        }
        (Rootfs::Path(path), None) => {
            return Err(InitFailure::because(format!(
                "rootfs {} is not open",
                path.display()
            )));
        }
    };
    Ok(Root {
        fd,
        sources: opened.sources,
        null,
        stacked,
    })
}

/// Mounts of the host below the rootfs come in later only where rootfsPropagation says so.
fn default_propagation(linux: Option<&Linux>) -> MountPropagationFlags {
    let asked = linux
        .and_then(|linux| linux.rootfs_propagation.as_deref())
        .unwrap_or_default();
    let kind = match asked {
        "slave" | "rslave" | "shared" | "rshared" => MountPropagationFlags::DOWNSTREAM,
        _ => MountPropagationFlags::PRIVATE,
    };
    kind | MountPropagationFlags::REC
}

/// The source of a bind mount, as the host has it, with its attributes.
fn source<'a>(
    new: &NewContainer<'_>,
    asked: &Mount,
    users: Option<BorrowedFd<'a>>,
) -> Result<Source<'a>, InitFailure> {
    let options = Options::parse(asked);
    if !options.bind {
        return Ok(Source::Kind);
    }
    let path = new
        .bundle
        .join(asked.source.as_deref().unwrap_or(Path::new("")));
    if let Rootfs::Path(root) = &new.rootfs
        && let Ok(inside) = path.strip_prefix(new.bundle.join(root))
    {
        let path = Path::new("/").join(inside);
        return Ok(Source::Inside { path, users });
    }
    let clone =
        clone_tree(&path, options.recursive_bind).map_err(InitFailure::at(format_args!(
            "mount {}: open source {}",
            asked.destination.display(),
            path.display()
        )))?;
    let linux = new.spec.linux.iter().flat_map(|linux| &linux.namespaces);
    let locked = linux
        .map(|one| one.kind)
        .any(|kind| kind == NamespaceKind::User);
    set_attributes(&clone, asked, users, &path, locked)?;
    Ok(Source::Clone(clone))
}

fn clone_tree(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
}

/// From here on nothing that is mounted here is seen outside, nor the other way round.
pub(super) fn make_private() -> Result<(), InitFailure> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(InitFailure::at("make mounts private"))
}

/// Mounts the tree where it was taken from: hooks find it there. The root of a user namespace may
/// not get there; then hooks have to do without, it is on the host's root, and the answer is true.
fn attach(tree: &OwnedFd, path: &Path) -> Result<bool, InitFailure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    match move_mount(tree, c"", CWD, path, flags) {
        Err(Errno::ACCESS) => move_mount(tree, c"", CWD, "/", flags).map(|()| true),
        other => other.map(|()| false),
    }
    .map_err(InitFailure::at(format_args!(
        "mount rootfs on {}",
        path.display()
    )))
}

/// Mounts the overlay over a directory; may change the working directory.
/// `volatile`: the writable layer dies with the container, so unmounting need not sync it.
pub(crate) fn overlay(
    place: &Path,
    lower: &[PathBuf],
    (upper, work): (&Path, &Path),
    label: Option<&str>,
) -> Result<OwnedFd, InitFailure> {
    let mut layers: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
    let length: usize = layers.iter().map(|layer| layer.as_os_str().len() + 1).sum();
    let parent = layers
        .first()
        .and_then(|layer| layer.parent())
        .map(Path::to_owned);
    if let (true, Some(parent)) = (length > MOUNT_DATA / 2, parent) {
        rustix::process::chdir(&parent)
            .map_err(InitFailure::at(format_args!("chdir {}", parent.display())))?;
        for layer in &mut layers {
            *layer = layer.strip_prefix(&parent).unwrap_or(layer);
        }
    }
    let mut data = b"lowerdir=".to_vec();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            data.push(b':');
        }
        escape(layer, &mut data);
    }
    for (name, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
        data.extend_from_slice(name);
        escape(path, &mut data);
    }
    data.extend_from_slice(b",volatile");
    if let Some(label) = label {
        data.extend_from_slice(format!(",context=\"{label}\"").as_bytes());
    }
    let data =
        CString::new(data).map_err(|_| InitFailure::because("a layer's path holds a NUL byte"))?;
    mount(
        "overlay",
        place,
        "overlay",
        MountFlags::empty(),
        data.as_c_str(),
    )
    .map_err(InitFailure::at(format_args!(
        "mount overlay of {} layers",
        layers.len()
    )))?;
    rustix::fs::open(
        place,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(InitFailure::at("open overlay"))
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

/// The root file system becomes `/`, and the host's tree goes out of reach; in the runtime's own
/// mount namespace it only goes out of sight.
pub(super) fn switch(root: &Root<'_>, own: bool, no_pivot: bool) -> Result<(), InitFailure> {
    rustix::process::fchdir(root.fd()).map_err(InitFailure::at("chdir to the root"))?;
    if !own {
        rustix::process::chroot(".").map_err(InitFailure::at("chroot"))?;
    } else if no_pivot {
        cover_host_proc()?;
        mount_move(".", "/").map_err(InitFailure::at("move the root"))?;
        rustix::process::chroot(".").map_err(InitFailure::at("chroot"))?;
    } else {
        // The old root is stacked below the new one; "." still is the old one afterwards.
        rustix::process::pivot_root(".", ".").map_err(InitFailure::at("pivot_root"))?;
        unmount(".", UnmountFlags::DETACH).map_err(InitFailure::at("unmount the old root"))?;
        if root.stacked {
            uncover(root)?;
        }
    }
    rustix::process::chdir("/").map_err(InitFailure::at("chdir /"))
}

/// Unmounts what is still on the root: what was mounted on the host's root itself was on top of it and went
/// first. Whoever joins the mount namespace later would find himself in the host's tree.
fn uncover(root: &Root<'_>) -> Result<(), InitFailure> {
    let failed = || InitFailure::at("unmount the old root");
    let id = |dir, path: &CStr, flags| {
        statx(dir, path, flags, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id)
    };
    let own = id(root.fd(), c"", AtFlags::EMPTY_PATH).map_err(failed())?;
    // Above the root is the root again, with all that is mounted on it.
    let top = || id(CWD, c"/..", AtFlags::empty()).map_err(failed());
    for _ in 0..STACKED {
        if top()? == own {
            return Ok(());
        }
        unmount(".", UnmountFlags::DETACH).map_err(failed())?;
    }
    match top()? == own {
        true => Ok(()),
        false => Err(InitFailure::because(
            "the host's root stays on the container's",
        )),
    }
}

/// The tree once more, on top of itself, for the first goes with the old root. Kernels from 6.8 on list
/// mounts as they were made, and sources of binds were cloned first: in the copy each comes after the one
/// that it is mounted in, as programs expect. What is opened before is of the first. A copy lacks what is
/// unbindable: then there is none.
pub(super) fn in_order<'a>(
    root: Root<'a>,
    own: bool,
    new: &NewContainer<'_>,
) -> Result<Root<'a>, InitFailure> {
    let unbindable = |mount: &Mount| {
        let propagation = Options::parse(mount).propagation;
        propagation.is_some_and(|kind| kind.contains(MountPropagationFlags::UNBINDABLE))
    };
    if !own || new.no_pivot || new.spec.mounts.iter().any(unbindable) {
        return Ok(root);
    }
    let failed = || InitFailure::at("clone the root with its mounts");
    let tree = sys::open_tree_fd(root.fd(), true).map_err(failed())?;
    // From here on what becomes of the first tree is seen nowhere: it is unmounted, and mounts of the host
    // that it shares would be unmounted with it.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    propagate(root.fd(), private).map_err(failed())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, c"", root.fd(), c"", flags).map_err(failed())?;
    Ok(Root { fd: tree, ..root })
}

/// Without pivot_root(2) the host's tree stays below the new root. A /proc or /sys of it that is
/// wholly visible would let a user namespace inside mount one of its own: away with them. One that
/// this process may not unmount is covered.
fn cover_host_proc() -> Result<(), InitFailure> {
    let failed = || InitFailure::at("unmount the host's /proc and /sys");
    let table = mountinfo::read()
        .map_err(|e| InitFailure::because(format!("read /proc/self/mountinfo: {e}")))?;
    let here = rustix::process::getcwd(Vec::new()).map_err(failed())?;
    let here = Path::new(OsStr::from_bytes(here.to_bytes()));
    let hosts = |mount: &mountinfo::Mount<'_>| {
        matches!(mount.kind, "proc" | "sysfs") && !mount.point.starts_with(here)
    };
    for point in mountinfo::parse(&table).filter(hosts).map(|one| one.point) {
        match unmount(&point, UnmountFlags::DETACH) {
            // What was mounted on another that is gone by now is gone too.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::INVAL | Errno::PERM) => {
                let flags = MountFlags::RDONLY;
                mount("tmpfs", &point, "tmpfs", flags, c"nr_blocks=1,nr_inodes=1")
                    .map_err(failed())?;
            }
            Err(errno) => return Err(failed()(errno)),
        }
    }
    Ok(())
}

/// config-linux.md, rootfsPropagation; private if it says nothing.
pub(super) fn propagation(linux: &Linux) -> Result<(), InitFailure> {
    let Some(text) = linux
        .rootfs_propagation
        .as_deref()
        .filter(|text| !text.is_empty())
    else {
        return Ok(());
    };
    let flags = super::options::propagation(text).ok_or_else(|| {
        InitFailure::because(format!("linux.rootfsPropagation: {text:?} is none"))
    })?;
    mount_change("/", flags).map_err(InitFailure::at(format_args!(
        "set rootfsPropagation {text}"
    )))
}
