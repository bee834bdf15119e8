//! What pods and containers have in common: namespaces, profiles, labels of SELinux, limits.

use cri::security_profile::ProfileType;
use engine::Error;
use engine::container::{Profile, Resources};
use engine::pod::{IdMapping, NamespaceMode, NamespaceModes, UserIds, UserMode};

use super::{check, invalid, known};

/// The namespaces that a request asks for; none given means CRI's zero: all the pod's.
pub(crate) fn namespaces(options: Option<cri::NamespaceOption>) -> Result<NamespaceModes, Error> {
    let options = options.unwrap_or_default();
    let modes = NamespaceModes {
        network: mode("namespace_options.network", options.network)?,
        pid: mode("namespace_options.pid", options.pid)?,
        ipc: mode("namespace_options.ipc", options.ipc)?,
        target_id: options.target_id,
        users: user_namespace(options.userns_options)?,
    };
    if modes.pid == NamespaceMode::Target && modes.target_id.is_empty() {
        return Err(invalid(
            "namespace_options.target_id",
            "must name a container with pid TARGET",
        ));
    }
    Ok(modes)
}

/// Whose user namespace is asked for. As kubelet sends it, one of the pod's own has one range of ids, the same
/// of users and of groups.
fn user_namespace(options: Option<cri::UserNamespace>) -> Result<UserMode, Error> {
    let Some(options) = options else {
        return Ok(UserMode::Unsaid);
    };
    let field = "namespace_options.userns_options";
    match mode(&format!("{field}.mode"), options.mode)? {
        NamespaceMode::Node if options.uids.is_empty() && options.gids.is_empty() => {
            Ok(UserMode::Node)
        }
        NamespaceMode::Node => Err(invalid(field, "mode NODE takes no mappings")),
        NamespaceMode::Pod if options.uids.len() == 1 && options.uids == options.gids => {
            let ids = id_ranges(field, options.uids, options.gids)?;
            match ids.uids.iter().all(|one| one.container_id == 0) {
                true => Ok(UserMode::Pod(ids)),
                false => Err(invalid(
                    format!("{field}.uids[0].container_id"),
                    "must be 0: a user namespace without its root can run nothing",
                )),
            }
        }
        NamespaceMode::Pod => Err(invalid(
            field,
            "mode POD takes one mapping of users and the same one of groups",
        )),
        NamespaceMode::Container | NamespaceMode::Target => {
            Err(invalid(format!("{field}.mode"), "must be POD or NODE"))
        }
    }
}

/// Ranges of ids, as many as the kernel takes.
pub(crate) fn id_ranges(
    field: &str,
    uids: Vec<cri::IdMapping>,
    gids: Vec<cri::IdMapping>,
) -> Result<UserIds, Error> {
    Ok(UserIds {
        uids: ranges(&format!("{field}.uids"), uids)?,
        gids: ranges(&format!("{field}.gids"), gids)?,
    })
}

/// Groups of one process (NGROUPS_MAX).
pub(crate) const GROUPS: usize = 65_536;
/// The kernel's limit (user_namespaces(7)).
const RANGES: usize = 340;

fn ranges(field: &str, ranges: Vec<cri::IdMapping>) -> Result<Vec<IdMapping>, Error> {
    check::at_most(field, &ranges, RANGES)?;
    let mut all: Vec<IdMapping> = Vec::new();
    for (index, range) in ranges.into_iter().enumerate() {
        let refused = |reason: String| Err(invalid(format!("{field}[{index}]"), reason));
        let cri::IdMapping {
            host_id,
            container_id,
            length,
        } = range;
        if length == 0 {
            return refused("length is 0".to_owned());
        }
        // The last number is no id.
        let ends = |first: u32| first.checked_add(length).is_some();
        if !ends(container_id) || !ends(host_id) {
            return refused(format!("{length} ids go past the last that there is"));
        }
        let range = IdMapping {
            container_id,
            host_id,
            size: length,
        };
        if all.iter().any(|other| overlap(other, &range)) {
            return refused("overlaps one before it".to_owned());
        }
        all.push(range);
    }
    Ok(all)
}

fn overlap(one: &IdMapping, other: &IdMapping) -> bool {
    let meet = |a: u32, b: u32| a < b.saturating_add(other.size) && b < a.saturating_add(one.size);
    meet(one.container_id, other.container_id) || meet(one.host_id, other.host_id)
}

/// Ranges as a status shows them.
pub(crate) fn mappings(ranges: Vec<IdMapping>) -> Vec<cri::IdMapping> {
    let one = |range: IdMapping| cri::IdMapping {
        host_id: range.host_id,
        container_id: range.container_id,
        length: range.size,
    };
    ranges.into_iter().map(one).collect()
}

fn mode(field: &str, number: i32) -> Result<NamespaceMode, Error> {
    Ok(match known::<cri::NamespaceMode>(field, number)? {
        cri::NamespaceMode::Pod => NamespaceMode::Pod,
        cri::NamespaceMode::Container => NamespaceMode::Container,
        cri::NamespaceMode::Node => NamespaceMode::Node,
        cri::NamespaceMode::Target => NamespaceMode::Target,
    })
}

/// The namespaces as a status shows them.
pub(crate) fn namespace_option(modes: NamespaceModes) -> cri::NamespaceOption {
    let number = |mode| match mode {
        NamespaceMode::Pod => cri::NamespaceMode::Pod.into(),
        NamespaceMode::Container => cri::NamespaceMode::Container.into(),
        NamespaceMode::Node => cri::NamespaceMode::Node.into(),
        NamespaceMode::Target => cri::NamespaceMode::Target.into(),
    };
    cri::NamespaceOption {
        network: number(modes.network),
        pid: number(modes.pid),
        ipc: number(modes.ipc),
        target_id: modes.target_id,
        userns_options: match modes.users {
            UserMode::Unsaid => None,
            UserMode::Node => Some(cri::UserNamespace {
                mode: cri::NamespaceMode::Node.into(),
                ..Default::default()
            }),
            UserMode::Pod(ids) => Some(cri::UserNamespace {
                mode: cri::NamespaceMode::Pod.into(),
                uids: mappings(ids.uids),
                gids: mappings(ids.gids),
            }),
        },
    }
}

/// A profile; where the message is absent, the text of a deprecated field says it: empty and `unconfined`,
/// `runtime/default` (Docker's `docker/default` too), `localhost/NAME`.
pub(crate) fn profile(
    field: &str,
    profile: Option<cri::SecurityProfile>,
    (former, deprecated): (&str, &str),
) -> Result<Profile, Error> {
    let Some(profile) = profile else {
        return deprecated_profile(former, deprecated);
    };
    match known(&format!("{field}.profile_type"), profile.profile_type)? {
        ProfileType::RuntimeDefault => Ok(Profile::RuntimeDefault),
        ProfileType::Unconfined => Ok(Profile::Unconfined),
        ProfileType::Localhost if profile.localhost_ref.is_empty() => Err(invalid(
            format!("{field}.localhost_ref"),
            "must name a profile with Localhost",
        )),
        ProfileType::Localhost => {
            check::path(&format!("{field}.localhost_ref"), &profile.localhost_ref)?;
            Ok(Profile::Localhost(profile.localhost_ref))
        }
    }
}

fn deprecated_profile(field: &str, text: &str) -> Result<Profile, Error> {
    match text {
        "" | "unconfined" => Ok(Profile::Unconfined),
        "runtime/default" | "docker/default" => Ok(Profile::RuntimeDefault),
        _ => match text.strip_prefix("localhost/") {
            Some(name) if !name.is_empty() => Ok(Profile::Localhost(name.to_owned())),
            _ => Err(invalid(field, format!("unknown profile {text:?}"))),
        },
    }
}

/// An SELinux label as one text; `None` if no part is given.
pub(crate) fn selinux(options: Option<cri::SeLinuxOption>) -> Option<String> {
    let cri::SeLinuxOption {
        user,
        role,
        r#type,
        level,
    } = options?;
    let parts = [user, role, r#type, level];
    parts
        .iter()
        .any(|part| !part.is_empty())
        .then(|| parts.join(":"))
}

/// Groups that a request adds; they must be numbers that the kernel knows.
pub(crate) fn id(field: &str, value: i64) -> Result<i64, Error> {
    if u32::try_from(value).is_ok_and(|id| id != u32::MAX) {
        Ok(value)
    } else {
        Err(invalid(
            field,
            format!("{value} is not an id of a user or group"),
        ))
    }
}

/// What the kernel takes as a period, and as time of processors in one, in µs.
const LEAST_PERIOD: i64 = 1_000;
const MOST_PERIOD: i64 = 1_000_000;
const MOST_QUOTA: i64 = (1 << 44) - 1;

/// Is a limit one that the kernel takes? Zero and what is negative set none.
fn between(field: &str, value: i64, least: i64, most: i64) -> Result<(), Error> {
    if value <= 0 || (least..=most).contains(&value) {
        return Ok(());
    }
    let reason = format!("{value} is not between {least} and {most}");
    Err(invalid(format!("resources.{field}"), reason))
}

/// Limits; CRI's zero means unset, as the engine's.
pub(crate) fn resources(limits: cri::LinuxContainerResources) -> Result<Resources, Error> {
    for (field, value) in [
        ("cpu_period", limits.cpu_period),
        ("cpu_shares", limits.cpu_shares),
        ("memory_limit_in_bytes", limits.memory_limit_in_bytes),
    ] {
        if value < 0 {
            return Err(invalid(
                format!("resources.{field}"),
                format!("{value} is negative"),
            ));
        }
    }
    check::cpuset("resources.cpuset_cpus", &limits.cpuset_cpus)?;
    check::cpuset("resources.cpuset_mems", &limits.cpuset_mems)?;
    for hugepages in &limits.hugepage_limits {
        check::page_size("resources.hugepage_limits.page_size", &hugepages.page_size)?;
    }
    check::unified("resources.unified", &limits.unified)?;
    if !(-1000..=1000).contains(&limits.oom_score_adj) {
        let reason = format!("{} is not between -1000 and 1000", limits.oom_score_adj);
        return Err(invalid("resources.oom_score_adj", reason));
    }
    let (memory, swap) = (
        limits.memory_limit_in_bytes,
        limits.memory_swap_limit_in_bytes,
    );
    between("cpu_period", limits.cpu_period, LEAST_PERIOD, MOST_PERIOD)?;
    between("cpu_quota", limits.cpu_quota, LEAST_PERIOD, MOST_QUOTA)?;
    if memory > 0 && swap > 0 && swap < memory {
        let reason =
            format!("{swap} is less than memory_limit_in_bytes ({memory}), which it includes");
        return Err(invalid("resources.memory_swap_limit_in_bytes", reason));
    }
    Ok(Resources {
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpu_shares: limits.cpu_shares,
        memory_limit: memory,
        memory_swap_limit: swap,
        oom_score_adj: limits.oom_score_adj,
        cpuset_cpus: limits.cpuset_cpus,
        cpuset_mems: limits.cpuset_mems,
        hugepage_limits: limits
            .hugepage_limits
            .into_iter()
            .map(|h| (h.page_size, h.limit))
            .collect(),
        unified: limits.unified,
        pids_limit: 0,
    })
}

/// Limits as a status shows them.
pub(crate) fn limits(resources: Resources) -> cri::LinuxContainerResources {
    let hugepage_limits = resources.hugepage_limits.into_iter();
    cri::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        hugepage_limits: hugepage_limits
            .map(|(page_size, limit)| cri::HugepageLimit { page_size, limit })
            .collect(),
        unified: resources.unified,
        memory_swap_limit_in_bytes: resources.memory_swap_limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_is_the_pods_or_the_nodes_with_one_mapping_or_none() {
        let mapping = |container_id, host_id, length| cri::IdMapping {
            host_id,
            container_id,
            length,
        };
        let usual = mapping(0, 1000, 65_536);
        let ask = |mode: cri::NamespaceMode, uids: &[cri::IdMapping], gids: &[cri::IdMapping]| {
            let userns = cri::UserNamespace {
                mode: mode.into(),
                uids: uids.to_vec(),
                gids: gids.to_vec(),
            };
            let asked = cri::NamespaceOption {
                userns_options: Some(userns),
                ..Default::default()
            };
            let modes = namespaces(Some(asked.clone()))?;
            assert_eq!(namespace_option(modes.clone()), asked);
            Ok::<UserMode, Error>(modes.users)
        };
        let pod = cri::NamespaceMode::Pod;
        let asked = ask(pod, &[usual], &[usual]).unwrap();
        assert_eq!(asked.ids().and_then(UserIds::root), Some((1000, 1000)));
        let node = ask(cri::NamespaceMode::Node, &[], &[]).unwrap();
        assert_eq!(node, UserMode::Node);
        let refused = |uids: &[cri::IdMapping], gids: &[cri::IdMapping], word: &str| {
            let error = ask(pod, uids, gids).unwrap_err().to_string();
            assert!(
                error.contains("userns_options") && error.contains(word),
                "{error}"
            );
        };
        refused(&[usual, usual], &[usual, usual], "one mapping");
        refused(&[usual], &[], "one mapping");
        refused(&[usual], &[mapping(0, 1000, 65_535)], "the same one");
        for (bad, word) in [
            (mapping(1, 1000, 65_536), "container_id"),
            (mapping(0, 1000, 0), "length is 0"),
            (mapping(0, 1000, u32::MAX), "past the last"),
            (mapping(0, u32::MAX, 1), "past the last"),
        ] {
            refused(&[bad], &[bad], word);
        }
        assert!(ask(cri::NamespaceMode::Node, &[usual], &[usual]).is_err());
        assert!(ask(cri::NamespaceMode::Container, &[usual], &[usual]).is_err());
        assert!(ask(cri::NamespaceMode::Target, &[usual], &[usual]).is_err());
    }

    #[test]
    fn ranges_of_a_mount_do_not_overlap() {
        let range = |container_id, host_id, length| cri::IdMapping {
            host_id,
            container_id,
            length,
        };
        let read = |ranges: Vec<cri::IdMapping>| id_ranges("m", ranges.clone(), ranges);
        read(vec![range(0, 100, 10), range(10, 200, 10)]).unwrap();
        for second in [range(9, 200, 10), range(10, 109, 1), range(10, 91, 10)] {
            let error = read(vec![range(0, 100, 10), second]).unwrap_err();
            assert!(error.to_string().contains("m.uids[1]"), "{error}");
        }
    }

    #[test]
    fn namespaces_come_back_as_they_were_asked_for() {
        let asked = cri::NamespaceOption {
            network: cri::NamespaceMode::Node.into(),
            pid: cri::NamespaceMode::Target.into(),
            ipc: cri::NamespaceMode::Pod.into(),
            target_id: "abc".into(),
            userns_options: None,
        };
        assert_eq!(
            namespace_option(namespaces(Some(asked.clone())).unwrap()),
            asked
        );
        let nobody = cri::NamespaceOption {
            target_id: String::new(),
            ..asked
        };
        assert!(
            namespaces(Some(nobody))
                .unwrap_err()
                .to_string()
                .contains("target_id")
        );
    }

    #[test]
    fn the_profile_message_wins_over_the_deprecated_text() {
        let message = |kind: ProfileType, name: &str| {
            Some(cri::SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: name.into(),
            })
        };
        let read = |message, text| profile("seccomp", message, ("old", text)).unwrap();
        assert_eq!(
            read(message(ProfileType::Unconfined, ""), "runtime/default"),
            Profile::Unconfined
        );
        assert_eq!(
            read(message(ProfileType::Localhost, "/p.json"), ""),
            Profile::Localhost("/p.json".into())
        );
        assert_eq!(read(None, "runtime/default"), Profile::RuntimeDefault);
        assert_eq!(
            read(None, "localhost//p.json"),
            Profile::Localhost("/p.json".into())
        );
        assert_eq!(read(None, ""), Profile::Unconfined);
        assert!(profile("seccomp", message(ProfileType::Localhost, ""), ("", "")).is_err());
        let strange = profile("seccomp", None, ("former", "strange"));
        assert!(strange.unwrap_err().to_string().starts_with("former: "));
    }

    #[test]
    fn limits_come_back_as_they_were_asked_for() {
        let asked = cri::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 512,
            memory_limit_in_bytes: 1 << 20,
            memory_swap_limit_in_bytes: -1,
            oom_score_adj: -999,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![cri::HugepageLimit {
                page_size: "2MB".into(),
                limit: 4 << 20,
            }],
            unified: [("memory.high".to_owned(), "max".to_owned())].into(),
        };
        assert_eq!(limits(resources(asked.clone()).unwrap()), asked);
        let less = cri::LinuxContainerResources {
            memory_swap_limit_in_bytes: 1,
            ..asked.clone()
        };
        assert!(
            resources(less)
                .unwrap_err()
                .to_string()
                .contains("memory_swap_limit_in_bytes")
        );
        let far = cri::LinuxContainerResources {
            oom_score_adj: 1001,
            ..asked
        };
        assert!(
            resources(far)
                .unwrap_err()
                .to_string()
                .contains("oom_score_adj")
        );
    }

    #[test]
    fn ids_outside_the_kernels_range_are_refused() {
        assert!(id("run_as_user", 0).is_ok());
        assert!(id("run_as_user", -1).is_err());
        assert!(id("run_as_user", i64::from(u32::MAX)).is_err());
    }
}
