//! What a container with a user namespace may not take from the host's mounts: ro, nosuid, nodev, noexec
//! and how access times are kept. The kernel locks these when a user namespace copies a mount
//! (mount_namespaces(7)); a source that was cloned with the host's rights has no locks, so that they
//! are held here: flags stay, and a request to clear one is refused.

use std::os::fd::OwnedFd;
use std::path::Path;

use base::mountinfo;
use rustix::fs::{StatVfsMountFlags, fstatvfs};

use super::options::{ATIME_MASK, NODIRATIME, Options};
use crate::sys::MountAttr;

/// (attribute, how it is set, how it is cleared)
const LOCKED: [(u64, &str, &str); 4] = [
    (0x1, "ro", "rw"),
    (0x2, "nosuid", "suid"),
    (0x4, "nodev", "dev"),
    (0x8, "noexec", "exec"),
];
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;

/// Attributes of one mount, as mount_setattr(2) has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flags(u64);

impl Flags {
    fn of(mount: &OwnedFd) -> Result<Self, String> {
        let found = fstatvfs(mount).map_err(|errno| errno.to_string())?.f_flag;
        let has = |flag, attr| if found.contains(flag) { attr } else { 0 };
        let flags = has(StatVfsMountFlags::RDONLY, 0x1)
            | has(StatVfsMountFlags::NOSUID, 0x2)
            | has(StatVfsMountFlags::NODEV, 0x4)
            | has(StatVfsMountFlags::NOEXEC, 0x8)
            | has(StatVfsMountFlags::NODIRATIME, NODIRATIME);
        let times = [StatVfsMountFlags::NOATIME, StatVfsMountFlags::RELATIME];
        Ok(Self(
            flags | times_of(times.map(|flag| found.contains(flag))),
        ))
    }

    /// Of the sixth field of a line of mountinfo.
    fn parse(options: &str) -> Self {
        let has = |word: &str| options.split(',').any(|option| option == word);
        let plain = LOCKED.iter().filter(|(_, word, _)| has(word));
        let plain = plain.fold(0, |flags, (attr, ..)| flags | attr);
        let directories = if has("nodiratime") { NODIRATIME } else { 0 };
        Self(plain | directories | times_of(["noatime", "relatime"].map(has)))
    }

    /// Is anything locked that `attr` clears or changes?
    fn refuse(self, attr: &MountAttr) -> Result<(), String> {
        let cleared = LOCKED
            .iter()
            .find(|(flag, ..)| self.0 & flag & attr.clear != 0);
        if let Some((_, flag, word)) = cleared {
            return Err(format!(
                "{word}: the host's mount is {flag}, which stays so in a user namespace"
            ));
        }
        let times = (attr.clear | attr.set) & (ATIME_MASK | NODIRATIME);
        if (self.0 ^ attr.set) & times != 0 {
            return Err(
                "access times stay as the host's mount keeps them in a user namespace".into(),
            );
        }
        Ok(())
    }
}

fn times_of([none, relative]: [bool; 2]) -> u64 {
    match (none, relative) {
        (true, _) => NOATIME,
        (false, true) => 0,
        (false, false) => STRICTATIME,
    }
}

/// The attributes for the clone `source` of the mount at `path`, of which nothing takes a locked flag away.
pub(super) fn keep(source: &OwnedFd, path: &Path, options: &Options) -> Result<MountAttr, String> {
    let flags = Flags::of(source)?;
    flags.refuse(&options.attr_asked())?;
    let recursive = &options.recursive_attr;
    if recursive.clear != 0 {
        flags.refuse(recursive)?;
        below(path)?
            .iter()
            .try_for_each(|flags| flags.refuse(recursive))?;
    }
    let mut attr = options.bind_attributes();
    attr.clear &= !(LOCKED.iter().fold(0, |all, (flag, ..)| all | flag) & flags.0);
    Ok(attr)
}

/// Of the mounts of the caller's namespace at a path and below it.
fn below(path: &Path) -> Result<Vec<Flags>, String> {
    let path = path.canonicalize().map_err(|error| error.to_string())?;
    let table = mountinfo::read().map_err(|error| error.to_string())?;
    let below = mountinfo::parse(&table).filter(|mount| mount.point.starts_with(&path));
    Ok(below.map(|mount| Flags::parse(mount.options)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_flag_is_neither_cleared_nor_are_access_times_changed() {
        let flags = Flags::parse("ro,nosuid,relatime");
        let clears = |clear| MountAttr {
            clear,
            ..MountAttr::default()
        };
        assert!(flags.refuse(&clears(0x1)).unwrap_err().starts_with("rw: "));
        assert!(
            flags
                .refuse(&clears(0x2))
                .unwrap_err()
                .starts_with("suid: ")
        );
        assert_eq!(flags.refuse(&clears(0x4 | 0x8)), Ok(()));
        // relatime is what it has.
        assert_eq!(flags.refuse(&clears(ATIME_MASK)), Ok(()));
        let none = MountAttr {
            set: NOATIME,
            clear: ATIME_MASK,
            ..MountAttr::default()
        };
        assert!(flags.refuse(&none).unwrap_err().contains("access times"));
        assert_eq!(Flags::parse("rw,noatime").refuse(&none), Ok(()));
    }
}
