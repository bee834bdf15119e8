//! Requirements of a policy.json (containers-policy.json(5), "Policy Requirements").
//!
//! Reading only. Must never leave out a key that it does not know: it could be the one that matters.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::PolicyFlaw;
use super::identity::SignedIdentity;
use crate::signature::from_base64;

/// One condition that an image must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// Any image will do.
    InsecureAcceptAnything,
    /// No image will do.
    Reject,
    /// A GPG signature.
    SignedBy(SignedBy),
    /// A GPG signature of the base layer, which nobody has ever built.
    SignedBaseLayer,
    /// A sigstore signature.
    SigstoreSigned(SigstoreSigned),
}

/// Where keys are.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// In the policy itself, under this name.
    Data(&'static str, Vec<u8>),
}

/// `signedBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBy {
    /// How keys are written; `GPGKeys` is all that can be checked.
    pub key_type: String,
    /// The keyrings.
    pub keys: Vec<KeySource>,
    /// The name that must be signed.
    pub identity: SignedIdentity,
}

/// `sigstoreSigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSigned {
    /// Who may sign.
    pub signers: Signers,
    /// Keys of the transparency logs, one of which must have the signature.
    pub logs: Vec<KeySource>,
    /// The name that must be signed.
    pub identity: SignedIdentity,
}

/// Who may sign for sigstore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signers {
    /// These public keys.
    Keys(Vec<KeySource>),
    /// A person to whom Fulcio gave a certificate.
    Fulcio {
        /// Fulcio's certificates.
        authorities: KeySource,
        /// Who vouches for the person.
        issuer: String,
        /// The person's address.
        email: String,
    },
    /// Whoever has a certificate of an authority of one's own.
    Pki {
        /// The authority's certificates.
        roots: KeySource,
        /// Certificates between it and the signer's.
        intermediates: Option<KeySource>,
        /// The signer's address.
        email: Option<String>,
        /// The signer's host.
        hostname: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawSignedBy {
    key_type: String,
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    signed_identity: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawBaseLayer {
    base_layer_identity: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawSigstore {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<RawFulcio>,
    pki: Option<RawPki>,
    rekor_public_key_path: Option<PathBuf>,
    rekor_public_key_paths: Option<Vec<PathBuf>>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Option<Vec<String>>,
    signed_identity: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawFulcio {
    ca_path: Option<PathBuf>,
    ca_data: Option<String>,
    oidc_issuer: String,
    subject_email: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawPki {
    ca_roots_path: Option<PathBuf>,
    ca_roots_data: Option<String>,
    ca_intermediates_path: Option<PathBuf>,
    ca_intermediates_data: Option<String>,
    subject_email: Option<String>,
    subject_hostname: Option<String>,
}

impl Requirement {
    /// Reads one requirement of a scope's list.
    pub(super) fn parse(
        scope: &str,
        mut fields: Map<String, Value>,
    ) -> Result<Requirement, PolicyFlaw> {
        let kind = fields.remove("type").unwrap_or(Value::Null);
        let plain = |requirement| match fields.keys().next() {
            Some(key) => Err(PolicyFlaw::Key {
                scope: scope.to_owned(),
                key: key.clone(),
            }),
            None => Ok(requirement),
        };
        let flawed = |kind: &'static str| {
            move |why: String| PolicyFlaw::Requirement {
                scope: scope.to_owned(),
                kind,
                why,
            }
        };
        match kind.as_str() {
            Some("insecureAcceptAnything") => plain(Requirement::InsecureAcceptAnything),
            Some("reject") => plain(Requirement::Reject),
            Some("signedBy") => read(fields).and_then(signed_by).map_err(flawed("signedBy")),
            Some("signedBaseLayer") => read(fields)
                .and_then(|raw: RawBaseLayer| SignedIdentity::parse(raw.base_layer_identity))
                .map(|_| Requirement::SignedBaseLayer)
                .map_err(flawed("signedBaseLayer")),
            Some("sigstoreSigned") => read(fields)
                .and_then(sigstore_signed)
                .map_err(flawed("sigstoreSigned")),
            other => Err(PolicyFlaw::Kind {
                scope: scope.to_owned(),
                kind: other.map_or_else(|| kind.to_string(), str::to_owned),
            }),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(fields)).map_err(|e| e.to_string())
}

fn signed_by(raw: RawSignedBy) -> Result<Requirement, String> {
    let known = [
        "GPGKeys",
        "signedByGPGKeys",
        "X509Certificates",
        "signedByX509CAs",
    ];
    if !known.contains(&raw.key_type.as_str()) {
        return Err(format!("keyType {:?} is unknown", raw.key_type));
    }
    let names = ["keyPath", "keyPaths", "keyData", ""];
    let keys = sources(names, raw.key_path, raw.key_paths, raw.key_data, None)?;
    Ok(Requirement::SignedBy(SignedBy {
        key_type: raw.key_type,
        keys: keys.ok_or("one of keyPath, keyPaths and keyData must be there")?,
        identity: identity(raw.signed_identity)?,
    }))
}

fn sigstore_signed(raw: RawSigstore) -> Result<Requirement, String> {
    let names = ["keyPath", "keyPaths", "keyData", "keyDatas"];
    let keys = sources(
        names,
        raw.key_path,
        raw.key_paths,
        raw.key_data,
        raw.key_datas,
    )?;
    let names = [
        "rekorPublicKeyPath",
        "rekorPublicKeyPaths",
        "rekorPublicKeyData",
        "rekorPublicKeyDatas",
    ];
    let logs = sources(
        names,
        raw.rekor_public_key_path,
        raw.rekor_public_key_paths,
        raw.rekor_public_key_data,
        raw.rekor_public_key_datas,
    )?;
    let signers = match (keys, raw.fulcio, raw.pki) {
        (Some(keys), None, None) => Signers::Keys(keys),
        (None, Some(_), None) if logs.is_none() => {
            return Err(
                "fulcio needs one of rekorPublicKeyPath(s) and rekorPublicKeyData(s)".into(),
            );
        }
        (None, Some(raw), None) => fulcio(raw)?,
        (None, None, Some(_)) if logs.is_some() => {
            return Err("pki cannot be together with a rekorPublicKey".into());
        }
        (None, None, Some(raw)) => pki(raw)?,
        _ => {
            return Err(
                "one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki must be there".into(),
            );
        }
    };
    Ok(Requirement::SigstoreSigned(SigstoreSigned {
        signers,
        logs: logs.unwrap_or_default(),
        identity: identity(raw.signed_identity)?,
    }))
}

fn fulcio(raw: RawFulcio) -> Result<Signers, String> {
    let authorities = source(["caPath", "caData"], raw.ca_path, raw.ca_data)?;
    if raw.oidc_issuer.is_empty() || raw.subject_email.is_empty() {
        return Err("fulcio: oidcIssuer and subjectEmail must not be empty".into());
    }
    Ok(Signers::Fulcio {
        authorities: authorities.ok_or("fulcio: one of caPath and caData must be there")?,
        issuer: raw.oidc_issuer,
        email: raw.subject_email,
    })
}

fn pki(raw: RawPki) -> Result<Signers, String> {
    let names = ["caRootsPath", "caRootsData"];
    let roots = source(names, raw.ca_roots_path, raw.ca_roots_data)?;
    let names = ["caIntermediatesPath", "caIntermediatesData"];
    let between = source(names, raw.ca_intermediates_path, raw.ca_intermediates_data)?;
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (email, hostname) = (filled(raw.subject_email), filled(raw.subject_hostname));
    if email.is_none() && hostname.is_none() {
        return Err("pki: subjectEmail or subjectHostname must be there".into());
    }
    Ok(Signers::Pki {
        roots: roots.ok_or("pki: one of caRootsPath and caRootsData must be there")?,
        intermediates: between,
        email,
        hostname,
    })
}

fn identity(value: Option<Value>) -> Result<SignedIdentity, String> {
    value.map_or(Ok(SignedIdentity::RepoDigestOrExact), SignedIdentity::parse)
}

fn data(name: &'static str, text: &str) -> Result<KeySource, String> {
    let bytes = from_base64(text).ok_or_else(|| format!("{name} is no base64"))?;
    Ok(KeySource::Data(name, bytes))
}

/// At most one of a file and data.
fn source(
    [path_name, data_name]: [&'static str; 2],
    path: Option<PathBuf>,
    text: Option<String>,
) -> Result<Option<KeySource>, String> {
    match (path, text) {
        (Some(_), Some(_)) => Err(format!("{path_name} and {data_name} exclude each other")),
        (Some(path), None) => Ok(Some(KeySource::File(path))),
        (None, Some(text)) => data(data_name, &text).map(Some),
        (None, None) => Ok(None),
    }
}

/// At most one of a file, files, data and several of them.
fn sources(
    names: [&'static str; 4],
    path: Option<PathBuf>,
    paths: Option<Vec<PathBuf>>,
    text: Option<String>,
    texts: Option<Vec<String>>,
) -> Result<Option<Vec<KeySource>>, String> {
    let [_, paths_name, data_name, datas_name] = names;
    let given = [
        path.is_some(),
        paths.is_some(),
        text.is_some(),
        texts.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
        return Err(format!("{} exclude each other", names.join(", ")));
    }
    let empty = |name: &str| format!("{name} is an empty list");
    let found = match (path, paths, text, texts) {
        (Some(path), ..) => vec![KeySource::File(path)],
        (_, Some(paths), ..) if paths.is_empty() => return Err(empty(paths_name)),
        (_, Some(paths), ..) => paths.into_iter().map(KeySource::File).collect(),
        (_, _, Some(text), _) => vec![data(data_name, &text)?],
        (.., Some(texts)) if texts.is_empty() => return Err(empty(datas_name)),
        (.., Some(texts)) => texts
            .iter()
            .map(|text| data(datas_name, text))
            .collect::<Result<_, _>>()?,
        _ => return Ok(None),
    };
    Ok(Some(found))
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::File(path) => write!(f, "{}", path.display()),
            KeySource::Data(name, _) => f.write_str(name),
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn list(sources: &[KeySource]) -> String {
    let shown: Vec<_> = sources.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::InsecureAcceptAnything => f.write_str("insecureAcceptAnything"),
            Requirement::Reject => f.write_str("reject"),
            Requirement::SignedBaseLayer => f.write_str("signedBaseLayer"),
            Requirement::SignedBy(signed) => write!(f, "signedBy {}", list(&signed.keys)),
            Requirement::SigstoreSigned(signed) => match &signed.signers {
                Signers::Keys(keys) => write!(f, "sigstoreSigned {}", list(keys)),
                Signers::Fulcio { issuer, email, .. } => {
                    write!(f, "sigstoreSigned by {email} of {issuer}")
                }
                Signers::Pki {
                    email, hostname, ..
                } => {
                    let names: Vec<&str> = [email, hostname]
                        .into_iter()
                        .flatten()
                        .map(String::as_str)
                        .collect();
                    write!(f, "sigstoreSigned by {}", names.join(" and "))
                }
            },
        }
    }
}
