//! Who may do what: everyone, the users of an htpasswd file, or whoever a token server vouches for.
//!
//! Must never answer about content before this has been asked, nor say whether a user exists.

use std::path::PathBuf;

use hyper::header::{AUTHORIZATION, HeaderMap};

use crate::error::{Error, Result};

mod htpasswd;
mod jwt;
mod keys;

use htpasswd::Users;
use jwt::Tokens;

/// How clients say who they are; with neither, all may do all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthOptions {
    /// A file of `user:bcrypt` lines, read again when it changes. Its users may do all.
    pub htpasswd: Option<PathBuf>,
    /// What a token server signs (Distribution's token authentication).
    pub token: Option<TokenOptions>,
}

/// Whose tokens count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOptions {
    /// Where clients get a token.
    pub realm: String,
    /// This registry's name, which a token must be for.
    pub service: String,
    /// Who must have issued it.
    pub issuer: String,
    /// Keys that may have signed it: PEM (certificates, public keys) or a JSON Web Key Set.
    pub keys: PathBuf,
}

/// What a request wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be let in.
    Entry,
    /// The list of all repositories.
    Catalog,
    /// An action on a repository.
    Repository(String, Action),
}

/// What is done to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
    Delete,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }
}

/// Asks each request who it is.
#[derive(Debug)]
pub(crate) enum Gate {
    Open,
    Users(Users),
    Tokens(Box<Tokens>),
}

impl Gate {
    pub(crate) fn new(options: &AuthOptions) -> Result<Gate> {
        match (&options.htpasswd, &options.token) {
            (None, None) => Ok(Gate::Open),
            (Some(path), None) => Ok(Gate::Users(Users::open(path)?)),
            (None, Some(token)) => Ok(Gate::Tokens(Box::new(Tokens::new(token)?))),
            (Some(_), Some(_)) => Err(Error::Options(
                "htpasswd and tokens cannot be asked for together",
            )),
        }
    }

    /// Lets a request pass or not. Errors with `Unauthorized`, which has the challenge.
    pub(crate) async fn check(&self, headers: &HeaderMap, need: &Need) -> Result<()> {
        match self {
            Gate::Open => Ok(()),
            Gate::Users(users) => users.check(credentials(headers, "basic")).await,
            Gate::Tokens(tokens) => tokens.check(credentials(headers, "bearer"), need),
        }
    }

    /// Whether who has passed may do this too: without it, there is another way.
    pub(crate) async fn allows(&self, headers: &HeaderMap, need: &Need) -> bool {
        self.check(headers, need).await.is_ok()
    }
}

impl Gate {
    /// Who has passed, if this gate knows names. What is not checked here has been by `check`.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Option<String> {
        match self {
            Gate::Open => None,
            Gate::Users(_) => htpasswd::user(credentials(headers, "basic")?),
            Gate::Tokens(_) => jwt::subject(credentials(headers, "bearer")?),
        }
    }
}

/// What follows the scheme in `Authorization`, if it is this scheme.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}
