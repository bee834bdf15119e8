//! Why a signature does not count.

use image::Digest;

/// Why a signature does not count, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFlaw {
    /// There is none of the kind that is asked for.
    #[error("no signature exists")]
    Missing,
    /// Bytes of no known form.
    #[error("it is neither an OpenPGP message nor a sigstore attachment")]
    Format,
    /// JSON that is not what it must be, unknown and repeated keys included.
    #[error("its JSON is not what it must be: {0}")]
    Json(String),
    /// The payload says that it is something else.
    #[error("it signs {0:?}, which is no image's signature")]
    Kind(String),
    /// Not the OpenPGP message that a signature is.
    #[error("it is no signed OpenPGP message: {0}")]
    Message(String),
    /// More than there may be.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// More signatures than there may be.
    #[error("there are more than {0} signatures")]
    TooMany(usize),
    /// Made with a key that is not trusted, or changed since.
    #[error("it was not made by one of the keys {} (it says: {signer})", .trusted.join(", "))]
    Signer {
        /// Who it says has made it.
        signer: String,
        /// The keys that may sign.
        trusted: Vec<String>,
    },
    /// Not made with a key that is trusted, or changed since.
    #[error("it was not made by a key that is trusted")]
    Forged,
    /// Made with a hash that is broken.
    #[error("it was made with the hash {0}, which is no longer safe")]
    Hash(String),
    /// The key has expired, was revoked, or is not for signing.
    #[error("its key {key} {why}")]
    Key {
        /// The key's fingerprint.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The signature itself is past its time, or from the future.
    #[error("it {0}")]
    Time(&'static str),
    /// The signature is of another image.
    #[error("it is for an image with digest {0}, and this one has another")]
    OtherDigest(Digest),
    /// The digest in it is none.
    #[error("it is for the digest {0:?}, which is none")]
    BadDigest(String),
    /// The signature is for another name.
    #[error("it is for {signed:?}, which {rule} does not accept for {image}")]
    Identity {
        /// The name that was signed.
        signed: String,
        /// The rule, as policy.json calls it.
        rule: &'static str,
        /// The image.
        image: String,
    },
    /// An image without a registry's name cannot meet the rule.
    #[error("{0} needs an image with a registry's name, and this one has none")]
    NoName(&'static str),
    /// An annotation that must be there.
    #[error("it has no annotation {0}")]
    Annotation(&'static str),
    /// Not the base64 that it must be.
    #[error("its {0} is no base64")]
    Base64(&'static str),
    /// The certificate of whoever signed.
    #[error("its certificate {0}")]
    Certificate(String),
    /// The transparency log's promise.
    #[error("its transparency log entry {0}")]
    Log(String),
    /// A key that cannot be used.
    #[error("the key cannot be used: {0}")]
    BadKey(String),
    /// The passphrase of a key does not open it.
    #[error("the passphrase does not open the key")]
    Passphrase,
    /// A program that was to sign.
    #[error("{0}")]
    Program(String),
}
