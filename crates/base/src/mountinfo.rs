//! The mounts of a mount namespace as /proc/PID/mountinfo lists them (proc_pid_mountinfo(5)):
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! id  .  .    root  point options  optional...  - type source  super options
//! ```
//! Whoever may mount writes some of it. The names are any bytes; the kernel writes blanks, tabs, line
//! breaks and backslashes in them as `\ooo`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Five times what the kernel's own limit of 100,000 mounts (`fs.mount-max`) comes to with usual names.
const MAX_TABLE: u64 = 64 << 20;
/// Most hosts' table.
const FIRST_READ: usize = 16 << 10;
/// The kernel gives no more at once.
const PART: usize = 4 << 10;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Its number, as statx(2) tells it.
    pub id: u64,
    /// Where it is, seen from the root of the process that reads.
    pub point: PathBuf,
    /// Its own options, as `rw,nosuid,relatime`.
    pub options: &'a str,
    /// It has a peer group: what is mounted below appears at its peers (mount_namespaces(7)).
    pub shared: bool,
    /// The type of its file system, as `ext4`.
    pub kind: &'a str,
    /// The options of its file system; other bytes than UTF-8 are replaced.
    pub super_options: Cow<'a, str>,
}

/// The table of the calling process.
///
/// # Errors
/// As open(2) and read(2), and `InvalidData` for one of more than 64 MiB.
pub fn read() -> io::Result<Vec<u8>> {
    read_until(|_| false)
}

/// As much of the table of the calling process as is enough for the caller, who is asked with the whole lines
/// that are there after each read(2). The oldest mounts come first.
///
/// # Errors
/// As [`read`].
pub fn read_until(is_enough: impl FnMut(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    read_from(File::open("/proc/self/mountinfo")?, MAX_TABLE, is_enough)
}

fn read_from(
    mut table: impl Read,
    max: u64,
    mut is_enough: impl FnMut(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FIRST_READ);
    let mut part = [0; PART];
    loop {
        match table.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > max {
            let why = format!("the table of mounts is longer than {max} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        let last = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = last.map_or(0, |last| last + 1);
        if is_enough(bytes.get(..whole).unwrap_or_default()) {
            bytes.truncate(whole);
            return Ok(bytes);
        }
    }
}

/// The mounts of a table, in its order: of those at one point, the last is on top. What is no line of the
/// kernel's is passed over.
pub fn parse(table: &[u8]) -> impl DoubleEndedIterator<Item = Mount<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line)
}

fn parse_line(line: &[u8]) -> Option<Mount<'_>> {
    let text = |field| std::str::from_utf8(field).ok();
    let mut fields = line.split(|byte| *byte == b' ');
    let id = text(fields.next()?)?.parse().ok()?;
    let point = unescape(fields.nth(3)?);
    let options = text(fields.next()?)?;
    let mut shared = false;
    // Without the end of the optional fields it is no whole line.
    loop {
        match fields.next()? {
            b"-" => break,
            field => shared |= field.starts_with(b"shared:"),
        }
    }
    Some(Mount {
        id,
        point: OsString::from_vec(point).into(),
        options,
        shared,
        kind: text(fields.next()?)?,
        super_options: String::from_utf8_lossy(fields.nth(1)?),
    })
}

/// A name as it is.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let table = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
            37 35 0:30 / /a rw shared:4 master:2 propagate_from:7 unbindable - cgroup2  rw,nsdelegate\n\
            38 35 0:31 / /b ro - overlay overlay rw,lowerdir=/l\xff\n";
        let found: Vec<_> = parse(table).collect();
        let first = Mount {
            id: 36,
            point: "/mnt2".into(),
            options: "rw,noatime",
            shared: false,
            kind: "ext3",
            super_options: "rw,errors=continue".into(),
        };
        assert_eq!(found[0], first);
        // A source may be empty.
        assert_eq!(
            (found[1].shared, found[1].kind, &*found[1].super_options),
            (true, "cgroup2", "rw,nsdelegate")
        );
        assert_eq!(
            (found[2].options, &*found[2].super_options),
            ("ro", "rw,lowerdir=/l\u{fffd}")
        );
    }

    #[test]
    fn every_name_that_a_directory_can_have_is_read_as_it_is() {
        for (written, name) in [
            (&b"/a\\040b\\134c"[..], &b"/a b\\c"[..]),
            (b"/\\011\\012\\043", b"/\t\n#"),
            (b"/\\134040", b"/\\040"),
            (b"/\xff\xc3\\040", b"/\xff\xc3 "),
            // None of these is the kernel's.
            (b"/a\\09b\\", b"/a\\09b\\"),
            (b"/\\400\\47", b"/\\400\\47"),
        ] {
            let line = [b"1 1 0:1 / ", written, b" rw - tmpfs - rw"].concat();
            let found: Vec<_> = parse(&line).collect();
            assert_eq!(found[0].point.as_os_str().as_bytes(), name, "{written:?}");
        }
    }

    #[test]
    fn what_is_no_line_is_passed_over_and_costs_no_other() {
        let good = "7 1 0:1 / /good rw - proc proc rw";
        for bad in [
            "",
            " ",
            "x 1 0:1 / /bad rw - proc proc rw",
            "99999999999999999999 1 0:1 / /bad rw - proc proc rw",
            "1 1 0:1 / /bad rw",
            "1 1 0:1 / /bad rw shared:1",
            "1 1 0:1 / /bad rw -",
            "1 1 0:1 / /bad rw - proc proc",
        ] {
            let table = format!("{bad}\n{good}\n{bad}");
            let found: Vec<_> = parse(table.as_bytes()).map(|mount| mount.point).collect();
            assert_eq!(found, [PathBuf::from("/good")], "{bad:?}");
        }
    }

    #[test]
    fn a_table_is_read_whole_or_refused() {
        let all = |_: &[u8]| false;
        assert_eq!(read_from(&b"1234"[..], 4, all).unwrap(), b"1234");
        let error = read_from(io::repeat(b'x'), 4, all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn a_table_is_read_no_further_than_its_reader_wants() {
        let parts = (&b"one\ntw"[..]).chain(&b"o\nthree\nfo"[..]);
        let mut seen = Vec::new();
        let read = read_from(parts.chain(io::repeat(b'x')), MAX_TABLE, |table| {
            seen.push(table.to_owned());
            table.ends_with(b"three\n")
        });
        assert_eq!(read.unwrap(), b"one\ntwo\nthree\n");
        assert_eq!(seen, [&b"one\n"[..], b"one\ntwo\nthree\n"]);
    }

    #[test]
    fn this_process_has_a_root_and_a_proc() {
        let table = read().unwrap();
        assert!(parse(&table).any(|mount| mount.point == Path::new("/")));
        assert!(parse(&table).any(|mount| mount.kind == "proc"));
    }
}
