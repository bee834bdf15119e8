//! sigstoreSigned with keys: what counts, and each thing that must not.

use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::support::{
    MANIFEST, NAME, SIGNATURE, attachment, base64, by_key, payload, refused, verify,
};
use image::{Digest, Reference};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SigningKey};
use serde_json::json;
use trust::Signature;
use trust::signature::payload::{self, Kind};
use trust::signature::{PrivateKey, Signer};

#[test]
fn a_key_that_was_made_here_signs_and_verifies() {
    let made = PrivateKey::generate(b"secret").unwrap();
    let key = PrivateKey::open(made.private.as_bytes(), b"secret").unwrap();
    let signer = Signer::Sigstore(Arc::new(key));
    let name = Reference::parse(NAME).unwrap();
    let Signature::Sigstore(signed) = signer.sign(&Digest::of(MANIFEST), &name).unwrap() else {
        panic!("not an attachment");
    };
    let trusted = by_key(&made.public);
    verify(&trusted, &signed).unwrap();
    // Lines of base64 may end anywhere, as other tools write them.
    let mut lines = signed.clone();
    let text = lines.annotations.get_mut(SIGNATURE).unwrap();
    text.insert(10, '\n');
    verify(&trusted, &lines).unwrap();

    let other = PrivateKey::generate(b"secret").unwrap();
    refused(
        &by_key(&other.public),
        &signed,
        "not made by a key that is trusted",
    );
    let both = json!({"type": "sigstoreSigned", "keyDatas": [base64(&other.public), base64(&made.public)]});
    verify(&both, &signed).unwrap();

    let mut changed = signed.clone();
    changed.payload.push(b' ');
    refused(&trusted, &changed, "not made by a key that is trusted");
    for (text, words) in [
        ("", "not made by"),
        ("AAAA", "not made by"),
        ("%", "no base64"),
    ] {
        let mut bad = signed.clone();
        bad.annotations.insert(SIGNATURE.into(), text.into());
        refused(&trusted, &bad, words);
    }
    let mut none = signed.clone();
    none.annotations.clear();
    refused(
        &trusted,
        &none,
        "no annotation dev.cosignproject.cosign/signature",
    );
    let mut attestation = signed;
    attestation.media_type = "application/vnd.dsse.envelope.v1+json".into();
    refused(&trusted, &attestation, "no signature exists");
}

#[test]
fn payloads_of_other_images_names_and_forms_are_refused() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let trusted = by_key(&key.public_key_pem());
    let signed = |payload: &[u8]| {
        let signature = base64(key.sign(payload).unwrap());
        attachment(payload, &[(SIGNATURE, &signature)])
    };
    verify(&trusted, &signed(&payload())).unwrap();
    let made = |digest: &Digest, name: &str| {
        let name = Reference::parse(name).unwrap();
        payload::make(Kind::Sigstore, digest, &name, 1).unwrap()
    };
    let right = Digest::of(MANIFEST);
    refused(
        &trusted,
        &signed(&made(&Digest::of(b"y"), NAME)),
        "this one has another",
    );
    refused(
        &trusted,
        &signed(&made(&right, "example.com/x:2")),
        "example.com/x:2",
    );
    // cosign signs no tag: that needs a rule which does not ask for one.
    let cosign = signed(&made(&right, "example.com/x"));
    refused(&trusted, &cosign, "matchRepoDigestOrExact does not accept");
    let mut repository = trusted.clone();
    repository["signedIdentity"] = json!({"type": "matchRepository"});
    verify(&repository, &cosign).unwrap();
    let text = String::from_utf8(payload()).unwrap();
    let nested = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    for (bad, words) in [
        (
            text.replace("\"type\"", "\"x\":1,\"type\""),
            "unknown field",
        ),
        (
            text.replace(
                "\"type\"",
                "\"type\":\"cosign container image signature\",\"type\"",
            ),
            "twice",
        ),
        (
            text.replace("\"optional\":{", "\"optional\":{\"a\":1,\"a\":2,"),
            "twice",
        ),
        (
            text.replace("cosign container image", "other"),
            "no image's signature",
        ),
        (
            text.replace("\"optional\":{", &format!("\"optional\":{{\"x\":{nested},")),
            "recursion",
        ),
        (text[..text.len() - 1].to_owned(), "EOF"),
        (format!("{text}{text}"), "trailing"),
    ] {
        refused(&trusted, &signed(bad.as_bytes()), words);
    }
}

/// A key and a signature by OpenSSL, of kinds that rcgen cannot make.
fn openssl(arguments: &[&str]) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(dir.path());
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("openssl is installed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    std::fs::write(dir.path().join("payload"), payload()).unwrap();
    run(&[&["genpkey", "-out", "key"], arguments].concat());
    let public = run(&["pkey", "-in", "key", "-pubout"]);
    let signature = run(&["dgst", "-sha256", "-sign", "key", "payload"]);
    (String::from_utf8(public).unwrap(), base64(signature))
}

#[test]
fn keys_of_every_kind_that_sigstore_has_verify() {
    for arguments in [
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"][..],
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ] {
        let (public, signature) = openssl(arguments);
        let signed = attachment(&payload(), &[(SIGNATURE, &signature)]);
        verify(&by_key(&public), &signed).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        refused(
            &by_key(&public),
            &attachment(b"{}", &[(SIGNATURE, &signature)]),
            "not made by",
        );
    }
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let signature = base64(key.sign(&payload()).unwrap());
    let signed = attachment(&payload(), &[(SIGNATURE, &signature)]);
    verify(&by_key(&key.public_key_pem()), &signed).unwrap();
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let signed = attachment(&payload(), &[(SIGNATURE, "AAAA")]);
    let (p521, _) = openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]);
    let private = KeyPair::generate().unwrap().serialize_pem();
    for (pem, words) in [
        (String::new(), "0 PEM blocks"),
        ("hello".into(), "0 PEM blocks"),
        (p521, "P-256 and P-384"),
        (private, "PRIVATE KEY"),
    ] {
        refused(&by_key(&pem), &signed, words);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pub");
    let absent = json!({"type": "sigstoreSigned", "keyPath": path});
    refused(&absent, &signed, "/key.pub: No such file");
}
