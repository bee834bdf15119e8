//! The instructions as values. Words keep their quotes and variables: an [`Expander`](crate::Expander) makes values of
//! them once the variables are known.

use std::time::Duration;

/// An instruction of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The line that it begins at, from 1 on.
    pub line: usize,
    /// It as it was written, with continuation lines joined, and without here-documents.
    pub text: String,
    /// What it says.
    pub kind: Kind,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `ADD`
    Add(Copy),
    /// `ARG`: names, and the words of their defaults.
    Arg(Vec<(String, Option<Text>)>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<(Text, Text)>),
    /// `EXPOSE`
    Expose(Vec<Text>),
    /// `FROM`
    From(From),
    /// `HEALTHCHECK`
    HealthCheck(HealthCheck),
    /// `LABEL`
    Label(Vec<(Text, Text)>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`: an instruction for builds on top of the image.
    OnBuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(Text),
    /// `USER`
    User(Text),
    /// `VOLUME`
    Volume(Vec<Text>),
    /// `WORKDIR`
    Workdir(Text),
}

/// A word as it was written: its variables are not replaced, and its quotes are not taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The characters.
    pub raw: String,
}

impl Text {
    /// A word that stands for itself: nothing in it is replaced.
    #[must_use]
    pub fn literal(value: &str) -> Text {
        Text::new(format!("'{}'", value.replace('\'', "'\"'\"'")))
    }

    pub(crate) fn new(raw: impl Into<String>) -> Text {
        Text { raw: raw.into() }
    }
}

/// The flags of an instruction, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(pub(crate) Vec<(String, Option<Text>)>);

impl Flags {
    /// The last value of a flag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Text> {
        let of = self.0.iter().rfind(|(flag, _)| flag == name);
        of.and_then(|(_, value)| value.as_ref())
    }

    /// All values of a flag.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Text> {
        let of = self.0.iter().filter(move |(flag, _)| flag == name);
        of.filter_map(|(_, value)| value.as_ref())
    }

    /// Whether a flag that is true or false is there and not false.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        let last = self.0.iter().rev().find(|(flag, _)| flag == name);
        last.is_some_and(|(_, value)| value.as_ref().is_none_or(|value| value.raw != "false"))
    }
}

/// `FROM`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The image, or the name of a stage.
    pub image: Text,
    /// `--platform`
    pub platform: Option<Text>,
    /// `AS`, in small letters.
    pub name: Option<String>,
}

/// The words of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A line for the shell.
    Shell(String),
    /// The words themselves.
    Exec(Vec<String>),
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--mount`, `--network`, `--security`, `--device`
    pub flags: Flags,
    /// What is run.
    pub command: CommandLine,
    /// What follows the line.
    pub documents: Vec<HereDocument>,
}

/// `COPY` and `ADD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `--from`, `--chown` and the others.
    pub flags: Flags,
    /// What to copy, and last where to.
    pub arguments: Arguments,
    /// What follows the line; a source `<<NAME` stands for one.
    pub documents: Vec<HereDocument>,
}

/// Sources and a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// What to copy.
    pub sources: Vec<Text>,
    /// Where to.
    pub target: Text,
}

/// A file within the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HereDocument {
    /// Its name.
    pub name: String,
    /// The word that it was announced by, such as `<<-"EOF"`.
    pub word: String,
    /// Its lines.
    pub content: String,
    /// Whether variables are replaced in it: its name was not quoted.
    pub expand: bool,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// `NONE`
    None,
    /// `CMD`
    Command {
        /// What tells.
        command: CommandLine,
        /// `--interval`
        interval: Option<Duration>,
        /// `--timeout`
        timeout: Option<Duration>,
        /// `--start-period`
        start_period: Option<Duration>,
        /// `--start-interval`
        start_interval: Option<Duration>,
        /// `--retries`
        retries: Option<u32>,
    },
}

impl Kind {
    /// Its word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Add(_) => "ADD",
            Kind::Arg(_) => "ARG",
            Kind::Cmd(_) => "CMD",
            Kind::Copy(_) => "COPY",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Env(_) => "ENV",
            Kind::Expose(_) => "EXPOSE",
            Kind::From(_) => "FROM",
            Kind::HealthCheck(_) => "HEALTHCHECK",
            Kind::Label(_) => "LABEL",
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::OnBuild(_) => "ONBUILD",
            Kind::Run(_) => "RUN",
            Kind::Shell(_) => "SHELL",
            Kind::StopSignal(_) => "STOPSIGNAL",
            Kind::User(_) => "USER",
            Kind::Volume(_) => "VOLUME",
            Kind::Workdir(_) => "WORKDIR",
        }
    }
}
