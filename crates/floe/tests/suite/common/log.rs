//! Container logs in the CRI format.

use super::Error;

/// A line of a log in the CRI format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) time: String,
    pub(crate) stream: String,
    pub(crate) tag: String,
    pub(crate) text: String,
}

/// The lines of a log; an error if one is not in the CRI format.
pub(crate) fn log_lines(path: impl AsRef<std::path::Path>) -> Result<Vec<LogLine>, Error> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(format!("{}: the last line has no end", path.display()).into());
    }
    text.lines()
        .map(|line| {
            let mut parts = line.splitn(4, ' ').map(str::to_owned);
            let mut part = || {
                parts
                    .next()
                    .ok_or_else(|| format!("not a CRI log line: {line:?}"))
            };
            Ok(LogLine {
                time: part()?,
                stream: part()?,
                tag: part()?,
                text: part()?,
            })
        })
        .collect()
}

/// What a log says, as kubelet shows it: lines that came in parts are whole.
pub(crate) fn log_text(path: impl AsRef<std::path::Path>) -> Result<String, Error> {
    let lines = log_lines(path)?.into_iter();
    Ok(lines
        .map(|line| {
            if line.tag == "P" {
                line.text
            } else {
                line.text + "\n"
            }
        })
        .collect())
}
