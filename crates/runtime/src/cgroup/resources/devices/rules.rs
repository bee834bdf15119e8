//! Device rules as one policy: a default and the exceptions from it, in order, without the rules
//! that make no difference.

use super::DEVICES;
use crate::cgroup::error::Error;
use crate::spec::DeviceCgroup;

/// Kinds of access, as bits in the numbering of BPF_DEVCG_ACC_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access(pub(super) u8);

impl Access {
    pub(super) const MKNOD: Access = Access(1);
    pub(super) const READ: Access = Access(2);
    pub(super) const WRITE: Access = Access(4);
    pub(super) const ALL: Access = Access(7);

    pub(super) fn parse(text: &str) -> Option<Access> {
        let bit = |letter| match letter {
            'm' => Access::MKNOD.0,
            'r' => Access::READ.0,
            'w' => Access::WRITE.0,
            _ => 0,
        };
        let bits = text.chars().fold(0, |bits, letter| bits | bit(letter));
        (bits != 0).then_some(Access(bits))
    }

    /// The letters, in the order the kernel lists them.
    pub(super) fn letters(self) -> String {
        let all = [
            (Access::READ, 'r'),
            (Access::WRITE, 'w'),
            (Access::MKNOD, 'm'),
        ];
        all.iter()
            .filter(|(access, _)| self.0 & access.0 != 0)
            .map(|(_, letter)| letter)
            .collect()
    }

    pub(super) fn without(self, other: Access) -> Access {
        Access(self.0 & !other.0)
    }
}

/// Type of a device node, in the numbering of BPF_DEVCG_DEV_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Block = 1,
    Char = 2,
}

/// Device nodes; an absent number is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Nodes {
    pub(super) kind: Kind,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

impl Nodes {
    /// As the control files of v1 write them.
    pub(super) fn text(&self) -> String {
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        let number =
            |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        format!("{kind} {}:{}", number(self.major), number(self.minor))
    }

    fn covers(&self, other: &Nodes) -> bool {
        let covers = |ours: Option<u32>, theirs| ours.is_none() || ours == theirs;
        self.kind == other.kind
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    pub(super) fn meets(&self, other: &Nodes) -> bool {
        let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meets(self.major, other.major) && meets(self.minor, other.minor)
    }
}

/// One exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) nodes: Nodes,
    pub(super) access: Access,
}

/// The meaning of a list of rules: the last exception that matches decides, else the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) default: bool,
    pub(super) exceptions: Vec<Rule>,
}

impl Policy {
    /// Reads the rules of a configuration. Before the first rule nothing is allowed.
    pub(super) fn of<'r>(rules: impl Iterator<Item = &'r DeviceCgroup>) -> Result<Policy, Error> {
        let mut policy = Policy {
            default: false,
            exceptions: Vec::new(),
        };
        for rule in rules {
            match parse(rule)? {
                Parsed::Everything(allow) => {
                    policy = Policy {
                        default: allow,
                        exceptions: Vec::new(),
                    }
                }
                Parsed::Nodes(rules) => rules.into_iter().for_each(|rule| policy.add(rule)),
            }
        }
        Ok(policy)
    }

    /// Whether no access is ever refused.
    pub(super) fn allows_everything(&self) -> bool {
        self.default && self.exceptions.is_empty()
    }

    fn add(&mut self, rule: Rule) {
        // Exceptions since the last one that this rule contradicts keep their meaning if it joins
        // them.
        let contradicts = |old: &Rule| old.allow != rule.allow && old.nodes.meets(&rule.nodes);
        let since = self
            .exceptions
            .iter()
            .rposition(contradicts)
            .map_or(0, |at| at + 1);
        if since == 0 && rule.allow == self.default {
            return;
        }
        let same = |old: &&mut Rule| old.allow == rule.allow && old.nodes.covers(&rule.nodes);
        for old in self.exceptions[since..].iter_mut().filter(same) {
            if old.access.0 & rule.access.0 == rule.access.0 {
                return;
            }
            if old.nodes == rule.nodes {
                old.access.0 |= rule.access.0;
                return;
            }
        }
        self.exceptions.push(rule);
    }
}

enum Parsed {
    Everything(bool),
    Nodes(Vec<Rule>),
}

fn parse(rule: &DeviceCgroup) -> Result<Parsed, Error> {
    let shown = || {
        let verb = if rule.allow { "allow" } else { "deny" };
        let number =
            |number: Option<i64>| number.map_or("*".to_owned(), |number| number.to_string());
        let (kind, access) = (
            rule.kind.as_deref().unwrap_or("a"),
            rule.access.as_deref().unwrap_or("rwm"),
        );
        format!(
            "{verb} {kind} {}:{} {access}",
            number(rule.major),
            number(rule.minor)
        )
    };
    let kinds: &[Kind] = match rule.kind.as_deref() {
        None | Some("" | "a") => &[Kind::Char, Kind::Block],
        Some("c" | "u") => &[Kind::Char],
        Some("b") => &[Kind::Block],
        Some(_) => return Err(DEVICES.invalid(shown(), "the type must be a, b or c")),
    };
    let access = match rule.access.as_deref() {
        None | Some("") => Access::ALL,
        Some(text) => Access::parse(text)
            .ok_or_else(|| DEVICES.invalid(shown(), "the access must be some of r, w and m"))?,
    };
    // -1 is how other programs write "any".
    let number = |number: Option<i64>| match number.filter(|number| *number != -1) {
        Some(number) => match i32::try_from(number).map(u32::try_from) {
            Ok(Ok(number)) => Ok(Some(number)),
            _ => Err(DEVICES.invalid(shown(), "a device number is out of range")),
        },
        None => Ok(None),
    };
    let (major, minor) = (number(rule.major)?, number(rule.minor)?);
    if kinds.len() == 2 && major.is_none() && minor.is_none() && access == Access::ALL {
        return Ok(Parsed::Everything(rule.allow));
    }
    let rule = |kind: &Kind| Rule {
        allow: rule.allow,
        nodes: Nodes {
            kind: *kind,
            major,
            minor,
        },
        access,
    };
    Ok(Parsed::Nodes(kinds.iter().map(rule).collect()))
}
