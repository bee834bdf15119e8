//! Options of crictl that are known and not offered: whoever gives one is told so by its name, with the reason,
//! and not that it is a typing mistake.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

/// Refuses an option for this reason.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused(pub(crate) &'static str);

/// Nothing ever is one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Never {}

impl TypedValueParser for Refused {
    type Value = Never;

    fn parse_ref(
        &self,
        _: &Command,
        option: Option<&Arg>,
        _: &OsStr,
    ) -> Result<Never, clap::Error> {
        let name = option.and_then(Arg::get_long).unwrap_or_default();
        let words = format!("--{name} is not offered: {}\n", self.0);
        Err(clap::Error::raw(ErrorKind::InvalidValue, words))
    }
}
