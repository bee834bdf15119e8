//! Ranges of subordinate user and group ids (subuid(5), subgid(5)): whom the users of a user namespace may
//! be outside. A file that is missing or damaged gives none; it stops nobody.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

/// More of such a file is not read.
const FILE_MAX: u64 = 1 << 20;

/// Ids from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The subordinate ids of a user, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdRanges {
    /// /etc/subuid
    pub uids: Vec<IdRange>,
    /// /etc/subgid
    pub gids: Vec<IdRange>,
}

impl IdRanges {
    /// Those of a user; of root also those of `containers`, as of podman and CRI-O.
    pub(super) fn of_user(uid: u32) -> Self {
        let passwd = read(Path::new("/etc/passwd"));
        let mut names = vec![uid.to_string()];
        names.extend(name_of(&passwd, uid));
        if uid == 0 {
            names.push("containers".to_owned());
        }
        let ranges = |path: &str| parse(&read(Path::new(path)), &names);
        Self {
            uids: ranges("/etc/subuid"),
            gids: ranges("/etc/subgid"),
        }
    }

    pub(super) fn report(&self) -> Value {
        let list = |ranges: &[IdRange]| -> Value {
            let one = |range: &IdRange| json!({ "first": range.first, "count": range.count });
            ranges.iter().map(one).collect()
        };
        json!({ "uids": list(&self.uids), "gids": list(&self.gids) })
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What was read before an error counts: whole lines of it.
        let _ = file.take(FILE_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first name of a user id in passwd(5).
fn name_of(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The lines `NAME:FIRST:COUNT` of these names; what is no such line, or goes beyond the ids that there
/// are, is passed over.
fn parse(text: &str, names: &[String]) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let whole =
            fields.next().is_none() && count > 0 && u32::checked_add(first, count).is_some();
        let ours = names.iter().any(|known| known == name);
        (whole && ours).then_some(IdRange { first, count })
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_names_and_what_is_none_is_passed_over() {
        let text = "joe:100000:65536\n# comment\n1000:200000:10\nann:1:1\njoe:x:1\njoe:5\n\
                    joe:4294967295:2\njoe:7:0\njoe:1:2:3\n joe:300000:1 \n";
        let names = ["joe".to_owned(), "1000".to_owned()];
        let found: Vec<(u32, u32)> = parse(text, &names)
            .into_iter()
            .map(|range| (range.first, range.count))
            .collect();
        assert_eq!(found, [(100_000, 65_536), (200_000, 10), (300_000, 1)]);
        assert_eq!(parse("", &names), []);
    }

    #[test]
    fn a_users_name_is_the_first_with_the_id() {
        let passwd = "root:x:0:0::/:/bin/sh\nbroken\ntoor:x:0:0::/:\njoe:x:1000:1000::/:\n";
        assert_eq!(name_of(passwd, 0).as_deref(), Some("root"));
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("joe"));
        assert_eq!(name_of(passwd, 7), None);
    }
}
