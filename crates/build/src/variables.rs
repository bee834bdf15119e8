//! Variables of a build: arguments before the first stage, those of a stage, its environment, and what is known without
//! being said (Dockerfile reference, "ARG").

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use containerfile::{Expander, Text};
use image::Platform;

use crate::error::Failed;

/// Arguments that need not be declared, and are in no history.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];
/// Bytes that all variables of a stage may have.
const MOST: usize = 4 << 20;

/// What was given with the build.
#[derive(Debug)]
pub(crate) struct Given {
    /// `--build-arg`.
    arguments: BTreeMap<String, String>,
    /// Of those, the ones that something asked for.
    used: RefCell<BTreeSet<String>>,
    /// TARGETPLATFORM and the others.
    platforms: BTreeMap<&'static str, String>,
}

impl Given {
    pub(crate) fn new(arguments: BTreeMap<String, String>, target: &Platform) -> Given {
        let host = Platform::host();
        let of = |platform: &Platform| {
            [
                platform.to_string(),
                platform.os.clone(),
                platform.architecture.clone(),
                platform.variant.clone().unwrap_or_default(),
            ]
        };
        let names = [
            ["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"],
            ["BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"],
        ];
        let values = [of(target), of(&host)];
        let platforms = names
            .into_iter()
            .flatten()
            .zip(values.into_iter().flatten());
        Given {
            arguments,
            used: RefCell::default(),
            platforms: platforms.collect(),
        }
    }

    fn argument(&self, name: &str) -> Option<String> {
        let value = self.arguments.get(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(value.clone())
    }

    /// What nothing has asked for.
    pub(crate) fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        let names = self
            .arguments
            .keys()
            .filter(|name| !used.contains(*name) && !is_proxy(name));
        names.cloned().collect()
    }

    /// The proxies of commands.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = (String, String)> {
        let given = self.arguments.iter().filter(|(name, _)| is_proxy(name));
        given.map(|(name, value)| (name.clone(), value.clone()))
    }
}

fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name)
}

/// The variables of a place in the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// Of those before the first stage.
    global: BTreeMap<String, String>,
    /// Declared in the stage, in their order; without a value they are known to be unknown.
    declared: Vec<(String, Option<String>)>,
}

impl Scope {
    /// The same for the beginning of a stage.
    pub(crate) fn of_stage(&self) -> Scope {
        Scope {
            global: self.global.clone(),
            declared: Vec::new(),
        }
    }

    /// An `ARG` before the first stage.
    pub(crate) fn declare_global(
        &mut self,
        given: &Given,
        escape: char,
        name: &str,
        default: Option<&Text>,
    ) -> Result<(), Failed> {
        let lookup = |name: &str| self.global_value(given, name);
        let default = default
            .map(|text| Expander::new(escape, &lookup).word(text))
            .transpose()?;
        if let Some(value) = given.argument(name).or(default) {
            self.global.insert(name.to_owned(), value);
        }
        Ok(())
    }

    /// A variable before a stage.
    pub(crate) fn global_value(&self, given: &Given, name: &str) -> Option<String> {
        let known = self.global.get(name).cloned();
        known.or_else(|| given.platforms.get(name).cloned())
    }

    /// An `ARG` of a stage.
    pub(crate) fn declare(
        &mut self,
        given: &Given,
        name: &str,
        default: Option<String>,
    ) -> Result<(), Failed> {
        let value = given
            .argument(name)
            .or(default)
            .or_else(|| self.global_value(given, name));
        self.declared.retain(|(known, _)| known != name);
        self.declared.push((name.to_owned(), value));
        let bytes: usize = self
            .declared
            .iter()
            .map(|(_, value)| value.as_ref().map_or(0, String::len))
            .sum();
        match bytes > MOST {
            true => Err(format!("the arguments of a stage have more than {MOST} bytes").into()),
            false => Ok(()),
        }
    }

    /// An argument of the stage.
    pub(crate) fn argument(&self, name: &str) -> Option<String> {
        let found = self.declared.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.clone())
    }

    /// The arguments that commands see: those that have a value and that the environment does not have.
    pub(crate) fn arguments(&self, environment: &[String]) -> Vec<(String, String)> {
        let is_set = |name: &str| value_in(environment, name).is_some();
        let declared = self.declared.iter().filter(|(name, _)| !is_set(name));
        declared
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect()
    }
}

/// The value of a variable among `NAME=VALUE`.
pub(crate) fn value_in(environment: &[String], name: &str) -> Option<String> {
    environment.iter().find_map(|entry| {
        let value = entry.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.to_owned())
    })
}

/// Sets a variable among `NAME=VALUE`, at its place.
pub(crate) fn set_in(environment: &mut Vec<String>, name: &str, value: &str) -> Result<(), Failed> {
    let entry = format!("{name}={value}");
    let same = environment.iter_mut().find(|entry| {
        let rest = entry.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('='))
    });
    match same {
        Some(old) => *old = entry,
        None => environment.push(entry),
    }
    let bytes: usize = environment.iter().map(String::len).sum();
    match bytes > MOST {
        true => Err(format!("the environment has more than {MOST} bytes").into()),
        false => Ok(()),
    }
}
