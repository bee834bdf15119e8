//! The whole file: what stands before the first stage, and the stages.

use crate::error::Error;
use crate::instruction::{From, Instruction, Kind};
use crate::lines::{self, Logical};
use crate::{limits, parse};

/// A Containerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containerfile {
    /// Its name in errors.
    pub file: String,
    /// What takes a character as it is: `\`, or a back quote.
    pub escape: char,
    /// The front end that it asks for (`# syntax=`), which means nothing here.
    pub syntax: Option<String>,
    /// What it says of checks (`# check=`).
    pub check: Option<String>,
    /// `ARG`s before the first stage.
    pub arguments: Vec<Instruction>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
}

/// A stage: what is built on one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its beginning.
    pub from: From,
    /// The line of it.
    pub line: usize,
    /// That as it was written.
    pub text: String,
    /// What is done, without `FROM`.
    pub instructions: Vec<Instruction>,
}

impl Containerfile {
    /// Reads a file; `file` is its name in errors.
    ///
    /// # Errors
    /// The first flaw.
    pub fn parse(file: &str, text: &str) -> Result<Containerfile, Error> {
        let (directives, logical) = lines::read(file, text)?;
        let mut whole = Containerfile {
            file: file.to_owned(),
            escape: directives.escape,
            syntax: directives.syntax,
            check: directives.check,
            arguments: Vec::new(),
            stages: Vec::new(),
        };
        for logical in logical {
            let instruction = parse::instruction(file, logical, whole.escape)?;
            whole.add(instruction)?;
        }
        match whole.stages.is_empty() {
            true => Err(Error::new(file, 1, "", "it has no FROM")),
            false => Ok(whole),
        }
    }

    fn add(&mut self, instruction: Instruction) -> Result<(), Error> {
        let Instruction { line, text, kind } = instruction;
        match (kind, self.stages.last_mut()) {
            (Kind::From(from), _) => {
                let name = from.name.as_ref();
                if let Some(name) = name.filter(|name| self.stage(name).is_some()) {
                    let reason = format!("there is a stage {name} already");
                    return Err(Error::new(&self.file, line, &text, reason).of("FROM"));
                }
                if self.stages.len() == limits::STAGES {
                    let reason = format!("it has more than {} stages", limits::STAGES);
                    return Err(Error::new(&self.file, line, &text, reason).of("FROM"));
                }
                self.stages.push(Stage {
                    from,
                    line,
                    text,
                    instructions: Vec::new(),
                });
            }
            (kind, Some(stage)) => stage.instructions.push(Instruction { line, text, kind }),
            (kind @ Kind::Arg(_), None) => self.arguments.push(Instruction { line, text, kind }),
            (kind, None) => {
                let word = kind.word();
                let reason = "only ARG may stand before the first FROM";
                return Err(Error::new(&self.file, line, &text, reason).of(word));
            }
        }
        Ok(())
    }

    /// The number of the stage with that name.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<usize> {
        let is_it = |stage: &Stage| {
            stage
                .from
                .name
                .as_deref()
                .is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        self.stages.iter().position(is_it)
    }
}

/// One instruction alone.
pub(crate) fn single(origin: &str, text: &str) -> Result<Instruction, Error> {
    let (_, mut all) = lines::read(origin, text)?;
    let logical: Logical = match (all.pop(), all.is_empty()) {
        (Some(logical), true) => logical,
        _ => return Err(Error::new(origin, 1, text, "it is not one instruction")),
    };
    parse::instruction(origin, logical, '\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CommandLine, HealthCheck};
    use std::time::Duration;

    fn kind(text: &str) -> Kind {
        let whole = Containerfile::parse("F", &format!("FROM x\n{text}\n")).unwrap();
        whole.stages[0].instructions[0].kind.clone()
    }

    fn raw(pairs: &[(crate::Text, crate::Text)]) -> Vec<(&str, &str)> {
        pairs
            .iter()
            .map(|(k, v)| (k.raw.as_str(), v.raw.as_str()))
            .collect()
    }

    #[test]
    fn stages_begin_with_from() {
        let text = "ARG V=1\nFROM --platform=$BUILDPLATFORM img:$V as Build\nRUN a\nfrom scratch\nCOPY --from=build /a /b";
        let whole = Containerfile::parse("F", text).unwrap();
        assert_eq!((whole.arguments.len(), whole.stages.len()), (1, 2));
        let first = &whole.stages[0];
        assert_eq!((first.from.name.as_deref(), first.line), (Some("build"), 2));
        assert_eq!(first.from.platform.as_ref().unwrap().raw, "$BUILDPLATFORM");
        assert_eq!(whole.stage("BUILD"), Some(0));
        let Kind::Copy(copy) = &whole.stages[1].instructions[0].kind else {
            panic!()
        };
        assert_eq!(copy.flags.get("from").unwrap().raw, "build");
    }

    #[test]
    fn commands_are_lists_or_lines() {
        assert_eq!(
            kind("CMD [\"a\", \"b c\"]"),
            Kind::Cmd(CommandLine::Exec(vec!["a".into(), "b c".into()]))
        );
        assert_eq!(kind("CMD [a]"), Kind::Cmd(CommandLine::Shell("[a]".into())));
        assert_eq!(
            kind("ENTRYPOINT x \"y\" $Z"),
            Kind::Entrypoint(CommandLine::Shell("x \"y\" $Z".into()))
        );
        assert_eq!(kind("CMD []"), Kind::Cmd(CommandLine::Exec(vec![])));
        let Kind::Run(run) = kind("RUN --mount=type=tmpfs,target=/t --network=none <<E\nx\nE")
        else {
            panic!()
        };
        assert_eq!(
            (
                run.documents.len(),
                run.flags.get("network").unwrap().raw.as_str()
            ),
            (1, "none")
        );
    }

    #[test]
    fn pairs_have_two_forms() {
        let Kind::Env(pairs) = kind("ENV A=1 B=\"two words\" C='$x' D=a\\ b") else {
            panic!()
        };
        assert_eq!(
            raw(&pairs),
            [
                ("A", "1"),
                ("B", "\"two words\""),
                ("C", "'$x'"),
                ("D", "a\\ b")
            ]
        );
        let Kind::Env(pairs) = kind("ENV A   three words = x") else {
            panic!()
        };
        assert_eq!(raw(&pairs), [("A", "three words = x")]);
        let Kind::Label(pairs) = kind("LABEL \"a b\"=c d=") else {
            panic!()
        };
        assert_eq!(raw(&pairs), [("\"a b\"", "c"), ("d", "")]);
    }

    #[test]
    fn health_checks() {
        let Kind::HealthCheck(HealthCheck::Command {
            interval,
            retries,
            command,
            ..
        }) = kind("HEALTHCHECK --interval=1m30s --retries=3 CMD curl x")
        else {
            panic!()
        };
        assert_eq!(
            (interval, retries),
            (Some(Duration::from_secs(90)), Some(3))
        );
        assert_eq!(command, CommandLine::Shell("curl x".into()));
        assert_eq!(
            kind("HEALTHCHECK none"),
            Kind::HealthCheck(HealthCheck::None)
        );
    }

    #[test]
    fn errors_name_the_place_and_what_was_meant() {
        for (text, expected) in [
            (
                "FROM x\nRUNN a",
                "F:2: unknown instruction \"RUNN\" (did you mean RUN?)\n    2 | RUNN a",
            ),
            (
                "FROM x\n\nCOPY --form=y a b",
                "F:3: COPY: unknown flag --form (did you mean from?)\n    3 | COPY --form=y a b",
            ),
            (
                "RUN a\nFROM x",
                "F:1: RUN: only ARG may stand before the first FROM\n    1 | RUN a",
            ),
            ("", "F:1: it has no FROM"),
            (
                "FROM x AS y\nFROM z AS Y",
                "F:2: FROM: there is a stage y already\n    2 | FROM z AS Y",
            ),
        ] {
            assert_eq!(
                Containerfile::parse("F", text).unwrap_err().to_string(),
                expected
            );
        }
        for (text, why) in [
            ("FROM a b", "one or three"),
            ("FROM a AS 1", "no name of a stage"),
            ("FROM x\nCOPY a", "source and a target"),
            ("FROM x\nENV A", "KEY=VALUE"),
            ("FROM x\nLABEL a=b c", "KEY=VALUE"),
            ("FROM x\nSHELL sh", "brackets"),
            ("FROM x\nCMD [\"a\", 1]", "no string"),
            ("FROM x\nONBUILD FROM y", "not allowed"),
            ("FROM x\nONBUILD ONBUILD RUN y", "not allowed"),
            ("FROM x\nONBUILD RNU y", "did you mean RUN?"),
            ("FROM x\nHEALTHCHECK --interval=x CMD y", "no time"),
            ("FROM x\nHEALTHCHECK foo", "neither CMD nor NONE"),
            ("FROM x\nUSER a b", "one argument"),
            ("FROM x\nRUN --mount=type=bnd y", "did you mean bind?"),
            ("FROM x\nWORKDIR", "no arguments"),
            ("FROM x\nRUN --network=none", "no command"),
            ("FROM x\nARG =1", "no name"),
        ] {
            let error = Containerfile::parse("F", text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let many = "FROM x\n".repeat(limits::STAGES + 1);
        assert!(
            Containerfile::parse("F", &many)
                .unwrap_err()
                .reason
                .contains("stages")
        );
    }

    #[test]
    fn one_instruction_alone() {
        assert!(matches!(
            single("ONBUILD", "RUN x").unwrap().kind,
            Kind::Run(_)
        ));
        assert!(single("c", "RUN x\nRUN y").is_err());
    }
}
