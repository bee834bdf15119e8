//! config-linux.md, intelRdt: a group of the resctrl file system with the container's share of cache
//! and memory bandwidth, and its monitoring group.
//!
//! A group that somebody else made (a class of service named by `closID`) is joined and never removed.

use std::io;
use std::path::{Path, PathBuf};

use base::mountinfo;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::IntelRdt;

const FIELD: &str = "linux.intelRdt";

/// Where the resctrl file system is mounted on this host, if it is.
fn root() -> Option<PathBuf> {
    let table = mountinfo::read().ok()?;
    let found = mountinfo::parse(&table).find(|mount| mount.kind == "resctrl")?;
    Some(found.point)
}

/// The group of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    path: PathBuf,
    /// Made for this container alone.
    own: bool,
    monitor: Option<PathBuf>,
}

/// Refuses what this host does not have.
pub(crate) fn check(rdt: &IntelRdt) -> Result<()> {
    if root().is_none() {
        let reason = "intelRdt is specified in config, but Intel RDT is not supported or enabled";
        return Err(Error::invalid(FIELD, reason));
    }
    match rdt.clos_id.as_deref() {
        Some(id) if id == "." || id == ".." || id.contains(['/', '\n']) => {
            let reason = format!("{id:?} is no name of a group");
            Err(Error::invalid(format!("{FIELD}.closID"), reason))
        }
        _ => Ok(()),
    }
}

impl Group {
    /// Makes or finds the group of the container `id`, with the schemata asked for.
    ///
    /// # Errors
    /// No resctrl on this host, a `closID` that has to exist and does not, or what the kernel says;
    /// nothing is left then.
    pub fn make(id: &str, rdt: &IntelRdt) -> Result<Self> {
        check(rdt)?;
        let Some(root) = root() else {
            return Err(Error::invalid(FIELD, "resctrl is not mounted"));
        };
        Self::make_in(&root, id, rdt)
    }

    fn make_in(root: &Path, id: &str, rdt: &IntelRdt) -> Result<Self> {
        let clos = rdt.clos_id.as_deref().filter(|clos| !clos.is_empty());
        let path = root.join(clos.unwrap_or(id));
        let schemata = schemata(rdt);
        if clos.is_some() && schemata.is_empty() && !path.exists() {
            let reason = "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty)";
            return Err(Error::invalid(format!("{FIELD}.closID"), reason));
        }
        let made = make_directory(root, &path)?;
        let group = Self {
            own: made && clos.is_none(),
            monitor: rdt
                .enable_monitoring
                .then(|| path.join("mon_groups").join(id)),
            path,
        };
        let done = group.set(root, &schemata).and_then(|()| {
            let monitor = group.monitor.as_deref();
            monitor.map_or(Ok(()), |path| make_directory(root, path).map(drop))
        });
        if let Err(error) = done {
            // The failure is what the caller hears of.
            let _ = if made {
                std::fs::remove_dir(&group.path)
            } else {
                Ok(())
            };
            return Err(error);
        }
        Ok(group)
    }

    /// Changes the schemata that are given.
    ///
    /// # Errors
    /// No resctrl on this host, or what the kernel says.
    pub fn update(&self, rdt: &IntelRdt) -> Result<()> {
        check(rdt)?;
        let root = root().unwrap_or_default();
        self.set(&root, &schemata(rdt))
    }

    fn set(&self, root: &Path, schemata: &[&str]) -> Result<()> {
        if schemata.is_empty() {
            return Ok(());
        }
        let text = format!("{}\n", schemata.join("\n"));
        let path = self.path.join("schemata");
        std::fs::write(&path, text).map_err(|error| told(root, "write", &path, &error))
    }

    /// Puts a process, and what it forks from now on, into the group.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&self, pid: i32) -> Result<()> {
        for directory in [Some(&self.path), self.monitor.as_ref()]
            .into_iter()
            .flatten()
        {
            let path = directory.join("tasks");
            std::fs::write(&path, pid.to_string()).map_err(|source| Error::Io {
                operation: "write",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// Removes what was made for the container; succeeds if it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&self) -> Result<()> {
        // A monitoring group goes with the group that it is in.
        let path = match (self.own, &self.monitor) {
            (true, _) => &self.path,
            (false, Some(monitor)) => monitor,
            (false, None) => return Ok(()),
        };
        match std::fs::remove_dir(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
                operation: "remove",
                path: path.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// All lines for the file `schemata`, in the order that the specification gives.
fn schemata(rdt: &IntelRdt) -> Vec<&str> {
    let single = [rdt.l3_cache_schema.as_deref(), rdt.mem_bw_schema.as_deref()];
    let lines = single.into_iter().flatten();
    let lines = lines.chain(rdt.schemata.iter().map(String::as_str));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

/// Makes a group's directory; tells whether it is new.
fn make_directory(root: &Path, path: &Path) -> Result<bool> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(told(root, "make", path, &error)),
    }
}

/// An error with the kernel's own explanation, which it keeps in a file.
fn told(root: &Path, verb: &str, path: &Path, error: &io::Error) -> Error {
    let status = std::fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
    let text = format!("{verb} {}: {error} ({})", path.display(), status.trim());
    Error::invalid(FIELD, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("floe-rdt-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_group_of_its_own_gets_its_schemata_and_goes() {
        let root = Root::new("own");
        let rdt = IntelRdt {
            l3_cache_schema: Some("L3:0=f".into()),
            mem_bw_schema: Some("MB:0=50".into()),
            schemata: vec!["L2:0=3".into()],
            ..IntelRdt::default()
        };
        let group = Group::make_in(&root.0, "c1", &rdt).unwrap();
        group.add(42).unwrap();
        let read = |name| std::fs::read_to_string(root.0.join("c1").join(name)).unwrap();
        assert_eq!(read("schemata"), "L3:0=f\nMB:0=50\nL2:0=3\n");
        assert_eq!(read("tasks"), "42");
        // In the real file system the files go with their directory.
        for file in ["schemata", "tasks"] {
            std::fs::remove_file(root.0.join("c1").join(file)).unwrap();
        }
        group.remove().unwrap();
        assert!(!root.0.join("c1").exists());
        group.remove().unwrap();
    }

    #[test]
    fn a_class_of_somebody_else_is_joined_and_stays() {
        let root = Root::new("clos");
        let rdt = IntelRdt {
            clos_id: Some("gold".into()),
            ..IntelRdt::default()
        };
        let error = Group::make_in(&root.0, "c1", &rdt).unwrap_err().to_string();
        assert!(error.contains("must be pre-created"), "{error}");
        std::fs::create_dir(root.0.join("gold")).unwrap();
        let group = Group::make_in(&root.0, "c1", &rdt).unwrap();
        group.remove().unwrap();
        assert!(root.0.join("gold").exists());
    }
}
