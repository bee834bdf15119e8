//! Logging in (Docker's token authentication): from a challenge and credentials to an `Authorization` header.
//!
//! Tokens are kept per token service, scope and credentials, so that one caller never profits from
//! another's login. Must never send a password to a token service over plain HTTP, unless the
//! registry itself is insecure.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::Inner;
use super::answer::is_page;
use super::challenge::Challenge;
use super::endpoint::{self, Scheme, is_local};
use super::exchange::{Ask, Content, Repo, Target};
use crate::auth::Credentials;
use crate::error::{At, Error, ProtocolFlaw, Result};

/// What a token service says that it is asked by.
const CLIENT_ID: &str = "floe";
/// The most that a token service's answer may be.
const MAX_ANSWER: u64 = 1 << 20;
/// How long a token lives when its answer does not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last moments: the request is still on its way then.
const MARGIN: Duration = Duration::from_secs(5);

/// The challenges and tokens that a client has met.
#[derive(Default)]
pub(super) struct Logins {
    challenges: Mutex<HashMap<String, Challenge>>,
    tokens: Mutex<HashMap<Key, Token>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    realm: String,
    service: Option<String>,
    scopes: Vec<String>,
    credentials: Credentials,
}

struct Token {
    text: String,
    expires: Instant,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Logins {
    pub(super) fn challenge(&self, origin: &str) -> Option<Challenge> {
        self.challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(origin)
            .cloned()
    }

    pub(super) fn remember(&self, origin: String, challenge: Challenge) {
        self.challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(origin, challenge);
    }

    fn token(&self, key: &Key) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens
            .get(key)
            .filter(|token| token.expires > Instant::now())?;
        Some(token.text.clone())
    }

    fn keep(&self, key: Key, token: Token) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, token| token.expires > now);
        tokens.insert(key, token);
    }
}

impl Inner {
    /// The `Authorization` for requests to this repository that answers `challenge`, or nothing when
    /// there is nothing to say. A `fresh` one does not come from the cache.
    pub(super) async fn authorization(
        &self,
        repo: &Repo,
        challenge: &Challenge,
        fresh: bool,
        at: &At,
    ) -> Result<Option<HeaderValue>> {
        let (realm, service) = match (challenge, &repo.credentials) {
            (_, Credentials::RegistryToken(token)) => return Ok(header("Bearer", token)),
            (Challenge::Basic, Credentials::Basic { username, password }) => {
                return Ok(basic(username, password));
            }
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { realm, service }, _) => (realm, service),
        };
        let key = Key {
            realm: realm.clone(),
            service: service.clone(),
            scopes: repo.scopes(),
            credentials: repo.credentials.clone(),
        };
        if let Some(token) = self.logins.token(&key).filter(|_| !fresh) {
            return Ok(header("Bearer", &token));
        }
        let token = self.fetch_token(repo, &key, at).await?;
        let value = header("Bearer", &token.text);
        self.logins.keep(key, token);
        Ok(value)
    }

    async fn fetch_token(&self, repo: &Repo, key: &Key, at: &At) -> Result<Token> {
        let protocol = |flaw| Error::Protocol {
            at: at.clone(),
            flaw,
        };
        let realm = Url::parse(&key.realm).map_err(|_| protocol(ProtocolFlaw::Realm))?;
        let allowed = match realm.scheme() {
            "https" => true,
            "http" => repo.source.insecure,
            _ => false,
        };
        let own = endpoint::root(repo.source.reference.domain(), Scheme::Https);
        let near =
            own.is_some_and(|own| is_local(&own)) || self.is_near(repo.source.reference.domain());
        if !allowed || is_local(&realm) && !near {
            return Err(protocol(ProtocolFlaw::Realm));
        }
        let (ask, url) = token_request(key, realm, &at.subject);
        let begun = Instant::now();
        let bytes = self.ask_token(repo, &ask, &url, MAX_ANSWER).await?;
        let flaw = match is_page(&bytes) {
            true => ProtocolFlaw::WebPage,
            false => ProtocolFlaw::Token,
        };
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| protocol(flaw))?;
        let given = |token: Option<String>| token.filter(|token| !token.is_empty());
        let text = given(answer.token).or_else(|| given(answer.access_token));
        let text = text.ok_or_else(|| protocol(ProtocolFlaw::Token))?;
        let life = answer
            .expires_in
            .filter(|seconds| *seconds > 0)
            .map_or(DEFAULT_LIFE, Duration::from_secs);
        let life = life.min(Duration::from_secs(24 * 3600));
        Ok(Token {
            text,
            expires: begun + life.saturating_sub(MARGIN.min(life / 2)),
        })
    }
}

/// A GET with the password, or for identity tokens the OAuth2 form.
fn token_request(key: &Key, mut realm: Url, subject: &str) -> (Ask, Url) {
    let subject = format!("token for {subject}");
    let mut fields: Vec<(&str, &str)> = Vec::new();
    let together = key.scopes.join(" ");
    match &key.credentials {
        // A form has one scope, in which they stand together.
        Credentials::IdentityToken(_) if !together.is_empty() => fields.push(("scope", &together)),
        Credentials::IdentityToken(_) => {}
        _ => fields.extend(key.scopes.iter().map(|scope| ("scope", scope.as_str()))),
    }
    fields.extend(key.service.as_deref().map(|service| ("service", service)));
    if let Credentials::IdentityToken(token) = &key.credentials {
        fields.extend([
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("refresh_token", token),
        ]);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let ask = Ask::new(Method::POST, Target::Url(realm.clone()), subject);
        let content = Content::Bytes(form.into());
        return (
            Ask {
                headers,
                content,
                ..ask
            },
            realm,
        );
    }
    let mut authorization = None;
    if let Credentials::Basic { username, password } = &key.credentials {
        fields.extend([("account", username.as_str()), ("client_id", CLIENT_ID)]);
        authorization = basic(username, password);
    }
    realm.query_pairs_mut().extend_pairs(fields);
    let ask = Ask::new(Method::GET, Target::Url(realm.clone()), subject);
    (
        Ask {
            authorization,
            ..ask
        },
        realm,
    )
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    header("Basic", &STANDARD.encode(format!("{username}:{password}")))
}

/// A header that logs never show; nothing when the text cannot be in one.
fn header(scheme: &str, text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {text}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
