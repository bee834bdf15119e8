//! Simple signing with keys and messages of Debian's GnuPG: what counts, and what never does.

use std::time::{SystemTime, UNIX_EPOCH};

use image::{Digest, Reference};
use testkit::Gnupg;
use trust::SignatureFlaw;
use trust::signature::openpgp::Keyring;
use trust::signature::payload::{self, Kind};
use trust::signature::verify_simple;

const DAY: u64 = 86_400;

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn content() -> Vec<u8> {
    let name = Reference::parse("example.com/x:1").unwrap();
    payload::make(Kind::Simple, &Digest::of(b"x"), &name, now()).unwrap()
}

fn ring(gpg: &Gnupg, key: &str) -> Keyring {
    Keyring::parse(&gpg.export(key).unwrap()).unwrap()
}

#[track_caller]
fn refused(ring: &Keyring, message: &[u8], now: u64, words: &str) {
    let error = ring.verify(message, now).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn keys_of_every_common_algorithm_verify() {
    let gpg = Gnupg::new().unwrap();
    for algorithm in ["ed25519", "rsa2048", "nistp256", "nistp384", "dsa2048"] {
        let key = gpg.key(algorithm, algorithm, "never").unwrap();
        let message = gpg.sign(&key, &content()).unwrap();
        let (claim, by) = verify_simple(&ring(&gpg, &key), &message, now()).expect(algorithm);
        assert_eq!(claim.reference, "example.com/x:1");
        assert_eq!(claim.digest, Digest::of(b"x"));
        assert_eq!(by, key);
    }
}

#[test]
fn armored_keyrings_of_several_keys_are_read() {
    let gpg = Gnupg::new().unwrap();
    let keys = ["one", "two", "three"].map(|name| gpg.key(name, "ed25519", "never").unwrap());
    let armored = |keys: &[String]| {
        let mut arguments = vec!["--armor", "--export"];
        arguments.extend(keys.iter().map(String::as_str));
        gpg.run(arguments, b"").unwrap()
    };
    // Two in one block, and one in a block of its own.
    let text = [armored(&keys[..2]), armored(&keys[2..])].concat();
    let ring = Keyring::parse(&text).unwrap();
    assert_eq!(ring.fingerprints(), keys);
    for key in &keys {
        let message = gpg.sign(key, b"x").unwrap();
        assert_eq!(&ring.verify(&message, now()).unwrap().fingerprint, key);
    }
    let message = gpg.sign(&keys[0], b"x").unwrap();
    refused(&ring.only(&keys[1..]), &message, now(), &keys[0]);
    for bad in [
        &b""[..],
        b"hello",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n",
    ] {
        assert!(
            matches!(Keyring::parse(bad), Err(SignatureFlaw::BadKey(_))),
            "{bad:?}"
        );
    }
}

#[test]
fn another_key_is_named() {
    let gpg = Gnupg::new().unwrap();
    let (ours, theirs) = (
        gpg.key("ours", "ed25519", "never").unwrap(),
        gpg.key("theirs", "ed25519", "never").unwrap(),
    );
    let message = gpg.sign(&theirs, &content()).unwrap();
    let error = ring(&gpg, &ours).verify(&message, now()).unwrap_err();
    let wanted = SignatureFlaw::Signer {
        signer: theirs,
        trusted: vec![ours],
    };
    assert_eq!(error, wanted);
}

#[test]
fn a_key_that_has_expired_or_was_revoked_counts_for_nothing() {
    let gpg = Gnupg::new().unwrap();
    let key = gpg.key("short", "ed25519", "1d").unwrap();
    let message = gpg.sign(&key, &content()).unwrap();
    let short = ring(&gpg, &key);
    short.verify(&message, now()).unwrap();
    refused(&short, &message, now() + 2 * DAY, "has expired");

    let key = gpg.key("gone", "ed25519", "never").unwrap();
    let message = gpg.sign(&key, &content()).unwrap();
    ring(&gpg, &key).verify(&message, now()).unwrap();
    let path = gpg.home().join(format!("openpgp-revocs.d/{key}.rev"));
    let text = std::fs::read_to_string(path)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    gpg.run(["--import"], text.as_bytes()).unwrap();
    refused(&ring(&gpg, &key), &message, now(), "was revoked");
}

#[test]
fn a_signature_that_has_expired_or_is_from_the_future_counts_for_nothing() {
    let gpg = Gnupg::new().unwrap();
    let key = gpg.key("signer", "ed25519", "never").unwrap();
    let arguments = ["--local-user", &key, "--default-sig-expire", "1d", "--sign"];
    let message = gpg.run(arguments, &content()).unwrap();
    let ring = ring(&gpg, &key);
    ring.verify(&message, now()).unwrap();
    refused(&ring, &message, now() + 2 * DAY, "has expired");
    refused(&ring, &message, now() - DAY, "from the future");
}

#[test]
fn a_subkey_signs_for_its_key_unless_it_was_revoked() {
    let gpg = Gnupg::new().unwrap();
    let key = gpg.key("main", "ed25519", "never").unwrap();
    let add = [
        "--passphrase",
        "",
        "--quick-add-key",
        &key,
        "rsa2048",
        "sign",
        "never",
    ];
    gpg.run(add, b"").unwrap();
    let list = gpg
        .run(["--list-keys", "--with-colons", &key], b"")
        .unwrap();
    let list = String::from_utf8(list).unwrap();
    let subkey = list
        .lines()
        .filter(|line| line.starts_with("fpr:"))
        .nth(1)
        .unwrap();
    let subkey = subkey.split(':').nth(9).unwrap();
    let message = gpg.sign(&format!("{subkey}!"), &content()).unwrap();
    let verified = ring(&gpg, &key).verify(&message, now()).unwrap();
    assert_eq!(verified.fingerprint, key);

    let edit = ["--command-fd", "0", "--edit-key", &key];
    gpg.run(edit, b"key 1\nrevkey\ny\n0\n\ny\nsave\n").unwrap();
    refused(
        &ring(&gpg, &key),
        &message,
        now(),
        "subkey that was revoked",
    );
}

#[test]
fn a_key_that_is_not_for_signing_does_not_sign() {
    let gpg = Gnupg::new().unwrap();
    let key = gpg.key("signer", "rsa2048", "never").unwrap();
    let message = gpg.sign(&key, &content()).unwrap();
    ring(&gpg, &key).verify(&message, now()).unwrap();
    // Its owner takes the right away.
    let edit = ["--command-fd", "0", "--edit-key", &key];
    gpg.run(edit, b"change-usage\nS\nQ\nsave\n").unwrap();
    refused(&ring(&gpg, &key), &message, now(), "is not for signing");
}

#[test]
fn only_one_signature_over_a_whole_document_is_a_signature() {
    let gpg = Gnupg::new().unwrap();
    let keys = ["a", "b"].map(|name| gpg.key(name, "ed25519", "never").unwrap());
    let ring = ring(&gpg, &keys[0]);
    // It holds the time.
    let signed = content();
    let made = |arguments: &[&str]| {
        let user = ["--local-user", &keys[0]];
        gpg.run(user.iter().chain(arguments), &signed).unwrap()
    };
    refused(
        &ring,
        &made(&["--local-user", &keys[1], "--sign"]),
        now(),
        "not exactly one signature",
    );
    for wrong in ["--detach-sign", "--clear-sign", "--store"] {
        let words = "no signed OpenPGP message";
        refused(&ring, &made(&[wrong]), now(), words);
    }
    let armored = made(&["--armor", "--sign"]);
    refused(&ring, &armored, now(), "no signed OpenPGP message");
    let rsa = gpg.key("rsa", "rsa2048", "never").unwrap();
    let weak = ["--local-user", &rsa, "--digest-algo", "SHA1", "--sign"];
    let weak = gpg.run(weak, &signed).unwrap();
    refused(&self::ring(&gpg, &rsa), &weak, now(), "no longer safe");
    let plain = made(&["--compress-algo", "none", "--sign"]);
    assert_eq!(ring.verify(&plain, now()).unwrap().content, signed);
    let zlib = made(&["--compress-algo", "zlib", "--sign"]);
    assert_eq!(ring.verify(&zlib, now()).unwrap().content, signed);
}

#[test]
fn nothing_that_was_changed_or_cut_verifies() {
    let gpg = Gnupg::new().unwrap();
    let key = gpg.key("signer", "ed25519", "never").unwrap();
    let ring = ring(&gpg, &key);
    for compression in ["none", "zip"] {
        let arguments = [
            "--local-user",
            &key,
            "--compress-algo",
            compression,
            "--sign",
        ];
        let message = gpg.run(arguments, &content()).unwrap();
        let good = ring.verify(&message, now()).unwrap();
        for end in 0..message.len() {
            assert!(
                ring.verify(&message[..end], now()).is_err(),
                "{end} bytes of {compression}"
            );
        }
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1 << (at % 8);
            // What is not signed may change: names, times and hints of packets.
            if let Ok(verified) = ring.verify(&changed, now()) {
                assert_eq!(verified, good, "byte {at} of {compression}");
            }
        }
    }
}

#[test]
fn a_message_that_unpacks_to_more_than_it_may_is_refused() {
    let gpg = Gnupg::new().unwrap();
    let key = gpg.key("signer", "ed25519", "never").unwrap();
    let bomb = gpg.sign(&key, &vec![b'x'; 64 << 20]).unwrap();
    assert!(bomb.len() < 1 << 20);
    refused(&ring(&gpg, &key), &bomb, now(), "more than 4194304 bytes");
}
