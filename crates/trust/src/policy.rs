//! policy.json (containers-policy.json(5)): which images may be used at all.
//!
//! A [`Policy`] says what it [`Demands`] of an image; the image's signatures meet that or it is not
//! used. Must never turn a policy that it does not understand into permission.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use base::file::read_text;
use image::Reference;
use image::reference::with_small_host;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::strict_json;

mod demands;
mod identity;
mod requirement;

pub use demands::Demands;
pub use identity::SignedIdentity;
pub use requirement::{KeySource, Requirement, SignedBy, Signers, SigstoreSigned};

/// The most that a policy may be, in bytes: keys may lie in it.
const MAX_FILE: u64 = 4 << 20;

/// What is wrong with a policy.json.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFlaw {
    /// Not the JSON that it should be: a syntax error, an unknown or a repeated key.
    #[error("{0}")]
    Json(String),
    /// A scope without requirements would permit everything.
    #[error("scope {0:?} has an empty list of requirements")]
    Empty(String),
    /// Two scopes that differ in the capitals of the host only: one of them would be passed over.
    #[error("scope {0:?} is there twice")]
    Twice(String),
    /// A requirement that is not known.
    #[error("scope {scope:?}: unknown type of requirement {kind:?}")]
    Kind {
        /// The scope.
        scope: String,
        /// The type as written.
        kind: String,
    },
    /// A requirement with keys that it cannot have.
    #[error("scope {scope:?}: unknown key {key:?}")]
    Key {
        /// The scope.
        scope: String,
        /// The key.
        key: String,
    },
    /// A requirement that says too much, too little or something that is not known.
    #[error("scope {scope:?}: {kind}: {why}")]
    Requirement {
        /// The scope.
        scope: String,
        /// The type of the requirement.
        kind: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

type Scopes = BTreeMap<String, Vec<Requirement>>;

/// A policy: requirements by transport and scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    path: PathBuf,
    default: Vec<Requirement>,
    transports: BTreeMap<String, Scopes>,
    /// Whether every image must have a signature that something asks for.
    only_signed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Vec<Map<String, Value>>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Map<String, Value>>>>,
}

impl Policy {
    /// Accepts every image, as if there were no such thing as a policy.
    pub fn accept_anything() -> Policy {
        let default = vec![Requirement::InsecureAcceptAnything];
        Policy {
            path: PathBuf::new(),
            default,
            transports: BTreeMap::new(),
            only_signed: false,
        }
    }

    /// The same, and an image that it would accept without any signature is refused.
    #[must_use]
    pub fn only_signed(self) -> Policy {
        Policy {
            only_signed: true,
            ..self
        }
    }

    /// Whether nothing is accepted without a signature.
    pub fn is_only_signed(&self) -> bool {
        self.only_signed
    }

    /// Reads this file, which must exist. Errors with [`Error::Read`] or [`Error::Policy`].
    pub fn open(path: &Path) -> Result<Policy> {
        match read(path)? {
            Some(text) => Policy::parse(path, &text),
            None => {
                let source = std::io::ErrorKind::NotFound.into();
                Err(Error::Read {
                    path: path.to_owned(),
                    source,
                })
            }
        }
    }

    /// Reads the first of `paths` that exists.
    ///
    /// Where there is none, every image is accepted, and a warning says so: other tools fail then,
    /// but a fresh machine without their packages has no such file, and asked for nothing.
    pub fn load(paths: &[PathBuf]) -> Result<Policy> {
        for path in paths {
            if let Some(text) = read(path)? {
                return Policy::parse(path, &text);
            }
        }
        let shown: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        tracing::warn!(
            "no signature policy ({}): images of every origin are accepted",
            shown.join(", ")
        );
        Ok(Policy::accept_anything())
    }

    /// Where a policy may be: the user's file and then the system's. `var` looks up a variable.
    pub fn default_paths(var: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
        let config = var("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || var("HOME").map(|home| Path::new(&home).join(".config"));
        let user = config
            .or_else(home)
            .map(|dir| dir.join("containers/policy.json"));
        user.into_iter()
            .chain([PathBuf::from("/etc/containers/policy.json")])
            .collect()
    }

    /// Parses a policy; `path` is for messages. Errors with [`Error::Policy`].
    pub fn parse(path: &Path, text: &str) -> Result<Policy> {
        let read = || -> Result<Policy, PolicyFlaw> {
            let raw: RawPolicy = strict_json::parse(text.as_bytes()).map_err(PolicyFlaw::Json)?;
            let default = requirements("default", raw.default)?;
            let mut transports = BTreeMap::new();
            for (transport, raw_scopes) in raw.transports {
                let mut scopes = Scopes::new();
                for (scope, list) in raw_scopes {
                    let list = requirements(&scope, list)?;
                    let scope = match transport.as_str() {
                        "docker" => with_small_host(&scope),
                        _ => scope,
                    };
                    if scopes.insert(scope.clone(), list).is_some() {
                        return Err(PolicyFlaw::Twice(scope));
                    }
                }
                transports.insert(transport, scopes);
            }
            Ok(Policy {
                path: path.to_owned(),
                default,
                transports,
                only_signed: false,
            })
        };
        read().map_err(|flaw| Error::Policy {
            path: path.to_owned(),
            flaw,
        })
    }

    /// What is demanded of an image of a registry: all requirements of the most specific scope.
    /// Errors with [`Error::PolicyRejected`] or [`Error::SignatureUnsupported`] when no signature
    /// could help, and with [`Error::SignatureNotDemanded`].
    pub fn demands(&self, reference: &Reference) -> Result<Demands> {
        let (scope, list) = self.find(reference);
        let identity = identity(reference);
        self.of(identity.to_string(), Some(identity), scope, list)
    }

    /// The same for an image at a path, under a transport other than `docker`, by the scopes that
    /// containers-policy.json(5) gives paths: the path, with the image's name in it where there is
    /// one, then the path itself and each directory above it.
    pub fn demands_at(&self, transport: &str, path: &Path, name: Option<&str>) -> Result<Demands> {
        let whole = name.map(|name| format!("{}:{name}", path.display()));
        let above = path.ancestors().map(|scope| scope.display().to_string());
        let scopes = whole.into_iter().chain(above).chain([String::new()]);
        let image = format!("{transport}:{}", path.display());
        self.demands_in(transport, image, scopes, None)
    }

    /// The same for an image of any transport: `image` names it in messages, `scopes` are its own from
    /// the most specific to the empty one, and `reference` is the name that signatures are for.
    pub fn demands_in(
        &self,
        transport: &str,
        image: String,
        scopes: impl IntoIterator<Item = String>,
        reference: Option<&Reference>,
    ) -> Result<Demands> {
        let known = self.transports.get(transport);
        let found = known.and_then(|known| {
            let mut scopes = scopes.into_iter();
            scopes.find_map(|scope| Some((scope.clone(), known.get(&scope)?)))
        });
        let (scope, list) = match found {
            Some((scope, list)) => (scope, list.as_slice()),
            None => ("default".to_owned(), self.default.as_slice()),
        };
        self.of(image, reference.map(identity), scope, list)
    }

    fn of(
        &self,
        image: String,
        reference: Option<Reference>,
        scope: String,
        list: &[Requirement],
    ) -> Result<Demands> {
        let demands = Demands {
            image,
            reference,
            path: self.path.clone(),
            scope,
            list: list.to_vec(),
        };
        let demands = demands.possible()?;
        match self.only_signed && !demands.want_signatures() {
            true => Err(Error::SignatureNotDemanded {
                reference: demands.image,
                path: self.path.clone(),
                scope: demands.scope,
            }),
            false => Ok(demands),
        }
    }

    fn find(&self, reference: &Reference) -> (String, &[Requirement]) {
        if let Some(docker) = self.transports.get("docker") {
            let scopes = docker_scopes(reference);
            if let Some((scope, list)) = scopes.into_iter().find_map(|scope| {
                let list = docker.get(&scope)?;
                Some((scope, list))
            }) {
                let scope = if scope.is_empty() {
                    "docker".to_owned()
                } else {
                    scope
                };
                return (scope, list);
            }
        }
        ("default".to_owned(), &self.default)
    }
}

/// The name under which policies know an image: with its digest, or else its tag.
fn identity(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(_) => reference.without_tag(),
        None => reference.clone().or_latest(),
    }
}

/// The scopes of a reference, the most specific first; the empty one is the transport's own default.
pub(crate) fn docker_scopes(reference: &Reference) -> Vec<String> {
    let name = reference.name();
    let mut scopes = vec![identity(reference).to_string(), name.clone()];
    let mut rest = name.as_str();
    while let Some((shorter, _)) = rest.rsplit_once('/') {
        scopes.push(shorter.to_owned());
        rest = shorter;
    }
    let mut host = rest.split(':').next().unwrap_or_default();
    while let Some((_, parent)) = host.split_once('.') {
        scopes.push(format!("*.{parent}"));
        host = parent;
    }
    scopes.push(String::new());
    scopes
}

/// The text of a file; `None` when it is not there.
fn read(path: &Path) -> Result<Option<String>> {
    read_text(path, MAX_FILE).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn requirements(
    scope: &str,
    list: Vec<Map<String, Value>>,
) -> Result<Vec<Requirement>, PolicyFlaw> {
    if list.is_empty() {
        return Err(PolicyFlaw::Empty(scope.to_owned()));
    }
    list.into_iter()
        .map(|fields| Requirement::parse(scope, fields))
        .collect()
}

#[cfg(test)]
mod tests;
