//! Simple signing (containers-signature(5)): an OpenPGP message whose content is the payload.

use super::flaw::SignatureFlaw;
use super::openpgp::Keyring;
use super::payload::{self, Claim, Kind};

/// What a message that one of the keys has signed says of an image, and the key's fingerprint. `now`
/// is in seconds since 1970.
pub fn verify_simple(
    keyring: &Keyring,
    message: &[u8],
    now: u64,
) -> Result<(Claim, String), SignatureFlaw> {
    let verified = keyring.verify(message, now)?;
    let claim = payload::parse(Kind::Simple, &verified.content)?;
    Ok((claim, verified.fingerprint))
}
