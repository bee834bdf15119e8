//! Credentials, and auth.json (containers-auth.json(5)): who we are at which registry.
//!
//! Secrets must never reach a log or an error: [`Credentials`] prints without them.

mod helper;
mod write;

pub use write::{forget, forget_all, store};

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use image::Reference;
use image::reference::with_small_host;
use serde::Deserialize;

use self::helper::{Answers, Helper};
use crate::error::{Error, Result};

/// Who to be at a registry.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Whatever the auth files of the client's configuration hold for the registry, or else nobody.
    #[default]
    Stored,
    /// Nobody, whatever is stored.
    Anonymous,
    /// A user.
    Basic {
        /// Name.
        username: String,
        /// Password.
        password: String,
    },
    /// A refresh token, which is exchanged for access tokens.
    IdentityToken(String),
    /// An access token, sent as it is.
    RegistryToken(String),
}

impl Credentials {
    /// A user with a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Credentials {
        Credentials::Basic {
            username: username.into(),
            password: password.into(),
        }
    }

    /// Decodes `base64(user:password)`, as auth.json and CRI's `AuthConfig.auth` have it.
    pub fn from_base64(auth: &str) -> Result<Credentials, AuthFlaw> {
        let auth = auth.trim();
        let engine = if auth.ends_with('=') {
            &STANDARD
        } else {
            &STANDARD_NO_PAD
        };
        let decoded = engine.decode(auth).map_err(|_| AuthFlaw::Base64)?;
        let text = String::from_utf8(decoded).map_err(|_| AuthFlaw::Base64)?;
        let (username, password) = text.split_once(':').ok_or(AuthFlaw::Colon)?;
        Ok(Credentials::basic(
            username,
            password.trim_end_matches('\0'),
        ))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Stored => f.write_str("Stored"),
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Basic { username, .. } => write!(f, "Basic({username:?}, …)"),
            Credentials::IdentityToken(_) => f.write_str("IdentityToken(…)"),
            Credentials::RegistryToken(_) => f.write_str("RegistryToken(…)"),
        }
    }
}

/// What is wrong with an auth.json.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFlaw {
    /// Not the JSON that it should be. The parser's own words could show a secret.
    #[error("it is not the JSON of an auth file (line {line}, column {column})")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// `auth` is not base64 of text.
    #[error("auth is not base64")]
    Base64,
    /// `auth` decodes to something without a colon.
    #[error("auth is not base64 of user:password")]
    Colon,
    /// An entry cannot be used.
    #[error("entry {key:?}: {flaw}")]
    Entry {
        /// The registry or namespace.
        key: String,
        /// What is wrong with it.
        flaw: Box<AuthFlaw>,
    },
    /// The program that has the secret fails.
    #[error("credential helper {helper:?} for {registry:?}: {why}")]
    Helper {
        /// The registry asked for; empty when it is all of them.
        registry: String,
        /// The helper's name.
        helper: String,
        /// What it says, or why it could not be asked.
        why: String,
    },
}

/// What stands for the auth files among the `credential-helpers` of registries.conf.
pub const AUTH_FILES: &str = "containers-auth.json";

/// The files to look for credentials in, first match wins, and the helpers beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthFiles {
    files: Vec<PathBuf>,
    required: bool,
    /// Helpers and [`AUTH_FILES`]; empty: the files alone.
    order: Vec<String>,
    /// Where helpers are looked for, instead of `$PATH`.
    helpers: Option<OsString>,
    answers: Answers,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawFile {
    auths: BTreeMap<String, RawEntry>,
    #[serde(rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl AuthFiles {
    /// Only this file, which must exist.
    pub fn only(file: impl Into<PathBuf>) -> AuthFiles {
        AuthFiles {
            files: vec![file.into()],
            required: true,
            ..AuthFiles::default()
        }
    }

    /// What the environment says: `REGISTRY_AUTH_FILE` alone, or else, in order,
    /// `$XDG_RUNTIME_DIR/containers/auth.json` (without it `/run/containers/UID/auth.json`),
    /// `~/.config/containers/auth.json` and Docker's `~/.docker/config.json`. `var` looks up a variable.
    pub fn from_env(var: impl Fn(&str) -> Option<OsString>) -> AuthFiles {
        let path = |name: &str| {
            var(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(file) = path("REGISTRY_AUTH_FILE") {
            return AuthFiles::only(file);
        }
        let runtime = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let mut files: Vec<_> = runtime.or_else(usual_runtime_file).into_iter().collect();
        let home = path("HOME");
        let config =
            path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        files.extend(config.map(|dir| dir.join("containers/auth.json")));
        let docker = path("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
        files.extend(docker.map(|dir| dir.join("config.json")));
        AuthFiles {
            files,
            required: false,
            ..AuthFiles::default()
        }
    }

    /// The same, with `docker-credential-*` programs from these directories (in `$PATH`'s form).
    #[must_use]
    pub fn with_helpers_in(self, path: impl Into<OsString>) -> AuthFiles {
        AuthFiles {
            helpers: Some(path.into()),
            ..self
        }
    }

    /// The same, in their place among the `credential-helpers` of registries.conf. None: the files alone.
    #[must_use]
    pub fn in_order(&self, helpers: &[String]) -> AuthFiles {
        AuthFiles {
            order: helpers.to_vec(),
            ..self.clone()
        }
    }

    /// The credentials for `reference` from the first keeper that has any: a helper of
    /// registries.conf, which knows registries only, or the files: in the first file that has any, what the registry's helper
    /// (`credHelpers`) has, or the entry with the longest matching key (`host/path/name`,
    /// `host/path`, `host`), or what the common helper (`credsStore`) has.
    /// [`Credentials::Anonymous`] if there are none. Blocks while a helper runs.
    ///
    /// A keeper that fails is passed over. When no other has credentials, errors with what it said:
    /// [`Error::Read`], [`Error::Auth`], [`Error::CredentialHelper`], or several as [`Error::Logins`].
    /// A file that does not exist is only an error when it was named.
    pub fn lookup(&self, reference: &Reference) -> Result<Credentials> {
        let found = self.search(reference, &|helper, server| {
            if let Some(known) = self.answers.known(helper, server) {
                return Ok(Some(known));
            }
            let answer = helper.get(server)?;
            self.answers.remember(helper, server, answer.clone());
            Ok(Some(answer))
        });
        Ok(found?.unwrap_or_default())
    }

    /// The same without waiting for a helper: `None` when one would have to run.
    pub(crate) fn lookup_now(&self, reference: &Reference) -> Result<Option<Credentials>> {
        self.search(reference, &|helper, server| {
            Ok(self.answers.known(helper, server))
        })
    }

    fn search(&self, reference: &Reference, ask: &Ask<'_>) -> Result<Option<Credentials>> {
        let mut failures = Vec::new();
        for keeper in keepers(&self.order, &self.helpers) {
            let found = match keeper {
                Keeper::Files => self.search_files(reference, ask),
                Keeper::Helper(helper) => {
                    asked(&helper, reference.domain(), ask).map_err(Error::CredentialHelper)
                }
            };
            match found {
                Ok(Found::Credentials(credentials)) => return Ok(Some(credentials)),
                Ok(Found::Unknown) => return Ok(None),
                Ok(Found::Nothing) => {}
                Err(error) => failures.push(error),
            }
        }
        match failures.is_empty() {
            true => Ok(Some(Credentials::Anonymous)),
            false => Err(several(failures)),
        }
    }

    fn search_files(&self, reference: &Reference, ask: &Ask<'_>) -> Result<Found> {
        for path in &self.files {
            let text = match fs::read(path) {
                Ok(text) => text,
                Err(error) if !self.required && absent(&error) => continue,
                Err(source) => {
                    return Err(Error::Read {
                        path: path.clone(),
                        source,
                    });
                }
            };
            let found = parse(&text).and_then(|file| file.find(reference, &self.helpers, ask));
            match found.map_err(|flaw| Error::Auth {
                path: path.clone(),
                flaw,
            })? {
                Found::Nothing => {}
                found => return Ok(found),
            }
        }
        Ok(Found::Nothing)
    }
}

/// Where each user has logins until the machine ends, if there is no `XDG_RUNTIME_DIR`.
const RUNTIME_FILES: &str = "/run/containers";

/// The file of whoever runs this; none where that user may not even look for it.
fn usual_runtime_file() -> Option<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let file = Path::new(RUNTIME_FILES).join(format!("{uid}/auth.json"));
    let hidden = fs::metadata(&file).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
    (!hidden).then_some(file)
}

/// Where logins are kept.
enum Keeper {
    Files,
    Helper(Helper),
}

fn keepers(order: &[String], path: &Option<OsString>) -> Vec<Keeper> {
    let one = |name: &String| match name.as_str() {
        AUTH_FILES => Keeper::Files,
        name => Keeper::Helper(Helper::new(name, path.clone())),
    };
    match order {
        [] => vec![Keeper::Files],
        order => order.iter().map(one).collect(),
    }
}

/// One error for what went wrong in several places, of which there is at least one.
fn several(mut failures: Vec<Error>) -> Error {
    match failures.len() {
        1 => failures.remove(0),
        _ => Error::Logins(failures),
    }
}

/// Asks a helper for a server: `None` when it would have to run and must not.
type Ask<'a> = dyn Fn(&Helper, &str) -> Result<Option<Option<Credentials>>, AuthFlaw> + 'a;

/// What a file says.
enum Found {
    Nothing,
    Credentials(Credentials),
    /// Only a helper knows.
    Unknown,
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn parse(text: &[u8]) -> Result<RawFile, AuthFlaw> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(RawFile::default());
    }
    let file: RawFile = serde_json::from_slice(text).map_err(|error| AuthFlaw::Json {
        line: error.line(),
        column: error.column(),
    })?;
    Ok(RawFile {
        auths: by_small_hosts(file.auths),
        cred_helpers: by_small_hosts(file.cred_helpers),
        ..file
    })
}

/// Registries are looked up as references have them.
fn by_small_hosts<T>(all: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let small = all
        .into_iter()
        .map(|(key, value)| (with_small_host(&key), value));
    small.collect()
}

impl RawFile {
    /// The helper that keeps a registry's logins: its own.
    fn helper(&self, registry: &str, path: &Option<OsString>) -> Option<Helper> {
        let name = self.cred_helpers.get(registry)?;
        (!name.is_empty()).then(|| Helper::new(name, path.clone()))
    }

    /// The helper that keeps all other logins.
    fn common_helper(&self, path: &Option<OsString>) -> Option<Helper> {
        (!self.creds_store.is_empty()).then(|| Helper::new(&self.creds_store, path.clone()))
    }

    fn find(
        &self,
        reference: &Reference,
        path: &Option<OsString>,
        ask: &Ask<'_>,
    ) -> Result<Found, AuthFlaw> {
        let registry = reference.domain();
        if let Some(helper) = self.helper(registry, path) {
            return asked(&helper, registry, ask);
        }
        let entry = self.entry(reference);
        if let Some((key, entry)) = entry {
            let decoded = entry.credentials();
            let decoded = decoded.map_err(|flaw| AuthFlaw::Entry {
                key: key.to_owned(),
                flaw: Box::new(flaw),
            })?;
            // Docker leaves an empty entry behind for a login that it gave to the store.
            if let Some(credentials) = decoded {
                return Ok(Found::Credentials(credentials));
            }
        }
        match self.common_helper(path) {
            Some(helper) if entry.is_some() || helper.is_installed() => {
                asked(&helper, registry, ask)
            }
            // What other programs of the machine use is no reason to fail for registries that nobody
            // has logged in at.
            Some(helper) => {
                tracing::warn!(
                    "{} of credsStore is not installed: {registry} is asked as nobody",
                    helper.name()
                );
                Ok(Found::Nothing)
            }
            None => Ok(Found::Nothing),
        }
    }

    fn entry(&self, reference: &Reference) -> Option<(&str, &RawEntry)> {
        let name = reference.name();
        let mut key = name.as_str();
        loop {
            if let Some((key, entry)) = self.auths.get_key_value(key) {
                return Some((key, entry));
            }
            match key.rsplit_once('/') {
                Some((shorter, _)) => key = shorter,
                None => break,
            }
        }
        let registry = normal_registry(reference.domain());
        let mut entries = self.auths.iter().map(|(key, entry)| (key.as_str(), entry));
        entries
            .find(|(key, _)| legacy_host(key).is_some_and(|host| normal_registry(host) == registry))
    }
}

fn asked(helper: &Helper, registry: &str, ask: &Ask<'_>) -> Result<Found, AuthFlaw> {
    for server in servers(registry) {
        match ask(helper, server)? {
            None => return Ok(Found::Unknown),
            Some(Some(credentials)) => return Ok(Found::Credentials(credentials)),
            Some(None) => {}
        }
    }
    Ok(Found::Nothing)
}

/// What helpers may know a registry by: Docker gives Docker Hub's login to them under its old URL.
fn servers(registry: &str) -> impl Iterator<Item = &str> {
    let old = (registry == "docker.io").then_some("https://index.docker.io/v1/");
    [registry].into_iter().chain(old)
}

impl RawEntry {
    fn credentials(&self) -> Result<Option<Credentials>, AuthFlaw> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::RegistryToken(token)));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(auth) = given(&self.auth) {
            return Credentials::from_base64(&auth).map(Some);
        }
        let user = given(&self.username).zip(given(&self.password));
        Ok(user.map(|(username, password)| Credentials::Basic { username, password }))
    }
}

/// The host of a key that is a URL, as Docker wrote them once, or a bare host.
fn legacy_host(key: &str) -> Option<&str> {
    let url = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    match url {
        Some(rest) => rest.split('/').next(),
        None => (!key.contains('/')).then_some(key),
    }
}

/// Docker Hub has three names.
fn normal_registry(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

/// Whether a path is one of the files; for tools that write logins.
impl AuthFiles {
    /// The files, in the order in which they are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests;
