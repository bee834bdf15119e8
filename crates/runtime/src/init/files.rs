//! Files of the container that its processes look into before they are its program. Whoever is in the
//! container can make anything of them, at any time: so each is opened without waiting, is used only
//! if it is what it should be, and is read to a limit.
//!
//! Called below the container's root only, after the switch. Must never wait for the container.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, RawMode, fstat, openat, stat};
use rustix::io::Errno;

use crate::errno_text;

const PASSWD: &str = "/etc/passwd";
/// Users beyond these bytes of passwd are not found.
const PASSWD_BYTES: u64 = 8 << 20;
/// No user has a longer line.
const LINE_BYTES: u64 = 64 << 10;

/// The user's home by the container's own /etc/passwd; `/` if it has none. A file that is there and
/// cannot be used is a warning.
pub(super) fn home(uid: u32, warnings: &mut Vec<String>) -> String {
    let found = match open_regular(PASSWD) {
        Ok(file) => find_home(file, uid),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(Errno::INVAL) => Err("it is not a regular file".to_owned()),
        Err(errno) => Err(errno_text(errno.raw_os_error())),
    };
    let home = found.unwrap_or_else(|reason| {
        warnings.push(format!(
            "{PASSWD} of the container says nothing of user {uid}: {reason}"
        ));
        None
    });
    home.filter(|home| !home.is_empty())
        .unwrap_or_else(|| "/".into())
}

/// The sixth field of the first line whose third one is `uid`.
fn find_home(file: File, uid: u32) -> Result<Option<String>, String> {
    let whole = file.metadata().map_or(0, |meta| meta.len());
    let mut lines = BufReader::new(file.take(PASSWD_BYTES));
    let wanted = uid.to_string();
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = lines
            .by_ref()
            .take(LINE_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        if count == 0 && whole > PASSWD_BYTES {
            return Err(format!("only its first {PASSWD_BYTES} bytes are read"));
        }
        if count == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        let mut fields = text.trim_end_matches('\n').split(':').skip(2);
        if fields.next() == Some(&wanted) {
            return Ok(fields.nth(2).map(str::to_owned));
        }
    }
}

/// A regular file; `EINVAL` if it is none.
fn open_regular(path: &str) -> Result<File, Errno> {
    Ok(open(path, OFlags::RDONLY, is_regular)?.into())
}

fn is_regular(found: &rustix::fs::Stat) -> bool {
    kind(found.st_mode) == FileType::RegularFile
}

/// Opens a file that is what it should be, before it is opened (to open a device may do something) and
/// after (it may have become another).
pub(super) fn open(
    path: &str,
    access: OFlags,
    right: impl Fn(&rustix::fs::Stat) -> bool,
) -> Result<OwnedFd, Errno> {
    if !right(&stat(path)?) {
        return Err(Errno::INVAL);
    }
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty())?;
    match right(&fstat(&file)?) {
        true => Ok(file),
        false => Err(Errno::INVAL),
    }
}

pub(super) fn kind(mode: RawMode) -> FileType {
    FileType::from_raw_mode(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8], uid: u32) -> Result<Option<String>, String> {
        let memory = rustix::fs::memfd_create("passwd", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = File::from(memory);
        std::io::Write::write_all(&mut file, text).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        find_home(file, uid)
    }

    #[test]
    fn a_user_is_found_by_number_whatever_else_the_file_holds() {
        let text = b"\xff\xfe\n:::\nroot:x:0:0::/root:/bin/sh\nplus:x:+7:0::/plus:\nu:x:7:7::/home/u:/bin/sh\nu:x:7:7::/later:";
        assert_eq!(of(text, 0), Ok(Some("/root".into())));
        assert_eq!(of(text, 7), Ok(Some("/home/u".into())));
        assert_eq!(of(text, 8), Ok(None));
        assert_eq!(of(b"short:x:7", 7), Ok(None));
        assert_eq!(of(b"", 7), Ok(None));
    }

    #[test]
    fn what_is_beyond_the_limit_is_not_read_and_that_is_told() {
        let mut text = vec![b'x'; usize::try_from(PASSWD_BYTES).unwrap()];
        text.extend_from_slice(b"\nu:x:7:7::/home/u:\n");
        let told = of(&text, 7).unwrap_err();
        assert!(told.contains("8388608 bytes"), "{told}");
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = std::env::temp_dir().join(format!("floe-files-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let fifo = dir.join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        for path in [fifo.to_str().unwrap(), dir.to_str().unwrap(), "/dev/null"] {
            assert_eq!(open_regular(path).unwrap_err(), Errno::INVAL, "{path}");
        }
        let absent = dir.join("absent");
        assert_eq!(
            open_regular(absent.to_str().unwrap()).unwrap_err(),
            Errno::NOENT
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}
