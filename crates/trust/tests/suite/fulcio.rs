//! sigstoreSigned with Fulcio's certificates, Rekor's promises and authorities of one's own, all made
//! here: what counts, and each thing that must not.

use crate::support::{
    BUNDLE, CERTIFICATE, CHAIN, EMAIL, OIDC, SIGNATURE, THEN, attachment, base64, by_key, payload,
    refused, verify,
};
use image::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, PKCS_ECDSA_P256_SHA256, SanType, SigningKey, date_time_ymd,
};
use serde_json::{Value, json};
use trust::signature::Attachment;

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
        self.with(&certificate, &signature, &promise)
    }

    fn with(&self, certificate: &str, signature: &str, promise: &str) -> Attachment {
        attachment(
            &payload(),
            &[
                (SIGNATURE, signature),
                (CERTIFICATE, certificate),
                (CHAIN, &self.middle_pem),
                (BUNDLE, promise),
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
fn the_logs_promise_must_be_by_a_log_and_of_the_closed_form() {
    let (world, other) = (Sigstore::new(), Sigstore::new());
    let (certificate, signature) = (world.certify(&leaf()), world.signature());
    let promise = world.promise(&certificate, &signature, |_| ());
    let with = |bundle: &str| world.with(&certificate, &signature, bundle);
    let trusted = world.requirement();
    verify(&trusted, &with(&promise)).unwrap();
    let index = "\"logIndex\":7";
    let strange = "not signed by one of the logs";
    for (bundle, words) in [
        (other.promise(&certificate, &signature, |_| ()), strange),
        (promise.replace(index, "\"logIndex\":8"), strange),
        (promise.replace(&THEN.to_string(), "1700000001"), strange),
        (
            promise.replace(index, "\"logIndex\":7,\"logIndex\":7"),
            "twice",
        ),
        (
            promise.replace(index, "\"logIndex\":7,\"x\":7"),
            "unknown field",
        ),
        (
            promise.replace(index, "\"logIndex\":18446744073709551615"),
            "too large",
        ),
        (String::new(), "not what it must be"),
    ] {
        refused(&trusted, &with(&bundle), words);
    }
    let mut none = with(&promise);
    none.annotations.remove(BUNDLE);
    refused(&trusted, &none, "no annotation dev.sigstore.cosign/bundle");
    // An entry of the time after the certificate had ended.
    let decoded: Value = serde_json::from_str(&promise).unwrap();
    let body = decoded["Payload"]["body"].as_str().unwrap();
    let late = world.entry(body, THEN + 2 * 86_400);
    refused(&trusted, &with(&late), "not from an authority");
}

#[test]
fn the_logs_promise_must_be_about_this_signature() {
    let world = Sigstore::new();
    let (certificate, signature) = (world.certify(&leaf()), world.signature());
    type Edit = fn(&mut Value);
    let wrong: [(Edit, &str); 6] = [
        (|body| body["kind"] = json!("dsse"), "dsse"),
        (|body| body["apiVersion"] = json!("0.0.2"), "0.0.2"),
        (
            |body| body["spec"]["signature"]["content"] = json!("AAAA"),
            "another signature",
        ),
        (
            |body| body["spec"]["data"]["hash"]["value"] = json!("00"),
            "another payload",
        ),
        (
            |body| body["spec"]["data"]["hash"]["algorithm"] = json!("sha1"),
            "another payload",
        ),
        (|body| body["more"] = json!(1), "unknown field"),
    ];
    let trusted = world.requirement();
    for (edit, words) in wrong {
        let promise = world.promise(&certificate, &signature, edit);
        let signed = world.with(&certificate, &signature, &promise);
        refused(&trusted, &signed, words);
    }
    let again = world.certify(&leaf());
    let promise = world.promise(&again, &signature, |_| ());
    let signed = world.with(&certificate, &signature, &promise);
    refused(&trusted, &signed, "another key or certificate");
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
