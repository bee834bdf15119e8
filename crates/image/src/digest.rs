//! Digests (OCI image-spec, descriptor.md, "Digests"): the content's name, and the check that bytes deserve it.
//!
//! Must never accept a digest in any but its one canonical spelling: digests become file names.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Error, Result};

/// The hash function of a [`Digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, what nearly every image uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The number of hexadecimal digits after the colon.
    pub fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }

    /// A hasher to feed bytes to.
    pub fn hasher(self) -> Hasher {
        Hasher::new(self)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a text that should be a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestFlaw {
    /// No colon.
    #[error("it has no algorithm, as in sha256:…")]
    NoAlgorithm,
    /// Neither sha256 nor sha512.
    #[error("the algorithm is neither sha256 nor sha512")]
    Algorithm,
    /// Too few or too many digits.
    #[error("the number of hexadecimal digits does not fit the algorithm")]
    Length,
    /// A character that is not 0-9 or a-f.
    #[error("only 0-9 and a-f may follow the algorithm")]
    Character,
}

/// The digest of some content: `sha256:` and 64 digits, or `sha512:` and 128. Always valid.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// Parses `algorithm:hex`. Errors with [`Error::Digest`] on anything but the canonical form.
    pub fn parse(input: &str) -> Result<Digest> {
        Digest::check(input).map_err(|flaw| Error::Digest {
            input: clip(input),
            flaw,
        })
    }

    pub(crate) fn check(input: &str) -> Result<Digest, DigestFlaw> {
        let (name, hex) = input.split_once(':').ok_or(DigestFlaw::NoAlgorithm)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestFlaw::Algorithm),
        };
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestFlaw::Character);
        }
        if hex.len() != algorithm.hex_len() {
            return Err(DigestFlaw::Length);
        }
        Ok(Digest {
            algorithm,
            hex: hex.to_owned(),
        })
    }

    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::of_with(Algorithm::Sha256, bytes)
    }

    /// The digest of `bytes` by `algorithm`.
    pub fn of_with(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = algorithm.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// A SHA-256 hasher; `hasher().finish()` is the digest of nothing.
    pub fn hasher() -> Hasher {
        Hasher::new(Algorithm::Sha256)
    }

    /// A check of streamed bytes against this digest.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            hasher: self.algorithm.hasher(),
            expected: self.clone(),
        }
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Digest::of_with(self.algorithm, bytes) == *self
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits after the colon, lower case.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(input: &str) -> Result<Digest> {
        Digest::parse(input)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] of bytes that arrive in pieces. Also an [`io::Write`], to tee into.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hash) => Digest {
                algorithm: Algorithm::Sha256,
                hex: hex(&hash.finalize()),
            },
            State::Sha512(hash) => Digest {
                algorithm: Algorithm::Sha512,
                hex: hex(&hash.finalize()),
            },
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks bytes that arrive in pieces against an expected [`Digest`]. Also an [`io::Write`].
#[derive(Debug, Clone)]
pub struct Verifier {
    hasher: Hasher,
    expected: Digest,
}

impl Verifier {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The digest that the bytes must have.
    pub fn expected(&self) -> &Digest {
        &self.expected
    }

    /// Ends the check. `subject` names the content in the [`Error::DigestMismatch`].
    pub fn finish(self, subject: &str) -> Result<Digest> {
        let actual = self.hasher.finish();
        if actual == self.expected {
            return Ok(actual);
        }
        Err(Error::DigestMismatch {
            subject: subject.to_owned(),
            expected: self.expected,
            actual,
        })
    }
}

impl io::Write for Verifier {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Hostile input is shown in errors only up to a length that a log line bears.
pub(crate) fn clip(input: &str) -> String {
    const MAX: usize = 300;
    if input.len() <= MAX {
        return input.to_owned();
    }
    let mut end = MAX;
    while !input.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &input[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn flaw(input: &str) -> DigestFlaw {
        Digest::check(input).expect_err(input)
    }

    #[test]
    fn known_vectors_are_computed() {
        assert_eq!(Digest::hasher().finish().to_string(), EMPTY);
        assert_eq!(
            Digest::of(b"abc").hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let long = Digest::of_with(Algorithm::Sha512, b"abc");
        assert!(
            long.to_string()
                .starts_with("sha512:ddaf35a193617abacc417349ae204131")
        );
        assert!(long.matches(b"abc") && !long.matches(b"abd"));
    }

    #[test]
    fn only_the_canonical_spelling_is_a_digest() {
        assert_eq!(Digest::parse(EMPTY).unwrap().to_string(), EMPTY);
        assert_eq!(flaw(""), DigestFlaw::NoAlgorithm);
        assert_eq!(flaw("sha256"), DigestFlaw::NoAlgorithm);
        assert_eq!(flaw("sha256:"), DigestFlaw::Length);
        assert_eq!(flaw(&EMPTY[..EMPTY.len() - 1]), DigestFlaw::Length);
        assert_eq!(flaw(&format!("{EMPTY}0")), DigestFlaw::Length);
        assert_eq!(flaw(&EMPTY.replace("e3", "E3")), DigestFlaw::Character);
        assert_eq!(flaw(&EMPTY.replace("e3", "..")), DigestFlaw::Character);
        assert_eq!(flaw(&EMPTY.replace("e3", "/e")), DigestFlaw::Character);
        assert_eq!(
            flaw(&EMPTY.replace("sha256", "SHA256")),
            DigestFlaw::Algorithm
        );
        assert_eq!(flaw(&EMPTY.replace("sha256", "md5")), DigestFlaw::Algorithm);
        assert_eq!(flaw(&EMPTY.replace("sha256", "sha512")), DigestFlaw::Length);
    }

    #[test]
    fn streamed_bytes_are_verified() {
        let digest = Digest::of(b"hello world");
        let mut good = digest.verifier();
        good.update(b"hello ");
        good.update(b"world");
        assert_eq!(good.finish("greeting").unwrap(), digest);
        let mut bad = digest.verifier();
        bad.update(b"hello");
        let error = bad.finish("greeting").unwrap_err();
        assert!(
            error.to_string().starts_with("greeting: digest mismatch"),
            "{error}"
        );
    }

    #[test]
    fn errors_clip_endless_input() {
        let error = Digest::parse(&"é".repeat(100_000)).unwrap_err().to_string();
        assert!(error.len() < 500, "{}", error.len());
    }
}
