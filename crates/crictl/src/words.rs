//! Go's forms of options, which scripts have for crictl: `-name=x` for `--name=x`, `--quiet=true`, and `-pt`.
//! Must change nothing after the first word that is no option: it may be a container's command.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgAction, Command, CommandFactory};

use crate::Crictl;

/// Whether each option of a command takes a value, by its name.
fn options(command: &Command) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    for option in command.get_arguments() {
        let takes = option.get_action().takes_values();
        let is_switch = matches!(option.get_action(), ArgAction::SetTrue);
        for name in option.get_long_and_visible_aliases().unwrap_or_default() {
            all.insert(name.to_owned(), takes && !is_switch);
        }
    }
    all
}

/// The words of the program's command line in the forms that clap knows.
pub(crate) fn as_clap_has_them(words: Vec<OsString>) -> Vec<OsString> {
    let root = Crictl::command();
    let mut words = words.into_iter();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    let verb = section(&root, &mut words, &mut out);
    let command = verb.as_deref().and_then(|verb| root.find_subcommand(verb));
    if let Some(command) = command {
        section(command, &mut words, &mut out);
    }
    out.extend(words);
    out
}

/// Passes on the options of one command, and the first word that is none, which it gives.
fn section(
    command: &Command,
    words: &mut impl Iterator<Item = OsString>,
    out: &mut Vec<OsString>,
) -> Option<String> {
    let known = options(command);
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else {
            out.push(word);
            return None;
        };
        if !text.starts_with('-') || text == "-" || text == "--" {
            let verb = text.to_owned();
            out.push(word);
            return Some(verb);
        }
        let takes = option(text, command, &known, out);
        if takes {
            out.extend(words.next());
        }
    }
    None
}

/// Passes on one option; whether its value is the next word.
fn option(
    text: &str,
    command: &Command,
    known: &BTreeMap<String, bool>,
    out: &mut Vec<OsString>,
) -> bool {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let long = match name {
        "-pt" if known.contains_key("pull-timeout") => Some("pull-timeout"),
        // One dash and a name of several letters, which no letters of options make.
        name => name
            .strip_prefix("--")
            .or_else(|| name.strip_prefix('-').filter(|name| name.len() > 1))
            .filter(|name| known.contains_key(*name)),
    };
    let Some(long) = long else {
        out.push(text.into());
        let letters = name.strip_prefix('-').filter(|name| !name.starts_with('-'));
        let last = letters.and_then(|letters| letters.chars().last());
        let mut options = command.get_arguments();
        let takes = |letter| {
            let option = options.find(|option| option.get_short() == Some(letter));
            option.is_some_and(|option| option.get_action().takes_values())
        };
        return value.is_none() && last.is_some_and(takes);
    };
    match (known[long], value) {
        (false, Some("false" | "f" | "F" | "0" | "False" | "FALSE")) => {}
        (false, Some("true" | "t" | "T" | "1" | "True" | "TRUE")) => {
            out.push(format!("--{long}").into());
        }
        (_, Some(value)) => out.push(format!("--{long}={value}").into()),
        (_, None) => out.push(format!("--{long}").into()),
    }
    known[long] && value.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(words: &str) -> String {
        let words = words.split(' ').map(OsString::from).collect();
        let words = as_clap_has_them(words).into_iter();
        let words: Vec<String> = words.map(|word| word.into_string().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn gos_forms_become_claps() {
        for (before, after) in [
            ("crictl ps -name x -a", "crictl ps --name x -a"),
            ("crictl -timeout=5s ps", "crictl --timeout=5s ps"),
            ("crictl ps --all=true --quiet=false", "crictl ps --all"),
            (
                "crictl pull -pt 5s img",
                "crictl pull --pull-timeout 5s img",
            ),
            (
                "crictl exec -it c ls --all=true",
                "crictl exec -it c ls --all=true",
            ),
            (
                "crictl -r unix:///a ps -q=true",
                "crictl -r unix:///a ps -q=true",
            ),
            (
                "crictl exec -name x ls -name",
                "crictl exec --name x ls -name",
            ),
            ("crictl logs -- -x", "crictl logs -- -x"),
        ] {
            assert_eq!(changed(before), after);
        }
    }
}
