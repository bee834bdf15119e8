//! What a log holds after reads of all kinds.

use super::*;

/// A log in a directory of its own, and what is in it without the times.
struct Scratch {
    dir: PathBuf,
    log: Option<CriLog>,
}

impl Scratch {
    fn new(name: &str, max_size: Option<u64>) -> Self {
        let dir = std::env::temp_dir().join(format!("floe-log-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let target = LogTarget {
            path: dir.join("0.log"),
            max_size,
        };
        let (log, made) = CriLog::create(&target).unwrap();
        assert!(made);
        Self {
            dir,
            log: Some(log),
        }
    }

    fn log(&mut self) -> &mut CriLog {
        self.log.as_mut().unwrap()
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("0.log")).unwrap();
        text.lines().map(|line| line[31..].to_owned()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.log = None;
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

#[test]
fn a_read_of_several_lines_is_as_many_full_lines() {
    let mut scratch = Scratch::new("full", None);
    scratch.log().append(Stream::Stdout, b"one\n\nthree\n");
    scratch.log().append(Stream::Stderr, b"bad\n");
    assert_eq!(
        scratch.lines(),
        [
            "stdout F one",
            "stdout F ",
            "stdout F three",
            "stderr F bad"
        ]
    );
}

#[test]
fn a_line_over_two_reads_is_a_part_and_a_full_line() {
    let mut scratch = Scratch::new("part", None);
    scratch.log().append(Stream::Stdout, b"fir");
    scratch.log().append(Stream::Stderr, b"other\n");
    scratch.log().append(Stream::Stdout, b"st\n");
    scratch.log().end(Stream::Stdout);
    assert_eq!(
        scratch.lines(),
        ["stdout P fir", "stderr F other", "stdout F st"]
    );
}

#[test]
fn a_last_line_without_newline_is_ended_by_an_empty_full_line() {
    let mut scratch = Scratch::new("end", None);
    scratch.log().append(Stream::Stdout, b"bye");
    scratch.log().end(Stream::Stdout);
    scratch.log().end(Stream::Stdout);
    assert_eq!(scratch.lines(), ["stdout P bye", "stdout F "]);
}

#[test]
fn carriage_returns_are_kept_also_at_the_edge_of_a_read() {
    let mut scratch = Scratch::new("crlf", None);
    scratch.log().append(Stream::Stdout, b"a\r\nb\r");
    scratch.log().append(Stream::Stdout, b"\nc\r\n");
    let text = std::fs::read_to_string(scratch.dir.join("0.log")).unwrap();
    let texts: Vec<&str> = text
        .split_terminator('\n')
        .map(|line| &line[31..])
        .collect();
    assert_eq!(
        texts,
        ["stdout F a\r", "stdout P b\r", "stdout F ", "stdout F c\r"]
    );
}

#[test]
fn a_long_line_is_cut_at_the_limit_and_not_before() {
    let mut scratch = Scratch::new("long", None);
    let exact = "x".repeat(LONGEST);
    scratch
        .log()
        .append(Stream::Stdout, format!("{exact}\n").as_bytes());
    scratch
        .log()
        .append(Stream::Stdout, format!("{exact}y\n").as_bytes());
    scratch
        .log()
        .append(Stream::Stdout, format!("{exact}{exact}\n").as_bytes());
    let full = format!("stdout F {exact}");
    let part = format!("stdout P {exact}");
    assert_eq!(scratch.lines(), [&full, &part, "stdout F y", &part, &full]);
}

#[test]
fn more_lines_than_one_system_call_takes_all_arrive() {
    let mut scratch = Scratch::new("many", None);
    scratch
        .log()
        .append(Stream::Stdout, "l\n".repeat(5000).as_bytes());
    assert_eq!(scratch.lines().len(), 5000);
}

#[test]
fn a_log_with_a_limit_starts_again_and_keeps_the_newest() {
    let mut scratch = Scratch::new("max", Some(200));
    for number in 0..20 {
        scratch
            .log()
            .append(Stream::Stdout, format!("line {number}\n").as_bytes());
    }
    let lines = scratch.lines();
    assert!(lines.len() < 5, "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("stdout F line 19"));
}

#[test]
fn a_symbolic_link_a_fifo_and_a_missing_directory_are_refused() {
    let scratch = Scratch::new("refuse", None);
    let refused = |name: &str| {
        let target = LogTarget {
            path: scratch.dir.join(name),
            max_size: None,
        };
        CriLog::create(&target).unwrap_err().to_string()
    };
    std::os::unix::fs::symlink("0.log", scratch.dir.join("link")).unwrap();
    assert!(
        refused("link").contains("is a symbolic link"),
        "{}",
        refused("link")
    );
    let fifo = scratch.dir.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        Mode::RWXU,
        0,
    )
    .unwrap();
    assert!(refused("fifo").contains("fifo"), "{}", refused("fifo"));
    assert!(
        refused("none/0.log").contains("No such file"),
        "{}",
        refused("none/0.log")
    );
}

#[test]
fn after_a_full_disk_the_log_says_how_many_lines_are_missing() {
    let full = std::env::temp_dir().join(format!("floe-log-{}-full-disk", std::process::id()));
    if let Err(error) = crate::shm::mount_at(&full, 64 << 10) {
        eprintln!("SKIP: cannot mount a small tmpfs: {error}");
        return;
    }
    let (mut log, _) = CriLog::create(&LogTarget {
        path: full.join("0.log"),
        max_size: None,
    })
    .unwrap();
    for _ in 0..100 {
        log.append(Stream::Stdout, format!("{}\n", "z".repeat(1000)).as_bytes());
    }
    let before = std::fs::read_to_string(full.join("0.log")).unwrap();
    log.file.set_len(0).unwrap();
    log.append(Stream::Stdout, b"again\n");
    drop(log);
    let after = std::fs::read_to_string(full.join("0.log")).unwrap();
    crate::shm::unmount(&full).unwrap();
    std::fs::remove_dir(&full).unwrap();
    let kept = before.lines().count();
    assert!(before.ends_with("zz\n"), "no half line is left");
    let expected = format!(
        "stderr F floe: {} lines of this log were lost here: No space",
        100 - kept
    );
    assert!(after.lines().next().unwrap().contains(&expected), "{after}");
    assert!(after.ends_with("stdout F again\n"), "{after}");
}
