//! OpenPGP (RFC 9580), the part that checking needs: keyrings, and messages signed by their keys.
//!
//! As GnuPG does it: a key counts while it is bound by its owner, not revoked, not expired and meant
//! for signing. Must never return content that no such key has signed.

use std::io::Read;

use pgp::composed::{Deserializable, Message, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, Tag, VerifyingKey};

use super::MAX_SIGNATURE;
use super::flaw::SignatureFlaw;

/// A signature may be from this much in the future: clocks differ. In seconds.
const CLOCK_SKEW: u64 = 300;
const ARMOR: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Public keys.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

/// What a key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The content of the message.
    pub content: Vec<u8>,
    /// The fingerprint of the key that signed, or of the primary key that it belongs to.
    pub fingerprint: String,
}

/// What an unverified message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// The content of the message.
    pub content: Vec<u8>,
    /// The id of the key that it names, 16 capital hexadecimal digits; empty when it names none.
    pub issuer: String,
}

impl Keyring {
    /// Reads keys as `gpg --export` writes them, armored or not; there must be one at least.
    pub fn parse(bytes: &[u8]) -> Result<Keyring, SignatureFlaw> {
        let mut ring = Keyring::default();
        ring.add(bytes)?;
        Ok(ring)
    }

    /// Takes in the keys of one more file.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), SignatureFlaw> {
        let bad = |error: pgp::errors::Error| SignatureFlaw::BadKey(error.to_string());
        let before = self.keys.len();
        for block in blocks(bytes) {
            let (keys, _) = SignedPublicKey::from_reader_many(block).map_err(bad)?;
            for key in keys {
                self.keys.push(key.map_err(bad)?);
            }
        }
        match self.keys.len() > before {
            true => Ok(()),
            false => Err(SignatureFlaw::BadKey("there is no public key in it".into())),
        }
    }

    /// The same without the keys whose fingerprints are not in `wanted`.
    #[must_use]
    pub fn only(mut self, wanted: &[String]) -> Keyring {
        self.keys.retain(|key| wanted.contains(&primary(key)));
        self
    }

    /// The fingerprints of the keys, in capital hexadecimal digits as GnuPG shows them.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(primary).collect()
    }

    /// The content of a message that exactly one of these keys has signed. `now` is in seconds
    /// since 1970.
    pub fn verify(&self, message: &[u8], now: u64) -> Result<Verified, SignatureFlaw> {
        let (message, content) = read(message)?;
        let mut flaw = None;
        for key in &self.keys {
            let signed = |part: &dyn VerifyingKey| message.verify(part).ok();
            let (signature, state) = if let Some(signature) = signed(&key.primary_key) {
                (signature, primary_state(key, now))
            } else if let Some((subkey, signature)) = key
                .public_subkeys
                .iter()
                .find_map(|subkey| Some((subkey, signed(&subkey.key)?)))
            {
                let state = primary_state(key, now).map(|_| ());
                (
                    signature,
                    state.and_then(|()| subkey_state(key, subkey, now)),
                )
            } else {
                continue;
            };
            let checked = state
                .and_then(|can_sign| match can_sign {
                    true => Ok(()),
                    false => Err("is not for signing"),
                })
                .map_err(|why| SignatureFlaw::Key {
                    key: primary(key),
                    why,
                })
                .and_then(|()| acceptable(signature, now));
            match checked {
                Ok(()) => {
                    return Ok(Verified {
                        content,
                        fingerprint: primary(key),
                    });
                }
                Err(error) => flaw = Some(error),
            }
        }
        Err(flaw.unwrap_or_else(|| SignatureFlaw::Signer {
            signer: signer(&message),
            trusted: self.fingerprints(),
        }))
    }
}

/// What a message holds and who it says has signed it, WITHOUT any check: nothing may be decided by it.
///
/// Errors when it is no signed message.
pub fn unverified(message: &[u8]) -> Result<Unverified, SignatureFlaw> {
    let (message, content) = read(message)?;
    let Message::Signed { reader, .. } = &message else {
        return Err(SignatureFlaw::Message("it has no signature".into()));
    };
    let signature = reader.signature(0);
    let issuer = signature.and_then(|signature| {
        let id = signature.issuer_key_id().first().map(|id| id.to_string());
        // The newer kind has the whole fingerprint, whose end is the id.
        id.or_else(|| {
            let whole = signature
                .issuer_fingerprint()
                .first()
                .map(|f| format!("{f:X}"))?;
            Some(whole[whole.len().saturating_sub(16)..].to_owned())
        })
    });
    Ok(Unverified {
        content,
        issuer: issuer.unwrap_or_default().to_uppercase(),
    })
}

/// Armored keys may stand one after the other.
fn blocks(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = bytes
        .windows(ARMOR.len())
        .enumerate()
        .filter_map(|(at, window)| (window == ARMOR).then_some(at))
        .collect();
    if starts.len() < 2 {
        return vec![bytes];
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &bytes[*start..end])
        .collect()
}

/// The message, read to its end, with one signature over all of its content.
fn read(bytes: &[u8]) -> Result<(Message<'_>, Vec<u8>), SignatureFlaw> {
    let bad = |why: String| SignatureFlaw::Message(why);
    if bytes.len() as u64 > MAX_SIGNATURE {
        return Err(SignatureFlaw::TooLarge(MAX_SIGNATURE));
    }
    let mut message = Message::from_bytes(bytes).map_err(|e| bad(e.to_string()))?;
    if message.is_compressed() {
        message = message.decompress().map_err(|e| bad(e.to_string()))?;
    }
    if !message.is_signed() {
        return Err(bad("it has no signature, or the wrong packets".into()));
    }
    let mut content = Vec::new();
    let mut limited = (&mut message).take(MAX_SIGNATURE + 1);
    limited
        .read_to_end(&mut content)
        .map_err(|e| bad(e.to_string()))?;
    if content.len() as u64 > MAX_SIGNATURE {
        return Err(SignatureFlaw::TooLarge(MAX_SIGNATURE));
    }
    match &message {
        Message::Signed { reader, .. } if reader.num_signatures() == 1 => Ok((message, content)),
        _ => Err(bad("it has not exactly one signature".into())),
    }
}

/// What the signature itself says, once a key has verified it.
fn acceptable(signature: &Signature, now: u64) -> Result<(), SignatureFlaw> {
    if signature.typ() != Some(SignatureType::Binary) {
        return Err(SignatureFlaw::Message(
            "its signature is not of a document".into(),
        ));
    }
    match signature.hash_alg() {
        Some(HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160) | None => {
            let hash = signature
                .hash_alg()
                .map_or("none".into(), |hash| hash.to_string());
            return Err(SignatureFlaw::Hash(hash));
        }
        Some(_) => {}
    }
    let created = signature
        .created()
        .ok_or(SignatureFlaw::Time("says no time"))?;
    let created = u64::from(created.as_secs());
    if created > now + CLOCK_SKEW {
        return Err(SignatureFlaw::Time("is from the future"));
    }
    match signature.signature_expiration_time() {
        Some(life) if is_over(created, life.as_secs(), now) => {
            Err(SignatureFlaw::Time("has expired"))
        }
        _ => Ok(()),
    }
}

/// Zero means for ever.
fn is_over(from: u64, life: u32, now: u64) -> bool {
    life > 0 && from + u64::from(life) <= now
}

/// Whether the key itself may sign; or why it counts for nothing at all.
fn primary_state(key: &SignedPublicKey, now: u64) -> Result<bool, &'static str> {
    let own = &key.primary_key;
    let revoked = |signature: &Signature| signature.verify_key(own).is_ok();
    if key.details.revocation_signatures.iter().any(revoked) {
        return Err("was revoked");
    }
    let direct = key.details.direct_signatures.iter();
    let direct = direct.filter(|signature| signature.verify_key(own).is_ok());
    let by_user = key.details.users.iter().flat_map(|user| {
        let valid = move |signature: &&Signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature
                    .verify_certification(own, Tag::UserId, &user.id)
                    .is_ok()
        };
        user.signatures.iter().filter(valid)
    });
    let newest = direct
        .chain(by_user)
        .max_by_key(|signature| created(signature));
    let newest = newest.ok_or("has no valid signature of its own")?;
    alive(own, newest, now)
}

fn created(signature: &Signature) -> u32 {
    signature.created().map_or(0, |time| time.as_secs())
}

/// Whether a subkey may sign for its key.
fn subkey_state(
    key: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: u64,
) -> Result<bool, &'static str> {
    let own: &PublicKey = &key.primary_key;
    let of = |kind: SignatureType| {
        let bound = move |signature: &&Signature| {
            signature.typ() == Some(kind)
                && signature.verify_subkey_binding(own, &subkey.key).is_ok()
        };
        subkey.signatures.iter().filter(bound)
    };
    if of(SignatureType::SubkeyRevocation).next().is_some() {
        return Err("signed with a subkey that was revoked");
    }
    let newest = of(SignatureType::SubkeyBinding).max_by_key(|signature| created(signature));
    let newest = newest.ok_or("does not vouch for the subkey that signed")?;
    let back = newest.embedded_signature();
    let agreed = back.is_some_and(|back| back.verify_primary_key_binding(&subkey.key, own).is_ok());
    // A subkey must say explicitly that it signs, and that it belongs to the key.
    if !agreed || !newest.key_flags().sign() {
        return Ok(false);
    }
    alive(&subkey.key, newest, now)
}

fn alive(key: &impl KeyDetails, binding: &Signature, now: u64) -> Result<bool, &'static str> {
    let from = u64::from(key.created_at().as_secs());
    let life = binding
        .key_expiration_time()
        .map_or(0, |life| life.as_secs());
    if is_over(from, life, now) {
        return Err("has expired");
    }
    let says_for_what = binding.config().is_some_and(|config| {
        let mut subpackets = config.hashed_subpackets();
        subpackets.any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)))
    });
    Ok(!says_for_what || binding.key_flags().sign())
}

fn primary(key: &SignedPublicKey) -> String {
    format!("{:X}", key.primary_key.fingerprint())
}

/// Who the signature says has made it; nobody has verified that.
fn signer(message: &Message<'_>) -> String {
    let Message::Signed { reader, .. } = message else {
        return "nobody".into();
    };
    let Some(signature) = reader.signature(0) else {
        return "nobody".into();
    };
    let fingerprint = signature
        .issuer_fingerprint()
        .first()
        .map(|f| format!("{f:X}"));
    let id = signature
        .issuer_key_id()
        .first()
        .map(|id| id.to_string().to_uppercase());
    fingerprint.or(id).unwrap_or_else(|| "nobody".into())
}

/// The fingerprints in a text that lists them by commas, as [`Keyring::fingerprints`] has them.
pub fn fingerprints(text: &str) -> Vec<String> {
    text.split(',')
        .map(|part| part.replace(' ', "").to_ascii_uppercase())
        .filter(|part| !part.is_empty())
        .collect()
}
