//! Who the container's process is: names of the request and of the image, looked up in the
//! image's /etc/passwd and /etc/group (CRI: run_as_user, run_as_username, run_as_group,
//! supplemental_groups and their policy; image-spec: config.User). The node's files are never read.

use std::collections::HashSet;

use store::Store;

use crate::container::{ResolvedUser, Security};
use crate::error::{Error, Result};
use crate::image::ImageRecord;

/// Longer user files are refused rather than read.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// As many groups as a process may have (setgroups(2), NGROUPS_MAX).
const MAX_GROUPS: usize = 65_536;

/// The numeric identity that request and image together ask for.
pub(crate) fn resolve(
    store: &Store,
    image: &ImageRecord,
    security: &Security,
) -> Result<ResolvedUser> {
    let files = store.read_files(image, ["/etc/passwd", "/etc/group"], MAX_FILE)?;
    let [passwd, group] = files.map(|file| {
        let bytes = file.unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let image_user = match security.user.as_str() {
        "" => image.user.clone(),
        user => user.to_owned(),
    };
    Files { passwd, group }.resolve(security, &image_user)
}

/// The same of a request that names nobody: whoever made it has looked them up.
pub(crate) fn resolve_numbers(security: &Security) -> Result<ResolvedUser> {
    let none = Files {
        passwd: String::new(),
        group: String::new(),
    };
    none.resolve(security, &security.user)
}

/// Who `USER[:GROUP]` is, by the contents of /etc/passwd and /etc/group; empty: root.
///
/// # Errors
/// A name that is not in them, or what is no such text.
pub fn resolve_user(passwd: String, group: String, user: &str) -> Result<ResolvedUser> {
    let security = Security {
        image_groups: true,
        ..Security::default()
    };
    Files { passwd, group }.resolve(&security, user)
}

struct Files {
    passwd: String,
    group: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

impl Files {
    fn resolve(&self, security: &Security, image_user: &str) -> Result<ResolvedUser> {
        let (user, image_group) = self.user_text(security, image_user)?;
        // image-spec: with a group, those of the user in /etc/group are not applied. kubelet's policy
        // Merge takes them, as with other engines; only it speaks by CRI.
        let only_asked = image_group.is_some() && security.image_groups;
        let field = match security.run_as_user.is_none() && !security.run_as_username.is_empty() {
            true => "security_context.run_as_username",
            false => "user",
        };
        let entry = self.user(field, &user)?;
        let gid = match (security.run_as_group, image_group) {
            (Some(gid), _) => number("security_context.run_as_group", gid)?,
            (None, Some(group)) => self.gid(group)?,
            (None, None) => entry.gid,
        };
        // The primary group is always one of the supplementary ones: else a process could leave it
        // by setgid and pass a file that denies that group (CVE-2022-36109).
        let mut groups = vec![gid];
        groups.extend(groups_of_request(security)?);
        if !security.strict_groups && !only_asked {
            groups.extend(self.memberships(entry.name));
        }
        let mut unique = HashSet::new();
        groups.retain(|group| unique.insert(*group));
        if groups.len() > MAX_GROUPS {
            let reason = format!("more than {MAX_GROUPS} supplementary groups");
            return Err(Error::invalid("group", reason));
        }
        Ok(ResolvedUser {
            uid: entry.uid,
            gid,
            groups,
        })
    }

    /// The user as text, and the group that came with the image's user. A user of the request
    /// does not take the image's group.
    fn user_text<'a>(
        &self,
        security: &Security,
        image_user: &'a str,
    ) -> Result<(String, Option<&'a str>)> {
        if let Some(uid) = security.run_as_user {
            return Ok((uid.to_string(), None));
        }
        if !security.run_as_username.is_empty() {
            return Ok((security.run_as_username.clone(), None));
        }
        match image_user.split_once(':') {
            Some(("", _)) | Some((_, "")) => {
                let reason = format!("{image_user:?} is neither USER nor USER:GROUP");
                Err(Error::invalid("user", reason))
            }
            Some((user, group)) => Ok((user.to_owned(), Some(group))),
            None => Ok((image_user.to_owned(), None)),
        }
    }

    fn user<'a>(&'a self, field: &str, text: &str) -> Result<PasswdEntry<'a>> {
        let text = if text.is_empty() { "0" } else { text };
        if let Some(uid) = numeric(text) {
            let uid = number(field, uid)?;
            let known = self.entries().find(|entry| entry.uid == uid);
            return Ok(known.unwrap_or(PasswdEntry {
                name: "",
                uid,
                gid: 0,
            }));
        }
        self.entries()
            .find(|entry| entry.name == text)
            .ok_or_else(|| {
                Error::invalid(
                    field,
                    format!("no user {text:?} in the image's /etc/passwd"),
                )
            })
    }

    fn gid(&self, text: &str) -> Result<u32> {
        if let Some(gid) = numeric(text) {
            return number("group", gid);
        }
        self.group
            .lines()
            .find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == text).then_some(())?;
                fields.nth(1)?.parse().ok()
            })
            .ok_or_else(|| {
                Error::invalid(
                    "group",
                    format!("no group {text:?} in the image's /etc/group"),
                )
            })
    }

    fn entries(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(PasswdEntry { name, uid, gid })
        })
    }

    fn memberships(&self, name: &str) -> Vec<u32> {
        if name.is_empty() {
            return Vec::new();
        }
        self.group
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let member = fields
                    .get(3)?
                    .split(',')
                    .any(|member| member.trim() == name);
                member.then(|| fields[2].parse().ok()).flatten()
            })
            .collect()
    }
}

fn groups_of_request(security: &Security) -> Result<Vec<u32>> {
    security
        .supplemental_groups
        .iter()
        .map(|gid| number("security_context.supplemental_groups", *gid))
        .collect()
}

/// An id in digits alone: "+0" is the name of somebody, and of nobody as a rule.
fn numeric(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Too large for any number is too large for an id.
    Some(text.parse().unwrap_or(i64::MAX))
}

fn number(field: &str, id: i64) -> Result<u32> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Error::invalid(field, format!("{id} is not an id between 0 and 4294967294")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbad line\nwww:x:33:34::/:/bin/false\n".into(),
            group: "root:x:0:\nweb:x:40:www,other\nmore:x:41:www\nusers:x:100:\n".into(),
        }
    }

    fn resolve(security: &Security, image_user: &str) -> (u32, u32, Vec<u32>) {
        let user = files().resolve(security, image_user).unwrap();
        (user.uid, user.gid, user.groups)
    }

    #[test]
    fn the_image_user_may_be_a_name_or_number_with_a_group_of_either_kind() {
        let none = Security::default();
        assert_eq!(resolve(&none, ""), (0, 0, vec![0]));
        assert_eq!(resolve(&none, "www"), (33, 34, vec![34, 40, 41]));
        assert_eq!(resolve(&none, "1002"), (1002, 0, vec![0]));
        assert_eq!(resolve(&none, "1003:users"), (1003, 100, vec![100]));
        // Over CRI the image's groups are kubelet's to take or leave.
        assert_eq!(resolve(&none, "www:100"), (33, 100, vec![100, 40, 41]));
    }

    #[test]
    fn the_request_wins_over_the_image_and_does_not_take_its_group() {
        let request = Security {
            run_as_user: Some(7),
            supplemental_groups: vec![5, 5],
            ..Security::default()
        };
        assert_eq!(resolve(&request, "www:users"), (7, 0, vec![0, 5]));
        let request = Security {
            run_as_username: "www".into(),
            run_as_group: Some(9),
            ..Security::default()
        };
        assert_eq!(resolve(&request, "1"), (33, 9, vec![9, 40, 41]));
    }

    #[test]
    fn the_strict_policy_takes_no_group_from_the_image() {
        let request = Security {
            strict_groups: true,
            supplemental_groups: vec![1],
            ..Security::default()
        };
        assert_eq!(resolve(&request, "www"), (33, 34, vec![34, 1]));
    }

    #[test]
    fn a_user_with_a_group_has_that_group_alone_where_the_image_spec_rules() {
        let person = Security {
            image_groups: true,
            ..Security::default()
        };
        assert_eq!(resolve(&person, "www:100"), (33, 100, vec![100]));
        assert_eq!(resolve(&person, "33:34"), (33, 34, vec![34]));
        assert_eq!(resolve(&person, "www"), (33, 34, vec![34, 40, 41]));
        assert_eq!(resolve(&person, "33"), (33, 34, vec![34, 40, 41]));
    }

    #[test]
    fn what_is_no_user_of_the_image_spec_is_refused_and_never_root() {
        let none = Security::default();
        for user in [
            "+0",
            "+0:0",
            "0:+0",
            ":",
            ":0",
            "0:",
            "www:",
            "::",
            "0x0",
            " 0",
            "0 ",
            "\n0",
            "-0",
            "99999999999999999999",
            "4294967296",
            "4294967295",
            "root\n",
        ] {
            let refused = files().resolve(&none, user);
            assert!(refused.is_err(), "{user:?}: {refused:?}");
        }
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_named_in_the_error() {
        let none = Security::default();
        assert!(
            files()
                .resolve(&none, "ghost")
                .unwrap_err()
                .to_string()
                .contains("ghost")
        );
        assert!(
            files()
                .resolve(&none, "www:ghosts")
                .unwrap_err()
                .to_string()
                .contains("ghosts")
        );
        let negative = Security {
            run_as_user: Some(-1),
            ..Security::default()
        };
        assert!(files().resolve(&negative, "").is_err());
    }
}
