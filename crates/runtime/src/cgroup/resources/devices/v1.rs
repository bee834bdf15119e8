//! The v1 device controller: devices.allow and devices.deny, one rule a write.
//!
//! A change from one list of allowed devices to another writes the differences only, additions
//! first: at no moment is a device refused that both lists allow.

use std::collections::BTreeMap;

use rustix::fs::OFlags;

use super::DEVICES;
use super::rules::{Access, Kind, Nodes, Policy};
use crate::cgroup::dir::{Dir, write_value};
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
    let missing = |from: &Allowed, to: &Allowed| -> Vec<String> {
        let line = |(nodes, access): (&Nodes, &Access)| {
            let missing = access.without(from.get(nodes).copied().unwrap_or(Access(0)));
            (missing.0 != 0).then(|| text(nodes, missing))
        };
        to.iter().filter_map(line).collect()
    };
    write(dir, ALLOW, &missing(current, target))?;
    write(dir, DENY, &missing(target, current))
}

/// The whole policy in order, from the default on.
fn rewrite(dir: &Dir<'_>, policy: &Policy) -> Result<(), Error> {
    let file = |allow| if allow { ALLOW } else { DENY };
    write(dir, file(policy.default), &["a".to_owned()])?;
    for rules in policy.exceptions.chunk_by(|a, b| a.allow == b.allow) {
        let lines: Vec<String> = rules
            .iter()
            .map(|rule| text(&rule.nodes, rule.access))
            .collect();
        write(dir, file(rules[0].allow), &lines)?;
    }
    Ok(())
}

fn text(nodes: &Nodes, access: Access) -> String {
    format!("{} {}", nodes.text(), access.letters())
}

/// Writes rules to one file, which is opened once: a container has a dozen of them.
fn write(dir: &Dir<'_>, file: &str, lines: &[String]) -> Result<(), Error> {
    let Some(first) = lines.first() else {
        return Ok(());
    };
    let refused = |line: &String, errno| DEVICES.refused(dir, file, line.clone(), errno);
    let fd = dir
        .open(file, OFlags::WRONLY)
        .map_err(|errno| refused(first, errno))?;
    lines
        .iter()
        .try_for_each(|line| write_value(&fd, line).map_err(|errno| refused(line, errno)))
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
