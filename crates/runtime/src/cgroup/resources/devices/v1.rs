//! The v1 device controller: devices.allow and devices.deny, one rule a write.
//!
//! A change from one list of allowed devices to another writes the differences only, additions
//! first: at no moment is a device refused that both lists allow.

use std::collections::BTreeMap;

use super::DEVICES;
use super::rules::{Access, Kind, Nodes, Policy, Rule};
use crate::cgroup::dir::Dir;
use crate::cgroup::error::Error;

const ALLOW: &str = "devices.allow";
const DENY: &str = "devices.deny";

/// Makes the controller enforce the policy.
pub(super) fn apply(dir: &Dir<'_>, policy: &Policy) -> Result<(), Error> {
    let listed = dir.get("devices.list")?;
    let current = parse_list(&listed).ok_or_else(|| dir.parse_error("devices.list", &listed))?;
    match (current, target(policy)) {
        (Some(current), Some(target)) => transition(dir, &current, &target),
        _ => rewrite(dir, policy),
    }
}

/// Nodes and what may be done with them.
type Allowed = BTreeMap<Nodes, Access>;

/// The policy as a list of what is allowed, if it is one.
fn target(policy: &Policy) -> Option<Allowed> {
    let only_allows = !policy.default && policy.exceptions.iter().all(|rule| rule.allow);
    only_allows.then(|| {
        policy
            .exceptions
            .iter()
            .map(|rule| (rule.nodes, rule.access))
            .collect()
    })
}

fn transition(dir: &Dir<'_>, current: &Allowed, target: &Allowed) -> Result<(), Error> {
    let write_missing = |file: &str, from: &Allowed, to: &Allowed| {
        to.iter().try_for_each(|(nodes, access)| {
            let missing = access.without(from.get(nodes).copied().unwrap_or(Access(0)));
            if missing.0 == 0 {
                Ok(())
            } else {
                write(dir, file, nodes, missing)
            }
        })
    };
    write_missing(ALLOW, current, target)?;
    write_missing(DENY, target, current)
}

/// The whole policy in order, from the default on.
fn rewrite(dir: &Dir<'_>, policy: &Policy) -> Result<(), Error> {
    DEVICES.write(dir, if policy.default { ALLOW } else { DENY }, "a")?;
    policy.exceptions.iter().try_for_each(
        |Rule {
             allow,
             nodes,
             access,
         }| { write(dir, if *allow { ALLOW } else { DENY }, nodes, *access) },
    )
}

fn write(dir: &Dir<'_>, file: &str, nodes: &Nodes, access: Access) -> Result<(), Error> {
    DEVICES.write(dir, file, format!("{} {}", nodes.text(), access.letters()))
}

/// Reads devices.list. Nothing in `Some` if everything is allowed by default: the kernel does not
/// list the exceptions from that. Nothing at all if it cannot be understood.
fn parse_list(text: &str) -> Option<Option<Allowed>> {
    let mut allowed = Allowed::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ')?;
        let (numbers, access) = rest.split_once(' ')?;
        let (major, minor) = numbers.split_once(':')?;
        let kind = match kind {
            "a" => return Some(None),
            "b" => Kind::Block,
            "c" => Kind::Char,
            _ => return None,
        };
        let number = |text: &str| {
            if text == "*" {
                Some(None)
            } else {
                text.parse().ok().map(Some)
            }
        };
        allowed.insert(
            Nodes {
                kind,
                major: number(major)?,
                minor: number(minor)?,
            },
            Access::parse(access)?,
        );
    }
    Some(Some(allowed))
}
