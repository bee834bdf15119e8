//! Signing: what `floe copy` and `floe push` are told of it, and `floe standalone-sign`,
//! `standalone-verify` and `generate-sigstore-key` (skopeo's commands of these names).
//!
//! Must never show a passphrase, nor write over a key.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use image::{Reference, manifest};
use serde::Serialize;
use transfer::Signing;
use trust::signature::openpgp::{self, Keyring};
use trust::signature::payload;
use trust::signature::{Generated, MAX_SIGNATURE, PrivateKey, Signer, gpg, verify_simple};
use trust::{Signature, SignatureFlaw};

use crate::failure::Failure;
use crate::refused::{self, List, NotOffered, Takes};
use crate::{clock, remote, terminal};

/// Whether and how to sign what is copied.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SignFlags {
    /// Leave the image's signatures behind
    #[arg(long)]
    remove_signatures: bool,
    /// Sign with this key of GnuPG's, by its fingerprint (simple signing)
    #[arg(long, value_name = "FINGERPRINT")]
    sign_by: Option<String>,
    /// Sign as cosign does, with the encrypted private key in this file
    #[arg(long, value_name = "FILE")]
    sign_by_sigstore_private_key: Option<PathBuf>,
    /// The passphrase of the key is the first line of this file
    #[arg(long, value_name = "FILE")]
    sign_passphrase_file: Option<PathBuf>,
    /// Sign for this name instead of the destination's
    #[arg(long, value_name = "NAME")]
    sign_identity: Option<String>,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
}

/// Ways to sign that floe does not know.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        (
            "sign-by-sigstore",
            Takes::Value,
            "floe does not sign with Fulcio and Rekor; --sign-by-sigstore-private-key signs with a key",
        ),
        (
            "sign-by-sq-fingerprint",
            Takes::Value,
            "floe has no access to Sequoia's keys; --sign-by signs with GnuPG's",
        ),
    ];
}

impl SignFlags {
    /// Opens the keys; asks for a passphrase where that is needed.
    pub(crate) fn signing(&self) -> Result<Signing, Failure> {
        let passphrase = &self.sign_passphrase_file;
        if self.sign_by.is_some()
            && self.sign_by_sigstore_private_key.is_some()
            && passphrase.is_some()
        {
            return Err(Failure::new(
                "one passphrase file cannot be for two keys: sign with one of them at a time",
            ));
        }
        let mut signers = Vec::new();
        if let Some(key) = &self.sign_by {
            signers.push(Signer::Gpg {
                key: key.clone(),
                passphrase: passphrase.clone(),
            });
        }
        if let Some(file) = &self.sign_by_sigstore_private_key {
            let pem = read(file)?;
            let passphrase = match passphrase {
                Some(file) => first_line(file)?,
                None => {
                    let prompt = format!("Passphrase for {}: ", file.display());
                    terminal::ask(&prompt, false, "--sign-passphrase-file")?
                }
            };
            let key = PrivateKey::open(&pem, passphrase.as_bytes());
            let key = key.map_err(|flaw| flawed(file, &flaw))?;
            signers.push(Signer::Sigstore(Arc::new(key)));
        }
        let identity = self.sign_identity.as_deref();
        let identity = identity.map(full_name).transpose()?;
        Ok(Signing {
            remove: self.remove_signatures,
            only_wanted: false,
            signers,
            identity,
        })
    }
}

/// Options of `floe standalone-sign`.
#[derive(Debug, clap::Args)]
pub(crate) struct StandaloneSign {
    /// File to make
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// The passphrase of the key is the first line of this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The manifest, as --raw printed it
    manifest: PathBuf,
    /// Name that the image is to have
    reference: String,
    /// Key of GnuPG's that signs
    #[arg(value_name = "KEY-FINGERPRINT")]
    key: String,
}

/// Options of `floe standalone-verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct StandaloneVerify {
    /// Public keys, instead of those that GnuPG has
    #[arg(long, value_name = "FILE")]
    public_key_file: Option<PathBuf>,
    /// The manifest, as --raw printed it
    manifest: PathBuf,
    /// Name that the image must have
    reference: String,
    /// Keys that may have signed, separated by commas; `any` with --public-key-file means all there
    #[arg(value_name = "KEY-FINGERPRINTS")]
    keys: String,
    /// The signature
    signature: PathBuf,
}

/// Options of `floe generate-sigstore-key`.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateSigstoreKey {
    /// Make PREFIX.private and PREFIX.pub
    #[arg(long, value_name = "PREFIX")]
    output_prefix: String,
    /// The passphrase of the new key is the first line of this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(crate) fn standalone_sign(args: &StandaloneSign) -> Result<ExitCode, Failure> {
    let signer = Signer::Gpg {
        key: args.key.clone(),
        passphrase: args.passphrase_file.clone(),
    };
    let digest = manifest::digest(&read(&args.manifest)?)?;
    let signature = signer.sign(&digest, &full_name(&args.reference)?)?;
    fs::write(&args.output, signature.to_file()?)
        .map_err(|e| Failure::new(format!("write {}: {e}", args.output.display())))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn standalone_verify(args: &StandaloneVerify) -> Result<ExitCode, Failure> {
    let signed = read(&args.manifest)?;
    let wanted = full_name(&args.reference)?;
    let ring = keyring(args)?;
    let bytes = read(&args.signature)?;
    let refused = |flaw: SignatureFlaw| flawed(&args.signature, &flaw);
    let Signature::Simple(message) = Signature::from_file(&bytes).map_err(refused)? else {
        return Err(Failure::new(format!(
            "{}: standalone-verify verifies simple signatures, and this is sigstore's",
            args.signature.display()
        )));
    };
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |now| now.as_secs());
    let (claim, fingerprint) = verify_simple(&ring, &message, now).map_err(refused)?;
    if Reference::parse(&claim.reference).ok().as_ref() != Some(&wanted) {
        return Err(Failure::new(format!(
            "{}: it is for {:?}, and not for {wanted}",
            args.signature.display(),
            claim.reference
        )));
    }
    let digest = claim.digest;
    // Docker's schema 1 has a digest that is not that of its bytes.
    if !digest.matches(&signed) && manifest::digest(&signed)? != digest {
        return Err(refused(SignatureFlaw::OtherDigest(digest)));
    }
    println!("Signature verified using fingerprint {fingerprint}, digest {digest}");
    Ok(ExitCode::SUCCESS)
}

/// Options of `floe untrusted-signature-dump-without-verification`.
#[derive(Debug, clap::Args)]
pub(crate) struct UntrustedSignatureDump {
    /// The signature
    signature: PathBuf,
}

/// What a signature says, in skopeo's words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Untrusted {
    untrusted_docker_manifest_digest: String,
    untrusted_docker_reference: String,
    #[serde(rename = "UntrustedCreatorID")]
    untrusted_creator_id: Option<String>,
    untrusted_timestamp: Option<String>,
    untrusted_short_key_identifier: String,
}

/// Prints what a signature says. Nothing of it may be believed.
pub(crate) fn dump(args: &UntrustedSignatureDump) -> Result<ExitCode, Failure> {
    let refused = |flaw: SignatureFlaw| flawed(&args.signature, &flaw);
    let message = openpgp::unverified(&read(&args.signature)?).map_err(refused)?;
    let said = payload::parse_unverified(&message.content).map_err(refused)?;
    remote::print_json(&Untrusted {
        untrusted_docker_manifest_digest: said.claim.digest.to_string(),
        untrusted_docker_reference: said.claim.reference,
        untrusted_creator_id: said.creator,
        untrusted_timestamp: said.timestamp.and_then(clock::written),
        untrusted_short_key_identifier: message.issuer,
    })
}

pub(crate) fn generate(args: &GenerateSigstoreKey) -> Result<ExitCode, Failure> {
    let private = PathBuf::from(format!("{}.private", args.output_prefix));
    let public = PathBuf::from(format!("{}.pub", args.output_prefix));
    for path in [&private, &public] {
        if path.symlink_metadata().is_ok() {
            let why = format!(
                "{} is there already, and is not written over",
                path.display()
            );
            return Err(Failure::new(why));
        }
    }
    let passphrase = match &args.passphrase_file {
        Some(file) => first_line(file)?,
        None => {
            let prompt = format!("Passphrase for {}: ", private.display());
            let ask = |prompt: &str| terminal::ask(prompt, false, "--passphrase-file");
            let passphrase = ask(&prompt)?;
            if ask("The same again: ")? != passphrase {
                return Err(Failure::new("the passphrases differ"));
            }
            passphrase
        }
    };
    let Generated {
        private: private_pem,
        public: public_pem,
    } = PrivateKey::generate(passphrase.as_bytes())?;
    write_new(&private, 0o600, &private_pem)?;
    write_new(&public, 0o644, &public_pem)?;
    println!("Key written to {private:?} and {public:?}");
    Ok(ExitCode::SUCCESS)
}

/// The keys that may have signed.
fn keyring(args: &StandaloneVerify) -> Result<Keyring, Failure> {
    let any = args.keys == "any";
    let wanted = openpgp::fingerprints(&args.keys);
    match &args.public_key_file {
        Some(file) => {
            let ring = Keyring::parse(&read(file)?).map_err(|flaw| flawed(file, &flaw))?;
            Ok(if any { ring } else { ring.only(&wanted) })
        }
        None if any => Err(Failure::new("any key will do only with --public-key-file")),
        None => Ok(gpg::export(&wanted)?.only(&wanted)),
    }
}

/// A name with tag or digest: what has neither would be signed for nothing in particular.
fn full_name(text: &str) -> Result<Reference, Failure> {
    let reference = Reference::parse(text)?;
    match reference.tag().is_some() || reference.digest().is_some() {
        true => Ok(reference),
        false => Err(Failure::new(format!(
            "image name {text:?} must have a tag or digest to be signed for"
        ))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e| Failure::new(format!("read {}: {e}", path.display()));
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_SIGNATURE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 > MAX_SIGNATURE {
        true => Err(flawed(path, &SignatureFlaw::TooLarge(MAX_SIGNATURE))),
        false => Ok(bytes),
    }
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let bytes = read(path)?;
    let line = bytes.lines().next().transpose();
    let line = line.map_err(|e| Failure::new(format!("read {}: {e}", path.display())))?;
    Ok(line.unwrap_or_default())
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| Failure::new(format!("write {}: {e}", path.display())))
}

fn flawed(path: &Path, flaw: &SignatureFlaw) -> Failure {
    Failure::new(format!("{}: {flaw}", path.display()))
}
