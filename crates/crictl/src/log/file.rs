//! A log's file: where its last lines begin, what comes to it, and what takes its place when it is rotated. A
//! line is bounded; the file is waited for by inotify.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// The longest line that is taken: a runtime's have 16 KiB and what stands before them.
const LINE: usize = 1 << 20;

/// What is read at once.
const PIECE: usize = 64 << 10;

/// The file of a log.
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// What was read and is no whole line yet.
    kept: Vec<u8>,
    /// How many bytes of it were given.
    given: usize,
}

/// Opens a plain file: a log is nothing else.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = options.read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no plain file",
        )),
    }
}

impl LogFile {
    /// Opens a log, links to it followed, at its last `tail` lines; `None`: at its beginning.
    pub(crate) fn open(path: &Path, tail: Option<u64>) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let mut file = open(&path)?;
        if let Some(tail) = tail {
            let start = start_of(&file, tail)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self {
            path,
            file,
            kept: Vec::new(),
            given: 0,
        })
    }

    /// The next whole line; `None` where the file ends for now.
    pub(crate) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let rest = &self.kept[self.given..];
            if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line = rest[..=end].to_vec();
                self.given += end + 1;
                return Ok(Some(line));
            }
            if rest.len() > LINE {
                let why = format!("a line of more than {LINE} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            self.kept.drain(..self.given);
            self.given = 0;
            let begin = self.kept.len();
            self.kept.resize(begin + PIECE, 0);
            let read = self.file.read(&mut self.kept[begin..])?;
            self.kept.truncate(begin + read);
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// What stands after the last line end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let rest = self.kept.split_off(self.given);
        self.kept.clear();
        self.given = 0;
        rest
    }

    /// Goes on with the file that has taken this one's place; whether there is one.
    pub(crate) fn follow_rotation(&mut self) -> io::Result<bool> {
        let now = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            now => now?,
        };
        let ours = self.file.metadata()?;
        if (now.dev(), now.ino()) == (ours.dev(), ours.ino()) {
            return Ok(false);
        }
        self.file = open(&self.path)?;
        self.kept.clear();
        self.given = 0;
        Ok(true)
    }

    /// A watch on what happens in the log's directory.
    pub(crate) fn watch(&self) -> io::Result<Watch> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let wanted = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        inotify::add_watch(&inotify, dir, wanted)?;
        // An inotify is read as a pipe is.
        Ok(Watch(Receiver::from_owned_fd_unchecked(inotify)?))
    }
}

/// News of a log's directory.
pub(crate) struct Watch(Receiver);

impl Watch {
    /// Waits for news, or so long.
    pub(crate) async fn wait(&mut self, most: Duration) -> io::Result<()> {
        let mut buffer = [0; 4096];
        // What has happened is seen in the file; here it is only taken away.
        match tokio::time::timeout(most, self.0.read(&mut buffer)).await {
            Ok(read) => read.map(drop),
            Err(_) => Ok(()),
        }
    }
}

/// Where the last so many lines begin.
fn start_of(file: &File, lines: u64) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let length = end;
    let mut left = lines;
    let mut buffer = vec![0; PIECE];
    while end > 0 {
        let begin = end.saturating_sub(PIECE as u64);
        let size = usize::try_from(end - begin).unwrap_or(PIECE);
        file.read_exact_at(&mut buffer[..size], begin)?;
        for at in (0..size).rev() {
            // The end of the file's last line begins no other.
            let place = begin + at as u64 + 1;
            if buffer[at] == b'\n' && place != length {
                left = left.saturating_sub(1);
            }
            if left == 0 {
                return Ok(match buffer[at] {
                    b'\n' => place,
                    _ => length,
                });
            }
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A file of its own, which goes with it.
    struct Made(PathBuf);

    impl Made {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("crictl-{name}-{}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    fn all(log: &mut LogFile) -> String {
        let mut out = Vec::new();
        while let Some(line) = log.line().unwrap() {
            out.extend(line);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_lines_are_found() {
        let made = Made::new("tail", "1\n2\n3\n");
        for (tail, expected) in [
            (None, "1\n2\n3\n"),
            (Some(0), ""),
            (Some(1), "3\n"),
            (Some(2), "2\n3\n"),
            (Some(9), "1\n2\n3\n"),
        ] {
            let mut log = LogFile::open(&made.0, tail).unwrap();
            assert_eq!(all(&mut log), expected, "{tail:?}");
        }
    }

    #[test]
    fn a_line_is_whole_or_kept_and_a_rotated_file_is_followed() {
        let made = Made::new("grow", "1\n2");
        let mut log = LogFile::open(&made.0, None).unwrap();
        assert_eq!(all(&mut log), "1\n");
        let mut file = File::options().append(true).open(&made.0).unwrap();
        file.write_all(b"3\n4").unwrap();
        assert_eq!(all(&mut log), "23\n");
        assert!(!log.follow_rotation().unwrap());
        assert_eq!(log.rest(), b"4");
        std::fs::remove_file(&made.0).unwrap();
        assert!(!log.follow_rotation().unwrap());
        // With the old one still open, the new one has another number.
        std::fs::write(&made.0, "5\n").unwrap();
        assert!(log.follow_rotation().unwrap());
        assert_eq!(all(&mut log), "5\n");
    }

    #[test]
    fn what_is_no_log_is_refused() {
        assert!(LogFile::open(Path::new("/dev/zero"), None).is_err());
        assert!(LogFile::open(&std::env::temp_dir(), None).is_err());
        let made = Made::new("long", &"x".repeat(LINE + PIECE + 1));
        let mut log = LogFile::open(&made.0, None).unwrap();
        assert!(log.line().is_err());
    }
}
