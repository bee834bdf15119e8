//! config-linux.md, devices: the nodes every container has, those that config.json adds, and the
//! links in /dev. Made with mknod(2); where that is not allowed, the host's node is bound.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, Uid, chmod, chownat, fstat, makedev, mknodat,
    openat, statat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mounts::attach;
use super::target::{self, Missing};
use crate::error::InitFailure;
use crate::spec::{Device, Linux, Mount};

/// (path, major, minor)
const DEFAULT: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Is the container's /dev the host's? Then nothing is made in it.
pub(super) fn is_bound(mounts: &[Mount]) -> bool {
    mounts.iter().any(|mount| {
        let bind = mount.kind.as_deref() == Some("bind")
            || mount.options.iter().any(|o| o == "bind" || o == "rbind");
        bind && mount
            .destination
            .components()
            .eq(Path::new("/dev").components())
    })
}

/// Where nodes are made.
pub(crate) fn paths(linux: &Linux) -> Vec<PathBuf> {
    let defaults = DEFAULT.iter().map(|(path, ..)| PathBuf::from(path));
    let mut all: Vec<PathBuf> = linux
        .devices
        .iter()
        .map(|device| device.path.clone())
        .collect();
    all.extend(defaults.filter(|path| !linux.devices.iter().any(|one| one.path == *path)));
    all
}

/// Makes all nodes and links.
pub(super) fn create(root: BorrowedFd<'_>, linux: &Linux) -> Result<(), InitFailure> {
    let dev = target::open_or_make_plain(root, Path::new("/dev"), Missing::Directory);
    dev.map_err(|errno| match errno {
        Errno::LOOP => InitFailure::because(
            "make devices: /dev must be an ordinary directory, not a symbolic link of the image",
        ),
        errno => InitFailure::new("make /dev", errno),
    })?;
    let before = rustix::process::umask(Mode::empty());
    let made = nodes(root, linux).and_then(|()| links(root));
    rustix::process::umask(before);
    made
}

fn nodes(root: BorrowedFd<'_>, linux: &Linux) -> Result<(), InitFailure> {
    let asked = |path: &str| {
        linux
            .devices
            .iter()
            .any(|device| device.path == Path::new(path))
    };
    let defaults = DEFAULT
        .iter()
        .filter(|(path, ..)| !asked(path))
        .map(|(path, major, minor)| Device {
            path: PathBuf::from(path),
            kind: "c".into(),
            major: Some(*major),
            minor: Some(*minor),
            ..Device::default()
        });
    for device in defaults.chain(linux.devices.iter().cloned()) {
        node(root, &device).map_err(InitFailure::at(format_args!(
            "make device {}",
            device.path.display()
        )))?;
    }
    Ok(())
}

fn node(root: BorrowedFd<'_>, device: &Device) -> Result<(), Errno> {
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => return Err(Errno::INVAL),
    };
    let number = |value: Option<i64>| u32::try_from(value.unwrap_or(0)).map_err(|_| Errno::INVAL);
    let rdev = makedev(number(device.major)?, number(device.minor)?);
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    let (parent, name) = target::make_parent(root, &device.path)?;
    match mknodat(&parent, &name, kind, mode, rdev) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = FileType::from_raw_mode(there.st_mode) == kind
                && (kind == FileType::Fifo || there.st_rdev == rdev);
            return if same { Ok(()) } else { Err(Errno::EXIST) };
        }
        Err(Errno::PERM) => return bind_host_node(root, device),
        Err(errno) => return Err(errno),
    }
    finish(&parent, &name, device, (kind, rdev), mode)
}

/// Owner and mode of a node that was just made. Whoever writes to the same directory may have put a link in
/// its place by now, so that it is opened as it is and looked at first.
fn finish(
    parent: &OwnedFd,
    name: &OsStr,
    device: &Device,
    (kind, rdev): (FileType, Dev),
    mode: Mode,
) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = openat(parent, name, flags, Mode::empty())?;
    let there = fstat(&node)?;
    if FileType::from_raw_mode(there.st_mode) != kind || there.st_rdev != rdev {
        return Err(Errno::STALE);
    }
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    chownat(
        &node,
        c"",
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::EMPTY_PATH,
    )?;
    // The umask is empty, but the change of owner takes some bits away.
    if fstat(&node)?.st_mode & 0o7777 == mode.as_raw_mode() {
        return Ok(());
    }
    chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), mode)
}

fn bind_host_node(root: BorrowedFd<'_>, device: &Device) -> Result<(), Errno> {
    let source = open_tree(
        CWD,
        &device.path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    // The host may have another one at that path, or none: it is no device then, but some file.
    if device.kind != "p" {
        let there = fstat(&source)?;
        let number = |value: Option<i64>| u32::try_from(value.unwrap_or(0)).unwrap_or(u32::MAX);
        if there.st_rdev != makedev(number(device.major), number(device.minor)) {
            return Err(Errno::NODEV);
        }
    }
    let (place, _) = target::open_or_make(root, &device.path, Missing::File)?;
    attach(source, place)
}

fn links(root: BorrowedFd<'_>) -> Result<(), InitFailure> {
    let dev = target::open(root, Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY)
        .map_err(InitFailure::at("open /dev"))?;
    for (target, name) in LINKS {
        match symlinkat(target, dev.as_fd(), name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(InitFailure::new(format_args!("link /dev/{name}"), errno)),
        }
    }
    Ok(())
}
