//! registries.conf version 2 and its drop-ins (containers-registries.conf(5)): where images really come from.
//!
//! `load` reads and checks the files; [`Registries::resolve`] turns a reference into the places to
//! ask, mirrors first; [`Registries::candidates`] gives short names a meaning. Must never contact a
//! registry, and never let a blocked one through.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base::file::read_text;
use image::Reference;

use crate::error::{Error, Result};

mod file;
mod resolve;
mod short_names;

pub use resolve::Source;
pub use short_names::ShortNameFlaw;

/// The most that a file may be, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Which files to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistriesPaths {
    /// The main file.
    pub file: PathBuf,
    /// Whether it is an error that the main file does not exist.
    pub file_required: bool,
    /// Directories of drop-ins (`*.conf`), each read in lexical order, later ones win.
    pub dropin_dirs: Vec<PathBuf>,
    /// Aliases that other tools recorded from a user's choice; they win over all others.
    pub alias_cache: Option<PathBuf>,
}

impl RegistriesPaths {
    /// The system's files, below `/etc/containers`.
    pub fn system() -> RegistriesPaths {
        RegistriesPaths {
            file: "/etc/containers/registries.conf".into(),
            file_required: false,
            dropin_dirs: vec!["/etc/containers/registries.conf.d".into()],
            alias_cache: alias_cache(|name| std::env::var_os(name)),
        }
    }

    /// What the environment asks for: `CONTAINERS_REGISTRIES_CONF`, then the user's own file below
    /// `XDG_CONFIG_HOME` or `~/.config`, then the system's. `var` looks up a variable.
    pub fn from_env(var: impl Fn(&str) -> Option<OsString>) -> RegistriesPaths {
        let mut paths = RegistriesPaths {
            alias_cache: alias_cache(&var),
            ..RegistriesPaths::system()
        };
        let config = var("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || var("HOME").map(|home| Path::new(&home).join(".config"));
        if let Some(user) = config.or_else(home).map(|dir| dir.join("containers")) {
            let file = user.join("registries.conf");
            if file.exists() {
                paths.file = file;
            }
            paths.dropin_dirs.push(user.join("registries.conf.d"));
        }
        if let Some(file) = var("CONTAINERS_REGISTRIES_CONF").filter(|file| !file.is_empty()) {
            paths.file = file.into();
            paths.file_required = true;
        }
        paths
    }
}

/// Where other tools record what a user chose: root's is the machine's, others have one at home.
fn alias_cache(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| {
        let value = var(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let cache = match rustix::process::geteuid().is_root() {
        true => Some("/var/cache".into()),
        false => path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache"))),
    };
    cache.map(|dir| dir.join("containers/short-name-aliases.conf"))
}

impl Default for RegistriesPaths {
    fn default() -> RegistriesPaths {
        RegistriesPaths::system()
    }
}

/// What to do with a short name that several registries may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShortNameMode {
    /// Try all in order.
    Disabled,
    /// Try all in order where there is no terminal to ask at.
    #[default]
    Permissive,
    /// Refuse where there is no terminal to ask at.
    Enforcing,
}

/// Which pulls a mirror is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullFromMirror {
    /// All.
    #[default]
    All,
    /// Those by digest.
    DigestOnly,
    /// Those by tag.
    TagOnly,
}

/// A mirror of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `host[:port][/path]` that replaces the prefix.
    pub location: String,
    /// Certificates are not checked, and plain HTTP will do.
    pub insecure: bool,
    /// Which pulls it is for.
    pub pull: PullFromMirror,
}

/// A `[[registry]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// What references it is for: `host[:port][/path]`, or `*.domain`.
    pub prefix: String,
    /// What replaces the prefix; nothing for a wildcard without location.
    pub location: Option<String>,
    /// Certificates are not checked, and plain HTTP will do.
    pub insecure: bool,
    /// Nothing may be pulled from it.
    pub blocked: bool,
    /// All mirrors are only for pulls by digest.
    pub mirror_by_digest_only: bool,
    /// To be tried before the location, in order.
    pub mirrors: Vec<Mirror>,
}

/// Why a registries.conf cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistriesFlaw {
    /// The tables of the first version of the format.
    #[error("[registries.*] is version 1 of the format, which is not supported: use [[registry]]")]
    VersionOne,
    /// Neither prefix nor location.
    #[error("a [[registry]] has neither prefix nor location")]
    Nameless,
    /// A location with a URL scheme.
    #[error("{0:?} must be host[:port][/path] without a scheme such as https://")]
    Scheme(String),
    /// No valid `host[:port][/path]`.
    #[error("{0:?} is not host[:port][/path]")]
    Location(String),
    /// A wildcard anywhere but at the beginning of a prefix.
    #[error("{0:?}: a wildcard must be the whole first label of a prefix, as in *.example.com")]
    Wildcard(String),
    /// Two mirrors' settings that exclude each other.
    #[error("registry {0:?} sets both mirror-by-digest-only and a mirror's pull-from-mirror")]
    MirrorModes(String),
    /// An unknown value.
    #[error("{key} is {value:?}; it must be one of {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
        /// The values that there are.
        allowed: &'static str,
    },
    /// The same prefix twice in one file with different settings.
    #[error("registry {prefix:?} is there twice with different values of {key}")]
    Conflict {
        /// The prefix.
        prefix: String,
        /// The key that differs.
        key: &'static str,
    },
    /// An alias for something that is no short name.
    #[error("alias {0:?}: the name must be short: no registry, tag or digest")]
    AliasName(String),
    /// An alias to something that is no repository.
    #[error(
        "alias {name:?}: {target:?} is not a repository with its registry, without tag and digest"
    )]
    AliasTarget {
        /// The short name.
        name: String,
        /// What it is to mean.
        target: String,
    },
}

/// All that the registries.conf family says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    search: Vec<String>,
    mode: ShortNameMode,
    credential_helpers: Vec<String>,
    registries: BTreeMap<String, Registry>,
    aliases: BTreeMap<String, Reference>,
}

impl Registries {
    /// Reads and merges all files. Unknown keys warn with file and line.
    ///
    /// Errors with [`Error::Read`], [`Error::Toml`] or [`Error::Registries`]: a file that cannot be
    /// understood may hold a block or a mirror that must not be passed over.
    pub fn load(paths: &RegistriesPaths) -> Result<Registries> {
        let mut all = Registries::default();
        match read(&paths.file)? {
            Some(text) => all.merge(file::parse(&paths.file, &text)?),
            None if paths.file_required => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                return Err(Error::Read {
                    path: paths.file.clone(),
                    source,
                });
            }
            None => {}
        }
        for path in paths
            .dropin_dirs
            .iter()
            .map(|dir| dropins(dir))
            .collect::<Result<Vec<_>>>()?
            .concat()
        {
            if let Some(text) = read(&path)? {
                all.merge(file::parse(&path, &text)?);
            }
        }
        if let Some(path) = &paths.alias_cache {
            match read(path) {
                Ok(Some(text)) => all.merge_aliases(file::parse(path, &text)?.aliases),
                Ok(None) => {}
                // What nobody may read here, nobody has chosen here.
                Err(Error::Read { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    tracing::debug!("{}: {source}", path.display());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Reads one text as if it were the only file.
    pub fn parse(text: &str) -> Result<Registries> {
        let mut all = Registries::default();
        all.merge(file::parse(Path::new("registries.conf"), text)?);
        Ok(all)
    }

    /// Lets `host[:port]` speak plain HTTP and show any certificate, besides what the files say.
    pub fn allow_insecure(&mut self, host: &str) {
        let own = |prefix: &str| prefix == host || prefix.starts_with(&format!("{host}/"));
        let named = self.registries.values_mut().filter(|r| own(&r.prefix));
        named.for_each(|registry| registry.insecure = true);
        if self.registries.contains_key(host) {
            return;
        }
        // What a wildcard says about the host, such as that it is blocked, still holds.
        let any = Reference::parse(&format!("{host}/x")).ok();
        let wild = any.and_then(|any| self.find(&any).cloned());
        let whole = Registry {
            prefix: host.to_owned(),
            insecure: true,
            ..wild.unwrap_or(Registry {
                prefix: String::new(),
                location: None,
                insecure: true,
                blocked: false,
                mirror_by_digest_only: false,
                mirrors: Vec::new(),
            })
        };
        self.registries.insert(host.to_owned(), whole);
    }

    /// The registries that short names are searched in, in order.
    pub fn search(&self) -> &[String] {
        &self.search
    }

    /// What to do with a short name that several registries may have.
    pub fn short_name_mode(&self) -> ShortNameMode {
        self.mode
    }

    /// Where logins are kept, in order: names of credential helpers, and
    /// [`AUTH_FILES`](crate::auth::AUTH_FILES); empty when the files say nothing.
    pub fn credential_helpers(&self) -> &[String] {
        &self.credential_helpers
    }

    /// The `[[registry]]` tables by prefix.
    pub fn registries(&self) -> impl Iterator<Item = &Registry> {
        self.registries.values()
    }

    /// A later file replaces what it names: a registry as a whole by its prefix, an alias by its name.
    fn merge(&mut self, file: file::Parsed) {
        if let Some(search) = file.search {
            self.search = search;
        }
        if let Some(mode) = file.mode {
            self.mode = mode;
        }
        if let Some(helpers) = file.credential_helpers {
            self.credential_helpers = helpers;
        }
        for registry in file.registries {
            self.registries.insert(registry.prefix.clone(), registry);
        }
        self.merge_aliases(file.aliases);
    }

    fn merge_aliases(&mut self, aliases: BTreeMap<String, Option<Reference>>) {
        for (name, target) in aliases {
            match target {
                Some(target) => self.aliases.insert(name, target),
                None => self.aliases.remove(&name),
            };
        }
    }
}

/// The text of a file, or nothing when it does not exist.
fn read(path: &Path) -> Result<Option<String>> {
    read_text(path, MAX_FILE).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn dropins(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
            && !path.is_dir()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
