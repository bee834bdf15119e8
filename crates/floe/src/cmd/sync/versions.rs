//! `images-by-semver` of `sync`: which tags are versions that a constraint lets in, in the language of
//! Masterminds/semver, which skopeo takes.
//!
//! A prerelease is only let in by a list that names one itself. Must never take a tag that is no
//! version, however it begins.

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use semver::{BuildMetadata, Prerelease, Version};

/// As many alternatives (`||`) and letters as a constraint may have.
const MAX_LISTS: usize = 32;
const MAX_LENGTH: usize = 512;

const NUMBERS: [&str; 3] = ["major", "minor", "patch"];
const EXTRA: &str = r"(?:-(?<pre>[0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?";

static TAG: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!(
        r"^v?(?<major>\d+)(?:\.(?<minor>\d+))?(?:\.(?<patch>\d+))?{EXTRA}$"
    ))
});
static RANGE: LazyLock<Regex> = LazyLock::new(|| regex(r"([^\s,|]+)\s+-\s+([^\s,|]+)"));
static ITEM: LazyLock<Regex> = LazyLock::new(|| {
    let [major, minor, patch] = NUMBERS.map(|name| format!(r"(?<{name}>\d+|[xX*])"));
    regex(&format!(
        r"^(?<op>!=|>=|=>|<=|=<|~>|[=<>~^])?\s*v?{major}(?:\.{minor})?(?:\.{patch})?{EXTRA}"
    ))
});

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("patterns of this file are well-formed")
}

/// What a version must be: all of one of the lists.
#[derive(Debug)]
pub(super) struct Constraint(Vec<Vec<Bound>>);

/// One comparison.
#[derive(Debug)]
struct Bound {
    how: How,
    with: Version,
    /// How many of its numbers count; the others were left out or are `x`.
    given: usize,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The last number that is given, or the third, may grow.
    Tilde,
    /// All but the first number that is not 0 may grow.
    Caret,
}

impl Constraint {
    /// Reads a constraint, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Constraint, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("it has more than {MAX_LENGTH} letters"));
        }
        let text = RANGE.replace_all(text, ">=$1, <=$2");
        let lists: Vec<_> = text.split("||").map(list).collect::<Result<_, _>>()?;
        match lists.len() > MAX_LISTS {
            true => Err(format!("it has more than {MAX_LISTS} alternatives")),
            false => Ok(Constraint(lists)),
        }
    }

    /// Whether a tag is a version that is meant.
    pub(super) fn admits(&self, tag: &str) -> bool {
        let Some((version, _)) = TAG.captures(tag).and_then(|found| version(&found)) else {
            return false;
        };
        self.0.iter().any(|list| {
            let early = list.iter().any(|bound| !bound.with.pre.is_empty());
            (early || version.pre.is_empty()) && list.iter().all(|bound| bound.admits(&version))
        })
    }
}

/// Bounds between blanks or commas.
fn list(text: &str) -> Result<Vec<Bound>, String> {
    let flawed = || format!("{:?} is not understood", text.trim());
    let mut bounds = Vec::new();
    let mut rest = text.trim();
    loop {
        let found = ITEM.captures(rest).ok_or_else(flawed)?;
        bounds.push(Bound::new(&found).ok_or_else(flawed)?);
        let left = &rest[found[0].len()..];
        rest = left.trim_start();
        let apart = rest.len() < left.len();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Ok(bounds),
            None if apart => {}
            None => return Err(flawed()),
        }
    }
}

/// The version that was matched, and how many of its numbers are given: those from the first `x` on, or
/// that are left out, are 0.
fn version(found: &Captures<'_>) -> Option<(Version, usize)> {
    let mut numbers = [0; 3];
    let mut given = 0;
    for name in NUMBERS {
        match found.name(name).map(|number| number.as_str()) {
            None | Some("x" | "X" | "*") => break,
            Some(number) => numbers[given] = number.parse().ok()?,
        }
        given += 1;
    }
    let [major, minor, patch] = numbers;
    let pre = found.name("pre").map_or("", |pre| pre.as_str());
    let version = Version {
        major,
        minor,
        patch,
        pre: Prerelease::new(pre).ok()?,
        build: BuildMetadata::EMPTY,
    };
    Some((version, given))
}

/// The first of a version's numbers.
fn head(version: &Version, given: usize) -> [u64; 3] {
    let mut numbers = [version.major, version.minor, version.patch];
    numbers[given..].fill(0);
    numbers
}

impl Bound {
    fn new(found: &Captures<'_>) -> Option<Bound> {
        let (with, given) = version(found)?;
        Some(Bound {
            how: match found.name("op").map_or("", |op| op.as_str()) {
                "!=" => How::NotEqual,
                "<" => How::Less,
                "<=" | "=<" => How::LessOrEqual,
                ">" => How::Greater,
                ">=" | "=>" => How::GreaterOrEqual,
                "~" | "~>" => How::Tilde,
                "^" => How::Caret,
                _ => How::Equal,
            },
            with,
            given,
        })
    }

    fn admits(&self, version: &Version) -> bool {
        let (with, given) = (&self.with, self.given);
        let order = version.cmp_precedence(with);
        // A bound of fewer numbers is about all versions that begin with them.
        let whole = match given {
            3 => order,
            given => head(version, given).cmp(&head(with, given)),
        };
        let same = |given| order.is_ge() && head(version, given) == head(with, given);
        match self.how {
            How::NotEqual => whole != Ordering::Equal,
            How::Less => order.is_lt(),
            How::LessOrEqual => whole.is_le(),
            How::Greater => whole.is_gt(),
            How::GreaterOrEqual => order.is_ge(),
            How::Equal if given == 3 => order.is_eq(),
            How::Tilde | How::Equal => same(given.min(2)),
            How::Caret => match (with.major, with.minor) {
                (0, 0) => same(given),
                (0, _) => same(given.min(2)),
                _ => same(given.min(1)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(constraint: &str, admitted: &[&str], refused: &[&str]) {
        let parsed = Constraint::parse(constraint).unwrap();
        for tag in admitted {
            assert!(parsed.admits(tag), "{constraint}: {tag}");
        }
        for tag in refused {
            assert!(!parsed.admits(tag), "{constraint}: {tag}");
        }
    }

    #[test]
    fn constraints_mean_what_skopeos_library_documents() {
        check(
            "=1.2.3",
            &["1.2.3", "v1.2.3", "1.2.3+x"],
            &["1.2.4", "1.2.3-a"],
        );
        check("1.2.3", &["1.2.3"], &["1.3.0"]);
        check("1.2.x", &["1.2", "1.2.9"], &["1.3.0", "2"]);
        check("1", &["1", "1.9.9"], &["0.9", "2.0.0"]);
        check("*", &["0.0.0", "9"], &["9-rc.1", "latest"]);
        check("!=1.2.3", &["1.2.4", "2"], &["1.2.3"]);
        check("!=1.2", &["1.3.0"], &["1.2.9"]);
        check(">1", &["2.0.0"], &["1.9.9"]);
        check(">1.1", &["1.2"], &["1.1.9"]);
        check(">=1.2", &["1.2.0", "2"], &["1.1.9"]);
        check("=>1.2", &["1.2.0"], &["1.1.9"]);
        check("<1.1", &["1.0.9"], &["1.1.0"]);
        check("<=1.1", &["1.1.9"], &["1.2.0"]);
        check("=<1.1.0", &["1.1.0"], &["1.1.9"]);
        check("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0"]);
        check("~>2", &["2.9"], &["3.0.0"]);
        check("~1.2", &["1.2.0"], &["1.3.0"]);
        check("^1.2.3", &["1.2.3", "1.9"], &["1.2.2", "2.0.0"]);
        check("^0.2.3", &["0.2.9"], &["0.3.0", "1.0.0"]);
        check("^0.0.3", &["0.0.3"], &["0.0.4"]);
        check("^0.0", &["0.0.9"], &["0.1.0"]);
        check("^0", &["0.9"], &["1.0.0"]);
    }

    #[test]
    fn lists_ranges_and_alternatives_are_read() {
        for text in [">=1.2, <2 || 3.x", ">= 1.2 <2||3", "1.2 - 1.999 || ^3"] {
            check(text, &["1.2.0", "1.9.9", "3.1"], &["1.1", "2.0.0", "4"]);
        }
        check("1.2 - 1.4.5", &["1.2", "1.4.5"], &["1.4.6"]);
        for text in [
            "", " ", ">=1 ||", "1,", "latest", ">", "1.2.3.4", "1 &2", ">1<2", "1-01",
        ] {
            assert!(Constraint::parse(text).is_err(), "{text:?}");
        }
        assert!(Constraint::parse(&">1".repeat(300)).is_err());
        assert!(Constraint::parse("99999999999999999999").is_err());
        assert!(Constraint::parse(&["1"; 33].join("||")).is_err());
    }

    #[test]
    fn prereleases_are_let_in_by_a_list_that_names_one() {
        check(">=1.2.0", &["1.2.0"], &["1.3.0-rc.1"]);
        check(">=1.2.0-0", &["1.2.0-rc.1", "1.3.0-alpha"], &["1.1.0"]);
        check(
            ">=1.2.0-beta <1.3",
            &["1.2.0-rc"],
            &["1.2.0-alpha", "1.3.0"],
        );
        check("<2-0 || 5", &["1.0-x"], &["5.1.0-x"]);
    }

    #[test]
    fn tags_that_are_no_versions_are_passed_over() {
        let tags = [
            "latest", "V1.2", "1.2.3.4", "1.", "1.2.3-", "1.2.3-01", "3.14-", "x", "", "1_0",
        ];
        check("*-0", &["01.02", "v1.2.3-a.1+b"], &tags);
        check("*", &[], &["99999999999999999999", "1.2.3-alpine"]);
    }
}
