//! Rekor's signed entry timestamp: the transparency log's promise, signed with its key, to include
//! an entry (sigstore's `hashedrekord` 0.0.1) that names the signature, the key and the payload.
//!
//! Must never use a time of the entry before its signature was verified.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::base64_bytes;
use super::flaw::SignatureFlaw;
use super::public_key::{PublicKey, pem_blocks};
use crate::strict_json;

/// Numbers up to here are the same in JSON's canonical form and in ours.
const MAX_EXACT: u64 = 1 << 53;

/// What the entry must be about.
pub(crate) struct Signed<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a [u8],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Bundle {
    #[serde(with = "base64_bytes")]
    signed_entry_timestamp: Vec<u8>,
    payload: Entry,
}

/// Written in the order of its keys, this is JSON's canonical form (RFC 8785), which is what is signed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(with = "base64_bytes")]
    body: Vec<u8>,
    #[serde(rename = "integratedTime")]
    integrated_time: u64,
    #[serde(rename = "logID")]
    log_id: String,
    #[serde(rename = "logIndex")]
    log_index: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    data: Data,
    signature: Logged,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Logged {
    #[serde(with = "base64_bytes")]
    content: Vec<u8>,
    public_key: Key,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(with = "base64_bytes")]
    content: Vec<u8>,
}

/// When a log took in the signature of `signed` by the key or certificate `signer` (DER); in seconds
/// since 1970.
pub(crate) fn verify(
    bundle: &[u8],
    logs: &[PublicKey],
    signer: &[u8],
    signed: &Signed<'_>,
) -> Result<u64, SignatureFlaw> {
    let flaw = |why: &str| SignatureFlaw::Log(why.to_owned());
    let malformed = |why: String| SignatureFlaw::Log(format!("is not what it must be: {why}"));
    let Bundle {
        signed_entry_timestamp,
        payload: entry,
    } = strict_json::parse(bundle).map_err(malformed)?;
    if entry.integrated_time >= MAX_EXACT || entry.log_index >= MAX_EXACT {
        return Err(flaw("has a number that is too large"));
    }
    let canonical = serde_json::to_vec(&entry).map_err(|e| malformed(e.to_string()))?;
    let by = |log: &PublicKey| log.has_signed(&canonical, &signed_entry_timestamp);
    if !logs.iter().any(by) {
        return Err(flaw("was not signed by one of the logs that are trusted"));
    }
    let body: Body = strict_json::parse(&entry.body).map_err(malformed)?;
    if (body.kind.as_str(), body.api_version.as_str()) != ("hashedrekord", "0.0.1") {
        return Err(SignatureFlaw::Log(format!(
            "is a {} {}, and only hashedrekord 0.0.1 is known",
            body.kind, body.api_version
        )));
    }
    let key = pem_blocks(&body.spec.signature.public_key.content).map_err(malformed)?;
    if key.len() != 1 || key.iter().any(|block| block.contents != signer) {
        return Err(flaw("is of another key or certificate"));
    }
    if body.spec.signature.content != signed.signature {
        return Err(flaw("is of another signature"));
    }
    let hash = &body.spec.data.hash;
    if hash.algorithm != "sha256" || hash.value != hex(&Sha256::digest(signed.payload)) {
        return Err(flaw("is of another payload"));
    }
    Ok(entry.integrated_time)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
