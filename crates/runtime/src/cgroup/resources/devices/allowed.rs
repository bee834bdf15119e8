//! Device rules as a list of what is allowed, in the words of systemd's DeviceAllow
//! (systemd.resource-control(5)): it has no refusals, and no minor number of any major.
//!
//! What cannot be said is left out, so that the list never allows more than the rules.

use super::default_rules;
use super::rules::{Kind, Nodes, Policy, Rule};
use crate::cgroup::error::Error;
use crate::spec::DeviceCgroup;

/// What may be used.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cgroup) enum Allowed {
    Everything,
    /// Nodes and letters of access.
    Only(Vec<(String, String)>),
}

/// What the rules and the default ones allow.
pub(in crate::cgroup) fn allowed(rules: &[DeviceCgroup]) -> Result<Allowed, Error> {
    let policy = Policy::of(rules.iter().chain(&default_rules()))?;
    if policy.allows_everything() {
        return Ok(Allowed::Everything);
    }
    if policy.default {
        return Ok(Allowed::Only(Vec::new()));
    }
    let all = policy.exceptions.iter().enumerate();
    let entries = all.filter_map(|(at, rule)| {
        let refused = |later: &Rule| !later.allow && later.nodes.meets(&rule.nodes);
        if !rule.allow || policy.exceptions[at..].iter().any(refused) {
            return None;
        }
        Some((name(&rule.nodes)?, rule.access.letters()))
    });
    Ok(Allowed::Only(entries.collect()))
}

fn name(nodes: &Nodes) -> Option<String> {
    let kind = match nodes.kind {
        Kind::Block => "block",
        Kind::Char => "char",
    };
    match (nodes.major, nodes.minor) {
        (None, None) => Some(format!("{kind}-*")),
        (Some(major), None) => Some(format!("{kind}-{major}")),
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>) -> DeviceCgroup {
        DeviceCgroup {
            allow,
            kind: Some(kind.into()),
            major,
            minor,
            access: Some("rwm".into()),
        }
    }

    fn names(rules: &[DeviceCgroup]) -> Vec<String> {
        match allowed(rules).unwrap() {
            Allowed::Everything => vec!["everything".into()],
            Allowed::Only(entries) => entries.into_iter().map(|(name, _)| name).collect(),
        }
    }

    #[test]
    fn rules_become_entries_and_what_systemd_cannot_say_is_left_out() {
        let deny = rule(false, "a", None, None);
        let found = names(&[
            deny.clone(),
            rule(true, "b", Some(8), Some(1)),
            rule(true, "b", Some(9), None),
            rule(true, "b", None, Some(5)),
        ]);
        assert_eq!(found[..2], ["/dev/block/8:1", "block-9"]);
        // And those of every container.
        for always in ["char-*", "/dev/char/1:3", "char-136"] {
            assert!(
                found.iter().any(|name| name == always),
                "{always}: {found:?}"
            );
        }
        assert!(
            !found
                .iter()
                .any(|name| name.contains(":5") && name.contains("block"))
        );
        assert_eq!(names(&[rule(true, "a", None, None)]), ["everything"]);
    }

    #[test]
    fn an_entry_never_allows_what_a_later_rule_refuses() {
        let some = [
            rule(false, "a", None, None),
            rule(true, "b", Some(8), None),
            rule(false, "b", Some(8), Some(1)),
        ];
        assert!(!names(&some).iter().any(|name| name.starts_with("block-8")));
        let all_but = [
            rule(true, "a", None, None),
            rule(false, "b", Some(8), Some(1)),
        ];
        assert_eq!(names(&all_but), Vec::<String>::new());
    }
}
