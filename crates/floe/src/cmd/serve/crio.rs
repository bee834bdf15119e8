//! crio's options and variables, as `floe serve` takes them: a node's unit and its environment go on as they are.
//! What each means is the configuration's to say; here they are only found.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use engine::config::{Kind, Said, WORDS, Word};

/// What was said of the configuration on the command line and in the environment, the latter first: later wins.
#[derive(Debug, Default)]
pub(crate) struct CrioWords(Vec<Said>);

/// Options of crio that `floe serve` has in words of its own; their variables are looked for all the same.
const OWN: [&str; 4] = ["root", "runroot", "listen", "log-level"];

impl CrioWords {
    pub(crate) fn take(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.0)
    }
}

fn options() -> impl Iterator<Item = &'static Word> {
    WORDS.iter().filter(|word| !OWN.contains(&word.option))
}

fn option(word: &'static Word) -> Arg {
    let option = Arg::new(word.option).long(word.option).hide(true);
    match word.kind {
        Kind::Switch => option
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .overrides_with(word.option),
        Kind::List => option.action(ArgAction::Append).allow_hyphen_values(true),
        Kind::Text | Kind::Number => option
            .action(ArgAction::Set)
            .allow_hyphen_values(true)
            .overrides_with(word.option),
    }
}

fn in_environment(word: &Word) -> Result<Option<Said>, clap::Error> {
    let Some(name) = word.environment() else {
        return Ok(None);
    };
    let Some(text) = std::env::var_os(&name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text
        .into_string()
        .map_err(|_| clap::Error::raw(ErrorKind::InvalidUtf8, format!("{name}: is not UTF-8\n")))?;
    Ok(Some(Said {
        word: *word,
        name,
        values: vec![text],
    }))
}

impl FromArgMatches for CrioWords {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut all = Vec::new();
        for word in WORDS {
            all.extend(in_environment(word)?);
        }
        for word in options() {
            if let Some(values) = matches.get_many::<String>(word.option) {
                all.push(Said {
                    word: *word,
                    name: format!("--{}", word.option),
                    values: values.cloned().collect(),
                });
            }
        }
        Ok(Self(all))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for CrioWords {
    fn augment_args(command: Command) -> Command {
        command.args(options().map(option))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
