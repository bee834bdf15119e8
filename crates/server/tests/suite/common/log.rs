//! Container logs in the CRI format: `TIME STREAM TAG TEXT` (kubelet's reader is as strict).

use std::path::Path;

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// RFC 3339 with nanoseconds.
    pub(crate) time: String,
    /// `stdout` or `stderr`.
    pub(crate) stream: String,
    /// False for a part of a line.
    pub(crate) full: bool,
    /// Without the line break.
    pub(crate) text: String,
}

/// A log file.
#[derive(Debug)]
pub(crate) struct Log(pub(crate) Vec<Line>);

/// Reads a log; every line must be of the format.
pub(crate) fn read(path: impl AsRef<Path>) -> Log {
    let path = path.as_ref();
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is cut off: {text:?}"
    );
    Log(text.lines().map(parse).collect())
}

fn parse(line: &str) -> Line {
    let mut words = line.splitn(4, ' ');
    let mut next = || {
        words
            .next()
            .unwrap_or_else(|| panic!("not a CRI log line: {line:?}"))
            .to_owned()
    };
    let (time, stream, tag, text) = (next(), next(), next(), next());
    assert!(["stdout", "stderr"].contains(&stream.as_str()), "{line:?}");
    assert!(["F", "P"].contains(&tag.as_str()), "{line:?}");
    assert!(
        time.len() >= "2016-10-06T00:17:09.669794202Z".len(),
        "{line:?}"
    );
    Line {
        time,
        stream,
        full: tag == "F",
        text,
    }
}

impl Log {
    /// The text of both streams in the order of the file.
    pub(crate) fn text(&self) -> String {
        let end = |line: &Line| if line.full { "\n" } else { "" };
        self.0
            .iter()
            .map(|line| line.text.clone() + end(line))
            .collect()
    }

    /// The text of one stream as it was written.
    pub(crate) fn of(&self, stream: &str) -> String {
        let mut text = String::new();
        for line in self.0.iter().filter(|line| line.stream == stream) {
            text.push_str(&line.text);
            if line.full {
                text.push('\n');
            }
        }
        text
    }
}
