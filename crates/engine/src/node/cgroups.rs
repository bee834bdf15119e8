//! Who makes the node's cgroups, and the one place where cgroups of pods get their names.
//!
//! | | cgroupfs | systemd |
//! | --- | --- | --- |
//! | a pod's, as kubelet gives it | `/kubepods/burstable/podUID` | `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice`, or the last name alone |
//! | a pod's of floe's own | `/floe/pod-ID` | `/floe.slice/floe-podID.slice` |
//! | a container's or supervisor's in it | `crio-ID` | `crio-ID.scope` |
//!
//! The names of members are CRI-O's, by which tools know them, unless `crio.compat.cgroup_prefix` has another
//! word; a pod keeps the one with which it was made. What a path is made by is
//! seen by the path ([`runtime::cgroup::Unit::at`]): records need not say it, and pods of both managers
//! live side by side.

use runtime::cgroup::Unit;
use serde_json::{Value, json};

use super::Privileges;
use crate::config::{CgroupManager, Runtime};
use crate::error::{Error, Result};

const SLICE: &str = ".slice";
/// What the names of pods' cgroups of floe's own begin with, and those of members never.
pub(crate) const OWN_PREFIX: &str = "pod";
/// What the names of members begin with where no record says.
pub(crate) const DEFAULT_PREFIX: &str = "crio";

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// floe writes to the cgroup file system.
    Cgroupfs,
    /// systemd makes slices and scopes.
    Systemd,
}

impl Manager {
    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

/// Which cgroups the kernel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy per controller, with or without the unified one beside.
    V1,
    /// The unified hierarchy alone.
    V2,
}

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) version: Version,
    /// systemd is the node's init, and ours to ask.
    pub(super) systemd: bool,
}

impl Found {
    pub(super) fn here(privileges: &Privileges) -> Self {
        let ours = privileges.is_root() && !privileges.in_user_namespace();
        Self {
            version: match runtime::cgroup::is_unified() {
                true => Version::V2,
                false => Version::V1,
            },
            systemd: ours && runtime::cgroup::is_systemd_running(),
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Cgroups {
    version: Version,
    manager: Manager,
    /// Of pods that name no parent; a slice's path with systemd.
    parent: String,
}

impl Cgroups {
    /// The configured manager, or the node's: systemd where that runs.
    ///
    /// # Errors
    /// A manager that is not there, or a parent that is not the manager's, in words.
    pub(super) fn choose(config: &Runtime, found: Found) -> Result<Self, String> {
        let manager = match config.cgroup_manager {
            CgroupManager::Cgroupfs => Manager::Cgroupfs,
            CgroupManager::Unset if !found.systemd => Manager::Cgroupfs,
            CgroupManager::Systemd if !found.systemd => {
                return Err(
                    "cgroup_manager: \"systemd\", but systemd is not what runs this node: \
                     use \"cgroupfs\" (and cgroupDriver: cgroupfs in kubelet)"
                        .into(),
                );
            }
            CgroupManager::Systemd | CgroupManager::Unset => Manager::Systemd,
        };
        let mut chosen = Self {
            version: found.version,
            manager,
            parent: String::new(),
        };
        let parent = match (config.cgroup_parent.as_str(), manager) {
            ("", Manager::Cgroupfs) => "/floe",
            ("", Manager::Systemd) => "floe.slice",
            (parent, _) => parent,
        };
        chosen.parent = chosen
            .placed(parent)
            .map_err(|reason| format!("cgroup_parent: {reason}"))?;
        Ok(chosen)
    }

    /// Which cgroups the kernel shows.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Who makes them.
    #[must_use]
    pub fn manager(&self) -> Manager {
        self.manager
    }

    /// The cgroup of a pod that names none.
    pub(crate) fn own_pod(&self, id: &str) -> String {
        let parent = &self.parent;
        match Unit::at(parent) {
            // The name of a slice tells where it is.
            Some(unit) => {
                let stem = unit.name().trim_end_matches(SLICE);
                format!("{parent}/{stem}-pod{id}{SLICE}")
            }
            None => format!("{parent}/{OWN_PREFIX}-{id}"),
        }
    }

    /// Where the cgroup is that a pod's request names.
    ///
    /// # Errors
    /// One of the other manager's.
    pub(crate) fn of_request(&self, parent: &str) -> Result<String> {
        self.placed(parent)
            .map_err(|reason| Error::invalid("cgroup_parent", reason))
    }

    /// Where a parent is: as it is given, or with systemd where that puts the slice of the last name.
    fn placed(&self, parent: &str) -> Result<String, String> {
        let last = parent.trim_end_matches('/').rsplit('/').next();
        let last = last.unwrap_or_default();
        match (self.manager, last.ends_with(SLICE)) {
            (Manager::Cgroupfs, false) => Ok(parent.to_owned()),
            (Manager::Cgroupfs, true) => Err(format!(
                "{parent:?} is a slice of systemd's, and cgroup_manager is \"cgroupfs\": \
                 kubelet's cgroupDriver must be the same"
            )),
            (Manager::Systemd, false) => Err(format!(
                "{parent:?} is not a slice, and cgroup_manager is \"systemd\": \
                 kubelet's cgroupDriver must be the same"
            )),
            (Manager::Systemd, true) => match runtime::cgroup::slice_path(last) {
                Some(path) if !path.is_empty() => Ok(format!("/{path}")),
                _ => Err(format!("{parent:?}: systemd has no slice of this name")),
            },
        }
    }

    pub(super) fn report(&self) -> Value {
        json!({
            "version": match self.version { Version::V1 => 1, Version::V2 => 2 },
            "manager": self.manager.name(),
            "parent": self.parent,
        })
    }
}

/// The cgroup of a container or supervisor in its pod's.
pub(crate) fn member(pod: &str, prefix: &str, id: &str) -> String {
    match Unit::at(pod) {
        Some(_) => format!("{pod}/{prefix}-{id}.scope"),
        None => format!("{pod}/{prefix}-{id}"),
    }
}

/// What the name of a member's cgroup begins with.
pub(crate) fn prefix_of<'a>(cgroup: &'a str, id: &str) -> &'a str {
    let name = cgroup.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let prefix = name
        .strip_suffix(id)
        .and_then(|name| name.strip_suffix('-'));
    prefix.unwrap_or(DEFAULT_PREFIX)
}

/// `linux.cgroupsPath` of a container whose cgroup that is.
pub(crate) fn cgroups_path(cgroup: &str) -> String {
    let named = Unit::at(cgroup).and_then(|unit| unit.cgroups_path());
    named.unwrap_or_else(|| cgroup.to_owned())
}

/// What a program is told of the unit of a container, if it has one: systemd forgets it by itself, also when
/// it has failed, and the processes are in its own cgroup.
pub(crate) fn of_unit(cgroup: &str) -> &'static [(&'static str, &'static str)] {
    match Unit::at(cgroup) {
        Some(_) => &[
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("run.oci.systemd.subgroup", ""),
        ],
        None => &[],
    }
}

/// What kubelet says of the grace of a container's pod, in seconds.
const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// What an OCI program is told of a container's unit for the node's shutdown, as CRI-O does it: it is stopped then,
/// before the engine is, with the grace of its pod. The built-in runtime heeds no annotation of a unit.
pub(crate) fn at_shutdown(
    cgroup: &str,
    annotations: &std::collections::BTreeMap<String, String>,
) -> Vec<(&'static str, String)> {
    if Unit::at(cgroup).is_none() {
        return Vec::new();
    }
    let mut told = vec![
        (
            "org.systemd.property.DefaultDependencies",
            "true".to_owned(),
        ),
        ("org.systemd.property.After", "['floe.service']".to_owned()),
    ];
    let seconds = annotations
        .get(GRACE)
        .and_then(|text| text.parse::<u32>().ok());
    if let Some(seconds) = seconds {
        let micros = u64::from(seconds) * 1_000_000;
        let property = "org.systemd.property.TimeoutStopUSec";
        told.push((property, format!("uint64 {micros}")));
    }
    told
}

/// What is seen of a pod whose record cannot be read.
pub(crate) struct FoundPod {
    /// Its cgroup.
    pub(crate) cgroup: String,
    /// It is floe's own.
    pub(crate) own: bool,
    /// What the names of its members begin with.
    pub(crate) prefix: String,
}

/// The cgroup of a pod of which nothing is known but its id, by where its supervisor's is, wherever that
/// was made.
///
/// # Errors
/// A host without cgroups.
pub(crate) fn find_pod(id: &str) -> Result<Option<FoundPod>, runtime::cgroup::Error> {
    let (own, end) = (format!("{OWN_PREFIX}-{id}"), format!("-{id}"));
    let is_supervisors = |name: &str| {
        let name = name.strip_suffix(".scope").unwrap_or(name);
        name != own && name.ends_with(&end)
    };
    let found = runtime::cgroup::Cgroup::find(is_supervisors)?;
    let found = found.as_deref().and_then(|path| path.rsplit_once('/'));
    Ok(found.map(|(parent, name)| {
        let last = parent.rsplit('/').next().unwrap_or_default();
        FoundPod {
            cgroup: parent.to_owned(),
            own: last == own || last.ends_with(&format!("-pod{id}{SLICE}")),
            // A shim's sandbox has a word between.
            prefix: prefix_of(name, id).trim_end_matches("-infra").to_owned(),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEMD: Found = Found {
        version: Version::V2,
        systemd: true,
    };
    const NONE: Found = Found {
        version: Version::V1,
        systemd: false,
    };

    fn config(manager: CgroupManager, parent: &str) -> Runtime {
        Runtime {
            cgroup_manager: manager,
            cgroup_parent: parent.to_owned(),
            ..Runtime::default()
        }
    }

    #[test]
    fn the_nodes_manager_is_the_one_that_nobody_has_to_choose() {
        for (asked, found, manager, own) in [
            (
                CgroupManager::Unset,
                SYSTEMD,
                Manager::Systemd,
                "/floe.slice/floe-podx.slice",
            ),
            (
                CgroupManager::Systemd,
                SYSTEMD,
                Manager::Systemd,
                "/floe.slice/floe-podx.slice",
            ),
            (
                CgroupManager::Cgroupfs,
                SYSTEMD,
                Manager::Cgroupfs,
                "/floe/pod-x",
            ),
            (CgroupManager::Unset, NONE, Manager::Cgroupfs, "/floe/pod-x"),
        ] {
            let chosen = Cgroups::choose(&config(asked, ""), found).unwrap();
            assert_eq!(chosen.manager(), manager);
            assert_eq!(chosen.own_pod("x"), own);
        }
        let error = Cgroups::choose(&config(CgroupManager::Systemd, ""), NONE).unwrap_err();
        assert!(
            error.contains("systemd is not what runs this node"),
            "{error}"
        );
    }

    #[test]
    fn a_configured_parent_must_be_the_managers() {
        let chosen = Cgroups::choose(&config(CgroupManager::Unset, "a-b.slice"), SYSTEMD).unwrap();
        assert_eq!(chosen.own_pod("x"), "/a.slice/a-b.slice/a-b-podx.slice");
        let chosen = Cgroups::choose(&config(CgroupManager::Unset, "/a/b"), NONE).unwrap();
        assert_eq!(chosen.own_pod("x"), "/a/b/pod-x");
        for (parent, found) in [("/floe", SYSTEMD), ("a.slice", NONE)] {
            let error = Cgroups::choose(&config(CgroupManager::Unset, parent), found).unwrap_err();
            assert!(error.starts_with("cgroup_parent: "), "{error}");
            assert!(error.contains(parent), "{error}");
        }
    }

    #[test]
    fn a_pods_slice_is_where_systemd_puts_it_and_the_other_managers_names_are_refused() {
        let systemd = Cgroups::choose(&config(CgroupManager::Unset, ""), SYSTEMD).unwrap();
        let path = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podu_1.slice";
        for given in [
            path,
            "kubepods-burstable-podu_1.slice",
            "/kubepods-burstable-podu_1.slice",
        ] {
            assert_eq!(systemd.of_request(given).unwrap(), path);
        }
        for bad in [
            "/kubepods/burstable/podu",
            "a--b.slice",
            "-.slice",
            ".slice",
            "/a.slice/b",
        ] {
            let error = systemd.of_request(bad).unwrap_err().to_string();
            assert!(
                error.contains("cgroup_parent") && error.contains(bad),
                "{error}"
            );
        }
        let cgroupfs = Cgroups::choose(&config(CgroupManager::Unset, ""), NONE).unwrap();
        assert_eq!(
            cgroupfs.of_request("/kubepods/podu").unwrap(),
            "/kubepods/podu"
        );
        let error = cgroupfs.of_request(path).unwrap_err().to_string();
        assert!(error.contains("is a slice of systemd's"), "{error}");
    }

    #[test]
    fn members_are_scopes_in_slices_and_directories_elsewhere() {
        assert_eq!(member("/floe/pod-x", "crio", "c"), "/floe/pod-x/crio-c");
        let scope = member("/a.slice/a-b.slice", "crio", "c");
        assert_eq!(scope, "/a.slice/a-b.slice/crio-c.scope");
        assert_eq!(cgroups_path(&scope), "a-b.slice:crio:c");
        assert_eq!(cgroups_path("/floe/pod-x/crio-c"), "/floe/pod-x/crio-c");
        let other = member("/a.slice/a-b.slice", "my_node", "c");
        assert_eq!(cgroups_path(&other), "a-b.slice:my_node:c");
        for (path, prefix) in [
            (scope.as_str(), "crio"),
            (other.as_str(), "my_node"),
            ("/floe/pod-x/floe-c", "floe"),
            ("/elsewhere", DEFAULT_PREFIX),
        ] {
            assert_eq!(prefix_of(path, "c"), prefix, "{path}");
        }
    }
}
