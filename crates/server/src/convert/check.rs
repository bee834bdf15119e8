//! What a text or a list of a request must be, whatever it is for: paths, names, words of a command
//! and limits that the kernel or a record sets. Each check names the field and is made before
//! anything else is.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use engine::Error;

use super::invalid;

/// PATH_MAX and NAME_MAX of Linux.
const PATH: usize = 4095;
const NAME: usize = 255;
/// The longest word of a command or environment (MAX_ARG_STRLEN), with its zero byte.
const WORD: usize = 128 * 1024 - 1;
/// All words of a command or environment together: what the kernel takes with the usual stack.
const WORDS: usize = 2 * 1024 * 1024;
/// Labels or annotations of one object; Kubernetes allows 256 KiB. Lists carry all of them.
const NOTES: usize = 1024 * 1024;
/// Bytes of a pod's or container's name. Kubernetes allows 253.
const OBJECT: usize = 1024;
/// Kernel parameters of a pod, and bytes of a value.
const SYSCTLS: usize = 512;
const SYSCTL: usize = 4096;

/// A list of at most `most` things.
pub(crate) fn at_most<T>(field: &str, list: &[T], most: usize) -> Result<(), Error> {
    match list.len() {
        count if count > most => Err(invalid(
            field,
            format!("has {count} entries, more than {most}"),
        )),
        _ => Ok(()),
    }
}

/// What only a node with Windows could do.
pub(crate) fn no_windows(field: &str, given: bool) -> Result<(), Error> {
    match given {
        true => Err(invalid(field, "this node runs Linux")),
        false => Ok(()),
    }
}

/// A text that the kernel takes: without a zero byte, and no longer than `most`.
pub(crate) fn text(field: &str, text: &str, most: usize) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(invalid(field, "has a zero byte"));
    }
    if text.len() > most {
        let reason = format!("has {} bytes, more than {most}", text.len());
        return Err(invalid(field, reason));
    }
    Ok(())
}

/// A text on one line, such as a name: no control characters.
pub(crate) fn line(field: &str, value: &str, most: usize) -> Result<(), Error> {
    text(field, value, most)?;
    match value.chars().find(|character| character.is_control()) {
        Some(bad) => Err(invalid(field, format!("has the control character {bad:?}"))),
        None => Ok(()),
    }
}

/// The name of a pod or container, or a part of it.
pub(crate) fn name(field: &str, name: &str) -> Result<(), Error> {
    line(field, name, OBJECT)
}

/// A path that may be given to the kernel; empty is none.
pub(crate) fn path(field: &str, path: &str) -> Result<(), Error> {
    text(field, path, PATH)?;
    let long = |part: &Component<'_>| part.as_os_str().len() > NAME;
    match Path::new(path).components().any(|part| long(&part)) {
        true => Err(invalid(
            field,
            format!("has a part longer than {NAME} bytes"),
        )),
        false => Ok(()),
    }
}

/// An absolute path; empty is none.
pub(crate) fn absolute(field: &str, value: &str) -> Result<(), Error> {
    path(field, value)?;
    match value.is_empty() || value.starts_with('/') {
        true => Ok(()),
        false => Err(invalid(field, format!("{value:?} is not an absolute path"))),
    }
}

/// A path below a root that it does not leave: the place of a cgroup. Empty is none.
pub(crate) fn below_root(field: &str, value: &str) -> Result<(), Error> {
    line(field, value, PATH)?;
    path(field, value)?;
    let parent = Path::new(value)
        .components()
        .any(|part| part == Component::ParentDir);
    match parent {
        true => Err(invalid(field, format!("{value:?} has a part \"..\""))),
        false => Ok(()),
    }
}

/// Labels or annotations, which are kept byte for byte.
pub(crate) fn notes(field: &str, notes: &BTreeMap<String, String>) -> Result<(), Error> {
    let bytes: usize = notes
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    match bytes > NOTES {
        true => Err(invalid(
            field,
            format!("have {bytes} bytes, more than {NOTES}"),
        )),
        false => Ok(()),
    }
}

/// A command.
pub(crate) fn command(field: &str, command: &[String]) -> Result<(), Error> {
    sum(field, command.iter().map(String::len))?;
    let mut words = command.iter().enumerate();
    words.try_for_each(|(index, text)| word(&format!("{field}[{index}]"), text.as_bytes(), 0))
}

/// One word of a command or environment, of which `more` bytes stand elsewhere.
pub(crate) fn word(field: &str, bytes: &[u8], more: usize) -> Result<(), Error> {
    if bytes.contains(&0) {
        return Err(invalid(field, "has a zero byte"));
    }
    match bytes.len() + more > WORD {
        true => {
            let reason = format!("has {} bytes, more than {WORD}", bytes.len());
            Err(invalid(field, reason))
        }
        false => Ok(()),
    }
}

/// All words of a command or environment, by their lengths.
pub(crate) fn sum(field: &str, lengths: impl Iterator<Item = usize>) -> Result<(), Error> {
    // The kernel keeps a zero byte and a pointer for each.
    let bytes: usize = lengths.map(|length| length + 1 + size_of::<usize>()).sum();
    match bytes > WORDS {
        true => {
            let reason = format!("has {bytes} bytes in all, more than {WORDS}");
            Err(invalid(field, reason))
        }
        false => Ok(()),
    }
}

/// The host name of a pod (sethostname(2) and a line of /etc/hosts); empty is none.
pub(crate) fn hostname(field: &str, name: &str) -> Result<(), Error> {
    line(field, name, 64)?;
    match name.contains(|character: char| character.is_whitespace() || "/#".contains(character)) {
        true => Err(invalid(
            field,
            format!("{name:?} is not the name of a host"),
        )),
        false => Ok(()),
    }
}

/// Kernel parameters; which of them a pod may set is its supervisor's to know.
pub(crate) fn sysctls(field: &str, sysctls: &BTreeMap<String, String>) -> Result<(), Error> {
    if sysctls.len() > SYSCTLS {
        let reason = format!("has {} entries, more than {SYSCTLS}", sysctls.len());
        return Err(invalid(field, reason));
    }
    sysctls.iter().try_for_each(|(name, value)| {
        line(field, name, NAME)?;
        if !is_parameter(name) {
            let reason = format!("{name:?} is not the name of a kernel parameter");
            return Err(invalid(field, reason));
        }
        text(&format!("{field}[{name}]"), value, SYSCTL)
    })
}

/// Parts between dots or slashes (sysctl(8)).
fn is_parameter(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@:".contains(&byte);
    let mut parts = name.split(['.', '/']);
    name.contains(['.', '/']) && parts.all(|part| !part.is_empty() && part.bytes().all(plain))
}

/// A list of processors or memory nodes as the kernel writes it: `0-3,7`. Empty is none.
pub(crate) fn cpuset(field: &str, set: &str) -> Result<(), Error> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => {
            matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
        }
        None => number(part).is_some(),
    };
    match set.is_empty() || (set.len() <= PATH && set.split(',').all(range)) {
        true => Ok(()),
        false => Err(invalid(
            field,
            format!("{set:?} is not a list such as 0-3,7"),
        )),
    }
}

/// The name of a size of huge pages: `2MB`, `1GB`, `64KB`.
pub(crate) fn page_size(field: &str, size: &str) -> Result<(), Error> {
    let digits = ["KB", "MB", "GB"]
        .into_iter()
        .find_map(|unit| size.strip_suffix(unit));
    match digits.is_some_and(|digits| digits.len() <= 9 && digits.parse::<u32>().is_ok()) {
        true => Ok(()),
        false => Err(invalid(
            field,
            format!("{size:?} is not a size such as 2MB"),
        )),
    }
}

/// The files of cgroup v2 that a request sets: names of a controller, no paths.
pub(crate) fn unified(field: &str, unified: &BTreeMap<String, String>) -> Result<(), Error> {
    for (file, value) in unified {
        line(field, file, NAME)?;
        let controller = file.split_once('.').is_some_and(|(controller, knob)| {
            !controller.is_empty() && !knob.is_empty() && !file.contains('/')
        });
        if !controller {
            let reason = format!("{file:?} is not a file such as memory.high");
            return Err(invalid(field, reason));
        }
        text(&format!("{field}[{file}]"), value, SYSCTL)?;
    }
    Ok(())
}

/// Ranges of addresses with a comma between, or nothing.
pub(crate) fn ranges(field: &str, text: &str) -> Result<(), Error> {
    line(field, text, 256)?;
    let is_range = |part: &str| {
        let (address, length) = part.trim().split_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        (length <= if address.is_ipv4() { 32 } else { 128 }).then_some(())
    };
    let bad = text.split(',').find(|part| is_range(part).is_none());
    match bad.filter(|_| !text.is_empty()) {
        Some(bad) => Err(invalid(field, format!("{bad:?} is no range of addresses"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_text_has_its_limits_and_its_field_is_named() {
        type Check = fn(&str, &str) -> Result<(), Error>;
        let long = "x".repeat(5000);
        let table: [(Check, &[&str], &[&str]); 9] = [
            (name, &["a", "", "ü b"], &["a\0", "a\nb", "\u{1b}", &long]),
            (path, &["", "/a", "a b"], &["/\0", &long]),
            (absolute, &["", "/a/../b"], &["a", "./a", "/\0"]),
            (
                below_root,
                &["", "/a/b", "a.slice"],
                &["/..", "a/../b", "a\0", "a\nb"],
            ),
            (
                hostname,
                &["", "a-b.c", &"h".repeat(64)],
                &[&"h".repeat(65), "a b", "a\n", "a/b"],
            ),
            (
                cpuset,
                &["", "0", "0-3,7", "1, 2"],
                &["a", "3-1", "0-", ",", "0\0", "-1"],
            ),
            (
                ranges,
                &["", "10.0.0.0/24", "10.0.0.0/24, fd00::/64"],
                &[
                    "10.0.0.0",
                    "10.0.0.0/33",
                    "a/8",
                    ",",
                    "fd00::/129",
                    "10.0.0.0/8,",
                ],
            ),
            (
                page_size,
                &["2MB", "1GB"],
                &["", "MB", "2", "2mb", "-2MB", "../2MB", "2\0MB"],
            ),
            (
                |field, value| command(field, &[value.to_owned()]),
                &["", &long],
                &["a\0b"],
            ),
        ];
        for (check, good, bad) in table {
            for value in good {
                check("f", value).unwrap();
            }
            for value in bad {
                let error = check("f", value).unwrap_err();
                assert_eq!(error.kind(), engine::Kind::InvalidArgument);
                assert!(error.to_string().starts_with('f'), "{error}");
            }
        }
    }

    #[test]
    fn many_words_are_as_bad_as_a_long_one() {
        assert!(command("cmd", &["x".repeat(WORD)]).is_ok());
        assert!(command("cmd", &["x".repeat(WORD + 1)]).is_err());
        assert!(command("cmd", &vec![String::new(); WORDS / 8]).is_err());
        let map = |count: usize| (0..count).map(|n| (format!("kernel.shm{n}"), "1".into()));
        assert!(sysctls("s", &map(SYSCTLS).collect()).is_ok());
        assert!(sysctls("s", &map(SYSCTLS + 1).collect()).is_err());
        let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        assert!(unified("u", &one("memory.high", "max")).is_ok());
        for bad in [
            "memory",
            "../memory.high",
            "memory.",
            ".high",
            "a.b\0",
            "a.\n",
        ] {
            assert!(unified("u", &one(bad, "1")).is_err(), "{bad:?}");
        }
        assert!(unified("u", &one("memory.high", "1\0")).is_err());
        assert!(notes("labels", &one("k", &"v".repeat(NOTES + 1))).is_err());
    }
}
