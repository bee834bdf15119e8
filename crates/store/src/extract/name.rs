//! Names of entries: cleaned before anything is made from them.
//!
//! Must never let a name through that leads out of the root by itself; symbolic links are the
//! kernel's to resolve.

use super::EntryFlaw;
use crate::limits::Limits;

/// The longest name that file systems take.
pub(super) const NAME_MAX: usize = 255;

/// A path relative to the root without empty parts, `.` and `..`; empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// Cleans a name as Go's `path.Clean` does: absolute ones are relative to the root, `a/../b` is
    /// `b`. Errors when `..` leads above the root, or a limit is exceeded.
    pub(super) fn clean(raw: &[u8], limits: &Limits) -> Result<Name, EntryFlaw> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in raw.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop().ok_or(EntryFlaw::Escape)?;
                }
                part if part.len() > NAME_MAX => return Err(EntryFlaw::LongName),
                part => parts.push(part),
            }
        }
        let name = parts.join(&b'/');
        if name.len() as u64 > limits.path_bytes || parts.len() as u64 > limits.path_depth {
            return Err(EntryFlaw::LongPath);
        }
        Ok(Name(name))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The parent's path (empty for the root) and the last name; `None` for the root itself.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(split(&self.0))
    }
}

/// The parent's path (empty for the root) and the last name of a clean path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A name from the archive for a message: readable, and not longer than a log line bears.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]).into_owned();
    if name.len() > LONGEST {
        text + "…"
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(raw: &str) -> Result<String, EntryFlaw> {
        let name = Name::clean(raw.as_bytes(), &Limits::default())?;
        Ok(String::from_utf8(name.0).unwrap())
    }

    #[test]
    fn names_are_relative_to_the_root_whatever_they_begin_with() {
        for raw in [
            "a/b",
            "/a/b",
            "//a///b/",
            "./a/./b/.",
            "x/../a/b",
            "a/x/y/../../b",
        ] {
            assert_eq!(clean(raw).unwrap(), "a/b", "{raw}");
        }
        for raw in ["", "/", ".", "./", "a/.."] {
            assert_eq!(clean(raw).unwrap(), "", "{raw}");
        }
        assert_eq!(clean("...").unwrap(), "...");
    }

    #[test]
    fn no_name_leads_above_the_root() {
        for raw in ["..", "/..", "a/../..", "../a", "a/b/../../../c", "./../x"] {
            assert!(matches!(clean(raw), Err(EntryFlaw::Escape)), "{raw}");
        }
    }

    #[test]
    fn a_name_is_split_at_its_last_slash() {
        let split = |raw: &str| {
            let name = Name::clean(raw.as_bytes(), &Limits::default()).unwrap();
            name.split()
                .map(|(parent, last)| (parent.to_vec(), last.to_vec()))
        };
        assert_eq!(split("/"), None);
        assert_eq!(split("a"), Some((b"".to_vec(), b"a".to_vec())));
        assert_eq!(split("a/b/c"), Some((b"a/b".to_vec(), b"c".to_vec())));
    }
}
