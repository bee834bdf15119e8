//! SELinux: the files of a mount get a label that its container may use (CRI Mount.selinux_relabel).
//!
//! What is in a volume is hostile: no link is followed, no other file system is entered, and depth and time have a
//! limit. A place that has the label already is left as it is, as what is made in it inherits that.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::XattrFlags;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, lgetxattr, lsetxattr, openat};
use rustix::io::Errno;

use super::Inputs;
use super::mounts::Source;
use crate::error::{Error, Result};

/// The attribute that holds the label of a file.
const LABEL: &str = "security.selinux";
/// Directories below each other.
const MOST_DEEP: usize = 256;
/// How long one request may take for it.
const LIMIT: Duration = Duration::from_secs(60);
/// What the node itself lives on: with a container's label nothing would work any more.
const SYSTEM: [&str; 20] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var",
];

/// Gives the sources of the mounts that ask for it the label of the container's files.
pub(super) fn relabel(inputs: &Inputs<'_>, sources: &[Source], label: &str) -> Result<()> {
    let until = Instant::now() + LIMIT;
    let asked = inputs.container.spec.mounts.iter().zip(sources);
    for (mount, source) in asked.filter(|(mount, _)| mount.selinux_relabel && mount.image.is_none())
    {
        let refused = |reason: String| {
            let field = format!("mounts[{}].selinux_relabel", mount.container_path.display());
            Error::invalid(field, format!("{}: {reason}", mount.host_path.display()))
        };
        let path = &source.path;
        if SYSTEM.iter().any(|system| path == Path::new(system)) {
            return Err(refused(
                "a directory of the node's own keeps its labels".into(),
            ));
        }
        tree(path, LABEL, label, until).map_err(refused)?;
    }
    Ok(())
}

/// Sets an attribute of all that is at and below a path, on one file system.
fn tree(path: &Path, attribute: &str, label: &str, until: Instant) -> Result<(), String> {
    let failed = |at: &Path| {
        let at = at.display().to_string();
        move |errno: Errno| format!("{at}: {errno}")
    };
    if has(path, attribute, label) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut open: Vec<(OwnedFd, Vec<OsString>)> = Vec::new();
    let root = match openat(CWD, path, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOTDIR) => return set(path, attribute, label).map_err(failed(path)),
        Err(errno) => return Err(failed(path)(errno)),
    };
    let device = fstat(&root).map_err(failed(path))?.st_dev;
    let directories = |dir: &OwnedFd| entries(dir, attribute, label).map_err(failed(path));
    open.push((
        root.try_clone().map_err(|error| error.to_string())?,
        directories(&root)?,
    ));
    while let Some((dir, names)) = open.last_mut() {
        if Instant::now() > until {
            return Err(format!("takes more than {} s", LIMIT.as_secs()));
        }
        let Some(name) = names.pop() else {
            open.pop();
            continue;
        };
        let below = match openat(&*dir, &name, flags, Mode::empty()) {
            Ok(below) => below,
            // Gone, or another thing now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(failed(path)(errno)),
        };
        if fstat(&below).map_err(failed(path))?.st_dev != device {
            continue;
        }
        if open.len() >= MOST_DEEP {
            return Err(format!("has directories more than {MOST_DEEP} deep"));
        }
        let names = directories(&below)?;
        open.push((below, names));
    }
    // Last: whoever was killed in between begins anew.
    set(path, attribute, label).map_err(failed(path))
}

/// Labels what is in a directory; those of it that are directories.
fn entries(dir: &OwnedFd, attribute: &str, label: &str) -> Result<Vec<OsString>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let name = OsString::from_vec(name.to_vec());
        match set(&inside(dir, &name), attribute, label) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Links and special files take no attribute of users.
            Err(Errno::PERM | Errno::OPNOTSUPP) if entry.file_type() != FileType::RegularFile => {}
            Err(errno) => return Err(errno),
        }
        // Some file systems do not say.
        if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            found.push(name);
        }
    }
    Ok(found)
}

/// A name in an open directory, wherever that has been moved.
fn inside(dir: &OwnedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name)
}

fn set(path: &Path, attribute: &str, label: &str) -> Result<(), Errno> {
    lsetxattr(path, attribute, label.as_bytes(), XattrFlags::empty())
}

fn has(path: &Path, attribute: &str, label: &str) -> bool {
    let mut found = vec![0; label.len() + 2];
    lgetxattr(path, attribute, &mut found).is_ok_and(|length| {
        // The kernel's have a zero byte at the end.
        found[..length]
            .strip_suffix(b"\0")
            .unwrap_or(&found[..length])
            == label.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRIBUTE: &str = "user.floe.label";

    fn later() -> Instant {
        Instant::now() + LIMIT
    }

    #[test]
    fn all_of_a_tree_gets_the_label_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("volume/a/b")).unwrap();
        std::fs::create_dir(at("beside")).unwrap();
        for file in ["volume/one", "volume/a/b/two", "beside/secret"] {
            std::fs::write(at(file), "x").unwrap();
        }
        std::os::unix::fs::symlink(at("beside"), at("volume/a/link")).unwrap();
        std::os::unix::fs::symlink(at("beside/secret"), at("volume/file-link")).unwrap();
        tree(&at("volume"), ATTRIBUTE, "c1", later()).unwrap();
        for labelled in [
            "volume",
            "volume/one",
            "volume/a",
            "volume/a/b",
            "volume/a/b/two",
        ] {
            assert!(has(&at(labelled), ATTRIBUTE, "c1"), "{labelled}");
        }
        for other in ["beside", "beside/secret"] {
            assert!(!has(&at(other), ATTRIBUTE, "c1"), "{other}");
        }
        // What has it is left as it is.
        std::fs::write(at("volume/new"), "x").unwrap();
        tree(&at("volume"), ATTRIBUTE, "c1", later()).unwrap();
        assert!(!has(&at("volume/new"), ATTRIBUTE, "c1"));
        tree(&at("volume"), ATTRIBUTE, "c2", later()).unwrap();
        assert!(has(&at("volume/new"), ATTRIBUTE, "c2"));
        tree(&at("volume/one"), ATTRIBUTE, "c3", later()).unwrap();
        assert!(has(&at("volume/one"), ATTRIBUTE, "c3"));
        assert!(tree(&at("nothing"), ATTRIBUTE, "c1", later()).is_err());
    }

    #[test]
    fn a_tree_that_is_deep_or_takes_long_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let deep: PathBuf = (0..MOST_DEEP + 1).map(|_| "d").collect();
        std::fs::create_dir_all(dir.path().join(deep)).unwrap();
        let refused = tree(dir.path(), ATTRIBUTE, "c1", later()).unwrap_err();
        assert!(refused.contains("deep"), "{refused}");
        let refused = tree(dir.path(), ATTRIBUTE, "c1", Instant::now()).unwrap_err();
        assert!(refused.contains("takes more than"), "{refused}");
    }
}
