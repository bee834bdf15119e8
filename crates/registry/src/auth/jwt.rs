//! Bearer tokens (Distribution's token authentication; RFC 7519): signed by a key of ours, by the right
//! issuer, for this registry, now, and with the access that the request needs.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};

use super::keys::{Algorithm, Keys};
use super::{Need, TokenOptions};
use crate::error::{Error, Result};

/// How far the clocks of two machines may be apart, in seconds.
const LEEWAY: u64 = 60;

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    options: TokenOptions,
    keys: Keys,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    x5c: Vec<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    exp: u64,
    nbf: Option<u64>,
    #[serde(default)]
    access: Vec<Access>,
}

#[derive(Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Tokens {
    pub(super) fn new(options: &TokenOptions) -> Result<Tokens> {
        let quoted = [&options.realm, &options.service];
        if quoted
            .iter()
            .any(|text| text.contains(['"', '\\', '\r', '\n']))
        {
            return Err(Error::Options(
                "the token realm and service may have no quotes or line ends",
            ));
        }
        Ok(Tokens {
            options: options.clone(),
            keys: Keys::read(&options.keys)?,
        })
    }

    pub(super) fn check(&self, token: Option<&str>, need: &Need) -> Result<()> {
        let Some(token) = token else {
            return Err(self.refused(need, None, None));
        };
        let claims = self
            .read(token)
            .map_err(|reason| self.refused(need, Some("invalid_token"), Some(reason)))?;
        match claims.allow(need) {
            true => Ok(()),
            false => {
                let reason = "the token does not allow this";
                Err(self.refused(need, Some("insufficient_scope"), Some(reason)))
            }
        }
    }

    fn read(&self, token: &str) -> Result<Claims, &'static str> {
        let (message, signature) = token.rsplit_once('.').ok_or("the token is none")?;
        let (header, claims) = message.split_once('.').ok_or("the token is none")?;
        let header: Header = part(header)?;
        let algorithm =
            Algorithm::parse(&header.alg).ok_or("the token's algorithm is not accepted")?;
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| "the token is none")?;
        let chain = header.x5c.iter().map(|der| BASE64_STANDARD.decode(der));
        let chain: Vec<_> = chain
            .collect::<Result<_, _>>()
            .map_err(|_| "the token is none")?;
        let kid = header.kid.as_deref();
        if !self
            .keys
            .verify(algorithm, kid, &chain, message.as_bytes(), &signature)
        {
            return Err("the token is not signed by a trusted key");
        }
        let claims: Claims = part(claims)?;
        self.valid(&claims)?;
        Ok(claims)
    }

    fn valid(&self, claims: &Claims) -> Result<(), &'static str> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(|_| "this machine's clock is wrong")?.as_secs();
        if claims.iss != self.options.issuer {
            return Err("the token is from another issuer");
        }
        if !claims.aud.contains(&self.options.service) {
            return Err("the token is for another service");
        }
        if now > claims.exp.saturating_add(LEEWAY) {
            return Err("the token has expired");
        }
        if claims
            .nbf
            .is_some_and(|begin| begin > now.saturating_add(LEEWAY))
        {
            return Err("the token is not valid yet");
        }
        Ok(())
    }

    fn refused(&self, need: &Need, error: Option<&str>, reason: Option<&str>) -> Error {
        let TokenOptions { realm, service, .. } = &self.options;
        let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
        let scope = match need {
            Need::Entry => None,
            Need::Catalog => Some("registry:catalog:*".to_owned()),
            Need::Repository(name, action) => {
                // Who pushes or deletes looks first.
                let action = match action.as_str() {
                    "pull" => "pull".to_owned(),
                    other => format!("pull,{other}"),
                };
                Some(format!("repository:{name}:{action}"))
            }
        };
        for (key, value) in [("scope", scope.as_deref()), ("error", error)] {
            if let Some(value) = value {
                challenge.push_str(&format!(",{key}=\"{value}\""));
            }
        }
        Error::Unauthorized {
            challenge,
            reason: reason.map(str::to_owned),
        }
    }
}

impl Claims {
    fn allow(&self, need: &Need) -> bool {
        let (kind, name, action) = match need {
            Need::Entry => return true,
            Need::Catalog => ("registry", "catalog", "*"),
            Need::Repository(name, action) => ("repository", name.as_str(), action.as_str()),
        };
        self.access.iter().any(|access| {
            access.kind == kind
                && access.name == name
                && access
                    .actions
                    .iter()
                    .any(|given| given == action || given == "*")
        })
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, &'static str> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "the token is none")?;
    serde_json::from_slice(&bytes).map_err(|_| "the token lacks a field or has a wrong one")
}

/// Whom a token is of, if it says so. Only for one that has been checked.
pub(super) fn subject(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Subject {
        sub: String,
    }
    let claims = token.split('.').nth(1)?;
    let Subject { sub } = part(claims).ok()?;
    (!sub.is_empty()).then(|| format!("user {sub}"))
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}
