//! What a log holds after reads of all kinds.

mod loss;

use std::path::PathBuf;

use rustix::fs::Mode;

use super::*;

/// A log in a directory of its own, and what is in it without the times.
struct Scratch {
    dir: PathBuf,
    log: Option<CriLog>,
}

impl Scratch {
    fn new(name: &str, max_size: Option<u64>) -> Self {
        Self::bounded(name, max_size, None)
    }

    fn bounded(name: &str, max_size: Option<u64>, limit: Option<u64>) -> Self {
        let dir = std::env::temp_dir().join(format!("floe-log-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let target = LogTarget {
            path: dir.join("0.log"),
            beneath: None,
            max_size,
            limit,
            reserve: None,
        };
        let (log, made) = CriLog::create(&target).unwrap();
        assert!(made.is_some());
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
fn a_line_over_several_reads_is_one_full_line() {
    let mut scratch = Scratch::new("part", None);
    scratch.log().append(Stream::Stdout, b"f");
    scratch.log().append(Stream::Stderr, b"other\n");
    scratch.log().append(Stream::Stdout, b"ir");
    assert_eq!(scratch.lines(), ["stderr F other"]);
    scratch.log().append(Stream::Stdout, b"st\nsecond\nthi");
    scratch.log().append(Stream::Stdout, b"rd\n");
    scratch.log().end(Stream::Stdout);
    assert_eq!(
        scratch.lines(),
        [
            "stderr F other",
            "stdout F first",
            "stdout F second",
            "stdout F third"
        ]
    );
}

#[test]
fn a_last_line_without_newline_is_a_full_line() {
    let mut scratch = Scratch::new("end", None);
    scratch.log().append(Stream::Stdout, b"good");
    scratch.log().append(Stream::Stdout, b"bye");
    scratch.log().end(Stream::Stdout);
    scratch.log().end(Stream::Stdout);
    let long = "x".repeat(LONGEST + 3);
    scratch.log().append(Stream::Stderr, long.as_bytes());
    scratch.log = None;
    let part = format!("stderr P {}", "x".repeat(LONGEST));
    assert_eq!(scratch.lines(), ["stdout F goodbye", &part, "stderr F xxx"]);
}

#[test]
fn however_the_bytes_arrive_the_log_is_the_same() {
    let mut text = Vec::new();
    for length in [
        0,
        1,
        5,
        LONGEST - 1,
        LONGEST,
        LONGEST + 1,
        2 * LONGEST,
        3 * LONGEST + 7,
    ] {
        text.extend(std::iter::repeat_n(b'a', length));
        text.push(b'\n');
    }
    text.extend(b"rest");
    let written = |name: &str, size: usize| {
        let mut scratch = Scratch::new(name, None);
        for piece in text.chunks(size) {
            scratch.log().append(Stream::Stdout, piece);
        }
        scratch.log().end(Stream::Stdout);
        scratch.lines()
    };
    let whole = written("whole", usize::MAX);
    for size in [1, 2, 4096, LONGEST, LONGEST + 1, 10_000] {
        assert_eq!(written(&format!("by-{size}"), size), whole, "{size}");
    }
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
    assert_eq!(texts, ["stdout F a\r", "stdout F b\r", "stdout F c\r"]);
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
            beneath: None,
            max_size: None,
            limit: None,
            reserve: None,
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
fn a_link_below_the_log_directory_is_not_followed() {
    let scratch = Scratch::new("beneath", None);
    let (inside, outside) = (scratch.dir.join("logs"), scratch.dir.join("outside"));
    std::fs::create_dir_all(inside.join("real")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    let linked = scratch.dir.join("linked");
    std::os::unix::fs::symlink(&inside, &linked).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("away")).unwrap();
    std::os::unix::fs::symlink("real", inside.join("near")).unwrap();
    let create = |name: &str| {
        CriLog::create(&LogTarget {
            path: linked.join(name),
            beneath: Some(linked.clone()),
            max_size: None,
            limit: None,
            reserve: None,
        })
    };
    // The directory itself may be reached by one.
    let (_log, made) = create("real/0.log").unwrap();
    assert!(inside.join("real/0.log").exists());
    made.unwrap().remove();
    assert!(!inside.join("real/0.log").exists());
    for name in ["away/0.log", "near/0.log", "real/../../outside/0.log"] {
        let refused = create(name).unwrap_err().to_string();
        assert!(
            refused.contains("link") || refused.contains("below"),
            "{refused}"
        );
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}
