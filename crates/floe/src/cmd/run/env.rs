//! What `floe run` says of the container's environment.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use engine::container::Unset;

use crate::containers_conf::Containers;
use crate::failure::Failure;

/// The most of a file of variables or labels.
const MAX_FILE: u64 = 1 << 20;

/// Variables that every container gets from the shell of who starts it, unless that is not wanted.
pub(crate) const PROXY: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

/// The container's environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Environment {
    /// NAME=VALUE, or NAME (also NAME*) to take it from here
    #[arg(long, short, value_name = "ENV")]
    env: Vec<String>,
    /// File with a variable in each line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Take all variables from here
    #[arg(long)]
    env_host: bool,
    /// Take the variables of proxies from here [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true")]
    http_proxy: bool,
    /// Leave out a variable of the image
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,
    /// Leave out all variables that are not given here
    #[arg(long)]
    unsetenv_all: bool,
    /// containers.conf's, which the image's own hide
    #[arg(skip)]
    defaults: Vec<String>,
}

impl Environment {
    /// Takes from containers.conf what was not said.
    pub(super) fn take_defaults(&mut self, given: &Containers) {
        self.defaults = given.env.to_vec();
        if given.http_proxy == Some(false) {
            self.http_proxy = false;
        }
    }

    /// containers.conf's variables.
    pub(super) fn defaults(&self) -> impl Iterator<Item = (&str, &str)> {
        let set = self.defaults.iter();
        set.filter_map(|entry| entry.split_once('='))
    }

    /// All variables in order: later ones win.
    pub(super) fn variables(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut all = Vec::new();
        if self.http_proxy {
            let set = PROXY
                .iter()
                .filter_map(|name| Some((name, std::env::var(name).ok()?)));
            all.extend(set.map(|(name, value)| ((*name).to_owned(), value)));
        }
        if self.env_host {
            all.extend(here(|_| true));
        }
        for file in &self.env_file {
            for line in lines(file)? {
                add(&mut all, "--env-file", line.trim_start())?;
            }
        }
        for entry in &self.env {
            add(&mut all, "--env", entry)?;
        }
        Ok(all)
    }

    /// What of the image's is left out.
    pub(super) fn unset(&self) -> Unset {
        match self.unsetenv_all {
            true => Unset::All,
            false => Unset::Names(self.unsetenv.clone()),
        }
    }
}

/// The variables of files and flags, in order, as `NAME=VALUE`: later ones win.
pub(crate) fn given(files: &[PathBuf], entries: &[String]) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file)? {
            add(&mut all, "--env-file", line.trim_start())?;
        }
    }
    for entry in entries {
        add(&mut all, "--env", entry)?;
    }
    let words = all
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"));
    Ok(words.collect())
}

/// The variables of this process whose names are wanted; those that are no text are left out.
fn here(wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (String, String)> {
    let all = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(move |(name, _)| wanted(name))
}

fn add(all: &mut Vec<(String, String)>, flag: &str, entry: &str) -> Result<(), Failure> {
    match entry.split_once('=') {
        Some(("", _)) => {
            return Err(Failure::new(format!("{flag} {entry:?} is not NAME=VALUE")));
        }
        Some((name, value)) => all.push((name.to_owned(), value.to_owned())),
        None => match entry.strip_suffix('*') {
            Some(begin) => all.extend(here(|name| name.starts_with(begin))),
            None => all.extend(
                std::env::var(entry)
                    .ok()
                    .map(|value| (entry.to_owned(), value)),
            ),
        },
    }
    Ok(())
}

/// The lines of a file of variables or labels, without comments and empty ones.
pub(crate) fn lines(file: &Path) -> Result<Vec<String>, Failure> {
    let failed = |e| Failure::new(format!("open {}: {e}", file.display()));
    let opened = std::fs::File::open(file).map_err(failed)?;
    let lines = BufReader::new(opened.take(MAX_FILE)).lines();
    let lines = lines.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let counts = |line: &String| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    Ok(lines.into_iter().filter(counts).collect())
}

/// NAME=VALUE entries; a bare NAME has an empty value where that is allowed.
pub(crate) fn pairs(
    flag: &str,
    entries: &[String],
    bare: bool,
) -> Result<Vec<(String, String)>, Failure> {
    entries
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            None if bare && !entry.is_empty() => Ok((entry.clone(), String::new())),
            _ => Err(Failure::new(format!("{flag} {entry:?} is not NAME=VALUE"))),
        })
        .collect()
}
