//! containers.conf: what people's containers are made with where the command line does not say (containers.conf(5)).
//! Files are read where podman reads them and laid over each other as podman does it. Of the table `[containers]` the
//! keys of [`Containers`] count; what else is in the files is podman's own business.
//!
//! It is read when a container is made, and what it says is the container's from then on: must never change one
//! that is there.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;

/// Longer files are refused rather than read.
const MAX_FILE: u64 = 1 << 20;
/// The files of the system, each with a directory of further ones beside it.
const SYSTEM: [&str; 2] = [
    "/usr/share/containers/containers.conf",
    "/etc/containers/containers.conf",
];
/// A file in place of all others.
const INSTEAD: &str = "CONTAINERS_CONF";
/// A file after all others.
const OVERRIDE: &str = "CONTAINERS_CONF_OVERRIDE";

/// A file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    containers: Containers,
}

/// `[containers]` of a file, or of several laid over each other.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Containers {
    pub(crate) annotations: List,
    pub(crate) default_capabilities: List,
    pub(crate) default_sysctls: List,
    pub(crate) default_ulimits: List,
    pub(crate) devices: List,
    pub(crate) dns_options: List,
    pub(crate) dns_searches: List,
    pub(crate) dns_servers: List,
    pub(crate) env: List,
    pub(crate) mounts: List,
    pub(crate) volumes: List,
    pub(crate) pids_limit: Option<i64>,
    pub(crate) shm_size: Option<String>,
    pub(crate) tz: Option<String>,
    pub(crate) umask: Option<String>,
    pub(crate) init: Option<bool>,
    pub(crate) read_only: Option<bool>,
    pub(crate) http_proxy: Option<bool>,
    pub(crate) no_hosts: Option<bool>,
}

/// A list of words. `{append=true}` in it has it added to those of former files, and later ones to it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<Item>")]
pub(crate) struct List {
    words: Vec<String>,
    /// `None`: it was not said, and holds as before.
    adds: Option<bool>,
    /// The key is there, with or without words.
    is_given: bool,
}

/// What stands in a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Item {
    Word(String),
    Append { append: bool },
}

impl From<Vec<Item>> for List {
    fn from(items: Vec<Item>) -> Self {
        let mut list = Self {
            is_given: true,
            ..Self::default()
        };
        for item in items {
            match item {
                Item::Word(word) => list.words.push(word),
                Item::Append { append } => list.adds = Some(append),
            }
        }
        list
    }
}

impl Deref for List {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.words
    }
}

impl List {
    /// Lays a later file's over it.
    fn lay(&mut self, later: Self) {
        self.adds = later.adds.or(self.adds);
        if later.is_given && self.adds != Some(true) {
            self.words.clear();
        }
        self.words.extend(later.words);
    }
}

impl Containers {
    /// Reads the files of this machine and of this user.
    ///
    /// # Errors
    /// A file that cannot be read or is none; one that a variable names must be there.
    pub(crate) fn load() -> Result<Self, Failure> {
        let mut all = Self::default();
        match std::env::var_os(INSTEAD).filter(|path| !path.is_empty()) {
            Some(path) => all.read(Path::new(&path), true)?,
            None => {
                for path in usual() {
                    all.read(&path, false)?;
                    for further in beside(&path)? {
                        all.read(&further, false)?;
                    }
                }
            }
        }
        if let Some(path) = std::env::var_os(OVERRIDE).filter(|path| !path.is_empty()) {
            all.read(Path::new(&path), true)?;
        }
        Ok(all)
    }

    fn read(&mut self, path: &Path, must_be: bool) -> Result<(), Failure> {
        let failed = |why: String| Failure::new(format!("{}: {why}", path.display()));
        let text = base::file::read_text(path, MAX_FILE).map_err(|e| failed(e.to_string()))?;
        let Some(text) = text else {
            return match must_be {
                true => Err(failed("no such file or directory".to_owned())),
                false => Ok(()),
            };
        };
        let file: File = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        self.lay(file.containers);
        Ok(())
    }

    /// Lays a later file over what there is.
    fn lay(&mut self, later: Self) {
        self.annotations.lay(later.annotations);
        self.default_capabilities.lay(later.default_capabilities);
        self.default_sysctls.lay(later.default_sysctls);
        self.default_ulimits.lay(later.default_ulimits);
        self.devices.lay(later.devices);
        self.dns_options.lay(later.dns_options);
        self.dns_searches.lay(later.dns_searches);
        self.dns_servers.lay(later.dns_servers);
        self.env.lay(later.env);
        self.mounts.lay(later.mounts);
        self.volumes.lay(later.volumes);
        let text = |later: Option<String>, former: &mut Option<String>| {
            later.filter(|text| !text.is_empty()).or(former.take())
        };
        self.shm_size = text(later.shm_size, &mut self.shm_size);
        self.tz = text(later.tz, &mut self.tz);
        self.umask = text(later.umask, &mut self.umask);
        self.pids_limit = later.pids_limit.or(self.pids_limit);
        self.init = later.init.or(self.init);
        self.read_only = later.read_only.or(self.read_only);
        self.http_proxy = later.http_proxy.or(self.http_proxy);
        self.no_hosts = later.no_hosts.or(self.no_hosts);
    }
}

/// The files of the system, and of a user that is not root.
fn usual() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    if !rustix::process::geteuid().is_root() {
        let variable = |name| std::env::var_os(name).filter(|path| !path.is_empty());
        let home = variable("HOME").map(|home| Path::new(&home).join(".config"));
        let own = variable("XDG_CONFIG_HOME").map(PathBuf::from).or(home);
        all.extend(own.map(|dir| dir.join("containers/containers.conf")));
    }
    all
}

/// The files of the directory `PATH.d`, in lexical order.
fn beside(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut dir = path.as_os_str().to_owned();
    dir.push(".d");
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if base::file::is_absent(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "conf") {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(texts: &[&str]) -> Containers {
        let mut all = Containers::default();
        for text in texts {
            let file: File = toml::from_str(text).unwrap();
            all.lay(file.containers);
        }
        all
    }

    #[test]
    fn later_files_replace_and_lists_are_added_to_where_that_is_said() {
        let first = "[containers]\nenv = [\"A=1\"]\ntz = \"local\"\npids_limit = 9\n[engine]\nruntime = \"crun\"\n";
        let all = laid(&[first, "[containers]\nenv = [\"B=2\"]\ntz = \"\"\n"]);
        assert_eq!(*all.env, ["B=2"]);
        assert_eq!(
            (all.tz.as_deref(), all.pids_limit),
            (Some("local"), Some(9))
        );
        let adds = "[containers]\nenv = [\"B=2\", {append=true}]\n";
        let all = laid(&[first, adds, "[containers]\nenv = [\"C=3\"]\n"]);
        assert_eq!(*all.env, ["A=1", "B=2", "C=3"]);
        let takes_back = "[containers]\nenv = [{append=false}]\n";
        assert_eq!(*laid(&[first, adds, takes_back]).env, [""; 0]);
        assert_eq!(laid(&[""]), Containers::default());
        assert_eq!(*laid(&[]).volumes, [""; 0]);
    }
}
