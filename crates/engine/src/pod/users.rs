//! The user namespace of a pod (CRI UserNamespace): whose it is, and which ids it has.

use crate::error::{Error, Result};

pub use runtime::spec::IdMapping;
pub use supervisor::UserIds;

/// Whose user namespace a pod has, or its container says that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UserMode {
    /// Nothing is said: the node's; of a container the pod's.
    #[default]
    Unsaid,
    /// The node's.
    Node,
    /// One of the pod's own.
    Pod(UserIds),
}

impl UserMode {
    /// The ids of the pod's own.
    #[must_use]
    pub fn ids(&self) -> Option<&UserIds> {
        match self {
            Self::Pod(ids) => Some(ids),
            Self::Unsaid | Self::Node => None,
        }
    }

    /// Can a container that says this be in a pod that has said `pod`?
    pub(crate) fn agrees_with(&self, pod: &Self) -> bool {
        match (self, pod) {
            (Self::Unsaid, _) | (Self::Node, Self::Unsaid) => true,
            (own, pod) => own == pod,
        }
    }
}

/// Are all of them in the user namespace?
///
/// # Errors
/// The one that is not, by the field that asks for it.
pub(crate) fn check_user(ids: &UserIds, uid: u32, gids: &[u32]) -> Result<()> {
    let missing = |field: &str, what: &str, id: u32| {
        Error::invalid(
            field,
            format!("{what} {id} is not in the pod's user namespace"),
        )
    };
    if ids.user(uid).is_none() {
        return Err(missing("security_context.run_as_user", "user", uid));
    }
    match gids.iter().find(|gid| ids.group(**gid).is_none()) {
        Some(gid) => Err(missing("security_context (groups)", "group", *gid)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(container_id: u32, host_id: u32, size: u32) -> UserIds {
        let map = vec![IdMapping {
            container_id,
            host_id,
            size,
        }];
        UserIds {
            uids: map.clone(),
            gids: map,
        }
    }

    #[test]
    fn a_container_is_in_the_user_namespace_of_its_pod_or_is_refused() {
        let pod = UserMode::Pod(ids(0, 100_000, 65_536));
        let other = UserMode::Pod(ids(0, 200_000, 65_536));
        for (own, its_pod, agree) in [
            (UserMode::Unsaid, &pod, true),
            (pod.clone(), &pod, true),
            (other, &pod, false),
            (UserMode::Node, &pod, false),
            (UserMode::Node, &UserMode::Unsaid, true),
            (UserMode::Node, &UserMode::Node, true),
            (pod.clone(), &UserMode::Node, false),
        ] {
            assert_eq!(own.agrees_with(its_pod), agree, "{own:?} in {its_pod:?}");
        }
    }

    #[test]
    fn an_identity_outside_of_the_namespace_is_refused_by_its_number() {
        let ids = ids(0, 100_000, 1000);
        assert_eq!(ids.root(), Some((100_000, 100_000)));
        check_user(&ids, 999, &[0, 999]).unwrap();
        let error = check_user(&ids, 1000, &[0]).unwrap_err().to_string();
        assert!(
            error.contains("run_as_user") && error.contains("1000"),
            "{error}"
        );
        let error = check_user(&ids, 0, &[0, 70_000]).unwrap_err().to_string();
        assert!(error.contains("group 70000"), "{error}");
        let above = UserIds {
            uids: vec![IdMapping {
                container_id: 1,
                host_id: 5,
                size: 5,
            }],
            ..ids
        };
        assert_eq!(above.root(), None);
    }
}
