//! Text to logical lines: parser directives, comments, continuation, here-documents (Dockerfile reference, "Format").

use crate::error::Error;
use crate::instruction::HereDocument;
use crate::limits;
use crate::words;

/// The instructions that may have here-documents.
const WITH_DOCUMENTS: [&str; 3] = ["ADD", "COPY", "RUN"];
/// Bytes of all here-documents are within the file's; their number is limited.
const DOCUMENTS: usize = 100;

/// What stands at the head of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directives {
    /// `\` or a back quote.
    pub(crate) escape: char,
    pub(crate) syntax: Option<String>,
    pub(crate) check: Option<String>,
}

/// An instruction's line with what was joined to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Logical {
    pub(crate) line: usize,
    /// Without blanks around it; lines that were continued are joined.
    pub(crate) text: String,
    pub(crate) documents: Vec<HereDocument>,
}

/// The lines of a text that remain to be read.
struct Lines<'a> {
    file: &'a str,
    rest: std::iter::Enumerate<std::str::Lines<'a>>,
    escape: char,
}

/// The directives and logical lines of `text`.
pub(crate) fn read(file: &str, text: &str) -> Result<(Directives, Vec<Logical>), Error> {
    if text.len() > limits::FILE {
        let reason = format!("it has more than {} bytes", limits::FILE);
        return Err(Error::new(file, 1, "", reason));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let directives = directives(file, text)?;
    let mut lines = Lines {
        file,
        rest: text.lines().enumerate(),
        escape: directives.escape,
    };
    let mut all = Vec::new();
    while let Some(logical) = lines.next()? {
        if all.len() == limits::INSTRUCTIONS {
            let reason = format!("it has more than {} instructions", limits::INSTRUCTIONS);
            return Err(Error::new(file, logical.line, "", reason));
        }
        all.push(logical);
    }
    Ok((directives, all))
}

/// Comments of the form `# KEY=VALUE` before anything else.
fn directives(file: &str, text: &str) -> Result<Directives, Error> {
    let mut found = Directives {
        escape: '\\',
        syntax: None,
        check: None,
    };
    let mut seen = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some((key, value)) = line
            .trim_start()
            .strip_prefix('#')
            .and_then(|comment| comment.split_once('='))
        else {
            break;
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let error = |reason: String| Error::new(file, number + 1, line, reason);
        if !matches!(key.as_str(), "escape" | "syntax" | "check") {
            break;
        }
        if seen.contains(&key) {
            return Err(error(format!(
                "only one {key} parser directive can be used"
            )));
        }
        match (key.as_str(), value) {
            ("escape", "\\") => found.escape = '\\',
            ("escape", "`") => found.escape = '`',
            ("escape", other) => {
                return Err(error(format!("escape={other:?} is neither \\ nor `")));
            }
            ("syntax", value) => found.syntax = Some(value.to_owned()),
            (_, value) => found.check = Some(value.to_owned()),
        }
        seen.push(key);
    }
    Ok(found)
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Logical>, Error> {
        let Some((number, first)) = self
            .rest
            .find(|(_, line)| !is_blank(line) && !is_comment(line))
        else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut line = first.trim_start();
        loop {
            let (part, goes_on) = self.continued(line);
            text.push_str(part);
            if text.len() > limits::LINE {
                let reason = format!("it is longer than {} bytes", limits::LINE);
                return Err(Error::new(self.file, number + 1, &text, reason));
            }
            if !goes_on {
                break;
            }
            // What stands between is ignored, and an end of the file ends the instruction.
            match self
                .rest
                .find(|(_, line)| !is_blank(line) && !is_comment(line))
            {
                Some((_, next)) => line = next,
                None => break,
            }
        }
        let text = text.trim().to_owned();
        let documents = self.documents(number + 1, &text)?;
        Ok(Some(Logical {
            line: number + 1,
            text,
            documents,
        }))
    }

    /// A line without the mark that the next one belongs to it.
    fn continued<'a>(&self, line: &'a str) -> (&'a str, bool) {
        let end = line.trim_end_matches([' ', '\t']);
        match end.strip_suffix(self.escape) {
            Some(part) if !part.ends_with(self.escape) => (part, true),
            _ => (line, false),
        }
    }

    fn documents(&mut self, line: usize, text: &str) -> Result<Vec<HereDocument>, Error> {
        let (mut word, mut rest) = words::first(text);
        if word.eq_ignore_ascii_case("ONBUILD") {
            (word, rest) = words::first(rest);
        }
        if !WITH_DOCUMENTS
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known))
            || !rest.contains("<<")
        {
            return Ok(Vec::new());
        }
        let error = |reason: String| Error::new(self.file, line, text, reason).of(word);
        let mut all = Vec::new();
        for announced in words::announced(rest, self.escape) {
            if all.len() == DOCUMENTS {
                return Err(error(format!("more than {DOCUMENTS} here-documents")));
            }
            let mut content = String::new();
            let mut ended = false;
            for (_, line) in self.rest.by_ref() {
                let line = match announced.strip_tabs {
                    true => line.trim_start_matches('\t'),
                    false => line,
                };
                ended = line == announced.name;
                if ended {
                    break;
                }
                content.push_str(line);
                content.push('\n');
            }
            if !ended {
                return Err(error(format!(
                    "unterminated here-document {}",
                    announced.name
                )));
            }
            all.push(HereDocument {
                name: announced.name,
                word: announced.word,
                content,
                expand: announced.expand,
            });
        }
        Ok(all)
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, String)> {
        let (_, lines) = read("F", text).unwrap();
        lines
            .into_iter()
            .map(|line| (line.line, line.text))
            .collect()
    }

    #[test]
    fn lines_are_joined_and_comments_between_them_ignored() {
        for (text, expected) in [
            ("RUN a\n\n# c\nRUN b", vec![(1, "RUN a"), (4, "RUN b")]),
            ("RUN a \\\n  b", vec![(1, "RUN a   b")]),
            (
                "RUN a \\  \t\n# c\n\n  # d\n b\nRUN c",
                vec![(1, "RUN a  b"), (6, "RUN c")],
            ),
            ("RUN a \\\\\nRUN b", vec![(1, "RUN a \\\\"), (2, "RUN b")]),
            ("  RUN a \\", vec![(1, "RUN a")]),
            ("RUN echo # no comment", vec![(1, "RUN echo # no comment")]),
            (
                "\u{feff}FROM x\r\nRUN y \\\r\nz\r\n",
                vec![(1, "FROM x"), (2, "RUN y z")],
            ),
            (
                "# escape=`\nRUN a `\nb\\\nRUN c",
                vec![(2, "RUN a b\\"), (4, "RUN c")],
            ),
            ("# comment\n# escape=`\nRUN a \\\nb", vec![(3, "RUN a b")]),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(n, t)| (n, t.to_owned()))
                .collect();
            assert_eq!(texts(text), expected, "{text:?}");
        }
    }

    #[test]
    fn directives_stand_first_and_once() {
        let (found, _) = read("F", "#syntax = a/b:1\n# Escape=`\n#check=skip=all\nFROM x").unwrap();
        assert_eq!(
            (
                found.escape,
                found.syntax.as_deref(),
                found.check.as_deref()
            ),
            ('`', Some("a/b:1"), Some("skip=all"))
        );
        let twice = read("F", "# escape=`\n# escape=\\\n").unwrap_err();
        assert_eq!(
            twice.to_string(),
            "F:2: only one escape parser directive can be used\n    2 | # escape=\\"
        );
        assert!(
            read("F", "# escape=x\n")
                .unwrap_err()
                .to_string()
                .contains("neither")
        );
    }

    #[test]
    fn here_documents_end_with_their_name() {
        let text = "FROM x\nRUN <<EOF cat 3<<-'B'\n a\n# kept\nEOF\n\tb $X\n\tB\nCOPY <<\"Q\" /x\nz\nQ\nCMD echo <<EOF";
        let (_, lines) = read("F", text).unwrap();
        let run = &lines[1].documents;
        assert_eq!(
            (run[0].content.as_str(), run[0].expand),
            (" a\n# kept\n", true)
        );
        assert_eq!((run[1].content.as_str(), run[1].expand), ("b $X\n", false));
        assert_eq!(
            (lines[2].documents[0].name.as_str(), lines[2].line),
            ("Q", 8)
        );
        assert!(lines[3].documents.is_empty());
        let open = read("F", "FROM x\nRUN <<EOF\nabc\n").unwrap_err();
        assert_eq!(
            (open.line, open.reason.as_str()),
            (2, "unterminated here-document EOF")
        );
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let long = format!("RUN {}", "x".repeat(limits::LINE));
        assert!(read("F", &long).unwrap_err().reason.contains("longer"));
        let joined = "RUN a\\\n".repeat(300_000);
        assert!(read("F", &joined).unwrap_err().reason.contains("longer"));
        let many = "RUN\n".repeat(limits::INSTRUCTIONS + 1);
        assert!(
            read("F", &many)
                .unwrap_err()
                .reason
                .contains("instructions")
        );
        assert!(read("F", &"\n".repeat(limits::FILE + 1)).is_err());
    }
}
