//! Both ways to mount an overlay of id-mapped mounts, against the kernel: root of the user namespace owns what
//! root owns on disk, and what it writes is on disk as root's.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, CWD, open, statat};

use super::*;

const FIRST: u32 = 300_000;

/// A user namespace of 65536 ids from [`FIRST`] on.
fn users() -> OwnedFd {
    let mut holder = Command::new("unshare")
        .args(["--user", "sh", "-c", "echo here; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
    let proc = PathBuf::from(format!("/proc/{}", holder.id()));
    for file in ["uid_map", "gid_map"] {
        fs::write(proc.join(file), format!("0 {FIRST} 65536")).unwrap();
    }
    let users = fs::File::open(proc.join("ns/user")).unwrap().into();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    users
}

fn mapped(dir: &Path, users: BorrowedFd<'_>) -> OwnedFd {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, dir, flags).unwrap();
    mount_setattr(tree.as_fd(), &MountAttr::private_mapped(users)).unwrap();
    tree
}

/// What a root of the user namespace does in the mount.
fn run(mount: &OwnedFd, script: &str) -> String {
    let number = mount.as_raw_fd();
    let mut command = Command::new("sh");
    // Inherited: the directory is the mount's own.
    rustix::io::fcntl_setfd(mount, rustix::io::FdFlags::empty()).unwrap();
    command
        .args(["-ec", &format!("cd /proc/self/fd/{number}; {script}")])
        .uid(FIRST)
        .gid(FIRST);
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

fn check(way: impl Fn(&Path, &Parts, &MountOptions<'_>) -> Result<OwnedFd, Failure> + Sync) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: only root maps ids");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["lower/sub", "c/upper", "c/work", "place"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("lower/secret"), "s").unwrap();
    fs::set_permissions(at("lower/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at("lower/gone"), "").unwrap();
    fs::write(at("lower/users"), "").unwrap();
    chown(at("lower/users"), Some(1000), Some(1001)).unwrap();
    let users = users();
    let ids = MappedIds {
        users: users.as_fd(),
        root: (FIRST, FIRST),
    };
    let parts = Parts {
        lower: vec![mapped(&at("lower"), ids.users)],
        writable: Some(mapped(&at("c"), ids.users)),
    };
    let options = MountOptions {
        ids: Some(ids),
        ..MountOptions::new(Access::Volatile)
    };
    let mounted = std::thread::scope(|scope| {
        scope
            .spawn(|| way(&at("place"), &parts, &options))
            .join()
            .unwrap()
    });
    let mount = mounted.unwrap();
    let owner = |name: &str| {
        let stat = statat(&mount, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        (stat.st_uid - FIRST, stat.st_gid - FIRST)
    };
    assert_eq!(owner("users"), (1000, 1001));
    let script = "cat secret; echo more >>secret; echo new >new; rm gone; mkdir d; ln -s x link";
    assert_eq!(run(&mount, script), "s");
    assert_eq!(owner("new"), (0, 0));
    // On disk it is as it would be without a user namespace.
    for name in ["secret", "new", "d", "link"] {
        let stat = fs::symlink_metadata(at("c/upper").join(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (0, 0), "{name}");
    }
    let whiteout = fs::symlink_metadata(at("c/upper/gone")).unwrap();
    assert_eq!((whiteout.rdev(), whiteout.uid()), (0, 0));
    assert_eq!(fs::read(at("lower/secret")).unwrap(), b"s");
    // Nothing was mounted where anybody sees it.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(dir.path().to_str().unwrap()), "{table}");
    assert!(open(at("place"), DIRECTORY, Mode::empty()).is_ok());
}

#[test]
fn layers_of_other_ids_are_mounted_by_descriptor() {
    check(|_, parts, options| by_descriptors(parts, options));
}

#[test]
fn layers_of_other_ids_are_mounted_by_short_names_in_a_namespace_that_nobody_sees() {
    check(by_names);
}
