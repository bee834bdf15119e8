//! Who the container's process is: names of the request and of the image, looked up in the
//! image's /etc/passwd and /etc/group (CRI: run_as_user, run_as_username, run_as_group,
//! supplemental_groups and their policy; image-spec: config.User). The node's files are never read.

use store::Store;

use crate::container::{ResolvedUser, Security};
use crate::error::{Error, Result};
use crate::image::ImageRecord;

/// Longer user files are refused rather than read.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// The numeric identity that request and image together ask for.
pub(crate) fn resolve(
    store: &Store,
    image: &ImageRecord,
    security: &Security,
) -> Result<ResolvedUser> {
    let read = |path: &str| -> Result<String> {
        let bytes = store.read_file(image, path, MAX_FILE)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let image_user = match security.user.as_str() {
        "" => image.user.clone(),
        user => user.to_owned(),
    };
    Files {
        passwd: read("/etc/passwd")?,
        group: read("/etc/group")?,
    }
    .resolve(security, &image_user)
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
        let (user, image_group) = self.user_text(security, image_user);
        let entry = self.user(&user)?;
        let gid = match (security.run_as_group, image_group) {
            (Some(gid), _) => number("security_context.run_as_group", gid)?,
            (None, Some(group)) => self.gid(group)?,
            (None, None) => entry.gid,
        };
        // The primary group is always one of the supplementary ones: else a process could leave it
        // by setgid and pass a file that denies that group (CVE-2022-36109).
        let mut groups = vec![gid];
        groups.extend(groups_of_request(security)?);
        if !security.strict_groups {
            groups.extend(self.memberships(entry.name));
        }
        let mut unique = Vec::with_capacity(groups.len());
        groups.retain(|group| {
            !unique.contains(group) && {
                unique.push(*group);
                true
            }
        });
        Ok(ResolvedUser {
            uid: entry.uid,
            gid,
            groups,
        })
    }

    /// The user as text, and the group that came with the image's user. A user of the request
    /// does not take the image's group.
    fn user_text<'a>(&self, security: &Security, image_user: &'a str) -> (String, Option<&'a str>) {
        if let Some(uid) = security.run_as_user {
            return (uid.to_string(), None);
        }
        if !security.run_as_username.is_empty() {
            return (security.run_as_username.clone(), None);
        }
        match image_user.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group).filter(|g| !g.is_empty())),
            None => (image_user.to_owned(), None),
        }
    }

    fn user<'a>(&'a self, text: &str) -> Result<PasswdEntry<'a>> {
        let text = if text.is_empty() { "0" } else { text };
        if let Ok(uid) = text.parse::<i64>() {
            let uid = number("user", uid)?;
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
                    "user",
                    format!("no user {text:?} in the image's /etc/passwd"),
                )
            })
    }

    fn gid(&self, text: &str) -> Result<u32> {
        if let Ok(gid) = text.parse::<i64>() {
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
