//! Which cgroup hierarchies this host has mounted and which controller lives in which:
//! v1 only, v2 only, or both (hybrid). Read from /proc/self/mountinfo once per process.
//!
//! Never mounts anything, and never assumes /sys/fs/cgroup (cgroups(7)).

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;

use base::mountinfo;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;

/// The interface a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// A hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A kernel controller that the specification has fields for, or whose cgroup a container joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Devices,
    Freezer,
    Io,
    Pids,
    Hugetlb,
    NetCls,
    NetPrio,
    PerfEvent,
    Rdma,
    Misc,
}

impl Controller {
    const ALL: [Controller; 14] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Devices,
        Controller::Freezer,
        Controller::Io,
        Controller::Pids,
        Controller::Hugetlb,
        Controller::NetCls,
        Controller::NetPrio,
        Controller::PerfEvent,
        Controller::Rdma,
        Controller::Misc,
    ];

    /// The kernel's name; only io has two.
    pub(crate) fn name(self, version: Version) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Io => match version {
                Version::V1 => "blkio",
                Version::V2 => "io",
            },
            Controller::Pids => "pids",
            Controller::Hugetlb => "hugetlb",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
            Controller::PerfEvent => "perf_event",
            Controller::Rdma => "rdma",
            Controller::Misc => "misc",
        }
    }

    fn parse(name: &str, version: Version) -> Option<Controller> {
        Controller::ALL
            .into_iter()
            .find(|controller| controller.name(version) == name)
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name(Version::V1))
    }
}

/// One mounted hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Where it is mounted; for messages, and for the container's own cgroup mounts.
    pub(crate) mount: PathBuf,
    /// The root directory; everything is opened relative to it.
    pub(crate) root: OwnedFd,
    pub(crate) controllers: Vec<Controller>,
}

/// All hierarchies of the host.
#[derive(Debug)]
pub(crate) struct Hierarchies {
    pub(crate) all: Vec<Hierarchy>,
}

/// A mount found in mountinfo.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    version: Version,
    mount: PathBuf,
    controllers: Vec<Controller>,
}

impl Hierarchy {
    /// Is it the v1 hierarchy of this controller (`cpu`), or of this name (`name=systemd`)?
    pub(crate) fn is_named(&self, name: &str) -> bool {
        let by_name = name.strip_prefix("name=").is_some_and(|name| {
            self.controllers.is_empty() && self.mount.file_name().is_some_and(|last| last == name)
        });
        let known = Controller::parse(name, Version::V1);
        self.version == Version::V1
            && (by_name || known.is_some_and(|known| self.controllers.contains(&known)))
    }
}

impl Hierarchies {
    /// Those of this host, read at the first call. Children made by fork(2) or clone(2) share
    /// what the parent found, whatever their mount namespace.
    pub(crate) fn of_host() -> Result<&'static Hierarchies, Error> {
        static HOST: OnceLock<Hierarchies> = OnceLock::new();
        match HOST.get() {
            Some(known) => Ok(known),
            None => {
                let found = Hierarchies::discover()?;
                Ok(HOST.get_or_init(|| found))
            }
        }
    }

    fn discover() -> Result<Hierarchies, Error> {
        // Without it the whole table is read: each pod has mounts in it, and these are older.
        let wanted = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let table = mountinfo::read_until(|table| has_all(table, &wanted));
        let table = table.map_err(|e| Error::Discover {
            path: "/proc/self/mountinfo".into(),
            errno: Errno::from_io_error(&e).unwrap_or(Errno::IO),
        })?;
        let all = find(&table)
            .into_iter()
            .map(Found::open)
            .filter_map(Result::transpose)
            .collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            Err(Error::NoHierarchy)
        } else {
            Ok(Hierarchies { all })
        }
    }

    /// The hierarchy a controller lives in, if the kernel has the controller at all.
    pub(crate) fn home(&self, controller: Controller) -> Option<usize> {
        self.all
            .iter()
            .position(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    /// The v2 hierarchy.
    pub(crate) fn unified(&self) -> Option<usize> {
        self.all
            .iter()
            .position(|hierarchy| hierarchy.version == Version::V2)
    }

    /// The v2 hierarchy alone, as on a host without v1, for tests of v2 beside v1.
    #[cfg(test)]
    pub(crate) fn unified_alone() -> Option<&'static Hierarchies> {
        let mut alone = Hierarchies::discover().ok()?;
        alone
            .all
            .retain(|hierarchy| hierarchy.version == Version::V2);
        if alone.all.is_empty() {
            None
        } else {
            Some(Box::leak(Box::new(alone)))
        }
    }

    /// Whether v2 is all there is.
    pub(crate) fn only_unified(&self) -> bool {
        self.all
            .iter()
            .all(|hierarchy| hierarchy.version == Version::V2)
    }
}

impl Found {
    /// `None` if it is a mount of something else.
    fn of(mount: mountinfo::Mount<'_>) -> Option<Found> {
        let version = match mount.kind {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let controllers = match version {
            Version::V1 => mount
                .super_options
                .split(',')
                .filter_map(|name| Controller::parse(name, version))
                .collect(),
            Version::V2 => Vec::new(),
        };
        Some(Found {
            version,
            mount: mount.point,
            controllers,
        })
    }

    /// Opens the root; `None` if the mount is hidden from us, by another mount over it or by
    /// permissions.
    fn open(self) -> Result<Option<Hierarchy>, Error> {
        let Found {
            version,
            mount,
            mut controllers,
        } = self;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        let root = match fs::open(&mount, flags, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
            Err(errno) => return Err(Error::Discover { path: mount, errno }),
        };
        if version == Version::V2 {
            let path = mount.join("cgroup.controllers");
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    return Err(Error::Discover { path, errno });
                }
            };
            controllers = unified_controllers(&text);
        }
        Ok(Some(Hierarchy {
            version,
            mount,
            root,
            controllers,
        }))
    }
}

/// What `cgroup.controllers` lists, and the three that v2 has without listing them. (Freezer and
/// devices need no enabling; cpuacct became part of the core.)
fn unified_controllers(text: &str) -> Vec<Controller> {
    let listed = text
        .split_ascii_whitespace()
        .filter_map(|name| Controller::parse(name, Version::V2));
    listed
        .chain([
            Controller::Cpuacct,
            Controller::Devices,
            Controller::Freezer,
        ])
        .collect()
}

/// Whether the table has a mount of each hierarchy that /proc/PID/cgroup lists (cgroups(7)): by its controllers
/// or name, or, with neither, v2.
fn has_all(table: &[u8], wanted: &str) -> bool {
    let mounts: Vec<_> = mountinfo::parse(table)
        .filter(|mount| matches!(mount.kind, "cgroup" | "cgroup2"))
        .collect();
    let is_there = |line: &str| {
        let names = line.split(':').nth(1).unwrap_or_default();
        mounts.iter().any(|mount| match names {
            "" => mount.kind == "cgroup2",
            names => names.split(',').all(|name| {
                mount.kind == "cgroup" && mount.super_options.split(',').any(|has| has == name)
            }),
        })
    };
    !wanted.is_empty() && wanted.lines().all(is_there)
}

/// The cgroup mounts of the table, v1 first, so that a controller's home is the hierarchy that
/// really has it. A hierarchy mounted twice counts once.
fn find(table: &[u8]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for next in mountinfo::parse(table).filter_map(Found::of) {
        let twice = found.iter().any(|known| match next.version {
            Version::V2 => known.version == Version::V2,
            Version::V1 => {
                !next.controllers.is_empty() && known.controllers == next.controllers
                    || known.mount == next.mount
            }
        });
        if !twice {
            found.push(next);
        }
    }
    found.sort_by_key(|known| known.version == Version::V2);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/unified rw shared:4 master:2 - cgroup2 cgroup2 rw,nsdelegate
34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
35 31 0:32 / /sys/fs/cgroup/block\\040io rw - cgroup cgroup rw,blkio
36 31 0:29 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn hierarchies_are_found_once_each_and_v1_first() {
        let found = find(HYBRID);
        let mounts: Vec<_> = found
            .iter()
            .map(|f| f.mount.to_str().expect("utf-8"))
            .collect();
        let dir = "/sys/fs/cgroup";
        let want =
            ["cpu,cpuacct", "systemd", "block io", "unified"].map(|name| format!("{dir}/{name}"));
        assert_eq!(mounts, want);
        assert_eq!(found[0].controllers, [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(found[1].controllers, []);
        assert_eq!(found[2].controllers, [Controller::Io]);
        assert_eq!(found[3].version, Version::V2);
    }

    #[test]
    fn the_table_is_read_until_every_hierarchy_is_in_it() {
        let wanted = "4:blkio:/x\n3:name=systemd:/\n2:cpu,cpuacct:/x\n0::/x\n";
        assert!(has_all(HYBRID, wanted));
        assert!(!has_all(HYBRID, &format!("5:memory:/\n{wanted}")));
        assert!(!has_all(HYBRID, "3:name=other:/\n"));
        assert!(!has_all(HYBRID, ""), "not known, so all of it");
        assert!(!has_all(
            b"1 2 0:3 / /c rw - cgroup2 cgroup2 rw\n",
            "1:cpu:/\n0::/\n"
        ));
    }

    #[test]
    fn v2_has_freezer_and_devices_without_listing_them() {
        let have = unified_controllers("cpuset cpu io memory pids new_one\n");
        for controller in [
            Controller::Freezer,
            Controller::Devices,
            Controller::Io,
            Controller::Pids,
        ] {
            assert!(have.contains(&controller), "{controller}");
        }
        assert!(!have.contains(&Controller::Hugetlb));
    }

    #[test]
    fn this_host_is_understood() {
        let host = Hierarchies::of_host().expect("cgroups");
        assert!(host.home(Controller::Memory).is_some());
        assert!(std::ptr::eq(host, Hierarchies::of_host().expect("cached")));
    }
}
