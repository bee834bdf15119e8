//! A line of a log: `TIME STREAM TAGS TEXT` (kubernetes' CRI logging format), or Docker's JSON.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which stream a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// As it is written.
    pub(crate) time: String,
    /// Nanoseconds since 1970.
    pub(crate) at: i64,
    pub(crate) stream: Stream,
    /// With its line end, unless the line goes on in the next one.
    pub(crate) text: Vec<u8>,
}

#[derive(Deserialize)]
struct Docker {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
}

/// Reads a line, with or without its end; `None` of what is neither form.
pub(crate) fn parse(line: &[u8]) -> Option<Line> {
    match line.first()? {
        b'{' => docker(line),
        _ => cri(line),
    }
}

fn at(time: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos()).ok()
}

fn stream(name: &str) -> Option<Stream> {
    match name {
        "stdout" => Some(Stream::Stdout),
        "stderr" => Some(Stream::Stderr),
        _ => None,
    }
}

fn cri(line: &[u8]) -> Option<Line> {
    let mut parts = line.splitn(4, |&byte| byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (time, name) = (word()?, word()?);
    let tags = word()?.split(':').next()?.trim_end();
    let mut text = parts.next().unwrap_or_default().to_vec();
    match tags {
        "P" => {
            if text.last() == Some(&b'\n') {
                text.pop();
            }
        }
        "F" => {}
        _ => return None,
    }
    Some(Line {
        at: at(time)?,
        time: time.to_owned(),
        stream: stream(name)?,
        text,
    })
}

fn docker(line: &[u8]) -> Option<Line> {
    let read: Docker = serde_json::from_slice(line).ok()?;
    Some(Line {
        at: at(&read.time)?,
        stream: stream(&read.stream)?,
        time: read.time,
        text: read.log.into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let whole = parse(b"2026-01-02T03:04:05.6Z stdout F a b\n").unwrap();
        assert_eq!(
            (whole.stream, &whole.text[..]),
            (Stream::Stdout, &b"a b\n"[..])
        );
        assert_eq!(whole.time, "2026-01-02T03:04:05.6Z");
        let part = parse(b"2026-01-02T03:04:05.6Z stderr P a\n").unwrap();
        assert_eq!((part.stream, &part.text[..]), (Stream::Stderr, &b"a"[..]));
        let empty = parse(b"2026-01-02T03:04:05.6Z stdout F \n").unwrap();
        assert_eq!(empty.text, b"\n");
        let docker = br#"{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}"#;
        let docker = parse(docker).unwrap();
        assert_eq!((docker.at, &docker.text[..]), (whole.at, &b"a\n"[..]));
        for wrong in [
            &b""[..],
            b"\n",
            b"x",
            b"2026 stdout F a",
            b"2026-01-02T03:04:05Z stdin F a",
            b"2026-01-02T03:04:05Z stdout X a",
            b"{}",
        ] {
            assert_eq!(parse(wrong), None);
        }
    }
}
