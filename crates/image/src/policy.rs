//! policy.json (containers-policy.json(5)): which images may be used at all.
//!
//! A node that asks for signatures gets them checked or gets no image. Until checking is built, a
//! `signedBy` or `sigstoreSigned` scope refuses. Must never turn a policy that it does not
//! understand into permission.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::registries::read;

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
}

/// One condition that an image must meet.
#[derive(Debug, Clone, PartialEq)]
pub enum Requirement {
    /// Any image will do.
    InsecureAcceptAnything,
    /// No image will do.
    Reject,
    /// A GPG signature; the parameters as written.
    SignedBy(Map<String, Value>),
    /// A GPG signature of the base layer; the parameters as written.
    SignedBaseLayer(Map<String, Value>),
    /// A sigstore signature; the parameters as written.
    SigstoreSigned(Map<String, Value>),
}

type Scopes = BTreeMap<String, Vec<Requirement>>;

/// A policy: requirements by transport and scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    path: PathBuf,
    default: Vec<Requirement>,
    transports: BTreeMap<String, Scopes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Vec<Map<String, Value>>,
    #[serde(default)]
    transports: Unique<Unique<Vec<Map<String, Value>>>>,
}

impl Policy {
    /// Accepts every image, as if there were no such thing as a policy.
    pub fn accept_anything() -> Policy {
        let default = vec![Requirement::InsecureAcceptAnything];
        Policy {
            path: PathBuf::new(),
            default,
            transports: BTreeMap::new(),
        }
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
            let raw: RawPolicy =
                serde_json::from_str(text).map_err(|error| PolicyFlaw::Json(error.to_string()))?;
            let default = requirements("default", raw.default)?;
            let mut transports = BTreeMap::new();
            for (transport, raw_scopes) in raw.transports.map {
                let mut scopes = Scopes::new();
                for (scope, list) in raw_scopes.map {
                    let list = requirements(&scope, list)?;
                    scopes.insert(scope, list);
                }
                transports.insert(transport, scopes);
            }
            Ok(Policy {
                path: path.to_owned(),
                default,
                transports,
            })
        };
        read().map_err(|flaw| Error::Policy {
            path: path.to_owned(),
            flaw,
        })
    }

    /// Whether an image may be taken from a registry: all requirements of the most specific scope
    /// must be met. Errors with [`Error::PolicyRejected`] or [`Error::SignatureUnsupported`].
    pub fn check(&self, reference: &Reference) -> Result<()> {
        let (scope, list) = self.find(reference);
        self.require(&reference.to_string(), &scope, list)
    }

    fn require(&self, image: &str, scope: &str, list: &[Requirement]) -> Result<()> {
        for requirement in list {
            let requirement = match requirement {
                Requirement::InsecureAcceptAnything => continue,
                Requirement::Reject => {
                    return Err(Error::PolicyRejected {
                        reference: image.to_owned(),
                        path: self.path.clone(),
                        scope: scope.to_owned(),
                    });
                }
                Requirement::SignedBy(_) => "signedBy",
                Requirement::SignedBaseLayer(_) => "signedBaseLayer",
                Requirement::SigstoreSigned(_) => "sigstoreSigned",
            };
            return Err(Error::SignatureUnsupported {
                reference: image.to_owned(),
                path: self.path.clone(),
                scope: scope.to_owned(),
                requirement,
            });
        }
        Ok(())
    }

    /// The same for an image at a path, under a transport other than `docker`, by the scopes that
    /// containers-policy.json(5) gives paths: the path itself and each directory above it.
    pub fn check_path(&self, transport: &str, path: &Path) -> Result<()> {
        let scopes = self.transports.get(transport);
        let above = path.ancestors().map(|scope| scope.display().to_string());
        let found = scopes.and_then(|scopes| {
            let mut names = above.chain([String::new()]);
            names.find_map(|scope| Some((scope.clone(), scopes.get(&scope)?)))
        });
        let (scope, list) = match &found {
            Some((scope, list)) => (scope.as_str(), list.as_slice()),
            None => ("default", self.default.as_slice()),
        };
        let image = format!("{transport}:{}", path.display());
        self.require(&image, scope, list)
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

/// The scopes of a reference, the most specific first; the empty one is the transport's own default.
fn docker_scopes(reference: &Reference) -> Vec<String> {
    let identity = match reference.digest() {
        Some(_) => reference.without_tag(),
        None => reference.clone().or_latest(),
    };
    let name = reference.name();
    let mut scopes = vec![identity.to_string(), name.clone()];
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

fn requirements(
    scope: &str,
    list: Vec<Map<String, Value>>,
) -> Result<Vec<Requirement>, PolicyFlaw> {
    if list.is_empty() {
        return Err(PolicyFlaw::Empty(scope.to_owned()));
    }
    list.into_iter()
        .map(|fields| requirement(scope, fields))
        .collect()
}

fn requirement(scope: &str, mut fields: Map<String, Value>) -> Result<Requirement, PolicyFlaw> {
    let kind = fields.remove("type").unwrap_or(Value::Null);
    let plain = |requirement, fields: &Map<String, Value>| match fields.keys().next() {
        Some(key) => Err(PolicyFlaw::Key {
            scope: scope.to_owned(),
            key: key.clone(),
        }),
        None => Ok(requirement),
    };
    match kind.as_str() {
        Some("insecureAcceptAnything") => plain(Requirement::InsecureAcceptAnything, &fields),
        Some("reject") => plain(Requirement::Reject, &fields),
        Some("signedBy") => Ok(Requirement::SignedBy(fields)),
        Some("signedBaseLayer") => Ok(Requirement::SignedBaseLayer(fields)),
        Some("sigstoreSigned") => Ok(Requirement::SigstoreSigned(fields)),
        Some(other) => Err(PolicyFlaw::Kind {
            scope: scope.to_owned(),
            kind: other.to_owned(),
        }),
        None => Err(PolicyFlaw::Kind {
            scope: scope.to_owned(),
            kind: kind.to_string(),
        }),
    }
}

/// A JSON object in which no key may be there twice: the second could quietly undo the first.
struct Unique<T> {
    map: BTreeMap<String, T>,
}

impl<T> Default for Unique<T> {
    fn default() -> Unique<T> {
        Unique {
            map: BTreeMap::new(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique<T>, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique<T>, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = access.next_entry::<String, T>()? {
                    if map.contains_key(&key) {
                        return Err(A::Error::custom(format!("key {key:?} is there twice")));
                    }
                    map.insert(key, value);
                }
                Ok(Unique { map })
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}

#[cfg(test)]
mod tests;
