//! Options of podman and skopeo that floe knows and does not offer: whoever gives one is told so by its name,
//! with the reason, and not that it is a typing mistake.
//!
//! Must never accept one in silence: what was asked for would be missing.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// Whether a value follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Value,
}

/// The name of an option without its dashes, whether it has a value, and why it is not offered.
pub(crate) type Refused = (&'static str, Takes, &'static str);

/// The options of a command that are not offered.
pub(crate) trait List {
    const OPTIONS: &'static [Refused];
}

/// Options that are parsed only to be refused; hidden from the help, and listed in docs/commands.md.
pub(crate) struct NotOffered<L>(PhantomData<L>);

impl<L> fmt::Debug for NotOffered<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotOffered")
    }
}

impl<L> Clone for NotOffered<L> {
    fn clone(&self) -> Self {
        NotOffered(PhantomData)
    }
}

impl<L> Default for NotOffered<L> {
    fn default() -> Self {
        NotOffered(PhantomData)
    }
}

impl<L: List> Args for NotOffered<L> {
    fn augment_args(command: Command) -> Command {
        let options = L::OPTIONS.iter().map(|(name, takes, why)| {
            let option = Arg::new(*name).long(*name).hide(true);
            let option = option.action(ArgAction::Append).value_parser(Refuser(why));
            match takes {
                Takes::Nothing => option.num_args(0).default_missing_value(""),
                Takes::Value => option.allow_hyphen_values(true),
            }
        });
        command.args(options)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<L: List> FromArgMatches for NotOffered<L> {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::default())
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}

/// Refuses an option for this reason before anything else is said about the command line.
#[derive(Debug, Clone, Copy)]
struct Refuser(&'static str);

impl TypedValueParser for Refuser {
    type Value = String;

    fn parse_ref(
        &self,
        _: &Command,
        option: Option<&Arg>,
        _: &OsStr,
    ) -> Result<String, clap::Error> {
        let name = option.and_then(Arg::get_long).unwrap_or_default();
        let words = format!("--{name} is not offered: {}\n", self.0);
        Err(clap::Error::raw(ErrorKind::InvalidValue, words))
    }
}
