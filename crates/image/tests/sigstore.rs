//! sigstoreSigned with keys, Fulcio's certificates, Rekor's promises and authorities of one's own, all
//! made here: what counts, and each thing that must not.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::signature::payload::{self, Kind};
use image::signature::{Attachment, PrivateKey, Signer};
use image::{Digest, Error, Policy, Reference, Signature};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType, SigningKey, date_time_ymd,
};
use serde_json::{Value, json};

const MANIFEST: &[u8] = b"{\"a\":\"manifest\"}";
const NAME: &str = "example.com/x:1";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// 2023-11-14, when the certificates here were valid.
const THEN: u64 = 1_700_000_000;
const EMAIL: &str = "ali@example.com";
const OIDC: &str = "https://accounts.example.com";

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn payload() -> Vec<u8> {
    let name = Reference::parse(NAME).unwrap();
    payload::make(Kind::Sigstore, &Digest::of(MANIFEST), &name, THEN).unwrap()
}

fn attachment(payload: &[u8], annotations: &[(&str, &str)]) -> Attachment {
    let pairs = annotations
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()));
    Attachment {
        media_type: "application/vnd.dev.cosign.simplesigning.v1+json".into(),
        payload: payload.to_vec(),
        annotations: BTreeMap::from_iter(pairs),
    }
}

fn verify(requirement: &Value, attachment: &Attachment) -> Result<(), Error> {
    let text = json!({"default": [requirement]}).to_string();
    let policy = Policy::parse(Path::new("/p.json"), &text)?;
    let demands = policy.demands(&Reference::parse(NAME).unwrap())?;
    demands.verify(MANIFEST, &[Signature::Sigstore(attachment.clone())])
}

#[track_caller]
fn refused(requirement: &Value, attachment: &Attachment, words: &str) {
    let error = verify(requirement, attachment).unwrap_err();
    assert!(matches!(error, Error::SignatureRefused { .. }), "{error}");
    assert!(error.to_string().contains(words), "no {words:?} in {error}");
}

fn by_key(pem: &str) -> Value {
    json!({"type": "sigstoreSigned", "keyData": base64(pem)})
}

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
    let absent = json!({"type": "sigstoreSigned", "keyPath": "/nowhere/key.pub"});
    refused(&absent, &signed, "/nowhere/key.pub: No such file");
}

/// Fulcio and Rekor, as far as verification knows them.
struct Sigstore {
    root_params: CertificateParams,
    root: KeyPair,
    root_pem: String,
    middle_params: CertificateParams,
    middle: KeyPair,
    middle_pem: String,
    log: KeyPair,
    signer: KeyPair,
}

fn params(authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_before = date_time_ymd(2023, 1, 1);
    params.not_after = date_time_ymd(2033, 1, 1);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

/// A certificate as Fulcio gives it to a person for a day.
fn leaf() -> CertificateParams {
    let mut params = params(false);
    params.not_before = date_time_ymd(2023, 11, 14);
    params.not_after = date_time_ymd(2023, 11, 15);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.subject_alt_names = vec![SanType::Rfc822Name(EMAIL.try_into().unwrap())];
    params.custom_extensions = vec![issuer_extension(OIDC)];
    params
}

fn issuer_extension(issuer: &str) -> CustomExtension {
    let oid = [1, 3, 6, 1, 4, 1, 57264, 1, 1];
    CustomExtension::from_oid_content(&oid, issuer.as_bytes().to_vec())
}

impl Sigstore {
    fn new() -> Sigstore {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let (root, middle) = (key(), key());
        let root_params = params(true);
        let mut middle_params = params(true);
        middle_params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        middle_params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "middle");
        let root_pem = root_params.self_signed(&root).unwrap().pem();
        let by_root = Issuer::from_params(&root_params, &root);
        let middle_pem = middle_params.signed_by(&middle, &by_root).unwrap().pem();
        Sigstore {
            root_params,
            root,
            root_pem,
            middle_params,
            middle,
            middle_pem,
            log: key(),
            signer: key(),
        }
    }

    fn certify(&self, leaf: &CertificateParams) -> String {
        let issuer = Issuer::from_params(&self.middle_params, &self.middle);
        leaf.signed_by(&self.signer, &issuer).unwrap().pem()
    }

    /// The log's promise about what `signer` (PEM) signed; `edit` changes the entry before it is signed.
    fn promise(&self, signer: &str, signature: &str, edit: impl Fn(&mut Value)) -> String {
        let digest = Digest::of(&payload());
        let mut body = json!({
            "apiVersion": "0.0.1", "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": digest.hex()}},
                "signature": {"content": signature, "publicKey": {"content": base64(signer)}},
            },
        });
        edit(&mut body);
        self.entry(&base64(body.to_string()), THEN)
    }

    fn entry(&self, body: &str, time: u64) -> String {
        // Written by hand, in the canonical order.
        let entry =
            format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"c0d2","logIndex":7}}"#);
        let timestamp = base64(self.log.sign(entry.as_bytes()).unwrap());
        // The order in which it is carried does not matter.
        format!(
            r#"{{"SignedEntryTimestamp":"{timestamp}","Payload":{{"logIndex":7,"logID":"c0d2","body":"{body}","integratedTime":{time}}}}}"#
        )
    }

    fn requirement(&self) -> Value {
        json!({
            "type": "sigstoreSigned",
            "fulcio": {"caData": base64(&self.root_pem), "oidcIssuer": OIDC, "subjectEmail": EMAIL},
            "rekorPublicKeyData": base64(self.log.public_key_pem()),
        })
    }

    fn signature(&self) -> String {
        base64(self.signer.sign(&payload()).unwrap())
    }

    fn signed_as(&self, leaf: &CertificateParams) -> Attachment {
        let (certificate, signature) = (self.certify(leaf), self.signature());
        let promise = self.promise(&certificate, &signature, |_| ());
        attachment(
            &payload(),
            &[
                (SIGNATURE, &signature),
                (CERTIFICATE, &certificate),
                (CHAIN, &self.middle_pem),
                (BUNDLE, &promise),
            ],
        )
    }
}

#[test]
fn a_certificate_of_fulcio_counts_for_its_person_while_it_was_valid() {
    let world = Sigstore::new();
    let trusted = world.requirement();
    verify(&trusted, &world.signed_as(&leaf())).unwrap();
    // The later form of the same extension.
    let mut params = leaf();
    let der = [&[0x0c, OIDC.len() as u8], OIDC.as_bytes()].concat();
    let oid = [1, 3, 6, 1, 4, 1, 57264, 1, 8];
    let later = CustomExtension::from_oid_content(&oid, der);
    params.custom_extensions = vec![later.clone()];
    verify(&trusted, &world.signed_as(&params)).unwrap();
    params
        .custom_extensions
        .push(issuer_extension("https://other.example"));
    refused(&trusted, &world.signed_as(&params), "different parties");

    type Edit = fn(&mut CertificateParams);
    let wrong: [(Edit, &str); 7] = [
        (
            |p| p.not_after = date_time_ymd(2023, 11, 14),
            "trusted for it",
        ),
        (
            |p| p.not_before = date_time_ymd(2023, 11, 15),
            "trusted for it",
        ),
        (
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            "trusted for it",
        ),
        (|p| p.custom_extensions.clear(), "does not say who vouches"),
        (
            |p| p.custom_extensions = vec![issuer_extension("https://other.example")],
            "other.example",
        ),
        (
            |p| {
                p.subject_alt_names =
                    vec![SanType::Rfc822Name("bo@example.com".try_into().unwrap())]
            },
            "bo@example.com",
        ),
        (|p| p.subject_alt_names.clear(), "no e-mail address"),
    ];
    for (edit, words) in wrong {
        let mut params = leaf();
        edit(&mut params);
        refused(&trusted, &world.signed_as(&params), words);
    }
}

#[test]
fn a_certificate_of_another_authority_counts_for_nothing() {
    let (world, other) = (Sigstore::new(), Sigstore::new());
    let mut mixed = world.requirement();
    mixed["fulcio"]["caData"] = json!(base64(&other.root_pem));
    refused(&mixed, &world.signed_as(&leaf()), "not from an authority");
    let mut no_chain = world.signed_as(&leaf());
    no_chain.annotations.remove(CHAIN);
    refused(&world.requirement(), &no_chain, "not from an authority");
    // A root that is past its time vouches for nobody.
    let mut old = world.root_params.clone();
    old.not_after = date_time_ymd(2023, 2, 1);
    let old = old.self_signed(&world.root).unwrap().pem();
    mixed["fulcio"]["caData"] = json!(base64(old));
    refused(&mixed, &world.signed_as(&leaf()), "not from an authority");
    for (name, text, words) in [
        (CERTIFICATE, "", "not exactly one"),
        (CERTIFICATE, "hello", "not exactly one"),
        (
            CHAIN,
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "chain of which",
        ),
    ] {
        let mut bad = world.signed_as(&leaf());
        bad.annotations.insert(name.into(), text.into());
        refused(&world.requirement(), &bad, words);
    }
}

#[test]
fn the_logs_promise_must_be_about_this_signature() {
    let (world, other) = (Sigstore::new(), Sigstore::new());
    let trusted = world.requirement();
    let (certificate, signature) = (world.certify(&leaf()), world.signature());
    let with = |bundle: &str| {
        let mut signed = world.signed_as(&leaf());
        signed
            .annotations
            .insert(CERTIFICATE.into(), certificate.clone());
        signed
            .annotations
            .insert(SIGNATURE.into(), signature.clone());
        signed.annotations.insert(BUNDLE.into(), bundle.into());
        signed
    };
    let promise = world.promise(&certificate, &signature, |_| ());
    verify(&trusted, &with(&promise)).unwrap();
    let edited = |edit: fn(&mut Value)| world.promise(&certificate, &signature, edit);
    for (bundle, words) in [
        (
            other.promise(&certificate, &signature, |_| ()),
            "not signed by one of the logs",
        ),
        (
            promise.replace("\"logIndex\":7", "\"logIndex\":8"),
            "not signed by one of the logs",
        ),
        (
            promise.replace(&THEN.to_string(), "1700000001"),
            "not signed by one of the logs",
        ),
        (
            promise.replace("\"logIndex\":7", "\"logIndex\":7,\"logIndex\":7"),
            "twice",
        ),
        (
            promise.replace("\"logIndex\":7", "\"logIndex\":7,\"x\":7"),
            "unknown field",
        ),
        (
            promise.replace("\"logIndex\":7", "\"logIndex\":18446744073709551615"),
            "too large",
        ),
        (String::new(), "not what it must be"),
        (edited(|body| body["kind"] = json!("dsse")), "dsse"),
        (edited(|body| body["apiVersion"] = json!("0.0.2")), "0.0.2"),
        (
            edited(|body| body["spec"]["signature"]["content"] = json!("AAAA")),
            "another signature",
        ),
        (
            edited(|body| body["spec"]["data"]["hash"]["value"] = json!("00")),
            "another payload",
        ),
        (
            edited(|body| body["spec"]["data"]["hash"]["algorithm"] = json!("sha1")),
            "another payload",
        ),
        (edited(|body| body["more"] = json!(1)), "unknown field"),
        (
            world.promise(&other.certify(&leaf()), &signature, |_| ()),
            "another key or certificate",
        ),
    ] {
        refused(&trusted, &with(&bundle), words);
    }
    let mut none = with(&promise);
    none.annotations.remove(BUNDLE);
    refused(&trusted, &none, "no annotation dev.sigstore.cosign/bundle");
    // An entry of the time after the certificate had ended.
    let decoded: Value = serde_json::from_str(&promise).unwrap();
    let late = world.entry(
        decoded["Payload"]["body"].as_str().unwrap(),
        THEN + 2 * 86_400,
    );
    refused(&trusted, &with(&late), "not from an authority");
}

#[test]
fn keys_may_have_to_be_in_a_log() {
    let world = Sigstore::new();
    let public = world.signer.public_key_pem();
    let mut trusted = by_key(&public);
    trusted["rekorPublicKeyDatas"] = json!([base64(world.log.public_key_pem())]);
    let signature = world.signature();
    let promise = world.promise(&public, &signature, |_| ());
    let signed = attachment(&payload(), &[(SIGNATURE, &signature), (BUNDLE, &promise)]);
    verify(&trusted, &signed).unwrap();
    let bare = attachment(&payload(), &[(SIGNATURE, &signature)]);
    refused(&trusted, &bare, "no annotation dev.sigstore.cosign/bundle");
    let other = KeyPair::generate().unwrap().public_key_pem();
    let promise = world.promise(&other, &signature, |_| ());
    let wrong = attachment(&payload(), &[(SIGNATURE, &signature), (BUNDLE, &promise)]);
    refused(&trusted, &wrong, "another key or certificate");
}

#[test]
fn a_certificate_of_an_authority_of_ones_own_counts_now() {
    let world = Sigstore::new();
    let mut params = leaf();
    params.not_after = date_time_ymd(4000, 1, 1);
    params
        .subject_alt_names
        .push(SanType::DnsName("host.example.com".try_into().unwrap()));
    let mut root = world.root_params.clone();
    root.not_after = date_time_ymd(4000, 1, 1);
    let mut middle = world.middle_params.clone();
    middle.not_after = date_time_ymd(4000, 1, 1);
    let root_pem = root.self_signed(&world.root).unwrap().pem();
    let by_root = Issuer::from_params(&root, &world.root);
    let middle_pem = middle.signed_by(&world.middle, &by_root).unwrap().pem();
    let signed = |leaf: &CertificateParams| {
        let certificate = world.certify(leaf);
        attachment(
            &payload(),
            &[(SIGNATURE, &world.signature()), (CERTIFICATE, &certificate)],
        )
    };
    let trusted = |names: Value| {
        let mut pki =
            json!({"caRootsData": base64(&root_pem), "caIntermediatesData": base64(&middle_pem)});
        for (name, value) in names.as_object().unwrap() {
            pki[name] = value.clone();
        }
        json!({"type": "sigstoreSigned", "pki": pki})
    };
    let both = json!({"subjectEmail": EMAIL, "subjectHostname": "host.example.com"});
    verify(&trusted(both), &signed(&params)).unwrap();
    let email = json!({"subjectEmail": "bo@example.com"});
    refused(&trusted(email), &signed(&params), "bo@example.com");
    let host = json!({"subjectHostname": "other.example.com"});
    refused(&trusted(host), &signed(&params), "other.example.com");
    // The former person's is past its time now, whatever the log once said.
    refused(
        &trusted(json!({"subjectEmail": EMAIL})),
        &signed(&leaf()),
        "not from an authority",
    );
}
