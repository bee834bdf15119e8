//! What the log looks like where tools read it: lines as logrus writes them, which CRI-O's log has
//! (`time="…" level=info msg="…" key=value`), and a filter of whole lines, CRI-O's `log_filter`.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use regex::bytes::Regex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// The lines that are written; none: all. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<RwLock<Option<Regex>>>);

impl Lines {
    /// Writes only lines that the expression fits; empty: all.
    ///
    /// # Errors
    /// What is no expression.
    pub(super) fn only(&self, expression: &str) -> Result<(), String> {
        let filter = match expression {
            "" => None,
            text => Some(Regex::new(text).map_err(|e| e.to_string())?),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = filter;
        Ok(())
    }

    fn wants(&self, line: &[u8]) -> bool {
        let filter = self.0.read().unwrap_or_else(PoisonError::into_inner);
        filter.as_ref().is_none_or(|filter| filter.is_match(line))
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Filtered<'a>;

    fn make_writer(&'a self) -> Filtered<'a> {
        Filtered(self)
    }
}

/// Standard error, but for the lines that nobody wants. A line comes in one piece.
pub(super) struct Filtered<'a>(&'a Lines);

impl io::Write for Filtered<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.wants(line) {
            true => io::stderr().write_all(line).map(|()| line.len()),
            false => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Events in logrus' form.
#[derive(Debug, Clone, Copy)]
pub(super) enum Logrus {
    /// `time="…" level=… msg="…" key=value`
    Text,
    /// `{"key":"value","level":"…","msg":"…","time":"…"}`
    Json,
}

impl<S, N> FormatEvent<S, N> for Logrus
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let time = now();
        match self {
            Self::Text => {
                write!(
                    line,
                    "time={} level={level} msg={}",
                    quoted(&time),
                    quoted(&said.message)
                )?;
                for (key, value) in &said.fields {
                    write!(line, " {key}={}", quoted(value))?;
                }
                writeln!(line)
            }
            Self::Json => {
                let mut all = serde_json::Map::new();
                for (key, value) in said.fields {
                    // As logrus does with a field of a name that it needs itself.
                    let key = match key {
                        "time" | "msg" | "level" => format!("fields.{key}"),
                        key => key.to_owned(),
                    };
                    all.insert(key, value.into());
                }
                all.insert("level".to_owned(), level.into());
                all.insert("msg".to_owned(), said.message.into());
                all.insert("time".to_owned(), time.into());
                writeln!(line, "{}", serde_json::Value::Object(all))
            }
        }
    }
}

/// RFC 3339, in nanoseconds.
fn now() -> String {
    let text = base::time::rfc3339_nanos(base::time::now_ns());
    String::from_utf8_lossy(&text).into_owned()
}

/// In quotes, unless it has nothing that would need them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("{text:?}"),
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Said {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_logrus_does() {
        assert_eq!(quoted("info"), "info");
        assert_eq!(quoted("/run/floe.sock"), "/run/floe.sock");
        assert_eq!(quoted("two words"), "\"two words\"");
        assert_eq!(quoted("a\n\"b\""), "\"a\\n\\\"b\\\"\"");
        assert_eq!(quoted(""), "\"\"");
    }

    #[test]
    fn a_line_is_written_if_the_expression_fits_it() {
        let lines = Lines::default();
        assert!(lines.wants(b"anything"));
        lines.only("pod=(a|b)").unwrap();
        assert!(lines.wants(b"x pod=b y") && !lines.wants(b"x pod=c"));
        assert!(lines.only("(").is_err());
        assert!(!lines.wants(b"x pod=c"), "a bad one changes nothing");
        lines.only("").unwrap();
        assert!(lines.wants(b"x pod=c"));
    }
}
