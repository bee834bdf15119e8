//! config.md, mounts, options: words of mount(8) to flags, attributes and data.

use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::spec::Mount;
use crate::sys::MountAttr;

pub(super) const ATIME_MASK: u64 = 0x70;

/// A mount's options, understood.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) bind: bool,
    pub(super) recursive_bind: bool,
    /// What mount(2) takes.
    pub(super) flags: u64,
    /// The same for a bind mount, as mount_setattr(2) takes it.
    pub(super) attr: MountAttr,
    /// For the mount and everything below it.
    pub(super) recursive_attr: MountAttr,
    pub(super) propagation: Option<MountPropagationFlags>,
    /// Are the mounts below it idmapped as well?
    pub(super) recursive_idmap: bool,
    /// Copy what the mount hides into it.
    pub(super) copy_up: bool,
    /// What the file system understands, comma separated.
    pub(super) data: String,
}

/// (word, mount(2) flag, mount_setattr(2) attribute, does the word clear it?)
const WORDS: &[(&str, u64, u64, bool)] = &[
    ("ro", libc::MS_RDONLY, 0x1, false),
    ("rw", libc::MS_RDONLY, 0x1, true),
    ("nosuid", libc::MS_NOSUID, 0x2, false),
    ("suid", libc::MS_NOSUID, 0x2, true),
    ("nodev", libc::MS_NODEV, 0x4, false),
    ("dev", libc::MS_NODEV, 0x4, true),
    ("noexec", libc::MS_NOEXEC, 0x8, false),
    ("exec", libc::MS_NOEXEC, 0x8, true),
    ("nodiratime", libc::MS_NODIRATIME, 0x80, false),
    ("diratime", libc::MS_NODIRATIME, 0x80, true),
    ("nosymfollow", 256, 0x20_0000, false),
    ("symfollow", 256, 0x20_0000, true),
    ("sync", libc::MS_SYNCHRONOUS, 0, false),
    ("async", libc::MS_SYNCHRONOUS, 0, true),
    ("dirsync", libc::MS_DIRSYNC, 0, false),
    ("mand", libc::MS_MANDLOCK, 0, false),
    ("nomand", libc::MS_MANDLOCK, 0, true),
    ("iversion", libc::MS_I_VERSION, 0, false),
    ("noiversion", libc::MS_I_VERSION, 0, true),
    ("silent", libc::MS_SILENT, 0, false),
    ("loud", libc::MS_SILENT, 0, true),
    ("lazytime", libc::MS_LAZYTIME, 0, false),
    ("nolazytime", libc::MS_LAZYTIME, 0, true),
    ("acl", libc::MS_POSIXACL, 0, false),
    ("noacl", libc::MS_POSIXACL, 0, true),
];

/// Words that are no flag of one mount.
const OTHERS: [&str; 7] = [
    "bind",
    "rbind",
    "tmpcopyup",
    "defaults",
    "remount",
    "idmap",
    "ridmap",
];

const PROPAGATIONS: [&str; 4] = ["shared", "slave", "private", "unbindable"];

/// (word, mount(2) flag, access time attribute)
const ATIMES: &[(&str, u64, u64)] = &[
    ("relatime", libc::MS_RELATIME, 0),
    ("noatime", libc::MS_NOATIME, 0x10),
    ("strictatime", libc::MS_STRICTATIME, 0x20),
    ("atime", 0, 0),
    ("norelatime", 0, 0),
    ("nostrictatime", 0, 0),
];

/// What a bind with any flag at all does not have unless it says so (mount(8), `remount,bind`).
const BASIC: u64 = 0x1 | 0x2 | 0x4 | 0x8 | 0x20_0000;
pub(super) const NODIRATIME: u64 = 0x80;

/// Does what is mounted in it later go back to its source?
pub(crate) fn is_shared(asked: &Mount) -> bool {
    let propagation = Options::parse(asked).propagation;
    propagation.is_some_and(|kind| kind.contains(MountPropagationFlags::SHARED))
}

/// Is it a bind, whatever its type says?
pub(crate) fn is_bind(mount: &Mount) -> bool {
    Options::parse(mount).bind
}

impl Options {
    /// The attributes of a bind mount. Without any flag it keeps those of its source. With one it
    /// has what is asked for and nothing else, except that access times are kept unless they are
    /// named.
    pub(super) fn bind_attributes(&self) -> MountAttr {
        let mut attr = self.attr;
        if attr == MountAttr::default() {
            return attr;
        }
        attr.clear |= BASIC & !attr.set;
        let times =
            libc::MS_RELATIME | libc::MS_NOATIME | libc::MS_STRICTATIME | libc::MS_NODIRATIME;
        if self.flags & times != 0 {
            attr.clear |= ATIME_MASK | (NODIRATIME & !attr.set);
        } else {
            attr.clear &= !(ATIME_MASK | NODIRATIME);
        }
        attr
    }

    /// What the words themselves set and clear.
    pub(super) fn attr_asked(&self) -> MountAttr {
        let full = self.bind_attributes();
        let times = (full.clear | full.set) & (ATIME_MASK | NODIRATIME);
        MountAttr {
            clear: (self.attr.clear & !(ATIME_MASK | NODIRATIME)) | times,
            set: self.attr.set & (BASIC | times),
            ..MountAttr::default()
        }
    }

    pub(super) fn parse(mount: &Mount) -> Self {
        let mut parsed = Self {
            bind: mount.kind.as_deref() == Some("bind"),
            ..Self::default()
        };
        let mut data: Vec<&str> = Vec::new();
        for word in &mount.options {
            if !parsed.word(word) {
                data.push(word);
            }
        }
        parsed.data = data.join(",");
        parsed
    }

    /// Takes one word; false if it is the file system's.
    fn word(&mut self, word: &str) -> bool {
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive_bind) = (true, true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.recursive_idmap = false,
            "ridmap" => self.recursive_idmap = true,
            "defaults" | "remount" => {}
            _ => {
                if let Some(flags) = propagation(word) {
                    self.propagation = Some(flags);
                } else if let Some(inner) =
                    word.strip_prefix('r').filter(|inner| is_attribute(inner))
                {
                    apply(inner, &mut self.recursive_attr);
                } else if let Some((_, flag, _, clears)) =
                    WORDS.iter().find(|(name, ..)| *name == word)
                {
                    self.flags = if *clears {
                        self.flags & !flag
                    } else {
                        self.flags | flag
                    };
                    apply(word, &mut self.attr);
                } else if let Some((_, flag, _)) = ATIMES.iter().find(|(name, ..)| *name == word) {
                    self.flags &= !(libc::MS_RELATIME | libc::MS_NOATIME | libc::MS_STRICTATIME);
                    self.flags |= flag;
                    apply(word, &mut self.attr);
                } else {
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn mount_flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(u32::try_from(self.flags).unwrap_or(0))
    }
}

fn is_attribute(word: &str) -> bool {
    WORDS
        .iter()
        .any(|(name, _, attr, _)| *name == word && *attr != 0)
        || ATIMES.iter().any(|(name, ..)| *name == word)
}

fn apply(word: &str, attr: &mut MountAttr) {
    if let Some((_, _, bit, clears)) = WORDS.iter().find(|(name, ..)| *name == word) {
        let (on, off) = if *clears {
            (&mut attr.clear, &mut attr.set)
        } else {
            (&mut attr.set, &mut attr.clear)
        };
        *on |= bit;
        *off &= !bit;
    } else if let Some((_, _, bits)) = ATIMES.iter().find(|(name, ..)| *name == word) {
        attr.clear |= ATIME_MASK;
        attr.set = (attr.set & !ATIME_MASK) | bits;
    }
}

/// All words that are understood and not left to the file system, sorted.
pub(crate) fn words() -> Vec<String> {
    let plain = WORDS.iter().map(|(word, ..)| *word);
    let plain = plain.chain(ATIMES.iter().map(|(word, ..)| *word));
    let recursive = plain.clone().filter(|word| is_attribute(word));
    let recursive = recursive.chain(PROPAGATIONS).map(|word| format!("r{word}"));
    let mut all: Vec<String> = plain
        .chain(PROPAGATIONS)
        .chain(OTHERS)
        .map(str::to_owned)
        .chain(recursive)
        .collect();
    all.sort_unstable();
    all
}

/// `rslave` and its like.
pub(super) fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let (word, recursive) = match word.strip_prefix('r') {
        Some(inner) if !inner.is_empty() => (inner, MountPropagationFlags::REC),
        _ => (word, MountPropagationFlags::empty()),
    };
    let kind = match word {
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "private" => MountPropagationFlags::PRIVATE,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        let options = options.iter().map(|word| (*word).to_owned()).collect();
        Options::parse(&Mount {
            kind: Some("tmpfs".into()),
            options,
            ..Mount::default()
        })
    }

    #[test]
    fn the_later_of_two_opposite_words_wins() {
        assert_eq!(
            parse(&["ro", "rw"]).attr,
            MountAttr {
                clear: 1,
                ..MountAttr::default()
            }
        );
        assert_eq!(parse(&["suid", "nosuid"]).flags, libc::MS_NOSUID);
    }

    #[test]
    fn a_bind_with_a_flag_has_no_other_and_keeps_its_access_times() {
        assert_eq!(
            parse(&["bind", "rprivate"]).bind_attributes(),
            MountAttr::default()
        );
        let read_only = parse(&["ro"]).bind_attributes();
        assert_eq!((read_only.set, read_only.clear), (1, BASIC & !1));
        let executable = parse(&["exec", "atime"]).bind_attributes();
        assert_eq!((executable.set, executable.clear), (0, BASIC));
        let timed = parse(&["noatime"]).bind_attributes();
        assert_eq!(
            (timed.set, timed.clear),
            (0x10, BASIC | ATIME_MASK | NODIRATIME)
        );
        let plain = parse(&["nodiratime"]).bind_attributes();
        assert_eq!((plain.set, plain.clear), (NODIRATIME, BASIC | ATIME_MASK));
    }

    #[test]
    fn every_word_that_is_told_of_is_understood() {
        for word in words() {
            assert_eq!(parse(&[&word]).data, "", "{word}");
        }
    }

    #[test]
    fn recursive_words_propagation_and_data_are_told_apart() {
        let options = parse(&["rbind", "rro", "rslave", "relatime", "size=1m", "mode=755"]);
        assert!(options.bind && options.recursive_bind);
        assert_eq!(options.recursive_attr.set, 1);
        assert_eq!(
            options.propagation,
            Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        );
        assert_eq!(options.data, "size=1m,mode=755");
        assert_eq!(options.attr.clear, ATIME_MASK);
    }
}
