//! Private keys of sigstore as cosign and skopeo keep them: PKCS #8 in a NaCl secretbox whose key
//! scrypt makes from a passphrase, as JSON in PEM.
//!
//! Must never write a key in the clear, nor show one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING as P256, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde::{Deserialize, Serialize};

use super::base64_bytes;
use super::flaw::SignatureFlaw;
use super::public_key::{PublicKey, pem_blocks, to_pem};
use crate::strict_json;

/// How the PEM block is named; cosign's former name is read, too.
const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
const FORMER_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";
const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
/// What all versions of the other tools read: N = 2^15, r = 8, p = 1.
const LOG_N: u8 = 15;
/// More would only keep the machine busy.
const MAX_LOG_N: u8 = 20;
/// What stands before an uncompressed P-256 point in its SubjectPublicKeyInfo.
const P256_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key that signs.
pub struct PrivateKey {
    pair: Pair,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// New key files.
#[derive(Clone)]
pub struct Generated {
    /// The private key, encrypted.
    pub private: String,
    /// The public key.
    pub public: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    #[serde(with = "base64_bytes")]
    ciphertext: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: String,
    params: Params,
    #[serde(with = "base64_bytes")]
    salt: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cipher {
    name: String,
    #[serde(with = "base64_bytes")]
    nonce: Vec<u8>,
}

impl PrivateKey {
    /// Makes an ECDSA P-256 key.
    pub fn generate(passphrase: &[u8]) -> Result<Generated, SignatureFlaw> {
        let failed = |_| SignatureFlaw::BadKey("the system gives no random numbers".into());
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&P256, &random).map_err(failed)?;
        let pair = EcdsaKeyPair::from_pkcs8(&P256, document.as_ref(), &random)
            .map_err(|e| SignatureFlaw::BadKey(e.to_string()))?;
        let info = [&P256_INFO, pair.public_key().as_ref()].concat();
        let (mut salt, mut nonce) = (vec![0; 32], vec![0; 24]);
        random.fill(&mut salt).map_err(failed)?;
        random.fill(&mut nonce).map_err(failed)?;
        let params = Params {
            n: 1 << LOG_N,
            r: 8,
            p: 1,
        };
        let ciphertext = secretbox(passphrase, &salt, &params)?
            .encrypt(nonce.as_slice().into(), document.as_ref())
            .map_err(|_| SignatureFlaw::BadKey("it cannot be encrypted".into()))?;
        let sealed = Sealed {
            kdf: Kdf {
                name: KDF.into(),
                params,
                salt,
            },
            cipher: Cipher {
                name: CIPHER.into(),
                nonce,
            },
            ciphertext,
        };
        let json = serde_json::to_vec(&sealed).map_err(|e| SignatureFlaw::Json(e.to_string()))?;
        Ok(Generated {
            private: to_pem(LABEL, &json),
            public: PublicKey::from_der(&info)?.to_pem(),
        })
    }

    /// Opens an encrypted key.
    pub fn open(pem: &[u8], passphrase: &[u8]) -> Result<PrivateKey, SignatureFlaw> {
        let bad = |why: &str| SignatureFlaw::BadKey(why.to_owned());
        let blocks = pem_blocks(pem).map_err(SignatureFlaw::BadKey)?;
        let [block] = blocks.as_slice() else {
            return Err(bad("it must be one PEM block"));
        };
        if block.label != LABEL && block.label != FORMER_LABEL {
            let why = format!("it is a {}, and not an {LABEL}", block.label);
            return Err(SignatureFlaw::BadKey(why));
        }
        let sealed: Sealed = strict_json::parse(&block.contents).map_err(SignatureFlaw::BadKey)?;
        if sealed.kdf.name != KDF || sealed.cipher.name != CIPHER {
            let why = format!(
                "{} and {} are not known",
                sealed.kdf.name, sealed.cipher.name
            );
            return Err(SignatureFlaw::BadKey(why));
        }
        if sealed.cipher.nonce.len() != 24 {
            return Err(bad("its nonce has not 24 bytes"));
        }
        let pkcs8 = secretbox(passphrase, &sealed.kdf.salt, &sealed.kdf.params)?
            .decrypt(
                sealed.cipher.nonce.as_slice().into(),
                sealed.ciphertext.as_slice(),
            )
            .map_err(|_| SignatureFlaw::Passphrase)?;
        PrivateKey::from_pkcs8(&pkcs8)
    }

    fn from_pkcs8(der: &[u8]) -> Result<PrivateKey, SignatureFlaw> {
        let ecdsa = EcdsaKeyPair::from_pkcs8(&P256, der, &SystemRandom::new());
        let pair = ecdsa
            .map(Pair::P256)
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519))
            .or_else(|_| RsaKeyPair::from_pkcs8(der).map(|pair| Pair::Rsa(Box::new(pair))));
        let pair = pair.map_err(|_| {
            SignatureFlaw::BadKey(
                "floe signs with ECDSA P-256, Ed25519 and RSA, and it is none".into(),
            )
        })?;
        Ok(PrivateKey { pair })
    }

    /// Signs, with SHA-256 where the algorithm has no hash of its own.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<String, SignatureFlaw> {
        let failed = |_| SignatureFlaw::BadKey("it does not sign".into());
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::P256(pair) => pair
                .sign(&random, message)
                .map_err(failed)?
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                signature
            }
        };
        Ok(STANDARD.encode(signature))
    }
}

fn secretbox(
    passphrase: &[u8],
    salt: &[u8],
    params: &Params,
) -> Result<XSalsa20Poly1305, SignatureFlaw> {
    let unknown = || {
        let Params { n, r, p } = params;
        SignatureFlaw::BadKey(format!("scrypt with N={n}, r={r}, p={p} is not accepted"))
    };
    let log_n = (1..=MAX_LOG_N).find(|log_n| params.n == 1 << log_n);
    let log_n = log_n.ok_or_else(unknown)?;
    if params.r != 8 || params.p != 1 {
        return Err(unknown());
    }
    let settings = scrypt::Params::new(log_n, params.r, params.p, 32).map_err(|_| unknown())?;
    let mut key = [0; 32];
    scrypt::scrypt(passphrase, salt, &settings, &mut key).map_err(|_| unknown())?;
    Ok(XSalsa20Poly1305::new(&key.into()))
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generated")
    }
}
