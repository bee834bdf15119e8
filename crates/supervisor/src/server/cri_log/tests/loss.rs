//! What a log says of what it lacks.

use std::path::Path;

use super::*;

/// The texts of a log, with their streams and tags.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is torn"
    );
    text.lines().map(|line| line[31..].to_owned()).collect()
}

/// How many lines and bytes a note says.
fn noted(line: &str) -> (u64, u64) {
    let rest = line.strip_prefix("stderr F floe: ").unwrap();
    let (lines, rest) = rest
        .split_once(" lines of this log were lost here: ")
        .unwrap();
    let bytes = rest
        .rsplit_once('(')
        .unwrap()
        .1
        .strip_suffix(" bytes)")
        .unwrap();
    (lines.parse().unwrap(), bytes.parse().unwrap())
}

#[test]
fn a_log_at_its_limit_grows_no_more_and_the_next_one_says_what_is_missing() {
    let limit = 20_000;
    let mut scratch = Scratch::bounded("limit", None, Some(limit));
    for number in 0..1000 {
        let line = format!("line {number:04}\n");
        scratch.log().append(Stream::Stdout, line.as_bytes());
    }
    let path = scratch.dir.join("0.log");
    assert!(std::fs::metadata(&path).unwrap().len() <= limit);
    let mut before = lines(&path);
    let mark = before.pop().unwrap();
    assert_eq!(
        mark,
        "stderr F floe: lines of this log are lost from here on: it has reached its limit of 20000 bytes"
    );
    let kept = before.len() as u64;
    assert_eq!(
        before.last().unwrap(),
        &format!("stdout F line {:04}", kept - 1)
    );
    let loss = scratch.log().news().unwrap();
    assert_eq!(
        loss.why.as_deref(),
        Some("it has reached its limit of 20000 bytes")
    );
    assert_eq!(scratch.log().loss().lines, 1000 - kept);

    std::fs::rename(&path, scratch.dir.join("0.log.1")).unwrap();
    scratch.log().reopen().unwrap();
    assert_eq!(noted(&lines(&path)[0]), (1000 - kept, (1000 - kept) * 10));
    assert_eq!(scratch.log().news().unwrap().why, None);
    scratch.log().append(Stream::Stdout, b"again\n");
    assert_eq!(lines(&path)[1..], ["stdout F again"]);
    assert!(scratch.log().news().is_none());
}

#[test]
fn a_log_that_somebody_empties_goes_on() {
    let mut scratch = Scratch::bounded("emptied", None, Some(4000));
    let path = scratch.dir.join("0.log");
    for _ in 0..100 {
        scratch
            .log()
            .append(Stream::Stdout, b"0123456789012345678901234567890\n");
    }
    std::fs::write(&path, "").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    scratch.log().append(Stream::Stdout, b"again\n");
    let after = lines(&path);
    assert!(noted(&after[0]).0 > 0, "{after:?}");
    assert_eq!(after[1..], ["stdout F again"]);
}

#[test]
fn a_line_that_is_torn_is_ended_and_its_rest_is_no_line() {
    let mut scratch = Scratch::bounded("torn", None, Some(20_000));
    let path = scratch.dir.join("0.log");
    let long = "x".repeat(LONGEST);
    // The other stream is in the middle of a line, too.
    scratch
        .log()
        .append(Stream::Stderr, format!("{long}y").as_bytes());
    for _ in 0..3 {
        scratch.log().append(Stream::Stdout, long.as_bytes());
    }
    let before = lines(&path);
    let (out, err) = (format!("stdout P {long}"), format!("stderr P {long}"));
    assert_eq!(
        before[..before.len() - 1],
        [err, out, "stdout F ".to_owned(), "stderr F ".to_owned()]
    );
    assert!(before.last().unwrap().contains("lost from here on"));
    std::fs::rename(&path, scratch.dir.join("0.log.1")).unwrap();
    scratch.log().reopen().unwrap();
    scratch
        .log()
        .append(Stream::Stdout, b"the rest of it\nnew\n");
    scratch
        .log()
        .append(Stream::Stderr, b"and of that\nother\n");
    scratch.log = None;
    let after = lines(&path);
    let (notes, texts): (Vec<_>, Vec<_>) = after.iter().partition(|line| line.contains("floe: "));
    assert_eq!(texts, ["stdout F new", "stderr F other"]);
    // One line of each stream.
    assert_eq!(
        notes.iter().map(|note| noted(note).0).sum::<u64>(),
        2,
        "{notes:?}"
    );
}

#[test]
fn the_last_lines_that_are_missing_are_said_at_the_end() {
    let mut scratch = Scratch::bounded("last", None, Some(4000));
    scratch
        .log()
        .append(Stream::Stdout, "abc\n".repeat(1000).as_bytes());
    scratch.log = None;
    let all = lines(&scratch.dir.join("0.log"));
    let kept = all.iter().filter(|line| *line == "stdout F abc").count() as u64;
    assert_eq!(noted(all.last().unwrap()).0, 1000 - kept);
    assert!(std::fs::metadata(scratch.dir.join("0.log")).unwrap().len() <= 4000);
}

/// A small disk, if this machine lets us have one.
struct Disk(PathBuf);

impl Disk {
    fn of(name: &str, size: u64) -> Option<Self> {
        let at = std::env::temp_dir().join(format!("floe-log-{}-{name}", std::process::id()));
        match crate::shm::mount_at(&at, size, (0, 0)) {
            Ok(()) => Some(Self(at)),
            Err(error) => {
                eprintln!("SKIP: cannot mount a small tmpfs: {error}");
                None
            }
        }
    }

    fn log(&self, reserve: Option<u64>) -> CriLog {
        let target = LogTarget {
            path: self.0.join("0.log"),
            beneath: None,
            max_size: None,
            limit: None,
            reserve,
        };
        CriLog::create(&target).unwrap().0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        crate::shm::unmount(&self.0).unwrap();
        std::fs::remove_dir(&self.0).unwrap();
    }
}

#[test]
fn logs_leave_a_reserve_of_the_disk_and_go_on_when_there_is_space() {
    let Some(disk) = Disk::of("reserve", 8 << 20) else {
        return;
    };
    let mut log = disk.log(Some(512 << 10));
    let line = format!("{}\n", "z".repeat(999));
    for _ in 0..10_000 {
        log.append(Stream::Stdout, line.as_bytes());
    }
    let free = || {
        let found = rustix::fs::statvfs(&disk.0).unwrap();
        found.f_bavail * found.f_frsize
    };
    // What is written between two looks may go into it.
    assert!(free() > 200 << 10, "{}", free());
    let path = disk.0.join("0.log");
    let mut before = lines(&path);
    let mark = before.pop().unwrap();
    assert!(
        mark.ends_with("less than 524288 bytes of its disk are free"),
        "{mark}"
    );
    assert!(log.news().unwrap().why.is_some());
    std::fs::rename(&path, disk.0.join("1")).unwrap();
    log.reopen().unwrap();
    assert_eq!(lines(&path), [""; 0], "no space for anything yet");
    std::fs::remove_file(disk.0.join("1")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    log.append(Stream::Stdout, b"again\n");
    let after = lines(&path);
    assert_eq!(noted(&after[0]).0, 10_000 - before.len() as u64);
    assert_eq!(after[1..], ["stdout F again"]);
}

#[test]
fn after_a_full_disk_the_log_says_how_many_lines_are_missing() {
    let Some(disk) = Disk::of("full-disk", 64 << 10) else {
        return;
    };
    let mut log = disk.log(None);
    for _ in 0..100 {
        log.append(Stream::Stdout, format!("{}\n", "z".repeat(1000)).as_bytes());
    }
    let path = disk.0.join("0.log");
    let kept = lines(&path).len() as u64;
    log.file.set_len(0).unwrap();
    log.append(Stream::Stdout, b"again\n");
    drop(log);
    let after = lines(&path);
    assert!(after[0].contains("lost here: No space"), "{after:?}");
    assert_eq!(noted(&after[0]).0, 100 - kept);
    assert_eq!(after[1..], ["stdout F again"]);
}
