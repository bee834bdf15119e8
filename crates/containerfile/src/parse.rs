//! A logical line to an instruction.

use std::time::Duration;

use crate::error::{Error, Flaw};
use crate::instruction::{
    Arguments, CommandLine, Copy, From, HealthCheck, Instruction, Kind, Run, Text,
};
use crate::lines::Logical;
use crate::mount::Mount;
use crate::words;

const WORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
const RUN_FLAGS: [&str; 4] = ["mount", "network", "security", "device"];
const COPY_FLAGS: [&str; 6] = ["from", "chown", "chmod", "link", "parents", "exclude"];
const ADD_FLAGS: [&str; 8] = [
    "chown",
    "chmod",
    "link",
    "exclude",
    "checksum",
    "keep-git-dir",
    "unpack",
    "from",
];
const HEALTH_FLAGS: [&str; 5] = [
    "interval",
    "timeout",
    "start-period",
    "start-interval",
    "retries",
];

/// The instruction of a line.
pub(crate) fn instruction(
    file: &str,
    logical: Logical,
    escape: char,
) -> Result<Instruction, Error> {
    let (word, rest) = words::first(&logical.text);
    let upper = word.to_ascii_uppercase();
    let kind = kind(&upper, rest, &logical, escape);
    let kind = kind.map_err(|flaw| {
        let error = Error::new(file, logical.line, &logical.text, flaw.reason).with_hint(flaw.hint);
        match WORDS.contains(&upper.as_str()) {
            true => error.of(&upper),
            false => error,
        }
    })?;
    Ok(Instruction {
        line: logical.line,
        text: logical.text,
        kind,
    })
}

fn kind(word: &str, rest: &str, logical: &Logical, escape: char) -> Result<Kind, Flaw> {
    if !WORDS.contains(&word) {
        let shown: String = word.chars().take(40).collect();
        return Err(Flaw::new(format!("unknown instruction {shown:?}")).among(word, WORDS));
    }
    let may_be_empty = matches!(word, "CMD" | "ENTRYPOINT" | "VOLUME");
    if rest.is_empty() && !may_be_empty {
        return Err(Flaw::new("it has no arguments"));
    }
    Ok(match word {
        "ADD" => Kind::Add(copy(rest, &ADD_FLAGS, logical, escape)?),
        "ARG" => Kind::Arg(arguments(rest, escape)?),
        "CMD" => Kind::Cmd(command(rest)?),
        "COPY" => Kind::Copy(copy(rest, &COPY_FLAGS, logical, escape)?),
        "ENTRYPOINT" => Kind::Entrypoint(command(rest)?),
        "ENV" => Kind::Env(pairs(rest, escape)?),
        "EXPOSE" => Kind::Expose(texts(words::split(rest, escape))),
        "FROM" => Kind::From(from(rest, escape)?),
        "HEALTHCHECK" => Kind::HealthCheck(health_check(rest, escape)?),
        "LABEL" => Kind::Label(pairs(rest, escape)?),
        "MAINTAINER" => Kind::Maintainer(rest.to_owned()),
        "ONBUILD" => on_build(rest)?,
        "RUN" => Kind::Run(run(rest, logical, escape)?),
        "SHELL" => Kind::Shell(shell(rest)?),
        "STOPSIGNAL" => Kind::StopSignal(one(rest, escape)?),
        "USER" => Kind::User(one(rest, escape)?),
        "VOLUME" => Kind::Volume(volumes(rest, escape)?),
        _ => Kind::Workdir(Text::new(rest)),
    })
}

fn texts(words: Vec<String>) -> Vec<Text> {
    words.into_iter().map(Text::new).collect()
}

fn one(rest: &str, escape: char) -> Result<Text, Flaw> {
    match words::split(rest, escape).len() {
        1 => Ok(Text::new(rest)),
        _ => Err(Flaw::new("it has one argument")),
    }
}

fn command(rest: &str) -> Result<CommandLine, Flaw> {
    Ok(match words::json(rest)? {
        Some(words) => CommandLine::Exec(words),
        None => CommandLine::Shell(rest.to_owned()),
    })
}

fn shell(rest: &str) -> Result<Vec<String>, Flaw> {
    match words::json(rest)? {
        Some(words) if !words.is_empty() => Ok(words),
        _ => Err(Flaw::new(
            "it needs a list in brackets, such as [\"/bin/sh\", \"-c\"]",
        )),
    }
}

fn volumes(rest: &str, escape: char) -> Result<Vec<Text>, Flaw> {
    let words = match words::json(rest)? {
        Some(words) => words,
        None => words::split(rest, escape),
    };
    match words.is_empty() || words.iter().any(String::is_empty) {
        true => Err(Flaw::new("it has no arguments")),
        false => Ok(texts(words)),
    }
}

fn arguments(rest: &str, escape: char) -> Result<Vec<(String, Option<Text>)>, Flaw> {
    let words = words::split(rest, escape);
    let named = words.into_iter().map(|word| {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(Text::new(value))),
            None => (word, None),
        };
        match is_name(&name) {
            true => Ok((name, value)),
            false => Err(Flaw::new(format!("{name:?} is no name of an argument"))),
        }
    });
    named.collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|c: char| c.is_whitespace() || c == '$' || c == '"' || c == '\'')
}

/// `KEY=VALUE …`, or `KEY VALUE` to the end of the line.
fn pairs(rest: &str, escape: char) -> Result<Vec<(Text, Text)>, Flaw> {
    let words = words::split(rest, escape);
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| Flaw::new(format!("{rest:?} has no value: write KEY=VALUE")))?;
        return Ok(vec![(Text::new(key), Text::new(value.trim_start()))]);
    }
    let pairs = words.into_iter().map(|word| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((Text::new(key), Text::new(value))),
        _ => Err(Flaw::new(format!(
            "{word:?} is no KEY=VALUE: put a value with blanks in quotes"
        ))),
    });
    pairs.collect()
}

fn from(rest: &str, escape: char) -> Result<From, Flaw> {
    let (flags, rest) = words::flags(rest, escape, &["platform"])?;
    let words = words::split(rest, escape);
    let name = match &words[..] {
        [_] => None,
        [_, by, name] if by.eq_ignore_ascii_case("AS") => Some(stage_name(name)?),
        _ => {
            return Err(Flaw::new(
                "it has one or three arguments: IMAGE, or IMAGE AS NAME",
            ));
        }
    };
    Ok(From {
        image: Text::new(&words[0]),
        platform: flags.get("platform").cloned(),
        name,
    })
}

fn stage_name(name: &str) -> Result<String, Flaw> {
    let lower = name.to_ascii_lowercase();
    let good = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    match good {
        true => Ok(lower),
        false => Err(Flaw::new(format!(
            "{name:?} is no name of a stage: a letter, then letters, digits, - _ and ."
        ))),
    }
}

fn run(rest: &str, logical: &Logical, escape: char) -> Result<Run, Flaw> {
    let (flags, rest) = words::flags(rest, escape, &RUN_FLAGS)?;
    for mount in flags.all("mount").filter(|mount| !mount.raw.contains('$')) {
        Mount::read(&mount.raw)?;
    }
    if rest.is_empty() {
        return Err(Flaw::new("it has no command"));
    }
    let command = command(rest)?;
    if matches!(&command, CommandLine::Exec(words) if words.is_empty()) {
        return Err(Flaw::new("it has no command"));
    }
    Ok(Run {
        flags,
        command,
        documents: logical.documents.clone(),
    })
}

fn copy(rest: &str, known: &[&str], logical: &Logical, escape: char) -> Result<Copy, Flaw> {
    let (flags, rest) = words::flags(rest, escape, known)?;
    let mut words = match words::json(rest)? {
        Some(words) => words,
        None => words::split(rest, escape),
    };
    let target = words.pop();
    match (target, words.is_empty()) {
        (Some(target), false) => Ok(Copy {
            flags,
            arguments: Arguments {
                sources: texts(words),
                target: Text::new(target),
            },
            documents: logical.documents.clone(),
        }),
        _ => Err(Flaw::new("it needs a source and a target")),
    }
}

fn on_build(rest: &str) -> Result<Kind, Flaw> {
    let (word, _) = words::first(rest);
    match word.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(Flaw::new("ONBUILD ONBUILD is not allowed")),
        upper @ ("FROM" | "MAINTAINER") => Err(Flaw::new(format!(
            "{upper} is not allowed as an ONBUILD trigger"
        ))),
        upper if WORDS.contains(&upper) => Ok(Kind::OnBuild(rest.to_owned())),
        _ => Err(Flaw::new(format!("unknown instruction {word:?}")).among(word, WORDS)),
    }
}

fn health_check(rest: &str, escape: char) -> Result<HealthCheck, Flaw> {
    let (flags, rest) = words::flags(rest, escape, &HEALTH_FLAGS)?;
    let (word, rest) = words::first(rest);
    if word.eq_ignore_ascii_case("NONE") {
        return match rest.is_empty() {
            true => Ok(HealthCheck::None),
            false => Err(Flaw::new("NONE has no arguments")),
        };
    }
    if !word.eq_ignore_ascii_case("CMD") {
        return Err(Flaw::new(format!("{word:?} is neither CMD nor NONE")));
    }
    if rest.is_empty() {
        return Err(Flaw::new("CMD has no command"));
    }
    let time = |name| {
        flags
            .get(name)
            .map(|text| duration(name, &text.raw))
            .transpose()
    };
    let retries = flags.get("retries").map(|text| {
        let number = text.raw.parse::<u32>();
        number.map_err(|_| Flaw::new(format!("--retries={} is no number", text.raw)))
    });
    Ok(HealthCheck::Command {
        command: command(rest)?,
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries: retries.transpose()?,
    })
}

/// A time as Go writes it, `1m30s`.
fn duration(name: &str, text: &str) -> Result<Duration, Flaw> {
    let bad = || Flaw::new(format!("--{name}={text} is no time such as 30s or 1m30s"));
    let mut rest = text;
    let mut nanoseconds = 0_f64;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let units = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 60e9),
            ("h", 3600e9),
        ];
        let unit = units
            .iter()
            .filter(|(unit, _)| rest.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len());
        let (unit, size) = unit.ok_or_else(bad)?;
        nanoseconds += number * size;
        rest = &rest[unit.len()..];
    }
    let good = !text.is_empty() && nanoseconds < i64::MAX as f64;
    match good {
        true => Ok(Duration::from_nanos(nanoseconds as u64)),
        false => Err(bad()),
    }
}
