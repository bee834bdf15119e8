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

/// Variables of crio for which floe has nothing: where it logs, its profiles, and runtimes in one line.
const WITHOUT_EFFECT: [&str; 6] = [
    "CONTAINER_LOG",
    "CONTAINER_PROFILE",
    "CONTAINER_PROFILE_CPU",
    "CONTAINER_PROFILE_MEM",
    "CONTAINER_PROFILE_PORT",
    "CONTAINER_RUNTIMES",
];

/// Those of them that are set.
pub(crate) fn without_effect(is_set: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
    WITHOUT_EFFECT.into_iter().filter(move |name| is_set(name))
}

/// Whether a variable says something: an empty one does not.
pub(crate) fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|text| !text.is_empty())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_for_which_there_is_nothing_are_no_others() {
        let all: Vec<_> = without_effect(|_| true).collect();
        let known: Vec<String> = WORDS.iter().filter_map(Word::environment).collect();
        assert!(
            all.iter()
                .all(|name| !known.iter().any(|known| known == name))
        );
        let one: Vec<_> = without_effect(|name| name == "CONTAINER_LOG").collect();
        assert_eq!(one, ["CONTAINER_LOG"]);
    }
}
