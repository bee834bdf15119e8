//! What a policy permits, and that a broken one permits nothing.

use super::*;

fn policy(text: &str) -> Result<Policy> {
    Policy::parse(Path::new("/p.json"), text)
}

fn flaw(text: &str) -> PolicyFlaw {
    match policy(text) {
        Err(Error::Policy { flaw, .. }) => flaw,
        other => panic!("{text} gave {other:?}"),
    }
}

fn demands(policy: &Policy, name: &str) -> Result<Demands> {
    policy.demands(&Reference::parse(name).unwrap())
}

#[test]
fn the_most_specific_scope_decides() {
    let policy = policy(
        r#"{"default":[{"type":"reject"}],"transports":{
            "docker-daemon":{"":[{"type":"reject"}]},
            "docker":{
                "":[{"type":"insecureAcceptAnything"}],
                "docker.io":[{"type":"reject"}],
                "docker.io/library":[{"type":"insecureAcceptAnything"}],
                "docker.io/library/busybox:bad":[{"type":"reject"}],
                "*.Example.com":[{"type":"reject"}],
                "a.b.example.com:5000/ok":[{"type":"insecureAcceptAnything"}]}}}"#,
    )
    .unwrap();
    for (name, accepted) in [
        ("quay.io/x", true),
        ("docker.io/foo/bar", false),
        ("busybox", true),
        ("busybox:bad", false),
        ("busybox:good", true),
        ("a.b.example.com/x", false),
        ("a.b.example.com:5000/x", false),
        ("a.b.example.com:5000/ok/x:1", true),
        ("A.EXAMPLE.com/x", false),
        ("Docker.io/foo/bar", false),
        ("example.com/x", true),
    ] {
        let result = demands(&policy, name);
        match result {
            Ok(_) => assert!(accepted, "{name} was accepted"),
            Err(Error::PolicyRejected { .. }) => assert!(!accepted, "{name} was rejected"),
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn a_signature_that_is_asked_for_and_is_not_there_refuses() {
    for (requirement, shown) in [
        (
            r#""signedBy","keyType":"GPGKeys","keyPath":"/k""#,
            "signedBy /k",
        ),
        (r#""sigstoreSigned","keyPath":"/k""#, "sigstoreSigned /k"),
    ] {
        let text = format!(
            r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{
                "quay.io":[{{"type":"insecureAcceptAnything"}},{{"type":{requirement}}}]}}}}}}"#
        );
        let policy = policy(&text).unwrap();
        let signed = demands(&policy, "quay.io/x:1").unwrap();
        assert!(signed.want_signatures());
        let error = signed.verify(b"{}", &[]).unwrap_err().to_string();
        for words in ["/p.json", "quay.io/x:1", shown] {
            assert!(error.contains(words), "{error}");
        }
        let free = demands(&policy, "ghcr.io/x").unwrap();
        assert!(!free.want_signatures());
        free.verify(b"{}", &[]).unwrap();
    }
}

#[test]
fn a_signature_of_a_kind_that_cannot_be_checked_refuses() {
    for (requirement, shown) in [
        (
            r#""signedBy","keyType":"X509Certificates","keyPath":"/k""#,
            "X509Certificates",
        ),
        (
            r#""signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}"#,
            "signedBaseLayer",
        ),
    ] {
        let policy = policy(&format!(r#"{{"default":[{{"type":{requirement}}}]}}"#)).unwrap();
        let error = demands(&policy, "quay.io/x:1").unwrap_err();
        assert!(matches!(&error, Error::SignatureUnsupported { .. }));
        assert!(error.to_string().contains(shown), "{error}");
    }
}

#[test]
fn all_requirements_must_be_met() {
    let both = r#"{"default":[{"type":"insecureAcceptAnything"},{"type":"reject"}]}"#;
    assert!(
        matches!(demands(&policy(both).unwrap(), "x"), Err(Error::PolicyRejected { scope, .. }) if scope == "default")
    );
}

#[test]
fn what_is_not_understood_is_an_error() {
    assert!(matches!(flaw(""), PolicyFlaw::Json(_)));
    assert!(matches!(flaw("{}"), PolicyFlaw::Json(_)));
    assert!(matches!(
        flaw(r#"{"default":[{"type":"reject"}],"transport":{}}"#),
        PolicyFlaw::Json(_)
    ));
    assert!(matches!(
        flaw(r#"{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}"#),
        PolicyFlaw::Json(_)
    ));
    let twice = r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"a":[{"type":"insecureAcceptAnything"}]}}}"#;
    assert!(matches!(flaw(twice), PolicyFlaw::Json(text) if text.contains("twice")));
    let twice = twice.replace(r#""a":[{"type":"i"#, r#""a.b":[{"type":"i"#);
    let twice = twice.replace(r#""a":"#, r#""A.b":"#);
    assert_eq!(flaw(&twice), PolicyFlaw::Twice("a.b".into()));
    assert_eq!(
        flaw(r#"{"default":[]}"#),
        PolicyFlaw::Empty("default".into())
    );
    let unknown = PolicyFlaw::Kind {
        scope: "default".into(),
        kind: "sometimes".into(),
    };
    assert_eq!(flaw(r#"{"default":[{"type":"sometimes"}]}"#), unknown);
    assert!(matches!(
        flaw(r#"{"default":[{}]}"#),
        PolicyFlaw::Kind { .. }
    ));
    let key = r#"{"default":[{"type":"insecureAcceptAnything","keyPath":"/k"}]}"#;
    assert!(matches!(flaw(key), PolicyFlaw::Key { .. }));
}

#[test]
fn requirements_say_neither_too_much_nor_too_little() {
    let log = r#""rekorPublicKeyData":"eA==""#;
    let fulcio = r#""fulcio":{"caPath":"/c","oidcIssuer":"https://i","subjectEmail":"a@b"}"#;
    let pki = r#""pki":{"caRootsPath":"/c","subjectHostname":"h.example"}"#;
    for good in [
        r#""signedBy","keyType":"GPGKeys","keyPaths":["/a","/b"]"#.to_owned(),
        r#""signedBy","keyType":"GPGKeys","keyData":"eA==","signedIdentity":{"type":"matchRepository"}"#.into(),
        r#""sigstoreSigned","keyDatas":["eA=="]"#.into(),
        format!(r#""sigstoreSigned","keyPath":"/k",{log}"#),
        format!(r#""sigstoreSigned",{fulcio},"rekorPublicKeyPaths":["/r"]"#),
        format!(r#""sigstoreSigned",{pki}"#),
    ] {
        policy(&format!(r#"{{"default":[{{"type":{good}}}]}}"#)).expect(&good);
    }
    for (bad, words) in [
        (r#""signedBy","keyPath":"/a""#.to_owned(), "keyType"),
        (
            r#""signedBy","keyType":"PGP","keyPath":"/a""#.into(),
            "\"PGP\" is unknown",
        ),
        (r#""signedBy","keyType":"GPGKeys""#.into(), "must be there"),
        (
            r#""signedBy","keyType":"GPGKeys","keyPaths":[]"#.into(),
            "empty list",
        ),
        (
            r#""signedBy","keyType":"GPGKeys","keyPath":"/a","keyData":"eA==""#.into(),
            "exclude",
        ),
        (
            r#""signedBy","keyType":"GPGKeys","keyData":"%""#.into(),
            "no base64",
        ),
        (
            r#""signedBy","keyType":"GPGKeys","keyPath":"/a","keyDatas":["eA=="]"#.into(),
            "unknown field",
        ),
        (
            r#""signedBy","keyType":"GPGKeys","keyPath":"/a","signedIdentity":{"type":"x"}"#.into(),
            "signedIdentity",
        ),
        (
            r#""signedBy","keyType":"GPGKeys","keyPath":"/a","keyPath":"/b""#.into(),
            "twice",
        ),
        (r#""sigstoreSigned""#.into(), "must be there"),
        (
            r#""sigstoreSigned","keyPath":"/a","keyType":"GPGKeys""#.into(),
            "unknown field",
        ),
        (
            format!(r#""sigstoreSigned","keyPath":"/a",{fulcio},{log}"#),
            "one of",
        ),
        (
            format!(r#""sigstoreSigned",{fulcio}"#),
            "rekorPublicKeyPath",
        ),
        (
            format!(r#""sigstoreSigned",{log},"fulcio":{{"oidcIssuer":"i","subjectEmail":"e"}}"#),
            "caPath",
        ),
        (
            format!(
                r#""sigstoreSigned",{log},"fulcio":{{"caPath":"/c","oidcIssuer":"","subjectEmail":"e"}}"#
            ),
            "oidcIssuer",
        ),
        (format!(r#""sigstoreSigned",{pki},{log}"#), "rekorPublicKey"),
        (
            r#""sigstoreSigned","pki":{"caRootsPath":"/c"}"#.into(),
            "subjectHostname",
        ),
        (r#""signedBaseLayer""#.into(), "baseLayerIdentity"),
    ] {
        let flaw = flaw(&format!(r#"{{"default":[{{"type":{bad}}}]}}"#)).to_string();
        assert!(flaw.contains(words), "{bad}: {flaw}");
    }
}

#[test]
fn no_file_accepts_and_a_named_file_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.json");
    let accepting = Policy::load(std::slice::from_ref(&path)).unwrap();
    assert!(demands(&accepting, "x").is_ok());
    assert!(matches!(Policy::open(&path), Err(Error::Read { .. })));
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(Policy::load(&[path]), Err(Error::Policy { .. })));
}
